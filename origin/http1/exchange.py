"""A request that the application answers: turns its ASGI messages into bytes of HTTP/1 (RFC 9112)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Scope

from origin.http1.body_writer import STREAM, Stream
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from origin.http1.response_head import FAILURE, FAILURE_TEXT, kept_line, made_line, status_line
from origin.http1.sendfile import ZERO_COPY, FileSender, TruncatedFileError
from origin.http1.transport import FlowControl

if TYPE_CHECKING:
    from uvicorn.server import ServerState

log = structlog.get_logger()

server_log = logging.getLogger("uvicorn.error")
"""The log where uvicorn reports mistakes of an application."""

JOIN_LIMIT = 16 * 1024
"""Largest body in bytes that is copied behind the header, because that is cheaper than a second write."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

GONE = "headwater.gone"
"""ASGI extension with a weak reference to the request's exchange, which knows when its client has gone."""

SLOW_BODY = "headwater.slow_body"
"""ASGI extension that says how long a body may pause that has neither a deadline nor a least rate."""

BODY_BUFFER_BYTES = 64 * 1024
"""Bytes of a body waiting for the application above which reading pauses."""


class SlowBodyError(Exception):
    """A request's body comes too slowly; the answer is 408 (RFC 9110 §15.5.9)."""


def take_slowly(scope: MutableMapping[str, Any], idle_seconds: float) -> None:
    """Lift the deadline of a request's body, which may be typed by hand or be live sound.

    It may pause for `idle_seconds` at a time; infinite where its reader has a limit of its own.
    """
    scope.setdefault("extensions", {})[SLOW_BODY] = {"idle_seconds": idle_seconds}


async def wait_while_connected(request: Request, seconds: float) -> None:
    """Wait for some time, but no longer than the client of a request stays connected.

    Nobody may read the request's body any more.
    """
    extension = request.scope.get("extensions", {}).get(GONE)
    exchange: Exchange | None = None if extension is None else extension["exchange"]()
    if exchange is None:
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await exchange.gone()


def log_failure(path: str, error: Exception) -> None:
    """Log why a file wasn't sent to its end, unless the client has just gone."""
    if isinstance(error, TruncatedFileError):
        log.warning("file ended while it was sent", path=path, reason=str(error))
    elif not isinstance(error, ConnectionError | TimeoutError):
        log.warning("sending a file failed", path=path, reason=str(error))


class ExchangeConnection(Protocol):
    """The connection as a request sees it that the application answers."""

    limits: ClassVar[HttpLimits]
    fast_path: ClassVar[FastPath]
    server_state: ServerState
    tasks: set[asyncio.Task[None]]
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl
    scheme: str
    sender: FileSender | None

    def file_sender(self) -> FileSender:
        """Return the connection's sender of file bytes; it is made when it is first needed."""

    def on_response_complete(self) -> None:
        """Go on with the next request, or close the connection."""


class Exchange:
    """A request that the application answers, and its response.

    Besides what ASGI has, the application may send files without copying (`ZERO_COPY`) and let an object of
    its own write the body (`STREAM`).

    Args:
        expect_100_continue: whether the client waits for a sign before it sends the body.
        keep_alive: whether the connection stays open behind the response.

    Attributes:
        half_closed: whether the client has ended its side; it may still be reading.
        response_started: whether the application has begun to answer.
        response_complete: whether the response's last byte has been handed on.
    """

    def __init__(
        self, connection: ExchangeConnection, scope: Scope, *, expect_100_continue: bool, keep_alive: bool
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.half_closed = self.response_started = self.response_complete = False
        self._connection = connection
        self._transport = connection.transport
        self._flow = connection.flow
        self._loop = connection.loop
        # Bytes of the request's body that the application hasn't taken, and what wakes it when more come:
        # made when it waits, as most never do.
        self._body = bytearray()
        self._more_body = True
        self._has_news = False
        self._news: asyncio.Event | None = None
        self._expects_continue = expect_100_continue
        self._request_delivered = False
        # Bytes of the request's body that the application has taken, and the seconds it waited for them.
        self._received, self._waited = 0, 0.0
        # The response's header while it waits for the body's first bytes, and how the body ends.
        self._head = b""
        self._bodyless = scope["method"] == "HEAD"
        self._chunked: bool | None = None
        self._left = 0
        self._close_delimited = False
        self._stream: Stream | None = None
        self._disconnected = self._told_of_disconnect = False
        self._gone: asyncio.Event | None = None

    def half_close(self) -> None:
        """Note the end of the client's data."""
        self.half_closed = True
        self._notify()
        if self._stream is not None:
            # The client of an endless body that ends its side has left: players close like this.
            self._stream.abort()

    def _notify(self) -> None:
        """Wake the application if it waits for the request's next event."""
        self._has_news = True
        if self._news is not None:
            self._news.set()

    def feed(self, data: bytes) -> None:
        """Buffer bytes of the request's body."""
        if self.response_complete or self._disconnected:
            return
        self._body += data
        if len(self._body) > BODY_BUFFER_BYTES:
            self._flow.pause_reading()
        self._notify()

    def end_body(self) -> None:
        """Note the end of the request's body."""
        self._more_body = False
        self._notify()

    def hang_up(self) -> None:
        """Note the client's disconnection."""
        self._disconnected = True
        if self._gone is not None:
            self._gone.set()
        self._notify()
        if self._stream is not None:
            self._stream.hang_up()
            self._stream = None

    async def gone(self) -> None:
        """Wait until the client has gone."""
        self._gone = self._gone or asyncio.Event()
        if not self._disconnected:
            await self._gone.wait()

    async def run(self, app: ASGIApp) -> None:
        """Run the application for this request; whatever it raises is dealt with here."""
        try:
            await app(self.scope, self.next_message, self.send)
        except asyncio.CancelledError:
            # A request is only cancelled when the server ends, and its task ends here anyway.
            self._cut()
        except TruncatedFileError as error:
            # RFC 9112 §8: closing marks a message with fewer bytes than promised as incomplete.
            log_failure(self.scope["path"], error)
            self._cut()
        except Exception:  # noqa: BLE001  # it concerns this request alone, and is logged
            server_log.exception("Exception in ASGI application\n")
            await self._fail()
        else:
            if self._told_of_disconnect and not self.response_complete:
                # Who has ended its side and whose answer isn't there yet is taken for gone.
                self._cut()
            elif not self._disconnected and not self.response_complete:
                done = "completing" if self.response_started else "starting"
                server_log.error("ASGI callable returned without %s response.", done)
                await self._fail()
        finally:
            if (task := asyncio.current_task(self._loop)) is not None:
                self._connection.tasks.discard(task)

    async def _fail(self) -> None:
        """Answer 500; a response that has begun is cut, so that it doesn't look complete (RFC 9112 §8)."""
        if self.response_started:
            self._transport.close()
            return
        headers = [*FAILURE, (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": FAILURE_TEXT})

    async def next_message(self) -> Message:
        """Return the request's next ASGI event: bytes of its body, later that the client has gone."""
        if self.half_closed:
            self._notify()
        message = await self._receive_in_time()
        if message["type"] != "http.request":
            self._told_of_disconnect = True
            return message
        self._received += len(message["body"])
        if self.half_closed and not message["body"] and (self._request_delivered or message["more_body"]):
            self._told_of_disconnect = True
            return {"type": "http.disconnect"}
        self._request_delivered = not message["more_body"]
        return message

    async def _receive_in_time(self) -> Message:
        """Return the request's next event, and watch that its body comes fast enough.

        Raises:
            SlowBodyError: the body is too slow.
        """
        if self._has_news or self._request_delivered:
            return await self._next_message()
        limits = self._connection.limits
        slow: Any = self.scope.get("extensions", {}).get(SLOW_BODY)
        if slow is None:
            seconds = limits.body_seconds + self._received / limits.body_rate - self._waited
        else:
            seconds = float(slow["idle_seconds"])
        began = self._loop.time()
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                return await self._next_message()
        except TimeoutError:
            self.keep_alive = False
            raise SlowBodyError(f"the body paused or came too slowly after {self._received} bytes") from None
        finally:
            # Only waiting counts: the time of the application's own work isn't the client's fault.
            self._waited += self._loop.time() - began

    async def _next_message(self) -> Message:
        """Wait for the request's next event, however long that takes."""
        if self._expects_continue and not self._transport.is_closing():
            # RFC 9110 §10.1.1: the application wants the body, so the client is told to send it.
            self._transport.write(CONTINUE)
            self._expects_continue = False
        if not self._disconnected and not self.response_complete:
            self._flow.resume_reading()
            if not self._has_news:
                self._news = self._news or asyncio.Event()
                await self._news.wait()
            self._has_news = False
            if self._news is not None:
                self._news.clear()
        if self._disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    async def send(self, message: Any) -> None:
        """Send an ASGI event of the response; do nothing if the client has gone."""
        if self._flow.write_paused and not self._disconnected:
            await self._flow.drain()
        if self._disconnected:
            return
        kind = message["type"]
        if self.response_complete or (kind == "http.response.start") is self.response_started:
            raise RuntimeError(f"Unexpected ASGI message '{kind}'.")
        if kind == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
        elif kind == "http.response.body":
            self._write(message.get("body", b""), last=not message.get("more_body", False))
        elif kind == ZERO_COPY:
            await self._send_file(message)
        elif kind == STREAM:
            self._hand_over(message)
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}'.")

    def _start(self, status: int, headers: Any) -> None:
        self.response_started = True
        self._expects_continue = False
        # RFC 9112 §6.3: these responses never have a body, whatever their fields say.
        self._bodyless = self._bodyless or status in (204, 304)
        # RFC 9110 §6.6.1: Date is when the answer is made, which may be long after the request came.
        common = self._connection.fast_path.fields(self._connection.server_state.default_headers)
        lines = [status_line(status, self.scope["method"]), common]
        closes = False
        for name, value in headers:
            # Encoded lines are cached, but values of Content-Range hardly ever recur.
            framing, line = made_line(name, value) if name == b"content-range" else kept_line(name, value)
            if not framing:
                pass
            elif framing == b"content-length":
                self._chunked = False
                self._left = int(value)
            elif framing == b"transfer-encoding":
                continue
            elif b"close" in value.lower():
                self.keep_alive, closes = False, True
            lines.append(line)
        # RFC 9110 §15.2.2: another protocol follows a 101, until the connection ends.
        lines += self._end_of_http() if status == 101 else self._framing(closes)
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        # The head waits for the body's first bytes, to go out in one write, but no longer than this turn.
        self._loop.call_soon(self._flush)

    def _end_of_http(self) -> list[bytes]:
        self.keep_alive, self._close_delimited, self._chunked = False, True, False
        return []

    def _framing(self, closes: bool) -> list[bytes]:
        """Return the header lines that say where the body ends if its length isn't known."""
        lines = []
        if self._chunked is None and not self._bodyless:
            if self.scope["http_version"] == "1.0":
                # RFC 9112 §6.1: no Transfer-Encoding for an HTTP/1.0 client; §6.3: closing ends the body.
                self.keep_alive, self._close_delimited = False, True
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
        return lines

    def _hand_over(self, message: Any) -> None:
        """Pass the connection to the application's own writer of the body."""
        self._flush()
        # This is about the connection itself, whatever scheme a proxy says that the client used.
        plain = self._connection.scheme == "http"
        stream = Stream(self._transport, self._loop, self._finish, chunked=bool(self._chunked), plain=plain)
        stream.bound(message["buffer"])
        self._stream = message["stream"] = stream
        message["take"](stream)

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head

    def _flush(self) -> None:
        if self._head and not self._disconnected:
            self._transport.write(self._take_head())

    def _write(self, body: bytes | memoryview, *, last: bool) -> None:
        head = self._take_head()
        if self._bodyless:
            body = b""
        elif self._chunked:
            # RFC 9112 §7.1: a chunk of no bytes would end the body.
            start = b"%x\r\n" % len(body) if body else b""
            end = (b"\r\n" if body else b"") + (b"0\r\n\r\n" if last else b"")
            self._write_all(head + start, body, end)
            body = head = b""
        else:
            self._count(len(body))
        if head or body:
            self._write_all(head, body, b"")
        if last:
            self._finish()

    def _write_all(self, head: bytes, body: bytes | memoryview, end: bytes) -> None:
        if len(body) <= JOIN_LIMIT:
            self._transport.write(b"".join((head, body, end)))
            return
        for piece in (head, body, end):
            if piece:
                self._transport.write(piece)

    async def _send_file(self, message: Any) -> None:
        """Send a range of a file, with the header before it unless that was sent already."""
        head, last, end = self._take_head(), not message.get("more_body", False), b""
        first, count = message["offset"], message["count"]
        if self._bodyless:
            self._write_all(head, b"", b"")
            if last:
                self._finish()
            return
        if self._chunked:
            head, end = head + b"%x\r\n" % count, b"\r\n" + (b"0\r\n\r\n" if last else b"")
        else:
            self._count(count)
        if self._transport.get_write_buffer_size():
            await self._emptied()
        if self._disconnected:
            return
        sender = self._connection.sender or self._connection.file_sender()
        before = sender.sent + len(head)
        try:
            # The kernel usually has room for all of a range at once, and nothing has to be awaited.
            if not sender.begin_range(head, first, first + count - 1, message["file"]):
                await sender.rest()
        except OSError as error:
            log_failure(self.scope["path"], error)
            self._cut()
        except asyncio.CancelledError:
            # Whatever the application sends next must not follow half of a file's bytes.
            self._cut()
            raise
        finally:
            # What was sent, for statistics: a player that seeks leaves most of a file unsent.
            self.scope["extensions"][ZERO_COPY]["sent"] = max(sender.sent - before, 0)
        if not self._disconnected:
            if end:
                self._transport.write(end)
            if last:
                self._finish()

    async def _emptied(self) -> None:
        """Wait until the transport's buffer is empty: the file's bytes are written past it."""
        self._transport.set_write_buffer_limits(high=0)
        try:
            while self._transport.get_write_buffer_size() and not self._disconnected:
                await self._flow.drain()
        finally:
            self._transport.set_write_buffer_limits()

    def _count(self, length: int) -> None:
        if self._close_delimited:
            return
        if length > self._left:
            raise RuntimeError("Response content longer than Content-Length")
        self._left -= length

    def _finish(self) -> None:
        if not self._bodyless and not self._close_delimited and self._left:
            raise RuntimeError("Response content shorter than Content-Length")
        self.response_complete = True
        self._notify()
        if not self.keep_alive:
            self._transport.close()
        self._connection.on_response_complete()

    def _cut(self) -> None:
        self._disconnected = True
        self._transport.abort()

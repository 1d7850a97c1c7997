"""One request and its response on a connection: what ASGI messages become as bytes of HTTP/1 (RFC 9112)."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import structlog
from starlette.requests import Request
from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    HTTPScope,
    Scope,
)
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from origin.http.byte_ranges import ByteRange
from origin.http1.response_head import kept_line, made_line, status_line
from origin.http1.sendfile import ZERO_COPY, TruncatedFileError
from origin.http1.stream import STREAM, Stream

if TYPE_CHECKING:
    from origin.http1.connection import Connection

log = structlog.get_logger()

JOIN_LIMIT = 16 * 1024
"""Bytes of body up to which copying them behind the header is cheaper than a second write."""


GONE = "headwater.gone"
"""ASGI extension: has a weak reference to the request's exchange, which tells when its client has gone."""


SLOW_BODY = "headwater.slow_body"
"""ASGI extension: for how long a body may pause that has neither a deadline nor a least rate."""


class SlowBodyError(Exception):
    """A request's body comes too slowly; the answer is 408 (RFC 9110 §15.5.9)."""


def take_slowly(scope: MutableMapping[str, Any], idle_seconds: float) -> None:
    """Let a request's body go on for as long as it likes: somebody types it, or it is a live sound.

    Args:
        scope: the request's.
        idle_seconds: how long it may pause; infinite where its reader has a limit of its own.
    """
    scope.setdefault("extensions", {})[SLOW_BODY] = {"idle_seconds": idle_seconds}


async def wait_while_connected(request: Request, seconds: float) -> None:
    """Wait for a time, or until a request's client has gone.

    Args:
        request: whose body nobody reads any more.
        seconds: the longest time.
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
    """Say why a file wasn't sent to its end, unless it is that the client has gone.

    Args:
        path: The path of its address.
        error: What happened.
    """
    if isinstance(error, TruncatedFileError):
        log.warning("file ended while it was sent", path=path, reason=str(error))
    elif not isinstance(error, ConnectionError | TimeoutError):
        log.warning("sending a file failed", path=path, reason=str(error))


class Exchange(RequestResponseCycle):
    """A request-response cycle that can also send files without copying and end a body by closing.

    Args:
        connection: Where the request came.
        scope: What it says.
        expect_100_continue: Whether its client waits until somebody wants its body.
        keep_alive: Whether the connection stays open behind the response.
    """

    def __init__(
        self, connection: Connection, scope: HTTPScope, *, expect_100_continue: bool, keep_alive: bool
    ) -> None:
        super().__init__(
            scope,
            connection.transport,
            connection.flow,
            connection.logger,
            connection.access_logger,
            connection.access_log,
            connection.server_state.default_headers,
            asyncio.Event(),
            expect_100_continue,
            keep_alive,
            connection.on_response_complete,
        )
        self._connection = connection
        self._loop = connection.loop
        self._head = b""
        self._bodyless = self.scope["method"] == "HEAD"
        self._close_delimited = False
        self._request_delivered = False
        # Of the body: bytes that were read, and the time that was spent waiting for them.
        self._received, self._waited = 0, 0.0
        self._stream: Stream | None = None
        self._gone: asyncio.Event | None = None
        self.half_closed = False
        """The client has ended its side; it may still be reading."""

    def half_close(self) -> None:
        """The client sends nothing more."""
        self.half_closed = True
        self.message_event.set()
        if self._stream is not None:
            # A listener without an end that sends nothing more has left: players close so.
            self._stream.abort()

    def feed(self, data: bytes) -> None:
        """Take bytes of a body that only the end of the connection ends."""
        if self.response_complete or self.disconnected:
            return
        self.body += data
        if len(self.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.message_event.set()

    def hang_up(self) -> None:
        """The client has gone."""
        self.disconnected = True
        if self._gone is not None:
            self._gone.set()
        self.message_event.set()
        if self._stream is not None:
            self._stream.hang_up()
            self._stream = None

    async def gone(self) -> None:
        """Wait until the client has gone."""
        self._gone = self._gone or asyncio.Event()
        if not self.disconnected:
            await self._gone.wait()

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the application for this request, to whatever end, in a task of the server."""
        self._app = app
        try:
            await super().run_asgi(self._guarded)
        finally:
            if (task := asyncio.current_task(self._loop)) is not None:
                self._connection.tasks.discard(task)

    async def _guarded(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # Only the end of the server cancels a request, and its task ends with this.
            self._cut()
        except TruncatedFileError as error:
            # RFC 9112 §8: with fewer bytes than promised, closing is what marks the message incomplete.
            log_failure(self.scope["path"], error)
            self._cut()

    async def receive(self) -> ASGIReceiveEvent:
        """The next event of the request: its body, then its client's going."""
        if self.half_closed:
            self.message_event.set()
        message = await self._receive_in_time()
        if message["type"] != "http.request":
            return message
        self._received += len(message["body"])
        if self.half_closed and not message["body"] and (self._request_delivered or message["more_body"]):
            return {"type": "http.disconnect"}
        self._request_delivered = not message["more_body"]
        return message

    async def _receive_in_time(self) -> ASGIReceiveEvent:
        """Receive; of a body, as long as it comes fast enough.

        Raises:
            SlowBodyError: it doesn't.
        """
        if self.message_event.is_set() or self._request_delivered:
            return await super().receive()
        limits = self._connection.limits
        slow: Any = self.scope.get("extensions", {}).get(SLOW_BODY)
        if slow is None:
            seconds = limits.body_seconds + self._received / limits.body_rate - self._waited
        else:
            seconds = float(slow["idle_seconds"])
        began = self._loop.time()
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                return await super().receive()
        except TimeoutError:
            self.keep_alive = False
            raise SlowBodyError(f"the body paused or came too slowly after {self._received} bytes") from None
        finally:
            # What the application takes for its own work is not the client's slowness.
            self._waited += self._loop.time() - began

    async def send(self, message: Any) -> None:
        """Send an event of the response; nothing happens when the client has gone."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
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
        self.waiting_for_100_continue = False
        if self.access_log:
            client, path = get_client_addr(self.scope), get_path_with_query_string(self.scope)
            method, version = self.scope["method"], self.scope["http_version"]
            self.access_logger.info('%s - "%s %s HTTP/%s" %d', client, method, path, version, status)
        # RFC 9112 §6.3: these never have a body, whatever their fields say.
        self._bodyless = self._bodyless or status in (204, 304)
        # RFC 9110 §6.6.1: the Date of the answer, which may have waited, not of the request.
        common = self._connection.fast_path.fields(self._connection.server_state.default_headers)
        lines = [status_line(status, self.scope["method"]), common]
        closes = False
        for name, value in headers:
            # Ranges hardly ever come again.
            framing, line = made_line(name, value) if name == b"content-range" else kept_line(name, value)
            if not framing:
                pass
            elif framing == b"content-length":
                self.chunked_encoding = False
                self.expected_content_length = int(value)
            elif framing == b"transfer-encoding":
                continue
            elif b"close" in value.lower():
                self.keep_alive, closes = False, True
            lines.append(line)
        lines += self._framing(closes)
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        # ASGI: the head waits for the body's first bytes, to go out with them; but not longer than this turn.
        self._loop.call_soon(self._flush)

    def _framing(self, closes: bool) -> list[bytes]:
        """The lines that say where the body ends, when its length isn't known."""
        lines = []
        if self.chunked_encoding is None and not self._bodyless:
            if self.scope["http_version"] == "1.0":
                # RFC 9112 §6.1: no Transfer-Encoding for an HTTP/1.0 client; §6.3: closing ends the body.
                self.keep_alive, self._close_delimited = False, True
            else:
                self.chunked_encoding = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
        return lines

    def _hand_over(self, message: Any) -> None:
        """Let the owner of the body write it onto the connection."""
        self._flush()
        # Of the connection itself, whatever a proxy says of the client's.
        plain = self._connection.scheme == "http"
        stream = Stream(
            self.transport, self._loop, self._finish, chunked=bool(self.chunked_encoding), plain=plain
        )
        stream.bound(message["buffer"])
        self._stream = message["stream"] = stream
        message["take"](stream)

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head

    def _flush(self) -> None:
        if self._head and not self.disconnected:
            self.transport.write(self._take_head())

    def _write(self, body: bytes | memoryview, *, last: bool) -> None:
        head = self._take_head()
        if self._bodyless:
            body = b""
        elif self.chunked_encoding:
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
            self.transport.write(b"".join((head, body, end)))
            return
        for piece in (head, body, end):
            if piece:
                self.transport.write(piece)

    async def _send_file(self, message: Any) -> None:
        head, count, last = self._take_head(), message["count"], not message.get("more_body", False)
        end = b""
        if self._bodyless:
            self._write_all(head, b"", b"")
        else:
            if self.chunked_encoding:
                head, end = head + b"%x\r\n" % count, b"\r\n" + (b"0\r\n\r\n" if last else b"")
            else:
                self._count(count)
            part = ByteRange(message["offset"], message["offset"] + count - 1)
            if not await self._sent(head, part, message["file"]):
                return
            if end:
                self.transport.write(end)
        if last:
            self._finish()

    async def _sent(self, head: bytes, part: ByteRange, file: int) -> bool:
        """Send a head and a range of a file. Returns False when the client has gone."""
        if self.transport.get_write_buffer_size():
            await self._emptied()
        if self.disconnected:
            return False
        sender = self._connection.sender or self._connection.file_sender()
        before = sender.sent + len(head)
        try:
            # Most ranges find room in the kernel at once: then nobody waits.
            if not sender.begin_range(head, *part, file):
                await sender.rest()
        except OSError as error:
            log_failure(self.scope["path"], error)
            self._cut()
            return False
        except asyncio.CancelledError:
            # Whatever the application does next, nothing may follow half of a file's bytes.
            self._cut()
            raise
        finally:
            # How far it came, for those who count: a player that seeks leaves most of a file unsent.
            self.scope["extensions"][ZERO_COPY]["sent"] = max(sender.sent - before, 0)
        return not self.disconnected

    async def _emptied(self) -> None:
        """Wait until the transport has written everything: the file's bytes go past its buffer."""
        self.transport.set_write_buffer_limits(high=0)
        try:
            while self.transport.get_write_buffer_size() and not self.disconnected:
                await self.flow.drain()
        finally:
            self.transport.set_write_buffer_limits()

    def _count(self, length: int) -> None:
        if self._close_delimited:
            return
        if length > self.expected_content_length:
            raise RuntimeError("Response content longer than Content-Length")
        self.expected_content_length -= length

    def _finish(self) -> None:
        if not self._bodyless and not self._close_delimited and self.expected_content_length:
            raise RuntimeError("Response content shorter than Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _cut(self) -> None:
        self.disconnected = True
        self.transport.abort()

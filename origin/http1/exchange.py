"""A request that the application answers: turns its ASGI messages into bytes of HTTP/1 (RFC 9112)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import structlog
from starlette.types import Scope

from origin.answers.asgi import ZERO_COPY
from origin.http.answer import Headers
from origin.http1.application_exchange import ApplicationExchange, log_failure
from origin.http1.body_writer import AT_END, STREAM, Stream
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from origin.http1.response_head import kept_line, made_line, status_line
from origin.http1.sendfile import FileSender
from origin.http1.transport import FlowControl

log = structlog.get_logger()

JOIN_LIMIT = 16 * 1024
"""Largest body in bytes that is copied behind the header, because that is cheaper than a second write."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

BODY_BUFFER_BYTES = 64 * 1024
"""Bytes of a body waiting for the application above which reading pauses."""


class ExchangeConnection(Protocol):
    """The connection as a request sees it that the application answers."""

    limits: ClassVar[HttpLimits]
    fast_path: ClassVar[FastPath]
    tasks: set[asyncio.Task[None]]
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl
    scheme: str
    sender: FileSender | None

    @property
    def default_headers(self) -> Headers:
        """The header fields of every response."""

    def file_sender(self) -> FileSender:
        """Return the connection's sender of file bytes; it is made when it is first needed."""

    @property
    def leaves_body(self) -> bool:
        """Whether the rest of the request's body is dropped after the answer, and the connection ends."""

    def on_response_start(self) -> None:
        """Note that the answer begins."""

    def on_response_complete(self) -> None:
        """Begin the next answer, or close the connection."""

    def close_after_answer(self) -> None:
        """Close the connection, whose last answer was sent, though perhaps before all of its request came."""


class Exchange(ApplicationExchange):
    """A request that the application answers, and its response.

    Besides what ASGI has, the application may send files without copying (`ZERO_COPY`) and let an object of
    its own write the body (`STREAM`).

    Args:
        expect_100_continue: whether the client waits for a sign before it sends the body.

    Attributes:
        keep_alive: whether the connection stays open behind the response.
    """

    def __init__(
        self, connection: ExchangeConnection, scope: Scope, *, expect_100_continue: bool, keep_alive: bool
    ) -> None:
        super().__init__(scope, connection.limits, connection.loop, connection.tasks)
        self.keep_alive = keep_alive
        self._connection = connection
        self._transport = connection.transport
        self._flow = connection.flow
        self._expects_continue = expect_100_continue
        # The response's header while it waits for the body's first bytes, and how the body ends.
        self._head = b""
        self._bodyless = scope["method"] == "HEAD"
        self._chunked: bool | None = None
        self._left = 0
        self._close_delimited = False
        self._stream: Stream | None = None
        # Callbacks for the end of a response that goes on when the application has returned.
        self._at_end: list[Callable[[], None]] = []

    def half_close(self) -> None:
        """Note the end of the client's data."""
        self.half_closed = True
        self._notify()
        if self._stream is not None:
            # The client of an endless body that ends its side has left: players close like this.
            self._stream.abort()

    def feed(self, data: bytes) -> None:
        """Buffer bytes of the request's body."""
        super().feed(data)
        if self.is_full:
            self._flow.pause_reading()

    @property
    def is_full(self) -> bool:
        """Whether the application has to take bytes of the body before more are read."""
        return len(self._body) > BODY_BUFFER_BYTES and not self.response_complete

    def hang_up(self) -> None:
        """Note the client's disconnection."""
        super().hang_up()
        if self._stream is not None:
            self._stream.hang_up()
            self._stream = None
        self._end()

    def _goes_on(self) -> bool:
        """Return whether the response goes on behind the application's return, and forget the request."""
        extension = self.scope.get("extensions", {}).get(STREAM, {})
        callbacks: list[Callable[[], None]] | None = extension.get(AT_END)
        if callbacks is None:
            return False
        self._at_end = callbacks
        self.scope = {"client": self.scope["client"], "path": self.scope["path"]}
        if self.response_complete or self._disconnected:
            self._end()
        return True

    def _end(self) -> None:
        """Do what is to be done at the end of a response that has gone on."""
        callbacks, self._at_end = self._at_end, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                # The other callbacks run all the same.
                log.exception("the end of a response failed", path=self.scope["path"])

    @property
    def has_gone(self) -> bool:
        """Whether the client has gone."""
        # After a failed write the event loop reports the end of the connection only in its next turn.
        return self._disconnected or self._transport.is_closing()

    def _give_up_body(self) -> None:
        self.keep_alive = False

    def _ask_for_body(self) -> None:
        if self._expects_continue and not self._transport.is_closing():
            # RFC 9110 §10.1.1: the application wants the body, so the client may send it.
            self._transport.write(CONTINUE)
            self._expects_continue = False
        if not self._disconnected and not self.response_complete:
            self._flow.resume_reading()

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
            close_delimited = message.get("close_delimited", False)
            self._start(message["status"], message.get("headers", ()), close_delimited=close_delimited)
        elif kind == "http.response.body":
            self._write(message.get("body", b""), last=not message.get("more_body", False))
        elif kind == ZERO_COPY:
            await self._send_file(message)
        elif kind == STREAM:
            self._hand_over(message)
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}'.")

    def _start(self, status: int, headers: Any, *, close_delimited: bool = False) -> None:
        self.response_started = True
        self._connection.on_response_start()
        self._expects_continue = False
        if self._connection.leaves_body:
            # RFC 9112 §9.6: the last answer says so, and no other request is sent meanwhile.
            self.keep_alive = False
        # RFC 9112 §6.3: these responses never have a body, whatever their fields say.
        self._bodyless = self._bodyless or status in (204, 304)
        # RFC 9110 §6.6.1: Date is when the answer is made, which may be long after the request came.
        common = self._connection.fast_path.fields(self._connection.default_headers)
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
        if status == 101:
            lines += self._end_of_http()
        else:
            lines += self._framing(closes, close_delimited=close_delimited)
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        # The head waits for the body's first bytes, to go out in one write, but no longer than this turn.
        self._loop.call_soon(self._flush)

    def _end_of_http(self) -> list[bytes]:
        self.keep_alive, self._close_delimited, self._chunked = False, True, False
        return []

    def _framing(self, closes: bool, *, close_delimited: bool) -> list[bytes]:
        """Return the header lines that say where the body ends if its length isn't known."""
        lines = []
        if self._chunked is None and not self._bodyless:
            if close_delimited or self.scope["http_version"] == "1.0":
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
            self.cut()
        except asyncio.CancelledError:
            # Whatever the application sends next must not follow half of a file's bytes.
            self.cut()
            raise
        finally:
            # The bytes that were sent, for statistics: a player that seeks leaves most of a file unsent.
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
        # The stream refers to its exchange: one cycle less is left for the garbage collector.
        self._stream = None
        self._end()
        if not self.keep_alive:
            self._connection.close_after_answer()
        self._connection.on_response_complete()

    def _break_off(self) -> None:
        # RFC 9112 §8: closing marks a message that isn't complete.
        self._transport.close()

    def cut(self) -> None:
        """End the response at once, whatever was sent of it."""
        self._disconnected = True
        self._transport.abort()

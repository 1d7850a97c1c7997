"""Answers the request of a stream by the application, in a task of its own."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from origin.answers.asgi import GONE
from origin.http.answer import Headers
from origin.http1.application_exchange import ApplicationExchange
from origin.http1.body_writer import STREAM, Stream
from origin.http_streams.priority import goes_first
from origin.http_streams.stream import (
    INTERNAL_ERROR,
    HttpStream,
    StreamAnswer,
    StreamConnection,
    StreamTransport,
    value_of,
    without_connection_fields,
)

HIGH_WATER_BYTES = 64 * 1024
"""Bytes of a body in memory above which the application waits."""


class ApplicationAnswer(ApplicationExchange, StreamAnswer):
    """The answer of the application on a stream.

    The application may let an object of its own write the body (`STREAM`), as on HTTP/1.

    Args:
        expects_continue: whether the client waits for a sign before it sends the body.
        is_socket: whether the request is for a WebSocket.
    """

    def __init__(
        self,
        connection: StreamConnection,
        stream: HttpStream,
        scope: Scope,
        *,
        expects_continue: bool = False,
        is_socket: bool = False,
    ) -> None:
        super().__init__(scope, connection.limits, connection.loop, connection.tasks)
        self._connection = connection
        self._stream = stream
        self._expects_continue = expects_continue
        self._is_socket = is_socket
        self._bodyless = scope["method"] == "HEAD"
        # How many bytes are left of the length that the application has promised.
        self._left: int | None = None
        # Whether fields follow the body, and what is called at the answer's end.
        self._has_trailers = False
        self._when_over: list[Callable[[], object]] = []
        self._room: asyncio.Event | None = None
        self._writer: Stream | None = None
        # The reference is weak, because a cycle would only be freed by the garbage collector.
        scope["extensions"][GONE] = {"exchange": weakref.ref(self)}

    def start(self, app: ASGIApp) -> None:
        """Run the application in a task."""
        self._tasks.add(self._loop.create_task(self.run(app)))

    # The connection's events

    def hang_up(self) -> None:
        """Note that the client doesn't want the answer any more."""
        super().hang_up()
        self.on_end(None)
        self.on_room()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.hang_up()

    def end_body(self) -> None:
        """Note the end of the request's body, which is that of a WebSocket's client altogether."""
        self.half_closed = self._is_socket
        super().end_body()

    def on_room(self) -> None:
        """Let the application go on."""
        if self._room is not None and (self._disconnected or self._stream.body.buffered <= HIGH_WATER_BYTES):
            self._room.set()
            self._room = None
        if self._writer is not None and not self._stream.body:
            self._writer.on_room()

    def on_end(self, error: Exception | None) -> None:
        """Note that the answer is over; the application counts and logs by itself."""
        del error
        callbacks, self._when_over = self._when_over, []
        for one in callbacks:
            one()

    def when_over(self, callback: Callable[[], object]) -> None:
        """Have a function called once: before the answer's last bytes go, or once the client has gone."""
        if self._disconnected or not self._connection.has_stream(self._stream):
            callback()
        else:
            self._when_over.append(callback)

    @property
    def has_gone(self) -> bool:
        """Whether the client has gone."""
        return self._disconnected or self._connection.is_over

    # The request's body

    def _give_up_body(self) -> None:
        pass

    def _ask_for_body(self) -> None:
        if self._expects_continue and not self.has_gone:
            # RFC 9110 §10.1.1: the application wants the body, so the client may send it.
            self._expects_continue = False
            self._connection.send_head(self._stream, 100, (), is_all=False)

    async def _next_message(self) -> Message:
        message = await super()._next_message()
        if not self.has_gone and message["type"] == "http.request":
            self._connection.acknowledge(self._stream, len(message["body"]))
        return message

    # The response

    async def send(self, message: Any) -> None:
        """Send an ASGI event of the response; do nothing if the client has gone."""
        if self._stream.body.buffered > HIGH_WATER_BYTES and not self._disconnected:
            self._room = self._room or asyncio.Event()
            await self._room.wait()
        if self._disconnected:
            return
        kind = message["type"]
        if self.response_complete or (kind == "http.response.start") is self.response_started:
            raise RuntimeError(f"Unexpected ASGI message '{kind}'.")
        if kind == "http.response.start":
            self._has_trailers = message.get("trailers", False)
            self._start(message["status"], message.get("headers", ()))
        elif kind == "http.response.trailers" and self._has_trailers:
            self._end_with(message["headers"])
        elif kind == "http.response.body":
            self._write(message.get("body", b""), last=not message.get("more_body", False))
        elif kind == STREAM:
            self._hand_over(message)
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}'.")

    def _start(self, status: int, headers: Headers) -> None:
        self.response_started = True
        self._expects_continue = False
        # RFC 8441 §5: what is a 101 on HTTP/1.1 is a 200 on HTTP/2.
        status = 200 if status == 101 else status
        self._bodyless = self._bodyless or status in (204, 304)
        length = value_of(headers, b"content-length")
        if length and not self._bodyless:
            self._left = int(length)
        dated = self._connection.fast_path.dated(self._connection.default_headers)
        fields = [*dated, *without_connection_fields(headers)]
        path: bytes = self.scope.get("raw_path", b"")
        self._stream.goes_first = goes_first(path, value_of(headers, b"content-type"))
        if self._bodyless:
            self._stream.body.is_complete = True
        self._connection.send_head(self._stream, status, fields, is_all=self._bodyless)

    def end_early(self, trailers: Headers) -> None:
        """End an answer that has trailers, without the bytes of its body that wait to be sent."""
        self._stream.body.clear()
        self._end_with(trailers)
        self.on_room()

    def _end_with(self, trailers: Headers) -> None:
        self._stream.trailers = trailers
        self._finish()

    def _write(self, body: bytes | memoryview, *, last: bool) -> None:
        if not self._bodyless:
            if self._left is not None:
                self._left -= len(body)
                if self._left < 0:
                    raise RuntimeError("Response content longer than Content-Length")
                if last and self._left:
                    raise RuntimeError("Response content shorter than Content-Length")
            self._stream.body.add((body,))
        if last and not self._has_trailers:
            self._finish()
        elif body and not self._bodyless:
            self._connection.send_body(self._stream)

    def _finish(self) -> None:
        self.response_complete = True
        self._notify()
        if not self._bodyless:
            self._stream.body.is_complete = True
            self._connection.send_body(self._stream)

    def _hand_over(self, message: Any) -> None:
        """Pass the stream to the application's own writer of the body."""
        transport = StreamTransport(self._connection, self._stream)
        writer = Stream(transport, self._loop, self._finish, chunked=False)
        self._writer = message["stream"] = writer
        message["take"](writer)

    def _break_off(self) -> None:
        self.cut()

    def cut(self) -> None:
        """End the response at once, whatever was sent of it."""
        self.hang_up()
        self._connection.reset(self._stream, INTERNAL_ERROR)

"""Endless bodies on connections of other ASGI servers, which don't let an application write onto sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from origin.http1.body_writer import STREAM, Stream


class PortableStreams:
    """ASGI middleware that makes plain ASGI messages of a `Stream`, where the server has no such extension.

    Each body has two tasks of its own then, and what is written in one step of the loop is one message.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or STREAM in scope.get("extensions", ()):
            await self._app(scope, receive, send)
            return
        tasks: list[asyncio.Task[None]] = []

        async def send_or_stream(message: Message) -> None:
            if message["type"] != STREAM:
                await send(message)
                return
            loop, transport = asyncio.get_running_loop(), MessageTransport()
            stream = Stream(transport, loop, transport.write_eof, chunked=False)
            sending = transport.sending = loop.create_task(transport.run(send, lambda: stream.on_room()))
            sending.add_done_callback(lambda _: stream.hang_up())
            tasks.extend((sending, loop.create_task(_leave(receive, transport))))
            message["stream"] = stream
            message["take"](stream)

        try:
            await self._app(scope, receive, send_or_stream)
            if tasks:
                # Sending ends behind the last byte, or when the client has gone or was given up.
                await asyncio.wait(tasks[:1])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class MessageTransport(asyncio.Transport):
    """The transport of a `Stream` whose bytes go out as messages of ASGI."""

    def __init__(self) -> None:
        super().__init__()
        self.sending: asyncio.Task[None] | None = None
        self._unsent = bytearray()
        self._sent_now = 0
        self._is_ended = False
        self._news = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the server hasn't accepted yet."""
        return len(self._unsent) + self._sent_now

    def write(self, data: Any) -> None:
        """Send bytes behind those that wait already."""
        self._unsent += data
        self._news.set()

    def write_eof(self) -> None:
        """End the body behind the bytes that wait."""
        self._is_ended = True
        self._news.set()

    def abort(self) -> None:
        """Send nothing more: the server closes the connection behind an incomplete body."""
        if self.sending is not None:
            self.sending.cancel()

    async def run(self, send: Send, on_room: Callable[[], None]) -> None:
        """Send what is written, until the end.

        Args:
            on_room: called whenever nothing waits any more.
        """
        while self._unsent or not self._is_ended:
            await self._news.wait()
            self._news.clear()
            data, self._unsent = bytes(self._unsent), bytearray()
            self._sent_now = len(data)
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            self._sent_now = 0
            if not self._unsent and not self._is_ended:
                on_room()
        await send({"type": "http.response.body", "body": b""})


async def _leave(receive: Receive, transport: MessageTransport) -> None:
    """Send nothing more once the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    transport.abort()

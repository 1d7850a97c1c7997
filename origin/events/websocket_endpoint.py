"""WebSocket at the address of an event channel: a message per event, and messages that are published."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import msgspec
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from origin.events.channel import EventChannel
from origin.events.channel_reader import ChannelReader
from origin.events.formats import WEBSOCKET
from origin.events.publishing import EventPublisher
from origin.events.reading import SEND_BUFFER_BYTES, identity_of
from origin.http1 import websocket
from origin.http1.application_exchange import take_slowly
from origin.http1.body_writer import STREAM, Stream
from origin.http1.shared_turns import budget_of
from origin.responses.refusal import RefusalError
from packager.step_budget import StepBudget

SUBPROTOCOLS = ("headwater.events.v1",)

LISTENER_BYTES = 4096
"""Most bytes of a message of a client that may only listen."""


class EventSocket:
    """A WebSocket on which a client reads an event channel, and publishes to it if it may.

    Args:
        channel: the channel that the client reads, and may publish to.
        publisher: takes its messages; the reason if it may not publish.
    """

    def __init__(
        self, channel: EventChannel, publisher: EventPublisher | str, limits: websocket.WebSocketLimits
    ) -> None:
        self._channel = channel
        self._publisher = publisher
        if isinstance(publisher, str):
            limits = replace(limits, message_bytes=LISTENER_BYTES)
        self._frames = websocket.FrameReader(limits)
        self._reader: ChannelReader | None = None

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the handshake and serve until one side closes.

        Args:
            scope: of a request that may read.

        Raises:
            HandshakeError: it isn't WebSocket's.
        """
        headers = websocket.accept(scope["headers"], SUBPROTOCOLS)
        identity = identity_of(Request(scope))
        await self._channel.catch_up(identity)
        resumption = self._channel.since(identity)
        self._channel.note_resumption(identity, resumption)
        reader = self._reader = ChannelReader(resumption, WEBSOCKET)
        take_slowly(scope, math.inf)
        await send({"type": "http.response.start", "status": 101, "headers": headers})

        def enter(stream: Stream) -> None:
            reader.stream = stream
            if self._channel.is_over(resumption):
                stream.write(websocket.close_frame(websocket.NORMAL, "the channel has ended"))
                reader.entered = 0.0
                reader.finish()
            else:
                self._channel.enter(reader, stream)

        await send({"type": STREAM, "take": enter, "buffer": SEND_BUFFER_BYTES})
        if reader.entered is None:
            return
        try:
            await self._serve(reader, receive, budget_of(scope))
        finally:
            self._channel.leave(reader)
            reader.stream.end(self._channel.limits.close_seconds)
            self._channel.note_cleanup(reader.gone)

    async def _serve(self, reader: ChannelReader, receive: Receive, budget: StepBudget) -> None:
        """Read what the client sends until it closes, or doesn't answer that we have closed."""
        reading = asyncio.ensure_future(self._read(reader, receive, budget))
        try:
            await asyncio.wait((reading, reader.done), return_when=asyncio.FIRST_COMPLETED)
            if not reader.stream.closed:
                await asyncio.wait((reading,), timeout=self._channel.limits.close_seconds)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if not reading.cancelled():
            reading.result()

    async def _read(self, reader: ChannelReader, receive: Receive, budget: StepBudget) -> None:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            self._frames.receive_data(message["body"])
            if await self._handle_frames(reader, budget):
                return

    async def _handle_frames(self, reader: ChannelReader, budget: StepBudget) -> bool:
        """Handle the frames that have come; return whether the connection is to be closed."""
        ping: websocket.Ping | None = None
        closing: websocket.Close | None = None
        answers: list[bytes] = []
        try:
            for event in self._frames.events():
                await budget.spend()
                if isinstance(event, websocket.Close):
                    closing = websocket.Close(event.code, "")
                    if not reader.done.done():
                        reader.gone = asyncio.get_running_loop().time()
                elif isinstance(event, websocket.Ping):
                    # RFC 6455 §5.5.3: of several, only the newest needs an answer.
                    ping = event
                elif isinstance(event, websocket.Pong):
                    reader.is_pinged = False
                else:
                    answers.append(await self._publish(event))
        except websocket.WebSocketError as error:
            closing = websocket.Close(error.code, str(error))
        if answers and self._channel.stored is not None:
            # An event whose id was sent to its publisher isn't lost when this process is killed.
            await self._channel.stored()
        for answer in answers:
            self._channel.answer(reader, websocket.frame(websocket.TEXT, answer))
        if closing is not None:
            self._close(reader, closing)
        elif ping is not None:
            self._channel.answer(reader, websocket.frame(websocket.PONG, ping.data))
        return closing is not None

    async def _publish(self, message: websocket.WebSocketMessage) -> bytes:
        """Publish the event in a message; return the answer to its sender."""
        if isinstance(self._publisher, str):
            raise websocket.WebSocketError(websocket.POLICY, self._publisher)
        if isinstance(message.data, bytes):
            raise websocket.WebSocketError(websocket.UNSUPPORTED, "events are text")
        told: dict[str, object]
        try:
            told = {"ids": await self._publisher.publish([self._publisher.check_json(message.data)])}
        except RefusalError as error:
            told = {"error": str(error), "status": error.status}
        return msgspec.json.encode(told)

    def _close(self, reader: ChannelReader, closing: websocket.Close) -> None:
        """Send a Close frame, unless one was sent; nothing follows it."""
        if not reader.done.done() and not reader.stream.closed:
            self._channel.leave(reader)
            reader.stream.write(websocket.close_frame(closing.code, closing.reason))

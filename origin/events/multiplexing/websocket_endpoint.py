"""WebSocket of several event channels: messages subscribe and unsubscribe, and events name their channel."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import msgspec
from starlette.requests import Request
from starlette.types import Send

from origin.events.multiplexing.merged_reader import MergedReader, json_event
from origin.events.multiplexing.positions import read_positions
from origin.events.multiplexing.reading import MultiplexedReading, write_events
from origin.events.reading import SEND_BUFFER_BYTES
from origin.events.websocket_endpoint import LISTENER_BYTES, SUBPROTOCOLS
from origin.http.token_bucket import TokenBucket
from origin.http1 import websocket
from origin.http1.application_exchange import take_slowly
from origin.http1.body_writer import STREAM, Stream
from origin.http1.shared_turns import budget_of
from origin.responses.refusal import RefusalError
from packager.concurrency import running_tasks

COMMANDS_AT_ONCE, COMMANDS_A_SECOND = 64.0, 20.0
"""Messages of a client: so many may come at once, and so many more in each second."""


class _SubscriptionCommand(msgspec.Struct, forbid_unknown_fields=True):
    """A message of a client.

    Attributes:
        since: the id behind which the client goes on: of the channel, or of several.
        key: the client's key for this channel alone, beside those of the handshake.
    """

    subscribe: str = ""
    unsubscribe: str = ""
    since: str = ""
    key: str = ""


_COMMAND = msgspec.json.Decoder(_SubscriptionCommand)


def frame_of(channel: str, name: str, data: str, identity: str) -> bytes:
    """Write an event as a message."""
    return websocket.frame(websocket.TEXT, json_event(channel, name, data, identity))


class MultiplexedSocket:
    """A WebSocket on which a client reads several channels."""

    def __init__(self, reading: MultiplexedReading, limits: websocket.WebSocketLimits) -> None:
        self._reading = reading
        self._frames = websocket.FrameReader(replace(limits, message_bytes=LISTENER_BYTES))
        self._commands = TokenBucket(COMMANDS_AT_ONCE, COMMANDS_A_SECOND)
        self._is_pinged = False

    async def run(self, request: Request, send: Send) -> None:
        """Answer the handshake and serve until one side closes.

        Raises:
            HandshakeError: it isn't WebSocket's.
            RefusalError: the client may not read a channel.
        """
        headers = websocket.accept(request.scope["headers"], SUBPROTOCOLS)
        reading = self._reading
        named = reading.wanted(request, needs=False)
        with reading.admission.held_for_client(request, reading.limits.channel.retry_seconds):
            async with reading.merged(request, frame_of) as merged:
                await reading.subscribe_all(merged, request, named)
                take_slowly(request.scope, math.inf)
                await send({"type": "http.response.start", "status": 101, "headers": headers})
                taken: list[Stream] = []
                await send({"type": STREAM, "take": taken.append, "buffer": SEND_BUFFER_BYTES})
                if taken:
                    await self._serve(request, merged, taken[0])

    async def _serve(self, request: Request, merged: MergedReader, stream: Stream) -> None:
        limits = self._reading.limits.channel
        merged.is_open = True
        async with running_tasks(
            self._read(request, merged, stream),
            write_events(merged, stream, limits, b"", b""),
            self._ping(stream),
        ) as tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if not task.cancelled():
                task.result()
        if not stream.closed:
            if merged.is_closing:
                stream.write(websocket.close_frame(websocket.SERVICE_RESTART, "the server restarts"))
            stream.end(limits.close_seconds)

    async def _ping(self, stream: Stream) -> None:
        """Ping the client until it answers no ping."""
        while not stream.closed:
            await asyncio.sleep(self._reading.limits.channel.ping_seconds)
            if self._is_pinged:
                stream.abort()
                return
            self._is_pinged = True
            if not stream.closed:
                stream.write(websocket.frame(websocket.PING, b""))

    async def _read(self, request: Request, merged: MergedReader, stream: Stream) -> None:
        """Read what the client sends until it closes."""
        budget = budget_of(request.scope)
        while True:
            message = await request.receive()
            if message["type"] != "http.request":
                return
            self._frames.receive_data(message["body"])
            try:
                for event in self._frames.events():
                    await budget.spend()
                    answer = await self._handle(event, merged)
                    # Commands are few; of pings a client that reads nothing could send any number.
                    is_wanted = not isinstance(event, websocket.Ping) or stream.buffered < SEND_BUFFER_BYTES
                    if answer and is_wanted and not stream.closed:
                        stream.write(answer)
                    if isinstance(event, websocket.Close):
                        return
            except websocket.WebSocketError as error:
                if not stream.closed:
                    stream.write(websocket.close_frame(error.code, str(error)))
                return

    async def _handle(self, event: websocket.WebSocketEvent, merged: MergedReader) -> bytes:
        """Handle what has come; return the frames that answer it."""
        if isinstance(event, websocket.Close):
            return websocket.close_frame(event.code, "")
        if isinstance(event, websocket.Ping):
            return websocket.frame(websocket.PONG, event.data)
        if isinstance(event, websocket.Pong):
            self._is_pinged = False
            return b""
        return websocket.frame(websocket.TEXT, msgspec.json.encode(await self._obey(event, merged)))

    async def _obey(self, message: websocket.WebSocketMessage, merged: MergedReader) -> dict[str, object]:
        """Subscribe to a channel, or unsubscribe; return the answer.

        Raises:
            WebSocketError: the message isn't text.
        """
        if isinstance(message.data, bytes):
            raise websocket.WebSocketError(websocket.UNSUPPORTED, "commands are text")
        try:
            command = _COMMAND.decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {"error": 'not a command as {"subscribe": "NAME", "since": "…"}', "status": 400}
        if bool(command.subscribe) == bool(command.unsubscribe):
            return {"error": "either subscribe or unsubscribe is needed", "status": 400}
        named = command.subscribe or command.unsubscribe
        told: dict[str, object] = {"subscribe" if command.subscribe else "unsubscribe": named}
        if self._commands.acquire():
            return told | {"error": "too many commands", "status": 429}
        try:
            if command.subscribe:
                since = command.since
                positions = self._positions(named, since)
                return {
                    "subscribed": named,
                    "channels": await merged.subscribe([named], positions, command.key),
                }
            if not await merged.unsubscribe(named):
                return told | {"error": "it wasn't subscribed to", "status": 404}
        except RefusalError as error:
            return told | {"error": str(error), "status": error.status}
        return {"unsubscribed": named}

    def _positions(self, named: str, since: str) -> dict[str, str] | None:
        """Return the positions of an id, of the one channel or of several; None where it can't be read."""
        if not since:
            return {}
        if "=" in since:
            return read_positions(since, self._reading.limits.channels_per_reader)
        return {named: since}

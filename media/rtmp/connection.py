"""The server's side of a publisher's RTMP connection (RTMP 1.0, Enhanced RTMP v2), without I/O."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from media.errors import MalformedError, TooLargeError
from media.flv.amf0 import Value, read_values, write_values
from media.flv.tags import Tag
from media.rtmp import chunks
from media.rtmp.chunks import ChunkReader, Message, RtmpConnectionLimits, write_message
from media.rtmp.handshake import ServerHandshake

RECONNECT, MODEX, NANOSECONDS = 1, 4, 8
"""Enhanced RTMP v2, capsEx: what a side can do beyond the codecs."""

_STREAM_BEGIN, _PING_REQUEST, _PING_RESPONSE = 0, 6, 7
"""RTMP 1.0 §7.1.7: events of user control messages."""

MESSAGES, AGGREGATED_MESSAGES, PARAMETERS = 256, 1024, 32
"""Most messages without a stream, most of an aggregate message (seconds), most parameters of a query."""

WINDOW_BYTES, LEAST_WINDOW_BYTES = 2_500_000, 64 << 10
"""Bytes between acknowledgements, and the least that a publisher may ask for: each is a packet to send."""

SENT_CHUNK_BYTES = 4096
"""Size of sent chunks."""

_COMMANDS_CHUNK_STREAM, _STATUS_CHUNK_STREAM = 3, 5
_PUBLISHED_STREAM = 1
_SUB_HEADER_BYTES, _BACK_POINTER_BYTES = 11, 4
_SET_DATA_FRAME = write_values(["@setDataFrame"])
_FRAMES = frozenset({chunks.AUDIO, chunks.VIDEO})
_MEDIA = _FRAMES | {chunks.DATA}


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A client's request to connect; the answer is ``accept_connect`` or ``reject_connect``.

    Attributes:
        app: the application's name, without a query.
        encoder: the client's name for itself, such as ``FMLE/3.0``.
        codecs: FourCCs of Enhanced RTMP that it can send.
        capabilities: bits of capsEx.
    """

    app: str
    encoder: str = ""
    codecs: frozenset[str] = frozenset()
    capabilities: int = 0


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """A client's request to publish a stream; the answer is ``accept_publish`` or ``refuse_publish``.

    Attributes:
        name: the stream's name, without a query and exactly as it was sent.
        parameters: of the queries of the stream's name, the application and the URL, in this order.
    """

    app: str
    name: str
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The end of the client's stream; another one may follow on the same connection."""


Event = ConnectRequest | PublishRequest | Message | list[Tag] | StreamEnded
"""Events of a connection. Messages are audio, video and data: the bodies of FLV tags.

With ``joins_frames``, consecutive audio and video tags come as one list. An empty list follows each other
message, so that the caller can yield to other connections even if a message has no event of its own.
"""


class State(enum.Enum):
    """The phases of a connection."""

    HANDSHAKE = enum.auto()
    OPENED = enum.auto()
    CONNECTED = enum.auto()
    PUBLISHING = enum.auto()
    CLOSED = enum.auto()


@dataclass(frozen=True, slots=True)
class _Command:
    """A command: its name, transaction, message stream, and values behind the transaction."""

    name: str
    transaction: float
    stream: int
    values: list[Value]


class PublisherConnection:
    """The server's side of a publisher's RTMP connection: reads messages, writes answers, without I/O.

    While a request waits for its answer, no further bytes are parsed: no media is read before it is admitted.

    Args:
        random: for the handshake, ``handshake.RANDOM_BYTES`` of random data.
        joins_frames: whether audio and video are emitted as lists of tags, which costs less.

    Attributes:
        received: bytes received so far.
    """

    def __init__(self, limits: RtmpConnectionLimits, random: bytes, *, joins_frames: bool = False) -> None:
        self._limits = limits
        self._joins_frames = joins_frames
        self._handshake = ServerHandshake(random)
        self._chunks = ChunkReader(limits)
        self._sent = bytearray()
        self._sent_chunk_bytes = chunks.DEFAULT_CHUNK_BYTES
        self._pending: _Command | None = None
        self._request = ConnectRequest("")
        self._url: tuple[dict[str, str], str, str] = ({}, "", "")
        self._messages = 0
        self._window = WINDOW_BYTES
        self._acknowledged = 0
        self.state = State.HANDSHAKE
        self.received = 0

    @property
    def is_within_message(self) -> bool:
        """Whether a message has begun that isn't complete."""
        return self._chunks.is_within_message

    @property
    def is_closed(self) -> bool:
        """Whether the connection was refused or has ended, so that no more bytes are parsed."""
        return self.state is State.CLOSED

    def receive_data(self, data: bytes) -> None:
        """Parse the next bytes.

        Raises:
            MalformedError: the bytes aren't RTMP.
            UnsupportedError: the connection is encrypted (RTMPE).
        """
        self.received += len(data)
        if self.state is State.HANDSHAKE:
            self._sent += self._handshake.receive_data(data)
            if not self._handshake.is_complete:
                return
            self.state = State.OPENED
            data = self._handshake.take_rest()
        if self.state is not State.CLOSED:
            self._chunks.receive_data(data)
        if self.received - self._acknowledged >= self._window:
            self._acknowledged = self.received
            self._control(chunks.ACKNOWLEDGEMENT, (self.received % (1 << 32)).to_bytes(4, "big"))

    def receive_eof(self) -> Iterator[Event]:
        """Mark the end of the input; yield the end of the stream, if one was published."""
        was_publishing, self.state = self.state is State.PUBLISHING, State.CLOSED
        if was_publishing:
            yield StreamEnded()

    def data_to_send(self) -> bytes:
        """Return the bytes that are to be sent, once."""
        sent = bytes(self._sent)
        self._sent.clear()
        return sent

    def events(self) -> Iterator[Event]:
        """Yield the events of the bytes so far, up to a request that waits for its answer.

        Raises:
            MalformedError: the bytes aren't RTMP.
            UnsupportedError: a command or encoding isn't supported.
            TooLargeError: a limit is exceeded.
        """
        if self._pending is not None or self.state in (State.HANDSHAKE, State.CLOSED):
            return
        # Looking up an enumeration's member costs as much as all other work on most messages.
        publishing = State.PUBLISHING
        messages = self._chunks.events()
        while True:
            while self._joins_frames and self.state is publishing:
                if not (tags := self._chunks.take_frames(self._limits.tags)):
                    break
                yield tags
            message = next(messages, None)
            if message is None:
                return
            if self.state is publishing and message.kind in _FRAMES:
                yield message
                continue
            yield from self._on_message(message)
            if self._pending is not None or self.is_closed:
                return
            if self._joins_frames:
                yield []

    def accept_connect(self) -> None:
        """Accept the client's request to connect."""
        command = self._take_pending(State.OPENED)
        self.state = State.CONNECTED
        window = WINDOW_BYTES.to_bytes(4, "big")
        self._control(chunks.WINDOW_SIZE, window)
        # RTMP 1.0 §5.4.5: 2 is the dynamic kind of limit.
        self._control(chunks.PEER_BANDWIDTH, window + b"\2")
        self._control(chunks.SET_CHUNK_SIZE, SENT_CHUNK_BYTES.to_bytes(4, "big"))
        self._sent_chunk_bytes = SENT_CHUNK_BYTES
        self._user_control(_STREAM_BEGIN, bytes(4))
        properties: dict[str, Value] = {"fmsVer": "FMS/3,5,7,7009", "capabilities": 31.0, "mode": 1.0}
        status = _status("status", "NetConnection.Connect.Success", "Connected.")
        extra: dict[str, Value] = {"objectEncoding": 0.0}
        if self._request.codecs or self._request.capabilities:
            # Enhanced RTMP v2: the server repeats what both can do.
            extra |= {"capsEx": float(self._request.capabilities & (RECONNECT | MODEX | NANOSECONDS))}
            extra |= {"fourCcList": list[Value](sorted(self._request.codecs))}
        self._respond("_result", command, properties, status | extra)

    def reject_connect(self, description: str) -> None:
        """Refuse the client's request to connect."""
        command = self._take_pending(State.OPENED)
        self.state = State.CLOSED
        status = _status("error", "NetConnection.Connect.Rejected", description)
        self._respond("_error", command, None, status)

    def accept_publish(self) -> None:
        """Accept the client's request to publish."""
        command = self._take_pending(State.CONNECTED)
        self.state = State.PUBLISHING
        self._messages = 0
        self._chunks.expect_media()
        self._user_control(_STREAM_BEGIN, _PUBLISHED_STREAM.to_bytes(4, "big"))
        self._on_status(command.stream, "status", "NetStream.Publish.Start", "Publishing.")

    def refuse_publish(self, description: str, code: str = "NetStream.Publish.BadName") -> None:
        """Refuse the client's request to publish; the caller must then close the connection."""
        command = self._take_pending(State.CONNECTED)
        self.state = State.CLOSED
        self._on_status(command.stream, "error", code, description)

    def end(self, description: str, code: str = "NetStream.Publish.BadName") -> None:
        """End the client's stream with a status message; the caller must then close the connection."""
        if self.state is State.PUBLISHING:
            self._on_status(_PUBLISHED_STREAM, "error", code, description)
        self.state = State.CLOSED

    def warn(self, description: str, code: str = "NetStream.Publish.Warning") -> None:
        """Send the client a warning about its stream, which goes on."""
        # RTMP 1.0 §7.2.2: the level is "warning", "status" or "error", and an encoder ends with errors alone.
        if self.state is State.PUBLISHING:
            self._on_status(_PUBLISHED_STREAM, "warning", code, description)

    def request_reconnect(self, description: str) -> bool:
        """Ask the client to reconnect (Enhanced RTMP v2); return whether the client supports that."""
        if not self._request.capabilities & RECONNECT or self.state is not State.PUBLISHING:
            return False
        self._on_status(0, "status", "NetConnection.Connect.ReconnectRequest", description)
        return True

    def ping(self, timestamp: int) -> None:
        """Send a ping request, which a living client answers."""
        self._user_control(_PING_REQUEST, (timestamp % (1 << 32)).to_bytes(4, "big"))

    def _on_message(self, message: Message) -> Iterator[Event]:
        kind, payload = message.kind, message.payload
        if self.state is not State.PUBLISHING:
            self._messages += 1
            if self._messages > MESSAGES:
                raise TooLargeError(f"more than {MESSAGES} messages without a stream")
        if kind in _MEDIA or kind == chunks.DATA_AMF3:
            if self.state is State.PUBLISHING:
                yield _media(message)
        elif kind == chunks.AGGREGATE:
            if self.state is State.PUBLISHING:
                yield from _aggregated(message, AGGREGATED_MESSAGES)
        elif kind in (chunks.COMMAND, chunks.COMMAND_AMF3):
            event = self._on_command(self._read_command(message))
            if event is not None:
                yield event
        elif kind == chunks.USER_CONTROL:
            if payload[:2] == _PING_REQUEST.to_bytes(2, "big"):
                self._user_control(_PING_RESPONSE, payload[2:6].ljust(4, b"\0"))
        elif kind == chunks.WINDOW_SIZE and len(payload) == 4:
            self._window = max(int.from_bytes(payload, "big"), LEAST_WINDOW_BYTES)

    def _read_command(self, message: Message) -> _Command:
        payload = message.payload
        if message.kind == chunks.COMMAND_AMF3:
            # A byte 0 says that what follows is AMF0 after all, as encoders write it.
            payload = payload.removeprefix(b"\0")
        values = read_values(payload)
        name = values[0] if values else None
        if not isinstance(name, str):
            raise MalformedError("a command without a name")
        transaction = values[1] if len(values) > 1 else 0.0
        number = transaction if isinstance(transaction, float) else 0.0
        return _Command(name, number, message.stream, values[2:])

    def _on_command(self, command: _Command) -> Event | None:
        handler = self._HANDLERS.get((self.state, command.name))
        if handler is not None:
            return handler(self, command)
        if self.state is State.OPENED:
            raise MalformedError("a command before the connect command")
        if command.transaction and command.name not in ("_result", "_error"):
            status = _status("error", "NetConnection.Call.Failed", "This server only takes streams.")
            self._respond("_error", command, None, status)
        return None

    def _connect(self, command: _Command) -> Event:
        given = command.values[0] if command.values else None
        told = given if isinstance(given, dict) else {}
        app, _, query = _text(told, "app").partition("?")
        url, user, password = _read_url(_text(told, "tcUrl"), PARAMETERS)
        self._url = {**url, **self._parameters(query)}, user, password
        codecs = _codecs(told)
        capabilities = told.get("capsEx")
        bits = int(capabilities) if isinstance(capabilities, float) and 0 <= capabilities < 1 << 31 else 0
        self._request = ConnectRequest(app.strip("/"), _text(told, "flashVer"), codecs, bits)
        self._pending = command
        return self._request

    def _publish(self, command: _Command) -> Event:
        given = command.values[1] if len(command.values) > 1 else None
        name, _, query = (given if isinstance(given, str) else "").partition("?")
        parameters, user, password = self._url
        self._pending = command
        app = self._request.app
        return PublishRequest(app, name, {**parameters, **self._parameters(query)}, user, password)

    def _create_stream(self, command: _Command) -> None:
        self._respond("_result", command, None, float(_PUBLISHED_STREAM))

    def _confirm(self, command: _Command) -> None:
        if command.transaction:
            self._respond("_result", command, None, None)

    def _fc_publish(self, command: _Command) -> None:
        self._confirm(command)
        status = _status("status", "NetStream.Publish.Start", "Publishing.")
        self._send_command(0, "onFCPublish", 0.0, None, status)

    def _end_stream(self, command: _Command) -> Event:
        self.state = State.CONNECTED
        self._confirm(command)
        return StreamEnded()

    def _refuse_to_play(self, command: _Command) -> None:
        self._on_status(command.stream, "error", "NetStream.Play.Failed", "This server only takes streams.")

    def _parameters(self, query: str) -> dict[str, str]:
        return read_query(query, PARAMETERS)

    def _take_pending(self, state: State) -> _Command:
        command, self._pending = self._pending, None
        if command is None or self.state is not state:
            raise RuntimeError("no such request is waiting for an answer")
        return command

    def _respond(self, name: str, command: _Command, *values: Value) -> None:
        self._send_command(0, name, command.transaction, *values)

    def _on_status(self, stream: int, level: str, code: str, description: str) -> None:
        self._send_command(stream, "onStatus", 0.0, None, _status(level, code, description))

    def _send_command(self, stream: int, *values: Value) -> None:
        place = _STATUS_CHUNK_STREAM if stream else _COMMANDS_CHUNK_STREAM
        self._send(place, Message(chunks.COMMAND, stream, 0, write_values(values)))

    def _user_control(self, event: int, data: bytes) -> None:
        self._control(chunks.USER_CONTROL, event.to_bytes(2, "big") + data)

    def _control(self, kind: int, payload: bytes) -> None:
        self._send(chunks.CONTROL_CHUNK_STREAM, Message(kind, 0, 0, payload))

    def _send(self, chunk_stream: int, message: Message) -> None:
        self._sent += write_message(chunk_stream, message, self._sent_chunk_bytes)

    _HANDLERS: ClassVar[
        Mapping[tuple[State, str], Callable[[PublisherConnection, _Command], Event | None]]
    ] = {
        (State.OPENED, "connect"): _connect,
        (State.CONNECTED, "createStream"): _create_stream,
        (State.CONNECTED, "releaseStream"): _confirm,
        (State.CONNECTED, "FCPublish"): _fc_publish,
        (State.CONNECTED, "_checkbw"): _confirm,
        (State.CONNECTED, "publish"): _publish,
        (State.CONNECTED, "play"): _refuse_to_play,
        (State.CONNECTED, "FCUnpublish"): _confirm,
        (State.CONNECTED, "closeStream"): _confirm,
        (State.CONNECTED, "deleteStream"): _confirm,
        (State.PUBLISHING, "_checkbw"): _confirm,
        (State.PUBLISHING, "FCUnpublish"): _end_stream,
        (State.PUBLISHING, "closeStream"): _end_stream,
        (State.PUBLISHING, "deleteStream"): _end_stream,
    }
    """RTMP 1.0 §7.2: the handler of each command by state; other commands are answered with an error."""


def _status(level: str, code: str, description: str) -> dict[str, Value]:
    return {"level": level, "code": code, "description": description}


def _text(values: Mapping[str, Value], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _codecs(told: Mapping[str, Value]) -> frozenset[str]:
    """Return the FourCCs that a client announces: a list in version 1, maps in version 2."""
    listed = told.get("fourCcList")
    found = {one for one in listed if isinstance(one, str)} if isinstance(listed, list) else set[str]()
    for name in ("videoFourCcInfoMap", "audioFourCcInfoMap"):
        mapped = told.get(name)
        found |= set(mapped) if isinstance(mapped, dict) else set()
    return frozenset(found)


def _read_url(url: str, most: int) -> tuple[dict[str, str], str, str]:
    """Parse query, user and password of the client's ``tcUrl``."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {}, "", ""
    return read_query(parts.query, most), unquote(parts.username or ""), unquote(parts.password or "")


def read_query(query: str, most: int) -> dict[str, str]:
    """Read the parameters behind a stream's name, such as its key.

    A plus sign stands for itself: a key that is pasted into an encoder was no HTML form (RFC 3986 §2.2).

    Raises:
        TooLargeError: the query has more parameters than ``most``.
    """
    try:
        return dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True, max_num_fields=most))
    except ValueError:
        raise TooLargeError(f"more than {most} parameters") from None


def _media(message: Message) -> Message:
    kind, stream, timestamp, payload = message
    if kind == chunks.DATA_AMF3:
        kind, payload = chunks.DATA, payload.removeprefix(b"\0")
    if kind == chunks.DATA:
        # RTMP 1.0 doesn't specify @setDataFrame: in a file the tag begins behind it, with onMetaData.
        payload = payload.removeprefix(_SET_DATA_FRAME)
    return Message(kind, stream, timestamp, payload)


def _aggregated(message: Message, most: int) -> Iterator[Message]:
    """Yield the messages of an aggregate message (RTMP 1.0 §7.1.6), with absolute times."""
    data, place, first = message.payload, 0, None
    for _ in range(most):
        if place >= len(data):
            return
        body = place + _SUB_HEADER_BYTES
        if body > len(data):
            raise MalformedError("an aggregate message that is cut off")
        size = int.from_bytes(data[place + 1 : place + 4], "big")
        time = int.from_bytes(data[place + 7 : place + 8] + data[place + 4 : place + 7], "big")
        if body + size + _BACK_POINTER_BYTES > len(data):
            raise MalformedError("an aggregate message that is cut off")
        first = time if first is None else first
        if data[place] in _MEDIA:
            timestamp = (message.timestamp + time - first) % (1 << 32)
            yield _media(Message(data[place], message.stream, timestamp, data[body : body + size]))
        place = body + size + _BACK_POINTER_BYTES
    if place < len(data):
        raise TooLargeError(f"an aggregate message of more than {most} messages")

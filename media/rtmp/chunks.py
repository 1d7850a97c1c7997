"""RTMP's chunk stream (RTMP 1.0 §5.3): reads and writes messages that are cut into interleaved chunks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from media.errors import MalformedError, TooLargeError
from media.flv.tags import Tag

SET_CHUNK_SIZE, ABORT, ACKNOWLEDGEMENT, USER_CONTROL, WINDOW_SIZE, PEER_BANDWIDTH = 1, 2, 3, 4, 5, 6
AUDIO, VIDEO, DATA_AMF3, COMMAND_AMF3, DATA, COMMAND, AGGREGATE = 8, 9, 15, 17, 18, 20, 22
"""RTMP 1.0 §5.4, §6.2, §7.1: types of messages."""

CONTROL_CHUNK_STREAM = 2
"""RTMP 1.0 §5.4: the chunk stream of protocol control messages."""

DEFAULT_CHUNK_BYTES = 128
"""RTMP 1.0 §5.4.1: chunk size of both sides until they change it."""

_EXTENDED = 0xFFFFFF
_WRAP = 1 << 32
CHUNK_STREAMS = 64
"""Most chunk streams of a connection."""

COMMAND_BYTES = 64 << 10
"""Most bytes of all incomplete messages before media is expected."""

CONTROL_MESSAGES = 64
"""Most consecutive messages that change how chunks are read."""

_MOST_AT_ONCE = 1024
"""Chunks of a message that are joined at once: each is an object meanwhile, and may have a single byte."""

_HEADER_BYTES = (11, 7, 3, 0)
"""RTMP 1.0 §5.3.1.2: sizes of the message headers of the formats 0 to 3."""

_PLAIN_HEADER, _MESSAGE_STREAM = struct.Struct(">II"), struct.Struct("<I")
_LONGEST_PLAIN_HEADER = _PLAIN_HEADER.size + _MESSAGE_STREAM.size
"""A chunk's headers where number and timestamp aren't extended: format and number, in one byte, and the
timestamp; the message's size, and its type in one byte; its message stream, of format 0 alone."""

_AWAITED_BYTES = 16 << 10
"""Up to this size, a message that lacks nothing but its end stays unread until that has come."""

_CHANGES = frozenset({SET_CHUNK_SIZE, ABORT})
"""Messages that change how chunks are read."""

_FRAMES = frozenset({AUDIO, VIDEO})


@dataclass(frozen=True, slots=True, kw_only=True)
class RtmpConnectionLimits:
    """Limits of what a publisher may send, and how it is answered.

    Attributes:
        tags: Most tags in one list of events.
        media_bytes: Most bytes of all incomplete messages once media is expected: a key frame of 64 Mbit, and
            interleaved messages.
    """

    media_bytes: int = 9 << 20
    tags: int = 64


class Message(NamedTuple):
    """A complete RTMP message; a stream has dozens a second.

    Attributes:
        kind: message type, such as ``AUDIO``.
        stream: ID of the message stream, by ``createStream``; 0 for the connection itself.
        timestamp: milliseconds, modulo 2^32.
    """

    kind: int
    stream: int
    timestamp: int
    payload: bytes


class _ChunkStream:
    """The newest message of a chunk stream: its header, and its payload so far.

    Attributes:
        field: timestamp or delta, as written in the header.
        is_extended: whether the header has an extended timestamp.
        is_open: whether the message is incomplete.
    """

    __slots__ = ("field", "is_extended", "is_open", "kind", "payload", "size", "stream", "timestamp")

    def __init__(self) -> None:
        self.field = self.timestamp = self.size = self.kind = self.stream = 0
        self.payload = bytearray()
        self.is_extended = self.is_open = False


class ChunkReader:
    """Reads messages from chunks, without I/O.

    Changes of the chunk size and aborted messages take effect here; all other messages are events.
    """

    def __init__(self, limits: RtmpConnectionLimits) -> None:
        self._limits = limits
        # Offset of the first byte that isn't parsed yet.
        self._buffer = b""
        self._place = 0
        self._streams = dict[int, _ChunkStream]()
        self._chunk_bytes = DEFAULT_CHUNK_BYTES
        self._most_bytes = COMMAND_BYTES
        self._open_bytes = 0
        self._is_awaited = False
        self._control_messages = 0
        self._repeats_timestamps: bool | None = None
        # The current chunk, and its bytes that are missing.
        self._current: _ChunkStream | None = None
        self._left = 0

    def expect_media(self) -> None:
        """Allow messages as large as key frames from now on."""
        self._most_bytes = self._limits.media_bytes

    @property
    def is_within_message(self) -> bool:
        """Whether a message has begun that isn't complete."""
        return self._open_bytes > 0 or self._is_awaited

    def receive_data(self, data: bytes) -> None:
        """Parse the next bytes."""
        self._buffer, self._place = self._buffer[self._place :] + data, 0
        self._is_awaited = False

    def events(self) -> Iterator[Message]:
        """Yield the messages that the bytes so far complete.

        Raises:
            MalformedError: the bytes aren't RTMP chunks.
            TooLargeError: a limit is exceeded.
        """
        while not self._is_awaited:
            if self._current is None and not self._begin_chunk():
                return
            message = None if self._current is None else self._continue_chunk(self._current)
            if message is None:
                if self._current is not None:
                    return
                continue
            if message.kind in _CHANGES:
                self._control(message)
            else:
                self._control_messages = 0
                yield message

    def take_frames(self, most: int) -> list[Tag]:
        """Read consecutive complete audio and video messages at once, as FLV tags.

        Most messages arrive whole, with nothing interleaved. The list ends before a message that is
        interleaved, empty, possibly too large, or has an extended timestamp: ``events`` reads such messages
        chunk by chunk. A message that lacks only its end stays unread.

        Args:
            most: most tags that are returned.
        """
        tags = list[Tag]()
        if self._current is not None or self._is_awaited:
            return tags
        data, place, streams, chunk_bytes = self._buffer, self._place, self._streams, self._chunk_bytes
        last, room = len(data) - _LONGEST_PLAIN_HEADER, self._most_bytes - self._open_bytes
        while place <= last and len(tags) < most:
            field, told = _PLAIN_HEADER.unpack_from(data, place)
            first, field = field >> 24, field & _EXTENDED
            stream = streams.get(first & 0x3F)
            if stream is None or stream.is_open or (first >= 0x80 and stream.is_extended):
                break
            if first < 0x80:
                size, kind = told >> 8, told & 0xFF
            else:
                size, kind = stream.size, stream.kind
                field = field if first < 0xC0 else stream.field
            begin = place + 1 + _HEADER_BYTES[first >> 6]
            end = begin + size + (size - 1) // chunk_bytes
            is_whole = end <= len(data)
            if not 0 < size <= room or kind not in _FRAMES or field == _EXTENDED:
                break
            if not is_whole and size > _AWAITED_BYTES:
                break
            payload = data[begin:end]
            if size > chunk_bytes and not _is_in_a_row(payload, chunk_bytes, first | 0xC0):
                break
            if not is_whole:
                self._is_awaited = True
                break
            if size > chunk_bytes:
                joined = bytearray(payload)
                del joined[chunk_bytes :: chunk_bytes + 1]
                payload = bytes(joined)
            stream.field, stream.size, stream.kind, stream.is_extended = field, size, kind, False
            if first >= 0x40:
                stream.timestamp = field = (stream.timestamp + field) % _WRAP
            else:
                stream.timestamp = field
                (stream.stream,) = _MESSAGE_STREAM.unpack_from(data, place + 8)
            place = end
            tags.append((kind, field, payload))
        if tags:
            self._place, self._control_messages = place, 0
        return tags

    def _begin_chunk(self) -> bool:
        """Read the headers of a chunk; False if they are incomplete."""
        data, place = self._buffer, self._place
        if place == len(data):
            return False
        kind, number = data[place] >> 6, data[place] & 0x3F
        place += 1
        if number < 2:
            # RTMP 1.0 §5.3.1.1: the numbers 0 and 1 say that one or two bytes follow.
            begin, place = place, place + number + 1
            if len(data) < place:
                return False
            number = 64 + int.from_bytes(data[begin:place], "little")
        end = place + _HEADER_BYTES[kind]
        if len(data) < end:
            return False
        stream = self._chunk_stream(number, kind)
        field = stream.field if kind == 3 else int.from_bytes(data[place : place + 3], "big")
        is_extended = stream.is_extended if kind == 3 else field == _EXTENDED
        if is_extended:
            size = 4 if kind != 3 else self._repeated_bytes(end, field)
            if size is None or len(data) < end + size:
                return False
            field = int.from_bytes(data[end : end + 4], "big") if kind != 3 else field
            end += size
        if not stream.is_open:
            stream.is_extended = is_extended
            self._begin_message(stream, kind, field, place)
        self._streams[number] = stream
        self._place = end
        self._current = stream
        self._left = min(self._chunk_bytes, stream.size - len(stream.payload))
        return True

    def _chunk_stream(self, number: int, kind: int) -> _ChunkStream:
        stream = self._streams.get(number)
        if stream is None:
            # librtmp begins some chunk streams with format 1; the other formats need a message before them.
            if kind > 1:
                raise MalformedError("a chunk that continues a message which never began")
            if len(self._streams) >= CHUNK_STREAMS:
                raise TooLargeError(f"more than {CHUNK_STREAMS} chunk streams")
            return _ChunkStream()
        if stream.is_open and kind != 3:
            raise MalformedError("a message before the end of the previous one in its chunk stream")
        return stream

    def _repeated_bytes(self, place: int, field: int) -> int | None:
        """Return the size of an extended timestamp behind a format 3 header; None if more bytes are needed.

        RTMP 1.0 §5.3.1.3 requires it; ffmpeg and Adobe's encoders repeat it, and other encoders leave it out.
        """
        if self._repeats_timestamps is None:
            found = self._buffer[place : place + 4]
            expected = field.to_bytes(4, "big")
            if found == expected:
                self._repeats_timestamps = True
            elif expected.startswith(found):
                return None
            else:
                self._repeats_timestamps = False
        return 4 if self._repeats_timestamps else 0

    def _begin_message(self, stream: _ChunkStream, kind: int, field: int, place: int) -> None:
        """Start a message from the header at an offset."""
        data = self._buffer
        stream.field = field
        # RTMP 1.0 §5.3.1.2.4: behind a message of format 0, one of format 3 adds that one's timestamp.
        stream.timestamp = field if kind == 0 else (stream.timestamp + field) % _WRAP
        if kind < 2:
            stream.size = int.from_bytes(data[place + 3 : place + 6], "big")
            stream.kind = data[place + 6]
        if kind == 0:
            stream.stream = int.from_bytes(data[place + 7 : place + 11], "little")
        if stream.size > self._most_bytes:
            raise TooLargeError(f"a message of {stream.size} bytes")
        stream.is_open = True

    def _continue_chunk(self, stream: _ChunkStream) -> Message | None:
        """Read the available bytes of the current chunk, and of those that continue its message."""
        place = self._place
        payload = self._buffer[place : place + self._left]
        self._place += len(payload)
        self._left -= len(payload)
        self._open(len(payload))
        if self._left == 0:
            self._current = None
        if len(payload) < stream.size:
            stream.payload += payload
            if self._current is None and len(stream.payload) < stream.size:
                self._take_continuations(stream)
            if len(stream.payload) < stream.size:
                return None
            payload = bytes(stream.payload)
            stream.payload.clear()
        self._open_bytes -= stream.size
        stream.is_open = False
        return Message(stream.kind, stream.stream, stream.timestamp, payload)

    def _take_continuations(self, stream: _ChunkStream) -> None:
        """Join all available chunks that continue a message at once: a key frame has thousands."""
        data, place = self._buffer, self._place
        number = data[place] & 0x3F if place < len(data) else 0
        if number < 2 or self._streams.get(number) is not stream:
            return
        header = bytes((0xC0 | number,))
        if stream.is_extended:
            if self._repeats_timestamps is None:
                return
            header += stream.field.to_bytes(4, "big") if self._repeats_timestamps else b""
        missing, step = stream.size - len(stream.payload), self._chunk_bytes + len(header)
        chunks = -(-missing // self._chunk_bytes)
        end = place + missing + chunks * len(header)
        if end > len(data) or chunks > _MOST_AT_ONCE:
            # Not the last one, which is shorter than the others.
            chunks = min(chunks - 1, (len(data) - place) // step, _MOST_AT_ONCE)
            end = place + chunks * step
        for index in range(len(header)):
            if data[place + index : end : step] != header[index : index + 1] * chunks:
                # Another chunk stream is interleaved.
                return
        pieces = [data[at + len(header) : min(at + step, end)] for at in range(place, end, step)]
        self._open(end - place - chunks * len(header))
        stream.payload += b"".join(pieces)
        self._place = end

    def _open(self, size: int) -> None:
        """Count further bytes of incomplete messages."""
        self._open_bytes += size
        if self._open_bytes > self._most_bytes:
            raise TooLargeError(f"more than {self._most_bytes} bytes of incomplete messages")

    def _control(self, message: Message) -> None:
        """Apply a message that changes how chunks are read."""
        self._control_messages += 1
        if self._control_messages > CONTROL_MESSAGES:
            raise TooLargeError("too many changes of the chunk size in a row")
        if len(message.payload) != 4:
            raise MalformedError("a control message of the wrong size")
        value = int.from_bytes(message.payload, "big")
        if message.kind == ABORT:
            stream = self._streams.get(value)
            if stream is not None and stream.is_open:
                self._open_bytes -= len(stream.payload)
                stream.payload.clear()
                stream.is_open = False
            return
        # RTMP 1.0 §5.4.1: at least 1, and the first bit is 0. Nothing is reserved for it.
        if not 0 < value < 1 << 31:
            raise MalformedError(f"chunks of {value} bytes")
        self._chunk_bytes = value


def _is_in_a_row(chunks: bytes, size: int, header: int) -> bool:
    """Return whether all chunks of a message, except the first, have headers of one byte."""
    headers = chunks[size :: size + 1]
    return len(headers) < _MOST_AT_ONCE and headers == bytes((header,)) * len(headers)


def write_message(chunk_stream: int, message: Message, chunk_bytes: int) -> bytes:
    """Write a message whole, with a header of format 0 and without anything in between.

    Args:
        chunk_stream: a number from 2 to 63.
        chunk_bytes: chunk size that was announced to the peer.
    """
    extended = message.timestamp.to_bytes(4, "big") if message.timestamp >= _EXTENDED else b""
    head = bytes((chunk_stream,)) + min(message.timestamp, _EXTENDED).to_bytes(3, "big")
    head += (
        len(message.payload).to_bytes(3, "big")
        + bytes((message.kind,))
        + message.stream.to_bytes(4, "little")
    )
    pieces = [head, extended, message.payload[:chunk_bytes]]
    for start in range(chunk_bytes, len(message.payload), chunk_bytes):
        pieces += (bytes((0xC0 | chunk_stream,)), extended, message.payload[start : start + chunk_bytes])
    return b"".join(pieces)

"""The frames in which the logs of several live channels go over one connection.

A frame is its length in four bytes, the length of the channel's name in two, the name, the entry's position
in eight, all big-endian, and then the entry as :mod:`packager.window.log_encoding` writes it. The entries of
a snapshot share the position of the last entry that is in it. A frame without an entry tells that there is no
such channel any more. The other way go frames with an `Audience`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from media.errors import MalformedError
from packager.window.log import Entry
from packager.window.log_encoding import LogReader, encode

_LENGTH = struct.Struct(">I")
_NAME = struct.Struct(">H")
_POSITION = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Audience:
    """Who asks for a channel where it is served.

    Attributes:
        waiting: how many requests wait.
        viewers: address and user agent's checksum of who asked for a playlist since the last report.
    """

    waiting: int
    viewers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the connection over which the logs of live channels go.

    Attributes:
        channel: the channel's name.
        position: of the entry in the channel's log.
        message: what it carries; empty for a channel that is gone.
    """

    channel: str
    position: int
    message: bytes


def write_entry(channel: str, position: int, entry: Entry) -> bytes:
    """Write a frame with an entry."""
    return _write(channel, position, encode(entry))


def write_gone(channel: str) -> bytes:
    """Write the frame which tells that a channel is gone."""
    return _write(channel, 0, b"")


def write_audience(channel: str, audience: Audience) -> bytes:
    """Write a frame with an audience."""
    return _write(channel, 0, msgspec.msgpack.encode(audience))


def _write(channel: str, position: int, message: bytes) -> bytes:
    name = channel.encode()
    length = _NAME.size + len(name) + _POSITION.size + len(message)
    return b"".join((_LENGTH.pack(length), _NAME.pack(len(name)), name, _POSITION.pack(position), message))


_AUDIENCE = msgspec.msgpack.Decoder(Audience)


def read_audience(message: bytes) -> Audience:
    """Read an audience.

    Raises:
        MalformedError: it is none.
    """
    try:
        return _AUDIENCE.decode(message)
    except msgspec.DecodeError as error:
        raise MalformedError(f"no audience: {error}") from error


class EntryReader:
    """Reads the entries that frames carry."""

    def __init__(self) -> None:
        self._reader = LogReader()

    def read(self, message: bytes) -> Entry:
        """Read the entry of one frame.

        Raises:
            MalformedError: it is no whole entry.
        """
        self._reader.receive_data(message)
        found = list(self._reader.entries())
        self._reader.receive_eof()
        if len(found) != 1:
            raise MalformedError(f"a frame with {len(found)} entries")
        return found[0]


class FrameReader:
    """Reads frames out of bytes that come in any pieces.

    Args:
        frame_bytes: longest frame that is read.
    """

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Take more bytes."""
        self._buffer += data

    def frames(self) -> Iterator[Frame]:
        """Give the frames that have come whole.

        Raises:
            MalformedError: the bytes are no frames.
        """
        buffer, begin = self._buffer, 0
        try:
            while len(buffer) - begin >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, begin)
                if length > self._frame_bytes:
                    raise MalformedError(f"a frame of {length} bytes")
                end = begin + _LENGTH.size + length
                if len(buffer) < end:
                    return
                body = bytes(memoryview(buffer)[begin + _LENGTH.size : end])
                begin = end
                yield _frame(body)
        finally:
            del buffer[:begin]


def _frame(body: bytes) -> Frame:
    try:
        (size,) = _NAME.unpack_from(body)
        behind = _NAME.size + size
        (position,) = _POSITION.unpack_from(body, behind)
        return Frame(body[_NAME.size : behind].decode(), position, body[behind + _POSITION.size :])
    except (struct.error, UnicodeDecodeError) as error:
        raise MalformedError(f"no frame: {error}") from error

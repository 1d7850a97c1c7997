"""Frames that carry the logs of live channels, stations and event channels over one connection.

A frame is its length in four bytes, the length of the log's name in two, the name, the entry's position in
eight, all big-endian, and then the entry as logs of that kind write it. The name is the kind and the
channel's own name, such as ``live/demo``. The entries of a snapshot share the position of the last entry that
is in it. A frame without an entry means that there is no such log any more. Frames in the other direction
have the followers' reports.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from media.errors import MalformedError

_LENGTH = struct.Struct(">I")
_NAME = struct.Struct(">H")
_POSITION = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class LogFrame:
    """A frame of one log.

    Attributes:
        position: the entry's position in the log.
        message: the encoded entry; empty for a log that is gone.
    """

    log: str
    position: int
    message: bytes


def write_frame(log: str, position: int, message: bytes) -> bytes:
    """Write a frame.

    Args:
        position: of the entry in it; any number for a report.
        message: an entry or a report, which isn't empty.
    """
    name = log.encode()
    length = _NAME.size + len(name) + _POSITION.size + len(message)
    return b"".join((_LENGTH.pack(length), _NAME.pack(len(name)), name, _POSITION.pack(position), message))


def write_gone(log: str) -> bytes:
    """Write the frame for a log that is gone."""
    return write_frame(log, 0, b"")


class LogFrameReader:
    """Reads frames out of bytes that come in any pieces.

    Args:
        frame_bytes: longest frame that is read.
    """

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Buffer more bytes."""
        self._buffer += data

    def frames(self) -> Iterator[LogFrame]:
        """Yield the complete frames.

        Raises:
            MalformedError: the bytes are no frames.
        """
        buffer, begin = self._buffer, 0
        try:
            while len(buffer) - begin >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, begin)
                if length > self._frame_bytes:
                    raise MalformedError(f"a frame of {length} bytes: more than {self._frame_bytes}")
                end = begin + _LENGTH.size + length
                if len(buffer) < end:
                    return
                body = bytes(memoryview(buffer)[begin + _LENGTH.size : end])
                begin = end
                yield _frame(body)
        finally:
            del buffer[:begin]


def _frame(body: bytes) -> LogFrame:
    try:
        (size,) = _NAME.unpack_from(body)
        behind = _NAME.size + size
        (position,) = _POSITION.unpack_from(body, behind)
        return LogFrame(body[_NAME.size : behind].decode(), position, body[behind + _POSITION.size :])
    except (struct.error, UnicodeDecodeError) as error:
        raise MalformedError(f"a frame can't be read: {error}") from error

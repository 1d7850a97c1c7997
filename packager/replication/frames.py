"""The frames in which several logs go over one connection: of live channels, stations and event channels.

A frame is its length in four bytes, the length of the log's name in two, the name, the entry's position in
eight, all big-endian, and then the entry as logs of that kind write it. The name is the kind and the
channel's own name, such as ``live/demo``. The entries of a snapshot share the position of the last entry that
is in it. A frame without an entry tells that there is no such log any more. The other way go frames with what
the followers report.
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
    """One message of the connection over which the logs of live channels go.

    Attributes:
        position: of the entry in the log.
        message: what it carries; empty for a log that is gone.
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
    """Write the frame which tells that a log is gone."""
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
        """Take more bytes."""
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
                    raise MalformedError(f"a frame of {length} bytes")
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
        raise MalformedError(f"no frame: {error}") from error

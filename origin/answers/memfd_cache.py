"""Copies of media in memory files (memfd), which the kernel sends without copying their bytes again.

Bytes of this process are copied into the kernel's buffers by each `send`. Bytes of a file in memory (memfd)
aren't: sendfile puts the file's pages onto each socket.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from origin.answers.pieces import READ_LIMIT
from origin.http.byte_ranges import SelectedRange
from packager.bounded_dict import SizedDict

Media = bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class MemfdLimits:
    """Limits of the copies of requested media in files in memory.

    Attributes:
        copies: how many media are remembered as asked for; as many descriptors their copies take at most.
        media_bytes: bytes of all copies; what alone has more isn't copied.
    """

    copies: int = 64
    media_bytes: int = 32 << 20


class MemfdCopy:
    """Bytes in a file that has no name; closed when nobody holds this any more.

    Args:
        size: in bytes.
        pieces: the bytes, in pieces.
        data: these bytes in this process's memory; None where they don't stay there as long.

    Attributes:
        span: all its bytes.
        data: its bytes in this process's memory, which wires that encrypt send; None where they aren't there.

    Raises:
        OSError: there is no descriptor left, or no room.
        EOFError: the pieces have fewer bytes.
    """

    __slots__ = ("data", "fd", "span")

    def __init__(self, size: int, pieces: Iterable[Media], data: Media | None = None) -> None:
        self.data = data
        self.span = SelectedRange(0, size - 1)
        self.fd = -1
        self.fd = os.memfd_create("headwater-media", os.MFD_CLOEXEC)
        # Written: a mapping would take each page from the system empty, one by one.
        at = 0
        for piece in pieces:
            written = os.pwrite(self.fd, piece, at)
            if written < len(piece):
                raise OSError(errno.ENOSPC, "no room for a copy in memory")
            at += written
        if at < size:
            raise EOFError(f"the file ends at {at}, before {size}")

    def descriptor(self) -> int:
        """Return the descriptor of the file."""
        return self.fd

    async def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`."""
        return os.pread(self.fd, length, offset)

    def acquire(self) -> None:
        """Nothing to do: a reference to this keeps the file open."""

    def release(self) -> None:
        """Nothing to release."""

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class MemfdCache:
    """Copies of the most recently requested media; a response holds its copy until the end."""

    def __init__(self, limits: MemfdLimits | None = None) -> None:
        self._limits = limits or MemfdLimits()
        # By identity: media are the same objects for all who ask, and held here, so that they stay so.
        self._known = SizedDict[int, tuple[Media, MemfdCopy | None]](
            self._limits.copies, self._limits.media_bytes, _copied_bytes
        )

    def of(self, data: Media) -> MemfdCopy | None:
        """Return the copy of what is asked for.

        Returns:
            None where sending from this process's memory is better: what is short, large, or asked for
            the first time.
        """
        known = self._known.use(id(data))
        if known is not None and known[1] is not None:
            return known[1]
        if not READ_LIMIT < len(data) <= self._limits.media_bytes:
            return None
        copy = None if known is None else _copy(data)
        self._known[id(data)] = data, copy
        return copy


def _copied_bytes(known: tuple[Media, MemfdCopy | None]) -> int:
    return 0 if known[1] is None else len(known[0])


def _copy(data: Media) -> MemfdCopy | None:
    try:
        return MemfdCopy(len(data), (data,), data)
    except OSError:
        # All allowed descriptors are in use, or there is no room: the media are sent without a copy.
        return None

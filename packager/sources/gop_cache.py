"""A cache of a stream's headers and newest groups of pictures, for an ffmpeg that joins in the middle."""

from __future__ import annotations

from collections import deque

from media.stream_reader import CLOCK_RATE, StreamChunk
from packager.sources.limits import DEFAULT_LIMITS, GopCacheLimits


class GopCache:
    """Keeps the headers and newest groups of pictures of a stream.

    Args:
        seconds: least media time to keep, if the stream has times; the newest group is always kept.
        limits: how much is kept at most.
    """

    def __init__(self, seconds: float = 0.0, limits: GopCacheLimits = DEFAULT_LIMITS.pump.gop_cache) -> None:
        self._max_bytes = limits.kept_bytes
        self._seconds = seconds
        self._headers: deque[bytes] = deque(maxlen=limits.headers)
        self._groups: deque[_Group] = deque()
        self._bytes = 0

    @property
    def has_access_point(self) -> bool:
        """Whether there is an access point at which decoding can begin."""
        return bool(self._groups)

    @property
    def clock(self) -> int | None:
        """Media time of the first kept access point, in ticks; None if unknown."""
        return self._groups[0].clock if self._groups else None

    def receive(self, piece: StreamChunk) -> None:
        """Add the stream's next chunk."""
        if piece.changes:
            self.clear()
        if piece.header and piece.data not in self._headers:
            self._headers.append(piece.data)
        if piece.access:
            self._groups.append(_Group(piece.clock))
        if self._groups:
            self._groups[-1].pieces.append(piece.data)
            self._groups[-1].size += len(piece.data)
            self._bytes += len(piece.data)
        while self._groups and (self._bytes > self._max_bytes or self._is_oldest_unneeded()):
            self._bytes -= self._groups.popleft().size

    def _is_oldest_unneeded(self) -> bool:
        """Return whether enough is kept without the oldest group."""
        if len(self._groups) < 2 or not self._seconds:
            return len(self._groups) > 1
        second, newest = self._groups[1].clock, self._groups[-1].clock
        if second is None or newest is None:
            return False
        return newest - second >= self._seconds * CLOCK_RATE

    def clear(self) -> None:
        """Forget everything, before another stream."""
        self._headers.clear()
        self._groups.clear()
        self._bytes = 0

    def beginning(self) -> bytes:
        """Return what a new decoder needs first."""
        return b"".join([*self._headers, *(data for group in self._groups for data in group.pieces)])


class _Group:
    """A group of pictures: chunks from an access point on, which is at ``clock``."""

    def __init__(self, clock: int | None) -> None:
        self.clock = clock
        self.pieces: list[bytes] = []
        self.size = 0

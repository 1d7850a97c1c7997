"""A cache of a stream's headers and newest groups of pictures, for an ffmpeg that joins in the middle."""

from __future__ import annotations

import math
from collections import deque

from media.stream_reader import CLOCK_RATE, StreamChunk
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits


class GopCache:
    """Keeps the headers and newest groups of pictures of a stream.

    Args:
        seconds: least media time to keep, if the stream has times; the newest group is always kept.
        limits: how much is kept at most.
        more_seconds: least media time to keep for readers that begin with earlier groups.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        limits: SourceLimits = DEFAULT_LIMITS,
        more_seconds: float = 0.0,
    ) -> None:
        self._max_bytes = limits.gop_bytes
        self._seconds = seconds
        self._more_seconds = more_seconds
        self._headers: deque[StreamChunk] = deque(maxlen=limits.gop_headers)
        self._groups: deque[_PictureGroup] = deque()
        self._bytes = 0

    @property
    def has_access_point(self) -> bool:
        """Whether there is an access point at which decoding can begin."""
        return bool(self._groups)

    def has_since(self, oldest: float) -> bool:
        """Return whether an access point came at or behind a moment."""
        return bool(self._given(oldest))

    def clock(self, oldest: float | None = None) -> int | None:
        """Media time of the first access point of such a beginning, in ticks; None if unknown."""
        groups = self._given(oldest)
        return groups[0].clock if groups else None

    def came(self, oldest: float | None = None) -> float | None:
        """When the first access point of such a beginning came; None where there is none."""
        groups = self._given(oldest)
        return groups[0].came if groups else None

    def soonest_begin(self, oldest: float | None = None) -> float | None:
        """Return when its first access point would have come, had it come as soon as the soonest one.

        The first data of a connection, and of a burst, come late. None where there is none.
        """
        groups = self._given(oldest)
        first = groups[0].clock if groups else None
        if first is None:
            return groups[0].came if groups else None
        clocks = ((one.came, one.clock) for one in groups if one.clock is not None)
        return min(came - (clock - first) / CLOCK_RATE for came, clock in clocks)

    def push(self, piece: StreamChunk, now: float = -math.inf) -> None:
        """Add the stream's next chunk, which came at this moment of a clock."""
        if piece.changes:
            self.clear()
        elif piece.replaces:
            self._forget_headers()
        if piece.header and all(
            (one.data, one.packets) != (piece.data, piece.packets) for one in self._headers
        ):
            self._headers.append(piece)
        if piece.access:
            self._groups.append(_PictureGroup(piece.clock, now))
        if self._groups:
            group, memory = self._groups[-1], piece.memory
            group.chunks.append(piece)
            group.memory += memory
            self._bytes += memory
        if piece.access or self._bytes > self._max_bytes:
            self._trim()

    def _forget_headers(self) -> None:
        """Forget all headers, those among the pictures, too; readers begin anew with what is kept so far."""
        self._headers.clear()
        if self._groups and (newest := self._groups[-1].clock) is not None:
            self._more_seconds += (newest - (self._groups[0].clock or newest)) / CLOCK_RATE
        for group in self._groups:
            group.chunks = [one for one in group.chunks if not one.header]
            self._bytes -= group.memory
            group.memory = sum([one.memory for one in group.chunks])
            self._bytes += group.memory

    def _trim(self) -> None:
        """Forget the oldest groups that aren't needed, or are too large together."""
        kept = max(self._seconds, self._more_seconds)
        while self._groups and (self._bytes > self._max_bytes or self._is_unneeded(0, kept)):
            self._bytes -= self._groups.popleft().memory

    def _is_unneeded(self, index: int, seconds: float) -> bool:
        """Return whether the groups behind one are as long as wanted."""
        following = index + 1
        if following >= len(self._groups) or not seconds:
            return following < len(self._groups)
        second, newest = self._groups[following].clock, self._groups[-1].clock
        if second is None or newest is None:
            return False
        return newest - second >= seconds * CLOCK_RATE

    def _given(self, oldest: float | None) -> list[_PictureGroup]:
        if oldest is not None:
            return [group for group in self._groups if group.came >= oldest]
        begin = 0
        while self._is_unneeded(begin, self._seconds):
            begin += 1
        return list(self._groups)[begin:]

    def clear(self) -> None:
        """Forget everything, before another stream."""
        self._headers.clear()
        self._groups.clear()
        self._bytes = 0

    def beginning(self, oldest: float | None = None) -> list[StreamChunk]:
        """Return what a new decoder needs first.

        Args:
            oldest: when the first access point came at the soonest; where none came since, only the headers
                are given. None: the newest that are long enough.
        """
        return [*self._headers, *(chunk for group in self._given(oldest) for chunk in group.chunks)]


class _PictureGroup:
    """A group of pictures: chunks from an access point on, which is at ``clock``, and came at a moment."""

    def __init__(self, clock: int | None, came: float) -> None:
        self.clock = clock
        self.came = came
        self.chunks: list[StreamChunk] = []
        self.memory = 0

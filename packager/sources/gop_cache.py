"""A cache of a stream's headers and newest groups of pictures, for an ffmpeg that joins in the middle."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator

from media.stream_reader import CLOCK_RATE, StreamChunk, UnwrittenBytes
from packager.sources.limits import DEFAULT_LIMITS, GopCacheLimits


class GopCache:
    """Keeps the headers and newest groups of pictures of a stream.

    Args:
        seconds: least media time to keep, if the stream has times; the newest group is always kept.
        limits: how much is kept at most.
        more_seconds: least media time to keep for who asks for what came earlier, too.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        limits: GopCacheLimits = DEFAULT_LIMITS.pump.gop_cache,
        more_seconds: float = 0.0,
    ) -> None:
        self._max_bytes = limits.kept_bytes
        self._max_unwritten = limits.unwritten_tags
        self._seconds = seconds
        self._more_seconds = more_seconds
        self._headers: deque[bytes] = deque(maxlen=limits.headers)
        self._groups: deque[_PictureGroup] = deque()
        self._bytes = self._unwritten = 0

    @property
    def has_access_point(self) -> bool:
        """Whether there is an access point at which decoding can begin."""
        return bool(self._groups)

    def clock(self, oldest: float | None = None) -> int | None:
        """Media time of the first access point of such a beginning, in ticks; None if unknown."""
        groups = self._given(oldest)
        return groups[0].clock if groups else None

    def push(self, piece: StreamChunk, now: float = -math.inf) -> None:
        """Add the stream's next chunk, which came at this moment of a clock."""
        if piece.changes:
            self.clear()
        if piece.header and piece.data not in self._headers:
            self._headers.append(piece.data)
        if piece.access:
            self._groups.append(_PictureGroup(piece.clock, now))
        if self._groups:
            self._keep(piece, self._groups[-1])
        kept = max(self._seconds, self._more_seconds)
        while self._groups and (self._bytes > self._max_bytes or self._is_unneeded(0, kept)):
            oldest = self._groups.popleft()
            self._bytes -= oldest.size
            self._unwritten -= oldest.unwritten

    def _keep(self, piece: StreamChunk, group: _PictureGroup) -> None:
        """Add a chunk to a group; its bytes are made now where too many of others aren't made yet."""
        count = 0 if isinstance(piece.content, bytes) else len(piece.tags)
        if self._unwritten + count > self._max_unwritten:
            group.contents.append(piece.data)
        else:
            group.contents.append(piece.content)
            group.unwritten += count
            self._unwritten += count
        group.size += piece.size
        self._bytes += piece.size

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
        self._bytes = self._unwritten = 0

    def beginning(self, oldest: float | None = None) -> bytes:
        """Return what a new decoder needs first.

        Args:
            oldest: when the first access point came at the soonest; where none came since, only the headers
                are given. None: the newest that are long enough.
        """
        groups = self._given(oldest)
        return b"".join(itertools.chain(self._headers, *(group.pieces() for group in groups)))


class _PictureGroup:
    """A group of pictures: chunks from an access point on, which is at ``clock``, and came at a moment."""

    def __init__(self, clock: int | None, came: float) -> None:
        self.clock = clock
        self.came = came
        self.contents: list[bytes | UnwrittenBytes] = []
        self.size = 0
        self.unwritten = 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the group of pictures in pieces."""
        for content in self.contents:
            if isinstance(content, bytes):
                yield content
            else:
                yield from content.pieces()

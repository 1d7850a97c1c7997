"""The lines of a live playlist's older segments, which never change: each is made once.

They are kept joined in blocks, and these as one text, which stays the same object until the next block is
whole or the oldest begins to leave: what was made of it, a compression say, stays true as long. So a playlist
of a day costs no more than one of an hour.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from media import m3u8
from packager.live.livesegment import LiveSegment
from packager.live.rendition import init_uri, segment_uri
from packager.live.window import Window

BLOCK = 256
"""Segments of a block; it begins with a number that this divides."""

MAPS_KEPT = 64
"""How many EXT-X-MAP are kept."""


def listed(
    segment: LiveSegment,
    extension: str,
    suffix: str,
    parts: Sequence[m3u8.Part] = (),
    *,
    finished: bool = True,
) -> m3u8.Segment:
    """Say what a playlist says of a segment.

    Args:
        segment: it.
        extension: how its name ends.
        suffix: put behind every URI.
        parts: those of its parts that are listed.
        finished: whether all of it is there.
    """
    init = init_uri(segment.timeline)
    return m3u8.Segment(
        uri=segment_uri(segment.number, extension) + suffix if finished else None,
        duration=segment.duration,
        map=None if init is None else _map(init + suffix),
        parts=parts,
        discontinuity=segment.discontinuity,
        program_date_time=segment.program_date_time,
        gap=segment.gap,
    )


@functools.lru_cache(maxsize=MAPS_KEPT)
def _map(uri: str) -> m3u8.Map:
    return m3u8.Map(uri)


class _Lines(NamedTuple):
    """Lines of one segment."""

    number: int
    text: str


class _Block(NamedTuple):
    """A whole block of what lasts: its first segment, and how many bytes it takes."""

    number: int
    size: int


class History:
    """The older lines of one rendition's playlist with one suffix: whole blocks, some before, some behind."""

    def __init__(self) -> None:
        self._head: deque[_Lines] = deque()
        self._blocks: deque[_Block] = deque()
        self._lasting = b""
        self._tail: deque[_Lines] = deque()
        self._next = -1
        self._map: m3u8.Map | None = None

    def older(self, window: Window, count: int, suffix: str) -> m3u8.Older:
        """Give the lines of a window's first segments.

        Args:
            window: always the same rendition's.
            count: of how many segments; none of them is listed with its parts any more, and it never goes
                back by more than what has left the window.
            suffix: always the same.
        """
        if not count:
            return m3u8.Older()
        opening = window.listed[0]
        first = opening.number
        if self._next < first:
            self._clear(first)
        self._grow(window, first, count, suffix)
        self._evict(window, first, suffix)
        head, tail = ([one.text for one in lines] for lines in (self._head, self._tail))
        # The first one says its map, which went with the segments before it.
        (head or tail)[0] = "\n".join(listed(opening, window.extension, suffix).lines(None))
        return m3u8.Older(head, self._lasting, tail, self._map)

    def _clear(self, first: int) -> None:
        """Begin anew: everything that was listed has left."""
        self._head.clear()
        self._blocks.clear()
        self._tail.clear()
        self._lasting, self._next, self._map = b"", first, None

    def _grow(self, window: Window, first: int, count: int, suffix: str) -> None:
        """Make the lines of the segments that are new."""
        # By index: what is new stands at the end, and walking there is what a long window would cost.
        for index in range(self._next - first, count):
            segment = window.listed[index]
            said = listed(segment, window.extension, suffix)
            self._tail.append(_Lines(segment.number, "\n".join(said.lines(self._map))))
            self._map = said.map or self._map
            self._next = segment.number + 1
            if self._next % BLOCK == 0:
                self._settle()

    def _settle(self) -> None:
        """A block's last segment is there: a whole one lasts, a part of one is what comes first."""
        if len(self._tail) == BLOCK:
            text = "".join(f"{one.text}\n" for one in self._tail).encode()
            self._blocks.append(_Block(self._tail[0].number, len(text)))
            self._lasting += text
        else:
            self._head = self._tail
        self._tail = deque()

    def _evict(self, window: Window, first: int, suffix: str) -> None:
        """Let go the lines of what has left; a block that has begun to leave is taken apart."""
        while self._blocks and self._blocks[0].number <= first:
            block = self._blocks.popleft()
            self._lasting = self._lasting[block.size :]
            self._head = deque(self._again(window, first, block.number + BLOCK, suffix))
        for lines in (self._head, self._tail):
            while lines and lines[0].number < first:
                lines.popleft()

    @staticmethod
    def _again(window: Window, first: int, end: int, suffix: str) -> Iterator[_Lines]:
        """Make the lines from the first segment up to the end of a block once more."""
        before: m3u8.Map | None = None
        for segment in itertools.islice(window.listed, max(end - first, 0)):
            said = listed(segment, window.extension, suffix)
            yield _Lines(segment.number, "\n".join(said.lines(before)))
            before = said.map or before

"""The lines of a live playlist's older segments, which never change: each is made once.

They are kept joined in blocks, which are the same objects from one playlist to the next, with what was made
of them, such as a compression. So a playlist of a day costs no more than one of an hour.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from media.hls.media_playlist import Map, Older, Part, Segment
from media.hls.precompressed_text import FilledText, SharedText, TextTemplate
from packager.window.limits import DEFAULT_LIMITS
from packager.window.model import LiveSegment
from packager.window.rendition import MAP_EXTENSION, init_uri, segment_uri
from packager.window.window import Window

MAPS_KEPT = 64
"""How many EXT-X-MAP are kept."""


def playlist_segment(
    segment: LiveSegment,
    extension: str,
    suffix: str,
    parts: Sequence[Part] = (),
    *,
    finished: bool = True,
) -> Segment:
    """Make a playlist's entry for a segment.

    Args:
        suffix: put behind every URI.
        parts: the parts of the segment that are listed.
        finished: whether the segment is complete.
    """
    init = init_uri(segment.timeline)
    return Segment(
        uri=segment_uri(segment.number, extension) + suffix if finished else None,
        duration=segment.duration,
        map=None if init is None else _map(init + suffix),
        parts=parts,
        discontinuity=segment.discontinuity,
        program_date_time=segment.program_date_time,
        gap=segment.gap,
    )


@functools.lru_cache(maxsize=MAPS_KEPT)
def _map(uri: str) -> Map:
    return Map(uri)


class _Lines(NamedTuple):
    """The lines of one segment in a media playlist."""

    number: int
    text: str


class _Block(NamedTuple):
    """The lines of some segments of a media playlist, which are written once.

    Attributes:
        number: of the first one.
        template: the lines with places for a suffix behind their addresses.
    """

    number: int
    text: SharedText
    template: TextTemplate


class History:
    """The older lines of one rendition's playlist: whole blocks, some lines before, some behind.

    Args:
        block: segments of a block, which begins with a number that this divides.
    """

    def __init__(self, block: int = DEFAULT_LIMITS.block_segments) -> None:
        self._block = block
        self._head: deque[_Lines] = deque()
        self._blocks: deque[_Block] = deque()
        self._tail: deque[_Lines] = deque()
        self._next = -1
        self._map: Map | None = None

    def keep_up(self, window: Window, count: int) -> None:
        """Make the lines that are lacking of a window's first segments, and let those go that have left.

        Args:
            count: of how many segments; none of them is listed with its parts any more, and it never goes
                back by more than what has left the window.
        """
        if not count:
            return
        first = window.listed[0].number
        if self._next < first:
            self._clear(first)
        self._grow(window, first, count)
        self._evict(window, first)

    def older(self, window: Window, count: int, suffix: str) -> Older:
        """Return the lines of a window's first segments.

        Args:
            window: as for ``keep_up``.
            suffix: put behind every URI.
        """
        if not count:
            return Older()
        self.keep_up(window, count)
        head, tail = ([one.text for one in lines] for lines in (self._head, self._tail))
        # The first one says its map, which went with the segments before it.
        opening = playlist_segment(window.listed[0], window.extension, "")
        (head or tail)[0] = "\n".join(opening.lines(None))
        if not suffix:
            return Older(head, [block.text for block in self._blocks], tail, self._map)
        carried = Suffix(window.extension, suffix)
        return Older(
            [carried.behind(f"{line}\n".encode()).decode()[:-1] for line in head],
            [FilledText(block.template, carried.replacements) for block in self._blocks],
            [carried.behind(f"{line}\n".encode()).decode()[:-1] for line in tail],
            self._map and _map(self._map.uri + suffix),
        )

    def _clear(self, first: int) -> None:
        """Clear the cache, as all its segments have left the list."""
        self._head.clear()
        self._blocks.clear()
        self._tail.clear()
        self._next, self._map = first, None

    def _grow(self, window: Window, first: int, count: int) -> None:
        """Make the lines of the segments that are new."""
        start = self._next - first
        # By index: what is new stands at the end, and walking there is what a long window would cost. Of many
        # that is the other way round.
        few = count - start < self._block
        segments = (
            (window.listed[index] for index in range(start, count))
            if few
            else itertools.islice(window.listed, start, count)
        )
        for segment in segments:
            said = playlist_segment(segment, window.extension, "")
            self._tail.append(_Lines(segment.number, "\n".join(said.lines(self._map))))
            self._map = said.map or self._map
            self._next = segment.number + 1
            if self._next % self._block == 0:
                self._settle(window.extension)

    def _settle(self, extension: str) -> None:
        """Close a block at its last segment: a whole block is kept, an incomplete one begins the list."""
        if len(self._tail) == self._block:
            text = SharedText.of("".join(f"{one.text}\n" for one in self._tail).encode())
            template = TextTemplate(text)
            for end in _ends(extension):
                template.count(end)  # now, since a request needs all blocks at once
            self._blocks.append(_Block(self._tail[0].number, text, template))
        else:
            self._head = self._tail
        self._tail = deque()

    def _evict(self, window: Window, first: int) -> None:
        """Drop lines of segments that have left the list; a block that has begun to leave is split."""
        while self._blocks and self._blocks[0].number <= first:
            block = self._blocks.popleft()
            self._head = deque(self._again(window, first, block.number + self._block))
        for lines in (self._head, self._tail):
            while lines and lines[0].number < first:
                lines.popleft()

    @staticmethod
    def _again(window: Window, first: int, end: int) -> Iterator[_Lines]:
        """Make the lines from the first segment up to the end of a block once more."""
        before: Map | None = None
        for segment in itertools.islice(window.listed, max(end - first, 0)):
            said = playlist_segment(segment, window.extension, "")
            yield _Lines(segment.number, "\n".join(said.lines(before)))
            before = said.map or before


def _ends(extension: str) -> tuple[bytes, bytes]:
    """Return the ends of lines with an address: of segments, and in quotes of EXT-X-MAP."""
    return f".{extension}\n".encode(), f'{MAP_EXTENSION}"\n'.encode()


class Suffix:
    """Appends a suffix to the addresses in lines that are written already.

    That costs a hundredth of writing them anew, and each client may choose another suffix.

    Attributes:
        replacements: the ends of lines that have an address, and the ends that replace them.
    """

    def __init__(self, extension: str, suffix: str) -> None:
        # Of all lines only those with an address end so.
        segment, quoted = _ends(extension)
        put = suffix.encode()
        self.replacements = (
            (segment, segment[:-1] + put + b"\n"),
            (quoted, quoted[:-2] + put + b'"\n'),
        )

    def behind(self, lines: bytes) -> bytes:
        """Return whole lines with the suffix."""
        for end, longer in self.replacements:
            lines = lines.replace(end, longer)
        return lines

"""Finds the segments of a rendition that have left its playlist, on disk: in folders of 512 numbers.

The number of such a block follows from that of a segment; the blocks of a span are found by their dates,
which rise until the clock is set back. All of it blocks.
"""

from __future__ import annotations

import contextlib
import errno
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from packager.dvr import index
from packager.dvr.index import INDEX, IndexLine
from packager.dvr.limits import DEFAULT_LIMITS, DvrLimits
from packager.dvr.outline_cache import OutlineReader
from packager.dvr.own_files import MAX_INIT_BYTES, MOVING, MOVING_CONTENT
from packager.dvr.restore_plan import StoredRendition
from packager.dvr.stored_blocks import Stamp, StoredBlocks, segments_in, timelines_of
from packager.dvr.stored_outlines import OutlineStore
from packager.past.coded_outlines import NotedOutline
from packager.past.outlines import BLOCK_SEGMENTS, DISCONTINUITY, MEDIA, Outline
from packager.past.stepped_past import numbered, within
from packager.safe_files import DataFolder, OpenFolder
from packager.threads import SHARED_THREADS
from packager.window.model import LiveSegment

MOST_UNPLAYED = 16
"""So many of the newest blocks are tried in search of one that has media."""

MOST_OUTLINED = 1 << 15
"""So many blocks have outlines, the newest: a year of segments of two seconds."""


class _StampedBlock(NamedTuple):
    """A block by its first number, in some state of its index."""

    first: int
    stamp: Stamp


class PastBlocks:
    """Finds segments of one rendition; see `PastSegments`. Several threads may call its methods.

    Args:
        place: the rendition's folder, which has the folder of the blocks.
        limits: how much of the blocks stays in memory.

    Attributes:
        threads: the threads in which its methods are to be called.
        blocks: the blocks as they are on disk.
    """

    threads = SHARED_THREADS

    def __init__(self, place: DataFolder | Path, limits: DvrLimits = DEFAULT_LIMITS) -> None:
        rendition = DataFolder.at(place)
        self.blocks = StoredBlocks(rendition, limits)
        self._outlines = OutlineReader[_StampedBlock](
            OutlineStore.on_disk(rendition.parent),
            rendition.name,
            str(self.blocks.place),
            lambda block: block.stamp[1],
            self._made,
        )

    def place_of(self, segment: LiveSegment) -> str:
        """Return the path of a segment's file."""
        number = segment.number
        return f"{self.blocks.place}/{number // BLOCK_SEGMENTS}/{self.blocks.name_of(number)}"

    def link(self, number: int, target: OpenFolder) -> None:
        """Link a segment's file into a folder elsewhere, unless it is gone.

        Raises:
            OSError: it can't be linked.
        """
        name = self.blocks.name_of(number)
        with contextlib.suppress(FileNotFoundError), self.blocks.folder(number // BLOCK_SEGMENTS) as block:
            block.link(name, target, name)

    def newest(self) -> StoredRendition:
        """Read the newest block that has media, with the lines behind it; nothing where none is found."""
        lines: dict[int, IndexLine] = {}
        for block in self.blocks.numbers()[: -MOST_UNPLAYED - 1 : -1]:
            with contextlib.suppress(OSError), self.blocks.folder(block) as folder:
                own = self.blocks.lines(folder, block)
                lines = {line.number: line for line in own} | lines
                if timelines := timelines_of(folder, own):
                    return StoredRendition(lines, timelines)
        return StoredRendition({}, {})

    def oldest(self) -> Fraction | None:
        """Return the date of the oldest segment in seconds since the epoch; None without any."""
        # Not as it was read before: the oldest block becomes shorter where room is needed.
        with contextlib.suppress(OSError), self.blocks.place.open() as past:
            found = (self.blocks.begin_now(past, one) for one in self.blocks.listed(past).numbers)
            oldest = next((date for date in found if date is not None), None)
            if oldest is None or (stepped := self.blocks.set_back(past)) is None:
                return oldest
            return min([oldest, *(Fraction(one.begin) for one in stepped.stretches[1:])])
        return None

    def find(self, number: int) -> LiveSegment | None:
        """Return a segment or gap by its media sequence number; None where there is none.

        Raises:
            OSError: it may still be put into the past.
        """
        is_moving = self._is_moving()
        segment = numbered(self.blocks.segments(number // BLOCK_SEGMENTS), number)
        if segment is None and is_moving:
            raise self._incomplete()
        return segment

    def discontinuities_before(self, number: int) -> int:
        """Return how many discontinuities there were before a segment; 0 where that isn't known."""
        blocks = self.blocks.numbers()
        for block in reversed(blocks[: bisect_right(blocks, number // BLOCK_SEGMENTS)][-2:]):
            with contextlib.suppress(OSError), self.blocks.folder(block) as folder:
                left = index.discontinuities_before(self.blocks.lines(folder, block), number)
                if left is not None:
                    return left
        return 0

    def init(self, number: int) -> bytes | None:
        """Return an init segment, by the number of its timeline.

        Raises:
            OSError: it may still be put into the past.
        """
        is_moving = self._is_moving()
        # Each block has those of its segments; the first one may have been removed meanwhile.
        first = number // BLOCK_SEGMENTS
        for block in (first, *(one for one in self.blocks.numbers()[:1] if one > first)):
            with contextlib.suppress(OSError), self.blocks.folder(block) as folder:
                return folder.read(f"init-{number}.mp4", MAX_INIT_BYTES)
        if is_moving:
            raise self._incomplete()
        return None

    def read(
        self, start: Fraction, end: Fraction | None, before: int, like: Sequence[LiveSegment] = ()
    ) -> list[LiveSegment]:
        """Read the segments of a span; see `PastSegments`.

        Blocks between the first and the last one are those of another rendition where these have all numbers,
        the same discontinuities, and no gaps.

        Raises:
            OSError: segments of the span are still being put into the past.
        """
        found: list[LiveSegment] = []
        whole = _whole_blocks(like)
        with self.blocks.opened() as past:
            if past is None:
                return found
            self._expect(past, end)
            if (stepped := self.blocks.set_back(past)) is not None:
                return stepped.segments(start, end, before)
            blocks = self._touching(past, start, end)
            outlined = self._outlined(past, [one for one in blocks if one in whole])
        outlines = {one.first // BLOCK_SEGMENTS: one for one in outlined}
        for block in blocks:
            if block in outlines and _is_like(outlines[block], whole[block]):
                found += whole[block]
            else:
                found += within(self.blocks.segments(block), Fraction(0) if found else start, end, before)
        return found

    def outlines(self, start: Fraction, end: Fraction | None, before: int) -> list[Outline]:
        """Read the outlines of all blocks that have segments of a span; see ``read``."""
        with self.blocks.opened() as past:
            if past is None:
                return []
            self._expect(past, end)
            if (stepped := self.blocks.set_back(past)) is not None:
                return [Outline.of(one, self.blocks.extension) for one in stepped.found(start, end, before)]
            found = self._guessed(past, start, end)
            if not _are_around(found, start, end):
                found = self._outlined(past, self._touching(past, start, end))
            return [one for one in found if one.first < before]

    def _outlined(self, past: OpenFolder, blocks: Iterable[int]) -> list[Outline]:
        """Read the outlines of blocks in ascending order, or make them of the index."""
        stamped = [_StampedBlock(one * BLOCK_SEGMENTS, past.stamp(INDEX, str(one))) for one in blocks]
        return list(self._outlines.outlines(stamped, _full_blocks(self.blocks.listed(past).numbers)))

    def _made(self, block: _StampedBlock) -> Outline | None:
        """Make the outline of a block of its index; None where that has nothing."""
        if not (segments := self.blocks.segments(block.first // BLOCK_SEGMENTS)):
            return None
        return self._outlines.keep(block, lambda: Outline.of(segments, self.blocks.extension))

    def full_blocks(self, newest: int) -> range:
        """Return the first numbers of the blocks that are complete; see `OutlinedIndex`."""
        del newest
        return _full_blocks(self.blocks.numbers())

    def outline_digest(self, first: int) -> int | None:
        """Return the length of the index of a block; see `OutlinedIndex`."""
        with self.blocks.opened() as past:
            return None if past is None else past.stamp(INDEX, str(first // BLOCK_SEGMENTS))[1] or None

    def noted_outline(self, first: int) -> NotedOutline | None:
        """Make the outline of a block, of which nothing may be missing; see `OutlinedIndex`."""
        block = first // BLOCK_SEGMENTS
        with contextlib.suppress(OSError), self.blocks.folder(block) as folder:
            status, lines = folder.status(INDEX), self.blocks.lines(folder, block)
            segments = segments_in(folder, lines)
            if status is not None and segments and len(segments) == len(lines):
                return NotedOutline(status.st_size, Outline.of(segments, self.blocks.extension))
        return None

    def _touching(self, past: OpenFolder, start: Fraction, end: Fraction | None) -> Sequence[int]:
        """Return the blocks that may have segments of a span."""
        blocks = self.blocks.listed(past).numbers

        def begun(moment: Fraction) -> int:
            return index.count_begun(len(blocks), moment, lambda at: self.blocks.begin(past, blocks[at]))

        return blocks[max(begun(start) - 1, 0) : None if end is None else begun(end)]

    def _guessed(self, past: OpenFolder, start: Fraction, end: Fraction | None) -> list[Outline]:
        """Read the outlines of the blocks that have a span if their numbers rise as evenly as time does."""
        # The oldest one may begin in its middle.
        blocks = self.blocks.listed(past).numbers[1:]
        if end is None or not blocks:
            return []
        first, last = self.blocks.begin(past, blocks[0]), self.blocks.begin(past, blocks[-1])
        if first is None or last is None or not first <= start < end < last:
            return []
        rate = (blocks[-1] - blocks[0]) / float(last - first)
        begin, behind = (bisect_right(blocks, blocks[0] + rate * float(one - first)) for one in (start, end))
        return self._outlined(past, blocks[begin - 1 : behind])

    def _is_moving(self) -> bool:
        """Return whether segments that a start has found are still being put into the past."""
        with contextlib.suppress(OSError), self.blocks.place.open() as past:
            return past.read(MOVING, len(MOVING_CONTENT)) == MOVING_CONTENT
        return False

    def _expect(self, past: OpenFolder, end: Fraction | None) -> None:
        """Refuse to read a span of which segments may still be put into the past, in ascending order."""
        if not self._is_moving():
            return
        blocks = self.blocks.listed(past).numbers[: -MOST_UNPLAYED - 1 : -1]
        newest = next(filter(None, map(self.blocks.segments, blocks)), None)
        if end is None or newest is None or newest[-1].program_date_time < end:
            raise self._incomplete()

    def _incomplete(self) -> OSError:
        return OSError(errno.EAGAIN, "segments are still being put into the past", str(self.blocks.place))


def _full_blocks(blocks: Sequence[int]) -> range:
    if not blocks:
        return range(0)
    # A strange folder far before all others would make very many of them.
    oldest = max(blocks[0], blocks[-1] - MOST_OUTLINED)
    return range(oldest * BLOCK_SEGMENTS, blocks[-1] * BLOCK_SEGMENTS, BLOCK_SEGMENTS)


def _are_around(outlines: Sequence[Outline], start: Fraction, end: Fraction | None) -> bool:
    """Return whether a span begins in the first of consecutive blocks, and ends with or in the last one."""
    last = outlines[-1] if outlines else None
    if end is None or last is None or not all(len(one.there) for one in (*outlines[:2], last)):
        return False
    begun = [one.date(int(one.there[0])) <= start for one in outlines[:2]]
    at = int(last.there[-1])
    is_over = last.date(at) + Fraction(*last.seconds("duration", at)) >= end
    return is_over and begun in ([True], [True, False])


def _whole_blocks(segments: Sequence[LiveSegment]) -> dict[int, Sequence[LiveSegment]]:
    """Return the segments of each block of which none is missing, but for the first and the last block."""
    if not segments:
        return {}
    blocks = range(segments[0].number // BLOCK_SEGMENTS + 1, segments[-1].number // BLOCK_SEGMENTS)
    firsts = (bisect_left(segments, one * BLOCK_SEGMENTS, key=attrgetter("number")) for one in blocks)
    found = ((one, segments[at : at + BLOCK_SEGMENTS]) for one, at in zip(blocks, firsts, strict=True))
    return {
        one: own
        for one, own in found
        if own[-1].number == (one + 1) * BLOCK_SEGMENTS - 1 and not any(segment.gap for segment in own)
    }


def _is_like(outline: Outline, segments: Sequence[LiveSegment]) -> bool:
    """Return whether a block has all numbers, no gaps, and discontinuities where these segments have some."""
    flags = outline.records["flags"]
    breaks = ((flags & DISCONTINUITY) != 0).tolist()
    return bool((flags & MEDIA).all()) and breaks == [one.discontinuity for one in segments]

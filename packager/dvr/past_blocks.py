"""The segments of a rendition that have left its playlist, on disk: a folder for each block of numbers.

A block's folder has the segments, their init segments and an index, as the rendition's folder has. Nothing of
them is in memory but a few blocks that were read lately, so that a DVR may be as long as its disk
is large. A segment is linked here before its line is written, so that whatever a line names is complete. The
number of a block follows from that of a segment. All of it blocks.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from packager.concurrency import SHARED_THREADS
from packager.dvr import index
from packager.dvr.index import INDEX, IndexLine, segment_of
from packager.dvr.init_files import parse_init
from packager.dvr.limits import DEFAULT_LIMITS, DvrLimits
from packager.dvr.outline_cache import OutlineReader
from packager.dvr.own_files import (
    MAX_INIT_BYTES,
    MOVING,
    MOVING_CONTENT,
    NEVER_SET_BACK_CONTENT,
    SET_BACK,
    SET_BACK_CONTENT,
    erase_in,
)
from packager.dvr.restore_plan import StoredRendition
from packager.dvr.stored_outlines import OUTLINE_FOLDER, DiskOutlines
from packager.past.coded_outlines import NotedOutline
from packager.past.outlines import BLOCK_SEGMENTS, DISCONTINUITY, MEDIA, Outline
from packager.past.stepped_past import DatedBlock, SteppedPast, within
from packager.safe_files import DataFolder, OpenFolder, write_all
from packager.window.clock_steps import MOST_STEPS, is_set_back, is_step
from packager.window.model import LiveSegment, Timeline
from packager.window.rendition import extension_of, segment_uri

PAST = "past"
"""Name of the folder of blocks in a rendition's folder."""

BEFORE = "before"
"""File of a block with the bytes of all segments that were ever put into the blocks before it."""

MAX_BEFORE_BYTES = 32
"""Longest file of that name that is read."""

FIRST_LINE_BYTES = 4096
"""How much of an index is read for the date of its first line; of a longer line, all of the index is."""

MOST_UNPLAYED = 16
"""So many of the newest blocks are tried in search of one that has media."""

MAX_INDEX_BYTES = 16 << 20
"""Longest index of a block that is read."""

MOST_OUTLINED = 1 << 15
"""So many blocks have outlines, the newest: a year of segments of two seconds."""

LEAST_RATE = 0.75
"""Where dates of blocks rise by less than this share of the usual, the clock may have been set back."""

MAX_STEPS_BYTES = 4096
"""Longest file with them that is read."""

TICK_NANOSECONDS = 50_000_000
"""How far apart two changes of a folder are whose times surely differ."""

_BLOCK_NAME = re.compile(r"0|[1-9][0-9]{0,14}")

_timeline = functools.lru_cache(maxsize=64)(parse_init)
"""Blocks share their timelines."""


_Stamp = tuple[int, int]
"""The moment at which an index was changed last, in nanoseconds since the epoch, and its bytes."""


class RemovableSegment(NamedTuple):
    """A segment or gap of the past.

    Attributes:
        size: bytes of its file; 0 of a gap.
        is_shared: whether a recording, or the playlist's folder, has the file, too.
    """

    number: int
    size: int
    is_shared: bool


class _ReadBlock(NamedTuple):
    """A block that was read.

    Attributes:
        stamp: of its index, which grows until the block is full, and becomes shorter where room is needed.
        segments: in ascending order of their numbers.
    """

    stamp: _Stamp
    segments: Sequence[LiveSegment]


class _SizedBlock(NamedTuple):
    """A block in some state.

    Attributes:
        first: its first number.
        stamp: of its index, which grows until the block is full, and becomes shorter where room is needed.
    """

    first: int
    stamp: _Stamp

    @property
    def size(self) -> int:
        """Bytes of its index."""
        return self.stamp[1]


class _ListedBlocks(NamedTuple):
    """The numbers of all blocks.

    Attributes:
        changed: when the folder was changed last, in nanoseconds since the epoch.
        read: when the names in it were read, in nanoseconds since the epoch.
        steps: numbers of segments before which the clock was set; None where it was never set back.
    """

    changed: int
    read: int
    blocks: Sequence[int]
    steps: Sequence[int] | None


class _KnownSteps(NamedTuple):
    """Where the clock was set in the blocks as they were.

    Attributes:
        numbers: the numbers of all blocks.
        stamp: the stamp of the newest block's index.
    """

    numbers: Sequence[int]
    stamp: _Stamp
    past: SteppedPast


class PastBlocks:
    """The blocks of one rendition, which one process writes and several may read.

    Args:
        place: the rendition's folder, which has the folder of the blocks.
        limits: how much of the blocks stays in memory.

    Attributes:
        threads: the threads in which its methods are to be called.
    """

    threads = SHARED_THREADS

    def __init__(self, place: DataFolder | Path, limits: DvrLimits = DEFAULT_LIMITS) -> None:
        rendition = DataFolder.at(place)
        self._place = rendition / PAST
        self._extension = extension_of(rendition.name)
        self._limits = replace(limits, index_bytes=min(limits.index_bytes, MAX_INDEX_BYTES))
        # Several threads may read.
        self._lock = Lock()
        self._cache: OrderedDict[int, _ReadBlock] = OrderedDict()
        self._begins: dict[int, Fraction] = {}
        self._listed: _ListedBlocks | None = None
        self._stepped: _KnownSteps | None = None
        # The segment that was put into a block last, and before which ones the clock was set.
        self._last: LiveSegment | None = None
        self._steps: deque[int] = deque(maxlen=MOST_STEPS)
        self._was_set_back = False
        self._outlines = OutlineReader[_SizedBlock](
            DiskOutlines(rendition.beside(OUTLINE_FOLDER)),
            rendition.name,
            str(self._place),
            attrgetter("size"),
            self._made,
        )

    def place_of(self, segment: LiveSegment) -> str:
        """Return the path of a segment's file."""
        number = segment.number
        return f"{self._place}/{number // BLOCK_SEGMENTS}/{segment_uri(number, self._extension)}"

    def numbers(self) -> Sequence[int]:
        """Return the numbers of all blocks in ascending order."""
        with contextlib.suppress(OSError), self._place.open() as past:
            return self._numbers(past)
        return []

    def _numbers(self, past: OpenFolder) -> Sequence[int]:
        changed = past.changed()
        # Blocks that were made in the same tick of the clock as the last look are looked for again.
        known = self._listed
        if known is not None and known.changed == changed and known.read - changed > TICK_NANOSECONDS:
            return known.blocks
        read = time.time_ns()
        names = [one.name for one in past.entries()]
        blocks = sorted(int(one) for one in names if _BLOCK_NAME.fullmatch(one))
        self._listed = _ListedBlocks(changed, read, blocks, _steps(past) if SET_BACK in names else None)
        return blocks

    def _set_back(self, past: OpenFolder) -> SteppedPast | None:
        """Return where the clock was set; None where it was never set back."""
        numbers = self._numbers(past)
        if not numbers or self._listed is None or self._listed.steps is None:
            return None
        stamp, known = past.stamp(INDEX, str(numbers[-1])), self._stepped
        if known is None or (known.numbers, known.stamp) != (numbers, stamp):
            known = _KnownSteps(numbers, stamp, self._divided(past, numbers, self._listed.steps))
            self._stepped = known
        return known.past if known.past.stretches else None

    def _divided(
        self, past: OpenFolder, numbers: Sequence[int], steps: Sequence[int], least_rate: float = 0.0
    ) -> SteppedPast:
        """Find where the clock was set in all blocks that can be read."""
        begins = ((one, self._begin(past, one)) for one in numbers)
        blocks = [DatedBlock(one * BLOCK_SEGMENTS, float(date)) for one, date in begins if date is not None]

        def read(positions: Sequence[int]) -> Iterable[Sequence[LiveSegment]]:
            return (self._read(blocks[at].number // BLOCK_SEGMENTS) for at in positions)

        return SteppedPast(blocks, read, steps, least_rate)

    def newest(self) -> StoredRendition:
        """Read the newest block that has media, with the lines behind it; nothing where none is found."""
        lines: dict[int, IndexLine] = {}
        for block in self.numbers()[: -MOST_UNPLAYED - 1 : -1]:
            with contextlib.suppress(OSError), (self._place / str(block)).open() as folder:
                own = _lines(folder, block, self._limits)
                timelines = _timelines(folder, {line.init for line in own if line.init is not None})
                lines = {line.number: line for line in own} | lines
                if timelines:
                    return StoredRendition(lines, timelines)
        return StoredRendition({}, {})

    def oldest(self) -> Fraction | None:
        """Return the date of the oldest segment in seconds since the epoch; None without any."""
        # Not as it was read before: the oldest block becomes shorter where room is needed.
        with contextlib.suppress(OSError), self._place.open() as past:
            found = (self._dated(past, block) for block in self._numbers(past))
            oldest = next((date for date in found if date is not None), None)
            if oldest is None or (stepped := self._set_back(past)) is None:
                return oldest
            return min([oldest, *(Fraction(one.begin) for one in stepped.stretches[1:])])
        return None

    def find(self, number: int) -> LiveSegment | None:
        """Return a segment or gap by its media sequence number; None where there is none.

        Raises:
            OSError: it may still be put into the past.
        """
        with self._opened() as past:
            is_moving = past is not None and _is_moving(past)
        segments = self._read(number // BLOCK_SEGMENTS)
        at = bisect_left(segments, number, key=_number)
        if at < len(segments) and segments[at].number == number:
            return segments[at]
        if is_moving:
            raise self._incomplete()
        return None

    def discontinuities_before(self, number: int) -> int:
        """Return how many discontinuities there were before a segment; 0 where that isn't known."""
        blocks = self.numbers()
        for block in reversed(blocks[: bisect_right(blocks, number // BLOCK_SEGMENTS)][-2:]):
            with contextlib.suppress(OSError), (self._place / str(block)).open() as folder:
                lines = _lines(folder, block, self._limits)
                # Of a number that isn't there, that of the one before says it.
                line = next((one for one in reversed(lines) if one.number <= number), None)
                if line is not None:
                    return line.left + (line.discontinuity and line.number < number)
        return 0

    def init(self, number: int) -> bytes | None:
        """Return an init segment, by the number of its timeline.

        Raises:
            OSError: it may still be put into the past.
        """
        with self._opened() as past:
            is_moving = past is not None and _is_moving(past)
        # Each block has those of its segments; the first one may have been removed meanwhile.
        first = number // BLOCK_SEGMENTS
        for block in (first, *(one for one in self.numbers()[:1] if one > first)):
            with contextlib.suppress(OSError), (self._place / str(block)).open() as folder:
                return folder.read(f"init-{number}.mp4", MAX_INIT_BYTES)
        if is_moving:
            raise self._incomplete()
        return None

    def read(
        self, start: Fraction, end: Fraction | None, before: int, like: Sequence[LiveSegment] = ()
    ) -> list[LiveSegment]:
        """Read the segments of a span, from the last one that doesn't begin behind its start.

        Args:
            start: in seconds since the epoch.
            end: likewise; None: all up to ``before``.
            before: the number that no segment has, nor a later one.
            like: segments of another rendition in this span. Blocks between the first and the last one are
                taken from it where they have all numbers, the same discontinuities, and no gaps.

        Raises:
            OSError: segments of the span are still being put into the past.
        """
        found: list[LiveSegment] = []
        whole = _whole_blocks(like)
        with self._opened() as past:
            if past is None:
                return found
            self._expect(past, end)
            if (stepped := self._set_back(past)) is not None:
                return stepped.segments(start, end, before)
            blocks = self._touching(past, start, end)
            outlined = self._outlined(past, [one for one in blocks if one in whole])
        outlines = {one.first // BLOCK_SEGMENTS: one for one in outlined}
        for block in blocks:
            if block in whole and _is_like(outlines.get(block), whole[block]):
                found += whole[block]
                continue
            found += within(self._read(block), Fraction(0) if found else start, end, before)
        return found

    def outlines(self, start: Fraction, end: Fraction | None, before: int) -> list[Outline]:
        """Read the outlines of all blocks that have segments of a span.

        Args:
            start: in seconds since the epoch.
            end: likewise; None: all up to ``before``.
            before: the number that no segment has, nor a later one.

        Raises:
            OSError: segments of the span are still being put into the past.
        """
        with self._opened() as past:
            if past is None:
                return []
            self._expect(past, end)
            if (stepped := self._set_back(past)) is not None:
                return [Outline.of(one, self._extension) for one in stepped.found(start, end, before)]
            found = self._guessed(past, start, end)
            if not _are_around(found, start, end):
                found = self._outlined(past, self._touching(past, start, end))
            return [one for one in found if one.first < before]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[OpenFolder | None]:
        """Open the folder of all blocks; None where there is none, or it can't be opened."""
        try:
            past = self._place.open()
        except OSError:
            yield None
            return
        with past:
            yield past

    def _outlined(self, past: OpenFolder, blocks: Iterable[int]) -> list[Outline]:
        """Read the outlines of blocks in ascending order, or make them of the index."""
        sized = [_SizedBlock(one * BLOCK_SEGMENTS, past.stamp(INDEX, str(one))) for one in blocks]
        return list(self._outlines.outlines(sized, _full_blocks(self._numbers(past))))

    def _made(self, block: _SizedBlock) -> Outline | None:
        """Make the outline of a block of its index; None where that has nothing."""
        if not (segments := self._read(block.first // BLOCK_SEGMENTS)):
            return None
        return self._outlines.keep(block, lambda: Outline.of(segments, self._extension))

    def full_blocks(self, newest: int = 0) -> range:
        """Return the first numbers of the blocks that are complete; see `OutlinedIndex`."""
        del newest
        return _full_blocks(self.numbers())

    def outline_digest(self, first: int) -> int | None:
        """Return the length of the index of a block; see `OutlinedIndex`."""
        with contextlib.suppress(OSError), self._place.open() as past:
            return past.stamp(INDEX, str(first // BLOCK_SEGMENTS))[1] or None
        return None

    def noted_outline(self, first: int) -> NotedOutline | None:
        """Make the outline of a block, of which nothing may be missing; see `OutlinedIndex`."""
        block = first // BLOCK_SEGMENTS
        with contextlib.suppress(OSError), (self._place / str(block)).open() as folder:
            status, lines = folder.status(INDEX), _lines(folder, block, self._limits)
            segments = _segments_of(folder, lines)
            if status is not None and segments and len(segments) == len(lines):
                return NotedOutline(status.st_size, Outline.of(segments, self._extension))
        return None

    def _touching(self, past: OpenFolder, start: Fraction, end: Fraction | None) -> Sequence[int]:
        """Return the blocks that may have segments of a span."""
        blocks = self._numbers(past)

        def begun(moment: Fraction) -> int:
            return index.count_begun(len(blocks), moment, lambda at: self._begin(past, blocks[at]))

        return blocks[max(begun(start) - 1, 0) : None if end is None else begun(end)]

    def _guessed(self, past: OpenFolder, start: Fraction, end: Fraction | None) -> list[Outline]:
        """Read the outlines of the blocks that have a span if their numbers rise as evenly as time does."""
        # The oldest one may begin in its middle.
        blocks = self._numbers(past)[1:]
        if end is None or not blocks:
            return []
        first, last = self._begin(past, blocks[0]), self._begin(past, blocks[-1])
        if first is None or last is None or not first <= start < end < last:
            return []
        rate = (blocks[-1] - blocks[0]) / float(last - first)
        begin, behind = (bisect_right(blocks, blocks[0] + rate * float(one - first)) for one in (start, end))
        return self._outlined(past, blocks[begin - 1 : behind])

    def _begin(self, past: OpenFolder, block: int) -> Fraction | None:
        """Return the date of a block's first segment; None where it can't be read."""
        if (known := self._begins.get(block)) is not None:
            return known
        date = self._dated(past, block)
        if date is not None:
            if len(self._begins) >= self._limits.blocks_dated:
                self._begins.clear()
            self._begins[block] = date
        return date

    def _dated(self, past: OpenFolder, block: int) -> Fraction | None:
        """Read the date of a block's first segment; None where it can't be read."""
        date = _first_date(past, block)
        return date or next((one.program_date_time for one in self._read(block)), None)

    def _read(self, block: int) -> Sequence[LiveSegment]:
        """Read the segments of a block; of one that isn't there, or can't be read, none."""
        try:
            with (self._place / str(block)).open() as folder:
                stamp = folder.stamp(INDEX)
                with self._lock:
                    known = self._cache.get(block)
                    if known is not None and known.stamp == stamp:
                        self._cache.move_to_end(block)
                        return known.segments
                segments = _segments(folder, block, self._limits)
        except OSError:
            return ()
        with self._lock:
            self._cache[block] = _ReadBlock(stamp, segments)
            while len(self._cache) > self._limits.blocks_read:
                self._cache.popitem(last=False)
        return segments

    def begin_move(self) -> None:
        """Have readers wait for segments that were found at a start, until ``end_move`` is called.

        Raises:
            OSError: that can't be written.
        """
        with self._place.open(make=True) as folder:
            folder.write_whole(MOVING, MOVING_CONTENT, synchronized=False)

    def end_move(self) -> None:
        """Note that all segments are in their place.

        Raises:
            OSError: that can't be written.
        """
        with contextlib.suppress(FileNotFoundError), self._place.open() as folder:
            folder.remove(MOVING, len(MOVING_CONTENT))

    def _expect(self, past: OpenFolder, end: Fraction | None) -> None:
        """Refuse to read a span of which segments may still be put into the past, in ascending order."""
        if not _is_moving(past):
            return
        blocks = self._numbers(past)[: -MOST_UNPLAYED - 1 : -1]
        newest = next(filter(None, map(self._read, blocks)), None)
        if end is None or newest is None or _date(newest[-1]) < end:
            raise self._incomplete()

    def _incomplete(self) -> OSError:
        return OSError(errno.EAGAIN, "segments are still being put into the past", str(self._place))

    def put(self, source: OpenFolder, lines: Iterable[IndexLine]) -> bool:
        """Link segments from the rendition's folder into their blocks, and append their lines.

        Args:
            source: the rendition's folder, in which the segments' files still are.
            lines: in ascending order; of a segment whose file is gone, nothing is noted.

        Returns:
            Whether a block was begun.

        Raises:
            OSError: it can't be written; it may be tried again.
        """
        began = False
        lines = list(lines)
        with self._place.open(make=True) as folder:
            self._note_steps(folder, lines)
            for block, group in groupby(lines, key=lambda line: line.number // BLOCK_SEGMENTS):
                if folder.status(str(block)) is None:
                    self._note_before(folder, block)
                    began = True
                with folder.folder(str(block)) as target:
                    linked = [line for line in group if self._link(source, target, line)]
                    _append(target, b"".join(map(index.encode, linked)))
        return began

    def _note_steps(self, past: OpenFolder, lines: Sequence[IndexLine]) -> None:
        """Note where the clock was set before some of these lines, if it was ever set back."""
        numbers = self._numbers(past)
        noted = None if self._listed is None else self._listed.steps
        if self._last is None and numbers:
            if noted is None and past.status(SET_BACK) is None:
                # Earlier versions didn't note that.
                newest = [numbers[-1] * BLOCK_SEGMENTS]
                stretches = self._divided(past, numbers, newest, LEAST_RATE).stretches
                self._steps.extend(one.numbers.start for one in stretches[1:])
                self._was_set_back = bool(stretches)
                if not stretches and all(self._begin(past, one) is not None for one in numbers):
                    past.write_whole(SET_BACK, NEVER_SET_BACK_CONTENT, synchronized=False)
            self._last = next(iter(self._read(numbers[-1])[-1:]), None)
        for segment in (segment_of(one, None) for one in lines):
            before = self._last
            # Segments that a start finds are put here again.
            if before is None or segment.number > before.number:
                self._last = segment
                if before is not None and is_step(before, segment):
                    self._steps.append(segment.number)
                    self._was_set_back = self._was_set_back or is_set_back(before, segment)
        if self._steps and (noted is not None or self._was_set_back):
            steps = [*(noted or ()), *self._steps][-MOST_STEPS:]
            content = SET_BACK_CONTENT + b"".join(b"%d\n" % one for one in steps)
            past.write_whole(SET_BACK, content, synchronized=False)
            self._steps.clear()

    def link(self, number: int, target: OpenFolder) -> None:
        """Link a segment's file into a folder elsewhere, unless it is gone.

        Raises:
            OSError: it can't be linked.
        """
        name = segment_uri(number, self._extension)
        with (
            contextlib.suppress(FileNotFoundError),
            (self._place / str(number // BLOCK_SEGMENTS)).open() as block,
        ):
            block.link(name, target, name)

    def linked(self, source: OpenFolder, numbers: Iterable[int]) -> Iterator[str]:
        """Yield the names of those files of a folder that are segments in blocks, too.

        Args:
            source: the rendition's folder, in which the segments' files may be.
        """
        for block, group in groupby(sorted(numbers), key=lambda number: number // BLOCK_SEGMENTS):
            known = {one.number for one in self._read(block)}
            with contextlib.suppress(OSError), (self._place / str(block)).open() as target:
                for name in (segment_uri(one, self._extension) for one in group if one in known):
                    own, there = source.status(name), target.status(name)
                    if own is not None and there is not None and os.path.samestat(own, there):
                        yield name

    def _link(self, source: OpenFolder, target: OpenFolder, line: IndexLine) -> bool:
        """Link a segment and its init segment; return whether they are there, or it is a gap."""
        names = [] if line.init is None else [f"init-{line.init}.mp4"]
        names += [segment_uri(line.number, self._extension)] if line.parts else []
        for name in names:
            # A crash may have come between the link and the line.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                source.link(name, target, name)
        return not line.parts or all(target.status(name) is not None for name in names)

    def _note_before(self, folder: OpenFolder, block: int) -> None:
        """Make a block, and note the bytes of all segments that were put into earlier ones."""
        earlier = [one for one in self.numbers() if one < block]
        count = self._before(earlier[-1]) + self._bytes_of(earlier[-1]) if earlier else 0
        with folder.folder(str(block), make=True) as target:
            target.write_whole(BEFORE, b"%d\n" % count)

    def _before(self, block: int) -> int:
        """Return the bytes that were put into earlier blocks; if unknown, those that are there."""
        with contextlib.suppress(OSError, ValueError), (self._place / str(block)).open() as folder:
            return int(folder.read(BEFORE, MAX_BEFORE_BYTES).decode("ascii"))
        return sum(self._bytes_of(one) for one in self.numbers() if one < block)

    def _bytes_of(self, block: int) -> int:
        return sum(one.size for one in self._read(block))

    @property
    def nbytes(self) -> int:
        """Bytes of all segments in blocks."""
        blocks = self.numbers()
        # The oldest one may have become shorter since the next one was begun.
        oldest, later = sum(map(self._bytes_of, blocks[:1])), blocks[1:]
        if not later:
            return oldest
        newest = self._before(later[-1]) + self._bytes_of(later[-1])
        return oldest + max(newest - self._before(later[0]), 0)

    def remove_before(self, date: Fraction) -> bool:
        """Remove the oldest block if all of it came before a date; return whether it is gone.

        Args:
            date: in seconds since the epoch.

        Raises:
            OSError: it can't be removed now.
        """
        with self._opened() as past:
            begins = () if past is None else (self._begin(past, one) for one in self._numbers(past))
            dates = (one for one in begins if one is not None)
            first, second = next(dates, None), next(dates, None)
            if past is not None and first is not None and second is not None and self._set_back(past):
                # The clock may have been far ahead in the second one.
                second = min((one for one in (second, *dates) if one >= first), default=second)
        return second is not None and second <= date and self.remove_oldest()

    def removable(self) -> Iterator[RemovableSegment]:
        """Yield the segments and gaps in the order in which they are removed where room is needed."""
        for block in self.numbers():
            with contextlib.suppress(OSError), (self._place / str(block)).open() as folder:
                for line in _lines(folder, block, self._limits):
                    status = folder.status(self._name_of(line)) if line.parts else None
                    yield RemovableSegment(
                        line.number, line.size, is_shared=status is not None and status.st_nlink > 1
                    )

    def remove_until(self, number: int) -> None:
        """Remove all segments up to a number, and the blocks that have no others.

        A crash may leave the line of the first one without its file, and files without a line, which go with
        their block.

        Raises:
            OSError: they can't be removed now.
        """
        last = number // BLOCK_SEGMENTS
        with self._place.open() as past:
            for block in [one for one in self.numbers() if one < last]:
                self._erase(past, block)
            with contextlib.suppress(FileNotFoundError), past.folder(str(last)) as folder:
                lines = index.read(folder, self._limits).lines.values()
                kept = [one for one in lines if one.number > number]
                if kept and len(kept) < len(lines):
                    self._shorten(folder, [one for one in lines if one.number <= number], kept)
                if kept:
                    return
            self._erase(past, last)

    def _shorten(self, folder: OpenFolder, gone: Sequence[IndexLine], kept: Sequence[IndexLine]) -> None:
        """Remove the first segments of a block; a full disk takes its shorter index once one is gone."""
        is_written = False
        for line in gone:
            if line.parts:
                folder.remove(self._name_of(line), line.size)
            if line is gone[0]:
                with contextlib.suppress(OSError):
                    folder.write_whole(INDEX, map(index.encode, kept))
                    is_written = True
        if not is_written:
            folder.write_whole(INDEX, map(index.encode, kept))

    def _name_of(self, line: IndexLine) -> str:
        return segment_uri(line.number, self._extension)

    def remove_oldest(self) -> bool:
        """Remove the oldest block, but for what is foreign in it; return False if there is none.

        Raises:
            OSError: it can't be removed now.
        """
        with self._opened() as past:
            blocks = [] if past is None else self._numbers(past)
            oldest = next((one for one in blocks if past and self._begin(past, one) is not None), None)
            if past is None or oldest is None:
                return False
            # Blocks before it can't be read.
            for block in blocks[: blocks.index(oldest) + 1]:
                self._erase(past, block)
        return True

    def _erase(self, past: OpenFolder, block: int) -> None:
        erase_in(past, str(block))
        with self._lock:
            self._cache.pop(block, None)
        self._begins.pop(block, None)


def _steps(past: OpenFolder) -> Sequence[int] | None:
    """Read the numbers of segments before which the clock was set; None where it was never set back."""
    with contextlib.suppress(OSError):
        data = past.read(SET_BACK, MAX_STEPS_BYTES)
        if data == NEVER_SET_BACK_CONTENT:
            return None
        lines = data.removeprefix(SET_BACK_CONTENT).split()
        return [int(one) for one in lines[:MOST_STEPS] if _BLOCK_NAME.fullmatch(one.decode("latin-1"))]
    return ()


def _are_around(outlines: Sequence[Outline], start: Fraction, end: Fraction | None) -> bool:
    """Return whether a span begins in the first of consecutive blocks, and ends with or in the last one."""
    last = outlines[-1] if outlines else None
    if end is None or last is None or not all(len(one.there) for one in (*outlines[:2], last)):
        return False
    begun = [one.date(int(one.there[0])) <= start for one in outlines[:2]]
    at = int(last.there[-1])
    is_over = last.date(at) + Fraction(*last.seconds("duration", at)) >= end
    return is_over and begun in ([True], [True, False])


def _full_blocks(blocks: Sequence[int]) -> range:
    if not blocks:
        return range(0)
    # A strange folder far before all others would make very many of them.
    oldest = max(blocks[0], blocks[-1] - MOST_OUTLINED)
    return range(oldest * BLOCK_SEGMENTS, blocks[-1] * BLOCK_SEGMENTS, BLOCK_SEGMENTS)


def _is_moving(past: OpenFolder) -> bool:
    with contextlib.suppress(OSError):
        return past.read(MOVING, len(MOVING_CONTENT)) == MOVING_CONTENT
    return False


def _first_date(past: OpenFolder, block: int) -> Fraction | None:
    """Return the date of the first line of a block's index, if it can be read."""
    try:
        with past.folder(str(block)) as folder:
            text, end, _ = folder.read_head(INDEX, FIRST_LINE_BYTES).partition(b"\n")
    except OSError:
        return None
    lines, _ = index.decode(text + end)
    line = next(iter(lines.values()), None)
    is_ours = line is not None and line.number // BLOCK_SEGMENTS == block
    return Fraction(*line.date) if line is not None and is_ours else None


def _whole_blocks(segments: Sequence[LiveSegment]) -> dict[int, Sequence[LiveSegment]]:
    """Return the segments of each block of which none is missing, but for the first and the last block."""
    found: dict[int, Sequence[LiveSegment]] = {}
    if not segments:
        return found
    for block in range(segments[0].number // BLOCK_SEGMENTS + 1, segments[-1].number // BLOCK_SEGMENTS):
        first = bisect_left(segments, block * BLOCK_SEGMENTS, key=_number)
        behind = bisect_left(segments, (block + 1) * BLOCK_SEGMENTS, key=_number)
        own = segments[first:behind]
        if len(own) == BLOCK_SEGMENTS and not any(one.gap for one in own):
            found[block] = own
    return found


def _is_like(outline: Outline | None, segments: Sequence[LiveSegment]) -> bool:
    """Return whether a block has all numbers, no gaps, and discontinuities where these segments have some."""
    if outline is None:
        return False
    flags = outline.records["flags"]
    expected = np.fromiter((one.discontinuity for one in segments), np.bool_, len(segments))
    return bool((flags & MEDIA).all()) and np.array_equal((flags & DISCONTINUITY) != 0, expected)


def _segments(folder: OpenFolder, block: int, limits: DvrLimits) -> list[LiveSegment]:
    """Read the segments of a block; those without their init segment aren't there."""
    return _segments_of(folder, _lines(folder, block, limits))


def _segments_of(folder: OpenFolder, lines: Sequence[IndexLine]) -> list[LiveSegment]:
    timelines = _timelines(folder, {line.init for line in lines if line.init is not None})
    found: list[LiveSegment] = []
    for line in lines:
        timeline = None if line.init is None else timelines.get(line.init)
        if timeline is not None or not line.parts:
            found.append(segment_of(line, timeline))
    return found


def _timelines(folder: OpenFolder, numbers: Iterable[int]) -> dict[int, Timeline]:
    """Read those timelines of these numbers that are there."""
    found: dict[int, Timeline] = {}
    for number in numbers:
        with contextlib.suppress(OSError):
            timeline = _timeline(number, folder.read(f"init-{number}.mp4", MAX_INIT_BYTES))
            if timeline is not None:
                found[number] = timeline
    return found


def _lines(folder: OpenFolder, block: int, limits: DvrLimits) -> Sequence[IndexLine]:
    """Read the index of a block in ascending order; lines that can't be right aren't there."""
    try:
        found, _ = index.decode(folder.read(INDEX, limits.index_bytes))
    except FileNotFoundError:
        return ()
    own = {number: line for number, line in found.items() if number // BLOCK_SEGMENTS == block}
    lines = list(own.values())
    if index.is_orderly(lines):
        return lines
    wrong = index.impossible(own)
    return [line for line in lines if line.number not in wrong]


def _append(folder: OpenFolder, data: bytes) -> None:
    """Append lines to a block's index, behind the end of a line that a crash has cut off."""
    if not data:
        return
    descriptor = folder.open_to_append(INDEX)
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        is_torn = bool(end) and os.pread(descriptor, 1, end - 1) != b"\n"
        try:
            write_all(descriptor, b"\n" + data if is_torn else data)
            os.fdatasync(descriptor)
        except OSError:
            file.truncate(end)
            raise


def _number(segment: LiveSegment) -> int:
    return segment.number


def _date(segment: LiveSegment) -> Fraction:
    return segment.program_date_time

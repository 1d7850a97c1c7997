"""Puts the segments that leave a rendition's playlist into its blocks on disk, and removes the oldest ones.

A segment is linked into its block before its line is written, so that whatever a line names is complete. All
of it blocks.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple

from packager.dvr import index
from packager.dvr.index import INDEX, IndexLine, segment_of
from packager.dvr.own_files import (
    MOVING,
    MOVING_CONTENT,
    NEVER_SET_BACK_CONTENT,
    SET_BACK,
    SET_BACK_CONTENT,
    erase_in,
)
from packager.dvr.stored_blocks import StoredBlocks
from packager.past.outlines import BLOCK_SEGMENTS
from packager.safe_files import OpenFolder
from packager.window.clock_steps import MOST_STEPS, is_set_back, is_step
from packager.window.model import LiveSegment

BEFORE = "before"
"""File of a block with the bytes of all segments that were ever put into the blocks before it."""

MAX_BEFORE_BYTES = 32
"""Longest file of that name that is read."""

LEAST_RATE = 0.75
"""Where dates of blocks rise by less than this share of the usual, the clock may have been set back."""


class RemovableSegment(NamedTuple):
    """A segment or gap of the past.

    Attributes:
        size: bytes of its file; 0 of a gap.
        is_shared: whether a recording, or the playlist's folder, has the file, too.
    """

    number: int
    size: int
    is_shared: bool


class _StepNotes:
    """Notes beside the blocks before which segments the clock was set, if it was ever set back."""

    def __init__(self, blocks: StoredBlocks) -> None:
        self._blocks = blocks
        # The segment that was put into a block last.
        self._last: LiveSegment | None = None
        # Steps of the clock that aren't noted yet.
        self._steps: deque[int] = deque(maxlen=MOST_STEPS)
        self._was_set_back = False

    def note(self, past: OpenFolder, lines: Sequence[IndexLine]) -> None:
        """Note the steps before any of some lines that are put into blocks."""
        numbers, noted, *_ = self._blocks.listed(past)
        if self._last is None and numbers:
            if noted is None and past.status(SET_BACK) is None:
                self._look_through(past, numbers)
            self._last = next(iter(self._blocks.segments(numbers[-1])[-1:]), None)
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

    def _look_through(self, past: OpenFolder, numbers: Sequence[int]) -> None:
        """Find the steps in the blocks of an earlier version, which didn't note them."""
        newest = [numbers[-1] * BLOCK_SEGMENTS]
        stretches = self._blocks.divided(past, numbers, newest, LEAST_RATE).stretches
        self._steps.extend(one.numbers.start for one in stretches[1:])
        self._was_set_back = bool(stretches)
        if not stretches and len([*self._blocks.dated(past, numbers)]) == len(numbers):
            past.write_whole(SET_BACK, NEVER_SET_BACK_CONTENT, synchronized=False)


class BlockWriter:
    """Writes the blocks of one rendition, as one process does."""

    def __init__(self, blocks: StoredBlocks) -> None:
        self._blocks = blocks
        self._steps = _StepNotes(blocks)

    def begin_move(self) -> None:
        """Have readers wait for segments that were found at a start, until ``end_move`` is called.

        Raises:
            OSError: that can't be written.
        """
        with self._blocks.place.open(make=True) as past:
            past.write_whole(MOVING, MOVING_CONTENT, synchronized=False)

    def end_move(self) -> None:
        """Note that all segments are in their place.

        Raises:
            OSError: that can't be written.
        """
        with contextlib.suppress(FileNotFoundError), self._blocks.place.open() as past:
            past.remove(MOVING, len(MOVING_CONTENT))

    def put(self, source: OpenFolder, lines: Sequence[IndexLine]) -> bool:
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
        with self._blocks.place.open(make=True) as past:
            self._steps.note(past, lines)
            for block, group in groupby(lines, key=lambda line: line.number // BLOCK_SEGMENTS):
                if past.status(str(block)) is None:
                    self._begin(past, block)
                    began = True
                with past.folder(str(block)) as target:
                    if linked := [line for line in group if self._link(source, target, line)]:
                        target.append_lines(INDEX, b"".join(map(index.encode, linked)))
        return began

    def _link(self, source: OpenFolder, target: OpenFolder, line: IndexLine) -> bool:
        """Link a segment and its init segment; return whether they are there, or it is a gap."""
        names = [] if line.init is None else [f"init-{line.init}.mp4"]
        names += [self._blocks.name_of(line.number)] if line.parts else []
        for name in names:
            # A crash may have come between the link and the line.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                source.link(name, target, name)
        return not line.parts or all(target.status(name) is not None for name in names)

    def linked(self, source: OpenFolder, numbers: Iterable[int]) -> Iterator[str]:
        """Yield the names of those files of a folder that are segments in blocks, too.

        Args:
            source: the rendition's folder, in which the segments' files may be.
        """
        for block, group in groupby(sorted(numbers), key=lambda number: number // BLOCK_SEGMENTS):
            known = {one.number for one in self._blocks.segments(block)}
            with contextlib.suppress(OSError), self._blocks.folder(block) as target:
                for name in (self._blocks.name_of(one) for one in group if one in known):
                    own, there = source.status(name), target.status(name)
                    if own is not None and there is not None and os.path.samestat(own, there):
                        yield name

    def _begin(self, past: OpenFolder, block: int) -> None:
        """Make a block, and note the bytes of all segments that were put into earlier ones."""
        earlier = [one for one in self._blocks.numbers() if one < block]
        count = self._before(earlier[-1]) + self._bytes_of(earlier[-1]) if earlier else 0
        with past.folder(str(block), make=True) as target:
            target.write_whole(BEFORE, b"%d\n" % count)

    def _before(self, block: int) -> int:
        """Return the bytes that were put into earlier blocks; if unknown, those that are there."""
        with contextlib.suppress(OSError, ValueError), self._blocks.folder(block) as folder:
            return int(folder.read(BEFORE, MAX_BEFORE_BYTES).decode("ascii"))
        return sum(self._bytes_of(one) for one in self._blocks.numbers() if one < block)

    def _bytes_of(self, block: int) -> int:
        return sum(one.size for one in self._blocks.segments(block))

    @property
    def nbytes(self) -> int:
        """Bytes of all segments in blocks."""
        blocks = self._blocks.numbers()
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
        with self._blocks.opened() as past:
            if past is None:
                return False
            dates = (date for _, date in self._blocks.dated(past, self._blocks.listed(past).numbers))
            first, second = next(dates, None), next(dates, None)
            if first is not None and second is not None and self._blocks.set_back(past):
                # The clock may have been far ahead in the second one.
                second = min((one for one in (second, *dates) if one >= first), default=second)
        return second is not None and second <= date and self.remove_oldest()

    def remove_oldest(self) -> bool:
        """Remove the oldest block, but for what is foreign in it; return False if there is none.

        Raises:
            OSError: it can't be removed now.
        """
        with self._blocks.opened() as past:
            if past is None:
                return False
            blocks = self._blocks.listed(past).numbers
            for oldest, _ in self._blocks.dated(past, blocks):
                # Blocks before it can't be read.
                for block in blocks[: blocks.index(oldest) + 1]:
                    self._erase(past, block)
                return True
        return False

    def removable(self) -> Iterator[RemovableSegment]:
        """Yield the segments and gaps in the order in which they are removed where room is needed."""
        for block in self._blocks.numbers():
            with contextlib.suppress(OSError), self._blocks.folder(block) as folder:
                for line in self._blocks.lines(folder, block):
                    status = folder.status(self._blocks.name_of(line.number)) if line.parts else None
                    is_shared = status is not None and status.st_nlink > 1
                    yield RemovableSegment(line.number, line.size, is_shared)

    def remove_until(self, number: int) -> None:
        """Remove all segments up to a number, and the blocks that have no others.

        A crash may leave the line of the first one without its file, and files without a line, which go with
        their block.

        Raises:
            OSError: they can't be removed now.
        """
        last = number // BLOCK_SEGMENTS
        with self._blocks.place.open() as past:
            for block in [one for one in self._blocks.numbers() if one < last]:
                self._erase(past, block)
            with contextlib.suppress(FileNotFoundError), past.folder(str(last)) as folder:
                lines = index.read(folder, self._blocks.limits).lines.values()
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
                folder.remove(self._blocks.name_of(line.number), line.size)
            if line is gone[0]:
                with contextlib.suppress(OSError):
                    folder.write_whole(INDEX, map(index.encode, kept))
                    is_written = True
        if not is_written:
            folder.write_whole(INDEX, map(index.encode, kept))

    def _erase(self, past: OpenFolder, block: int) -> None:
        erase_in(past, str(block))
        self._blocks.forget(block)

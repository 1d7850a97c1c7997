"""The blocks of a rendition's past as they are on disk: which there are, their dates, and their segments.

A block's folder has the segments of 512 numbers, their init segments and an index, as the rendition's folder
has. Nothing of them is in memory but a few blocks that were read lately, so that a DVR may be as long as its
disk is large. All of it blocks.
"""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from threading import Lock
from typing import NamedTuple

from packager.bounded_dict import BoundedDict
from packager.dvr import index
from packager.dvr.index import INDEX, IndexLine
from packager.dvr.init_files import parse_init
from packager.dvr.limits import DvrLimits
from packager.dvr.own_files import MAX_INIT_BYTES, NEVER_SET_BACK_CONTENT, SET_BACK, SET_BACK_CONTENT
from packager.past.outlines import BLOCK_SEGMENTS
from packager.past.stepped_past import DatedBlock, SteppedPast
from packager.safe_files import DataFolder, OpenFolder
from packager.window.clock_steps import MOST_STEPS
from packager.window.model import LiveSegment, Timeline
from packager.window.rendition import extension_of, segment_uri

PAST = "past"
"""Name of the folder of blocks in a rendition's folder."""

FIRST_LINE_BYTES = 4096
"""How much of an index is read for the date of its first line; of a longer line, all of the index is."""

MAX_INDEX_BYTES = 16 << 20
"""Longest index of a block that is read."""

MAX_STEPS_BYTES = 4096
"""Longest file with the steps of the clock that is read."""

TICK_NANOSECONDS = 50_000_000
"""How far apart two changes of a folder are whose times surely differ."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")

_timeline = functools.lru_cache(maxsize=64)(parse_init)
"""Blocks share their timelines."""

Stamp = tuple[int, int]
"""When an index, which grows until its block is full, and becomes shorter where room is needed, was changed
last, in nanoseconds since the epoch, and its bytes.
"""


class ListedBlocks(NamedTuple):
    """The blocks that there are.

    Attributes:
        numbers: in ascending order.
        steps: numbers of segments before which the clock was set; None where it was never set back.
    """

    numbers: Sequence[int]
    steps: Sequence[int] | None


class StoredBlocks:
    """The blocks of one rendition, which one process writes and several may read, each in several threads.

    Args:
        rendition: the rendition's folder, which has the folder of the blocks.
        limits: how much of the blocks stays in memory.

    Attributes:
        place: the folder of the blocks.
        extension: that of the segments' files.
    """

    def __init__(self, rendition: DataFolder, limits: DvrLimits) -> None:
        self.place = rendition / PAST
        self.extension = extension_of(rendition.name)
        self.limits = replace(limits, index_bytes=min(limits.index_bytes, MAX_INDEX_BYTES))
        self._lock = Lock()
        self._read = BoundedDict[int, tuple[Stamp, Sequence[LiveSegment]]](limits.blocks_read)
        self._begins: dict[int, Fraction] = {}
        # By when the folder was changed last, in nanoseconds since the epoch.
        self._listed: tuple[int, ListedBlocks] | None = None
        # By the numbers of all blocks and the newest one's stamp.
        self._stepped: tuple[tuple[Sequence[int], Stamp], SteppedPast] | None = None

    def name_of(self, number: int) -> str:
        """Return the name of a segment's file."""
        return segment_uri(number, self.extension)

    @contextlib.contextmanager
    def opened(self) -> Iterator[OpenFolder | None]:
        """Open the folder of all blocks; None where there is none, or it can't be opened."""
        try:
            past = self.place.open()
        except OSError:
            yield None
            return
        with past:
            yield past

    def folder(self, block: int) -> OpenFolder:
        """Open the folder of a block.

        Raises:
            OSError: it isn't there, or can't be opened.
        """
        return (self.place / str(block)).open()

    def numbers(self) -> Sequence[int]:
        """Return the numbers of all blocks in ascending order."""
        with contextlib.suppress(OSError), self.place.open() as past:
            return self.listed(past).numbers
        return []

    def listed(self, past: OpenFolder) -> ListedBlocks:
        """List the blocks.

        Raises:
            OSError: the folder can't be read.
        """
        changed, known, now = past.changed(), self._listed, time.time_ns()
        if known is not None and known[0] == changed:
            return known[1]
        names = [one.name for one in past.entries()]
        numbers = sorted(int(one) for one in names if _NUMBER.fullmatch(one))
        steps = _noted_steps(past) if SET_BACK in names else None
        found = ListedBlocks(numbers, steps)
        # Further blocks may be made in the same tick of the clock.
        self._listed = (changed, found) if now - changed > TICK_NANOSECONDS else None
        return found

    def set_back(self, past: OpenFolder) -> SteppedPast | None:
        """Return where the clock was set; None where it was never set back."""
        listed = self.listed(past)
        if not listed.numbers or listed.steps is None:
            return None
        state, known = (listed.numbers, past.stamp(INDEX, str(listed.numbers[-1]))), self._stepped
        if known is None or known[0] != state:
            known = self._stepped = state, self.divided(past, listed.numbers, listed.steps)
        return known[1] if known[1].stretches else None

    def divided(
        self, past: OpenFolder, numbers: Sequence[int], steps: Sequence[int], least_rate: float = 0.0
    ) -> SteppedPast:
        """Find where the clock was set in blocks, as far as they can be read; see `SteppedPast`."""
        blocks = [DatedBlock(one * BLOCK_SEGMENTS, float(date)) for one, date in self.dated(past, numbers)]

        def read(positions: Sequence[int]) -> Iterable[Sequence[LiveSegment]]:
            return (self.segments(blocks[at].number // BLOCK_SEGMENTS) for at in positions)

        return SteppedPast(blocks, read, steps, least_rate)

    def dated(self, past: OpenFolder, numbers: Iterable[int]) -> Iterator[tuple[int, Fraction]]:
        """Yield those of some blocks that can be read, and the dates of their first segments."""
        return ((one, date) for one in numbers if (date := self.begin(past, one)) is not None)

    def begin(self, past: OpenFolder, block: int) -> Fraction | None:
        """Return the date of a block's first segment, when it was read first; None where it can't be read."""
        if (known := self._begins.get(block)) is not None:
            return known
        date = self.begin_now(past, block)
        if date is not None:
            if len(self._begins) >= self.limits.blocks_dated:
                self._begins.clear()
            self._begins[block] = date
        return date

    def begin_now(self, past: OpenFolder, block: int) -> Fraction | None:
        """Read the date of a block's first segment; None where it can't be read."""
        with contextlib.suppress(OSError), past.folder(str(block)) as folder:
            text, end, _ = folder.read_head(INDEX, FIRST_LINE_BYTES).partition(b"\n")
            line = next(iter(index.decode(text + end)[0].values()), None)
            if line is not None and line.number // BLOCK_SEGMENTS == block:
                return Fraction(*line.date)
        return next((one.program_date_time for one in self.segments(block)), None)

    def segments(self, block: int) -> Sequence[LiveSegment]:
        """Read the segments of a block; of one that isn't there, or can't be read, none."""
        try:
            with self.folder(block) as folder:
                stamp = folder.stamp(INDEX)
                with self._lock:
                    known = self._read.use(block)
                if known is not None and known[0] == stamp:
                    return known[1]
                segments = segments_in(folder, self.lines(folder, block))
        except OSError:
            return ()
        with self._lock:
            self._read[block] = stamp, segments
        return segments

    def lines(self, folder: OpenFolder, block: int) -> Sequence[IndexLine]:
        """Read the index of a block in ascending order, but for lines that can't be right.

        Raises:
            OSError: it can't be read.
        """
        try:
            found, _ = index.decode(folder.read(INDEX, self.limits.index_bytes))
        except FileNotFoundError:
            return ()
        return index.possible([line for line in found.values() if line.number // BLOCK_SEGMENTS == block])

    def forget(self, block: int) -> None:
        """Forget what was read of a block that is gone."""
        with self._lock:
            self._read.pop(block, None)
        self._begins.pop(block, None)


def segments_in(folder: OpenFolder, lines: Sequence[IndexLine]) -> list[LiveSegment]:
    """Make the segments of a block's lines; those without their init segment are left out."""
    return index.segments_of(lines, timelines_of(folder, lines).get)


def timelines_of(folder: OpenFolder, lines: Iterable[IndexLine]) -> dict[int, Timeline]:
    """Read the timelines of a block's lines, as far as they are there."""
    found: dict[int, Timeline] = {}
    for number in {line.init for line in lines if line.init is not None}:
        with contextlib.suppress(OSError):
            timeline = _timeline(number, folder.read(f"init-{number}.mp4", MAX_INIT_BYTES))
            if timeline is not None:
                found[number] = timeline
    return found


def _noted_steps(past: OpenFolder) -> Sequence[int] | None:
    """Read the numbers of segments before which the clock was set; None where it was never set back."""
    with contextlib.suppress(OSError):
        data = past.read(SET_BACK, MAX_STEPS_BYTES)
        if data == NEVER_SET_BACK_CONTENT:
            return None
        lines = data.removeprefix(SET_BACK_CONTENT).split()
        return [int(one) for one in lines[:MOST_STEPS] if _NUMBER.fullmatch(one.decode("latin-1"))]
    return ()

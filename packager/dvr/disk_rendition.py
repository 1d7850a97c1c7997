"""A rendition's folder on disk: a file for each segment and init segment, and the index. Blocks.

A file is written under a temporary name, synchronised and renamed before its index line is appended, so
whatever the index names is complete, and a crash leaves one segment without a line at most. Segments without
a line, or of another length, are moved aside. Only our own files are removed, by name and length.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice
from pathlib import Path

import numpy as np

from packager.dvr import index
from packager.dvr.block_writer import BlockWriter
from packager.dvr.index import INDEX, IndexLine
from packager.dvr.init_files import MAX_INIT_SEGMENTS, read_timelines
from packager.dvr.limits import DEFAULT_LIMITS, DvrLimits
from packager.dvr.own_files import INIT_NAME, NUMBER, is_unfinished
from packager.dvr.past_blocks import PastBlocks
from packager.dvr.restore_plan import StoredRendition
from packager.safe_files import DataFolder, NotOursError, OpenFolder
from packager.window.model import LiveSegment, Timeline
from packager.window.rendition import extension_of, segment_uri

TRIED_BYTES = 1 << 20
"""How much a disk that has failed must take to count as well again."""

UNUSUAL_SIZES = 4
"""A segment this many times larger than the median is always checked."""

CHECKED_SEGMENTS = 4096
"""Number of segments, the newest, whose length is checked; of others only the existence: each was
synchronised before its line was written, and later damage shows when it is read.
"""

MAX_NAMED_SEGMENTS = 10
"""Most segments that were moved aside whose numbers are logged, the oldest."""


@dataclass(slots=True)
class Faults:
    """Faults that were found in a rendition's folder.

    Attributes:
        unreadable: index lines that are malformed or impossible.
        missing: segments with a line, but without a file.
        aside: files that were moved aside.
        stuck: files that could not be moved aside.
        segments: numbers of the first segments among those files.
    """

    unreadable: int = 0
    missing: int = 0
    aside: int = 0
    stuck: int = 0
    places: list[str] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Their total."""
        return self.unreadable + self.missing + self.aside + self.stuck


@dataclass(slots=True)
class Survey:
    """The content of a rendition's folder, listed before anything is changed.

    Attributes:
        lines: of segments whose files exist, by number.
        timelines: by number.
        names: further files with names like ours.
        whole: whether the index needn't be rewritten.
        strange: whether the index isn't one of ours at all.
    """

    lines: dict[int, IndexLine]
    timelines: dict[int, Timeline]
    names: set[str]
    whole: bool
    strange: bool


class DvrFolder:
    """The files of one rendition.

    Args:
        place: the folder; ``load`` makes it.

    Attributes:
        faults: the faults that ``load`` found.
        past: finds the segments that have left the playlist.
        past_writer: puts them there, and removes the oldest ones.
    """

    def __init__(self, place: Path | DataFolder, limits: DvrLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self.place = DataFolder.at(place)
        self._base = f"{self.place}/"
        self._extension = extension_of(self.place.name)
        self._segment_name = re.compile(rf"{NUMBER}\.{self._extension}")
        self.faults = Faults()
        self.past = PastBlocks(place, limits)
        self.past_writer = BlockWriter(self.past.blocks)
        self._inits: dict[int, int] = {}
        self._unneeded: set[int] = set()
        self._lines = 0
        self._live = 0
        self._first = 0

    def place_of(self, number: int) -> str:
        """Return the path of a segment's file."""
        return self._base + self._name_of(number)

    def _name_of(self, number: int) -> str:
        return segment_uri(number, self._extension)

    @staticmethod
    def _init_of(timeline: int) -> str:
        return f"init-{timeline}.mp4"

    def load(self, target_duration: int = index.LONGEST_SECONDS) -> StoredRendition:
        """Read the stored segments and the index, and repair the index.

        Args:
            target_duration: seconds that no segment's rounded duration exceeds.

        Raises:
            NotOursError: something that isn't the DVR's is in the folder's place.
            OSError: the folder can't be made or read.
        """
        return self.settle(self.survey(target_duration))

    def survey(self, target_duration: int = index.LONGEST_SECONDS) -> Survey:
        """Examine the folder without changing anything; see ``load``."""
        self.faults = Faults()
        with self.place.open(make=True) as folder:
            try:
                found, strange = index.read(folder, self._limits), False
            except NotOursError:
                found, strange = index.Index(limits=self._limits), True
            names = self._names(folder)
            timelines = read_timelines(folder, MAX_INIT_SEGMENTS)
            longest = target_duration + 0.5  # RFC 8216bis §4.4.3.1: rounded to the nearest integer
            lines = {
                number: line
                for number, line in found.lines.items()
                if line.duration[0] < longest * line.duration[1]
            }
            wrong = index.impossible(lines)
            self.faults.unreadable = found.unreadable + len(found.lines) - len(lines) + len(wrong)
            kept = self._there(folder, lines, wrong, names, timelines)
        beside: set[str] = set()
        while names:
            # One by one: freeing a week's names at once would hold up all other threads.
            name, _ = names.popitem()
            if one := self._segment_name.fullmatch(name):
                if (line := kept.get(int(one[1]))) is None or not line.parts:
                    beside.add(name)
            elif INIT_NAME.fullmatch(name):
                beside.add(name)
        whole = found.newlines == len(kept) and not found.unreadable and not strange
        strange = strange or found.given_up or (found.unreadable > 0 and not found.lines)
        return Survey(kept, timelines, beside, whole, strange)

    def _there(
        self,
        folder: OpenFolder,
        lines: dict[int, IndexLine],
        wrong: Collection[int],
        names: Mapping[str, bool],
        timelines: Mapping[int, Timeline],
    ) -> dict[int, IndexLine]:
        """Return the lines that are correct: their file exists and has its length, or they are gaps."""
        sizes = np.fromiter((line.size for line in lines.values() if line.parts), np.int64)
        # Sorting a week's would hold up all other threads.
        usual = int(np.partition(sizes, (sizes.size - 1) // 2)[(sizes.size - 1) // 2]) if sizes.size else 0
        # By their count, not by their numbers: one that is far ahead is soon said.
        checked = min(islice(reversed(lines), CHECKED_SEGMENTS), default=0)
        kept: dict[int, IndexLine] = {}
        for number, line in lines.items():
            if number in wrong:
                continue
            if line.parts:
                name = self._name_of(number)
                looked_at = number >= checked or line.size > UNUSUAL_SIZES * usual
                whole = not looked_at or _size_of(folder, name) == line.size
                if not (names.get(name) and line.init in timelines and whole):
                    self.faults.missing += bool(kept)  # earlier files are removed before their lines are
                    continue
            elif not kept:
                continue
            kept[number] = line
        return kept

    def settle(self, survey: Survey) -> StoredRendition:
        """Move files that don't belong to the index aside, and write it anew where lines of it are wrong.

        Raises:
            OSError: the folder can't be read.
        """
        with self.place.open() as folder:
            kept, beside = survey.lines, set(survey.names)
            used = {line.init for line in kept.values() if line.parts}
            inits = {number: one for number, one in survey.timelines.items() if number in used}
            unused = [self._init_of(number) for number in survey.timelines if number not in used]
            beside -= {self._init_of(number) for number in survey.timelines}
            if self._shared_index(folder) or survey.strange:
                beside.add(INDEX)
            # Segments that were put into the past stay here for the next start, and behind a crash.
            found = (self._segment_name.fullmatch(name) for name in beside)
            for name in [*self.past_writer.linked(folder, [int(one[1]) for one in found if one])]:
                folder.remove(name)
                beside.discard(name)
            if beside:
                # Segments that are moved aside may need them.
                beside.update(unused)
                self._set_aside(folder, list(beside))
            else:
                # Each was read, and is an init segment; but no segment that is anywhere here needs it.
                for name in unused:
                    folder.remove(name)
            self._inits = {number: len(one.init) for number, one in inits.items()}
            self._lines = self._live = len(kept)
            # A full disk can still be read from.
            with contextlib.suppress(OSError):
                if not survey.whole or self.faults.count or INDEX in beside:
                    self._write_index(folder, kept.values())
        return StoredRendition(kept, inits)

    @staticmethod
    def _shared_index(folder: OpenFolder) -> bool:
        """Return whether the index has another hard link: then it must not be appended to."""
        status = folder.status(INDEX)
        return status is not None and status.st_nlink > 1

    def _names(self, folder: OpenFolder) -> dict[str, bool]:
        """Return the names in the folder, and whether each is a file; remove unfinished files."""
        names = {}
        unfinished = []
        for entry in folder.entries():
            regular = entry.is_file(follow_symlinks=False)
            names[entry.name] = regular
            if regular and is_unfinished(folder, entry.name):
                unfinished.append(entry.name)
        for name in unfinished:
            folder.remove(name)
            del names[name]
        return names

    def _set_aside(self, folder: OpenFolder, names: Sequence[str]) -> None:
        found = (self._segment_name.fullmatch(name) for name in names)
        self.faults.segments = nsmallest(MAX_NAMED_SEGMENTS, (int(one[1]) for one in found if one))
        try:
            self.faults.places.append(folder.set_aside(names))
            self.faults.aside += len(names)
        except OSError as error:
            self.faults.places.append(str(error))
            self.faults.stuck += len(names)

    def put_aside(self, numbers: Sequence[int]) -> None:
        """Move segments aside that can't be listed with the others.

        Raises:
            OSError: they can't be moved.
        """
        with self.place.open() as folder:
            names = [self._name_of(number) for number in numbers]
            folder.set_aside([name for name in names if folder.status(name) is not None])

    def try_write(self) -> None:
        """Write as much as a small segment has, of which nothing stays.

        Raises:
            OSError: it can't be written.
        """
        with self.place.open() as folder:
            folder.try_write(TRIED_BYTES)

    def store(self, segment: LiveSegment, left: int) -> IndexLine:
        """Write a segment, and append its line; of a gap, the line.

        Args:
            left: discontinuities before it.

        Returns:
            Its line.

        Raises:
            OSError: it can't be written; then nothing of it is left.
        """
        with self.place.open() as folder:
            if segment.gap or segment.timeline is None:
                line = index.line_of(segment, left)
                self._append(folder, line)
                return line
            timeline = segment.timeline
            if timeline.number not in self._inits:
                self._write_new(folder, self._init_of(timeline.number), timeline.init)
                self._inits[timeline.number] = len(timeline.init)
            line = index.line_of(segment, left)
            name = self._name_of(segment.number)
            self._write_new(folder, name, segment.data)
            try:
                self._append(folder, line)
            except OSError:
                folder.remove(name, len(segment.data))
                raise
            return line

    def archive(self, lines: Sequence[IndexLine]) -> bool:
        """Put segments that leave the playlist into the past, whose lines are in ascending order.

        Returns:
            Whether a block was begun.

        Raises:
            OSError: it can't be written; it may be tried again.
        """
        with self.place.open() as folder:
            return self.past_writer.put(folder, lines)

    @staticmethod
    def _write_new(folder: OpenFolder, name: str, data: bytes) -> None:
        """Write a file; anything of its name is moved aside."""
        if folder.status(name) is not None:
            folder.set_aside([name])
        folder.write_whole(name, data, replaces=False)

    def remove(self, number: int, size: int, *, oldest: bool = True) -> int:
        """Remove a segment's file, if it is what we wrote; ``tidy`` removes what else isn't needed then.

        Args:
            number: the segment's; it may be a gap's.
            size: its bytes; 0 of what has none.
            oldest: whether it is the first one, whose line goes with it in time.

        Returns:
            How many bytes the segment had.

        Raises:
            OSError: it can't be removed; it may be tried again.
        """
        with self.place.open() as folder:
            there = size and folder.status(self._name_of(number)) is not None
            removed = bool(there) and folder.remove(self._name_of(number), size)
        if oldest:
            self._live, self._first = max(self._live - 1, 0), max(self._first, number + 1)
        return size if removed else 0

    def tidy(self, timelines: Iterable[int]) -> None:
        """Remove init segments that aren't needed any more, and lines of removed segments once they are many.

        Args:
            timelines: whose init segments are removed; those that an earlier call couldn't remove are tried
                again.

        Raises:
            OSError: some can't be removed; the next call tries again.
        """
        self._unneeded.update(timelines)
        self._unneeded.intersection_update(self._inits)
        is_long = self._lines > 2 * self._live + self._limits.compact_slack_lines
        if not self._unneeded and not is_long:
            return
        failure: OSError | None = None
        with self.place.open() as folder:
            for timeline in sorted(self._unneeded):
                try:
                    folder.remove(self._init_of(timeline), self._inits[timeline])
                except OSError as error:
                    failure = error
                else:
                    del self._inits[timeline]
            if is_long:
                lines = index.read(folder, self._limits).lines.values()
                self._write_index(folder, [line for line in lines if line.number >= self._first])
        if failure is not None:
            raise failure

    def _append(self, folder: OpenFolder, line: IndexLine) -> None:
        folder.append_lines(INDEX, index.encode(line))
        self._lines += 1
        self._live += 1

    def _write_index(self, folder: OpenFolder, lines: Collection[IndexLine]) -> None:
        folder.write_whole(INDEX, b"".join(index.encode(line) for line in lines))
        self._lines = self._live = len(lines)


def _size_of(folder: OpenFolder, name: str) -> int:
    status = folder.status(name)
    return -1 if status is None else status.st_size

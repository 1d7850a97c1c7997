"""One rendition's folder on disk: a file per segment and init segment, and the index. It blocks.

A file is written under another name, synchronised and renamed; only then its line is appended. So what the
index names is whole, whenever the process or the machine stops; what isn't named is no part of the DVR.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path

from media import webvtt
from media.codecs import parse_sample_entry
from media.errors import MediaError
from media.fragments import FragmentReader, InitSegment
from packager.dvr import index
from packager.dvr.files import TEMPORARY, remove_file, size_of, write_all, write_whole
from packager.dvr.index import Line
from packager.dvr.restore import Found
from packager.live.livesegment import TEXT, LiveSegment, Timeline
from packager.live.periods import parse_time
from packager.live.rendition import extension_of, segment_uri

INDEX = "index"
ASIDE = "aside"
"""Folder of files that aren't what the index says, or that it doesn't know."""

MAX_ASIDE = 64
"""Most files that are kept aside; the oldest go first."""

MAX_INDEX_BYTES = 256 << 20
"""Longest index that is read; a longer one isn't ours."""

SIZES_CHECKED = 4096
"""Of so many segments behind the newest one the length is looked at, of the others only whether they are
there: each was synchronised before its line was written, and what is lost since shows when it is read."""

MAX_INIT_BYTES = 1 << 20

COMPACT_SLACK = 4096
"""Lines of removed segments beyond which the index is written anew, if they are most of it, too."""

_NUMBER = r"(0|[1-9][0-9]{0,14})"
_INIT = re.compile(rf"init-{_NUMBER}\.mp4")


class Folder:
    """The files of one rendition.

    Args:
        path: the folder; ``load`` makes it.

    Attributes:
        troubles: how many files were set aside, and lines couldn't be read, by ``load``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._base = f"{path}/"
        self._extension = extension_of(path.name)
        self.troubles = 0
        self._inits: set[int] = set()
        self._lines = 0
        self._live = 0
        self._first = 0
        self._ragged = False

    def place_of(self, number: int) -> str:
        """Tell where a segment's file is."""
        return self._base + segment_uri(number, self._extension)

    def _init_of(self, timeline: int) -> str:
        return f"{self._base}init-{timeline}.mp4"

    def load(self) -> Found:
        """Read what is there, and put it in order.

        Raises:
            OSError: the folder can't be made or read.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        data = self._read_index()
        lines, self.troubles = index.decode(data)
        unknown = self._names()
        timelines = read_timelines(self.path)
        checked = max(lines, default=0) - SIZES_CHECKED
        kept: dict[int, Line] = {}
        for number, line in lines.items():
            # A gap's line tells of a date; a segment's line is true if its file is what it was.
            if line.parts:
                name = segment_uri(number, self._extension)
                if not (unknown.get(name) and line.init in timelines and self._is_whole(line, checked)):
                    self.troubles += bool(kept)  # those before the first are removed before their lines are
                    continue
                del unknown[name]
            elif not kept:
                continue
            kept[number] = line
        used = {line.init for line in kept.values()}
        for number in timelines:
            unknown.pop(f"init-{number}.mp4", None)
            if number not in used:
                remove_file(self._init_of(number))
        self._set_aside(sorted(unknown))
        self._inits = {number for number in timelines if number in used}
        self._lines = self._live = len(kept)
        try:
            if data.count(b"\n") != len(kept) or not data.endswith(b"\n"):
                self._write_index(kept.values())
        except OSError:
            # A full disk is no reason not to show what it has; the next line begins behind a torn one's end.
            self._ragged = True
        return Found(kept, {number: timelines[number] for number in self._inits})

    def _is_whole(self, line: Line, checked: int) -> bool:
        """Tell whether a segment's file is as long as it was; not of those long there."""
        return line.number < checked or size_of(self.place_of(line.number)) == line.size

    def store(self, segment: LiveSegment, left: int) -> Line:
        """Write a segment, and append its line; of a gap, the line.

        Args:
            segment: finished, in memory.
            left: discontinuities before it.

        Returns:
            Its line.

        Raises:
            OSError: it can't be written; then nothing of it is left.
        """
        if segment.gap or segment.timeline is None:
            line = index.line_of(segment, left)
        else:
            timeline = segment.timeline
            if timeline.number not in self._inits:
                write_whole(self._init_of(timeline.number), timeline.init)
                self._inits.add(timeline.number)
            time, timescale = 0, 1
            if timeline.has_map:
                time, timescale = parse_time(timeline.init, bytes(segment.parts[0].data), shown=True)
            line = index.line_of(segment, left, Fraction(time, timescale))
            write_whole(self.place_of(segment.number), segment.data)
        try:
            self._append(index.encode(line))
        except OSError:
            remove_file(self.place_of(segment.number))
            raise
        return line

    def remove(self, number: int, timelines: Sequence[int], *, oldest: bool = True) -> int:
        """Remove a segment and init segments.

        Args:
            number: the segment's; it may be a gap's.
            timelines: the init segments'.
            oldest: whether it is the first one, whose line goes with it in time.

        Returns:
            How many bytes the segment had.

        Raises:
            OSError: it can't be removed.
        """
        size = remove_file(self.place_of(number))
        for timeline in timelines:
            remove_file(self._init_of(timeline))
            self._inits.discard(timeline)
        if not oldest:
            return size
        self._live, self._first = max(self._live - 1, 0), max(self._first, number + 1)
        if self._lines > 2 * self._live + COMPACT_SLACK:
            lines, _ = index.decode(self._read_index())
            self._write_index([line for line in lines.values() if line.number >= self._first])
        return size

    def _read_index(self) -> bytes:
        try:
            with (self.path / INDEX).open("rb") as file:
                return file.read(MAX_INDEX_BYTES)
        except FileNotFoundError:
            return b""

    def _names(self) -> dict[str, bool]:
        """Give the names that are there, and whether each is a file; unfinished ones go."""
        names = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                regular = entry.is_file(follow_symlinks=False)
                if regular and entry.name.endswith(TEMPORARY):
                    Path(entry.path).unlink()
                elif entry.name not in (INDEX, ASIDE):
                    names[entry.name] = regular
        return names

    def _set_aside(self, names: Sequence[str]) -> None:
        if not names:
            return
        aside = self.path / ASIDE
        aside.mkdir(exist_ok=True)
        for name in names:
            # A whole segment whose line a crash prevented is no fault, but it isn't published either.
            self.troubles += 1
            with contextlib.suppress(OSError):
                (self.path / name).rename(aside / name)
        files = [path for path in aside.iterdir() if path.is_file() or path.is_symlink()]
        for path in sorted(files, key=lambda path: path.lstat().st_mtime)[:-MAX_ASIDE]:
            path.unlink()

    def _append(self, data: bytes) -> None:
        with (self.path / INDEX).open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                write_all(file.fileno(), b"\n" + data if self._ragged else data)
            except OSError:
                # Half a line would spoil the next one.
                file.truncate(end)
                raise
        self._ragged = False
        self._lines += 1
        self._live += 1

    def _write_index(self, lines: Collection[Line]) -> None:
        write_whole(self.path / INDEX, b"".join(index.encode(line) for line in lines))
        self._lines = self._live = len(lines)


def read_timelines(folder: Path) -> dict[int, Timeline]:
    """Read the init segments of a rendition's folder, by number.

    Raises:
        OSError: one of them can't be read.
    """
    timelines = {}
    for path in folder.glob("init-*.mp4"):
        found = _INIT.fullmatch(path.name)
        regular = path.is_file() and not path.is_symlink()
        if found is not None and regular and path.stat().st_size <= MAX_INIT_BYTES:
            timeline = _parse_init(int(found[1]), path.read_bytes())
            if timeline is not None:
                timelines[timeline.number] = timeline
    return timelines


def _parse_init(number: int, data: bytes) -> Timeline | None:
    """Read an init segment as it was written, or what stands for that of a text; None where it is neither."""
    if data == webvtt.HEADER:
        return Timeline(number, data, TEXT)
    reader = FragmentReader()
    try:
        reader.receive_data(data)
        for event in reader.events():
            if isinstance(event, InitSegment):
                return Timeline(number, data, parse_sample_entry(event.tracks[0].sample_entries[0]))
    except (MediaError, IndexError):
        pass
    return None

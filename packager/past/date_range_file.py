"""The date ranges of a channel's DVR, which stay when the live playlist has lost them, and the file of them.

The file has the EXT-X-DATERANGE tags as they came. One process writes them, and several may read them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Lock

from media.errors import MediaError
from media.hls.date_range import DateRange, read_date_range
from packager.publish.date_ranges import merged, reach
from packager.safe_files import DataFolder

NAME = "date-ranges"
"""Name of the file, beside the folders of the renditions."""

MAX_BYTES = 8 << 20
"""Longest file that is written: the titles of a station for three weeks. The oldest ranges give way."""

MOST_LINES = 64
"""Most tags of one range that are kept, the first ones and the newest: more of them say nothing new."""

MOST_FOUND = 2000
"""Most ranges of a span, the newest."""


@dataclass(frozen=True, slots=True)
class _StoredRange:
    """A range, with its tags as they came.

    Attributes:
        tag: the last of them, which has the duration.
        lines: the tags' lines, each with the number of all lines before it in the file.
    """

    tag: DateRange
    lines: tuple[tuple[int, str], ...]

    @property
    def end(self) -> Fraction | None:
        """Up to when spans may have it, in seconds since the epoch; None while its end isn't known."""
        return reach(self.tag, is_end=len(self.lines) > 1)

    def is_over(self, before: Fraction) -> bool:
        """Return whether the range ended before a date."""
        end = self.end
        return end is not None and end < before

    def touches(self, begin: Fraction, end: Fraction) -> bool:
        """Return whether the range has something of a span."""
        return self.tag.start_date < end and not self.is_over(begin)


@dataclass(frozen=True, slots=True)
class StoredRanges:
    """The ranges of a span, of which some may be in the live playlist as well."""

    ranges: Sequence[_StoredRange] = ()

    @property
    def starts(self) -> Iterator[Fraction]:
        """The dates at which the ranges begin, in seconds since the epoch."""
        return (one.tag.start_date for one in self.ranges)

    def lines_within(self, begin: Fraction, end: Fraction, listed: Sequence[str] = ()) -> list[str]:
        """Return the lines of the ranges that touch a part of the span, in the order in which they came.

        Args:
            begin: seconds since the epoch.
            end: seconds since the epoch.
            listed: lines of the part that the live playlist has.
        """
        found = sorted(line for one in self.ranges if one.touches(begin, end) for line in one.lines)
        lines = [line for _, line in found]
        known = set(lines)
        return [*lines, *(line for line in listed if line not in known)]

    def tags_within(self, begin: Fraction, end: Fraction) -> Sequence[DateRange]:
        """Return the ranges that touch a part of the span, each as all its tags together describe it."""
        return merged(map(read_date_range, self.lines_within(begin, end)))


class RangeTable:
    """The ranges of a DVR by their names, in the order in which they came."""

    def __init__(self) -> None:
        self._ranges: dict[str, _StoredRange] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self._ranges)

    def note(self, line: str) -> None:
        """Note the next line, unless it is known, or is none of a range."""
        with contextlib.suppress(MediaError):
            self.note_tag(read_date_range(line), line)

    def note_tag(self, tag: DateRange, line: str) -> None:
        """Note the next tag and its line, unless it is known."""
        known = self._ranges.get(tag.id)
        before = () if known is None else known.lines
        if all(one != line for _, one in before):
            kept = before[: MOST_LINES - 1]
            self._ranges[tag.id] = _StoredRange(tag, (*kept, (self._count, line)))
            self._count += 1

    def within(self, begin: Fraction, end: Fraction) -> StoredRanges:
        """Return the ranges that touch a span, whose bounds are in seconds since the epoch."""
        return StoredRanges([one for one in self._ranges.values() if one.touches(begin, end)][-MOST_FOUND:])

    def going_on(self) -> Sequence[DateRange]:
        """Return the ranges whose end isn't known."""
        return [one.tag for one in self._ranges.values() if one.end is None]

    def new_lines(self, tags: Sequence[DateRange]) -> list[str]:
        """Return the lines of those of these tags that aren't known."""
        known = {line for tag in tags if tag.id in self._ranges for _, line in self._ranges[tag.id].lines}
        return [line for line in dict.fromkeys(map(str, tags)) if line not in known]

    def lines_behind(self, before: Fraction) -> list[str]:
        """Return all lines of the ranges that didn't end before a date, in the order in which they came."""
        kept = [one for one in self._ranges.values() if not one.is_over(before)]
        return [line for _, line in sorted(line for one in kept for line in one.lines)]

    def are_over(self, names: Iterable[str], before: Fraction) -> bool:
        """Return whether all of these ranges ended before a date."""
        return all(self._ranges[name].is_over(before) for name in names)


class DateRangeFile:
    """The file of one channel. All of this blocks.

    Args:
        place: the folder of the channel's DVR.
    """

    def __init__(self, place: DataFolder | Path) -> None:
        self._place = DataFolder.at(place)
        # Several threads may read.
        self._lock = Lock()
        self._read: tuple[int, int] = (0, 0)
        self._table = RangeTable()

    def within(self, begin: Fraction, end: Fraction) -> StoredRanges:
        """Return the ranges that touch a span.

        Args:
            begin: seconds since the epoch.
            end: seconds since the epoch.
        """
        with self._lock:
            self._catch_up()
            return self._table.within(begin, end)

    def going_on(self) -> Sequence[DateRange]:
        """Return the ranges whose end isn't known."""
        with self._lock:
            self._catch_up()
            return self._table.going_on()

    def add(self, tags: Sequence[DateRange], before: Fraction) -> None:
        """Append tags.

        Args:
            before: date in seconds since the epoch; ranges that ended earlier may go.

        Raises:
            OSError: they can't be written.
        """
        with self._lock, self._place.open(make=True) as folder:
            self._catch_up()
            data = "".join(f"{line}\n" for line in self._table.new_lines(tags)).encode()
            size = self._read[1]
            if size + len(data) > MAX_BYTES:
                folder.write_whole(NAME, self._shortened(before) + data)
                return
            folder.append_lines(NAME, data)

    def _shortened(self, before: Fraction) -> bytes:
        """Return the newer half of the lines, without the ranges that are over."""
        lines = self._table.lines_behind(before)
        size, first = 0, len(lines)
        while first and size + len(lines[first - 1].encode()) < MAX_BYTES // 2:
            first -= 1
            size += len(lines[first].encode()) + 1
        return "".join(f"{line}\n" for line in lines[first:]).encode()

    def _catch_up(self) -> None:
        """Read what was appended since the last time, or all of another file."""
        try:
            with self._place.open() as folder:
                status = folder.status(NAME)
                if status is None:
                    self._forget()
                    return
                file, size = self._read
                if (status.st_ino, status.st_size) == self._read:
                    return
                data = folder.read(NAME, 2 * MAX_BYTES)
        except OSError:
            return
        if status.st_ino != file or len(data) < size:
            self._forget()
            size = 0
        # A line that is being written comes whole the next time.
        end = data.rfind(b"\n") + 1
        for line in data[size:end].decode(errors="replace").splitlines():
            self._table.note(line)
        self._read = status.st_ino, max(end, size)

    def _forget(self) -> None:
        self._table, self._read = RangeTable(), (0, 0)

"""The date ranges of a channel's DVR, which stay when the live playlist has lost them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.hls.date_range import DateRange, read_date_range
from packager.publish.date_ranges import merged, reach

MAX_BYTES = 8 << 20
"""Most bytes that are stored: the titles of a station for three weeks. The oldest ranges give way."""

MOST_LINES = 64
"""Most tags of one range that are kept, the first ones and the newest: more of them say nothing new."""

MOST_FOUND = 2000
"""Most ranges of a span, the newest."""


@dataclass(frozen=True, slots=True)
class _StoredRange:
    """A range, with its tags as they came.

    Attributes:
        tag: the last of them, which has the duration.
        lines: the tags' lines, each with the number of all lines before it.
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

    def are_over(self, names: Iterable[str], before: Fraction) -> bool:
        """Return whether all of these ranges ended before a date."""
        return all(self._ranges[name].is_over(before) for name in names)

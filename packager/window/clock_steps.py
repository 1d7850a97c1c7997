"""Where the clock was set while segments were made, and which of them the dates of a span find. Pure.

Dates rise with numbers until the clock is set back: then segments of two stretches may have the same dates.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from packager.window.model import LiveSegment
from packager.window.program_date_time import LONGEST_OVERLAP

OVERLAP_SECONDS = float(LONGEST_OVERLAP) + 0.01
"""By so much the date of a segment may lie in the one before without a step of the clock."""

MOST_STEPS = 64
"""Most steps of the clock by which segments are divided, the newest: all stretches are compared."""

LEAP_SECONDS = 30.0
"""Dates that are further behind the end of the number before are those of another stretch."""


class DatedStretch(NamedTuple):
    """Segments in a row whose dates rise.

    Attributes:
        numbers: their media sequence numbers.
        begin: date of the first one, in seconds since the epoch.
        end: date of the end of the last one that dates find, in seconds since the epoch.
    """

    numbers: range
    begin: float
    end: float

    def has(self, segment: LiveSegment) -> bool:
        """Return whether a segment is one of those that dates find."""
        return segment.number in self.numbers and end_of(segment) <= self.end + OVERLAP_SECONDS

    def seconds(self, begin: float, end: float) -> float:
        """Return how many seconds of a span are in it."""
        return max(min(self.end, end) - max(self.begin, begin), 0.0)


def begin_of(segment: LiveSegment) -> float:
    """Return the date of a segment in seconds since the epoch."""
    numerator, denominator = segment.date_ratio
    return numerator / denominator


def end_of(segment: LiveSegment) -> float:
    """Return the date of a segment's end in seconds since the epoch."""
    return begin_of(segment) + float(segment.duration)


def is_set_back(before: LiveSegment, segment: LiveSegment) -> bool:
    """Return whether the clock was set back between two segments, the second of which follows."""
    return begin_of(segment) < end_of(before) - OVERLAP_SECONDS


def is_step(before: LiveSegment, segment: LiveSegment) -> bool:
    """Return whether another stretch begins with the second of two segments."""
    missing = (segment.number - before.number - 1) * float(before.duration)
    return is_set_back(before, segment) or begin_of(segment) > end_of(before) + missing + LEAP_SECONDS


def stretches_of(segments: Sequence[LiveSegment]) -> list[DatedStretch]:
    """Divide segments in ascending order of their numbers at the newest steps of the clock."""
    found: list[DatedStretch] = []
    begin = 0
    for at in range(1, len(segments) + 1):
        if at == len(segments) or is_step(segments[at - 1], segments[at]):
            first, last = segments[begin], segments[at - 1]
            behind = last.number + 1 if at == len(segments) else segments[at].number
            found.append(DatedStretch(range(first.number, behind), begin_of(first), end_of(last)))
            begin = at
    older, newest = found[:-MOST_STEPS], found[-MOST_STEPS:]
    if not older:
        return newest
    numbers = range(older[0].numbers.start, older[-1].numbers.stop)
    return [DatedStretch(numbers, older[0].begin, older[-1].end), *newest]


def found_by_date(
    stretches: Sequence[DatedStretch], start: Fraction, end: Fraction | None
) -> Sequence[DatedStretch]:
    """Return the stretches, or what is left of each, in which a span is found; their dates rise.

    Where several have a date of the span, the newest counts, unless it would hide more than twice as many
    seconds as it has: a clock that was behind for a moment hides no hour that came before.

    Args:
        stretches: in ascending order of their numbers.
        start: of the span, in seconds since the epoch.
        end: likewise; None: it goes on, and has what comes now, however little that is yet.

    Returns:
        Those before the span are among them, as its first segment may be the last before its start.
    """
    begin, behind = float(start), math.inf if end is None else float(end)
    if end is None and stretches and begin < stretches[-1].end:
        behind = stretches[-1].end
    found: deque[DatedStretch] = deque()
    for at in reversed(range(len(stretches))):
        one = stretches[at]
        if one.begin >= behind:
            continue
        since = max(one.begin, begin)
        if 2 * one.seconds(since, behind) < _covered(stretches[:at], since, behind):
            continue
        found.appendleft(one._replace(end=min(one.end, found[0].begin if found else math.inf)))
        behind = one.begin
    return found


def _covered(stretches: Sequence[DatedStretch], begin: float, end: float) -> float:
    """Return how many seconds of a span are in any of some stretches."""
    found, reach = 0.0, begin
    for one in sorted(stretches, key=lambda one: one.begin):
        found += one.seconds(reach, end)
        reach = max(reach, one.end)
    return found

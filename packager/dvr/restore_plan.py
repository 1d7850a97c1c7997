"""Decides what a channel's windows restore from the segments of an earlier process. Pure.

All renditions get the same consecutive numbers (RFC 8216bis §6.2.4): gaps stand for segments that a rendition
lacks, and for the time in which no process ran.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from msgspec.structs import replace

from packager.dvr.index import IndexLine, has_time, segment_of
from packager.window.model import LiveSegment, Timeline

MOST_TOLERATED = 1000
"""How many more numbers may be listed than the window's duration suggests; segments may be short."""


LISTED_GAPS = 10
"""How many gaps are listed where all stored segments are older than the playlist."""


@dataclass(frozen=True, slots=True)
class StoredRendition:
    """The stored segments of a rendition.

    Attributes:
        lines: in ascending order of their numbers.
        timelines: by number.
    """

    lines: dict[int, IndexLine]
    timelines: Mapping[int, Timeline]

    def behind(self, earlier: StoredRendition) -> StoredRendition:
        """Return these segments behind earlier ones."""
        return StoredRendition(earlier.lines | self.lines, {**earlier.timelines, **self.timelines})

    def without(self, numbers: Collection[int]) -> StoredRendition:
        """Return these segments without those of some numbers."""
        if not numbers:
            return self
        lines = {number: line for number, line in self.lines.items() if number not in numbers}
        return StoredRendition(lines, self.timelines)

    @property
    def timeline(self) -> Timeline | None:
        """The timeline of the newest segment, or of the gap behind it; None without any."""
        known = (
            self.timelines.get(line.init) for line in reversed(self.lines.values()) if line.init is not None
        )
        return next(filter(None, known), None)


def last_number(found: Mapping[str, StoredRendition]) -> int:
    """Return the last number of any rendition; -1 without any."""
    return max((next(reversed(one.lines)) for one in found.values() if one.lines), default=-1)


def within(
    found: Mapping[str, StoredRendition], next_number: int, segment_duration: Fraction, kept: Fraction
) -> bool:
    """Return whether any found segment would still be listed before the next number.

    Args:
        found: by rendition.
        next_number: with which it goes on.
        segment_duration: seconds.
        kept: seconds that stay listed.
    """
    return (next_number - 1 - last_number(found)) * segment_duration < kept


def is_recent(found: Mapping[str, StoredRendition], now: Fraction, kept: Fraction) -> bool:
    """Return whether the newest found segment would still be listed, by its date.

    Args:
        found: by rendition.
        now: seconds since the epoch.
        kept: seconds that stay listed.
    """
    last = [one.lines[next(reversed(one.lines))] for one in found.values() if one.lines]
    return any(Fraction(*line.date) + Fraction(*line.duration) > now - kept for line in last)


@dataclass(frozen=True, slots=True)
class ListableRange:
    """Which found segments can be listed before the next one.

    Attributes:
        elapsed: whether there was time for all numbers below it, so that older segments have left the list.
    """

    first: int
    elapsed: bool


def listable_range(
    found: Mapping[str, StoredRendition], next_number: int, segment_duration: Fraction, kept: Fraction
) -> ListableRange:
    """Find how far back numbers can be listed without a hole longer than the list.

    Args:
        found: by rendition.
        next_number: the number of the next segment.
        segment_duration: duration of a gap, in seconds.
        kept: seconds that stay listed.
    """
    most = math.ceil(kept / segment_duration)
    known = {number: line for one in found.values() for number, line in one.lines.items()}
    first = next_number
    for number in sorted(known, reverse=True):
        if first - number > most or next_number - number > 4 * most + MOST_TOLERATED:
            return ListableRange(first, first not in known or has_time(known[number], known[first]))
        first = number
    return ListableRange(first, elapsed=True)


def gaps_behind(
    found: StoredRendition, next_number: int, segment_duration: Fraction, now: Fraction
) -> tuple[list[LiveSegment], int]:
    """Make the gaps that a rendition lists where all that it has stored is older than its playlist.

    Args:
        found: the newest segments of the rendition.
        next_number: the number of the next segment.
        segment_duration: duration of a gap, in seconds.
        now: seconds since the epoch at which the gaps end.

    Returns:
        The gaps, and EXT-X-DISCONTINUITY-SEQUENCE of the first one.
    """
    timeline = found.timeline
    sequence = max((one.left + one.discontinuity for one in [*found.lines.values()][-1:]), default=0)
    gaps = [
        LiveSegment(
            next_number - behind,
            timeline,
            (now - behind * segment_duration).as_integer_ratio(),
            gap=True,
            duration=segment_duration,
        )
        for behind in range(LISTED_GAPS, 0, -1)
    ]
    return gaps, sequence


def with_timeline(segments: list[LiveSegment], timeline: Timeline | None) -> list[LiveSegment]:
    """Return what a rendition lists; where all of it is gaps, with the timeline of what is behind them.

    A channel without one counts as if there had never been any media.
    """
    if timeline is None or any(one.timeline is not None for one in segments):
        return segments
    return [replace(one, timeline=timeline) for one in segments]


def align_renditions(
    found: Mapping[str, StoredRendition],
    next_number: int,
    segment_duration: Fraction,
    now: Fraction | None = None,
    *,
    whole: bool = True,
) -> tuple[dict[str, list[LiveSegment]], int]:
    """Make the segments and gaps that each rendition's window restores.

    Args:
        found: by rendition.
        next_number: the number of the next segment.
        segment_duration: duration of a gap, in seconds.
        now: seconds since the epoch, before which the gaps end; None for no such limit.
        whole: whether a hole needs a gap for each number; else one gap stands for the hole.

    Returns:
        By rendition: segments of the same numbers, up to the next one; EXT-X-DISCONTINUITY-SEQUENCE of the
        first.
    """
    common = _common(found, next_number, segment_duration, now, whole=whole)
    segments: dict[str, list[LiveSegment]] = {name: [] for name in found}
    timelines: dict[str, Timeline | None] = dict.fromkeys(found)
    for line in common:
        for name, one in found.items():
            own = one.lines.get(line.number)
            init = None if own is None else own.init
            timeline = None if init is None else one.timelines.get(init)
            if own is None or not own.parts or timeline is None:
                # The segments before the first of these lines may have gone.
                timelines[name] = timelines[name] or timeline
                gap = IndexLine(line.number, line.date, line.duration, discontinuity=line.discontinuity)
                segments[name].append(segment_of(gap, timelines[name]))
            else:
                timelines[name] = timeline
                segments[name].append(segment_of(own, timeline))
    return segments, common[0].left if common else 0


def _common(
    found: Mapping[str, StoredRendition],
    next_number: int,
    segment_duration: Fraction,
    now: Fraction | None,
    *,
    whole: bool,
) -> list[IndexLine]:
    """Make a line for each number: that of any rendition, or one for a gap."""
    known: dict[int, IndexLine] = {}
    for one in found.values():
        for number, line in one.lines.items():
            if number not in known or (line.parts and not known[number].parts):
                known[number] = line
    lines: list[IndexLine] = []
    for number in sorted(known):
        following = known[number]
        if lines:
            until = Fraction(*following.date)
            begin = number if whole else min(number, lines[-1].number + 2)
            lines += _gaps(lines[-1], begin, until, following.left, segment_duration)
        lines.append(following)
    if lines:
        lines += _gaps(lines[-1], next_number, now, 0, segment_duration)
    return lines


def _gaps(
    before: IndexLine, number: int, until: Fraction | None, left: int, longest: Fraction
) -> Iterator[IndexLine]:
    """Make lines for the numbers that have none.

    Numbers may run ahead of the clock. §6.2.1: no segment's date may lie in another one; so where there is
    too little time for all gaps, the last ones share the rest of the time.

    Args:
        before: the line of the last number before the hole.
        number: the number of the segment behind the gaps.
        until: the date of that segment, or an earlier limit; None where it isn't known.
        left: discontinuities before that one, where it has a line: some may have been lost on the way.
        longest: longest duration of a gap, in seconds.
    """
    date, counted = Fraction(*before.date) + Fraction(*before.duration), before.left + before.discontinuity
    count = number - before.number - 1
    room = count * longest if until is None or until <= date else until - date
    whole = min(count, math.ceil(room / longest) - 1) if room < count * longest else count
    share = longest if whole == count else (room - whole * longest) / (count - whole)
    for index in range(count):
        duration = longest if index < whole else share
        lost = left > counted
        yield IndexLine(
            before.number + 1 + index,
            date.as_integer_ratio(),
            duration.as_integer_ratio(),
            left=counted,
            discontinuity=lost,
        )
        date, counted = date + duration, counted + lost

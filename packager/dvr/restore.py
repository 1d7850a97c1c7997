"""What the windows of a channel take up of what an earlier process left. Pure.

All renditions get the same numbers without holes (RFC 8216bis §6.2.4): what one of them lacks is a gap, and
gaps stand for the time in which no process ran.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from packager.dvr.index import Line, segment_of
from packager.live.livesegment import LiveSegment, Timeline


@dataclass(frozen=True, slots=True)
class Found:
    """What a rendition's folder has.

    Attributes:
        lines: by number, in the order of the numbers.
        timelines: by number.
    """

    lines: Mapping[int, Line]
    timelines: Mapping[int, Timeline]


def last_number(found: Mapping[str, Found]) -> int:
    """Give the last number that any rendition has; -1 without any."""
    return max((number for one in found.values() for number in one.lines), default=-1)


def within(found: Mapping[str, Found], next_number: int, segment_duration: Fraction, kept: Fraction) -> bool:
    """Tell whether anything of it would still be listed when publishing goes on with a number.

    Args:
        found: by rendition.
        next_number: with which it goes on.
        segment_duration: seconds.
        kept: seconds that stay listed.
    """
    return (next_number - 1 - last_number(found)) * segment_duration < kept


def line_up(
    found: Mapping[str, Found], next_number: int, segment_duration: Fraction, now: Fraction | None = None
) -> tuple[dict[str, list[LiveSegment]], int]:
    """Give what each rendition takes up.

    Args:
        found: by rendition.
        next_number: with which publishing goes on.
        segment_duration: seconds for which a gap stands.
        now: seconds since the epoch, before which the gaps end; None: they end when they end.

    Returns:
        By rendition: segments of the same numbers, up to the next one; EXT-X-DISCONTINUITY-SEQUENCE of the
        first.
    """
    common = _common(found, next_number, segment_duration, now)
    segments: dict[str, list[LiveSegment]] = {name: [] for name in found}
    timelines: dict[str, Timeline | None] = dict.fromkeys(found)
    for line in common:
        for name, one in found.items():
            own = one.lines.get(line.number)
            init = None if own is None else own.init
            timeline = None if init is None else one.timelines.get(init)
            if own is None or not own.parts or timeline is None:
                gap = Line(line.number, line.date, line.duration, discontinuity=line.discontinuity)
                segments[name].append(segment_of(gap, timelines[name]))
            else:
                timelines[name] = timeline
                segments[name].append(segment_of(own, timeline))
    return segments, common[0].left if common else 0


def _common(
    found: Mapping[str, Found], next_number: int, segment_duration: Fraction, now: Fraction | None
) -> list[Line]:
    """Give a line for each number from the first that any rendition has: its, or one for a gap."""
    known: dict[int, Line] = {}
    for one in found.values():
        for number, line in one.lines.items():
            if number not in known or (line.parts and not known[number].parts):
                known[number] = line
    lines: list[Line] = []
    for number in sorted(known):
        following = known[number]
        if lines:
            until = Fraction(*following.date)
            lines += _gaps(lines[-1], number, until, following.left, segment_duration)
        lines.append(following)
    if lines:
        lines += _gaps(lines[-1], next_number, now, 0, segment_duration)
    return lines


def _gaps(before: Line, number: int, until: Fraction | None, left: int, longest: Fraction) -> Iterator[Line]:
    """Make lines for the numbers that have none.

    Numbers may run ahead of the clock. §6.2.1: no segment's date may lie in another one; so where there is
    too little time, the last gaps share what is left of it.

    Args:
        before: the line of the number before.
        number: of the segment behind them.
        until: date of that one, or one before it; None where it isn't known.
        left: discontinuities before that one, where it has a line: some may have been lost on the way.
        longest: seconds for which a gap stands.
    """
    date, counted = Fraction(*before.date) + Fraction(*before.duration), before.left + before.discontinuity
    count = number - before.number - 1
    room = count * longest if until is None or until <= date else until - date
    whole = min(count, math.ceil(room / longest) - 1) if room < count * longest else count
    share = longest if whole == count else (room - whole * longest) / (count - whole)
    for index in range(count):
        duration = longest if index < whole else share
        lost = left > counted
        yield Line(
            before.number + 1 + index,
            date.as_integer_ratio(),
            duration.as_integer_ratio(),
            left=counted,
            discontinuity=lost,
        )
        date, counted = date + duration, counted + lost

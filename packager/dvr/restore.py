"""What the windows of a channel take up of what an earlier process left. Pure.

All renditions get the same numbers without holes (RFC 8216bis §6.2.4): what one of them lacks is a gap, and
gaps stand for the time in which no process ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from packager.dvr.index import Line, segment_of
from packager.live.window import LiveSegment, Timeline


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
    found: Mapping[str, Found], next_number: int, segment_duration: Fraction
) -> tuple[dict[str, list[LiveSegment]], int]:
    """Give what each rendition takes up.

    Args:
        found: by rendition.
        next_number: with which publishing goes on.
        segment_duration: seconds for which a gap stands.

    Returns:
        By rendition: segments of the same numbers, up to the next one; EXT-X-DISCONTINUITY-SEQUENCE of the
        first.
    """
    common = _common(found, next_number, segment_duration)
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


def _common(found: Mapping[str, Found], next_number: int, segment_duration: Fraction) -> list[Line]:
    """Give a line for each number from the first that any rendition has: its, or one for a gap."""
    known: dict[int, Line] = {}
    for one in found.values():
        for number, line in one.lines.items():
            if number not in known or (line.parts and not known[number].parts):
                known[number] = line
    lines: list[Line] = []
    for number in sorted(known):
        while lines and lines[-1].number + 1 < number:
            lines.append(_gap(lines[-1], known[number].left, segment_duration))
        lines.append(known[number])
    while lines and lines[-1].number + 1 < next_number:
        lines.append(_gap(lines[-1], 0, segment_duration))
    return lines


def _gap(before: Line, left: int, segment_duration: Fraction) -> Line:
    """Make a line for a number without one.

    Args:
        before: the line of the number before.
        left: discontinuities before the next number that has a line: some may have been lost on the way.
        segment_duration: seconds for which it stands.
    """
    counted = before.left + before.discontinuity
    date = Fraction(*before.date) + Fraction(*before.duration)
    return Line(
        before.number + 1,
        date.as_integer_ratio(),
        segment_duration.as_integer_ratio(),
        left=counted,
        discontinuity=left > counted,
    )

"""The periods of a recording (ISO/IEC 23009-1 §5.3.2): its playlists' segments. Pure.

A period is a stretch without a discontinuity, as it was live. A segment that a rendition lacks ends one too:
in a period all of them are there. What its renditions last differs by a part and more where an encoder died:
a period ends with the shortest of them, so that none has a hole before the next one. The last one ends with
the longest: players take what lies beyond it for played already, and may stop before they come to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.dash.mpd import rounded_down, rounded_up
from packager.window.model import LiveSegment

SHORTEST_LAST = 1
"""Seconds. dash.js takes the period before a shorter last one for the last: it ends the media there, and may
wait for ever. So that moment behind a break is left out."""

Row = Mapping[str, LiveSegment]
"""By rendition: its segment of one number, which isn't a gap."""


@dataclass(frozen=True, slots=True)
class RecordedPeriod:
    """A period, and what is in it.

    Attributes:
        rows: its segments.
        start: seconds since the presentation's beginning.
        length: seconds.
    """

    rows: Sequence[Row]
    start: Fraction
    length: Fraction

    @staticmethod
    def leading(row: Row) -> LiveSegment:
        """Give the segment by which a period is measured: the picture's, else the sound's."""
        return _leading(row)

    @property
    def number(self) -> int:
        """Media sequence number of its first segment."""
        return _leading(self.rows[0]).number

    @property
    def began(self) -> Fraction:
        """Media time in seconds at which it begins."""
        return _leading(self.rows[0]).presentation_time


def recorded_periods(segments: Mapping[str, Sequence[LiveSegment]]) -> list[RecordedPeriod]:
    """Tell a recording's periods.

    Args:
        segments: by rendition, picture and sound: stored segments of the same numbers, or gaps.
    """
    groups = _unbroken_rows(segments)
    while len(groups) > 1 and _length(groups[-1], last=True) < SHORTEST_LAST:
        del groups[-1]
    found, start = list[RecordedPeriod](), Fraction(0)
    for rows in groups:
        found.append(RecordedPeriod(rows, start, _length(rows, last=rows is groups[-1])))
        start += found[-1].length
    return found


def _length(rows: Sequence[Row], *, last: bool) -> Fraction:
    """Give the seconds of a period: whole milliseconds, as they are written; the next one begins there."""
    began = _leading(rows[0]).presentation_time
    # Not by the last segment alone: of an open group of pictures some are shown before its key frame,
    # so that the segment in front of it is over earlier than it begins.
    ends = [
        first.presentation_time + sum(row[name].duration for row in rows) - began
        for name, first in rows[0].items()
    ]
    return rounded_up(max(ends)) if last else rounded_down(min(ends))


def _leading(row: Row) -> LiveSegment:
    """Give the segment by which a period is measured: the picture's, else the sound's."""
    pictures = [one for one in row.values() if one.timeline is not None and one.timeline.entry.width]
    return (pictures or list(row.values()))[0]


def _unbroken_rows(segments: Mapping[str, Sequence[LiveSegment]]) -> list[list[Row]]:
    found: list[list[Row]] = []
    broken = True
    for row in zip(*segments.values(), strict=True):
        if any(one.gap or one.timeline is None or one.stored is None for one in row):
            broken = True
            continue
        if broken or any(one.discontinuity for one in row):
            found.append([])
        found[-1].append(dict(zip(segments, row, strict=True)))
        broken = False
    return found

"""Divides a recording into DASH periods (ISO/IEC 23009-1 §5.3.2). Pure.

A period has no discontinuity, and segments of the same renditions: where one has a gap, the others go on in a
period without it. Their durations may differ by a part and more where an encoder died: a period ends with the
shortest rendition, so that none has a hole before the next. The last one ends with the longest, since players
may stop early otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.dash.durations import SHORTEST_LAST, rounded_down, rounded_up
from packager.window.model import LiveSegment

Row = Mapping[str, LiveSegment]
"""The segments of one number by rendition, none of them a gap."""


@dataclass(frozen=True, slots=True)
class RecordedPeriod:
    """A period of a recording.

    Attributes:
        start: seconds since the presentation's start.
        length: seconds.
    """

    rows: Sequence[Row]
    start: Fraction
    length: Fraction

    @staticmethod
    def leading(row: Row) -> LiveSegment:
        """Return the segment that determines the period's times: video, else audio."""
        return _leading(row)

    @property
    def number(self) -> int:
        """Media sequence number of the first segment."""
        return _leading(self.rows[0]).number

    @property
    def date(self) -> Fraction:
        """The date of its beginning in seconds since the epoch."""
        return _leading(self.rows[0]).program_date_time

    @property
    def began(self) -> Fraction:
        """Media time of its start in seconds."""
        return _leading(self.rows[0]).presentation_time


def recorded_periods(segments: Mapping[str, Sequence[LiveSegment]]) -> list[RecordedPeriod]:
    """Divide a recording into periods.

    Args:
        segments: by rendition of video and audio: stored segments or gaps of the same numbers.
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
    """Return a period's duration, rounded to milliseconds as manifests write it."""
    began = _leading(rows[0]).presentation_time
    # Sum up all segments: with open GOPs, a segment may end before the next one's key frame is shown.
    ends = [
        first.presentation_time + total_duration([row[name] for row in rows]) - began
        for name, first in rows[0].items()
    ]
    return rounded_up(max(ends)) if last else rounded_down(min(ends))


def total_duration(segments: Sequence[LiveSegment]) -> Fraction:
    """Return the seconds that segments last together."""
    # By duration, of which there are few: sums of fractions are slow, and a day has many segments.
    counts = Counter(id(one.duration) for one in segments)
    return sum((counts[key] * one for key, one in durations(segments).items()), Fraction(0))


def durations(segments: Iterable[LiveSegment]) -> dict[int, Fraction]:
    """Return the different durations of segments, by the objects' identities; some may be equal."""
    return {id(one.duration): one.duration for one in segments}


def _leading(row: Row) -> LiveSegment:
    """Return the segment that determines the period's times: video, else audio."""
    pictures = [one for one in row.values() if one.timeline is not None and one.timeline.entry.width]
    return (pictures or list(row.values()))[0]


def _unbroken_rows(segments: Mapping[str, Sequence[LiveSegment]]) -> list[list[Row]]:
    videos = {name: is_video for name, own in segments.items() if (is_video := _is_video(own)) is not None}
    found: list[list[Row]] = []
    before: Row = {}
    for all_of_them in zip(*segments.values(), strict=True):
        row = {
            name: one
            for name, one in zip(segments, all_of_them, strict=True)
            if not (one.gap or one.timeline is None or one.stored is None)
        }
        # Players know no period in which there is no sound, or nothing but sound.
        if {videos[name] for name in row} != set(videos.values()):
            before = {}
            continue
        if row.keys() != before.keys() or any(one.discontinuity for one in row.values()):
            found.append([])
        found[-1].append(row)
        before = row
    return found


def _is_video(segments: Sequence[LiveSegment]) -> bool | None:
    """Return whether a rendition has pictures; None if all of it is gaps."""
    entries = (one.timeline.entry for one in segments if one.timeline is not None and not one.gap)
    return next((bool(entry.width) for entry in entries), None)

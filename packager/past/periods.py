"""Divides a span into DASH periods (ISO/IEC 23009-1 §5.3.2). Pure.

A period has no discontinuity, and segments of all renditions. Their durations may differ by a part and more
where an encoder died: a period ends with the shortest rendition, so that none has a hole before the next. The
last one ends with the longest, since players may stop early otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from media.dash.durations import SHORTEST_LAST, rounded_down, rounded_up
from packager.past.outlined_span import OutlinedSpan, OutlinedTrack, Sums, behind_breaks
from packager.past.outlines import DISCONTINUITY, MEDIA, STORED, Positions


@dataclass(frozen=True, slots=True)
class RecordedPeriod:
    """A period of a span.

    Attributes:
        tracks: the renditions, of all of which there is a segment at each position.
        leading: the rendition that determines its times: video, else audio.
        positions: where its segments are in the span.
        numbers: media sequence numbers of these.
        sums: durations and bytes of each rendition's segments.
        start: seconds since the presentation's start.
        length: seconds.
    """

    tracks: dict[str, OutlinedTrack]
    leading: OutlinedTrack
    positions: Positions
    numbers: range
    sums: dict[str, list[Sums]]
    start: Fraction
    length: Fraction

    @property
    def number(self) -> int:
        """Media sequence number of the first segment."""
        return self.numbers[self._first]

    @property
    def date(self) -> Fraction:
        """The date of its beginning in seconds since the epoch."""
        return Fraction(*self.leading.ratio("date", self._first))

    @property
    def began(self) -> Fraction:
        """Media time of its start in seconds."""
        return shown(self.leading, self._first)

    @property
    def _first(self) -> int:
        return int(self.positions[0])

    def segments(self) -> Iterator[tuple[int, Fraction]]:
        """Yield the segments' numbers, and the media times at which they begin in seconds."""
        for position in self.positions.tolist():
            yield self.numbers[position], shown(self.leading, position)


def shown(track: OutlinedTrack, position: int) -> Fraction:
    """Return the media time in seconds at which a segment's first picture is shown."""
    return Fraction(*track.ratio("shown", position))


def recorded_periods(span: OutlinedSpan, names: Collection[str]) -> list[RecordedPeriod]:
    """Divide a span into periods.

    Args:
        names: the renditions of video and audio.
    """
    tracks = {name: span.tracks[name] for name in names}
    if not tracks:
        return []
    whole = np.logical_and.reduce([one.has(MEDIA | STORED) for one in tracks.values()])
    breaks = np.logical_or.reduce([one.has(DISCONTINUITY) for one in tracks.values()])
    positions, begins = behind_breaks(whole, breaks | (span.there & ~whole))
    groups = [one for one in np.split(positions, np.flatnonzero(begins)) if len(one)]
    sums = [{name: one.sums(group) for name, one in tracks.items()} for group in groups]
    while len(groups) > 1 and _length(tracks, groups[-1], sums[len(groups) - 1], last=True) < SHORTEST_LAST:
        del groups[-1]
    found, start = list[RecordedPeriod](), Fraction(0)
    for group, own in zip(groups, sums, strict=False):
        length = _length(tracks, group, own, last=group is groups[-1])
        leading = _leading(tracks, int(group[0]))
        found.append(RecordedPeriod(tracks, leading, group, span.numbers, own, start, length))
        start += length
    return found


def _length(
    tracks: dict[str, OutlinedTrack], positions: Positions, sums: dict[str, list[Sums]], *, last: bool
) -> Fraction:
    """Return a period's duration, rounded to milliseconds as manifests write it."""
    first = int(positions[0])
    began = shown(_leading(tracks, first), first)
    # Sum up all segments: with open GOPs, a segment may end before the next one's key frame is shown.
    ends = [
        shown(one, first) - began + sum(each.number * each.duration for each in sums[name])
        for name, one in tracks.items()
    ]
    return rounded_up(max(ends)) if last else rounded_down(min(ends))


def _leading(tracks: dict[str, OutlinedTrack], position: int) -> OutlinedTrack:
    """Return the rendition that determines a period's times: video, else audio."""
    timelines = ((one, one.timeline(position)) for one in tracks.values())
    pictures = [one for one, timeline in timelines if timeline is not None and timeline.entry.width]
    return (pictures or list(tracks.values()))[0]

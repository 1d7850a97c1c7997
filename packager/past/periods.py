"""Divides a span into DASH periods (ISO/IEC 23009-1 §5.3.2). Pure.

A period has no discontinuity, and segments of the same renditions: where one has a gap, the others go on in a
period without it. Their durations may differ by a part and more where an encoder died: a period ends with the
shortest rendition, so that none has a hole before the next. The last one ends with the longest, since players
may stop early otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import compress

import numpy as np

from media.dash.durations import SHORTEST_LAST, rounded_down, rounded_up
from packager.past.outlined_span import OutlinedSpan, OutlinedTrack, Sums, behind_breaks, first_of
from packager.past.outlines import DISCONTINUITY, MEDIA, TIMED, Positions

Tracks = dict[str, OutlinedTrack]


@dataclass(frozen=True, slots=True)
class RecordedPeriod:
    """A period of a span.

    Attributes:
        tracks: the renditions that it offers, of all of which there is a segment at each position.
        leading: the rendition that determines its times: video, else audio.
        positions: where its segments are in the span.
        numbers: media sequence numbers of these.
        sums: durations and bytes of each rendition's segments.
        start: seconds since the presentation's start.
        length: seconds.
    """

    tracks: Tracks
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
    return Fraction(*track.column("shown")[position].tolist())


def recorded_periods(span: OutlinedSpan, names: Collection[str]) -> list[RecordedPeriod]:
    """Divide a span into periods.

    Args:
        names: the renditions of video and audio.
    """
    divided = list(_groups(span, {name: span.tracks[name] for name in names}))
    sums = [{name: one.sums(positions) for name, one in tracks.items()} for tracks, positions in divided]
    playable = [_overlap(*group, own) for group, own in zip(divided, sums, strict=True)]
    groups, sums = list(compress(divided, playable)), list(compress(sums, playable))
    while len(groups) > 1 and _length(*groups[-1], sums[len(groups) - 1], last=True) < SHORTEST_LAST:
        del groups[-1]
    found, start = list[RecordedPeriod](), Fraction(0)
    for number, ((tracks, positions), own) in enumerate(zip(groups, sums, strict=False), 1):
        length = _length(tracks, positions, own, last=number == len(groups))
        leading = _leading(tracks, int(positions[0]))
        found.append(RecordedPeriod(tracks, leading, positions, span.numbers, own, start, length))
        start += length
    return found


def _groups(span: OutlinedSpan, tracks: Tracks) -> Iterator[tuple[Tracks, Positions]]:
    """Yield stretches without a discontinuity, and the renditions that have all of each."""
    kinds = {name: kind for name, one in tracks.items() if (kind := _is_video(one)) is not None}
    if not kinds:
        return
    having = {name: tracks[name].has(MEDIA | TIMED) for name in kinds}
    # Players know no period in which there is no sound, or nothing but sound.
    whole = np.logical_and.reduce(
        [
            np.logical_or.reduce([having[name] for name in kinds if kinds[name] is kind])
            for kind in kinds.values()
        ]
    )
    breaks = np.logical_or.reduce([tracks[name].has(DISCONTINUITY) for name in kinds])
    for one in having.values():
        breaks[1:] |= one[1:] != one[:-1]
    positions, begins = behind_breaks(whole, breaks | (span.there & ~whole))
    for group in np.split(positions, np.flatnonzero(begins)):
        if len(group):
            yield {name: tracks[name] for name in kinds if having[name][group[0]]}, group


def _overlap(tracks: Tracks, positions: Positions, sums: dict[str, list[Sums]]) -> bool:
    """Return whether all renditions of a group have begun before any has ended."""
    first = int(positions[0])
    latest = max(shown(one, first) for one in tracks.values()) - shown(_leading(tracks, first), first)
    return _length(tracks, positions, sums, last=False) > latest


def _is_video(track: OutlinedTrack) -> bool | None:
    """Return whether a rendition has pictures; None if all of it is gaps."""
    first = first_of(track.has(MEDIA) & track.coded)
    timeline = None if first is None else track.timeline(first)
    return None if timeline is None else bool(timeline.entry.width)


def _length(tracks: Tracks, positions: Positions, sums: dict[str, list[Sums]], *, last: bool) -> Fraction:
    """Return a period's duration, rounded to milliseconds as manifests write it."""
    first = int(positions[0])
    began = shown(_leading(tracks, first), first)
    # Sum up all segments: with open GOPs, a segment may end before the next one's key frame is shown.
    ends = [
        shown(one, first) - began + sum(each.number * each.duration for each in sums[name])
        for name, one in tracks.items()
    ]
    return rounded_up(max(ends)) if last else rounded_down(min(ends))


def _leading(tracks: Tracks, position: int) -> OutlinedTrack:
    """Return the rendition that determines a period's times: video, else audio."""
    timelines = ((one, one.timeline(position)) for one in tracks.values())
    pictures = [one for one, timeline in timelines if timeline is not None and timeline.entry.width]
    return (pictures or list(tracks.values()))[0]

"""The media times of gaps among the segments that have left the playlists, and what replaces such gaps."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

from packager.past.past_segments import PastSegments
from packager.publish.dash import empty_segment
from packager.window.model import LiveSegment, Timeline

MOST_AROUND = 64
"""Most segments before and behind a gap among which one with media is looked for."""


class MediaTime(NamedTuple):
    """The place of a segment or gap in its timeline.

    Attributes:
        begin: seconds of media time.
    """

    segment: LiveSegment
    timeline: Timeline
    begin: Fraction


def media_time(past: PastSegments, number: int) -> MediaTime | None:
    """Return the media time of a segment, or of a gap beside one; None where none is near. Blocks."""
    found = past.find(number)
    if found is None:
        return None
    timed = (_timed(found, one) for one in chain((found,), _around(past, found)))
    return next((one for one in timed if one is not None), None)


def _around(past: PastSegments, found: LiveSegment) -> Iterator[LiveSegment]:
    """Yield the segments and gaps of the same stretch, the nearest first."""
    has_before, has_behind = not found.discontinuity, True
    for away in range(1, MOST_AROUND + 1):
        before = past.find(found.number - away) if has_before else None
        if before is not None:
            yield before
        has_before = before is not None and not before.discontinuity
        behind = past.find(found.number + away) if has_behind else None
        has_behind = behind is not None and not behind.discontinuity
        if behind is not None and has_behind:
            yield behind


def _timed(segment: LiveSegment, other: LiveSegment) -> MediaTime | None:
    """Return the media time of a segment, given another one of the same timeline; None if that has none."""
    if other.stored is None or other.timeline is None:
        return None
    begin = other.presentation_time + segment.program_date_time - other.program_date_time
    return None if begin < 0 else MediaTime(segment, other.timeline, begin)


def replacement(past: PastSegments, number: int) -> bytes | None:
    """Return a fragment without samples for a gap, which players of DASH ask for by its number. Blocks.

    Returns:
        None where there is no gap, or nothing is known of its time.
    """
    found = media_time(past, number)
    if found is None or not found.segment.gap:
        return None
    return empty_segment(number, found.timeline, found.begin, found.segment.duration)

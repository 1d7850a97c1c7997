"""The media playlist of a channel as it was a while ago, without parts (RFC 8216bis §6.2.2). Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice

from media.hls.media_playlist import MediaPlaylist
from packager.past.playlists import media_playlist
from packager.window.model import LiveSegment
from packager.window.window import Window

LISTED_TARGET_DURATIONS = 6
"""Target durations of the segments that are listed; players begin three before the end."""


@dataclass(frozen=True, slots=True)
class DelayedSegments:
    """The segments that a playlist lists at a date.

    Attributes:
        discontinuity_sequence: discontinuity sequence number of the first one.
        ended: whether nothing comes behind the last one.
    """

    listed: Sequence[LiveSegment]
    discontinuity_sequence: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class PastListing:
    """Some of a channel's past.

    Attributes:
        segments: by rendition: segments and gaps of the same numbers, without a hole.
        discontinuities: by rendition, how many there were before the first segment.
    """

    segments: Mapping[str, Sequence[LiveSegment]]
    discontinuities: Mapping[str, int]


def listed_until(leading: Window, own: Window, until: Fraction) -> DelayedSegments | None:
    """Find the segments that a rendition listed at a date, among those that are listed now.

    Args:
        leading: the window whose dates decide for all renditions.
        until: seconds since the epoch.

    Returns:
        None if the live playlist has nothing of that time.
    """
    listed = leading.listed
    dated = leading.finished.dated(until - LISTED_TARGET_DURATIONS * leading.target_duration, until)
    last = bisect_right(dated, until, key=_end)
    behind = dated[last - 1].number - listed[0].number + 1 if last else 0
    begin = _begin(listed, behind, leading.target_duration)
    skipped = listed[begin].number - own.listed[0].number if begin < behind and own.listed else -1
    segments = list(islice(own.listed, skipped, skipped + behind - begin)) if skipped >= 0 else []
    if not segments:
        return None
    is_end = own.ended and segments[-1] is own.listed[-1]
    return DelayedSegments(segments, _discontinuity_sequence(own, skipped), is_end)


def past_until(
    past: PastListing, rendition: str, until: Fraction, target_duration: int
) -> DelayedSegments | None:
    """Find the segments that a rendition listed at a date, among some of its past.

    Args:
        until: seconds since the epoch.

    Returns:
        None if there was nothing at that time.
    """
    own = past.segments[rendition]
    leading = next(iter(past.segments.values()))
    behind = bisect_right(leading, until, key=_end)
    begin = _begin(leading, behind, target_duration)
    if begin == behind:
        return None
    before = sum(one.discontinuity for one in own[:begin])
    return DelayedSegments(own[begin:behind], past.discontinuities[rendition] + before)


def delayed_playlist(
    shown: DelayedSegments,
    target_duration: int,
    date_ranges: Callable[[Fraction, Fraction], Sequence[str]],
    extension: str,
    suffix: str,
) -> MediaPlaylist:
    """Make the playlist that a rendition had at a date.

    Args:
        date_ranges: returns the EXT-X-DATERANGE tags of a span.
        suffix: put behind every URI: ``?`` and query parameters, percent-encoded.
    """
    segments = shown.listed
    ranges = date_ranges(segments[0].program_date_time, _end(segments[-1]))
    made = media_playlist(segments, target_duration, ranges, extension, suffix=suffix)
    return replace(
        made,
        playlist_type=None,
        ended=shown.ended,
        media_sequence_number=segments[0].number,
        discontinuity_sequence=shown.discontinuity_sequence,
    )


def _begin(leading: Sequence[LiveSegment], behind: int, target_duration: int) -> int:
    """Return the index of the first segment that is listed with those before another one."""
    first, seconds = behind, Fraction(0)
    while first and seconds < LISTED_TARGET_DURATIONS * target_duration:
        first -= 1
        seconds += leading[first].duration
    return first


def _end(segment: LiveSegment) -> Fraction:
    return segment.program_date_time + segment.duration


def _discontinuity_sequence(window: Window, index: int) -> int:
    """Return the discontinuity sequence number of a playlist that begins with a listed segment.

    A long window is counted from its nearer end.
    """
    listed = window.listed
    if index <= len(listed) // 2:
        return window.discontinuity_sequence + sum(one.discontinuity for one in islice(listed, index))
    begun = window.open is not None and window.open.discontinuity
    later = sum(one.discontinuity for one in islice(reversed(listed), len(listed) - index))
    return window.newest_discontinuity_sequence - begun - later

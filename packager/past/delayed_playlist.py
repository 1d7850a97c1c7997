"""The media playlist of a channel as it was a while ago, without parts (RFC 8216bis §6.2.2). Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import islice

from media.hls.media_playlist import MediaPlaylist
from packager.past.playlists import media_playlist
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition
from packager.window.window import Window

LISTED_TARGET_DURATIONS = 6
"""Target durations of the segments that are listed; players begin three before the end."""


def delayed_playlist(
    leading: Window,
    rendition: Rendition,
    until: Fraction,
    date_ranges: Callable[[Fraction, Fraction], Sequence[str]],
    suffix: str,
) -> MediaPlaylist | None:
    """Make the playlist that a rendition had at a date.

    Args:
        leading: the window whose dates decide for all renditions.
        until: seconds since the epoch.
        date_ranges: returns the EXT-X-DATERANGE tags of a span.
        suffix: put behind every URI: ``?`` and query parameters, percent-encoded.

    Returns:
        None if the channel has nothing of that time.
    """
    listed, target_duration = leading.listed, leading.target_duration
    behind = bisect_right(listed, until, key=_end)
    first, seconds = behind, Fraction(0)
    while first and seconds < LISTED_TARGET_DURATIONS * target_duration:
        first -= 1
        seconds += listed[first].duration
    if first == behind:
        return None
    own = rendition.window
    skipped = listed[first].number - own.listed[0].number if own.listed else -1
    segments = list(islice(own.listed, skipped, skipped + behind - first)) if skipped >= 0 else []
    if not segments:
        return None
    ranges = date_ranges(segments[0].program_date_time, _end(segments[-1]))
    made = media_playlist(segments, target_duration, ranges, own.extension, suffix=suffix)
    return replace(
        made,
        playlist_type=None,
        ended=own.ended and segments[-1] is own.listed[-1],
        media_sequence_number=segments[0].number,
        discontinuity_sequence=_discontinuity_sequence(own, skipped),
    )


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

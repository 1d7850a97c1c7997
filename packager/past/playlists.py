"""The media playlists of a recording (RFC 8216bis), of type VOD. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from media.hls.media_playlist import MediaPlaylist
from packager.publish.hls_line_cache import playlist_segment
from packager.window.model import LiveSegment

Listed = Mapping[str, Sequence[LiveSegment]]
"""By rendition: stored segments or gaps of the same numbers."""


def without_common_gaps(segments: Listed) -> dict[str, list[LiveSegment]]:
    """Remove the gaps that all renditions share.

    Args:
        segments: the segments in the live playlists, by rendition.

    Returns:
        The rest; segments behind a removed gap begin with a discontinuity.
    """
    special = {
        index for own in segments.values() for index, one in enumerate(own) if one.gap or one.discontinuity
    }
    kept: dict[str, list[LiveSegment]] = {name: [] for name in segments}
    count = max(map(len, segments.values()), default=0)
    begin, broken = 0, False
    # A day has many segments, and few of them begin or end anything.
    for index in (*sorted(special), count):
        if begin < index:
            _append(kept, segments, begin, index, broken=broken)
            broken = False
        row = [own[index] for own in segments.values() if index < count]
        broken = broken or any(one.discontinuity for one in row)
        if all(one.gap for one in row):
            broken, begin = True, index + 1
            continue
        _append(kept, segments, index, index + 1, broken=broken)
        begin, broken = index + 1, False
    return kept


def _append(
    kept: dict[str, list[LiveSegment]], segments: Listed, begin: int, behind: int, *, broken: bool
) -> None:
    """Append rows of all renditions, of which the first one begins with a discontinuity if it is said."""
    for name, own in segments.items():
        first = replace(own[begin], discontinuity=broken and bool(kept[name]))
        kept[name] += (first, *own[begin + 1 : behind])


def media_playlist(
    segments: Sequence[LiveSegment],
    target_duration: int,
    date_ranges: Sequence[str],
    extension: str,
    *,
    suffix: str = "",
) -> MediaPlaylist:
    """Make the playlist of one rendition.

    Args:
        segments: without the gaps that all renditions share.
        date_ranges: EXT-X-DATERANGE tags.
        suffix: put behind every URI: ``?`` and query parameters, percent-encoded.
    """
    return MediaPlaylist(
        target_duration=target_duration,
        segments=[playlist_segment(one, extension, suffix) for one in segments],
        playlist_type="VOD",
        date_ranges=date_ranges,
        ended=True,
    )

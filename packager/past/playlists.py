"""The media playlists of a recording (RFC 8216bis), of type VOD. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from media.hls.media_playlist import Map, MediaPlaylist, Segment
from packager.window.model import LiveSegment
from packager.window.rendition import init_uri, segment_uri

Listed = Mapping[str, Sequence[LiveSegment]]
"""By rendition: stored segments or gaps of the same numbers."""


def without_common_gaps(segments: Listed) -> dict[str, list[LiveSegment]]:
    """Remove the gaps that all renditions share.

    Args:
        segments: the segments in the live playlists, by rendition.

    Returns:
        The rest; segments behind a removed gap begin with a discontinuity.
    """
    names = list(segments)
    kept: dict[str, list[LiveSegment]] = {name: [] for name in names}
    broken = False
    for row in zip(*segments.values(), strict=True):
        broken = broken or any(segment.discontinuity for segment in row)
        if all(segment.gap for segment in row):
            broken = True
            continue
        begins = broken and bool(kept[names[0]])
        for name, segment in zip(names, row, strict=True):
            kept[name].append(replace(segment, discontinuity=begins))
        broken = False
    return kept


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
        segments=[
            Segment(
                uri=segment_uri(segment.number, extension) + suffix,
                duration=segment.duration,
                map=None if (uri := init_uri(segment.timeline)) is None else Map(uri + suffix),
                discontinuity=segment.discontinuity,
                program_date_time=segment.program_date_time,
                gap=segment.gap,
            )
            for segment in segments
        ],
        playlist_type="VOD",
        date_ranges=date_ranges,
        ended=True,
    )

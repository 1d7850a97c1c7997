"""I-frame playlists of spans that are over: byte ranges of the live segments (RFC 8216bis §4.4.3.6). Pure.

A range goes from the beginning of a segment to the end of the key frame that it begins with: the ``moof`` is
whole, and names further samples, of which the range has none.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence, Sized
from fractions import Fraction

import numpy as np
from msgspec.structs import replace

from media.hls.media_playlist import ByteRange, Map, MediaPlaylist, Segment, target_duration
from media.hls.multivariant import IFrameVariant
from packager.past.outlined_span import OutlinedSpan, OutlinedTrack
from packager.past.outlines import Positions
from packager.past.playlists import Listed
from packager.past.segment_samples import key_frame_end
from packager.window.model import LiveSegment
from packager.window.rendition import init_uri, segment_uri

PLAYLIST_NAME = "iframes.m3u8"
"""Name of a rendition's I-frame playlist, in its folder."""

MOST_I_FRAMES = 400
"""Most key frames that a playlist lists, but for those behind discontinuities: two milliseconds' worth.

Of a longer span each second segment's is, or each third one's …
"""

SUMS_KEPT = 256
"""Cached durations."""


def i_frame_playlist(segments: Listed, rendition: str, suffix: str = "") -> MediaPlaylist | None:
    """Make the I-frame playlist of a rendition of pictures, whose times are those of its media playlist.

    Args:
        segments: of all renditions, with the gaps that they share or without.
        suffix: put behind every URI: ``?`` and query parameters, percent-encoded.

    Returns:
        None where no key frame is known, as in sound.
    """
    listed = _i_frames(segments, rendition)
    if not listed:
        return None
    shown = [
        Segment(
            uri=segment_uri(one.number) + suffix,
            duration=duration,
            map=None if (uri := init_uri(one.timeline)) is None else Map(uri + suffix),
            discontinuity=one.discontinuity,
            program_date_time=one.program_date_time,
            byte_range=ByteRange(key_frame_end(one), 0),
        )
        for one, duration in listed
    ]
    target = target_duration({duration for _, duration in listed})
    return MediaPlaylist(target, shown, playlist_type="VOD", ended=True, i_frames_only=True)


def i_frame_variants(span: OutlinedSpan, suffix: str = "") -> Sequence[IFrameVariant]:
    """Make a multivariant playlist's entries of I-frame playlists (§4.4.6.3); see `i_frame_playlist`."""
    listed = np.flatnonzero(span.there)
    step = _step(listed)
    chosen = listed[-span.numbers[int(listed[0])] % step :: step]
    found = (_variant(name, own, chosen, step, suffix) for name, own in span.tracks.items())
    return [one for one in found if one is not None]


def _variant(
    name: str, own: OutlinedTrack, chosen: Positions, step: int, suffix: str
) -> IFrameVariant | None:
    known = chosen[own.column("key_frame_end")[chosen] > 0]
    timelines = [one for one in map(own.timeline, known[-1:].tolist()) if one is not None]
    if not timelines:
        return None
    entry = timelines[-1].entry
    bits = 8 * own.column("key_frame_end")[known].astype(np.int64)
    ticks, per_second = own.column("duration")[known].T
    # Each stands for as many segments: sums by floats, since fractions are slow.
    seconds = step * (ticks / per_second)
    return IFrameVariant(
        f"{name}/{PLAYLIST_NAME}{suffix}",
        bandwidth=math.ceil((bits / seconds).max()),
        # Added up one by one: other orders have other roundings.
        average_bandwidth=math.ceil(int(bits.sum()) / sum(seconds.tolist())),
        codecs=entry.codec,
        resolution=timelines[-1].resolution,
        video_range=entry.video_range,
        supplemental_codecs=entry.supplemental_codec,
    )


def _step(own: Sized) -> int:
    return max(math.ceil(len(own) / MOST_I_FRAMES), 1)


def _i_frames(segments: Listed, rendition: str) -> list[tuple[LiveSegment, Fraction]]:
    """Choose the key frames that are listed, as their segments, and for how many seconds each is shown."""
    own, rows = segments[rendition], list(segments.values())
    step, broken = _step(own), False
    listed: list[LiveSegment] = []
    # For each that is listed the seconds until the next by their denominators: this runs for all of a day.
    lengths = [Counter[int]()]
    for index, one in enumerate(own):
        broken = broken or one.discontinuity
        if one.gap:
            # Gaps that all renditions share aren't in the media playlists either.
            if all(row[index].gap for row in rows):
                broken = True
                continue
        elif (broken or not listed or one.number % step == 0) and key_frame_end(one):
            if listed:
                lengths.append(Counter())
            # The first one is shown from the beginning.
            listed.append(replace(one, discontinuity=broken and bool(listed)))
            broken = False
        ticks, per_second = one.duration.as_integer_ratio()
        lengths[-1][per_second] += ticks
    return [(one, _sum(tuple(length.items()))) for one, length in zip(listed, lengths, strict=False)]


@functools.lru_cache(maxsize=SUMS_KEPT)
def _sum(ratios: tuple[tuple[int, int], ...]) -> Fraction:
    """Add up seconds, each as ticks behind how many of them are a second; most sums are alike."""
    return sum((Fraction(ticks, per_second) for per_second, ticks in ratios), Fraction(0))

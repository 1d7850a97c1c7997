"""I-frame playlists of spans that are over: byte ranges of the live segments (RFC 8216bis §4.4.3.6). Pure.

A range goes from the beginning of a segment to the end of the key frame that it begins with: the ``moof`` is
whole, and names further samples, of which the range has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from fractions import Fraction
from itertools import pairwise

import numpy as np

from media.hls.media_playlist import ByteRange, Map, MediaPlaylist, Segment, target_duration
from media.hls.multivariant import IFrameVariant
from packager.past.outlined_span import Column, Mask, OutlinedSpan, OutlinedTrack, behind_breaks
from packager.past.outlines import MEDIA, THERE, Positions
from packager.window.rendition import init_uri, segment_uri

PLAYLIST_NAME = "iframes.m3u8"
"""Name of a rendition's I-frame playlist, in its folder."""

MOST_I_FRAMES = 400
"""Most key frames that a playlist lists, but for those behind discontinuities: two milliseconds' worth.

Of a longer span each second segment's is, or each third one's …
"""


def i_frame_playlist(span: OutlinedSpan, rendition: str, suffix: str = "") -> MediaPlaylist | None:
    """Make the I-frame playlist of a rendition of pictures, whose times are those of its media playlist.

    Args:
        span: of all renditions, with the gaps that they share or without.
        suffix: put behind every URI: ``?`` and query parameters, percent-encoded.

    Returns:
        None where no key frame is known, as in sound.
    """
    positions, broken = _i_frames(span, rendition)
    if not len(positions):
        return None
    own, lengths = span.tracks[rendition], _lengths(span, rendition, positions)
    shown = [
        Segment(
            uri=segment_uri(span.numbers[position]) + suffix,
            duration=length,
            map=None if (uri := init_uri(own.timeline(position))) is None else Map(uri + suffix),
            discontinuity=is_broken,
            program_date_time=Fraction(*own.ratio("date", position)),
            byte_range=ByteRange(int(own.column("key_frame_end")[position]), 0),
        )
        for position, is_broken, length in zip(positions.tolist(), broken.tolist(), lengths, strict=True)
    ]
    target = target_duration(set(lengths))
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
    ends = own.column("key_frame_end")[chosen]
    known, ends = chosen[ends > 0], ends[ends > 0].astype(np.int64)
    timelines = [one for one in map(own.timeline, known[-1:].tolist()) if one is not None]
    if not timelines:
        return None
    entry = timelines[-1].entry
    bits, same = 8 * ends, own.same_seconds("duration")
    durations = own.column("duration")[known] if same is None else np.array([same])
    # Each stands for as many segments: sums by floats, since fractions are slow.
    seconds = np.broadcast_to(step * (durations[:, 0] / durations[:, 1]), bits.shape)
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


def _i_frames(span: OutlinedSpan, rendition: str) -> tuple[Positions, Mask]:
    """Choose the key frames that are listed, and return which of them are behind a discontinuity."""
    own = span.tracks[rendition]
    known = np.flatnonzero(own.has(MEDIA) & (own.column("key_frame_end") > 0))
    # Gaps that all renditions share aren't in the media playlists either.
    breaks = span.breaks_of(rendition) | (span.there & ~span.media)
    stretches = np.cumsum(breaks)[known]
    is_first = np.diff(stretches, prepend=-1) != 0
    is_due = (known + span.numbers.start) % _step(np.flatnonzero(span.there)) == 0
    kept = np.zeros(len(span.numbers), np.bool_)
    kept[known[is_first | is_due]] = True
    return behind_breaks(kept, breaks)


def _lengths(span: OutlinedSpan, rendition: str, positions: Positions) -> list[Fraction]:
    """Return for how many seconds each key frame is shown; the first one is from the beginning."""
    durations, lacking = np.zeros((len(span.numbers), 2), np.int64), np.ones(len(span.numbers), np.bool_)
    for track in (span.tracks[rendition], *span.tracks.values()):
        taken = lacking & track.has(THERE)
        durations[taken], lacking = track.column("duration")[taken], lacking & ~taken
    counted = np.flatnonzero(span.media)
    edges = [0, *np.searchsorted(counted, positions[1:]).tolist(), len(counted)]
    return [_sum(durations[counted[begin:behind]]) for begin, behind in pairwise(edges)]


def _sum(durations: Column) -> Fraction:
    """Add up seconds; of each timescale at once, as most of a span have the same one."""
    scales = np.unique(durations[:, 1]).tolist()
    ticks = (int(durations[durations[:, 1] == one, 0].sum()) for one in scales)
    return sum(map(Fraction, ticks, scales), Fraction(0))

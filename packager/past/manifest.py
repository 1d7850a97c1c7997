"""The DASH manifest of a recording (ISO/IEC 23009-1). Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType

import numpy as np

from media.dash.mpd import AdaptationSet, Period, Representation, StaticManifest
from media.dash.segment_addressing import SegmentTemplate, Times
from media.hls.date_range import DateRange
from media.mp4.fragments.fragments import read_track
from media.mp4.text import wvtt
from packager.past import dash_captions
from packager.past.outlined_span import Column, OutlinedTrack
from packager.past.outlines import Positions
from packager.past.periods import RecordedPeriod, shown
from packager.publish.dash import TEXT_BANDWIDTH
from packager.publish.dash_captions import milliseconds
from packager.publish.dash_events import event_streams
from packager.window.model import MEDIA_EXTENSION, Timeline
from packager.window.rendition import init_uri

TIMESCALES_KEPT = 64
"""Cached timescales, by init segment."""

_LARGEST = 2**62


def manifest(
    periods: Sequence[RecordedPeriod],
    frame_rate: Fraction,
    languages: Mapping[str, str] = MappingProxyType({}),
    date_ranges: Sequence[DateRange] = (),
    texts: Callable[[RecordedPeriod], SegmentTemplate] | None = None,
) -> StaticManifest | None:
    """Make a recording's manifest.

    Args:
        frame_rate: frames per second of its video.
        languages: of the caption renditions, by name.
        date_ranges: the channel's, each as a whole.
        texts: returns the addresses of a period's captions; by default those of a recording.

    Returns:
        A static manifest; None if no number has segments of all renditions.
    """
    if not periods:
        return None
    texts = texts or _recorded_texts
    begins = [one.date for one in periods]
    streams = event_streams(date_ranges, begins, begins[-1] + periods[-1].length)
    offered = [
        Period(
            f"p{one.number}",
            one.start,
            one.length,
            [*_sets(one, frame_rate), *(_texts(languages, texts(one)) if languages else ())],
            events,
        )
        for one, events in zip(periods, streams, strict=True)
    ]
    longest = max(one.duration for period in periods for own in period.sums.values() for one in own)
    return StaticManifest(periods[-1].start + periods[-1].length, longest, offered)


def _texts(languages: Mapping[str, str], segments: SegmentTemplate) -> list[AdaptationSet]:
    return [
        AdaptationSet(
            "text", [Representation(name, f"{name}/", TEXT_BANDWIDTH, wvtt.CODECS, segments)], language
        )
        for name, language in languages.items()
    ]


def _recorded_texts(period: RecordedPeriod) -> SegmentTemplate:
    """Return the addresses of a recording's captions, which are longer than its segments."""
    cut = dash_captions.chunks(period)
    return _text_template(cut[0].number, [cut[0].begin, *(one.end for one in cut)])


def live_texts(period: RecordedPeriod) -> SegmentTemplate:
    """Return the addresses of captions as a live channel has them, one for each segment."""
    listed, end = _begun(period, period.leading), milliseconds(period.began + period.length)
    return _text_template(period.number, np.append(_ticks(period.leading, listed, wvtt.TIMESCALE), end))


def _text_template(number: int, times: Times) -> SegmentTemplate:
    return SegmentTemplate(
        timescale=wvtt.TIMESCALE,
        times=times,
        initialization=dash_captions.INIT_NAME,
        media=f"$Number$.{MEDIA_EXTENSION}",
        start_number=number,
        presentation_time_offset=int(times[0]),
    )


def _sets(period: RecordedPeriod, frame_rate: Fraction) -> list[AdaptationSet]:
    offered: dict[str, list[Representation]] = {"video": [], "audio": []}
    for name, track in period.tracks.items():
        timeline = track.timeline(int(period.positions[0]))
        if timeline is not None:
            kind = "video" if timeline.entry.width else "audio"
            offered[kind].append(_representation(name, timeline, period, track, frame_rate))
    return [AdaptationSet(kind, found) for kind, found in offered.items() if found]


def _representation(
    name: str, timeline: Timeline, period: RecordedPeriod, track: OutlinedTrack, frame_rate: Fraction
) -> Representation:
    timescale = _timescale(timeline.init)
    listed, began = _begun(period, track), period.began
    sums = period.sums[name] if len(listed) == len(period.positions) else track.sums(listed)
    # Audio begins with its first whole frame, a little late. §5.3.9.6: list its segment from the
    # period's start nevertheless; else players wait for one there, or seek.
    first, last = min(shown(track, int(listed[0])), began), int(listed[-1])
    end = shown(track, last) + Fraction(*track.ratio("duration", last))
    times = np.append(_ticks(track, listed, timescale), round(end * timescale))
    times[0] = round(first * timescale)
    entry = timeline.entry
    return Representation(
        id=name,
        base_url=f"{name}/",
        bandwidth=max(round(8 * one.largest / one.duration) for one in sums),
        codecs=entry.codec,
        segments=SegmentTemplate(
            timescale=timescale,
            times=times,
            initialization=init_uri(timeline) or "",
            media=f"$Number$.{MEDIA_EXTENSION}",
            start_number=period.number,
            presentation_time_offset=round(began * timescale),
        ),
        resolution=timeline.resolution if entry.width else None,
        frame_rate=frame_rate if entry.width else None,
        sample_rate=entry.sample_rate,
        channels=entry.channels,
    )


def _begun(period: RecordedPeriod, track: OutlinedTrack) -> Positions:
    """Return the segments that begin before the end of a period."""
    listed = period.positions
    # Media time rises within a period.
    while shown(track, int(listed[-1])) >= period.began + period.length:
        listed = listed[:-1]
    return listed


@functools.lru_cache(maxsize=TIMESCALES_KEPT)
def _timescale(init: bytes) -> int:
    return read_track(init).timescale


def _ticks(track: OutlinedTrack, positions: Positions, timescale: int) -> Column:
    """Return the media times at which segments begin, in ticks."""
    numerators, denominators = track.chosen("shown", positions).T
    # Nearly always whole numbers, and fractions are slow.
    per_second = denominators[:1] if (denominators == denominators[0]).all() else denominators
    if not (timescale % per_second).any() and abs(numerators).max() < _LARGEST // timescale:
        ticks: Column = numerators * (timescale // per_second)
        return ticks
    rows = zip(numerators.tolist(), denominators.tolist(), strict=True)
    return np.array([round(Fraction(numerator * timescale, each)) for numerator, each in rows], np.int64)

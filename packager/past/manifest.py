"""The DASH manifest of a recording (ISO/IEC 23009-1). Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from fractions import Fraction

from media.dash.mpd import AdaptationSet, Period, Representation, StaticManifest
from media.dash.segment_addressing import SegmentTemplate
from media.hls.date_range import DateRange
from media.mp4.fragments.fragments import read_track
from media.mp4.text import wvtt
from packager.past import dash_captions
from packager.past.periods import RecordedPeriod, durations
from packager.publish.dash import TEXT_BANDWIDTH
from packager.publish.dash_events import event_streams
from packager.window.model import MEDIA_EXTENSION, LiveSegment, Timeline
from packager.window.rendition import init_uri


def manifest(
    periods: Sequence[RecordedPeriod],
    frame_rate: Fraction,
    languages: Mapping[str, str] | None = None,
    date_ranges: Sequence[DateRange] = (),
) -> StaticManifest | None:
    """Make a recording's manifest.

    Args:
        frame_rate: frames per second of its video.
        languages: of the caption renditions, by name.
        date_ranges: the channel's, each as a whole.

    Returns:
        A static manifest; None if no number has segments of all renditions.
    """
    if not periods:
        return None
    begins = [one.date for one in periods]
    streams = event_streams(date_ranges, begins, begins[-1] + periods[-1].length)
    offered = [
        Period(
            f"p{one.number}",
            one.start,
            one.length,
            [*_sets(one, frame_rate), *_texts(one, languages or {})],
            events,
        )
        for one, events in zip(periods, streams, strict=True)
    ]
    listed = (one for period in periods for row in period.rows for one in row.values())
    longest = max(durations(listed).values())
    return StaticManifest(periods[-1].start + periods[-1].length, longest, offered)


def _texts(period: RecordedPeriod, languages: Mapping[str, str]) -> list[AdaptationSet]:
    if not languages:
        return []
    cut = dash_captions.chunks(period)
    segments = SegmentTemplate(
        timescale=wvtt.TIMESCALE,
        times=[cut[0].begin, *(one.end for one in cut)],
        initialization=dash_captions.INIT_NAME,
        media=f"$Number$.{MEDIA_EXTENSION}",
        start_number=cut[0].number,
        presentation_time_offset=cut[0].begin,
    )
    return [
        AdaptationSet(
            "text", [Representation(name, f"{name}/", TEXT_BANDWIDTH, wvtt.CODECS, segments)], language
        )
        for name, language in languages.items()
    ]


def _sets(period: RecordedPeriod, frame_rate: Fraction) -> list[AdaptationSet]:
    rows, began = period.rows, period.began
    offered: dict[str, list[Representation]] = {"video": [], "audio": []}
    for name, first in rows[0].items():
        if first.timeline is not None:
            kind = "video" if first.timeline.entry.width else "audio"
            own = [row[name] for row in rows]
            # Media time rises within a period.
            listed = own[: bisect_left(own, began + period.length, key=_presentation_time)]
            offered[kind].append(_representation(name, first.timeline, listed, began, frame_rate))
    return [AdaptationSet(kind, found) for kind, found in offered.items() if found]


def _representation(
    name: str, timeline: Timeline, listed: Sequence[LiveSegment], began: Fraction, frame_rate: Fraction
) -> Representation:
    timescale = read_track(timeline.init).timescale
    # Audio begins with its first whole frame, a little late. §5.3.9.6: list its segment from the
    # period's start nevertheless; else players wait for one there, or seek.
    first = min(listed[0].presentation_time, began)
    end = listed[-1].presentation_time + listed[-1].duration
    times = [
        round(first * timescale),
        *(_ticks(one, timescale) for one in listed[1:]),
        round(end * timescale),
    ]
    entry = timeline.entry
    return Representation(
        id=name,
        base_url=f"{name}/",
        bandwidth=_peak_bandwidth(listed),
        codecs=entry.codec,
        segments=SegmentTemplate(
            timescale=timescale,
            times=times,
            initialization=init_uri(timeline) or "",
            media=f"$Number$.{MEDIA_EXTENSION}",
            start_number=listed[0].number,
            presentation_time_offset=round(began * timescale),
        ),
        resolution=timeline.resolution if entry.width else None,
        frame_rate=frame_rate if entry.width else None,
        sample_rate=entry.sample_rate,
        channels=entry.channels,
    )


def _presentation_time(segment: LiveSegment) -> Fraction:
    return segment.presentation_time


def _ticks(segment: LiveSegment, timescale: int) -> int:
    """Return the media time at which a segment begins, in ticks."""
    numerator, denominator = (0, 1) if segment.stored is None else segment.stored.shown_ratio
    # Nearly always a whole number, and fractions are slow.
    ticks, rest = divmod(numerator * timescale, denominator)
    return round(Fraction(numerator * timescale, denominator)) if rest else ticks


def _peak_bandwidth(segments: Sequence[LiveSegment]) -> int:
    """Return the most bits per second of any segment."""
    largest: dict[int, int] = {}
    for one in segments:
        largest[id(one.duration)] = max(one.size, largest.get(id(one.duration), 0))
    return max(round(8 * largest[key] / duration) for key, duration in durations(segments).items())

"""The DASH manifest of a recording (ISO/IEC 23009-1). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from media.dash.mpd import AdaptationSet, Period, Representation, StaticManifest
from media.dash.segment_addressing import SegmentTemplate
from media.hls.date_range import DateRange
from media.mp4.fragments.fragments import read_track
from media.mp4.text import wvtt
from packager.past import dash_captions
from packager.past.periods import RecordedPeriod
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
    longest = max(one.duration for period in periods for row in period.rows for one in row.values())
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
            listed = [row[name] for row in rows if row[name].presentation_time < began + period.length]
            offered[kind].append(_representation(name, first.timeline, listed, began, frame_rate))
    return [AdaptationSet(kind, found) for kind, found in offered.items() if found]


def _representation(
    name: str, timeline: Timeline, listed: Sequence[LiveSegment], began: Fraction, frame_rate: Fraction
) -> Representation:
    timescale = read_track(timeline.init).timescale
    # Audio begins with its first whole frame, a little late. §5.3.9.6: list its segment from the
    # period's start nevertheless; else players wait for one there, or seek.
    starts = [min(listed[0].presentation_time, began), *(one.presentation_time for one in listed[1:])]
    ends = [*starts, listed[-1].presentation_time + listed[-1].duration]
    entry = timeline.entry
    return Representation(
        id=name,
        base_url=f"{name}/",
        bandwidth=max(round(8 * one.size / one.duration) for one in listed),
        codecs=entry.codec,
        segments=SegmentTemplate(
            timescale=timescale,
            times=[round(time * timescale) for time in ends],
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

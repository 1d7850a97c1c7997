"""What the DASH manifest of a live channel says (ISO/IEC 23009-1): the segments that HLS has, as periods.

A period is a stretch without a discontinuity. Its segments have one duration, so that players ask for a
segment by its number when its first part is due, and get it part by part while it is being made.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from xml.sax.saxutils import escape

from media.dash import live_mpd, mpd
from media.mp4 import wvtt
from media.mp4.emsg import ID3_SCHEME
from media.mp4.fragments import write_empty_fragment
from packager.publish.dash_periods import LivePeriod, Stretches, read_track, timeline_at
from packager.window.cadence import Cadence
from packager.window.model import MEDIA_EXTENSION, Timeline
from packager.window.rendition import Rendition, init_uri
from packager.window.window import Window

CLOCK = "../../api/time"
"""Where players read this origin's clock, relative to the manifest."""

LATENCY_PARTS = 5
"""How many part targets behind now a player should be: one being made, one on its way, three buffered."""

LEAST_LATENCY = Fraction(3, 2)
"""Seconds that browsers need behind now, however short the parts are."""

SOUND_PARTS = 2
"""Part targets from a segment's beginning until a station has its first part: its sound comes in blocks, each
as long as a part, and a part may end with a block's first frame."""

TEXT_INIT_NUMBER = 0
"""Of the init segment of all captions, whatever was begun anew."""

TEXT_BANDWIDTH = 1000
"""Bits per second of captions, as long as there were none."""

MAX_RENDERED = 64
"""Most rendered manifests that are kept; different query parameters make different ones."""

MARK = "\ue000"
"""A character of nobody's, for what is put into periods that are kept."""

SUFFIX = "\ue001"
"""Likewise for what stands behind every address."""

SETTLED_UPDATES = 5
"""So many target durations behind the end nobody is left who doesn't know of it: players ask in each."""


class LiveManifest:
    """Follows a channel's first rendition and tells the periods.

    Args:
        renditions: by name; the first one is video.
        cadence: the channel's.
    """

    def __init__(self, renditions: Mapping[str, Rendition], cadence: Cadence) -> None:
        self._renditions = renditions
        self._cadence = cadence
        self._stretches = Stretches(renditions, cadence.segment_duration)
        self._state: tuple[object, ...] = ()
        # The manifest of this state without a suffix, and with some.
        self._template = b""
        self._rendered: dict[str, bytes] = {}
        self._published = 0.0
        # By their numbers, the periods that don't change any more, without suffix and bandwidths.
        self._written: dict[int, tuple[LivePeriod, bytes]] = {}

    def render(self, suffix: str, now: float) -> bytes:
        """Give the manifest as of now; every rendition must have a timeline.

        Args:
            suffix: put behind every address: ``?`` and query parameters, percent-encoded.
            now: seconds since the epoch.
        """
        reference = next(iter(self._renditions.values())).window
        self._stretches.follow()
        # With numbers and one duration a manifest changes only with its periods and its oldest segment.
        having = [rendition.window.timeline for rendition in self._renditions.values()]
        settled = self._is_settled(reference, now)
        state = (
            settled,
            reference.listed[0].number,
            self._stretches.known[-1].number,
            reference.ended,
            having,
        )
        if state != self._state:
            # §5.3.1.2: another publishTime is another manifest.
            self._published = now
            self._template = self._manifest(reference, now).render()
            self._state = state
            self._rendered.clear()
        if suffix not in self._rendered:
            if len(self._rendered) >= MAX_RENDERED:
                self._rendered.clear()
            self._rendered[suffix] = self._template.replace(SUFFIX.encode(), escape(suffix).encode())
        return self._rendered[suffix]

    def keep_up(self) -> None:
        """Look at the segments that have come: there may be many since the last time."""
        if next(iter(self._renditions.values())).window.listed:
            self._stretches.follow()

    def _manifest(self, reference: Window, now: float) -> live_mpd.DynamicManifest:
        step, part = self._cadence.segment_duration, self._cadence.part_target
        oldest, newest = reference.listed[0], reference.listed[-1]
        target, settled = max(LATENCY_PARTS * part, LEAST_LATENCY), self._is_settled(reference, now)
        return live_mpd.DynamicManifest(
            publish_time=_date(self._published),
            update_period=step,
            time_shift_depth=newest.program_date_time + newest.duration - oldest.program_date_time,
            max_segment_duration=Fraction(self._cadence.target_duration),
            min_buffer=part,
            latency=live_mpd.Latency(target, target / 2, 2 * target),
            clock=CLOCK,
            periods=self._periods(self._stretches.spans(ended=reference.ended, settled=settled)),
            ended=reference.ended,
            settled=settled,
        )

    def _is_settled(self, reference: Window, now: float) -> bool:
        """Tell whether it was over so long ago that all players have asked for the manifest since."""
        newest = reference.listed[-1]
        end = newest.program_date_time + newest.duration
        return reference.ended and now > end + SETTLED_UPDATES * self._cadence.target_duration

    def _periods(self, spans: list[LivePeriod]) -> list[mpd.WrittenPeriod]:
        """Write the periods; those that don't change any more are written once."""
        written: dict[int, tuple[LivePeriod, bytes]] = {}
        # The oldest one has segments that leave.
        for span in spans[:1]:
            written[span.stretch.number] = span, self._period(span).write()
        for span in spans[1:]:
            known = self._written.get(span.stretch.number)
            if known is None or known[0] is not span:
                known = span, self._period(span).write()
            written[span.stretch.number] = known
        self._written = written
        texts = b"\0".join(text for _, text in written.values())
        # What is measured of a rendition is said of it in all of them.
        for rendition in self._renditions.values():
            texts = texts.replace(_mark(rendition).encode(), str(_bandwidth(rendition)).encode())
        return (
            [
                mpd.WrittenPeriod(span.start, span.length, text)
                for span, text in zip(spans, texts.split(b"\0"), strict=True)
            ]
            if spans
            else []
        )

    def _period(self, span: LivePeriod) -> mpd.Period:
        sets: list[mpd.AdaptationSet] = []
        for content, video in (("video", True), ("audio", False)):
            offered = [
                self._representation(rendition, timeline, span)
                for rendition in self._renditions.values()
                if rendition.video is video
                and rendition.language is None
                and (timeline := timeline_at(rendition.window, span.first))
            ]
            if offered:
                # Events go with the pictures, or where there are none with the sound.
                known = None if span.static else self._reference_time(offered, span)
                scheme = None if sets else ID3_SCHEME
                sets.append(mpd.AdaptationSet(content, offered, events=scheme, reference_time=known))
        sets += (
            mpd.AdaptationSet("text", [self._text(rendition, span)], rendition.language)
            for rendition in self._renditions.values()
            if rendition.language is not None
        )
        return mpd.Period(f"p{span.stretch.number}", span.start, span.length, sets)

    def _reference_time(self, offered: list[mpd.Representation], span: LivePeriod) -> mpd.ReferenceTime:
        """Tell when the period's first moment was encoded: that is its date."""
        date = _date(float(span.start))
        ticks = round(span.media_time * offered[0].segments.timescale)
        return mpd.ReferenceTime(live_mpd.LATENCY_REFERENCE, date, ticks, CLOCK)

    def media_time(self, number: int) -> Fraction | None:
        """Give the media time in seconds at which a segment begins; None before any was published.

        Args:
            number: of a segment that is there, or the next one.
        """
        self._stretches.follow()
        return self._stretches.media_time(number)

    def lost_segment(self, rendition: Rendition, number: int) -> bytes | None:
        """Give what stands for a segment that never came: players ask for it by the clock.

        Args:
            rendition: of pictures or sound.
            number: media sequence number.

        Returns:
            A fragment of its time without samples; None where it came, or may come, or isn't known any more.
        """
        segment, begin = rendition.window.at(number), self.media_time(number)
        if segment is None or not segment.gap or begin is None or not self._cadence.regular:
            return None
        timeline = segment.timeline or rendition.window.timeline
        if timeline is None:
            return None
        track_id, timescale = read_track(timeline.init)
        return write_empty_fragment(
            sequence_number=number,
            track_id=track_id,
            base_media_decode_time=round(begin * timescale),
            duration=round(segment.duration * timescale),
        )

    def _text(self, rendition: Rendition, span: LivePeriod) -> mpd.Representation:
        """Offer captions: what HLS has as WebVTT, in movie fragments."""
        return mpd.Representation(
            id=rendition.name,
            base_url=f"{rendition.name}/",
            bandwidth=_mark(rendition),
            codecs=wvtt.CODECS,
            segments=self._segments(wvtt.TIMESCALE, span, f"init-{TEXT_INIT_NUMBER}.mp4"),
        )

    def _segments(self, timescale: int, span: LivePeriod, init: str) -> mpd.NumberTemplate:
        parts = 1 if any(one.video for one in self._renditions.values()) else SOUND_PARTS
        step = self._cadence.segment_duration
        early = step - parts * self._cadence.part_target
        # Players multiply: what is rounded off a segment's duration would be a second in a week.
        timescale *= (step * timescale).denominator
        return mpd.NumberTemplate(
            timescale=timescale,
            duration=int(step * timescale),
            start_number=span.first,
            end_number=span.last,
            presentation_time_offset=round(span.media_time * timescale),
            # What is over is all there.
            availability_time_offset=None if span.static else early,
            initialization=f"{init}{SUFFIX}",
            media=f"$Number$.{MEDIA_EXTENSION}{SUFFIX}",
        )

    def _representation(
        self, rendition: Rendition, timeline: Timeline, span: LivePeriod
    ) -> mpd.Representation:
        _, timescale = read_track(timeline.init)
        entry = timeline.entry
        return mpd.Representation(
            id=rendition.name,
            base_url=f"{rendition.name}/",
            bandwidth=_mark(rendition),
            codecs=entry.codec,
            segments=self._segments(timescale, span, init_uri(timeline) or ""),
            resolution=(entry.width, entry.height) if rendition.video else None,
            frame_rate=self._cadence.frame_rate if rendition.video else None,
            sample_rate=entry.sample_rate,
            channels=entry.channels,
        )


def _mark(rendition: Rendition) -> str:
    """Give what stands for a rendition's bandwidth in periods that are kept."""
    return f"{MARK}{rendition.name}{MARK}"


def _bandwidth(rendition: Rendition) -> int:
    nominal = rendition.bitrate if rendition.language is None else TEXT_BANDWIDTH
    return rendition.window.totals.peak_bandwidth or nominal


def _date(seconds: float) -> str:
    """Write seconds since the epoch as ISO 8601, to the nearest millisecond."""
    date = datetime.fromtimestamp(round(seconds * 1000) / 1000, UTC)
    return date.isoformat(timespec="milliseconds").replace("+00:00", "Z")

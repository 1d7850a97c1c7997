"""Makes a live channel's DASH manifest (ISO/IEC 23009-1): the segments that HLS has, as periods.

A period is a stretch without a discontinuity. Its segments have one duration, so that players ask for a
segment by its number when its first part is due, and get it part by part while it is being made.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from xml.sax.saxutils import escape

from media.dash import live_mpd, mpd
from media.dash.live_mpd import DynamicManifest
from media.dash.segment_addressing import NumberTemplate
from media.hls.date_range import DateRange
from media.hls.precompressed_text import FilledText, Pieces, Replacements, TextTemplate, rendered
from media.mp4.codecs.closed_captions import in_order
from media.mp4.fragments.emsg import ID3_SCHEME
from media.mp4.fragments.fragments import read_track, write_empty_fragment
from media.mp4.text import wvtt
from packager.publish.dash_events import event_streams
from packager.publish.dash_periods import LivePeriod, PeriodTracker, timeline_at
from packager.publish.date_ranges import DateRanges
from packager.window.cadence import Cadence
from packager.window.limits import BLOCK_PERIODS
from packager.window.model import MEDIA_EXTENSION, Timeline
from packager.window.rendition import Rendition, init_uri
from packager.window.snapshot import PeriodsEntry
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
"""Number of the init segment of all captions, in every timeline."""

TEXT_BANDWIDTH = 1000
"""Bits per second of captions, as long as there were none."""

WRITTEN_AT_ONCE = 16
"""Most periods that are written while others wait: some milliseconds' worth."""

MARK = "\ue000"
"""A private-use character that marks what is filled into periods that are kept."""

SUFFIX = "\ue001"
"""A private-use character in the place of what stands behind every address."""

CAPTIONS_MARK = "\ue002", ""
"""The scheme and value that stand for those of the captions in the picture."""

NAMED_BEHIND_END = 3
"""How many segments a manifest names beyond the last one that all renditions have.

These become available in its update period, which is a segment's duration, and in the time of an answer.
"""

SETTLED_UPDATES = 5
"""Target durations behind the end until all players know of it: they ask in each."""


Timelines = Mapping[str, Timeline | None]
"""By rendition; None where nothing is known of a rendition."""


@dataclass(frozen=True, slots=True)
class _PeriodBlock:
    """Periods that don't change any more, joined.

    Attributes:
        ends: where each one's text ends in the text.
        template: their text, and `live_mpd.BETWEEN` before each.
    """

    periods: list[LivePeriod]
    ends: list[int]
    template: TextTemplate

    @classmethod
    def of(cls, written: Sequence[tuple[LivePeriod, bytes]]) -> _PeriodBlock:
        """Join periods with their texts."""
        parts = [live_mpd.BETWEEN + text for _, text in written]
        ends = list(itertools.accumulate(map(len, parts)))
        return cls([period for period, _ in written], ends, TextTemplate(b"".join(parts)))

    def apart(self) -> dict[int, tuple[LivePeriod, bytes]]:
        """Return the periods with their texts, by their numbers."""
        text, gap = self.template.text, len(live_mpd.BETWEEN)
        ends = itertools.pairwise([0, *self.ends])
        return {
            period.stretch.number: (period, text[begin + gap : end])
            for period, (begin, end) in zip(self.periods, ends, strict=True)
        }


class LiveManifest:
    """The DASH manifest of a live channel; its periods are those of the first rendition.

    Args:
        renditions: by name; the first one is video.
        block: how many periods are joined, once they don't change any more.

    Attributes:
        date_ranges: the ranges that its periods have as events.
    """

    def __init__(
        self,
        renditions: Mapping[str, Rendition],
        cadence: Cadence,
        block: int = BLOCK_PERIODS,
        date_ranges: DateRanges | None = None,
    ) -> None:
        self._block = block
        self.date_ranges = date_ranges or DateRanges()
        self._renditions = renditions
        self._cadence = cadence
        windows = [one.window for one in renditions.values() if one.language is None]
        self._tracker = PeriodTracker(windows, cadence.segment_duration)
        self._state: tuple[object, ...] = ()
        # The manifest of this state, with marks in the places of suffix and measures.
        self._templates: list[TextTemplate] = []
        # The text before the periods.
        self._before = b""
        self._measures: Replacements = ()
        self._published = 0.0
        # The last periods that were looked at, and the same with their events.
        self._events_key: tuple[int, list[LivePeriod]] = (-1, [])
        self._eventful: list[LivePeriod] = []
        # By the numbers of their first periods, those that were joined, in order; and by their numbers some
        # others that are written: of those that don't change any more all.
        self._blocks: dict[int, _PeriodBlock] = {}
        self._written: dict[int, tuple[LivePeriod, bytes]] = {}

    def render(self, suffix: str, now: float) -> bytes:
        """Return the bytes of the manifest as of now; the rest as for `pieces`."""
        return b"".join(rendered(self.pieces(suffix, now)))

    def pieces(self, suffix: str, now: float) -> Pieces:
        """Return the manifest as of now, in pieces; every rendition must have a timeline.

        Args:
            suffix: put behind every address: ``?`` and query parameters, percent-encoded.
            now: seconds since the epoch.
        """
        reference = next(iter(self._renditions.values())).window
        self._tracker.follow()
        # With numbers and one duration a manifest doesn't change with parts.
        having = [rendition.window.timeline for rendition in self._renditions.values()]
        settled = self._is_settled(reference, now)
        state = (
            settled,
            reference.listed[0].number,
            self._tracker.known[-1].number,
            reference.ended,
            having,
            self.date_ranges.version,
            # Segments that are listed: on these bandwidths and captions depend.
            [rendition.window.next_number for rendition in self._renditions.values()],
        )
        if state != self._state:
            self._published = self._publish_time(reference, settled=settled)
            self._templates = self._template(reference, now)
            self._measures = self._measured()
            self._state = state
        replacements = *self._measures, (SUFFIX.encode(), escape(suffix).encode())
        return tuple(FilledText(template, replacements) for template in self._templates)

    def _measured(self) -> Replacements:
        """Return what is measured, and the same in all periods: bandwidths, and captions in the picture."""
        renditions = self._renditions.values()
        captions = mpd.closed_captions(
            in_order(one.window.closed_captions for one in renditions if one.video)
        )
        return (
            *((_mark(one).encode(), str(_bandwidth(one)).encode()) for one in renditions),
            (mpd.accessibility_lines([CAPTIONS_MARK]), mpd.accessibility_lines(captions)),
        )

    def delayed(self, suffix: str, now: float, delay: Fraction) -> Pieces | None:
        """Return the manifest for those who watch so many seconds later, in pieces; the rest as for `pieces`.

        Segments become available so much later than they are (§5.3.1.2); what they are and their dates stay.

        Returns:
            None where nothing of that time is there, or the channel is over.
        """
        reference = next(iter(self._renditions.values())).window
        first, *others = self.pieces(suffix, now)
        made = self._manifest(reference, now, self._tracker.periods(ended=reference.ended, settled=False))
        depth = made.time_shift_depth - delay
        if depth <= made.max_segment_duration or made.settled or not isinstance(first, FilledText):
            return None
        shifted = replace(
            made,
            availability_start=iso_date(float(delay)),
            time_shift_depth=depth,
            latency=made.latency and made.latency.later(delay),
        )
        header, _ = shifted.around()
        template = TextTemplate(header + first.template.text[len(self._before) :])
        return FilledText(template, first.replacements), *others

    def header(self, now: float, periods: Sequence[LivePeriod]) -> DynamicManifest:
        """Return what the manifest would say beside its periods if it had these, while more may come.

        Args:
            now: seconds since the epoch.
        """
        reference = next(iter(self._renditions.values())).window
        self._tracker.follow()
        published = iso_date(self._publish_time(reference, settled=False))
        return replace(self._manifest(reference, now, periods), publish_time=published, settled=False)

    def replacements(self, suffix: str) -> Replacements:
        """Return what the marks in the texts of periods stand for.

        Args:
            suffix: as for `pieces`.
        """
        return *self._measured(), (SUFFIX.encode(), escape(suffix).encode())

    def keep_up(self) -> None:
        """Follow new segments, and write some of the periods that don't change any more."""
        reference = next(iter(self._renditions.values())).window
        # Before every rendition has begun, periods are described in another way.
        if reference.listed and all(one.window.timeline for one in self._renditions.values()):
            next(self.written_in_steps(0.0), None)

    def state(self) -> Iterator[PeriodsEntry]:
        """Return a snapshot of the periods, in pieces, from which another process continues."""
        with contextlib.suppress(Exception):  # a request for the manifest reports the error
            self._tracker.follow()
        return self._tracker.state()

    def begin_from(self, entry: PeriodsEntry) -> None:
        """Continue from another process's state of the periods."""
        self._tracker.begin_from(entry)

    def take_over(self, newer: LiveManifest) -> None:
        """Take the periods of another manifest of the same renditions, which is given up."""
        self._tracker.take_over(newer._tracker)
        self._state = ()

    def written_in_steps(self, now: float) -> Iterator[None]:
        """Write the periods that don't change any more, some in each step: after a start there are thousands.

        Args:
            now: seconds since the epoch.
        """
        reference = next(iter(self._renditions.values())).window
        self._tracker.follow()
        settled = self._is_settled(reference, now)
        periods = self._tracker.periods(ended=reference.ended, settled=settled)
        if not any(map(self._is_final, periods[1:])):
            return
        final = [period for period in self._with_events(periods)[1:] if self._is_final(period)]
        known = {number: period for number, (period, _) in self._written.items()}
        joined = (period for block in self._blocks.values() for period in block.periods)
        known |= {period.stretch.number: period for period in joined}
        missing = [period for period in final if known.get(period.stretch.number) != period]
        for number, period in enumerate(missing):
            self._written[period.stretch.number] = period, self._period(period).write()
            if number % WRITTEN_AT_ONCE == WRITTEN_AT_ONCE - 1:
                yield

    def _with_events(self, periods: list[LivePeriod]) -> list[LivePeriod]:
        """Return the periods with the date ranges of their times, if the channel has any."""
        key = self.date_ranges.version, periods
        if key != self._events_key:
            self._events_key, self._eventful = key, having_events(periods, self.date_ranges.whole())
        return self._eventful

    def _is_final(self, period: LivePeriod) -> bool:
        """Return whether a period doesn't change any more, unless it is the oldest: its segments leave."""
        return period.static or self._tracker.is_over(period)

    def _template(self, reference: Window, now: float) -> list[TextTemplate]:
        settled = self._is_settled(reference, now)
        periods = self._with_events(self._tracker.periods(ended=reference.ended, settled=settled))
        before, behind = self._manifest(reference, now, periods).around()
        self._before = before
        texts = self._periods(periods)
        if not texts:
            return [TextTemplate(before + behind)]
        # Short templates are joined into one.
        joined: list[TextTemplate] = []
        loose = [before]
        for template in texts:
            if isinstance(template, TextTemplate):
                if loose:
                    joined.append(TextTemplate(b"".join(loose)))
                    loose = []
                joined.append(template)
            else:
                loose.append(template)
        return [*joined, TextTemplate(b"".join((*loose, behind)))]

    def _manifest(self, reference: Window, now: float, periods: Sequence[LivePeriod]) -> DynamicManifest:
        step, part = self._cadence.segment_duration, self._cadence.part_target
        oldest, newest = reference.listed[0], reference.listed[-1]
        target, settled = max(LATENCY_PARTS * part, LEAST_LATENCY), self._is_settled(reference, now)
        return DynamicManifest(
            publish_time=iso_date(self._published),
            update_period=step,
            time_shift_depth=newest.program_date_time + newest.duration - oldest.program_date_time,
            max_segment_duration=Fraction(self._cadence.target_duration),
            min_buffer=part,
            presentation_delay=target,
            latency=live_mpd.Latency(target, target / 2, 2 * target),
            clock=CLOCK,
            end=max((one.start + (one.length or 0) for one in periods), default=Fraction(0))
            if reference.ended
            else Fraction(0),
            has_periods=bool(periods),
            ended=reference.ended,
            settled=settled,
        )

    def _publish_time(self, reference: Window, *, settled: bool) -> float:
        """Return the time of the manifest's publication, which is the same in each process for each request.

        §5.3.1.2: another publishTime is another manifest.
        """
        newest = [one.window.listed[-1] for one in self._renditions.values() if one.window.listed]
        end = max(one.program_date_time + one.duration for one in newest)
        part = self._cadence.part_target
        if settled:
            return float(end + SETTLED_UPDATES * self._cadence.target_duration)
        known = self._tracker.known
        begun = bool(known) and known[-1].number >= reference.next_number
        return float(end + begun * part + 2 * reference.ended * part)

    def _is_settled(self, reference: Window, now: float) -> bool:
        """Return whether the channel ended so long ago that all players have loaded the manifest since."""
        newest = reference.listed[-1]
        end = newest.program_date_time + newest.duration
        return reference.ended and now > end + SETTLED_UPDATES * self._cadence.target_duration

    def _periods(self, periods: Sequence[LivePeriod]) -> list[bytes | TextTemplate]:
        """Return the texts of the periods; those that don't change any more are written and joined once."""
        if periods:
            self._take_apart(periods[0].stretch.number)
        found = list[bytes | TextTemplate]()
        written: dict[int, tuple[LivePeriod, bytes]] = {}
        blocks: dict[int, _PeriodBlock] = {}
        row: list[LivePeriod] = []
        at = 0
        while at < len(periods):
            period = periods[at]
            block = self._blocks.get(period.stretch.number)
            if block is not None and periods[at : at + len(block.periods)] == block.periods:
                at, row = at + len(block.periods), []
            else:
                written[period.stretch.number] = self._written_period(period)
                found.append((live_mpd.BETWEEN if at else b"") + written[period.stretch.number][1])
                row = [*row, period] if at and self._is_final(period) else []
                at, block = at + 1, None
            if len(row) == self._block:
                block, row = _PeriodBlock.of([written.pop(one.stretch.number) for one in row]), []
                del found[-self._block :]
            if block is not None:
                blocks[block.periods[0].stretch.number] = block
                found.append(block.template)
        self._written, self._blocks = written, blocks
        return found

    def _take_apart(self, oldest: int) -> None:
        """Split joined periods of which the first have left the manifest."""
        for number in [number for number in self._blocks if number <= oldest]:
            self._written = self._blocks.pop(number).apart() | self._written

    def _written_period(self, period: LivePeriod) -> tuple[LivePeriod, bytes]:
        known = self._written.get(period.stretch.number)
        return known if known and known[0] == period else (period, self._period(period).write())

    def _period(self, period: LivePeriod) -> mpd.Period:
        return self.period(period, self.timelines(period))

    def timelines(self, period: LivePeriod) -> Timelines:
        """Return the timelines with which the renditions begin a period that is in the windows."""
        return {
            name: timeline_at(one.window, period.first)
            for name, one in self._renditions.items()
            if one.language is None
        }

    def period(self, period: LivePeriod, timelines: Timelines) -> mpd.Period:
        """Describe a period.

        Args:
            timelines: with which the renditions begin the period, but for captions.
        """
        sets: list[mpd.AdaptationSet] = []
        for content, video in (("video", True), ("audio", False)):
            offered = [
                self._representation(rendition, timeline, period)
                for rendition in self._renditions.values()
                if rendition.video is video and (timeline := timelines.get(rendition.name)) is not None
            ]
            if offered:
                # Events go with the pictures, or where there are none with the sound.
                known = None if period.static else self._reference_time(offered, period)
                scheme = None if sets else ID3_SCHEME
                sets.append(
                    mpd.AdaptationSet(
                        content,
                        offered,
                        events=scheme,
                        reference_time=known,
                        accessibility=[CAPTIONS_MARK] if video else (),
                    )
                )
        sets += (
            mpd.AdaptationSet("text", [self._text(rendition, period)], rendition.language)
            for rendition in self._renditions.values()
            if rendition.language is not None
        )
        return mpd.Period(f"p{period.stretch.number}", period.start, period.length, sets, period.events)

    def _reference_time(self, offered: list[mpd.Representation], period: LivePeriod) -> mpd.ReferenceTime:
        """Return the date of the period's first moment, which is the time of its encoding."""
        start = iso_date(float(period.start))
        ticks = round(period.media_time * offered[0].segments.timescale)
        return mpd.ReferenceTime(live_mpd.LATENCY_REFERENCE, start, ticks, CLOCK)

    def media_time(self, number: int) -> Fraction | None:
        """Return the media time in seconds at which a segment begins; None before any was published.

        Args:
            number: number of a listed segment, or the next one.
        """
        self._tracker.follow()
        return self._tracker.media_time(number)

    def lost_segment(self, rendition: Rendition, number: int, now: float) -> bytes | None:
        """Return a replacement for a segment that never came: players ask for it by the clock.

        Args:
            rendition: of pictures or sound.
            number: media sequence number.
            now: seconds since the epoch.

        Returns:
            A fragment of its time without samples; None where it came, or may come, or isn't known any more.
            Behind the end of all, too, until all players know of the end: they ask on before that.
        """
        window, begin = rendition.window, self.media_time(number)
        if begin is None or not self._cadence.regular:
            return None
        segment, timeline, length = window.at(number), window.timeline, self._cadence.segment_duration
        if segment is not None:
            if not segment.gap:
                return None
            timeline, length = segment.timeline or timeline, segment.duration
        elif not self._was_named(window, number, now):
            return None
        return None if timeline is None else empty_segment(number, timeline, begin, length)

    def _was_named(self, window: Window, number: int, now: float) -> bool:
        """Return whether players may have a manifest that names a segment behind the end of all."""
        beyond = number - window.next_number
        return window.ended and 0 <= beyond < NAMED_BEHIND_END and not self._is_settled(window, now)

    def _text(self, rendition: Rendition, period: LivePeriod) -> mpd.Representation:
        """Offer captions: what HLS has as WebVTT, in movie fragments."""
        return mpd.Representation(
            id=rendition.name,
            base_url=f"{rendition.name}/",
            bandwidth=_mark(rendition),
            codecs=wvtt.CODECS,
            segments=self._segments(wvtt.TIMESCALE, period, f"init-{TEXT_INIT_NUMBER}.mp4"),
        )

    def _segments(self, timescale: int, period: LivePeriod, init: str) -> NumberTemplate:
        parts = 1 if any(one.video for one in self._renditions.values()) else SOUND_PARTS
        step = self._cadence.segment_duration
        early = step - parts * self._cadence.part_target
        # Players multiply: what is rounded off a segment's duration would be a second in a week.
        timescale *= (step * timescale).denominator
        return NumberTemplate(
            timescale=timescale,
            duration=int(step * timescale),
            start_number=period.first,
            end_number=period.last,
            last_duration=self._last_duration(period, timescale),
            presentation_time_offset=round(period.media_time * timescale),
            # A period that is over is available as a whole.
            availability_time_offset=None if period.static else early,
            initialization=f"{init}{SUFFIX}",
            media=f"$Number$.{MEDIA_EXTENSION}{SUFFIX}",
        )

    def _last_duration(self, period: LivePeriod, timescale: int) -> int | None:
        """Return the ticks of the last settled segment, which lasts to the end of its period."""
        if not period.static or period.last is None or period.length is None:
            return None
        step = self._cadence.segment_duration
        rest = period.length - (period.last - period.first) * step
        return round((rest if rest > 0 else step) * timescale)

    def _representation(
        self, rendition: Rendition, timeline: Timeline, period: LivePeriod
    ) -> mpd.Representation:
        timescale = read_track(timeline.init).timescale
        entry = timeline.entry
        return mpd.Representation(
            id=rendition.name,
            base_url=f"{rendition.name}/",
            bandwidth=_mark(rendition),
            codecs=entry.codec,
            segments=self._segments(timescale, period, init_uri(timeline) or ""),
            resolution=timeline.resolution if rendition.video else None,
            frame_rate=(timeline.frame_rate or self._cadence.frame_rate) if rendition.video else None,
            sample_rate=entry.sample_rate,
            channels=entry.channels,
        )


def empty_segment(number: int, timeline: Timeline, begin: Fraction, length: Fraction) -> bytes:
    """Write a segment without samples.

    Args:
        begin: seconds of media time, not negative.
        length: seconds.
    """
    track = read_track(timeline.init)
    return write_empty_fragment(
        sequence_number=number,
        track_id=track.track_id,
        base_media_decode_time=round(begin * track.timescale),
        duration=round(length * track.timescale),
    )


def having_events(periods: list[LivePeriod], ranges: Sequence[DateRange]) -> list[LivePeriod]:
    """Return periods with the date ranges of their times, if there are any."""
    if not ranges or not periods:
        return periods
    length = periods[-1].length
    end = None if length is None else periods[-1].date + length
    streams = event_streams(ranges, [one.date for one in periods], end)
    return [
        replace(one, events=events) if events else one for one, events in zip(periods, streams, strict=True)
    ]


def _mark(rendition: Rendition) -> str:
    """Return the placeholder of a rendition's bandwidth in the kept texts of periods."""
    return f"{MARK}{rendition.name}{MARK}"


def _bandwidth(rendition: Rendition) -> int:
    nominal = rendition.bitrate if rendition.language is None else TEXT_BANDWIDTH
    return rendition.window.finished.totals.peak_bandwidth or nominal


def iso_date(seconds: float) -> str:
    """Write seconds since the epoch as ISO 8601, to the nearest millisecond."""
    written = datetime.fromtimestamp(round(seconds * 1000) / 1000, UTC)
    return written.isoformat(timespec="milliseconds").replace("+00:00", "Z")

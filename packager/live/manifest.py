"""What the DASH manifest of a live channel says (ISO/IEC 23009-1): the segments that HLS has, as periods.

A period is a stretch without a discontinuity. Its segments have one duration, so that players ask for a
segment by its number when its first part is due, and get it part by part while it is being made.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from media import livempd, mpd
from media.emsg import ID3_SCHEME
from media.fragments import FragmentReader, InitSegment
from packager.live.ladder import Cadence
from packager.live.rendition import Rendition, init_uri
from packager.live.window import LiveSegment, Timeline, Window

CLOCK = "../../api/time"
"""Where players read this origin's clock, relative to the manifest."""

LATENCY_PARTS = 5
"""How many part targets behind now a player should be: one being made, one on its way, three buffered."""

LEAST_LATENCY = Fraction(3, 2)
"""Seconds that browsers need behind now, however short the parts are."""

MOST_DRIFT = Fraction(3, 10)
"""Seconds by which a segment's date may differ from where its period puts it; then a new period begins."""


MAX_RENDERED = 64
"""Most rendered manifests that are kept; different query parameters make different ones."""

SETTLED_UPDATES = 5
"""So many target durations behind the end nobody is left who doesn't know of it: players ask in each."""

READ_KEPT = 32
"""How many init segments' timescales are kept."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Segments that follow each other without a break.

    Attributes:
        number: media sequence number of the first one.
        start: its date in seconds since the epoch.
        media_time: its decode time in seconds.
    """

    number: int
    start: Fraction
    media_time: Fraction


class LiveManifest:
    """Follows a channel's first rendition and tells the periods.

    Args:
        renditions: by name; the first one is video.
        cadence: the channel's.
    """

    def __init__(self, renditions: Mapping[str, Rendition], cadence: Cadence) -> None:
        self._renditions = renditions
        self._cadence = cadence
        self._stretches: deque[Stretch] = deque()
        self._ends: dict[int, Fraction] = {}
        self._seen = -1
        self._previous: LiveSegment | None = None
        self._state: tuple[object, ...] = ()
        self._rendered: dict[str, bytes] = {}

    def render(self, suffix: str, now: float) -> bytes:
        """Give the manifest as of now; every rendition must have a timeline.

        Args:
            suffix: put behind every address: ``?`` and query parameters, percent-encoded.
            now: seconds since the epoch.
        """
        reference = next(iter(self._renditions.values())).window
        self._follow(reference)
        # With numbers and one duration a manifest changes only with its periods and its oldest segment.
        having = tuple(rendition.window.timeline for rendition in self._renditions.values())
        settled = self._is_settled(reference, now)
        state = (settled, reference.listed[0].number, self._stretches[-1].number, reference.ended, having)
        if state != self._state or len(self._rendered) >= MAX_RENDERED:
            self._state = state
            self._rendered.clear()
        if suffix not in self._rendered:
            self._rendered[suffix] = self._manifest(reference, suffix, now).render()
        return self._rendered[suffix]

    def _follow(self, window: Window) -> None:
        """Look at the segments that came since the last time, and forget the periods that have left."""
        new = []
        for segment in reversed(window.listed):
            if segment.number <= self._seen:
                break
            new.append(segment)
        for segment in reversed(new):
            self._admit(segment)
            self._seen = segment.number
        if window.open is not None and window.open.timeline is not None and self._breaks(window.open):
            self._begin(window.open)
        while len(self._stretches) > 1 and self._stretches[1].number <= window.listed[0].number:
            self._ends.pop(self._stretches.popleft().number, None)

    def _admit(self, segment: LiveSegment) -> None:
        if segment.gap or segment.timeline is None:
            self._previous = None
            return
        if self._breaks(segment):
            self._begin(segment)
        stretch = self._stretches[-1]
        self._previous = segment
        self._ends[stretch.number] = segment.program_date_time + segment.duration - stretch.start

    def _breaks(self, segment: LiveSegment) -> bool:
        """Tell whether a segment can't be in the period of those before it."""
        if self._stretches and self._stretches[-1].number == segment.number:
            return False
        if self._previous is None or self._previous.timeline != segment.timeline:
            return True
        stretch = self._stretches[-1]
        expected = stretch.start + (segment.number - stretch.number) * self._cadence.segment_duration
        return abs(segment.program_date_time - expected) > MOST_DRIFT

    def _begin(self, segment: LiveSegment) -> None:
        if segment.timeline is None:
            return
        if segment.stored is not None:
            start = segment.stored.decode_time
        else:
            start = Fraction(*read_time(segment.timeline.init, bytes(segment.parts[0].data)))
        self._stretches.append(Stretch(segment.number, segment.program_date_time, start))

    def _manifest(self, reference: Window, suffix: str, now: float) -> livempd.DynamicManifest:
        step, part = self._cadence.segment_duration, self._cadence.part_target
        oldest, newest = reference.listed[0], reference.listed[-1]
        target = max(LATENCY_PARTS * part, LEAST_LATENCY)
        return livempd.DynamicManifest(
            publish_time=datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            update_period=step,
            time_shift_depth=newest.program_date_time + newest.duration - oldest.program_date_time,
            max_segment_duration=Fraction(self._cadence.target_duration),
            min_buffer=part,
            latency=livempd.Latency(target, target / 2, 2 * target),
            clock=CLOCK,
            periods=[
                self._period(stretch, last=index == len(self._stretches) - 1, suffix=suffix)
                for index, stretch in enumerate(self._stretches)
            ],
            ended=reference.ended,
            settled=self._is_settled(reference, now),
        )

    def _is_settled(self, reference: Window, now: float) -> bool:
        """Tell whether it was over so long ago that all players have asked for the manifest since."""
        newest = reference.listed[-1]
        end = newest.program_date_time + newest.duration
        return reference.ended and now > end + SETTLED_UPDATES * self._cadence.target_duration

    def _period(self, stretch: Stretch, *, last: bool, suffix: str) -> livempd.Period:
        reference = next(iter(self._renditions.values())).window
        sets: list[mpd.AdaptationSet] = []
        for content, video in (("video", True), ("audio", False)):
            offered = [
                self._representation(rendition, timeline, stretch, suffix)
                for rendition in self._renditions.values()
                if rendition.video is video
                and rendition.language is None
                and (timeline := timeline_at(rendition.window, stretch.number))
            ]
            if offered:
                # Events go with the pictures, or where there are none with the sound.
                sets.append(mpd.AdaptationSet(content, offered, events=None if sets else ID3_SCHEME))
        over = reference.ended or not last
        duration = self._ends.get(stretch.number, Fraction(0)) if over else None
        return livempd.Period(f"p{stretch.number}", stretch.start, duration, sets)

    def _representation(
        self, rendition: Rendition, timeline: Timeline, stretch: Stretch, suffix: str
    ) -> mpd.Representation:
        _, timescale = read_time(timeline.init)
        entry, window = timeline.entry, rendition.window
        return mpd.Representation(
            id=rendition.name,
            base_url=f"{rendition.name}/",
            bandwidth=window.peak_bandwidth or rendition.bitrate,
            codecs=entry.codec,
            segments=mpd.NumberTemplate(
                timescale=timescale,
                duration=round(self._cadence.segment_duration * timescale),
                start_number=stretch.number,
                presentation_time_offset=round(stretch.media_time * timescale),
                availability_time_offset=self._cadence.segment_duration - self._cadence.part_target,
                initialization=f"{init_uri(timeline)}{suffix}",
                media=f"$Number$.m4s{suffix}",
            ),
            resolution=(entry.width, entry.height) if rendition.video else None,
            frame_rate=self._cadence.frame_rate if rendition.video else None,
            sample_rate=entry.sample_rate,
            channels=entry.channels,
        )


def parse_time(init: bytes, fragment: bytes = b"") -> tuple[int, int]:
    """Read when a fragment begins.

    Args:
        init: the init segment of its one track.
        fragment: one fragment, or nothing.

    Returns:
        Its decode time in ticks, 0 without one; the ticks per second.
    """
    reader = FragmentReader()
    reader.receive_data(init + fragment)
    time, timescale = 0, 1
    for event in reader.events():
        if isinstance(event, InitSegment):
            timescale = event.tracks[0].timescale
        else:
            time = event.base_media_decode_time
    return time, timescale


read_time = functools.lru_cache(maxsize=READ_KEPT)(parse_time)
"""The same for those that are asked for again and again."""


def timeline_at(window: Window, number: int) -> Timeline | None:
    """Give the timeline of a segment, or of the first one behind it that isn't a gap; None without any."""
    # From the segment on, not from the end: a window of hours has many periods' worth of segments.
    for one in range(max(number, window.oldest_number), window.next_number):
        segment = window.at(one)
        if segment is not None and not segment.gap:
            return segment.timeline
    return window.timeline if window.open is None else window.open.timeline

"""Turns fragments of one rendition, or the bytes of one of ffmpeg's pipes, into its parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError, UnsupportedError
from media.mp4.codecs.sample_entry import SampleEntry, parse_sample_entry
from media.mp4.fragments.emsg import ID3_BRAND, with_brand
from media.mp4.fragments.fragments import Fragment, FragmentReader, InitSegment, write_fragment
from media.mp4.fragments.moof import total_duration
from packager.live.captions import Follower
from packager.live.limits import DEFAULT_LIMITS, LiveLimits
from packager.live.timed_metadata import PartPosition, TimedMetadata
from packager.segment.grid_segmenter import Segmenter
from packager.segment.part_packer import CutPart
from packager.window.model import SLATE_BRAND, LivePart
from packager.window.program_date_time import Instant, WallClock
from packager.window.rendition_log_writer import RenditionWriter
from packager.window.sequence_numbers import SequenceNumbers

IN_VAIN = 1 / 16
"""Share of reads that come too early; the frames that are missing then wake the reader."""

PART_LOOK_SHIFT_SECONDS = 0.02
"""Most seconds by which looks at a pipe are moved, to either side of the soonest moment at which a part could
come.
"""

PART_LOOK_STEP_SECONDS = 0.001
"""Seconds by which a look moves the next ones; a loop's timers are no finer."""


class PartSchedule:
    """Chooses when what brings one rendition, such as a pipe, is read for its next part.

    A read that comes too early costs another wake-up, a late one delays the part. A few of them are kept
    too early: so reads are as late as parts usually are, and follow them both ways.

    Attributes:
        lateness: seconds from the earliest possible arrival to the read.
    """

    def __init__(self) -> None:
        self.lateness = 0.0

    def looked(self, *, whole: bool) -> None:
        """Adjust the next reads to the outcome of one.

        Args:
            whole: whether the read found a whole part.
        """
        moved = self.lateness + PART_LOOK_STEP_SECONDS * ((1 - IN_VAIN) if not whole else -IN_VAIN)
        self.lateness = max(-PART_LOOK_SHIFT_SECONDS, min(moved, PART_LOOK_SHIFT_SECONDS))


MOST_OF_PIPE = 0.25
"""Largest share of a pipe's capacity for a part while the pipe isn't read: a key frame may come, too."""


class RunStart:
    """Decides which segments of a run are published, the same ones of all renditions.

    Attributes:
        segment: index in the run of the first segment to be published; earlier ones are dropped.
        admitted: index of the newest segment that any rendition has begun.
        began: when the run's first picture came, by the monotonic clock, if it was kept and its followers
            come at once; None where all comes in real time.

    Args:
        segment_duration: the channel's, in seconds.
        media_start: media time in seconds at which the run begins.
    """

    def __init__(self, segment_duration: Fraction, media_start: Fraction = Fraction(0)) -> None:
        self.segment = 0
        self.admitted = -1
        self.began: float | None = None
        self._media_start = float(media_start)
        self._fast = float(segment_duration) / 2
        self._line: int | None = None
        self._skipped: float | None = None

    def admit(self, segment: int, number: int) -> None:
        """Note that a segment is published under a media sequence number."""
        self.admitted = max(self.admitted, segment)
        self._line, self._skipped = number - segment, None

    def is_old(self, media_time: float, oldest: float) -> bool:
        """Return whether a segment was made before its number's time, if it would be the run's first one.

        Its followers would come before their numbers may be used, and be dropped behind it.

        Args:
            media_time: seconds at which the segment begins.
            oldest: when its number might be used first, by the monotonic clock.
        """
        if self.began is None or self.admitted >= 0:
            return False
        return self.began + media_time - self._media_start < oldest

    def skips(self, segment: int, number: int, now: float) -> bool:
        """Return whether to drop a segment that comes after a stall, since a gap stands for it.

        An encoder that stalled catches up at once: the segments that gaps stand for are dropped, so that
        numbers and media times go on without another discontinuity. A source that stalled itself comes no
        faster than before: one segment of it is dropped, and it goes on with later numbers.

        Args:
            segment: index of the segment in the run, of which the first part has come.
            number: media sequence number that the segment would have.
            now: this moment by the monotonic clock, in seconds.
        """
        late = self._line is not None and number - segment > self._line
        skips = late and (self._skipped is None or now - self._skipped < self._fast)
        if skips:
            self._skipped = now
        return skips


@dataclass(frozen=True, slots=True)
class RunContext:
    """Everything that the feeds of one run of ffmpeg share.

    Attributes:
        clock: maps the run's media times to dates.
        start: decides which of the run's segments are published.
        segment_duration: the channel's, in seconds.
        numbers: decides whether a segment may be opened already.
        timed_metadata: the channel's events, which go with the parts.
        frame_rate: pictures per second of the source, where they aren't those of the channel's cadence.
        on_part: called for each part with the seconds from its last frame's end to its being published.
        plays_slate: returns whether what the run was fed is the channel's slate.
    """

    clock: WallClock
    start: RunStart
    segment_duration: Fraction
    numbers: SequenceNumbers
    timed_metadata: TimedMetadata
    on_part: Callable[[float], None]
    limits: LiveLimits = DEFAULT_LIMITS
    frame_rate: Fraction | None = None
    plays_slate: Callable[[], bool] = lambda: False


class Feed:
    """Brings the bytes of one rendition from one run of ffmpeg into its window.

    Args:
        run: the context that the feeds of the run share.
        writer: where the rendition's parts go.
        make_segmenter: makes what cuts the rendition, from its timescale.
        follow: called behind each part, where captions follow this rendition.

    Attributes:
        segment: index in the run of the segment that came last, -1 before any.
        span: seconds of media time at which the rendition began in this run, and up to which it has come;
            None before.
    """

    def __init__(
        self,
        run: RunContext,
        writer: RenditionWriter,
        make_segmenter: Callable[[int], Segmenter],
        follow: Follower | None = None,
    ) -> None:
        self._run = run
        self._name = writer.name
        self._window = writer.window
        self._writer = writer
        self.segment = -1
        self.span: tuple[Fraction, float] | None = None
        self._suspended = False
        self._init = b""
        self._entry: SampleEntry | None = None
        self._make_segmenter = make_segmenter
        self._follow = follow
        self._reader = FragmentReader()
        self._segmenter: Segmenter | None = None
        self._timescale = 1
        self._track_id = 0
        self._part_count = 0
        self._largest = 0
        self._lasts = 0, Fraction(0)
        self._part_schedule = PartSchedule()
        self._looking = False

    def receive_data(self, data: bytes, now: Instant) -> bool:
        """Parse bytes of ffmpeg's output, and publish what they complete.

        Returns:
            Whether a part was published.

        Raises:
            MediaError: they are no fragmented MP4 of one track.
            CadenceError: the samples don't come as they should.
        """
        self._reader.receive_data(data)
        published = False
        for event in self._reader.events():
            if isinstance(event, InitSegment):
                self.begin(event)
            else:
                published = self.add(event, now) or published
        if self._looking:
            self._looking = False
            self.looked(whole=published)
        return published

    def rest(self, now: Instant, capacity: int) -> float:
        """Return the seconds until the pipe must be read again: nothing is published before a part is whole.

        Args:
            capacity: bytes that the pipe holds.

        Returns:
            Seconds until the part is probably there; 0 where that can't be known, or the pipe could become
            full.
        """
        due = self.due
        if due is None or self._largest > MOST_OF_PIPE * capacity:
            return 0.0
        rest = max(due - now.monotonic, 0.0)
        self._looking = rest > 0
        return rest

    @property
    def due(self) -> float | None:
        """When a part is probably whole, by the monotonic clock; None if it isn't known."""
        end = None if self._segmenter is None else self._segmenter.foretold
        soonest = None if end is None else self._run.clock.awaited(end / self._timescale)
        return None if soonest is None else soonest + self._part_schedule.lateness

    def looked(self, *, whole: bool) -> None:
        """Adjust the next reads to the outcome of one: whether it found a part."""
        self._part_schedule.looked(whole=whole)

    def suspend(self) -> None:
        """Publish nothing until the run's start says so: a gap stands where the segment was to go on."""
        self._suspended = True

    def finish(self, last: int, now: Instant, until: float = math.inf) -> None:
        """Publish the samples of an incomplete part, since nothing more comes.

        Args:
            last: number of the last segment that any rendition has; no later one is opened.
            until: seconds of media time; no part begins then or later.
        """
        for part in () if self._segmenter is None else self._segmenter.finish():
            if part.base_media_decode_time >= until * self._timescale:
                return
            if self._window.next_number <= last and self._admits(part, now):
                self._publish(part, now)

    def begin(self, init: InitSegment) -> None:
        """Begin with the init segment, which comes before all fragments.

        Raises:
            UnsupportedError: it has more than one track, or is the second one.
        """
        if self._segmenter is not None:
            raise UnsupportedError("a second init segment in one stream")
        if len(init.tracks) != 1 or len(init.tracks[0].sample_entries) != 1:
            raise UnsupportedError("a rendition is one track with one sample entry")
        (track,) = init.tracks
        self._timescale, self._track_id = track.timescale, track.track_id
        carries = self._run.timed_metadata.carries(self._name)
        self._init = with_brand(init.data, ID3_BRAND) if carries else init.data
        if self._run.plays_slate():
            self._init = with_brand(self._init, SLATE_BRAND)
        self._entry = parse_sample_entry(track.sample_entries[0])
        has_picture = bool(self._entry.width)
        self._writer.begin(self._init, self._entry, self._run.frame_rate if has_picture else None)
        self._segmenter = self._make_segmenter(track.timescale)

    def add(self, fragment: Fragment, now: Instant) -> bool:
        """Cut and publish the next samples.

        Returns:
            Whether a part was published.

        Raises:
            MediaError: no init segment came before.
            CadenceError: they don't come as they should.
        """
        before = self._part_count
        if self._segmenter is None:
            raise MalformedError("a fragment before the init segment")
        start = fragment.base_media_decode_time
        end = start + total_duration(fragment.samples)
        reached = end / self._timescale
        self.span = (Fraction(start, self._timescale) if self.span is None else self.span[0]), reached
        self._run.clock.observe(reached, now)
        for part in self._segmenter.push(start, fragment.samples, fragment.data):
            if self._admits(part, now):
                self._publish(part, now)
        return self._part_count > before

    def _admits(self, part: CutPart, now: Instant) -> bool:
        """Return whether a part is published; a segment's first one decides for the segment."""
        opens, self.segment = part.segment > self.segment, part.segment
        if not opens:
            return not self._suspended
        start, number = self._run.start, self._window.next_number
        if start.admitted < part.segment >= start.segment:
            numbers, duration = self._run.numbers, self._run.segment_duration
            time = part.base_media_decode_time / self._timescale
            early = not numbers.may_use(number, duration)
            early = early or start.is_old(time, numbers.usable_since(number, duration))
            if early or (self._suspended and start.skips(part.segment, number, now.monotonic)):
                start.segment = part.segment + 1
        if part.segment < start.segment:
            self._suspended = True
            return False
        start.admit(part.segment, number)
        if self._suspended or part.resumes:
            self._suspended = False
            self._renew()
        return True

    def _renew(self) -> None:
        """Begin a timeline with the same init segment."""
        if self._entry is not None:
            self._writer.break_off()

    def _publish(self, part: CutPart, now: Instant) -> None:
        self._part_count += 1
        self._largest = max(self._largest, len(part.data))
        dating = self._run.clock.dating(part.segment, now)
        if dating.stepped and self._window.open is None:
            self._renew()
        shown = part.base_media_decode_time + part.samples[0].composition_offset
        place = PartPosition(shown, shown + part.duration, self._timescale, dating.offset)
        data = self._run.timed_metadata.boxes(self._name, place) + write_fragment(
            sequence_number=self._part_count,
            track_id=self._track_id,
            base_media_decode_time=part.base_media_decode_time,
            samples=part.samples,
            data=part.data,
        )
        offset, scale = dating.offset, self._timescale
        begin = Fraction(shown * offset.denominator + offset.numerator * scale, scale * offset.denominator)
        if part.duration != self._lasts[0]:
            # Most last as long as the one before.
            self._lasts = part.duration, Fraction(part.duration, scale)
        duration = self._lasts[1]
        self._writer.append(LivePart(data, duration, part.independent), begin, ends_segment=part.ends_segment)
        if self._follow is not None:
            self._follow(self._window, dating.offset)
        end = place.end / scale + float(offset)
        self._run.on_part(max(now.wall - end, 0.0))

"""From the bytes of one of ffmpeg's pipes to parts in a window."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from fractions import Fraction

from media.codecs import SampleEntry, parse_sample_entry
from media.emsg import ID3_BRAND, with_brand
from media.errors import MalformedError, UnsupportedError
from media.fragments import Fragment, FragmentReader, InitSegment, write_fragment
from packager.live.captions import Follower
from packager.live.inband import Inband, Place
from packager.live.numbers import Numbers
from packager.live.rendition import Rendition
from packager.live.segmenter import CadenceError, CutPart, Cutter
from packager.live.wallclock import Instant, WallClock
from packager.live.window import LivePart


class Resumption:
    """From which segment of a run on its renditions publish; all of them from the same one.

    Attributes:
        segment: its index in the run; earlier ones are dropped.
    """

    def __init__(self) -> None:
        self.segment = 0


class Feed:
    """One rendition of one run of ffmpeg.

    Args:
        rendition: whose window the parts go to.
        clock: of this run.
        resumption: of this run.
        segment_duration: the channel's, in seconds.
        numbers: the channel's, which say whether a segment may be opened already.
        inband: the channel's events, which go with the parts.
        cutter: makes what cuts the rendition, from its timescale.
        follow: called behind each part, where captions follow this rendition.
        on_part: called for each part with the seconds from its last frame's end to its being published.

    Attributes:
        segment: index in the run of the segment that came last, -1 before any.
    """

    def __init__(
        self,
        rendition: Rendition,
        clock: WallClock,
        resumption: Resumption,
        segment_duration: Fraction,
        numbers: Numbers,
        inband: Inband,
        cutter: Callable[[int], Cutter],
        follow: Follower | None,
        on_part: Callable[[float], None],
    ) -> None:
        self._name = rendition.name
        self._window = rendition.window
        self._clock = clock
        self._resumption = resumption
        self._numbers = numbers
        self._inband = inband
        self.segment = -1
        self._suspended = False
        self._init = b""
        self._entry: SampleEntry | None = None
        self._segment_duration = segment_duration
        self._cutter = cutter
        self._follow = follow
        self._on_part = on_part
        self._reader = FragmentReader()
        self._segmenter: Cutter | None = None
        self._timescale = 1
        self._track_id = 0
        self._part_count = 0

    def receive(self, data: bytes, now: Instant) -> bool:
        """Take what came from the pipe.

        Args:
            data: the bytes.
            now: this moment.

        Returns:
            Whether a part was published.

        Raises:
            MediaError: they are no fragmented MP4 of one track.
            CadenceError: the samples don't come as they should.
        """
        before = self._part_count
        self._reader.receive_data(data)
        for event in self._reader.events():
            if isinstance(event, InitSegment):
                self._begin(event)
            else:
                self._fragment(event, now)
        return self._part_count > before

    def suspend(self) -> None:
        """Publish nothing until the run's resumption: a gap stands where the segment was to go on."""
        self._suspended = True

    def finish(self, last: int, now: Instant) -> None:
        """Publish what fills no part yet, since nothing more comes.

        Args:
            last: number of the last segment that any rendition has; no other one is opened for it.
            now: this moment.
        """
        for part in () if self._segmenter is None else self._segmenter.finish():
            if self._window.next_number <= last:
                with contextlib.suppress(CadenceError):
                    if self._admits(part):
                        self._publish(part, now)

    def _begin(self, init: InitSegment) -> None:
        if self._segmenter is not None:
            raise UnsupportedError("a second init segment in one stream")
        if len(init.tracks) != 1 or len(init.tracks[0].sample_entries) != 1:
            raise UnsupportedError("a rendition is one track with one sample entry")
        (track,) = init.tracks
        self._timescale, self._track_id = track.timescale, track.track_id
        carries = self._inband.carries(self._name)
        self._init = with_brand(init.data, ID3_BRAND) if carries else init.data
        self._entry = parse_sample_entry(track.sample_entries[0])
        self._window.begin(self._init, self._entry)
        self._segmenter = self._cutter(track.timescale)

    def _fragment(self, fragment: Fragment, now: Instant) -> None:
        if self._segmenter is None:
            raise MalformedError("a fragment before the init segment")
        start = fragment.base_media_decode_time
        end = start + sum(sample.duration for sample in fragment.samples)
        self._clock.observe(end / self._timescale, now)
        for part in self._segmenter.receive(start, fragment.samples, fragment.data):
            if self._admits(part):
                self._publish(part, now)

    def _admits(self, part: CutPart) -> bool:
        """Tell whether a part is published; a segment's first one decides for the segment."""
        opens, self.segment = part.segment > self.segment, part.segment
        if not opens:
            return not self._suspended
        early = not self._numbers.may_use(self._window.next_number, self._segment_duration)
        if self._suspended:
            if early:
                # What comes late comes fast: gaps stand for it already.
                self._resumption.segment = max(self._resumption.segment, part.segment + 1)
            if part.segment < self._resumption.segment:
                return False
            self._suspended = False
            self._renew()
        elif early:
            raise CadenceError(f"segment {self._window.next_number} before its number's time")
        elif part.resumes:
            self._renew()
        return True

    def _renew(self) -> None:
        """Begin a timeline with the same init segment."""
        if self._entry is not None:
            self._window.begin(self._init, self._entry)

    def _publish(self, part: CutPart, now: Instant) -> None:
        self._part_count += 1
        dating = self._clock.dating(part.segment, now)
        if dating.stepped and self._window.open is None:
            self._renew()
        shown = part.base_media_decode_time + part.samples[0].composition_offset
        place = Place(shown, shown + part.duration, self._timescale, dating.offset)
        data = self._inband.boxes(self._name, place) + write_fragment(
            sequence_number=self._part_count,
            track_id=self._track_id,
            base_media_decode_time=part.base_media_decode_time,
            samples=part.samples,
            data=part.data,
        )
        begin = Fraction(shown, self._timescale) + dating.offset
        duration = Fraction(part.duration, self._timescale)
        self._window.append(LivePart(data, duration, part.independent), begin, ends_segment=part.ends_segment)
        if self._follow is not None:
            self._follow(self._window, dating.offset)
        self._on_part(max(now.wall - float(begin + duration), 0.0))

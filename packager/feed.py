"""From the bytes of one of ffmpeg's pipes to parts in a window."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from media.codecs import parse_sample_entry
from media.errors import MalformedError, UnsupportedError
from media.fragments import Fragment, FragmentReader, InitSegment, write_fragment
from packager.ladder import Cadence
from packager.segmenter import CutPart, Segmenter
from packager.window import LivePart, Window


class WallClock:
    """Maps a source's media time to the wall clock: the same for all its renditions.

    ffmpeg gives a frame when the next one is made, so no frame comes before its end; the one that came
    soonest tells the truth. The first ones of a source come late, since ffmpeg was just starting.
    """

    def __init__(self) -> None:
        self._soonest: Fraction | None = None
        self._settled: Fraction | None = None

    def observe(self, media_end: Fraction, now: float) -> None:
        """Note that a frame came.

        Args:
            media_end: media time of the frame's end in seconds.
            now: seconds since the epoch.
        """
        if self._settled is None:
            offset = Fraction(round(now * 1000), 1000) - media_end
            self._soonest = offset if self._soonest is None else min(self._soonest, offset)

    def date(self, media_time: Fraction) -> Fraction:
        """Give the wall clock at a media time, both in seconds; from the first answer on it stays so."""
        if self._settled is None:
            self._settled = self._soonest or Fraction(0)
        return media_time + self._settled


class Feed:
    """One rendition of one run of ffmpeg.

    Args:
        window: where the parts go.
        clock: of this run.
        cadence: the channel's.
        start: media time in seconds at which the run's first segment begins.
        on_part: called for each part with the seconds from its last frame's end to its being published.
    """

    def __init__(
        self,
        window: Window,
        clock: WallClock,
        cadence: Cadence,
        start: Fraction,
        on_part: Callable[[float], None],
    ) -> None:
        self._window = window
        self._clock = clock
        self._cadence = cadence
        self._start = start
        self._on_part = on_part
        self._reader = FragmentReader()
        self._segmenter: Segmenter | None = None
        self._timescale = 1
        self._track_id = 0
        self._part_count = 0

    def receive(self, data: bytes, now: float) -> bool:
        """Take what came from the pipe.

        Args:
            data: the bytes.
            now: seconds since the epoch.

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

    def _begin(self, init: InitSegment) -> None:
        if self._segmenter is not None:
            raise UnsupportedError("a second init segment in one stream")
        if len(init.tracks) != 1 or len(init.tracks[0].sample_entries) != 1:
            raise UnsupportedError("a rendition is one track with one sample entry")
        (track,) = init.tracks
        self._timescale, self._track_id = track.timescale, track.track_id
        self._window.begin(init.data, parse_sample_entry(track.sample_entries[0]))
        self._segmenter = Segmenter(
            timescale=track.timescale,
            origin=self._start,
            segment_duration=self._cadence.segment_duration,
            part_target=self._cadence.part_target,
        )

    def _fragment(self, fragment: Fragment, now: float) -> None:
        if self._segmenter is None:
            raise MalformedError("a fragment before the init segment")
        start = fragment.base_media_decode_time
        end = start + sum(sample.duration for sample in fragment.samples)
        self._clock.observe(Fraction(end, self._timescale), now)
        for part in self._segmenter.receive(start, fragment.samples, fragment.data):
            self._publish(part, now)

    def _publish(self, part: CutPart, now: float) -> None:
        self._part_count += 1
        data = write_fragment(
            sequence_number=self._part_count,
            track_id=self._track_id,
            base_media_decode_time=part.base_media_decode_time,
            samples=part.samples,
            data=part.data,
        )
        begin = self._clock.date(Fraction(part.base_media_decode_time, self._timescale))
        duration = Fraction(part.duration, self._timescale)
        self._window.append(LivePart(data, duration, part.independent), begin, ends_segment=part.ends_segment)
        self._on_part(max(now - float(begin + duration), 0.0))

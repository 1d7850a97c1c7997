"""Divides fragmented MP4 (ISO/IEC 14496-12 §8.8) into chunks for restarts of a decoder.

Fragments are rewritten, one for each track, from one key frame to the next: the publisher's data offsets may
count from the beginning of the stream (§8.8.7.1), which a decoder that joins later doesn't have.
"""

from __future__ import annotations

from collections.abc import Iterator

from media.mp4.fragments.fragments import Fragment, FragmentReader, InitSegment, write_fragment
from media.mp4.fragments.moof import DEFAULT_LIMITS, FragmentLimits
from media.mp4.fragments.sample_durations import SampleDurations
from media.mp4.movie.movie import Track
from media.steady_times import SingleStrays
from media.stream_reader import CLOCK_RATE, MediaClock, StreamChunk

MOST_GROUPS = 64
"""Most key frames at which a fragment is divided; in intra-only video all frames are key frames."""


class FragmentedStreamReader:
    """Divides a stream at its key frames, without I/O; without video each fragment is an access point.

    Boxes other than ``moov`` and fragments are dropped.
    """

    muxed_container = ""

    def __init__(self, limits: FragmentLimits = DEFAULT_LIMITS) -> None:
        self._reader = FragmentReader(limits)
        self._tracks: dict[int, Track] = {}
        self._leading = 0
        self._init: InitSegment | None = None
        self._count = 0
        # §8.8.12: decode times rise.
        self._clock = MediaClock(back=-1)
        self._strays = SingleStrays()
        self._durations = SampleDurations({})

    @property
    def fault(self) -> str:
        """The error of the fragments' times; empty while there is none."""
        return self._strays.fault or self._durations.fault

    @property
    def signature(self) -> bytes:
        """The tracks' sample entries."""
        return b"".join(entry for track in self._tracks.values() for entry in track.sample_entries)

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Parse the next bytes.

        Returns:
            Completed fragments, in order; those between a jump in time and the next key frame are dropped.

        Raises:
            MediaError: the bytes are no stream of fragments.
        """
        self._reader.receive_data(data)
        found: list[StreamChunk] = []
        for event in self._reader.events():
            if isinstance(event, InitSegment):
                found += self._begin(event)
            elif event.track_id in self._tracks:
                found += self._push_corrected(event)
        return found

    def _push_corrected(self, event: Fragment) -> list[StreamChunk]:
        """Push a fragment with the true durations of its samples, once these are known."""
        return [
            chunk
            for corrected in self._durations.push(event)
            for fragment in _groups(corrected, divides=corrected.track_id == self._leading)
            for chunk in self._push_fragment(fragment)
        ]

    def _begin(self, init: InitSegment) -> list[StreamChunk]:
        """Apply an init segment; repeated ones are ignored."""
        if self._init is not None and self._init.data == init.data:
            return []
        changes = self._init is not None
        self._clock.restart()
        self._strays.restart()
        self._init = init
        self._tracks = {one.track_id: one for one in init.tracks if one.handler in (b"vide", b"soun")}
        self._durations = SampleDurations({one.track_id: one.timescale for one in self._tracks.values()})
        videos = [one.track_id for one in self._tracks.values() if one.handler == b"vide"]
        self._leading = next(iter(videos or self._tracks), 0)
        return [StreamChunk(init.data, header=True, changes=changes)]

    def _push_fragment(self, fragment: Fragment) -> list[StreamChunk]:
        access = False
        if fragment.track_id == self._leading:
            timescale = self._tracks[self._leading].timescale
            ticks = fragment.base_media_decode_time * CLOCK_RATE // timescale
            access = fragment.samples[0].is_sync
            if access:
                self._strays.restart()
            if shift := self._strays.shift(ticks):
                time = (ticks + shift) * timescale // CLOCK_RATE
                fragment = fragment._replace(base_media_decode_time=time)
            else:
                self._clock.advance(ticks)
        if self._clock.jumped and not access:
            return []
        self._count += 1
        data = write_fragment(
            sequence_number=self._count,
            track_id=fragment.track_id,
            base_media_decode_time=fragment.base_media_decode_time,
            samples=fragment.samples,
            data=fragment.data,
        )
        chunk = StreamChunk(data, access=access, clock=self._clock.elapsed)
        if self._clock.jumped and self._init is not None:
            self._clock.resume()
            return [StreamChunk(self._init.data, header=True, changes=True), chunk]
        return [chunk]


def _groups(fragment: Fragment, *, divides: bool) -> Iterator[Fragment]:
    """Divide a fragment at its key frames, if it is to be divided."""
    samples = fragment.samples
    cuts = [index for index, sample in enumerate(samples) if index and sample.is_sync] if divides else []
    if not 0 < len(cuts) <= MOST_GROUPS:
        yield fragment
        return
    time, offset = fragment.base_media_decode_time, 0
    for start, end in zip([0, *cuts], [*cuts, len(samples)], strict=True):
        part = samples[start:end]
        size = sum(sample.size for sample in part)
        yield Fragment(
            fragment.track_id, fragment.sequence_number, time, part, fragment.data[offset : offset + size]
        )
        time, offset = time + sum(sample.duration for sample in part), offset + size

"""Several streams of movie fragments as one (ISO/IEC 14496-12 §8.8), its tracks interleaved by their times.

HLS has video and audio in separate playlists, with a whole segment of each at once. A reader of one pipe
needs both in the order of time, so fragments are cut into short runs and interleaved.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.boxes import box, walk
from media.mp4.fragments.fragments import Fragment, FragmentReader, InitSegment, write_fragment
from media.mp4.fragments.moof import FragmentLimits, Sample
from media.mp4.movie.movie import Track
from media.stream_reader import CLOCK_RATE, StreamChunk

_KINDS = (b"vide", b"soun")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinLimits:
    """Limits of streams that are joined.

    Attributes:
        run_seconds: Longest run of one track.
        run_bytes: Largest run of one track; a larger sample stays whole.
        sample_bytes: Largest sample; at 30 a second that would be 4 Gbit/s.
        held_bytes: Most bytes of one stream that are held while another one has no samples of the same time.
        fragments: Of each stream of movie fragments.
    """

    run_seconds: float = 0.1
    run_bytes: int = 4 << 20
    sample_bytes: int = 16 << 20
    held_bytes: int = 64 << 20
    fragments: FragmentLimits = field(default_factory=FragmentLimits)


@dataclass(frozen=True, slots=True)
class _JoinedRun:
    """A run of consecutive samples; ``decode_time`` is the first one's in ticks."""

    track: Track
    decode_time: int
    samples: Sequence[Sample]
    data: bytes | memoryview

    @property
    def time(self) -> Fraction:
        """The decode time in seconds."""
        return Fraction(self.decode_time, self.track.timescale)


class FragmentJoiner:
    """Joins streams of movie fragments, without I/O; the tracks of a single stream are interleaved, too.

    Attributes:
        signature: the init segment of all tracks; empty before all streams have begun.
    """

    muxed_container = ""

    def __init__(self, count: int, limits: JoinLimits) -> None:
        self._inputs = [_FragmentInput(limits) for _ in range(count)]
        self._limits = limits
        self._number = 0
        self.signature = b""

    def receive_data(self, index: int, data: bytes) -> Iterator[StreamChunk]:
        """Parse the next bytes of a stream.

        Returns:
            The next chunks of the joint stream, built lazily: there may be thousands. Chunks that aren't
            consumed come first the next time.

        Raises:
            MalformedError: the bytes are no stream of fragments.
            UnsupportedError: a track isn't supported, or one stream is much too far ahead of another.
        """
        self._inputs[index].receive_data(data)
        return self._bounded()

    def receive_eof(self) -> Iterator[StreamChunk]:
        """Mark the end of all inputs; yield the remaining chunks."""
        for one in self._inputs:
            one.ended = True
        return self._pieces()

    def _bounded(self) -> Iterator[StreamChunk]:
        yield from self._pieces()
        if any(one.held > self._limits.held_bytes for one in self._inputs):
            raise UnsupportedError("video and audio aren't of the same time")

    def _pieces(self) -> Iterator[StreamChunk]:
        while True:
            renewed = [one.take_init() for one in self._inputs]
            if any(one.init is None for one in self._inputs):
                return
            if any(renewed):
                former, self.signature = self.signature, self._init()
                if self.signature != former:
                    yield StreamChunk(self.signature, header=True, changes=bool(former))
            if any(not one.runs and not one.ended for one in self._inputs):
                return
            ready = [one for one in self._inputs if one.runs]
            if not ready:
                return
            earliest = min(ready, key=lambda one: one.runs[0].time)
            yield self._piece(earliest.pop(), earliest.ids)

    def _init(self) -> bytes:
        """Write the init segment of all tracks, numbered from 1 on."""
        file_type, header = b"", b""
        tracks, defaults = list[bytes](), list[bytes]()
        for one in self._inputs:
            if one.init is None:
                continue
            one.ids = {track.track_id: len(tracks) + at for at, track in enumerate(one.init.tracks, 1)}
            data = one.init.data
            boxes = {found.kind: found for found in walk(data)}
            moov = data[boxes[b"moov"].payload : boxes[b"moov"].end]
            if not header:
                header = b"".join(_all(moov, b"mvhd"))
                file_type = data[boxes[b"ftyp"].start : boxes[b"ftyp"].end] if b"ftyp" in boxes else b""
            tracks += [_renumbered_track(trak, one.ids) for trak in _all(moov, b"trak")]
            for mvex in _all(moov, b"mvex"):
                defaults += [_renumbered(trex, 12, one.ids) for trex in _all(mvex[8:], b"trex")]
        return file_type + box(b"moov", header, *tracks, box(b"mvex", *defaults))

    def _piece(self, run: _JoinedRun, ids: Mapping[int, int]) -> StreamChunk:
        self._number += 1
        pictures = any(one.has_video for one in self._inputs)
        data = write_fragment(
            sequence_number=self._number,
            track_id=ids[run.track.track_id],
            base_media_decode_time=run.decode_time,
            samples=run.samples,
            data=run.data,
        )
        begins = run.samples[0].is_sync and (run.track.handler == b"vide" or not pictures)
        return StreamChunk(data, access=begins, clock=int(run.time * CLOCK_RATE))


class _FragmentInput:
    """An input stream: its init segment, and its parsed samples that aren't emitted yet.

    Attributes:
        ids: joint track IDs by the input's own.
    """

    def __init__(self, limits: JoinLimits) -> None:
        self._limits = limits
        self._reader = FragmentReader(limits.fragments)
        self._tracks: dict[int, Track] = {}
        # The runs of the current moof, and the next item.
        self._runs: Iterator[_JoinedRun] = iter(())
        self._first: InitSegment | _JoinedRun | None = None
        self._held = 0
        self.init: InitSegment | None = None
        self.ids: Mapping[int, int] = {}
        self.ended = False

    @property
    def has_video(self) -> bool:
        """Whether one of the tracks is video."""
        return self.init is not None and any(track.handler == b"vide" for track in self.init.tracks)

    def receive_data(self, data: bytes) -> None:
        """Buffer the next bytes, which are parsed on demand."""
        self._reader.receive_data(data)

    @property
    def held(self) -> int:
        """The number of buffered bytes."""
        return self._held + self._reader.buffered

    def _next(self) -> InitSegment | _JoinedRun | None:
        """Return the next item without consuming it; None if more bytes are needed."""
        if self._first is None:
            self._first = next(self._runs, None)
        if self._first is None:
            self._first = self._next_moof()
        return self._first

    def _next_moof(self) -> InitSegment | _JoinedRun | None:
        """Read the fragments of the next moof, which are cut into short runs lazily."""
        events = next(self._reader.boxes(), ())
        if events and isinstance(events[0], InitSegment):
            return self._known(events[0])
        fragments = [event for event in events if isinstance(event, Fragment)]
        self._held += sum(len(fragment.data) for fragment in fragments)
        # One moof may have all video before all audio. A track's own runs stay in order.
        self._runs = heapq.merge(
            *(_runs(fragment, self._tracks[fragment.track_id], self._limits) for fragment in fragments),
            key=lambda run: run.decode_time / run.track.timescale,
        )
        return next(self._runs, None)

    def _known(self, init: InitSegment) -> InitSegment:
        if any(track.handler not in _KINDS for track in init.tracks):
            raise UnsupportedError("a track that is neither video nor audio")
        self._tracks = {track.track_id: track for track in init.tracks}
        return init

    @property
    def runs(self) -> Sequence[_JoinedRun]:
        """The next run, if one is known."""
        first = self._next()
        return [first] if isinstance(first, _JoinedRun) else []

    def pop(self) -> _JoinedRun:
        """Remove and return the next run."""
        run, self._first = self._next(), None
        if not isinstance(run, _JoinedRun):
            raise MalformedError("an init segment where samples were expected")
        self._held -= len(run.data)
        return run

    def take_init(self) -> bool:
        """Apply the init segment that is next, if one is; return whether it was."""
        found = False
        while isinstance(first := self._next(), InitSegment):
            self._first = None
            self.init, found = first, True
        return found


def _runs(fragment: Fragment, track: Track, limits: JoinLimits) -> Iterator[_JoinedRun]:
    """Cut a fragment into short runs, at sync samples where possible."""
    limit = max(int(limits.run_seconds * track.timescale), 1)
    time, position, begin = fragment.base_media_decode_time, 0, 0
    length = size = 0
    for index, sample in enumerate(fragment.samples):
        if sample.size > limits.sample_bytes:
            raise TooLargeError(f"a sample of {sample.size} bytes: more than {limits.sample_bytes}")
        begins = track.handler == b"vide" and sample.is_sync
        full = length + sample.duration > limit or size + sample.size > limits.run_bytes
        if index > begin and (begins or full):
            yield _run(fragment, track, begin, index, time, position, size)
            begin, time, position, length, size = index, time + length, position + size, 0, 0
        length, size = length + sample.duration, size + sample.size
    yield _run(fragment, track, begin, len(fragment.samples), time, position, size)


def _run(
    fragment: Fragment, track: Track, begin: int, end: int, time: int, position: int, size: int
) -> _JoinedRun:
    data = fragment.data[position : position + size]
    return _JoinedRun(track, time, fragment.samples[begin:end], data)


def _all(data: bytes, kind: bytes) -> list[bytes]:
    return [data[found.start : found.end] for found in walk(data) if found.kind == kind]


def _renumbered_track(trak: bytes, ids: Mapping[int, int]) -> bytes:
    (outer,) = walk(trak)
    inner = [trak[found.start : found.end] for found in walk(trak, outer.payload, outer.end)]
    # §8.3.2: behind two times, of 64 bits in version 1.
    return box(
        b"trak",
        *(_renumbered(one, 28 if one[8] else 20, ids) if one[4:8] == b"tkhd" else one for one in inner),
    )


def _renumbered(full: bytes, offset: int, ids: Mapping[int, int]) -> bytes:
    """Replace the track ID at an offset of a box."""
    if len(full) < offset + 4 or (number := ids.get(struct.unpack_from(">I", full, offset)[0])) is None:
        raise MalformedError("a track without its ID")
    return full[:offset] + struct.pack(">I", number) + full[offset + 4 :]

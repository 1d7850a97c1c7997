"""An MPEG transport stream as a movie: its tracks with the tables that a ``moov`` would have.

Its samples lie in pieces, and pictures have start codes in place of lengths. So they are put together when
they are read; how large each one then is has to be known before, for which the whole file is read once.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.matroska.sample_entries import codec_facts
from media.matroska.timing import Times, sound_times
from media.matroska.tracks import AUDIO, VIDEO, MatroskaTrack
from media.mp4.assembled_samples import AssembledSamples, Read, TrackSamples
from media.mp4.colour import Colour
from media.mp4.movie import Movie, Track
from media.mp4.sample_boxes import (
    Reserve,
    SampleBoxes,
    SampleColumns,
    TableRoom,
    TrackStart,
    edit_lists,
    reserve_nothing,
)
from media.mp4.samples import Int64, stretches
from media.mp4.track_box import IDENTITY
from media.stream_reader import CLOCK_RATE
from media.ts.annex_b import H264, HEVC, LENGTH_BYTES, VideoCoding, as_sample, configuration, look_at
from media.ts.elementary_streams import Clock, Layout, PacketBlock, Unit, UnitReader, read_units
from media.ts.sound_frames import AAC, AC3, EAC3, MP3, SoundCoding, SoundFrames
from media.ts.tables import (
    CLOCK_WRAP,
    PAT_PID,
    ElementaryStream,
    ProgramMap,
    read_program_association,
    read_program_map,
    section_of,
)

_REMEDY = "ffmpeg -c copy makes an MP4 of it"

_VIDEO = {0x1B: H264, 0x24: HEVC}
_SOUND = {0x03: MP3, 0x04: MP3, 0x0F: AAC, 0x81: AC3, 0x87: EAC3}
"""Stream types (table 2-34; ATSC A/53 part 3 §6.9.1) that can be carried."""

_OTHER_VIDEO = {
    0x01: "MPEG-1 video",
    0x02: "MPEG-2 video",
    0x10: "MPEG-4 Part 2 video",
    0x33: "VVC",
    0xEA: "VC-1",
}
_OTHER_SOUND = {
    0x11: "AAC in LATM",
    0x80: "PCM",
    0x82: "DTS",
    0x83: "TrueHD",
    0x85: "DTS-HD",
    0x86: "DTS-HD",
}

_PRIVATE = 0x06
_LANGUAGE, _REGISTRATION, _DVB_AC3, _DVB_EAC3, _DVB_DTS = 0x0A, 0x05, 0x6A, 0x7A, 0x7B
"""Tags of descriptors (§2.6; ETSI EN 300 468 §6.1)."""

_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)

SOUND_SCALE = 100_000
"""Nanoseconds to which times of sound are rounded, to find out whether its frames come regularly."""


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """What a transport stream may be made of.

    Attributes:
        file_bytes: largest file, for all of it is read for its index: at 300 MB a second that takes 14 s.
        beginning_bytes: how much of one is read where only its tracks matter.
        table_search_bytes: how much of its beginning is searched for what says which streams there are.
        frames: most frames of all tracks together.
        picture_bytes: largest picture.
        sound_bytes: largest PES packet of sound.
        span_bytes: in how much of the file one of either may lie, for so much is read for it.
        gap_ticks: longest time in which a stream has nothing, in ticks of 90 kHz.
        late_ticks: how long a picture may be shown after it is decoded, likewise.
        table_bytes: memory for the tables of samples of all tracks.
    """

    file_bytes: int = 4 << 30
    beginning_bytes: int = 16 << 20
    table_search_bytes: int = 4 << 20
    frames: int = 3 << 19
    picture_bytes: int = 16 << 20
    sound_bytes: int = 1 << 20
    span_bytes: int = 32 << 20
    gap_ticks: int = 10 * CLOCK_RATE
    late_ticks: int = 10 * CLOCK_RATE
    table_bytes: int = 48 << 20


FRAME_BYTES = 80
"""Memory that a frame takes at most until it is in its track's tables, with what is computed on the way."""

FRAMES_AT_ONCE = 1 << 16
"""Frames for which memory is reserved together."""


@dataclass(frozen=True, slots=True)
class TransportMovie:
    """What is in a file.

    Attributes:
        movie: its film and sound.
        assembled: their samples.
    """

    movie: Movie
    assembled: AssembledSamples


class _Places:
    """Where the units of a stream lie in the file."""

    def __init__(self) -> None:
        self._begins, self._spans = array("q"), array("I")

    def __len__(self) -> int:
        return len(self._begins)

    def add(self, unit: Unit) -> None:
        self._begins.append(unit.begin)
        self._spans.append(unit.end - unit.begin)

    @property
    def arrays(self) -> tuple[Int64, Int64]:
        """Where each one begins, and where it ends."""
        begins = np.asarray(self._begins, np.int64)
        return begins, begins + np.asarray(self._spans)


class _PictureSamples:
    """The pictures of a stream.

    Args:
        stream: how the file's packets lie, and which are of the stream.
        places: where each picture begins and ends in the file.
        ends: where each one ends among all samples.
        dropped: NAL units that are left out of them.
    """

    def __init__(
        self, stream: tuple[Layout, int], places: tuple[Int64, Int64], ends: Int64, dropped: frozenset[bytes]
    ) -> None:
        self._stream, self._ends, self._dropped = stream, ends, dropped
        self._begins, self._stops = places

    @property
    def size(self) -> int:
        return int(self._ends[-1])

    @property
    def nbytes(self) -> int:
        return self._begins.nbytes + self._stops.nbytes + self._ends.nbytes

    def read(self, read: Read, start: int, stop: int) -> bytes:
        first, last = _touched(self._ends, start, stop)
        if last < first:
            return b""
        begin = int(self._ends[first - 1]) if first else 0
        parts: list[bytes] = []
        number = first
        units = read_units(read, *self._stream, int(self._begins[first]), int(self._stops[last]))
        try:
            for unit in units:
                if number > last or unit.begin != self._begins[number]:
                    continue
                sample = as_sample(unit.data, self._dropped)
                if len(sample) != self._ends[number] - (self._ends[number - 1] if number else 0):
                    break  # it isn't the file any more that it was
                parts.append(sample)
                number += 1
        except MediaError:
            pass
        return b"".join(parts)[start - begin : stop - begin]


class _SoundSamples:
    """The frames of sound of a stream.

    Args:
        stream: how the file's packets lie, and which are of the stream.
        places: where each unit begins and ends in the file.
        unit_begins: where each unit begins in the elementary stream.
        frames: where the frames are in it.
    """

    def __init__(
        self, stream: tuple[Layout, int], places: tuple[Int64, Int64], unit_begins: Int64, frames: SoundFrames
    ) -> None:
        self._stream, self._unit_begins = stream, unit_begins
        self._begins, self._stops = places
        self._offsets = np.asarray(frames.offsets, np.int64)
        self._ends: Int64 = np.cumsum(np.asarray(frames.sizes, np.int64))

    @property
    def size(self) -> int:
        return int(self._ends[-1])

    @property
    def sizes(self) -> Int64:
        """Bytes of each frame."""
        return np.diff(self._ends, prepend=0)

    @property
    def nbytes(self) -> int:
        arrays = (self._unit_begins, self._begins, self._stops, self._offsets, self._ends)
        return sum(one.nbytes for one in arrays)

    def read(self, read: Read, start: int, stop: int) -> bytes:
        first, last = _touched(self._ends, start, stop)
        if last < first:
            return b""
        begins = np.append(0, self._ends)[first : last + 1]
        sizes, offsets = self._ends[first : last + 1] - begins, self._offsets[first : last + 1]
        one, other = (
            int(self._unit_begins.searchsorted(at, "right")) - 1
            for at in (offsets[0], offsets[-1] + sizes[-1] - 1)
        )
        units = read_units(read, *self._stream, int(self._begins[one]), int(self._stops[other]))
        try:
            data = b"".join([unit.data for unit in units])
        except MediaError:  # it isn't the file any more that it was
            return b""
        found = (offsets - self._unit_begins[one]).tolist()
        frames = [data[at : at + size] for at, size in zip(found, sizes.tolist(), strict=True)]
        begin = int(begins[0])
        return b"".join(frames)[start - begin : stop - begin]


def _touched(ends: Int64, start: int, stop: int) -> tuple[int, int]:
    """Give the first and the last sample of which something is in a range."""
    first = int(ends.searchsorted(start, "right"))
    return first, min(int(ends.searchsorted(stop, "left")), len(ends) - 1) if stop > start else -1


@dataclass(frozen=True, slots=True)
class _Samples:
    """A track as it comes out of its stream.

    Attributes:
        facts: what its codec and its shape are, in Matroska's words.
        entry: its sample entry.
        times: when its samples are decoded and shown, since the beginning of the clock.
        sizes: of its samples.
        is_sync: whether decoding can begin with each.
        samples: puts them together.
    """

    facts: MatroskaTrack
    entry: bytes
    times: Times
    sizes: Int64
    is_sync: Int64
    samples: TrackSamples


class _Pictures:
    """A stream of pictures while its file is read."""

    def __init__(self, stream: ElementaryStream, coding: VideoCoding, limits: TransportLimits) -> None:
        self._pid, self._coding, self._limits = stream.pid, coding, limits
        self._reader = UnitReader(limits.picture_bytes, limits.span_bytes)
        self._places = _Places()
        self._dts, self._shown = array("q"), array("I")
        self._sizes, self._in_sets = array("I"), array("I")
        self._keys = array("B")
        self._sets: dict[bytes, None] = {}
        self._is_varying = False
        self.units = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def receive(self, block: PacketBlock, clock: Clock) -> None:
        for piece in block.pieces(self._pid):
            self._take(self._reader.receive(piece), clock)

    def finish(self, clock: Clock) -> None:
        self._take(self._reader.finish(), clock)

    def _take(self, unit: Unit | None, clock: Clock) -> None:
        if unit is None:
            return
        self.units += 1
        picture = look_at(unit.data, self._coding)
        dts = clock.time(unit.dts, unit.begin)
        if not picture.has_slices:
            return
        if not len(self) and not (picture.can_begin and picture.parameter_sets):
            return  # what decoding can't begin with isn't there for anybody
        if not len(self):
            self._sets = dict.fromkeys(picture.parameter_sets)
        shown = (unit.pts - unit.dts) % CLOCK_WRAP
        if shown > self._limits.late_ticks:
            raise UnsupportedError(f"a picture at byte {unit.begin} is shown long after it is decoded")
        self._is_varying = self._is_varying or any(one not in self._sets for one in picture.parameter_sets)
        self._places.add(unit)
        self._dts.append(dts)
        self._shown.append(shown)
        self._sizes.append(picture.size)
        self._in_sets.append(sum(LENGTH_BYTES + len(one) for one in picture.parameter_sets))
        self._keys.append(picture.can_begin)

    def samples(self, layout: Layout) -> _Samples:
        """Give the track, once all is read."""
        if not len(self):
            raise UnsupportedError("no picture in it can be decoded by itself")
        written, parameters = configuration(self._coding, list(self._sets))
        across, down = parameters.pixel_aspect
        colour = None if parameters.colour is None else Colour(*parameters.colour)
        facts = MatroskaTrack(
            number=self._pid,
            kind=VIDEO,
            codec=self._coding.codec,
            private=written,
            pixels=parameters.size,
            display=(parameters.size[0] * across, parameters.size[1] * down),
            colour=colour,
        )
        entry = codec_facts(facts, b"", 0.0).sample_entry
        sizes = np.asarray(self._sizes, np.int64)
        dropped: frozenset[bytes] = frozenset()
        if self._is_varying and not self._coding.is_hevc:
            # ISO/IEC 14496-15 §5.3.3.1.1: only of avc3 samples may have parameter sets of their own
            entry = entry[:4] + b"avc3" + entry[8:]
        elif not self._is_varying:
            # What the sample entry has needn't be in the samples; of avc1 and hvc1 it mustn't.
            dropped, sizes = frozenset(self._sets), sizes - np.asarray(self._in_sets, np.int64)
        dts = np.asarray(self._dts, np.int64)
        steps = np.diff(dts)
        last = max(int(np.median(steps)), 1) if len(steps) else CLOCK_RATE // 25
        zero = int(dts[0])
        times = Times(
            CLOCK_RATE, np.append(dts, dts[-1] + last) - zero, np.asarray(self._shown, np.int64), zero
        )
        samples = _PictureSamples((layout, self._pid), self._places.arrays, np.cumsum(sizes), dropped)
        return _Samples(facts, entry, times, sizes, np.asarray(self._keys, np.int64), samples)


class _Sound:
    """A stream of sound while its file is read."""

    def __init__(self, stream: ElementaryStream, coding: SoundCoding, limits: TransportLimits) -> None:
        self._pid, self._coding = stream.pid, coding
        self._reader = UnitReader(limits.sound_bytes, limits.span_bytes)
        self._places = _Places()
        self._times, self._begins = array("q"), array("q")
        self._end = 0
        self._frames = SoundFrames(coding)

    @property
    def units(self) -> int:
        return max(len(self._times), len(self._frames))

    def receive(self, block: PacketBlock, clock: Clock) -> None:
        for piece in block.pieces(self._pid):
            self._take(self._reader.receive(piece), clock)

    def finish(self, clock: Clock) -> None:
        self._take(self._reader.finish(), clock)

    def _take(self, unit: Unit | None, clock: Clock) -> None:
        if unit is None:
            return
        self._times.append(clock.time(unit.pts, unit.begin))
        self._begins.append(self._end)
        self._places.add(unit)
        self._end += len(unit.data)
        self._frames.receive(unit.data, len(self._times) - 1)

    def samples(self, layout: Layout) -> _Samples:
        """Give the track, once all is read."""
        first, frames = self._frames.facts, self._frames
        if first is None:
            raise UnsupportedError("it has no samples")
        private = b""
        if self._coding is AAC:
            # ISO/IEC 14496-3 §1.6.2.1: ADTS's profile is the object type less 1
            profile, rate, channels = first.kind
            private = (profile + 1 << 11 | _ADTS_RATES.index(rate) << 7 | channels << 3).to_bytes(2, "big")
        channels = first.kind[-1] if self._coding in (AAC, MP3) else 2
        facts = MatroskaTrack(
            number=self._pid,
            kind=AUDIO,
            codec=self._coding.codec,
            private=private,
            sample_rate=first.rate,
            channels=channels,
        )
        entry = codec_facts(facts, frames.first, 0.0).sample_entry
        units = np.asarray(frames.units)
        ticks = (np.asarray(self._times, np.int64)[units] - self._times[0] + 4) // 9
        laced = np.asarray(frames.laced, np.int64)
        times = sound_times(ticks, laced, SOUND_SCALE, first.rate, first.samples, None)
        begin = round(Fraction(self._times[0] * first.rate, CLOCK_RATE))
        times = times._replace(zero=times.zero + begin)
        samples = _SoundSamples(
            (layout, self._pid), self._places.arrays, np.asarray(self._begins, np.int64), frames
        )
        return _Samples(facts, entry, times, samples.sizes, np.ones(len(frames), np.int64), samples)


def read_transport_stream(
    read: Read, size: int, layout: Layout, limits: TransportLimits, reserve: Reserve = reserve_nothing
) -> TransportMovie:
    """Read a file.

    Args:
        read: reads from it; it may block.
        size: its length in bytes.
        layout: how its packets lie.
        limits: what it may be made of.
        reserve: called before memory is taken for its frames.

    Raises:
        UnsupportedError: its streams or its clock aren't such that samples can be made of them; the text says
            why.
        TooLargeError: there is more in it than the limits allow.
        MalformedError: parameter sets are impossible.
        OSError: it can't be read.
    """
    if size > limits.file_bytes:
        raise TooLargeError(f"MPEG-TS of {size} bytes: more than {limits.file_bytes}; {_REMEDY}")
    reader = _FileReader(read, size, layout, limits, reserve)
    reader.run()
    return reader.movie()


class _FileReader:
    """Reads a file from its beginning to its end, and gives each stream what is its."""

    def __init__(
        self, read: Read, size: int, layout: Layout, limits: TransportLimits, reserve: Reserve
    ) -> None:
        self._read, self._size, self._layout = read, size - size % layout.stride, layout
        self._limits, self._reserve = limits, reserve
        self._reserved = 0
        self._map_pid, self._program = self._find_program()
        self._streams: list[tuple[ElementaryStream, _Pictures | _Sound | str]] = []
        self._failed: dict[int, str] = {}
        self._clocks: dict[int, Clock] = {}
        for stream in self._program.streams:
            found = _found(stream, limits)
            if found is not None:
                self._streams.append((stream, found))

    def _blocks(self, stop: int) -> list[int]:
        return list(range(0, min(stop, self._size), self._layout.block))

    def _block(self, position: int) -> PacketBlock:
        length = min(self._layout.block, self._size - position)
        data = self._read(position, length)
        if len(data) < length:
            raise MalformedError("the file is shorter than it was")
        return PacketBlock(data, self._layout, position)

    def _find_program(self) -> tuple[int, ProgramMap]:
        """Find the first program's map (§2.4.4)."""
        map_pid: int | None = None
        for position in self._blocks(self._limits.table_search_bytes):
            block = self._block(position)
            for number in np.flatnonzero((block.pids == PAT_PID) | (block.pids == (map_pid or 0))).tolist():
                map_pid = map_pid or read_program_association(section_of(block.packet(number)))
            if map_pid is None:
                continue
            for number in np.flatnonzero(block.pids == map_pid).tolist():
                program = read_program_map(section_of(block.packet(number)))
                if program is not None and program.streams:
                    return map_pid, program
        lacking = "map of its program (PMT)" if map_pid else "table of its programs (PAT)"
        raise UnsupportedError(f"MPEG-TS without a {lacking}; {_REMEDY}")

    def run(self) -> None:
        """Read all."""
        reference: int | None = None
        for position in self._blocks(self._size):
            block = self._block(position)
            self._check_program(block)
            for stream, found in self._streams:
                if isinstance(found, str) or stream.pid in self._failed:
                    continue
                if stream.pid not in self._clocks:
                    told = next((one.dts for one in block.pieces(stream.pid) if one.dts is not None), None)
                    if told is None:
                        continue
                    reference = told if reference is None else reference
                    self._clocks[stream.pid] = Clock(self._limits.gap_ticks, reference)
                self._give(stream, found, block)
            self._check_count()
        for stream, found in self._streams:
            if not isinstance(found, str) and stream.pid in self._clocks and stream.pid not in self._failed:
                try:
                    found.finish(self._clocks[stream.pid])
                except UnsupportedError as error:
                    self._failed[stream.pid] = str(error)

    def _give(self, stream: ElementaryStream, found: _Pictures | _Sound, block: PacketBlock) -> None:
        """Give a stream what a block has of it; one that can't be carried keeps no other from it."""
        try:
            found.receive(block, self._clocks[stream.pid])
        except UnsupportedError as error:
            self._failed[stream.pid] = str(error)
            if all(one.pid in self._failed or isinstance(other, str) for one, other in self._streams):
                raise UnsupportedError(f"MPEG-TS: {error}") from None

    def _check_program(self, block: PacketBlock) -> None:
        for number in np.flatnonzero(block.pids == self._map_pid).tolist():
            program = read_program_map(section_of(block.packet(number)))
            if program is not None and _streams_of(program) != _streams_of(self._program):
                place = block.place(number)
                raise UnsupportedError(f"MPEG-TS whose streams change at byte {place}; {_REMEDY}")

    def _check_count(self) -> None:
        # Units without frames cost as much.
        count = sum(0 if isinstance(found, str) else found.units for _, found in self._streams)
        if count > self._limits.frames:
            raise TooLargeError(f"more than {self._limits.frames} frames")
        while count > self._reserved:
            self._reserve(FRAMES_AT_ONCE * FRAME_BYTES)
            self._reserved += FRAMES_AT_ONCE

    def movie(self) -> TransportMovie:
        """Give the tracks, once all is read."""
        room = TableRoom(self._limits.table_bytes)
        made: list[tuple[ElementaryStream, _Samples | str, bool]] = []
        for stream, found in self._streams:
            obstacle = found if isinstance(found, str) else self._failed.get(stream.pid)
            samples: _Samples | str = obstacle or ""
            if not obstacle and not isinstance(found, str):
                try:
                    samples = found.samples(self._layout)
                except MediaError as error:
                    samples = str(error)
            made.append((stream, samples, _is_video(stream)))
        carried = [samples for _, samples, _ in made if isinstance(samples, _Samples)]
        origin = min((_first(one) for one in carried), default=Fraction(0))
        starts = [_start(one, origin) for one in carried]
        timescale, edits = edit_lists(starts)
        begins = np.cumsum([self._size, *(one.samples.size for one in carried)]).tolist()
        lists, places = iter(edits), iter(begins)
        tracks = [
            replace(_track(stream, video), obstacle=samples)
            if isinstance(samples, str)
            else replace(
                _track(stream, video),
                timescale=samples.times.timescale,
                duration=int(samples.times.decode[-1]),
                sample_entries=(samples.entry,),
                display_width=samples.facts.shown_size[0],
                display_height=samples.facts.shown_size[1],
                tables=_tables(samples, next(places), room),
                edits=next(lists),
            )
            for stream, samples, video in made
        ]
        if not carried:
            reasons = "; ".join(f"stream {one.track_id}: {one.obstacle}" for one in tracks)
            raise UnsupportedError(
                f"MPEG-TS of which nothing can be packaged: {reasons or 'it has no media'}"
            )
        assembled = AssembledSamples(begins[:-1], [one.samples for one in carried])
        return TransportMovie(Movie(timescale, tuple(tracks), fragmented=False), assembled)


def _first(one: _Samples) -> Fraction:
    return Fraction(one.times.zero + int(one.times.shown[0]), one.times.timescale)


def _start(one: _Samples, origin: Fraction) -> TrackStart:
    zero = one.times.zero - round(origin * one.times.timescale)
    return TrackStart(one.times.timescale, zero, zero + int(one.times.shown[0]))


def _tables(one: _Samples, begin: int, room: TableRoom) -> dict[bytes, memoryview]:
    boxes = SampleBoxes(room)
    offsets = np.cumsum(one.sizes) - one.sizes + begin
    for start, stop in stretches(0, len(one.sizes)):
        part = slice(start, stop)
        columns = SampleColumns(
            one.times.decode[part],
            offsets[part],
            one.sizes[part],
            one.times.shown[part],
            one.is_sync[part] != 0,
        )
        boxes.add(columns, int(one.times.decode[stop]))
    return boxes.render()


def _track(stream: ElementaryStream, video: bool) -> Track:
    """Say of a stream what there is without its samples."""
    return Track(
        track_id=stream.pid,
        handler=b"vide" if video else b"soun",
        enabled=True,
        timescale=CLOCK_RATE,
        duration=0,
        language=_language(stream),
        matrix=IDENTITY,
        display_width=Fraction(0),
        display_height=Fraction(0),
        sample_entries=(),
        edits=(),
        tables={b"stsz": memoryview(struct.pack(">III", 0, 1, 2))},
        self_contained=True,
    )


def _streams_of(program: ProgramMap) -> Sequence[tuple[int, int]]:
    return [(one.kind, one.pid) for one in program.streams]


def _descriptors(stream: ElementaryStream) -> dict[int, bytes]:
    """Give a stream's descriptors by their tags (§2.6.1)."""
    found: dict[int, bytes] = {}
    position, data = 0, stream.descriptors
    while position + 2 <= len(data):
        length = data[position + 1]
        found.setdefault(data[position], data[position + 2 : position + 2 + length])
        position += 2 + length
    return found


def _language(stream: ElementaryStream) -> str:
    told = _descriptors(stream).get(_LANGUAGE, b"")[:3].decode("latin-1").lower()
    return told if len(told) == 3 and told.isascii() and told.isalpha() else "und"


def _is_video(stream: ElementaryStream) -> bool:
    return stream.kind in _VIDEO or stream.kind in _OTHER_VIDEO


def _found(stream: ElementaryStream, limits: TransportLimits) -> _Pictures | _Sound | str | None:
    """Say what takes a stream, or why it can't be carried; None where it is neither picture nor sound."""
    if stream.kind in _VIDEO:
        return _Pictures(stream, _VIDEO[stream.kind], limits)
    kind = stream.kind
    if kind == _PRIVATE:
        descriptors = _descriptors(stream)
        registered = descriptors.get(_REGISTRATION, b"")[:4]
        if _DVB_AC3 in descriptors or registered == b"AC-3":
            kind = 0x81
        elif _DVB_EAC3 in descriptors or registered == b"EAC3":
            kind = 0x87
        elif registered == b"Opus":
            return "codec Opus in MPEG-TS isn't one that can be packaged"
        elif _DVB_DTS in descriptors or registered[:3] == b"DTS":
            kind = 0x82
        elif registered == b"HEVC":
            return _Pictures(stream, HEVC, limits)
    if kind in _SOUND:
        return _Sound(stream, _SOUND[kind], limits)
    other = _OTHER_VIDEO.get(kind) or _OTHER_SOUND.get(kind)
    return f"codec {other} isn't one that can be packaged" if other else None

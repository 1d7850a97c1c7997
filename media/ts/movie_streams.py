"""Video and audio of a transport stream file as tracks of a movie: samples and times.

Each stream collects the positions of its units while the file is read. Its samples are then read from these
positions and assembled again on demand.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from media.errors import MediaError, UnsupportedError
from media.matroska.decodable_entries import facts_or_obstacle
from media.matroska.sample_entries import codec_facts
from media.matroska.timing import Times, frames_in_turn, sound_times, times_in_order
from media.matroska.tracks import VIDEO, MatroskaTrack
from media.mp4.codecs.colour import Colour
from media.mp4.movie.assembled_samples import Read, TrackSamples
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.movie import foreign_format
from media.mpeg.picture_order import presentation_order, presentation_times
from media.mpeg.video_frames import VC1_SYNTAX, VideoFrames, VideoSyntax
from media.mpeg.video_headers import BIDIRECTIONAL, INTRA, VideoHeader
from media.stream_reader import CLOCK_RATE
from media.ts.access_units import AccessUnit, AccessUnitReader, Field, FieldReader
from media.ts.annex_b import LENGTH_BYTES, VideoCoding, as_sample, configuration, look_at
from media.ts.elementary_streams import Piece, Unit, UnitReader
from media.ts.latm import shifted
from media.ts.limits import TransportLimits
from media.ts.sound_frames import SoundCoding, SoundFrames, sound_track
from media.ts.tables import ElementaryStream
from media.ts.timestamps import CLOCK_WRAP, FileClock

SOUND_BYTES = 1 << 20
"""Largest PES packet of audio."""

SKIPPED_BYTES = 64 << 10
"""Most bytes of audio that are no frames, beyond the bytes of frames."""

LONGEST_REORDERING = 3600 * CLOCK_RATE
"""Most ticks from the decoding of a picture to its presentation, behind one that stands still until then."""

SOUND_SCALE = 100_000
"""Nanoseconds to which audio times are rounded before they are compared with a constant frame rate."""


class StreamBlock(Protocol):
    """A part of a file of packets."""

    def pieces(self, pid: int) -> Iterable[Piece]:
        """Return the parts of a stream's PES packets, in the order of the file."""


Units = Callable[[Read, int, int, int], Iterator[Unit]]
"""Reads the units of a stream again: with a function that reads the file, the stream's ID, and the offsets
of the first unit and behind the last one.
"""


class _Places:
    """The positions of a stream's units in the file."""

    def __init__(self) -> None:
        self._begins, self._spans = array("q"), array("I")

    def __len__(self) -> int:
        return len(self._begins)

    def add(self, unit: Unit) -> None:
        self._begins.append(unit.begin)
        self._spans.append(unit.end - unit.begin)

    @property
    def arrays(self) -> tuple[Int64, Int64]:
        """The offsets at which units begin, and those at which they end."""
        begins = np.asarray(self._begins, np.int64)
        return begins, begins + np.asarray(self._spans)


class _PictureSamples:
    """The video samples of a stream, assembled from the file.

    Args:
        stream: reads units of the file, and the stream's ID.
        places: where each unit begins and ends in the file.
        unit_begins: where each unit begins in the elementary stream.
        pictures: where each picture begins in the elementary stream, and its bytes there.
        ends: where each picture ends among all samples.
        coding: the video coding, and the NAL units that are left out of all samples.
    """

    def __init__(
        self,
        stream: tuple[Units, int],
        places: tuple[Int64, Int64],
        unit_begins: Int64,
        pictures: tuple[Int64, Int64],
        ends: Int64,
        coding: tuple[VideoCoding, frozenset[bytes]],
    ) -> None:
        (self._units, self._pid), self._ends = stream, ends
        self._begins, self._stops = places
        self._unit_begins, (self._offsets, self._lengths) = unit_begins, pictures
        self._coding, self._dropped = coding

    @property
    def size(self) -> int:
        return int(self._ends[-1])

    @property
    def nbytes(self) -> int:
        arrays = (self._begins, self._stops, self._unit_begins, self._offsets, self._lengths, self._ends)
        return sum(one.nbytes for one in arrays)

    def read(self, read: Read, start: int, stop: int) -> bytes:
        first, last = _touched(self._ends, start, stop)
        if last < first:
            return b""
        begin = int(self._ends[first - 1]) if first else 0
        sizes = np.diff(self._ends[first : last + 1], prepend=begin).tolist()
        offsets, lengths = self._offsets[first : last + 1], self._lengths[first : last + 1]
        bounds = int(offsets[0]), int(offsets[-1] + lengths[-1]) - 1
        one, other = (int(self._unit_begins.searchsorted(at, "right")) - 1 for at in bounds)
        units = self._units(read, self._pid, int(self._begins[one]), int(self._stops[other]))
        parts: list[bytes] = []
        try:
            data = b"".join([unit.data for unit in units])
            places = (offsets - self._unit_begins[one]).tolist()
            for at, length, size in zip(places, lengths.tolist(), sizes, strict=True):
                sample = as_sample(data[at : at + length], self._coding, self._dropped)
                if len(sample) != size:
                    break  # the file has changed since it was indexed
                parts.append(sample)
        except MediaError:
            pass
        return b"".join(parts)[start - begin : stop - begin]


class _FrameSamples:
    """Samples whose frames are independent of PES packets, assembled from the file.

    Args:
        stream: reads units of the file, and the stream's ID.
        places: where each unit begins and ends in the file.
        unit_begins: where each unit begins in the elementary stream.
        frames: where the frames begin in the elementary stream.
    """

    def __init__(
        self,
        stream: tuple[Units, int],
        places: tuple[Int64, Int64],
        unit_begins: Int64,
        frames: SoundFrames | VideoFrames,
    ) -> None:
        (self._units, self._pid), self._unit_begins = stream, unit_begins
        self._begins, self._stops = places
        self._offsets = np.asarray(frames.offsets, np.int64)
        shifts = np.asarray(frames.shifts, np.uint8) if isinstance(frames, SoundFrames) else np.zeros(0)
        self._shifts = shifts if shifts.any() else None
        self._packing = frames.packing if isinstance(frames, SoundFrames) else None
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
        arrays = [self._unit_begins, self._begins, self._stops, self._offsets, self._ends]
        shifts = 0 if self._shifts is None else self._shifts.nbytes
        return sum(one.nbytes for one in arrays) + shifts

    def read(self, read: Read, start: int, stop: int) -> bytes:
        first, last = _touched(self._ends, start, stop)
        if last < first:
            return b""
        begins = np.append(0, self._ends)[first : last + 1]
        sizes, offsets = self._ends[first : last + 1] - begins, self._offsets[first : last + 1]
        if self._packing is not None:
            ratio = self._packing.ratio
            sizes = sizes * ratio.numerator // ratio.denominator
        one, other = (
            int(self._unit_begins.searchsorted(at, "right")) - 1
            for at in (offsets[0], offsets[-1] + sizes[-1] - (self._shifts is None))
        )
        units = self._units(read, self._pid, int(self._begins[one]), int(self._stops[other]))
        try:
            data = b"".join([unit.data for unit in units])
        except MediaError:  # the file has changed since it was indexed
            return b""
        found = (offsets - self._unit_begins[one]).tolist()
        if self._shifts is None:
            frames = [data[at : at + size] for at, size in zip(found, sizes.tolist(), strict=True)]
            if self._packing is not None:
                frames = [self._packing.unpack(one) for one in frames]
        else:
            shifts = self._shifts[first : last + 1].tolist()
            frames = [
                shifted(data[at : at + size + 1], shift, size)
                for at, size, shift in zip(found, sizes.tolist(), shifts, strict=True)
            ]
        begin = int(begins[0])
        return b"".join(frames)[start - begin : stop - begin]


def _reordering(unit: Unit) -> int:
    """Return the ticks from a picture's decoding to its presentation; 0 where they can't be right."""
    shown = (unit.pts - unit.dts) % CLOCK_WRAP
    return shown if shown <= LONGEST_REORDERING else 0


def _touched(ends: Int64, start: int, stop: int) -> tuple[int, int]:
    """Return the first and the last sample that overlap a range of bytes."""
    first = int(ends.searchsorted(start, "right"))
    return first, min(int(ends.searchsorted(stop, "left")), len(ends) - 1) if stop > start else -1


@dataclass(frozen=True, slots=True)
class StreamSamples:
    """The finished track of a stream.

    Attributes:
        facts: codec and format, in Matroska's terms.
        times: decode and presentation times, since the beginning of the clock.
        is_sync: whether decoding can begin with each.
        obstacle: why the samples can't be packaged, but only decoded; empty if they can.
        lacking: which part of the stream isn't in the track; empty if all of it is.
    """

    facts: MatroskaTrack
    entry: bytes
    times: Times
    sizes: Int64
    is_sync: Int64
    samples: TrackSamples
    obstacle: str = ""
    lacking: str = ""


class PictureStream:
    """A video stream while its file is read."""

    def __init__(self, stream: ElementaryStream, coding: VideoCoding, limits: TransportLimits) -> None:
        self._pid, self._coding = stream.pid, coding
        self._reader = UnitReader(limits.picture_bytes, limits.span_bytes)
        self._pictures = AccessUnitReader(coding, limits.picture_bytes)
        self._fields = FieldReader(coding)
        self._places = _Places()
        self._dts, self._shown, self._begins = array("q"), array("I"), array("q")
        self._end = 0
        self._offsets, self._lengths = array("q"), array("I")
        self._sizes, self._in_sets = array("I"), array("I")
        self._keys = array("B")
        self._first_field: Field | None = None
        self._sets: dict[bytes, None] = {}
        self._is_varying = False

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def units(self) -> int:
        """The number of units or of pictures so far, whichever is larger."""
        return max(len(self._dts), len(self))

    def push(self, block: StreamBlock, clock: FileClock) -> None:
        """Push the stream's packets of a block; raise UnsupportedError if no samples can be made of them."""
        for piece in block.pieces(self._pid):
            self._push_unit(self._reader.push(piece), clock)

    def finish(self, clock: FileClock) -> None:
        """Complete the last unit at the file's end; raise UnsupportedError as ``push`` does."""
        self._push_unit(self._reader.finish(), clock)
        for one in self._pictures.finish():
            self._push_picture(one)

    def _push_unit(self, unit: Unit | None, clock: FileClock) -> None:
        if unit is None:
            return
        shown = _reordering(unit)
        self._places.add(unit)
        self._dts.append(clock.time(unit.dts, unit.begin, shown=shown))
        self._shown.append(shown)
        self._begins.append(self._end)
        self._end += len(unit.data)
        for one in self._pictures.push(unit.data):
            self._push_picture(one)

    def _push_picture(self, one: AccessUnit) -> None:
        picture = look_at(one.data, self._coding, one.starts)
        if not picture.has_slices:
            return
        if not len(self) and not (picture.can_begin and picture.parameter_sets):
            return  # pictures before the first random access point can't be decoded
        if not len(self):
            self._sets = dict.fromkeys(picture.parameter_sets)
        self._is_varying = self._is_varying or any(one not in self._sets for one in picture.parameter_sets)
        in_sets = sum(LENGTH_BYTES + len(one) for one in picture.parameter_sets)
        field = self._fields.field(one.data, picture.parameter_sets)
        if field is not None and field.completes(self._first_field):
            # ISO/IEC 14496-15 §5.2.2: both fields of a picture are one sample
            self._first_field = None
            self._lengths[-1] = one.offset + len(one.data) - self._offsets[-1]
            self._sizes[-1] += picture.size - picture.delimiter_size
            self._in_sets[-1] += in_sets
            return
        self._first_field = field
        self._offsets.append(one.offset)
        self._lengths.append(len(one.data))
        self._sizes.append(picture.size)
        self._in_sets.append(in_sets)
        self._keys.append(picture.can_begin)

    def samples(self, units: Units) -> StreamSamples:
        """Return the track, after the whole file has been read."""
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
            # Samples needn't repeat the sample entry's parameter sets; in avc1 and hvc1 they mustn't.
            dropped, sizes = frozenset(self._sets), sizes - np.asarray(self._in_sets, np.int64)
        begins, offsets = np.asarray(self._begins, np.int64), np.asarray(self._offsets, np.int64)
        samples = _PictureSamples(
            (units, self._pid),
            self._places.arrays,
            begins,
            (offsets, np.asarray(self._lengths, np.int64)),
            np.cumsum(sizes),
            (self._coding, dropped),
        )
        times = self._picture_times(begins.searchsorted(offsets, "right") - 1)
        return StreamSamples(facts, entry, times, sizes, np.asarray(self._keys, np.int64), samples)

    def _picture_times(self, units: Int64) -> Times:
        """Return the times of pictures, by the unit in which each begins."""
        dts, shown = np.asarray(self._dts, np.int64)[units], np.asarray(self._shown, np.int64)[units]
        # §2.4.3.7: the time of a PES packet is that of the first picture that begins in it
        known = np.diff(units, prepend=-1) > 0
        if not known.all():
            numbers, told = np.arange(len(units)), np.flatnonzero(known)
            dts = np.rint(np.interp(numbers, told, dts[told])).astype(np.int64)
            # Behind the last one that is known, pictures come as they did before.
            step = max(int(dts[told[-1]] - dts[told[0]]) // max(int(told[-1] - told[0]), 1), 1)
            dts[told[-1] :] = dts[told[-1]] + step * np.arange(len(units) - told[-1])
        steps = np.diff(dts)
        last = max(int(np.median(steps)), 1) if len(steps) else CLOCK_RATE // 25
        zero = int(dts[0])
        return Times(CLOCK_RATE, np.append(dts, dts[-1] + last) - zero, shown, zero)


class SoundStream:
    """An audio stream while its file is read."""

    def __init__(self, stream: ElementaryStream, coding: SoundCoding, limits: TransportLimits) -> None:
        self._pid, self._coding = stream.pid, coding
        self._reader = UnitReader(SOUND_BYTES, limits.span_bytes)
        self._places = _Places()
        self._times, self._begins = array("q"), array("q")
        self._end = 0
        self._went_back = 0
        self._frames = SoundFrames(coding, SKIPPED_BYTES)

    @property
    def units(self) -> int:
        """The number of units or of frames so far, whichever is larger."""
        return max(len(self._times), len(self._frames))

    def push(self, block: StreamBlock, clock: FileClock) -> None:
        """Push the stream's packets of a block; raise UnsupportedError if no samples can be made of them."""
        for piece in block.pieces(self._pid):
            self._push_unit(self._reader.push(piece), clock)

    def finish(self, clock: FileClock) -> None:
        """Complete the last unit at the file's end; raise UnsupportedError as ``push`` does."""
        self._push_unit(self._reader.finish(), clock)

    def _push_unit(self, unit: Unit | None, clock: FileClock) -> None:
        if unit is None:
            return
        time = clock.time(unit.pts, unit.begin, may_go_back=True)
        if self._times and time < self._times[-1]:
            self._went_back = len(self._times)
        if clock.added_late:
            for number in range(self._went_back, len(self._times)):
                self._times[number] += clock.added_late
        self._times.append(time)
        self._begins.append(self._end)
        self._places.add(unit)
        self._end += len(unit.data)
        self._frames.push(unit.data, len(self._times) - 1)

    def samples(self, units: Units) -> StreamSamples:
        """Return the track, after the whole file has been read."""
        frames = self._frames
        end = self._end_time()
        frames.choose_format()
        first = frames.facts
        if first is None:
            raise UnsupportedError("it has no samples")
        facts = sound_track(self._pid, self._coding, first)
        described, obstacle = facts_or_obstacle(facts, frames.first, 0.0)
        entry = described.sample_entry
        ticks, laced = self._ticks()
        kept = frames_in_turn(ticks, laced, SOUND_SCALE, first.rate, first.samples)
        if kept is not None:
            frames.keep(kept)
            ticks, laced = self._ticks()
        times = sound_times(ticks, laced, SOUND_SCALE, first.rate, first.samples, None)
        if frames.foreign:
            # Sound of another format is a pause behind the last frame, too.
            times.decode[-1] = max(int(times.decode[-1]), int(end * first.rate) - times.zero)
        begin = round(Fraction(self._times[0] * first.rate, CLOCK_RATE))
        times = times._replace(zero=times.zero + begin)
        samples = _FrameSamples(
            (units, self._pid), self._places.arrays, np.asarray(self._begins, np.int64), frames
        )
        is_sync = np.ones(len(frames), np.int64)
        return StreamSamples(
            facts, entry, times, samples.sizes, is_sync, samples, obstacle, foreign_format(frames.foreign)
        )

    def _end_time(self) -> Fraction:
        """Return how many seconds behind the first unit's time the last frame of any format begins."""
        if not len(self._frames):
            return Fraction(0)
        return Fraction(self._times[self._frames.units[-1]] - self._times[0], CLOCK_RATE)

    def _ticks(self) -> tuple[Int64, Int64]:
        """Return the times of the frames' units, and the frames' numbers in them."""
        numbers = np.asarray(self._frames.units)
        ticks = (np.asarray(self._times, np.int64)[numbers] - self._times[0] + 4) // 9
        return ticks, np.asarray(self._frames.laced, np.int64)


class VideoStream:
    """A stream of MPEG-1, MPEG-2, MPEG-4 Part 2 video or VC-1 while its file is read."""

    def __init__(self, stream: ElementaryStream, syntax: VideoSyntax, limits: TransportLimits) -> None:
        self._pid, self._syntax = stream.pid, syntax
        self._reader = UnitReader(limits.span_bytes, limits.span_bytes)
        self._places = _Places()
        self._times, self._begins = array("q"), array("q")
        self._end = 0
        self._frames = VideoFrames(syntax, limits.picture_bytes)

    @property
    def units(self) -> int:
        """The number of units or of pictures so far, whichever is larger."""
        return max(len(self._times), len(self._frames))

    def push(self, block: StreamBlock, clock: FileClock) -> None:
        """Push the stream's packets of a block; raise UnsupportedError if no samples can be made of them."""
        for piece in block.pieces(self._pid):
            self._push_unit(self._reader.push(piece), clock)

    def finish(self, clock: FileClock) -> None:
        """Complete the last unit at the file's end; raise UnsupportedError as ``push`` does."""
        self._push_unit(self._reader.finish(), clock)
        self._frames.finish()

    def _push_unit(self, unit: Unit | None, clock: FileClock) -> None:
        if unit is None:
            return
        shown = _reordering(unit)
        self._times.append(clock.time(unit.dts, unit.begin, shown=shown) + shown)
        self._begins.append(self._end)
        self._places.add(unit)
        self._end += len(unit.data)
        self._frames.push(unit.data, len(self._times) - 1)

    def samples(self, units: Units) -> StreamSamples:
        """Return the track, after the whole file has been read."""
        frames, header = self._frames, self._frames.header
        kinds = np.asarray(frames.kinds)
        if header is None or not (kinds == INTRA).any():
            raise UnsupportedError("no picture in it can be decoded by itself")
        known = np.asarray(frames.laced) == 0
        times = np.asarray(self._times, np.int64)[np.asarray(frames.units)]
        gaps = np.diff(np.sort(times[known]))
        usual = Fraction(int(np.median(gaps)) if len(gaps) else CLOCK_RATE // 25, 2)
        ticks_per_field = CLOCK_RATE / header.frame_rate / 2 if header.frame_rate else usual
        order, fields = presentation_order(kinds == BIDIRECTIONAL), np.asarray(frames.fields, np.int64)
        shown = presentation_times(order, times, known, fields, ticks_per_field)
        facts = video_track(self._pid, self._syntax, header, frames.configuration)
        described, obstacle = facts_or_obstacle(facts, b"", 0.0)
        samples = _FrameSamples(
            (units, self._pid), self._places.arrays, np.asarray(self._begins, np.int64), frames
        )
        length = round(2 * ticks_per_field)
        is_sync = np.asarray(kinds == INTRA, np.int64)
        found = times_in_order(CLOCK_RATE, shown.copy(), length)
        return StreamSamples(facts, described.sample_entry, found, samples.sizes, is_sync, samples, obstacle)


MediaStream = PictureStream | VideoStream | SoundStream


def video_track(number: int, syntax: VideoSyntax, header: VideoHeader, configuration: bytes) -> MatroskaTrack:
    """Describe a track of MPEG video to ``facts_or_obstacle``."""
    codec, private = syntax.codec, configuration
    if syntax is VC1_SYNTAX:
        codec = "V_MS/VFW/FOURCC"
        private = struct.pack("<IIIHH4s20x", 40, *header.size, 1, 24, b"WVC1") + configuration
    elif header.is_mpeg1:
        codec = "V_MPEG1"
    return MatroskaTrack(
        number, VIDEO, codec, private, pixels=header.size, display=header.display, colour=header.colour
    )

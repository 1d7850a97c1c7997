"""An MPEG transport stream as a movie: its tracks with the tables that a ``moov`` would have.

Samples lie in pieces among packets, and pictures have start codes in place of lengths, so samples are
assembled when they are read. Their sizes must be known before, for which the whole file is read once.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.mp4.assembled_samples import AssembledSamples, Read
from media.mp4.movie import Movie, Track
from media.mp4.sample_table import stretches
from media.mp4.sample_table_writer import (
    FrameRoom,
    Reserve,
    SampleColumns,
    SampleTableWriter,
    TableRoom,
    TrackStart,
    edit_lists,
    reserve_nothing,
)
from media.mp4.track_box import IDENTITY
from media.stream_reader import CLOCK_RATE
from media.ts.annex_b import HEVC, VIDEO_CODINGS
from media.ts.elementary_streams import Layout, PacketBlock
from media.ts.limits import TransportLimits
from media.ts.movie_streams import PictureStream, SoundStream, StreamSamples
from media.ts.sound_frames import SOUND_CODINGS
from media.ts.tables import (
    PAT_PID,
    ElementaryStream,
    ProgramMap,
    StreamType,
    read_program_association,
    read_program_map,
    section_of,
)
from media.ts.timestamps import FileClock

LONGEST_GAP = 10 * CLOCK_RATE
"""Ticks of the longest pause of a stream."""

_REMEDY = "ffmpeg -c copy makes an MP4 of it"

_OTHER_VIDEO: Mapping[int, str] = {
    StreamType.MPEG1_VIDEO: "MPEG-1 video",
    StreamType.MPEG2_VIDEO: "MPEG-2 video",
    StreamType.MPEG4_VIDEO: "MPEG-4 Part 2 video",
    StreamType.VVC: "VVC",
    StreamType.VC1: "VC-1",
}
_OTHER_SOUND: Mapping[int, str] = {
    StreamType.LATM: "AAC in LATM",
    StreamType.PCM: "PCM",
    StreamType.DTS: "DTS",
    StreamType.TRUEHD: "TrueHD",
    StreamType.DTS_HD: "DTS-HD",
    StreamType.DTS_HD_MASTER: "DTS-HD",
}

_LANGUAGE, _REGISTRATION, _DVB_AC3, _DVB_EAC3, _DVB_DTS = 0x0A, 0x05, 0x6A, 0x7A, 0x7B
"""Tags of descriptors (§2.6; ETSI EN 300 468 §6.1)."""


@dataclass(frozen=True, slots=True)
class TransportMovie:
    """The movie of a transport stream file, and the samples that are assembled for it."""

    movie: Movie
    assembled: AssembledSamples


def read_transport_stream(
    read: Read, size: int, layout: Layout, limits: TransportLimits, reserve: Reserve = reserve_nothing
) -> TransportMovie:
    """Read a file of MPEG transport stream packets: its tracks, and the positions of their samples.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.
        reserve: called before memory is allocated for frames.

    Raises:
        UnsupportedError: no stream can be packaged, or the clock jumps; the text says why.
        TooLargeError: a limit is exceeded.
        MalformedError: parameter sets are impossible.
        OSError: the file can't be read.
    """
    if size > limits.file_bytes:
        raise TooLargeError(f"MPEG-TS of {size} bytes: more than {limits.file_bytes}; {_REMEDY}")
    reader = _FileReader(read, size, layout, limits, reserve)
    reader.run()
    return reader.movie()


class _FileReader:
    """Reads a file from its beginning to its end, and passes packets on to their streams."""

    def __init__(
        self, read: Read, size: int, layout: Layout, limits: TransportLimits, reserve: Reserve
    ) -> None:
        self._read, self._size, self._layout = read, size - size % layout.stride, layout
        self._file_size = size
        self._limits, self._room = limits, FrameRoom(reserve)
        self._map_pid, self._program = self._find_program()
        self._streams: list[tuple[ElementaryStream, PictureStream | SoundStream | str]] = []
        self._failed: dict[int, str] = {}
        self._clocks: dict[int, FileClock] = {}
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
        """Read the file to its end, and pass each stream its packets."""
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
                    self._clocks[stream.pid] = FileClock(LONGEST_GAP, reference)
                self._push_block(stream, found, block)
            self._check_count()
        for stream, found in self._streams:
            if not isinstance(found, str) and stream.pid in self._clocks and stream.pid not in self._failed:
                try:
                    found.finish(self._clocks[stream.pid])
                except UnsupportedError as error:
                    self._failed[stream.pid] = str(error)

    def _push_block(
        self, stream: ElementaryStream, found: PictureStream | SoundStream, block: PacketBlock
    ) -> None:
        """Pass a block's packets to their stream. An unsupported stream doesn't stop the others."""
        try:
            found.push(block, self._clocks[stream.pid])
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
        # Units without frames cost as much memory.
        count = sum(0 if isinstance(found, str) else found.units for _, found in self._streams)
        if count > self._limits.frames:
            raise TooLargeError(f"more than {self._limits.frames} frames")
        self._room.reserve(count)

    def movie(self) -> TransportMovie:
        """Return the movie, after the whole file has been read."""
        room = TableRoom(self._limits.table_bytes)
        made: list[tuple[ElementaryStream, StreamSamples | str, bool]] = []
        for stream, found in self._streams:
            obstacle = found if isinstance(found, str) else self._failed.get(stream.pid)
            samples: StreamSamples | str = obstacle or ""
            if not obstacle and not isinstance(found, str):
                try:
                    samples = found.samples(self._layout)
                except MediaError as error:
                    samples = str(error)
            made.append((stream, samples, _is_video(stream)))
        carried = [samples for _, samples, _ in made if isinstance(samples, StreamSamples)]
        origin = min((_first(one) for one in carried), default=Fraction(0))
        starts = [_start(one, origin) for one in carried]
        timescale, edits = edit_lists(starts)
        begins = np.cumsum([self._file_size, *(one.samples.size for one in carried)]).tolist()
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


def _first(one: StreamSamples) -> Fraction:
    return Fraction(one.times.zero + int(one.times.shown[0]), one.times.timescale)


def _start(one: StreamSamples, origin: Fraction) -> TrackStart:
    zero = one.times.zero - round(origin * one.times.timescale)
    return TrackStart(one.times.timescale, zero, zero + int(one.times.shown[0]))


def _tables(one: StreamSamples, begin: int, room: TableRoom) -> dict[bytes, memoryview]:
    boxes = SampleTableWriter(room)
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


_SEVERAL_SAMPLES = struct.pack(">III", 0, 1, 2)
"""A ``stsz`` (ISO/IEC 14496-12 §8.7.3.2) of two samples: a track of a single picture is taken for a cover."""


def _track(stream: ElementaryStream, video: bool) -> Track:
    """Describe the track of a stream, before its samples are known."""
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
        tables={b"stsz": memoryview(_SEVERAL_SAMPLES)},
        self_contained=True,
    )


def _streams_of(program: ProgramMap) -> Sequence[tuple[int, int]]:
    return [(one.kind, one.pid) for one in program.streams]


def _descriptors(stream: ElementaryStream) -> dict[int, bytes]:
    """Return a stream's descriptors by their tags (§2.6.1)."""
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
    return stream.kind in VIDEO_CODINGS or stream.kind in _OTHER_VIDEO


def _found(stream: ElementaryStream, limits: TransportLimits) -> PictureStream | SoundStream | str | None:
    """Create the parser of a stream; return the reason where it is unsupported, None if it is no media."""
    if stream.kind in VIDEO_CODINGS:
        return PictureStream(stream, VIDEO_CODINGS[stream.kind], limits)
    kind = stream.kind
    if kind == StreamType.PRIVATE:
        descriptors = _descriptors(stream)
        registered = descriptors.get(_REGISTRATION, b"")[:4]
        if _DVB_AC3 in descriptors or registered == b"AC-3":
            kind = StreamType.AC3
        elif _DVB_EAC3 in descriptors or registered == b"EAC3":
            kind = StreamType.EAC3
        elif registered == b"Opus":
            return "codec Opus in MPEG-TS isn't one that can be packaged"
        elif _DVB_DTS in descriptors or registered[:3] == b"DTS":
            kind = StreamType.DTS
        elif registered == b"HEVC":
            return PictureStream(stream, HEVC, limits)
    if kind in SOUND_CODINGS:
        return SoundStream(stream, SOUND_CODINGS[kind], limits)
    other = _OTHER_VIDEO.get(kind) or _OTHER_SOUND.get(kind)
    return f"codec {other} isn't one that can be packaged" if other else None

"""An MPEG transport stream as a movie: its tracks with the tables that a ``moov`` would have.

Samples lie in pieces among packets, and pictures have start codes in place of lengths, so samples are
assembled when they are read. Their sizes must be known before, for which the whole file is read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.sample_table_writer import FrameRoom, Reserve, reserve_nothing
from media.mpeg.video_frames import SYNTAXES
from media.stream_reader import CLOCK_RATE
from media.ts.annex_b import HEVC, VIDEO_CODINGS
from media.ts.assembled_movie import AssembledMovie, FoundStream, assembled_movie
from media.ts.elementary_streams import Layout, PacketBlock, read_packet_units
from media.ts.limits import TransportLimits
from media.ts.movie_streams import MediaStream, PictureStream, SoundStream, VideoStream
from media.ts.sound_frames import FILE_SOUND_CODINGS
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
"""Ticks of the longest pause of a stream; more is a jump of the clock, behind which time goes on."""

_REMEDY = "ffmpeg -c copy makes an MP4 of it"

_OTHER_VIDEO: Mapping[int, str] = {StreamType.VVC: "VVC"}
_OTHER_SOUND: Mapping[int, str] = {
    StreamType.LATM: "AAC in LATM",
    StreamType.PCM: "PCM",
    StreamType.TRUEHD: "TrueHD",
}

_LANGUAGE, _REGISTRATION, _DVB_AC3, _DVB_EAC3, _DVB_DTS = 0x0A, 0x05, 0x6A, 0x7A, 0x7B
"""Tags of descriptors (§2.6; ETSI EN 300 468 §6.1)."""

_SUBTITLES: Mapping[int, str] = {0x56: "DVB teletext", 0x59: "DVB"}
"""Tags of descriptors of subtitles."""


def read_transport_stream(
    read: Read, size: int, layout: Layout, limits: TransportLimits, reserve: Reserve = reserve_nothing
) -> AssembledMovie:
    """Read a file of MPEG transport stream packets: its tracks, and the positions of their samples.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.
        reserve: called before memory is allocated for frames.

    Raises:
        UnsupportedError: no stream can be packaged or decoded; the text says why.
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
        self._streams: list[tuple[ElementaryStream, MediaStream | str]] = []
        self._failed: dict[int, str] = {}
        self._clocks: dict[int, FileClock] = {}
        self._jumps: list[int] = []
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
                    self._clocks[stream.pid] = FileClock(LONGEST_GAP, reference, self._jumps)
                self._push_block(stream, found, block)
            self._check_count()
        for stream, found in self._streams:
            if not isinstance(found, str) and stream.pid in self._clocks and stream.pid not in self._failed:
                try:
                    found.finish(self._clocks[stream.pid])
                except UnsupportedError as error:
                    self._failed[stream.pid] = str(error)

    def _push_block(self, stream: ElementaryStream, found: MediaStream, block: PacketBlock) -> None:
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

    def movie(self) -> AssembledMovie:
        """Return the movie, after the whole file has been read."""
        found = [
            FoundStream(
                stream.pid, _handler(stream), _language(stream), found, self._failed.get(stream.pid, "")
            )
            for stream, found in self._streams
        ]
        units = partial(read_packet_units, self._layout)
        return assembled_movie("MPEG-TS", found, self._file_size, units, self._limits.table_bytes)


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


def _handler(stream: ElementaryStream) -> bytes:
    if stream.kind in VIDEO_CODINGS or stream.kind in SYNTAXES or stream.kind in _OTHER_VIDEO:
        return b"vide"
    return b"subt" if _subtitles(stream) else b"soun"


def _subtitles(stream: ElementaryStream) -> str:
    """Return the name of a stream's kind of subtitles; empty if the stream has none."""
    if stream.kind == StreamType.PGS:
        return "PGS"
    descriptors = _descriptors(stream) if stream.kind == StreamType.PRIVATE else {}
    # ETSI EN 300 468 §6.2.41, §6.2.43
    return next((name for tag, name in _SUBTITLES.items() if tag in descriptors), "")


def _found(stream: ElementaryStream, limits: TransportLimits) -> MediaStream | str | None:
    """Create the parser of a stream; return the reason where it is unsupported, None if it is no media."""
    if stream.kind in VIDEO_CODINGS:
        return PictureStream(stream, VIDEO_CODINGS[stream.kind], limits)
    if stream.kind in SYNTAXES:
        return VideoStream(stream, SYNTAXES[stream.kind], limits)
    if subtitles := _subtitles(stream):
        return f"subtitles of type {subtitles} aren't text"
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
    if kind in FILE_SOUND_CODINGS:
        return SoundStream(stream, FILE_SOUND_CODINGS[kind], limits)
    other = _OTHER_VIDEO.get(kind) or _OTHER_SOUND.get(kind)
    return f"codec {other} isn't one that can be packaged" if other else None

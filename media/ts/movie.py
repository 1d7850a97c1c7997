"""An MPEG transport stream as a movie: its tracks with the tables that a ``moov`` would have.

Samples lie in pieces among packets, and pictures have start codes in place of lengths, so samples are
assembled when they are read. Their sizes must be known before, for which the whole file is read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from media.errors import TooLargeError, UnsupportedError
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.sample_table_writer import FrameRoom, Reserve, reserve_nothing
from media.mpeg.video_frames import SYNTAXES
from media.stream_reader import CLOCK_RATE
from media.ts.annex_b import HEVC, VIDEO_CODINGS
from media.ts.assembled_movie import AssembledMovie, FoundStream, assembled_movie
from media.ts.elementary_streams import Layout, PacketBlock, PacketReader, StreamMove, read_packet_units
from media.ts.limits import TransportLimits
from media.ts.movie_streams import MediaStream, PictureStream, SoundStream, VideoStream
from media.ts.sections import ProgramTables
from media.ts.sound_frames import FILE_SOUND_CODINGS, recognized
from media.ts.subtitle_streams import DVB_SUBTITLES, SubtitleStream, dvb_pages
from media.ts.tables import ElementaryStream, ProgramMap, StreamType
from media.ts.timestamps import FileClock, FileTimes, FollowingClock

LONGEST_GAP = 10 * CLOCK_RATE
"""Ticks of the longest pause of a stream; more is a jump of the clock, behind which time goes on."""

MAX_MOVES = 256
"""Most places of a file at which the program's map moves a stream to another packet ID, or gives one anew."""

MAX_STREAMS = 64
"""Most streams of a program, those of all versions of its map together."""

_REMEDY = "ffmpeg -c copy makes an MP4 of it"

_OTHER_VIDEO: Mapping[int, str] = {
    StreamType.VVC: "VVC",
    0x21: "JPEG 2000",
    0x42: "AVS",
    0xD1: "Dirac",
    0xD2: "AVS2",
}
_OTHER_SOUND: Mapping[int, str] = {
    StreamType.TRUEHD: "TrueHD",
    0x1C: "AAC without headers",
    0x2D: "MPEG-H 3D Audio",
    0x2E: "MPEG-H 3D Audio",
}

_UNTOLD = "private data without a descriptor that says what they are"
"""The reason why a stream isn't packaged whose bytes aren't sound that is known either."""

_LANGUAGE = 0x0A
"""Tag of the descriptor of a stream's language (§2.6.18)."""

_SUBTITLES: Mapping[int, str] = {0x56: "DVB teletext", DVB_SUBTITLES: "DVB"}
"""Tags of descriptors of subtitles."""


def read_transport_stream(
    read: Read,
    size: int,
    layout: Layout,
    limits: TransportLimits,
    reserve: Reserve = reserve_nothing,
    first: int = 0,
) -> AssembledMovie:
    """Read a file of MPEG transport stream packets: its tracks, and the positions of their samples.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.
        reserve: called before memory is allocated for frames.
        first: offset of the first packet.

    Raises:
        UnsupportedError: no stream can be packaged or decoded; the text says why.
        TooLargeError: a limit is exceeded.
        MalformedError: parameter sets are impossible.
        OSError: the file can't be read.
    """
    if size > limits.file_bytes:
        raise TooLargeError(f"MPEG-TS of {size} bytes: more than {limits.file_bytes}; {_REMEDY}")
    reader = _FileReader(read, size, (layout, first), limits, reserve)
    reader.run()
    return reader.movie()


@dataclass(slots=True)
class _ProgramStream:
    """A stream of the program while the file is read.

    Attributes:
        number: ID of its packets, or one of its own if another stream had that before.
        found: the parser of its packets; or the reason why there is none.
        subtitles: the parser of its subtitles that are pictures, which aren't packaged; or None.
        clock: unwraps its times; None before its first packet with one.
        failure: why the parser gave up; empty if it didn't.
    """

    stream: ElementaryStream
    number: int
    found: MediaStream | str
    subtitles: SubtitleStream | None = None
    clock: FileClock | None = None
    failure: str = ""

    @property
    def parser(self) -> MediaStream | None:
        """The parser, as long as it hasn't given up."""
        return None if isinstance(self.found, str) or self.failure else self.found


class _FileReader:
    """Reads a file from its beginning to its end, and passes packets on to their streams."""

    def __init__(
        self,
        read: Read,
        size: int,
        packets: tuple[Layout, int],
        limits: TransportLimits,
        reserve: Reserve,
    ) -> None:
        self._read, self._size = read, size
        self._layout, self._begin = packets
        self._limits, self._room = limits, FrameRoom(reserve)
        self._moves = list[StreamMove]()
        self._packets = PacketReader(self._layout, read, size, self._moves)
        # By stream ID and type: what comes to have another type is another stream.
        self._streams: dict[tuple[int, int], _ProgramStream] = {}
        self._types: dict[int, int] = {}
        # The newest map, and by ID and type the stream that each of its streams goes on with.
        self._listed: dict[tuple[int, int], ElementaryStream] = {}
        self._continued: dict[tuple[int, int], int] = {}
        self._mapped: set[tuple[int, int]] = set()
        self._notes: dict[str, None] = {}
        self._jumps = FileTimes()
        self._subtitle_clock: FollowingClock | None = None
        self._errors = 0
        self._encrypted: dict[int, int] = {}
        self._tables = ProgramTables()
        self._number = self._find_program()

    def _find_program(self) -> int:
        """Choose the program by the tables and streams of the file's beginning (§2.4.4)."""
        tables, present, chosen = self._tables, set[int](), None
        end = min(self._begin + self._limits.table_search_bytes, self._size)
        for block in PacketReader(self._layout, self._read, self._size).blocks(self._begin, end):
            present.update(np.unique(block.pids).tolist())
            for _ in self._changes(block):
                pass
            if len(tables.programs) == 1 and tables.maps:
                # Of one program, streams may be missing.
                chosen = next(iter(tables.maps))
                break
            if tables.prefers(present):
                break
        if not tables.programs:
            self._suppose_programs(end)
        chosen = tables.choose(present) if chosen is None else chosen
        if chosen is not None:
            self._follow(tables.maps[chosen], None)
            return chosen
        if tables.maps:
            raise UnsupportedError(f"MPEG-TS without the streams of its programs; {_REMEDY}")
        lacking = "map of its program (PMT)" if tables.programs else "table of its programs (PAT)"
        raise UnsupportedError(f"MPEG-TS without a {lacking}; {_REMEDY}")

    def _suppose_programs(self, end: int) -> None:
        """Find the maps of programs in the file's beginning, up to an offset, without a PAT."""
        for block in PacketReader(self._layout, self._read, self._size).blocks(self._begin, end):
            for number in range(len(block.pids)):
                if self._tables.push_unlisted(block.packet(number)):
                    self._notes["the table of its programs (PAT)"] = None

    def run(self) -> None:
        """Read the file to its end, and pass each stream its packets."""
        reference: int | None = None
        self._packets.continuity.tables = self._tables.pids
        for block in self._packets.blocks(self._begin, self._size):
            # All types of a stream in the block: its map may change more than once there.
            self._mapped = set(self._types.items())
            self._read_tables(block)
            self._errors += block.errors
            for pid in self._types:
                if found := block.scrambled(pid):
                    self._encrypted[pid] = self._encrypted.get(pid, 0) + found
            for (pid, kind), one in self._streams.items():
                if one.found is _UNTOLD:
                    self._recognize(one, block)
                if one.parser is None or (pid, kind) not in self._mapped:
                    continue
                if one.clock is None:
                    pieces = block.pieces(one.number)
                    told = next((piece.dts for piece in pieces if piece.dts is not None), None)
                    if told is None:
                        continue
                    reference = told if reference is None else reference
                    one.clock = FileClock(LONGEST_GAP, reference, self._jumps)
                self._push_block(one, block)
            if reference is not None:
                # Behind the other streams, by whose times they go.
                self._push_subtitles(block, reference)
            self._check_count()
        self._finish()

    def _push_subtitles(self, block: PacketBlock, reference: int) -> None:
        """Pass a block's packets to the streams of subtitles."""
        if self._subtitle_clock is None:
            self._subtitle_clock = FollowingClock(reference, self._jumps)
        for key, one in self._streams.items():
            if one.subtitles is not None and key in self._mapped:
                one.subtitles.push(block, self._subtitle_clock)

    def _finish(self) -> None:
        """Complete the last units of all streams."""
        for one in self._streams.values():
            if one.subtitles is not None:
                one.subtitles.finish()
            if one.parser is not None and one.clock is not None:
                try:
                    one.parser.finish(one.clock)
                except UnsupportedError as error:
                    one.failure = str(error)

    def _recognize(self, one: _ProgramStream, block: PacketBlock) -> None:
        """Recognize sound of which the map says nothing, as ffmpeg writes AAC into files of discs."""
        for piece in block.pieces(one.number):
            if piece.starts and (coding := recognized(piece.data)) is not None:
                one.found = SoundStream(replace(one.stream, pid=one.number), coding, self._limits)
                return

    def _push_block(self, one: _ProgramStream, block: PacketBlock) -> None:
        """Pass a block's packets to their stream. An unsupported stream doesn't stop the others."""
        parser, clock = one.parser, one.clock
        if parser is None or clock is None:
            return
        try:
            parser.push(block, clock)
        except UnsupportedError as error:
            one.failure = str(error)
            if all(other.parser is None for other in self._streams.values()):
                raise UnsupportedError(f"MPEG-TS: {error}") from None

    def _read_tables(self, block: PacketBlock) -> None:
        """Follow the tables, of which a new version may bring or take away streams (§2.4.4.9)."""
        for number in self._changes(block):
            self._packets.continuity.tables = self._tables.pids
            if self._number in self._tables.maps:
                moved = len(self._moves)
                self._follow(self._tables.maps[self._number], block.place(number))
                for move in self._moves[moved:]:
                    block.move(move)

    def _changes(self, block: PacketBlock) -> Iterator[int]:
        """Push the tables of a block; yield the numbers of the packets that have changed them."""
        begin, tables = 0, self._tables
        while True:
            pids = tables.pids
            for at in np.flatnonzero(np.isin(block.pids[begin:], list(pids))).tolist():
                if tables.push(block.packet(begin + at)):
                    yield begin + at
                    if tables.pids != pids:  # the PAT leads to further maps, which may follow at once
                        begin += at + 1
                        break
            else:
                return

    def _follow(self, program: ProgramMap, place: int | None) -> None:
        """Find the streams that a map has and the maps before it hadn't."""
        listed = {(one.pid, one.kind): one for one in program.streams}
        gone = [one for key, one in self._listed.items() if key not in listed]
        added = [one for key, one in listed.items() if key not in self._listed] if gone else []
        self._listed = listed
        for stream in program.streams:
            if stream in added and place is not None and self._goes_on(stream, gone, place):
                continue
            key, former = (stream.pid, stream.kind), self._types.get(stream.pid)
            if key not in self._streams and len(self._streams) < MAX_STREAMS:
                number = stream.pid if former is None else (len(self._streams) + 1) << 13 | stream.pid
                found = _found(replace(stream, pid=number), self._limits)
                if found is not None:
                    subtitles = _subtitle_stream(replace(stream, pid=number), self._limits)
                    self._streams[key] = _ProgramStream(stream, number, found, subtitles)
            if key in self._streams:
                self._types[stream.pid] = stream.kind
                self._mapped.add(key)
                if former not in (None, stream.kind):
                    if place is not None and len(self._moves) < MAX_MOVES:
                        self._moves.append(
                            StreamMove(place, stream.pid, self._streams[key].number, stream.pid)
                        )
                    self._notes[f"stream {stream.pid} is of another type from byte {place} on"] = None

    def _goes_on(self, stream: ElementaryStream, gone: list[ElementaryStream], place: int) -> bool:
        """Return whether a map's new stream is one that it no longer has at its former packet ID."""
        former = next((one for one in gone if _is_alike(one, stream)), None)
        if former is None or len(self._moves) >= MAX_MOVES:
            return False
        known = self._continued.pop((former.pid, former.kind), former.pid)
        if (known, former.kind) not in self._streams:
            return False
        gone.remove(former)
        self._continued[stream.pid, stream.kind] = known
        self._types.setdefault(stream.pid, stream.kind)
        self._moves.append(StreamMove(place, stream.pid, known, former.pid))
        return True

    def _check_count(self) -> None:
        # Units without frames cost as much memory.
        count = sum(0 if isinstance(one.found, str) else one.found.units for one in self._streams.values())
        count += sum(one.subtitles.units for one in self._streams.values() if one.subtitles is not None)
        if count > self._limits.frames:
            raise TooLargeError(f"more than {self._limits.frames} frames")
        self._room.reserve(count)

    def movie(self) -> AssembledMovie:
        """Return the movie, after the whole file has been read."""
        units = partial(read_packet_units, self._layout, tuple(self._moves))
        found = [
            FoundStream(
                one.stream.pid,
                _handler(one.stream),
                _language(one.stream),
                one.found,
                one.failure or self._encryption(one),
                None if one.subtitles is None else one.subtitles.found(units),
                _roles(one.stream),
            )
            for one in self._streams.values()
        ]
        made = assembled_movie("MPEG-TS", found, self._size, units, self._limits.table_bytes)
        return replace(made, lacking=tuple(self._lacking()))

    def _encryption(self, one: _ProgramStream) -> str:
        """Return that a stream is encrypted, if nothing of it can be read; else an empty text."""
        parser = one.parser
        readable = parser is None or (len(parser) if isinstance(parser, PictureStream) else parser.units)
        return "" if readable or not self._encrypted.get(one.stream.pid) else "encrypted media"

    def _lacking(self) -> Iterator[str]:
        """Return what the file lacks, and what of it isn't played."""
        lost = sum(self._packets.continuity.lost.get(pid, 0) for pid in self._types)
        if lost:
            yield f"{lost} packets, which its recording has lost"
        if self._packets.skipped:
            yield f"{self._packets.skipped} bytes, which are of no packet"
        if self._errors:
            yield f"{self._errors} packets, which the receiver has marked as packets with errors"
        if encrypted := sum(self._encrypted.values()):
            yield f"{encrypted} packets, which are encrypted"
        yield from self._notes


def _is_alike(one: ElementaryStream, other: ElementaryStream) -> bool:
    """Return whether two streams are of one type and language."""
    return (one.kind, one.sound_type, _language(one)) == (other.kind, other.sound_type, _language(other))


def _language(stream: ElementaryStream) -> str:
    told = stream.described().get(_LANGUAGE, b"")[:3].decode("latin-1").lower()
    return told if len(told) == 3 and told.isascii() and told.isalpha() else "und"


def _roles(stream: ElementaryStream) -> tuple[str, ...]:
    """Return the DASH role of a stream of sound by its audio type (§2.6.19, Table 2-60)."""
    role = {2: "caption", 3: "description"}.get(int.from_bytes(stream.described().get(_LANGUAGE, b"")[3:4]))
    return () if role is None else (role,)


def _handler(stream: ElementaryStream) -> bytes:
    if stream.kind in VIDEO_CODINGS or stream.kind in SYNTAXES or stream.kind in _OTHER_VIDEO:
        return b"vide"
    return b"subt" if _subtitles(stream) else b"soun"


def _subtitles(stream: ElementaryStream) -> str:
    """Return the name of a stream's kind of subtitles; empty if the stream has none."""
    if stream.kind == StreamType.PGS:
        return "PGS"
    descriptors = stream.described() if stream.kind == StreamType.PRIVATE else {}
    # ETSI EN 300 468 §6.2.41, §6.2.43
    return next((name for tag, name in _SUBTITLES.items() if tag in descriptors), "")


def _subtitle_stream(stream: ElementaryStream, limits: TransportLimits) -> SubtitleStream | None:
    """Create the parser of a stream of subtitles that are pictures; None of another stream."""
    if stream.kind == StreamType.PGS:
        return SubtitleStream(stream.pid, limits)
    pages = dvb_pages(stream) if stream.kind == StreamType.PRIVATE else []
    return SubtitleStream(stream.pid, limits, pages) if pages else None


def _found(stream: ElementaryStream, limits: TransportLimits) -> MediaStream | str | None:
    """Create the parser of a stream; return the reason where it is unsupported, None if it is no media."""
    if stream.kind in VIDEO_CODINGS:
        return PictureStream(stream, VIDEO_CODINGS[stream.kind], limits)
    if stream.kind in SYNTAXES:
        return VideoStream(stream, SYNTAXES[stream.kind], limits)
    if subtitles := _subtitles(stream):
        return f"subtitles of type {subtitles} aren't text"
    kind = stream.sound_type
    if kind == StreamType.PRIVATE and stream.registered == b"Opus":
        return "codec Opus in MPEG-TS isn't one that can be packaged"
    if kind == StreamType.PRIVATE and stream.registered == b"HEVC":
        return PictureStream(stream, HEVC, limits)
    if kind in FILE_SOUND_CODINGS:
        return SoundStream(stream, FILE_SOUND_CODINGS[kind], limits)
    if kind == StreamType.PRIVATE and not stream.descriptors:
        return _UNTOLD
    other = _OTHER_VIDEO.get(kind) or _OTHER_SOUND.get(kind)
    return f"codec {other} isn't one that can be packaged" if other else None

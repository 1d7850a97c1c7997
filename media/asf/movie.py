"""An ASF file as a movie: its tracks with the tables that a ``moov`` would have.

The file's index has only key frames, so the headers of all packets' payloads are read.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field

import numpy as np

from media.asf.headers import AUDIO, DATA_HEADER, HEADER, VIDEO, AsfHeader, AsfStream, read_header
from media.asf.packets import Payload, payloads
from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.matroska.located_tracks import LocatedTrack, located_movie
from media.matroska.timing import Times, picture_times, sound_times
from media.matroska.tracks import AUDIO as SOUND
from media.matroska.tracks import VIDEO as PICTURE
from media.matroska.tracks import MatroskaTrack
from media.mp4.codecs.decodable_entry import codec_of_fourcc
from media.mp4.movie.assembled_samples import AssembledSamples, Read
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.movie import Movie
from media.mp4.movie.pieced_samples import PiecedSamples
from media.mp4.movie.sample_table_writer import FrameRoom, Reserve, reserve_nothing
from media.mpeg.coded_order import CodedPictures

HEADER_BYTES = 4 << 20
"""Largest header object."""

BLOCK_BYTES = 1 << 20
"""Bytes of packets that are read together."""

FIRST_BYTES = 4 << 10
MILLISECOND = 1_000_000
"""Nanoseconds of a tick of the packets' times."""


@dataclass(frozen=True, slots=True)
class AsfLimits:
    """Limits of an ASF file.

    Attributes:
        file_bytes: largest file, for all of its packets are read for its index.
        payloads: most payloads of all packets together.
        table_bytes: memory for the tables of samples of all tracks.
    """

    file_bytes: int = 4 << 30
    payloads: int = 3 << 20
    table_bytes: int = 48 << 20


@dataclass(frozen=True, slots=True)
class AsfMovie:
    """The movie of an ASF file.

    Attributes:
        cut_short: whether the file has fewer packets than it says.
    """

    movie: Movie
    assembled: AssembledSamples | None
    cut_short: bool


def is_asf(head: bytes) -> bool:
    """Return whether a file's first bytes are those of ASF."""
    return head.startswith(HEADER)


@dataclass(slots=True)
class _Objects:
    """The objects of a stream, and the pieces that they lie in."""

    places: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("I"))
    begins: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    times: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("B"))
    end: int = 0
    number: int = -1
    whole: int = 0
    have: int = 0

    def push(self, payload: Payload, place: int) -> None:
        """Add a payload. An object of which a piece is missing is dropped with its pieces."""
        if payload.begins == 0 or payload.number != self.number:
            self._drop()
            if payload.begins:
                return
            self.number, self.whole, self.have = payload.number, payload.whole or payload.size, 0
            self.begins.append(self.end)
            self.sizes.append(self.whole)
            self.times.append(payload.time)
            self.keys.append(payload.is_key)
        elif payload.begins != self.have or self.have >= self.whole:
            return
        size = min(payload.size, self.whole - self.have)
        if size:
            self.places.append(place)
            self.lengths.append(size)
        self.have, self.end = self.have + size, self.end + size

    def finish(self) -> None:
        """Drop the last object if it isn't whole."""
        self._drop()

    def _drop(self) -> None:
        if self.have < self.whole and len(self.begins):
            for rows in (self.begins, self.sizes, self.times, self.keys):
                rows.pop()
        self.whole = self.have = 0


def read_asf(read: Read, size: int, limits: AsfLimits, reserve: Reserve = reserve_nothing) -> AsfMovie:
    """Read an ASF file.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.
        reserve: called before memory is allocated for samples.

    Raises:
        MalformedError: the file violates its format.
        UnsupportedError: its media are encrypted.
        TooLargeError: a limit is exceeded.
        OSError: the file can't be read.
    """
    if size > limits.file_bytes:
        raise TooLargeError(f"ASF of {size} bytes: more than {limits.file_bytes}")
    length = int.from_bytes(read(16, 8), "little")
    if length > HEADER_BYTES:
        raise TooLargeError(f"a header of {length} bytes: more than {HEADER_BYTES}")
    data = read(0, length)
    if len(data) < length or length < 30:
        raise MalformedError("the header is cut off")
    header = read_header(data)
    reader = _PacketsReader(read, size, header, limits, FrameRoom(reserve))
    reader.run()
    tracks = [reader.described(stream) for stream in header.streams if stream.kind in (AUDIO, VIDEO)]
    tracks.sort(key=lambda one: one.facts.kind)
    return AsfMovie(located_movie(tracks, limits.table_bytes), reader.assembled, reader.cut_short)


class _PacketsReader:
    """Reads the packets of a file.

    Attributes:
        cut_short: whether the file has fewer packets than it says.
    """

    def __init__(self, read: Read, size: int, header: AsfHeader, limits: AsfLimits, room: FrameRoom) -> None:
        self._read, self._size, self._header = read, size, header
        self._limits, self._room = limits, room
        self._objects = {stream.number: _Objects() for stream in header.streams}
        self._begins: list[int] = []
        self._assembled: list[PiecedSamples] = []
        self.cut_short = False

    @property
    def assembled(self) -> AssembledSamples | None:
        """The samples that lie in pieces; None if there are none."""
        return AssembledSamples(self._begins, self._assembled) if self._assembled else None

    def run(self) -> None:
        """Read all packets; one that is damaged is left out."""
        each = self._header.packet_bytes
        first = self._header.size + DATA_HEADER
        whole = max(self._size - first, 0) // each
        packets = min(self._header.packets or whole, whole)
        self.cut_short = self._header.packets > whole
        count, together = 0, max(BLOCK_BYTES // each, 1)
        for number in range(0, packets, together):
            position = first + number * each
            data = self._read(position, min(together, packets - number) * each)
            for at in range(0, len(data) - each + 1, each):
                count += self._packet(data[at : at + each], position + at)
            if count > self._limits.payloads:
                raise TooLargeError(f"more than {self._limits.payloads} payloads")
            self._room.reserve(count)
        for found in self._objects.values():
            found.finish()

    def _packet(self, packet: bytes, position: int) -> int:
        count = 1
        try:
            for payload in payloads(packet):
                count += 1
                if (found := self._objects.get(payload.stream)) is not None:
                    found.push(payload, position + payload.place)
        except MalformedError:
            pass
        return count

    def described(self, stream: AsfStream) -> LocatedTrack:
        """Describe a stream."""
        found, is_video = self._objects[stream.number], stream.kind == VIDEO
        offsets, sizes = np.asarray(found.begins, np.int64), np.asarray(found.sizes, np.int64)
        keys = np.asarray(found.keys) != 0
        facts = MatroskaTrack(stream.number, PICTURE if is_video else SOUND, "")
        try:
            if not len(sizes):
                raise UnsupportedError("it has no samples")
            pieces = PiecedSamples(
                np.asarray(found.places, np.int64), np.asarray(found.lengths, np.int64), offsets, sizes
            )
            places = pieces.file_offsets()
            first = pieces.read(self._read, 0, min(int(sizes[0]), FIRST_BYTES))
            facts, times = self._facts(stream, found, pieces)
        except TooLargeError:
            raise
        except MediaError as error:
            return LocatedTrack(facts, offsets, sizes, keys, None, obstacle=str(error))
        if places is None:
            begin = self._begins[-1] + self._assembled[-1].size if self._begins else self._size
            self._begins.append(begin)
            self._assembled.append(pieces)
            places = np.cumsum(sizes) - sizes + begin
        return LocatedTrack(facts, places, sizes, keys if is_video else sizes > 0, times, first)

    def _facts(
        self, stream: AsfStream, found: _Objects, pieces: PiecedSamples
    ) -> tuple[MatroskaTrack, Times]:
        ticks = np.asarray(found.times, np.int64) - self._header.preroll
        if stream.kind == VIDEO:
            if len(stream.format) < 40:
                raise MalformedError("video without its BITMAPINFOHEADER")
            fourcc = stream.format[16:20]
            name = codec_of_fourcc(fourcc)
            if name is None:
                shown = fourcc.decode("latin-1")
                raise UnsupportedError(f"codec {shown!r} isn't one that can be packaged")
            width, height = struct.unpack_from("<ii", stream.format, 4)
            codec = "V_MS/VFW/FOURCC"
            facts = MatroskaTrack(stream.number, PICTURE, codec, stream.format, pixels=(width, abs(height)))
            return facts, self._picture_times((name, stream.format[40:]), ticks, found, pieces)
        if stream.is_spread:
            raise UnsupportedError("its sound is spread over packets")
        if len(stream.format) < 16:
            raise MalformedError("sound without its WAVEFORMATEX")
        tag, channels, rate = struct.unpack_from("<HHI", stream.format)
        if not 0 < rate < 1 << 24 or not channels:
            raise MalformedError(f"sound of {rate} Hz with {channels} channels")
        facts = MatroskaTrack(stream.number, SOUND, SOUND_CODECS.get(tag, "A_MS/ACM"), stream.format)
        if tag in SOUND_CODECS:
            facts = MatroskaTrack(
                stream.number, SOUND, SOUND_CODECS[tag], sample_rate=rate, channels=channels
            )
        laced = np.zeros(len(ticks), np.int64)
        return facts, sound_times(ticks, laced, MILLISECOND, rate, 0, None)

    def _picture_times(
        self, coding: tuple[str, bytes], ticks: Int64, found: _Objects, pieces: PiecedSamples
    ) -> Times:
        """Return the times of pictures."""

        def read(offset: int, length: int) -> bytes:
            return pieces.read(self._read, offset, offset + length)

        sizes = np.asarray(found.sizes, np.int64)
        name, headers = coding
        pictures = CodedPictures(name, read, np.cumsum(sizes) - sizes, sizes, headers)
        ticks = pictures.presented(ticks, np.asarray(found.keys) != 0)
        return picture_times(ticks, MILLISECOND, 0, None)


SOUND_CODECS = {0x55: "A_MPEG/L3", 0x50: "A_MPEG/L2", 0x2000: "A_AC3"}
"""Codings by format tag whose frames are described by their headers."""

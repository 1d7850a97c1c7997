"""An AVI file as a movie: its tracks with the tables that a ``moov`` would have.

An AVI file has no times: pictures follow each other at one rate, and are in the order of decoding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np

from media.avi.chunk_index import INDEX_BYTES, ChunkWalk, StreamChunks, first_index, open_dml_index
from media.avi.chunked_sound import find_frames
from media.avi.headers import AviStream, read_headers
from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.matroska.located_tracks import LocatedTrack, located_movie
from media.matroska.timing import Times, times_in_order
from media.matroska.tracks import AUDIO, VIDEO, MatroskaTrack
from media.mp4.codecs.decodable_entry import codec_of_fourcc
from media.mp4.movie.assembled_samples import AssembledSamples, Read
from media.mp4.movie.movie import Movie, foreign_format
from media.mp4.movie.pieced_samples import PiecedSamples
from media.mp4.movie.sample_table_writer import FrameRoom, Reserve, reserve_nothing
from media.mpeg.coded_order import CodedPictures, is_avc_configuration
from media.ts.sound_frames import AC3, DTS, MPEG_AUDIO, SoundCoding, sound_track

HEADER_BYTES = 4 << 20
"""Largest list of headers."""

MAX_HEADER_CHUNKS = 64
"""Most chunks before the list of the media."""

FIRST_BYTES = 4 << 10
"""Most bytes of the first sample of sound that are parsed."""

SOUND_CODINGS = {0x50: MPEG_AUDIO, 0x55: MPEG_AUDIO, 0x2000: AC3, 0x2001: DTS}
"""By format tag: codings whose frames don't end with chunks."""

WINDOWS_MEDIA = (0x160, 0x161, 0x162, 0x163)
"""Format tags of codings whose blocks a decoder takes one by one."""

PCM, FLOAT, AAC_TAG = 1, 3, 0xFF
ADPCM = (0x02, 0x11)


@dataclass(frozen=True, slots=True)
class AviLimits:
    """Limits of an AVI file.

    Attributes:
        chunks: most chunks of all streams together.
        table_bytes: memory for the tables of samples of all tracks.
    """

    chunks: int = 3 << 20
    table_bytes: int = 48 << 20


@dataclass(frozen=True, slots=True)
class AviMovie:
    """The movie of an AVI file.

    Attributes:
        assembled: sound whose frames lie in pieces; None if there is none.
        cut_short: whether the file ends within its media.
    """

    movie: Movie
    assembled: AssembledSamples | None
    cut_short: bool


def is_avi(head: bytes) -> bool:
    """Return whether a file's first bytes are those of AVI."""
    return head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX")


def read_avi(read: Read, size: int, limits: AviLimits, reserve: Reserve = reserve_nothing) -> AviMovie:
    """Read an AVI file.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.
        reserve: called before memory is allocated for samples.

    Raises:
        MalformedError: the file violates its format.
        TooLargeError: a limit is exceeded.
        OSError: the file can't be read.
    """
    reader = _AviReader(read, size, limits, FrameRoom(reserve))
    reader.find_lists()
    chunks_of = reader.stream_chunks()
    tracks: list[LocatedTrack] = []
    for number, (stream, found) in enumerate(zip(reader.streams, chunks_of, strict=True)):
        if stream.kind not in (b"vids", b"auds"):
            continue
        try:
            make = reader.picture if stream.kind == b"vids" else reader.sound
            tracks.append(make(number, stream, found))
        except TooLargeError:
            raise
        except MediaError as error:
            tracks.append(_left_out(number, stream, found, str(error)))
    return AviMovie(located_movie(tracks, limits.table_bytes), reader.assembled, reader.media_end > size)


def _left_out(number: int, stream: AviStream, found: StreamChunks, obstacle: str) -> LocatedTrack:
    facts = MatroskaTrack(number + 1, VIDEO if stream.kind == b"vids" else AUDIO, "")
    return LocatedTrack(facts, found.offsets, found.sizes, found.sizes > 0, None, obstacle=obstacle)


class _AviReader:
    """Reads the lists of an AVI file.

    Attributes:
        assembled: the samples that lie in pieces; None if there are none.
        media_end: offset behind the lists of media, as they say themselves.
    """

    def __init__(self, read: Read, size: int, limits: AviLimits, room: FrameRoom) -> None:
        self._read, self._size, self._limits, self._room = read, size, limits, room
        self.streams: list[AviStream] = []
        self._movi = self.media_end = 0
        self._index = b""
        self._begins: list[int] = []
        self._assembled: list[PiecedSamples] = []

    @property
    def assembled(self) -> AssembledSamples | None:
        return AssembledSamples(self._begins, self._assembled) if self._assembled else None

    def find_lists(self) -> None:
        """Find the headers, the list of media, and the index behind it."""
        position = 12
        for _ in range(MAX_HEADER_CHUNKS):
            head = self._read(position, 12)
            if len(head) < 8:
                break
            kind, length = head[:4], int.from_bytes(head[4:8], "little")
            if kind == b"LIST" and head[8:12] == b"hdrl":
                if length > HEADER_BYTES:
                    raise TooLargeError(f"headers of {length} bytes: more than {HEADER_BYTES}")
                self.streams = read_headers(self._read(position + 12, max(length - 4, 0)))
            elif kind == b"LIST" and head[8:12] == b"movi" and not self._movi:
                self._movi, self.media_end = position + 8, position + 8 + length
            elif kind == b"idx1" and self._movi:
                if length > INDEX_BYTES:
                    raise TooLargeError(f"an index of {length} bytes: more than {INDEX_BYTES}")
                self._index = self._read(position + 8, length)
                break
            position += 8 + length + length % 2
        if not self.streams or not self._movi:
            raise MalformedError("an AVI file without headers or without media")

    def stream_chunks(self) -> list[StreamChunks]:
        """Return the chunks of each stream."""
        limit, found = self._limits.chunks, list[StreamChunks | None]()
        for number, stream in enumerate(self.streams):
            found.append(open_dml_index(stream, number, self._read, self._size, self._room, limit))
            limit -= len(found[-1].sizes) if found[-1] is not None else 0
        media = [
            one for one, stream in zip(found, self.streams, strict=True) if stream.kind in (b"vids", b"auds")
        ]
        if media and all(one is not None for one in media):
            nothing = StreamChunks(np.zeros(0, np.int64), np.zeros(0, np.int64), None)
            return [one or nothing for one in found]
        count = len(self.streams)
        if self._index:
            self._room.reserve(len(self._index) // 16)
            indexed = first_index(
                self._index, self._movi, count, lambda at: self._read(at, 8), self._limits.chunks
            )
            if indexed is not None:
                return indexed
        walk = ChunkWalk(self._read, self._size, self._room, self._limits.chunks)
        return walk.run(self._movi + 4, count)

    def picture(self, number: int, stream: AviStream, found: StreamChunks) -> LocatedTrack:
        """Describe a stream of pictures."""
        described = stream.format
        if len(described) < 40:
            raise MalformedError("video without its BITMAPINFOHEADER")
        fourcc = described[16:20] if any(described[16:20]) else stream.handler
        name = codec_of_fourcc(fourcc)
        if name is None:
            raise UnsupportedError(f"codec {fourcc.decode('latin-1')!r} isn't one that can be packaged")
        width, height = struct.unpack_from("<ii", described, 4)
        facts = MatroskaTrack(
            number + 1,
            VIDEO,
            "V_MS/VFW/FOURCC",
            described[:16] + fourcc + described[20:],
            name=stream.name,
            pixels=(width, abs(height)),
            display=stream.aspect,
        )
        if name == "H.264" and is_avc_configuration(described[40:]):
            facts = replace(facts, codec="V_MPEG4/ISO/AVC", private=described[40:])
        used = np.flatnonzero(found.sizes)
        offsets, sizes = found.offsets[used], found.sizes[used]
        if not len(used):
            raise UnsupportedError("it has no samples")
        keys = None if found.keys is None else found.keys[used]
        order, delay, keys = CodedPictures(name, self._read, offsets, sizes, described[40:]).order(keys)
        keys[0] = True
        scale = -(-1000 // stream.rate.numerator)
        timescale, each = stream.rate.numerator * scale, stream.rate.denominator * scale
        slots = (used + stream.start) * each
        shown = slots if order is None else slots[order] + delay * each
        times = times_in_order(timescale, shown.copy(), each)
        return LocatedTrack(facts, offsets, sizes, keys, times)

    def sound(self, number: int, stream: AviStream, found: StreamChunks) -> LocatedTrack:
        """Describe a stream of sound."""
        if len(stream.format) < 16:
            raise MalformedError("sound without its WAVEFORMATEX")
        tag, channels, rate, per_second, block, _ = struct.unpack_from("<HHIIHH", stream.format)
        if not 0 < rate < 1 << 24 or not channels:
            raise MalformedError(f"sound of {rate} Hz with {channels} channels")
        used = np.flatnonzero(found.sizes)
        found = StreamChunks(found.offsets[used], found.sizes[used], None)
        if not len(used):
            raise UnsupportedError("it has no samples")
        start = round(stream.start / stream.rate * rate) if stream.rate else 0
        if tag in SOUND_CODINGS:
            return self._framed(number, SOUND_CODINGS[tag], found, start)
        facts = MatroskaTrack(number + 1, AUDIO, "A_MS/ACM", stream.format, name=stream.name)
        if tag in WINDOWS_MEDIA and block and not (found.sizes % block).any():
            found = _in_blocks(found, block, self._limits.chunks)
        if stream.sample_size == 0 and stream.rate and tag not in ADPCM:
            units = -(-found.sizes // block) if block > 1 else np.ones(len(found.sizes), np.int64)
            ends = np.cumsum(units) * (rate * stream.rate.denominator) // stream.rate.numerator
        elif tag in ADPCM and block and len(stream.format) >= 20:
            ends = np.cumsum(found.sizes // block) * int.from_bytes(stream.format[18:20], "little")
        elif tag in (PCM, FLOAT) and block:
            ends = np.cumsum(found.sizes) // block
        elif per_second:
            ends = np.cumsum(found.sizes) * rate // per_second
        else:
            raise MalformedError("sound of no rate")
        if tag == AAC_TAG and len(stream.format) > 19:
            private = stream.format[18:]
            facts = replace(facts, codec="A_AAC", private=private, sample_rate=rate, channels=channels)
        first = self._read(int(found.offsets[0]), min(int(found.sizes[0]), FIRST_BYTES))
        times = Times(rate, np.append(0, ends), np.zeros(len(ends), np.int64), start)
        return LocatedTrack(facts, found.offsets, found.sizes, found.sizes > 0, times, first)

    def _framed(self, number: int, coding: SoundCoding, found: StreamChunks, start: int) -> LocatedTrack:
        """Describe a stream of sound whose frames may lie in several chunks."""
        frames = find_frames(coding, found, self._read, self._limits.chunks)
        if frames.facts is None:
            raise UnsupportedError("it has no samples")
        self._room.reserve(len(frames))
        places, sizes = np.asarray(frames.offsets, np.int64), np.asarray(frames.sizes, np.int64)
        chunked = PiecedSamples(found.offsets, found.sizes, places, sizes)
        offsets = chunked.file_offsets()
        if offsets is None:
            begin = self._begins[-1] + self._assembled[-1].size if self._begins else self._size
            self._begins.append(begin)
            self._assembled.append(chunked)
            offsets = np.cumsum(sizes) - sizes + begin
        facts, count = frames.facts, len(sizes)
        numbers = np.asarray(frames.laced, np.int64)
        decode = np.append(numbers, numbers[-1] + 1) * facts.samples
        begin = int(decode[0])
        times = Times(facts.rate, decode - begin, np.zeros(count, np.int64), start + begin)
        track = sound_track(number + 1, coding, facts)
        foreign = foreign_format(frames.foreign)
        return LocatedTrack(track, offsets, sizes, sizes > 0, times, frames.first, lacking=foreign)


def _in_blocks(found: StreamChunks, block: int, limit: int) -> StreamChunks:
    """Cut chunks into blocks, each of which a decoder takes by itself."""
    counts = found.sizes // block
    total = int(counts.sum())
    if total > limit:
        raise TooLargeError(f"more than {limit} blocks of sound")
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return StreamChunks(np.repeat(found.offsets, counts) + within * block, np.full(total, block), None)

"""An MPEG program stream as a movie: its tracks with the tables that a ``moov`` would have.

As in a transport stream, samples lie in pieces among packets, and no index says where: all is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from media.errors import TooLargeError, UnsupportedError
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.sample_table_writer import FrameRoom, Reserve, reserve_nothing
from media.mpeg.video_frames import MPEG2_SYNTAX, MPEG4_SYNTAX, SYNTAXES
from media.ps.program_stream import (
    AC3_SUBSTREAMS,
    AUDIO,
    DTS_SUBSTREAMS,
    EAC3_SUBSTREAMS,
    PACK_START,
    PCM_FORMAT_SHIFT,
    PCM_SUBSTREAMS,
    RAW_AC3,
    SUBPICTURES,
    SUBSTREAM,
    VIDEO,
    ProgramBlock,
    read_blocks,
    read_program_units,
)
from media.stream_reader import CLOCK_RATE
from media.ts.annex_b import H264, VIDEO_CODINGS
from media.ts.assembled_movie import AssembledMovie, FoundStream, assembled_movie
from media.ts.limits import TransportLimits
from media.ts.movie_streams import MediaStream, PictureStream, SoundStream, VideoStream
from media.ts.sound_frames import AC3, DTS, EAC3, FILE_SOUND_CODINGS, MPEG_AUDIO, disc_pcm
from media.ts.subtitle_streams import SubtitleStream
from media.ts.tables import ElementaryStream, StreamType
from media.ts.timestamps import FileClock, FileTimes, FollowingClock

MAX_STREAMS = 48
"""Most streams: DVDs have nine, and 32 of subtitles."""

LONGEST_GAP = 10 * CLOCK_RATE
"""Ticks of the longest pause of a stream; more is a jump of the clock, behind which time goes on."""

_ORDER = {b"vide": 0, b"soun": 1, b"subt": 2}
"""The order of tracks in a movie, by their handlers."""

_VOBSUB = "subtitles of type VobSub aren't text"
_UNKNOWN = "codec of a private stream isn't one that can be packaged"


def is_program_stream(head: bytes) -> bool:
    """Return whether a file's first bytes are a pack header (ISO/IEC 13818-1 §2.5.3.3, ISO/IEC 11172-1)."""
    return head.startswith(PACK_START) and len(head) > 4 and (head[4] >> 6 == 1 or head[4] >> 4 == 2)


@dataclass(slots=True)
class _ReadStream:
    """A stream of the file: its parser, or the reason why there is none, and its clock."""

    number: int
    handler: bytes
    content: MediaStream | str
    clock: FileClock | None = None
    failure: str = ""
    subtitles: SubtitleStream | None = None


def read_program_stream(
    read: Read, size: int, limits: TransportLimits, reserve: Reserve = reserve_nothing
) -> AssembledMovie:
    """Read a program stream: its tracks, and the positions of their samples.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.
        reserve: called before memory is allocated for frames.

    Raises:
        UnsupportedError: no stream can be packaged or decoded; the text says why.
        TooLargeError: a limit is exceeded.
        MalformedError: headers of the video are impossible.
        OSError: the file can't be read.
    """
    if size > limits.file_bytes:
        raise TooLargeError(f"MPEG-PS of {size} bytes: more than {limits.file_bytes}")
    reader = _StreamCollector(limits, reserve)
    for block in read_blocks(read, 0, size):
        reader.push(block)
    return reader.movie(size)


class _StreamCollector:
    """Passes the packets of a file on to their streams, which are found as they begin."""

    def __init__(self, limits: TransportLimits, reserve: Reserve) -> None:
        self._limits, self._room = limits, FrameRoom(reserve)
        self._streams: dict[int, _ReadStream] = {}
        self._types: dict[int, int] = {}
        self._jumps = FileTimes()
        self._reference: int | None = None
        self._subtitle_clock: FollowingClock | None = None
        self._packets = 0

    def push(self, block: ProgramBlock) -> None:
        """Pass a block's packets to their streams."""
        self._packets += block.packets
        if self._packets > self._limits.packets:
            raise TooLargeError(f"MPEG-PS of more than {self._limits.packets} packets")
        if block.stream_map and not self._types:
            self._types = _stream_types(block.stream_map)
        for number, pieces in block.found.items():
            if number not in self._streams:
                if len(self._streams) >= MAX_STREAMS:
                    raise TooLargeError(f"more than {MAX_STREAMS} streams")
                beginning = b"".join(piece.data for piece in pieces[:8])
                self._streams[number] = self._begun(number, beginning)
            self._push(self._streams[number], block)
        if self._reference is not None:
            # Behind the other streams, by whose times they go.
            self._push_subtitles(block, self._reference)
        count = sum(
            0 if isinstance(one.content, str) else one.content.units for one in self._streams.values()
        )
        count += sum(one.subtitles.units for one in self._streams.values() if one.subtitles is not None)
        if count > self._limits.frames:
            raise TooLargeError(f"more than {self._limits.frames} frames")
        self._room.reserve(count)

    def _begun(self, number: int, beginning: bytes) -> _ReadStream:
        """Create the parser of a stream by its number, and by its first bytes."""
        stream, limits = ElementaryStream(0, number), self._limits
        substream, kind = number - SUBSTREAM, self._types.get(number)
        pcm_substream, pcm_format = substream & 0xFFF, number >> PCM_FORMAT_SHIFT
        found: MediaStream | str = _UNKNOWN
        if substream in SUBPICTURES:
            subtitles = SubtitleStream(number, limits, is_vobsub=True)
            return _ReadStream(number, b"subt", _VOBSUB, subtitles=subtitles)
        if number in VIDEO:
            found = self._picture(stream, beginning, kind)
        elif number in AUDIO:
            found = SoundStream(stream, FILE_SOUND_CODINGS.get(kind or 0, MPEG_AUDIO), limits)
        elif number == RAW_AC3 or substream in AC3_SUBSTREAMS:
            found = SoundStream(stream, AC3, limits)
        elif substream in DTS_SUBSTREAMS:
            found = SoundStream(stream, DTS, limits)
        elif substream in EAC3_SUBSTREAMS:
            found = SoundStream(stream, EAC3, limits)
        elif pcm_substream in PCM_SUBSTREAMS:
            coding = disc_pcm(pcm_format)
            found = _UNKNOWN if coding is None else SoundStream(stream, coding, limits)
        return _ReadStream(number, b"vide" if number in VIDEO else b"soun", found)

    def _picture(self, stream: ElementaryStream, beginning: bytes, kind: int | None) -> MediaStream:
        if kind is not None and kind in VIDEO_CODINGS:
            return PictureStream(stream, VIDEO_CODINGS[kind], self._limits)
        if kind is None and re.search(rb"\x00\x00\x01[\x67\x27\x47]", beginning[:64]):
            return PictureStream(stream, H264, self._limits)
        is_mpeg4 = re.match(rb"\x00\x00\x01[\x00-\x2f\xb0]", beginning) is not None
        syntax = MPEG4_SYNTAX if is_mpeg4 else MPEG2_SYNTAX
        return VideoStream(stream, SYNTAXES.get(kind or 0, syntax), self._limits)

    def _push(self, one: _ReadStream, block: ProgramBlock) -> None:
        if isinstance(one.content, str) or one.failure:
            return
        if one.clock is None:
            told = next((piece.dts for piece in block.pieces(one.number) if piece.dts is not None), None)
            if told is None:
                return
            self._reference = told if self._reference is None else self._reference
            one.clock = FileClock(LONGEST_GAP, self._reference, self._jumps)
        try:
            one.content.push(block, one.clock)
        except UnsupportedError as error:
            one.failure = str(error)

    def _push_subtitles(self, block: ProgramBlock, reference: int) -> None:
        if self._subtitle_clock is None:
            self._subtitle_clock = FollowingClock(reference, self._jumps)
        for one in self._streams.values():
            if one.subtitles is not None:
                one.subtitles.push(block, self._subtitle_clock)

    def movie(self, size: int) -> AssembledMovie:
        """Return the movie, after the whole file has been read."""
        for one in self._streams.values():
            if one.subtitles is not None:
                one.subtitles.finish()
            if one.clock is not None and not one.failure and not isinstance(one.content, str):
                try:
                    one.content.finish(one.clock)
                except UnsupportedError as error:
                    one.failure = str(error)
        found = [
            FoundStream(
                one.number,
                one.handler,
                "und",
                one.content,
                one.failure,
                None if one.subtitles is None else one.subtitles.found(read_program_units),
            )
            for one in sorted(self._streams.values(), key=lambda one: (_ORDER[one.handler], one.number))
        ]
        return assembled_movie("MPEG-PS", found, size, read_program_units, self._limits.table_bytes)


def _stream_types(stream_map: bytes) -> dict[int, int]:
    """Read the types of streams from a program stream map (ISO/IEC 13818-1 §2.5.4)."""
    types: dict[int, int] = {}
    if len(stream_map) < 12:
        return types
    at = 10 + int.from_bytes(stream_map[8:10], "big")
    end = min(at + 2 + int.from_bytes(stream_map[at : at + 2], "big"), len(stream_map) - 4)
    at += 2
    while at + 4 <= end:
        types[stream_map[at + 1]] = stream_map[at]
        at += 4 + int.from_bytes(stream_map[at + 2 : at + 4], "big")
    return {number: kind for number, kind in types.items() if kind in set(StreamType)}

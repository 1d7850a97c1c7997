"""Subtitles of a Matroska file: the times of their blocks, and the text in them (RFC 9559 §5.1.3.5).

SubRip, ASS, SSA and WebVTT are read, and of subtitles that are pictures PGS, VobSub and DVB.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.matroska import element_ids as ids
from media.matroska.blocks import MAX_TEXT_FRAMES, UNKNOWN_DURATION, TextFrames
from media.matroska.ebml import children, header, unsigned
from media.matroska.live_writer import LiveBlockWriter, LiveTrack, write_head
from media.matroska.stripped_frames import MAX_STRIPPED_BYTES
from media.matroska.timing import LONGEST
from media.matroska.tracks import ZLIB, MatroskaTrack
from media.mp4.movie.box_arrays import Int64
from media.subtitles.ass import AssStyles, event_cue, read_styles
from media.subtitles.dvb import read_page
from media.subtitles.pgs import DisplaySet, DisplaySets, read_display_set
from media.subtitles.subtitle_file import subrip_cue
from media.subtitles.text_blocks import TextBlocks
from media.subtitles.vobsub import read_index, read_subpicture
from media.subtitles.webvtt import valid_settings, without_empty_lines

SUBRIP = ("S_TEXT/UTF8", "S_TEXT/ASCII")
ASS = ("S_TEXT/ASS", "S_TEXT/SSA", "S_ASS", "S_SSA")
WEBVTT = "S_TEXT/WEBVTT"
WEBM_CAPTIONS = "D_WEBVTT/CAPTIONS"
WEBM = ("D_WEBVTT/SUBTITLES", WEBM_CAPTIONS)
"""Codecs of text; those of WebM have a cue's identifier and settings in lines before the text."""

PGS, VOBSUB, DVB = "S_HDMV/PGS", "S_VOBSUB", "S_DVBSUB"
PICTURES = (PGS, VOBSUB, DVB, "S_IMAGE/BMP")
"""Codecs of subtitles that are pictures."""

MAX_TEXT_BYTES = 8 << 10
"""Most bytes of a cue's text behind decompression."""

MAX_DISPLAY_SET_BYTES = 2 << 20
"""Most bytes of a picture of subtitles, in the file and behind decompression."""

ZLIB_EXPANSION = 4
"""Bytes of text for a byte that zlib has compressed; text of a few words becomes hardly smaller."""

ADDITION_BYTES = 512
"""Bytes behind a block in which the settings of a WebVTT cue are looked for."""

LONGEST_CUE_SECONDS = 24 * 3600
UNKNOWN_CUE_SECONDS = 10
"""How long a cue without a duration is shown at most; the next one ends it earlier."""

_TIMESTAMP_TAG = re.compile(r"<[0-9:.]{1,20}>")
"""A time within a cue's text: relative to the block, and so of no use behind it."""

_IN_GROUP = frozenset((ids.BLOCK_DURATION, ids.REFERENCE_BLOCK, ids.BLOCK_ADDITIONS))


def is_caption(track: MatroskaTrack) -> bool:
    """Return whether a track's codec says that the text is for viewers who don't hear."""
    return track.codec == WEBM_CAPTIONS


def text_blocks(track: MatroskaTrack, frames: TextFrames, scale: int, origin: int) -> TextBlocks:
    """Return the cues of a track of subtitles, whose text isn't read yet.

    Args:
        scale: nanoseconds of a tick.
        origin: milliseconds of the file at which its presentation begins.

    Raises:
        UnsupportedError: the track isn't text, is encrypted or compressed in an unknown way, or is empty.
        TooLargeError: there are too many cues, or their times are too large.
    """
    decoder = _decoder(track)
    if frames.is_excessive:
        raise TooLargeError(f"more than {MAX_TEXT_FRAMES} subtitles of all tracks")
    starts, ends, order = _times(frames, scale, origin)
    if not len(order):
        raise UnsupportedError("it has no samples")
    return TextBlocks(
        starts=starts,
        ends=ends,
        offsets=np.asarray(frames.offsets, np.int64)[order],
        sizes=np.asarray(frames.sizes, np.int64)[order],
        decode=decoder.decode,
        expansion=ZLIB_EXPANSION if decoder.is_compressed else 1,
        behind=ADDITION_BYTES if track.codec == WEBVTT else 0,
    )


def display_sets(track: MatroskaTrack, frames: TextFrames, scale: int, origin: int) -> DisplaySets | None:
    """Return the subtitles of a track of pictures, which aren't read yet; None of others or without any.

    Args:
        scale: nanoseconds of a tick.
        origin: milliseconds of the file at which its presentation begins.
    """
    is_known = track.compression in (None, ZLIB) and not track.stripped and not track.encrypted
    read = _display_set_reader(track)
    ticks = np.asarray(frames.times, np.int64)
    if read is None or not is_known or not len(ticks) or int(np.abs(ticks).max()) * scale > LONGEST:
        return None
    order = np.argsort(ticks, kind="stable")
    is_compressed = track.compression == ZLIB

    def decode(block: bytes) -> Sequence[tuple[int, DisplaySet]]:
        return read(_inflated(block, MAX_DISPLAY_SET_BYTES) if is_compressed else block)

    found = DisplaySets(
        starts=(ticks[order] * scale + 500_000) // 1_000_000 - origin,
        offsets=np.asarray(frames.offsets, np.int64)[order],
        sizes=np.asarray(frames.sizes, np.int64)[order],
        decode=decode,
    )
    return as_dvb_blocks(found, track.private) if track.codec == DVB else found


def as_dvb_blocks(sets: DisplaySets, private: bytes) -> DisplaySets:
    """Return display sets of DVB subtitles with the form in which a decoder reads them.

    Args:
        private: numbers of the pages, and the type of the subtitles.
    """
    return replace(sets, write=partial(_write_blocks, LiveTrack(1, DVB, private)), container="matroska")


def _display_set_reader(track: MatroskaTrack) -> Callable[[bytes], Sequence[tuple[int, DisplaySet]]] | None:
    """Return the reader of the blocks of a track of pictures; None of others."""
    if track.codec == PGS:
        return lambda data: [(0, read_display_set(data))]
    if track.codec == DVB:
        return read_page
    index = read_index(track.private) if track.codec == VOBSUB else None
    return None if index is None else partial(read_subpicture, index=index)


def _write_blocks(track: LiveTrack, sets: Sequence[tuple[int, DisplaySet]]) -> bytes:
    """Write display sets, each with its time in milliseconds, as the blocks of a file."""
    blocks = LiveBlockWriter()
    written = [blocks.write(1, time, b"".join(one.segments), is_key=True) for time, one in sets]
    return write_head([track]) + b"".join(written)


def _times(frames: TextFrames, scale: int, origin: int) -> tuple[Int64, Int64, Int64]:
    """Return the starts and ends of the cues that are shown, by their starts, and their numbers."""
    ticks = np.asarray(frames.times, np.int64)
    if not len(ticks):
        return ticks, ticks, ticks
    if (int(np.abs(ticks).max()) + LONGEST_CUE_SECONDS * 10**9 // scale) * scale > LONGEST:
        raise TooLargeError("timestamps of more than a hundred years")
    last = UNKNOWN_DURATION if frames.last_duration is None else frames.last_duration
    durations = np.append(np.asarray(frames.durations, np.int64), last)
    order = np.argsort(ticks, kind="stable")
    ticks, durations = ticks[order], durations[order]
    until_next = np.append(np.diff(ticks), LONGEST_CUE_SECONDS * 10**9 // scale)
    unknown = np.minimum(until_next, UNKNOWN_CUE_SECONDS * 10**9 // scale)
    durations = np.where(durations == UNKNOWN_DURATION, unknown, durations)
    durations = np.minimum(durations, LONGEST_CUE_SECONDS * 10**9 // scale)
    starts, ends = ((times * scale + 500_000) // 1_000_000 - origin for times in (ticks, ticks + durations))
    shown = ends > starts
    return starts[shown], ends[shown], order[shown]


@dataclass(frozen=True, slots=True)
class _TextDecoder:
    """Converts the blocks of one track to text of WebVTT.

    Attributes:
        stripped: first bytes of all blocks, which the file's blocks lack.
        styles: the named styles of a track of ASS.
    """

    codec: str
    is_compressed: bool
    stripped: bytes
    styles: AssStyles = field(default_factory=dict)

    def decode(self, data: bytes, size: int) -> tuple[str, str]:
        """Convert a block of the given size, and what follows it, to a cue's text and settings.

        Raises:
            MalformedError: the block is cut off or damaged.
            TooLargeError: the text is too large.
        """
        if len(data) < size:
            raise MalformedError("the file is shorter than it was")
        block = data[:size]
        block = self.stripped + (_inflated(block) if self.is_compressed else block)
        text = block.partition(b"\0")[0].decode("utf-8", "replace")
        if self.codec in ASS:
            return event_cue(text, self.styles)
        if self.codec in SUBRIP:
            return subrip_cue(text)
        if self.codec in WEBM:
            settings, text = ([*text.replace("\r\n", "\n").split("\n", 2), "", ""])[1:3]
        else:
            settings = _addition(data, size)
        return without_empty_lines(_TIMESTAMP_TAG.sub("", text)), valid_settings(settings)


def _decoder(track: MatroskaTrack) -> _TextDecoder:
    if track.codec in PICTURES:
        raise UnsupportedError(f"subtitles of type {track.codec!r} are pictures, not text")
    if track.codec not in (*SUBRIP, *ASS, WEBVTT, *WEBM):
        raise UnsupportedError(f"subtitles of type {track.codec[:40]!r}")
    if track.encrypted:
        raise UnsupportedError("its subtitles are encrypted")
    is_unknown = track.compression not in (None, ZLIB) or (track.compression == ZLIB and track.stripped)
    if is_unknown or len(track.stripped) > MAX_STRIPPED_BYTES:
        raise UnsupportedError("its subtitles are compressed in another way than by zlib")
    styles = read_styles(track.private.decode("utf-8", "replace")) if track.codec in ASS else {}
    return _TextDecoder(track.codec, track.compression == ZLIB, track.stripped, styles)


def _inflated(data: bytes, most: int = MAX_TEXT_BYTES) -> bytes:
    """Decompress a block, of which no more than so many bytes are made."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, most)
    except zlib.error as error:
        raise MalformedError(f"compressed subtitles: {error}") from None
    if inflater.unconsumed_tail:
        raise TooLargeError(f"a subtitle of more than {most} bytes")
    return text


def _addition(data: bytes, at: int) -> str:
    """Return the settings of a WebVTT cue: the first line of the addition to its block."""
    try:
        while True:
            one = header(data, at)
            if one.kind not in _IN_GROUP:
                return ""
            if one.kind == ids.BLOCK_ADDITIONS:
                break
            at = one.end
        for more in children(data, one.payload, one.end):
            parts = {part.kind: part for part in children(data, more.payload, more.end)}
            number = parts.get(ids.BLOCK_ADD_ID)
            added = parts.get(ids.BLOCK_ADDITIONAL)
            # §5.1.3.5.2.3: 1 is the codec's own addition, and the default
            if added is not None and (number is None or unsigned(data, number) == 1):
                return data[added.payload : added.end].decode("utf-8", "replace").partition("\n")[0]
    except MediaError:  # the addition is cut off
        pass
    return ""

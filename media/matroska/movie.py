"""A Matroska file as a movie: its tracks with the tables that a ``moov`` would have."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.matroska.blocks import KEY, Frames, MatroskaFile, MatroskaLimits, TextFrames, read_blocks
from media.matroska.decodable_entries import BITMAP_HEADER, PRORES_HEADER, WAVPACK, facts_or_obstacle
from media.matroska.located_tracks import sample_tables
from media.matroska.stripped_frames import StrippedFrames
from media.matroska.text_blocks import display_sets, is_caption, text_blocks
from media.matroska.timing import LONGEST, SECOND, frames_in_turn, picture_times, sound_times
from media.matroska.tracks import AUDIO, SUBTITLES, VIDEO, MatroskaTrack
from media.matroska.wavpack_frames import WavPackFrames, count_blocks
from media.mp4.codecs.decodable_entry import codec_of_fourcc
from media.mp4.movie.assembled_samples import AssembledSamples, Read
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.movie import Movie, Track
from media.mp4.movie.sample_table_writer import (
    Reserve,
    TableRoom,
    TrackStart,
    edit_lists,
    presentation_origin,
    reserve_nothing,
)
from media.mp4.movie.track_box import turning_matrix
from media.mp4.text.chapters import printable
from media.mpeg.coded_order import CodedPictures

MAGIC = b"\x1a\x45\xdf\xa3"
"""First bytes of a Matroska file: the ID of the EBML header."""

_TERMINOLOGICAL = {
    "alb": "sqi",
    "arm": "hye",
    "baq": "eus",
    "bur": "mya",
    "chi": "zho",
    "cze": "ces",
    "dut": "nld",
    "fre": "fra",
    "geo": "kat",
    "ger": "deu",
    "gre": "ell",
    "ice": "isl",
    "mac": "mkd",
    "mao": "mri",
    "may": "msa",
    "per": "fas",
    "rum": "ron",
    "slo": "slk",
    "tib": "bod",
    "wel": "cym",
}
"""Languages whose codes in ISO 639-2/T, which MP4 has, differ from those in ISO 639-2/B."""

_THREE_LETTERS = re.compile(r"[a-z]{3}")

NAME_CHARACTERS = 256
"""Most characters of a track's name that are kept, for menus."""

FIRST_FRAME_BYTES = 256 << 10
"""Most bytes of a track's first frame that are parsed: some frames of uncompressed sound are as large."""


@dataclass(frozen=True, slots=True)
class MatroskaMovie:
    """The tracks of a Matroska file with their sample tables.

    Attributes:
        cut_short: whether the file ends within a cluster.
        damaged: whether a part of the file couldn't be read.
        assembled: samples that must be assembled because the file lacks some of their bytes; or None.
    """

    movie: Movie
    cut_short: bool
    damaged: bool
    assembled: AssembledSamples | None


class _Stripped:
    """Assigns positions behind the file's end to frames that lack some bytes in the file.

    Args:
        size: the file's length in bytes.
    """

    def __init__(self, size: int) -> None:
        self._end = size
        self._begins: list[int] = []
        self._tracks: list[StrippedFrames | WavPackFrames] = []

    @property
    def assembled(self) -> AssembledSamples | None:
        return AssembledSamples(self._begins, self._tracks) if self._tracks else None

    def add(self, track: StrippedFrames | WavPackFrames) -> tuple[Int64, Int64]:
        """Add a track's frames; return their assigned offsets and their sizes."""
        self._begins.append(self._end)
        self._tracks.append(track)
        offsets = np.cumsum(track.sizes) - track.sizes + self._end
        self._end += track.size
        return offsets, track.sizes


def read_matroska(
    read: Read, size: int, limits: MatroskaLimits, reserve: Reserve = reserve_nothing
) -> MatroskaMovie:
    """Read a Matroska file.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.
        reserve: called before memory is allocated for frames.

    Raises:
        MalformedError: the file violates its format.
        UnsupportedError: the file is encrypted.
        TooLargeError: a limit is exceeded.
        OSError: the file can't be read.
    """
    found = read_blocks(read, size, limits, reserve)
    room = TableRoom(limits.table_bytes)
    stripped = _Stripped(size)
    tracks: list[Track] = []
    starts: list[TrackStart | None] = []
    wanted = [track for track in found.tracks if track.kind in (VIDEO, AUDIO)]
    for track in sorted(wanted, key=lambda track: not track.default):
        frames = found.frames.pop(track.number, Frames())
        one, start = _described(track, frames, found), None
        try:
            one, start = _with_samples(one, track, frames, found, read, room, stripped)
        except TooLargeError:
            raise
        except MediaError as error:
            one = replace(one, obstacle=str(error))
        tracks.append(one)
        starts.append(start)
    known = [start for start in starts if start is not None]
    timescale, edits = edit_lists(known)
    lists = iter(edits)
    placed = [
        one if start is None else replace(one, edits=next(lists))
        for one, start in zip(tracks, starts, strict=True)
    ]
    origin = round(presentation_origin(known) * 1000)
    placed += [_text_track(track, found, origin) for track in found.tracks if track.kind == SUBTITLES]
    chapters = tuple((start - origin, title) for start, title in found.chapters)
    movie = Movie(timescale, tuple(placed), fragmented=False, chapters=chapters)
    return MatroskaMovie(movie, found.cut_short, found.damaged, stripped.assembled)


def _described(track: MatroskaTrack, frames: Frames, found: MatroskaFile) -> Track:
    """Describe a track without its samples, except for their number."""
    width, height = track.shown_size
    language, extended_language = _languages(track)
    # Not Python's max, which holds the GIL while it compares a million numbers.
    last = int(np.ptp(np.asarray(frames.times, np.int64))) if len(frames) else 0
    return Track(
        track_id=track.number,
        handler={VIDEO: b"vide", AUDIO: b"soun"}.get(track.kind, b"subt"),
        # §5.1.4.1.5: of several pictures the first is shown.
        enabled=track.enabled and (track.default or track.kind == VIDEO),
        timescale=1000,
        duration=last * found.timestamp_scale // 1_000_000,
        language=language,
        matrix=turning_matrix(track.rotation, (width, height), is_mirrored=track.is_mirrored),
        display_width=width,
        display_height=height,
        sample_entries=(),
        edits=(),
        tables={b"stsz": memoryview(struct.pack(">III", 0, 1, len(frames)))},
        self_contained=True,
        extended_language=extended_language,
        name=printable(track.name[:NAME_CHARACTERS].replace("\n", " ")),
        roles=tuple(role for role, given in _roles(track) if given),
    )


def _roles(track: MatroskaTrack) -> Iterator[tuple[str, bool]]:
    """Yield DASH roles (ISO/IEC 23009-1 §5.8.5.5), and whether a track has them by its flags (§5.1.4.1)."""
    yield "forced-subtitle", track.forced and track.kind == SUBTITLES
    yield "caption", track.hearing_impaired or is_caption(track)
    yield "description", track.visual_impaired
    yield "commentary", track.commentary
    yield "dub", track.dubbed


def _text_track(track: MatroskaTrack, found: MatroskaFile, origin: int) -> Track:
    """Describe a track of subtitles with its cues.

    Args:
        origin: milliseconds of the file at which its presentation begins.
    """
    frames = found.frames.get(track.number)
    one = replace(_described(track, Frames(), found), tables={})
    frames = frames if isinstance(frames, TextFrames) else TextFrames()
    one = replace(one, display_sets=display_sets(track, frames, found.timestamp_scale, origin))
    try:
        return replace(one, text=text_blocks(track, frames, found.timestamp_scale, origin))
    except MediaError as error:
        return replace(one, obstacle=str(error))


def _languages(track: MatroskaTrack) -> tuple[str, str]:
    """Return a track's language as three letters of ISO 639-2/T, and the BCP 47 tag that says more.

    Muxers have written countries behind the three letters, too, and tags of two letters in their place.
    """
    first = track.language.partition("-")[0]
    tag = track.extended_language or ("" if track.language == first else track.language)
    if _THREE_LETTERS.fullmatch(first):
        return _TERMINOLOGICAL.get(first, first), tag
    return "und", tag or track.language


def _presented(track: MatroskaTrack, read: Read, frames: Frames) -> Int64:
    """Return when pictures in the manner of AVI are presented, whose times may be those of decoding."""
    ticks = np.asarray(frames.times, np.int64)
    samples = StrippedFrames(track.stripped, frames)
    sizes = samples.sizes

    def read_frames(offset: int, length: int) -> bytes:
        return samples.read(read, offset, offset + length)

    name = codec_of_fourcc(track.private[16:20]) or ""
    headers = track.private[BITMAP_HEADER:]
    try:
        pictures = CodedPictures(name, read_frames, np.cumsum(sizes) - sizes, sizes, headers)
        return pictures.presented(ticks, np.asarray(frames.flags) & KEY == KEY)
    except (MalformedError, UnsupportedError):
        return ticks


def _with_samples(
    one: Track,
    track: MatroskaTrack,
    frames: Frames,
    found: MatroskaFile,
    read: Read,
    room: TableRoom,
    stripped: _Stripped,
) -> tuple[Track, TrackStart | None]:
    """Return a track with its samples and its codec's configuration, and its start."""
    if not len(frames):  # a film can be played without an audio track that has no frames
        return replace(one, obstacle="it has no samples"), None
    first = track.stripped + read(frames.offsets[0], min(frames.sizes[0], FIRST_FRAME_BYTES))
    ticks, scale = np.asarray(frames.times, np.int64), found.timestamp_scale
    if (int(np.abs(ticks).max()) + (frames.last_duration or 0)) * scale > LONGEST:
        raise TooLargeError("timestamps of more than a hundred years")
    seconds = int(ticks.max() - ticks.min()) * scale / SECOND
    facts, obstacle = facts_or_obstacle(track, first, (len(frames) - 1) / seconds if seconds else 0.0)
    flags = np.asarray(frames.flags)
    if track.kind == VIDEO:
        if track.codec == "V_MS/VFW/FOURCC":
            ticks = _presented(track, read, frames)
        times = picture_times(ticks, scale, track.default_duration, frames.last_duration)
    else:
        laced, last = flags >> 1, frames.last_duration
        kept = frames_in_turn(ticks, laced, scale, facts.rate, facts.frame_samples)
        if kept is not None:
            frames = frames.chosen(kept)
            ticks, laced, flags = ticks[kept], laced[kept], flags[kept]
        times = sound_times(ticks, laced, scale, facts.rate, facts.frame_samples, last)
    # §5.1.4.1.24: the decoder's output before the intended audio
    zero = times.zero - round(track.codec_delay * times.timescale / SECOND)
    places = np.asarray(frames.offsets, np.int64), np.asarray(frames.sizes)
    prefix = track.stripped + (PRORES_HEADER if track.codec == "V_PRORES" else b"")
    if prefix:
        places = stripped.add(StrippedFrames(prefix, frames))
    elif track.codec == WAVPACK:
        places = stripped.add(WavPackFrames(track.private, count_blocks(first), frames))
    tables = sample_tables(places, times, flags & KEY == KEY, room)
    start = TrackStart(times.timescale, zero, zero + int(times.shown[0]))
    whole = replace(
        one,
        timescale=times.timescale,
        duration=int(times.decode[-1]),
        sample_entries=(facts.sample_entry,),
        tables=tables,
        obstacle=obstacle,
    )
    return whole, start

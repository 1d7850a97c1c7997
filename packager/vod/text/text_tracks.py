"""Finds the text tracks of a film, subtitles and captions, and writes their segments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from hashlib import blake2s
from itertools import islice, pairwise

import numpy as np

from media.errors import MediaError, TooLargeError, UnsupportedError
from media.mp4.codecs.sample_entry import vobsub_configuration
from media.mp4.languages import language_tag
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.movie import Track
from media.mp4.movie.sample_table import SampleTable
from media.mp4.text import tx3g, wvtt
from media.ps.title_set import TitleSet
from media.subtitles import webvtt
from media.subtitles.pgs import DisplaySets
from media.subtitles.vobsub import read_index, read_palette, read_subpicture
from media.subtitles.webvtt import Cue
from packager.vod.movie.edit_list import MAX_DELAY_SECONDS, apply_edit_list
from packager.vod.movie.movie_reader import Read
from packager.vod.movie.track_roles import CAPTION, FORCED, roles_of
from packager.vod.movie.versioned_addresses import UNVERSIONED, MediaVersion
from packager.vod.text.cues import TEXT_LIMITS, TIMESCALE, BlockCues, Cues, SampleCues, TextLimits

HANDLERS = (b"sbtl", b"subt", b"text", b"clcp", b"subp")
"""Handlers of tracks of text, and of pictures of text (QuickTime File Format; ISO/IEC 14496-12 §12.6)."""

MAX_PICTURE_SUBTITLES = 8
"""Most tracks of subtitles that are pictures of a film."""

_COLOURS_BYTES = 4

MAX_FILE_BYTES = 16 << 20
"""Most bytes of all segments' text together, where a track is written as one file."""


@dataclass(frozen=True, slots=True)
class TextTrack:
    """A text track of a film as its playlists offer it.

    Attributes:
        name: its part of the address: ``de``, ``en-sdh``, ``de-forced``, ``und`` …
        language: BCP 47 tag; None where none is known.
        title: its title in the file; empty without one.
        default: whether players show it unless the viewer chooses.
        forced: whether it has only text that viewers need who understand the spoken language.
        sdh: whether it describes sounds, too, for viewers who don't hear them.
        file: name of the subtitle file beside the film; empty for a track of the film itself.
        version: the version of the source files, which is part of the segments' addresses.
    """

    name: str
    language: str | None
    title: str
    cues: Cues
    default: bool = False
    forced: bool = False
    sdh: bool = False
    file: str = ""
    version: MediaVersion = UNVERSIONED


@dataclass(frozen=True, slots=True)
class PictureSubtitles:
    """A track of subtitles that are pictures, which encoded renditions have in their own pictures.

    Attributes:
        track_id: the track's number in the file.
        early: milliseconds by which the published media begin before the file's presentation.
        language, title, default, forced, sdh: as those of a text track.
        colours: names the palette in addresses where another file has it; else empty.
    """

    track_id: int
    display_sets: DisplaySets
    early: int
    language: str | None
    title: str
    default: bool
    forced: bool
    sdh: bool
    colours: str = ""

    def of_title_set(self, title_set: TitleSet) -> PictureSubtitles:
        """Return the subtitles with the colours, language and purpose that a DVD's title set tells."""
        told, palette, sets = title_set.stream(self.track_id), title_set.palette, self.display_sets
        found = self
        if told is not None:
            language = told.language or self.language
            found = replace(found, language=language, forced=told.is_forced, sdh=told.is_caption)
        if palette and sets.with_palette is not None:
            name = blake2s(b"".join(palette), digest_size=_COLOURS_BYTES).hexdigest()
            shown = replace(sets, decode=sets.with_palette(palette))
            found = replace(found, display_sets=shown, colours=f"c{name}")
        return found


def picture_subtitles(
    tracks: Iterable[Track], movie_timescale: int, lead_in: Fraction
) -> tuple[PictureSubtitles, ...]:
    """Return the tracks of subtitles that are pictures, as many as are offered.

    Args:
        movie_timescale: ticks per second of their edits' durations.
        lead_in: seconds by which the published media begin before the file's presentation.
    """
    found = (
        PictureSubtitles(
            track.track_id,
            sets,
            round(lead_in * TIMESCALE),
            language_tag(track.language, track.extended_language),
            track.name,
            track.enabled,
            *_purposes(track),
        )
        for track in tracks
        if (sets := track.display_sets or _vobsub(track, movie_timescale)) is not None
    )
    return tuple(islice(found, MAX_PICTURE_SUBTITLES))


def _vobsub(track: Track, movie_timescale: int) -> DisplaySets | None:
    """Return the subtitles of a track of VobSub in MP4, which aren't read yet; None of any other track."""
    if [entry[4:8] for entry in track.sample_entries] != [b"mp4s"] or not track.self_contained:
        return None
    try:
        told = vobsub_configuration(track.sample_entries[0])
        # Some releases of ffmpeg write the text of Matroska here.
        index = read_index(told) or read_palette(told, int(track.display_width), int(track.display_height))
        table = SampleTable(track.tables, 1, TEXT_LIMITS.samples)
        placement = apply_edit_list(track.edits, movie_timescale, track.timescale)
    except MediaError:  # a film is worth seeing without it
        return None
    count, shift = len(table), placement.delay - placement.media_start
    if index is None or not count or abs(shift) > MAX_DELAY_SECONDS * track.timescale:
        return None
    samples = table.samples(0, count)
    starts = (samples.decode_time[:-1] + shift) * TIMESCALE // track.timescale
    return DisplaySets(starts, samples.offset, samples.size, partial(read_subpicture, index=index))


def with_name(track: TextTrack, taken: Iterable[str]) -> TextTrack:
    """Return a track with a unique name, made from its language and its purpose."""
    flags = ("-forced" if track.forced else "") + ("-sdh" if track.sdh else "")
    name, names, number = f"{track.language or 'und'}{flags}", set(taken), 1
    base = name
    while name in names:
        number += 1
        name = f"{base}-{number}"
    return replace(track, name=name)


def embedded_text_tracks(
    tracks: Sequence[Track],
    movie_timescale: int,
    times: Int64,
    lead_in: Fraction,
    limits: TextLimits = TEXT_LIMITS,
) -> tuple[tuple[TextTrack, ...], tuple[str, ...]]:
    """Choose the text tracks of a file.

    Args:
        movie_timescale: ticks per second of their edits' durations.
        times: when each of the film's segments begins in milliseconds, and behind them the end.
        lead_in: seconds by which the published media begin before the file's presentation.

    Returns:
        The tracks, and a line for each that can't be offered.
    """
    chapters = {track.chapter_track for track in tracks}
    found: list[TextTrack] = []
    left_out: list[str] = []
    for track in tracks:
        if track.handler not in HANDLERS or track.track_id in chapters:
            continue
        if not track.sample_entries and not track.obstacle and track.text is None:
            continue
        if [entry[4:8] for entry in track.sample_entries[:1]] == [b"text"] and not track.enabled:
            continue  # chapters, too, or notes: QuickTime shows no such text
        try:
            if len(found) == limits.tracks:
                raise TooLargeError(f"more than {limits.tracks} text tracks")
            one = _text_track(track, _cues(track, movie_timescale, times, lead_in, limits))
        except MediaError as error:  # a film is worth seeing without it
            left_out.append(f"track {track.track_id}: {error}")
        else:
            found.append(with_name(one, [other.name for other in found]))
    return tuple(found), tuple(left_out)


def _cues(
    track: Track, movie_timescale: int, times: Int64, lead_in: Fraction, limits: TextLimits
) -> SampleCues | BlockCues:
    """Return the cues of a track, which aren't read yet."""
    if track.obstacle:
        raise UnsupportedError(track.obstacle)
    if track.text is not None:
        if len(track.text.starts) > limits.samples:
            raise TooLargeError(f"{len(track.text.starts)} subtitles: more than {limits.samples}")
        blocks = BlockCues(track.text, round(lead_in * TIMESCALE), limits)
        blocks.require_few(times)
        return blocks
    kind = track.sample_entries[0][4:8]
    if kind not in (*tx3g.SAMPLE_ENTRIES, b"wvtt"):
        raise UnsupportedError(f"subtitles of type {kind.decode('latin-1')!r}")
    if not track.self_contained:
        raise UnsupportedError("its media are in another file")
    table = SampleTable(track.tables, len(track.sample_entries), limits.samples)
    if len(table) == 0:
        raise UnsupportedError("it has no samples")
    placement = apply_edit_list(track.edits, movie_timescale, track.timescale)
    return SampleCues(table, track.timescale, placement, round(lead_in * track.timescale), kind, limits)


def _text_track(track: Track, cues: Cues) -> TextTrack:
    forced, sdh = _purposes(track)
    return TextTrack(
        name="",
        language=language_tag(track.language, track.extended_language),
        title=track.name,
        cues=cues,
        default=track.enabled,
        forced=forced,
        sdh=sdh,
    )


def _purposes(track: Track) -> tuple[bool, bool]:
    """Return whether a track is forced, and whether it describes sounds, too."""
    entry = track.sample_entries[0] if track.sample_entries else b""
    roles = roles_of(track)
    return FORCED in roles or tx3g.all_forced(entry), CAPTION in roles


def segment_times(tracks: Iterable[tuple[Sequence[int] | Int64, int]]) -> Int64:
    """Return the times at which text is cut: of the track that ends last, so that text covers all media.

    Args:
        tracks: of each when its segments begin in ticks, and behind them the end; and its ticks per second.

    Returns:
        When each segment begins in milliseconds, the first at 0, and behind them the end.
    """
    times, timescale = max(tracks, key=lambda one: Fraction(int(one[0][-1]), one[1]))
    end = max(1, math.ceil(Fraction(int(times[-1]) * TIMESCALE, timescale)))
    # Seconds and the rest of each by themselves, so that no product leaves 64 bits.
    seconds, rest = np.divmod(np.asarray(times[1:-1], np.int64), timescale)
    cuts = seconds * TIMESCALE + (2 * rest * TIMESCALE + timescale) // (2 * timescale)
    within = cuts[(cuts > 0) & (cuts < end)]
    return np.unique(np.concatenate(([0], within, [end]))).astype(np.int64)


def webvtt_segment(
    track: TextTrack,
    times: Int64,
    number: int,
    read: Read,
    begin: int | None = None,
    until: int | None = None,
) -> bytes | None:
    """Write a segment of a text track as WebVTT; None where there is none of that number.

    A cue that is shown at a cut is in both segments, whole (RFC 8216 §3.5).

    Args:
        times: when each of the film's segments begins in milliseconds, and behind them the end.
        read: reads from the film's file; it may block.
        begin: milliseconds before which no cue may begin, for a clip; else None.
        until: milliseconds at which all cues end, where another clip follows; else None.

    Raises:
        MediaError: the segment exceeds the limits.
        OSError: the file can't be read.
    """
    if not 0 <= number < len(times) - 1:
        return None
    first, end = int(times[number]), int(times[number + 1])
    if begin is None:
        return webvtt.segment(track.cues.between(read, first, end), 0)
    if begin >= end:
        return None
    end = end if until is None else min(end, until)
    if max(first, begin) >= end:
        return None
    cues = [
        replace(cue, start=max(cue.start, begin)) for cue in track.cues.between(read, max(first, begin), end)
    ]
    if until is None:
        return webvtt.segment(cues, 0)
    # The same clock, but stated at another time than 0: with 0 hls.js doesn't wait until it knows when the
    # media behind a discontinuity begin, and assigns the cues to the first media.
    return webvtt.segment([replace(cue, end=min(cue.end, until)) for cue in cues], 1, 1)


def mp4_segment(
    track: TextTrack, times: Int64, number: int, read: Read, clip: tuple[int, int] | None = None
) -> bytes | None:
    """Write a segment of a text track as a fragment of MP4; None where there is none of that number.

    Args:
        times: when each of the film's segments begins in milliseconds, and behind them the end.
        read: reads from the film's file; it may block.
        clip: begin and end of a clip in milliseconds, at which cues are cut; else None.

    Raises:
        MediaError: the segment exceeds the limits.
        OSError: the file can't be read.
    """
    if not 0 <= number < len(times) - 1:
        return None
    begin, end = int(times[number]), int(times[number + 1])
    if clip is not None:
        begin, end = max(begin, clip[0]), min(end, clip[1])
    if begin >= end:
        return None
    return wvtt.fragment(track.cues.between(read, begin, end), begin, end, number + 1)


def webvtt_file(
    track: TextTrack, times: Int64, lead_in: Fraction, read: Read, limits: TextLimits = TEXT_LIMITS
) -> bytes:
    """Write a whole track as one file, by the time of the film's own file.

    Args:
        times: of its segments, which bound what is written.
        lead_in: seconds by which the published media begin before what the file presents.
        read: reads from the file; it may block.
        limits: most cues and bytes of the file.

    Raises:
        MediaError: the segment exceeds the limits.
        OSError: the film's file can't be read.
    """
    early = round(lead_in * TIMESCALE)
    written: dict[Cue, None] = {}
    length = count = 0
    for begin, end in pairwise(times.tolist()):
        cues = track.cues.between(read, begin, end)
        written.update(dict.fromkeys(cues))
        length, count = length + sum(len(cue.text) for cue in cues), count + len(cues)
        if count > limits.file_cues:
            raise TooLargeError(f"a file of more than {limits.file_cues} cues")
        if length > MAX_FILE_BYTES:
            raise TooLargeError(f"a file of more than {MAX_FILE_BYTES} bytes")
    shown = [cue for cue in written if cue.end > early]
    return webvtt.write_file(
        Cue(max(cue.start - early, 0), cue.end - early, cue.text, cue.settings) for cue in shown
    )

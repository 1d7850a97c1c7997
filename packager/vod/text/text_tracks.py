"""Finds the text tracks of a film, subtitles and captions, and writes their segments.

A film's own text is read sample by sample when a segment is asked for; that of a file beside it is there
as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Protocol

import numpy as np

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.mp4 import tx3g, wvtt
from media.mp4.languages import language_tag
from media.mp4.movie import Track
from media.mp4.sample_table import Int64, SampleTable
from media.subtitles import webvtt
from media.subtitles.webvtt import Cue
from packager.vod.movie.edit_list import Placement, apply_edit_list
from packager.vod.movie.movie_reader import Read
from packager.vod.movie.versioned_addresses import UNVERSIONED, MediaVersion

TIMESCALE = wvtt.TIMESCALE
"""Ticks per second of all text tracks, whatever clock the file's have."""

HANDLERS = (b"sbtl", b"subt", b"text", b"clcp", b"subp")
"""Handlers of tracks of text, and of pictures of text (QuickTime File Format; ISO/IEC 14496-12 §12.6)."""

_SDH = ("sdh", "hearing", "closed captions", "(cc)", "[cc]")
"""Words of a track's name that say that it is for who doesn't hear."""

_SEGMENT_BYTES = 600
_CUE_BYTES = 200
"""Bytes of a segment beside its cues' text, and of a cue beside its text; only for declared bandwidths."""


@dataclass(frozen=True, slots=True)
class TextLimits:
    """The limits of the text of a film.

    Attributes:
        tracks: most text tracks of one file.
        samples: most samples of one text track.
        sample_bytes: largest sample; a larger one is left out.
        segment_cues: most cues of one segment.
        segment_bytes: most bytes of a segment in MP4, which repeats what is shown together at each change.
        file_bytes: most bytes of all segments' text together, where a track is written as one file.
        file_cues: most cues of all segments together likewise; one counts in each that it is shown in.
    """

    tracks: int = 32
    samples: int = 1 << 17
    sample_bytes: int = 8 << 10
    segment_cues: int = 1000
    segment_bytes: int = 8 << 20
    file_bytes: int = 16 << 20
    file_cues: int = 1 << 18


TEXT_LIMITS = TextLimits()


class Cues(Protocol):
    """The cues of one track, on the timeline of the published media in milliseconds."""

    def between(self, read: Read, begin: int, end: int, /) -> list[Cue]:
        """Return the cues of which something is shown between two times, in order."""

    def bandwidth(self, times: Int64) -> int:
        """Return the peak bit rate in bit/s of segments between times that follow each other."""


@dataclass(frozen=True, slots=True)
class TextTrack:
    """A text track of a film as its playlists offer it.

    Attributes:
        name: its part of the address: ``de``, ``en-sdh``, ``de-forced``, ``und`` …
        language: BCP 47 tag; None where none is known.
        title: what the file calls it; empty where it doesn't.
        default: whether it is shown where nobody chooses.
        forced: whether it has only what has to be read by who understands the sound.
        sdh: whether it tells of sounds, too, for who doesn't hear.
        file: name of the file beside the film that it is from; empty of the film's own.
        version: of the files that its segments are made of, which their addresses have in them.
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
    lead_in: Fraction,
    left_out: list[str],
    limits: TextLimits = TEXT_LIMITS,
) -> tuple[TextTrack, ...]:
    """Choose the text tracks of a file.

    Args:
        movie_timescale: ticks per second of their edits' durations.
        lead_in: seconds by which the published media begin before the file's presentation.
        left_out: gets a line for each that can't be offered.
    """
    chapters = {track.chapter_track for track in tracks}
    found: list[TextTrack] = []
    for track in tracks:
        if track.handler not in HANDLERS or track.track_id in chapters or not track.sample_entries:
            continue
        if track.sample_entries[0][4:8] == b"text" and not track.enabled:
            continue  # chapters, too, or notes: QuickTime shows no such text
        try:
            if len(found) == limits.tracks:
                raise TooLargeError(f"more than {limits.tracks} text tracks")
            one = _text_track(track, movie_timescale, lead_in, limits)
        except MediaError as error:  # a film is worth seeing without it
            left_out.append(f"track {track.track_id}: {error}")
        else:
            found.append(with_name(one, [other.name for other in found]))
    return tuple(found)


def _text_track(track: Track, movie_timescale: int, lead_in: Fraction, limits: TextLimits) -> TextTrack:
    kind = track.sample_entries[0][4:8]
    if kind not in (*tx3g.SAMPLE_ENTRIES, b"wvtt"):
        raise UnsupportedError(f"subtitles of type {kind.decode('latin-1')!r}")
    if not track.self_contained:
        raise UnsupportedError("its media are in another file")
    table = SampleTable(track.tables, len(track.sample_entries), limits.samples)
    if len(table) == 0:
        raise UnsupportedError("it has no samples")
    placement = apply_edit_list(track.edits, movie_timescale, track.timescale)
    named = track.name.lower()
    return TextTrack(
        name="",
        language=language_tag(track.language, track.extended_language),
        title=track.name,
        cues=SampleCues(table, track.timescale, placement, round(lead_in * track.timescale), kind, limits),
        default=track.enabled,
        forced="forced-subtitle" in track.roles or tx3g.all_forced(track.sample_entries[0]),
        sdh="caption" in track.roles or any(word in named for word in _SDH),
    )


@dataclass(frozen=True, slots=True)
class SampleCues:
    """The cues of a text track of an MP4, whose samples are read when they are wanted.

    Attributes:
        timescale: ticks per second of the track.
        placement: what the track's edit list says.
        origin: ticks by which the whole presentation moves.
        kind: type of the sample entry.
        limits: what a segment may have.
    """

    table: SampleTable
    timescale: int
    placement: Placement
    origin: int
    kind: bytes
    limits: TextLimits

    @property
    def shift(self) -> int:
        """Ticks from the media's own timeline to that of the presentation."""
        return self.placement.delay + self.origin - self.placement.media_start

    def between(self, read: Read, begin: int, end: int) -> list[Cue]:
        """Read the samples that are shown between two times; one that can't be read is left out."""
        start, stop = self._numbers(begin, end)
        if stop - start > self.limits.segment_cues:
            raise TooLargeError(f"{stop - start} samples of text in one segment")
        samples = self.table.samples(start, stop)
        times = [self._milliseconds(ticks) for ticks in self.table.decode_times(start, stop).tolist()]
        found: list[Cue] = []
        places = zip(samples.offset.tolist(), samples.size.tolist(), pairwise(times), strict=True)
        for offset, size, (first, last) in places:
            if last > max(begin, first) and first < end and size <= self.limits.sample_bytes:
                found += [Cue(first, last, *shown) for shown in self._shown(read(offset, size))]
                if len(found) > self.limits.segment_cues:
                    raise TooLargeError(f"more than {self.limits.segment_cues} cues in one segment")
        return found

    def sizes(self, times: Int64) -> Int64:
        """Estimate the bytes of each segment by those of its samples."""
        count = len(self.table)
        ends = self.table.decode_times(0, count)[1:]
        totals = np.append(0, self.table.sizes(0, count).cumsum())
        first = ends.searchsorted(times * self.timescale // TIMESCALE - self.shift)
        lengths: Int64 = np.diff(totals[first]) + (np.diff(first) + 1) * _CUE_BYTES
        return lengths

    def bandwidth(self, times: Int64) -> int:
        """Return the peak bit rate in bit/s of segments between times that follow each other."""
        return _peak_rate(self.sizes(times), times)

    def _numbers(self, begin: int, end: int) -> tuple[int, int]:
        """Find the first sample that may be shown between two times, and the first one behind them."""
        first, last = (time * self.timescale // TIMESCALE - self.shift for time in (begin, end))
        start = max(self.table.decoded_by(first) - 1, 0)
        return start, max(self.table.decoded_by(last + 1), start)

    def _milliseconds(self, ticks: int) -> int:
        if self.placement.media_end is not None:
            ticks = min(ticks, self.placement.media_end)
        return max(0, round(Fraction((ticks + self.shift) * TIMESCALE, self.timescale)))

    def _shown(self, sample: bytes) -> list[tuple[str, str]]:
        try:
            if self.kind == b"wvtt":
                return wvtt.read_sample(sample)
            text = tx3g.cue_text(sample)
        except (MalformedError, TooLargeError):
            return []
        return [(text, "")] if text else []


class FileCues:
    """The cues of a subtitle file, all of which are in memory, in arrays.

    Args:
        cues: in the order of their starts.

    Attributes:
        nbytes: memory that they take, in bytes.
    """

    def __init__(self, cues: Sequence[Cue]) -> None:
        self._starts = np.array([cue.start for cue in cues], np.int64)
        self._ends = np.array([cue.end for cue in cues], np.int64)
        self._latest = np.maximum.accumulate(self._ends)
        # Text and settings of each cue, one behind the other, and where each ends.
        pieces = [piece.encode() for cue in cues for piece in (cue.text, cue.settings)]
        self._text = b"".join(pieces)
        self._stops = np.cumsum([0, *map(len, pieces)], dtype=np.int32)
        over = np.sort(self._ends).searchsorted(self._starts, "right")
        self._most_at_once = int((np.arange(1, len(cues) + 1) - over).max(initial=0))
        self.nbytes = len(self._text) + 3 * self._starts.nbytes + self._stops.nbytes + _CUE_BYTES

    @property
    def _bytes(self) -> Int64:
        """Bytes of text and settings of each cue."""
        return np.diff(self._stops[::2]).astype(np.int64)

    def between(self, begin: int, end: int) -> list[Cue]:
        """Return the cues of which something is shown between two times."""
        stop = int(self._starts.searchsorted(end, "left"))
        start = int(self._latest.searchsorted(begin, "right"))
        shown = np.flatnonzero(self._ends[start:stop] > begin)
        return [self._cue(start + number) for number in shown.tolist()]

    def _cue(self, number: int) -> Cue:
        first, middle, last = self._stops[2 * number : 2 * number + 3].tolist()
        text, settings = self._text[first:middle].decode(), self._text[middle:last].decode()
        return Cue(int(self._starts[number]), int(self._ends[number]), text, settings)

    def sizes(self, times: Int64) -> Int64:
        """Count the bytes of each segment."""
        counts, lengths = self._totals(times)
        return lengths + counts * _CUE_BYTES

    def require_modest(self, times: Int64, limits: TextLimits) -> None:
        """Make sure that no segment would be too large, however many cues are shown at a time.

        Raises:
            TooLargeError: one would be.
        """
        counts, lengths = self._totals(times)
        if len(counts) and int(counts.max()) > limits.segment_cues:
            raise TooLargeError(f"{int(counts.max())} cues in one segment: more than {limits.segment_cues}")
        # In MP4 each change repeats what is shown then: no more than at any time, and at most all cues.
        together = min(self._most_at_once * (self._bytes.max(initial=0) + wvtt.CUE_BYTES), 1 << 40)
        repeated = np.minimum(lengths + counts * wvtt.CUE_BYTES, together)
        if len(counts) and int(((2 * counts + 1) * repeated).max()) > limits.segment_bytes:
            raise TooLargeError("too many cues are shown together for too long")

    def _totals(self, times: Int64) -> tuple[Int64, Int64]:
        """Count cues and bytes of text of each segment; a cue counts in each that it is shown in."""
        first = np.maximum(times.searchsorted(self._starts, "right") - 1, 0)
        last = np.minimum(times.searchsorted(self._ends, "left"), len(times) - 1)
        within = last > first
        counts, lengths = np.zeros(len(times), np.int64), np.zeros(len(times), np.int64)
        for totals, each in ((counts, np.ones_like(self._bytes)), (lengths, self._bytes)):
            np.add.at(totals, first[within], each[within])
            np.subtract.at(totals, last[within], each[within])
        return counts.cumsum()[:-1], lengths.cumsum()[:-1]


@dataclass(frozen=True, slots=True)
class CueFacts:
    """Facts of a subtitle file for a film's playlists, kept apart from its cues.

    Attributes:
        refusal: why the film doesn't offer it; empty where it does.
        bandwidth: the peak bit rate of its segments, in bit/s.
    """

    refusal: str = ""
    bandwidth: int = 0


def facts_of(cues: FileCues, times: Int64, limits: TextLimits) -> CueFacts:
    """Find out what a film's playlists say of a subtitle file.

    Args:
        times: when each of the film's segments begins, by the time of the cues, and behind them the end.
        limits: what a segment may have.
    """
    try:
        cues.require_modest(times, limits)
    except TooLargeError as error:
        return CueFacts(str(error))
    return CueFacts(bandwidth=_peak_rate(cues.sizes(times), times))


@dataclass(frozen=True, slots=True)
class ShiftedCues:
    """Cues of a file that are all shown later by so many milliseconds, and are read when they are wanted.

    Attributes:
        load: reads them; it may block.
        by: milliseconds.
        peak_rate: of the film's segments of them, in bit/s.
    """

    load: Callable[[], FileCues]
    by: int
    peak_rate: int

    def between(self, _: Read, begin: int, end: int, /) -> list[Cue]:
        """Return the cues of which something is shown between two times."""
        shown = self.load().between(begin - self.by, end - self.by)
        if not self.by:
            return shown
        return [Cue(cue.start + self.by, cue.end + self.by, cue.text, cue.settings) for cue in shown]

    def bandwidth(self, _: Int64) -> int:
        """Return the peak bit rate in bit/s of the film's segments."""
        return self.peak_rate


def segment_times(tracks: Iterable[tuple[Sequence[int] | Int64, int]]) -> Int64:
    """Say where text is cut: where the track is that ends last, so that there is text for all that is played.

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
        begin: before which no cue may begin, where it is a clip's; else None.
        until: when all cues end at the latest, where another clip follows; else None.

    Raises:
        MediaError: it is more than it may be.
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
    # The same clock, but told at another time than 0: at that one hls.js doesn't wait until it knows when the
    # media behind a discontinuity begin, and takes the cues to be of the first ones.
    return webvtt.segment([replace(cue, end=min(cue.end, until)) for cue in cues], 1, 1)


def mp4_segment(
    track: TextTrack, times: Int64, number: int, read: Read, clip: tuple[int, int] | None = None
) -> bytes | None:
    """Write a segment of a text track as a fragment of MP4; None where there is none of that number.

    Args:
        times: when each of the film's segments begins in milliseconds, and behind them the end.
        read: reads from the film's file; it may block.
        clip: when a clip begins and ends, which has only that of it; else None.

    Raises:
        MediaError: it is more than it may be.
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
        limits: what the file may have.

    Raises:
        MediaError: it is more than it may be.
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
        if length > limits.file_bytes:
            raise TooLargeError(f"a file of more than {limits.file_bytes} bytes")
    shown = [cue for cue in written if cue.end > early]
    return webvtt.write_file(
        Cue(max(cue.start - early, 0), cue.end - early, cue.text, cue.settings) for cue in shown
    )


def _peak_rate(sizes: Int64, times: Int64) -> int:
    """Return the peak bit rate in bit/s of segments of so many bytes of text."""
    return math.ceil(float(((sizes + _SEGMENT_BYTES) * 8 * TIMESCALE / np.diff(times)).max()))

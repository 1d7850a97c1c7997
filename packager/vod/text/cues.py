"""The cues of text tracks of films: of an MP4's samples, of Matroska's blocks, and of subtitle files.

A film's own text is read cue by cue for each requested segment; a file beside the film is read as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Protocol

import numpy as np

from media.errors import MalformedError, TooLargeError
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.sample_table import SampleTable
from media.mp4.text import tx3g, wvtt
from media.subtitles.text_blocks import TextBlocks
from media.subtitles.webvtt import Cue
from packager.vod.movie.edit_list import Placement
from packager.vod.movie.movie_reader import Read

TIMESCALE = wvtt.TIMESCALE
"""Ticks per second of all text tracks, whatever clock the file's have."""

_SEGMENT_BYTES = 600
_CUE_BYTES = 200
"""Bytes of a segment beside its cues' text, and of a cue beside its text; only for declared bandwidths."""

MAX_SAMPLE_BYTES = 8 << 10
"""Largest sample; a larger one is left out."""


@dataclass(frozen=True, slots=True)
class TextLimits:
    """The limits of the text of a film.

    Attributes:
        tracks: most text tracks of one file.
        samples: most samples of one text track.
        segment_cues: most cues of one segment.
        segment_bytes: most bytes of a segment in MP4, which repeats at each change all cues that are shown
            together.
        file_cues: most cues of all segments together in such a file; a cue counts in each segment that shows
            it.
    """

    tracks: int = 32
    samples: int = 1 << 17
    segment_cues: int = 1000
    segment_bytes: int = 8 << 20
    file_cues: int = 1 << 18


TEXT_LIMITS = TextLimits()

BLOCKS_PER_CUE = 8
"""Most blocks that are read for each cue of a segment: of ASS many are drawings, or layers of one text."""


class Cues(Protocol):
    """The cues of one track, on the timeline of the published media in milliseconds."""

    def between(self, read: Read, begin: int, end: int, /) -> list[Cue]:
        """Return the cues of which something is shown between two times, in order."""

    def bandwidth(self, times: Int64) -> int:
        """Return the peak bit rate in bit/s of segments between times that follow each other."""


@dataclass(frozen=True, slots=True)
class SampleCues:
    """The cues of a text track of an MP4, whose samples are read when they are wanted.

    Attributes:
        timescale: ticks per second of the track.
        placement: the placement by the track's edit list.
        origin: ticks by which the whole presentation moves.
        kind: type of the sample entry.
        limits: most cues and bytes of a segment.
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
            if last > max(begin, first) and first < end and size <= MAX_SAMPLE_BYTES:
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


class CueTimes:
    """The times between which each of many cues is shown, and its bytes of text.

    Args:
        starts: milliseconds, never falling.
        ends: milliseconds.
        lengths: bytes of each cue's text and settings.
    """

    def __init__(self, starts: Int64, ends: Int64, lengths: Int64) -> None:
        self._starts, self._ends, self._lengths = starts, ends, lengths.astype(np.int32)
        self._latest = np.maximum.accumulate(ends)

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def nbytes(self) -> int:
        """Memory that they take, in bytes."""
        return 3 * self._starts.nbytes + self._lengths.nbytes

    def of(self, number: int) -> tuple[int, int]:
        """Return a cue's start and end in milliseconds."""
        return int(self._starts[number]), int(self._ends[number])

    def between(self, begin: int, end: int) -> list[int]:
        """Return the numbers of the cues of which something is shown between two times."""
        stop = int(self._starts.searchsorted(end, "left"))
        start = int(self._latest.searchsorted(begin, "right"))
        shown: list[int] = (np.flatnonzero(self._ends[start:stop] > begin) + start).tolist()
        return shown

    def sizes(self, times: Int64) -> Int64:
        """Count the bytes of each segment."""
        counts, lengths = self._totals(times)
        return lengths + counts * _CUE_BYTES

    def require_few(self, times: Int64, most: int) -> None:
        """Make sure that no segment has more cues than the given number.

        Raises:
            TooLargeError: one has.
        """
        counts, _ = self._totals(times)
        if len(counts) and int(counts.max()) > most:
            raise TooLargeError(f"{int(counts.max())} cues in one segment: more than {most}")

    def require_modest(self, times: Int64, limits: TextLimits) -> None:
        """Make sure that no segment would be too large, however many cues are shown at a time.

        Raises:
            TooLargeError: one would be.
        """
        self.require_few(times, limits.segment_cues)
        counts, lengths = self._totals(times)
        # In MP4 each change repeats what is shown then: no more than at any time, and at most all cues.
        longest = int(self._lengths.max(initial=0)) + wvtt.CUE_BYTES
        together = min(self._most_at_once() * longest, 1 << 40)
        repeated = np.minimum(lengths + counts * wvtt.CUE_BYTES, together)
        if len(counts) and int(((2 * counts + 1) * repeated).max()) > limits.segment_bytes:
            raise TooLargeError("too many cues are shown together for too long")

    def _most_at_once(self) -> int:
        over = np.sort(self._ends).searchsorted(self._starts, "right")
        return int((np.arange(1, len(self) + 1) - over).max(initial=0))

    def _totals(self, times: Int64) -> tuple[Int64, Int64]:
        """Count cues and bytes of text of each segment; a cue counts in each that it is shown in."""
        first = np.maximum(times.searchsorted(self._starts, "right") - 1, 0)
        last = np.minimum(times.searchsorted(self._ends, "left"), len(times) - 1)
        within = last > first
        counts, lengths = np.zeros(len(times), np.int64), np.zeros(len(times), np.int64)
        for totals, each in ((counts, np.ones_like(self._lengths)), (lengths, self._lengths)):
            np.add.at(totals, first[within], each[within])
            np.subtract.at(totals, last[within], each[within])
        return counts.cumsum()[:-1], lengths.cumsum()[:-1]


def _times_of(cues: Sequence[Cue]) -> CueTimes:
    """Return the times of cues, which are in the order of their starts."""
    lengths = [len(cue.text.encode()) + len(cue.settings) for cue in cues]
    rows = [(cue.start, cue.end, length) for cue, length in zip(cues, lengths, strict=True)]
    starts, ends, sizes = np.array(rows, np.int64).reshape(-1, 3).T
    return CueTimes(starts.copy(), ends.copy(), sizes)


class BlockCues:
    """The cues of a text track of Matroska, whose blocks are read when they are wanted.

    Args:
        origin: milliseconds by which the whole presentation moves.
        limits: most cues and bytes of a segment.
    """

    def __init__(self, blocks: TextBlocks, origin: int, limits: TextLimits) -> None:
        self._blocks, self._origin, self._limits = blocks, origin, limits
        lengths = np.minimum(blocks.sizes, MAX_SAMPLE_BYTES) * blocks.expansion
        self._times = CueTimes(blocks.starts, blocks.ends, lengths)

    def require_few(self, times: Int64) -> None:
        """Make sure that no segment of the film has too many blocks; TooLargeError where one has."""
        self._times.require_few(times - self._origin, BLOCKS_PER_CUE * self._limits.segment_cues)

    def between(self, read: Read, begin: int, end: int) -> list[Cue]:
        """Read the blocks that are shown between two times; one that can't be read is left out."""
        found: dict[Cue, None] = {}  # ASS repeats a text in each layer of its picture
        for number in self._times.between(begin - self._origin, end - self._origin):
            size = int(self._blocks.sizes[number])
            if size > MAX_SAMPLE_BYTES:
                continue
            data = read(int(self._blocks.offsets[number]), size + self._blocks.behind)
            try:
                text, settings = self._blocks.decode(data, size)
            except (MalformedError, TooLargeError):
                continue
            if text:
                first, last = self._times.of(number)
                found[Cue(max(first + self._origin, 0), last + self._origin, text, settings)] = None
        cues = list(found)
        _times_of(cues).require_modest(np.array([begin, end]), self._limits)
        return cues

    def bandwidth(self, times: Int64) -> int:
        """Return the peak bit rate in bit/s of segments between times that follow each other."""
        return _peak_rate(self._times.sizes(times - self._origin), times)


class FileCues:
    """The cues of a subtitle file, all of which are in memory, in arrays.

    Args:
        cues: in the order of their starts.

    Attributes:
        times: the times of the cues.
        nbytes: memory that they take, in bytes.
    """

    def __init__(self, cues: Sequence[Cue]) -> None:
        self.times = _times_of(cues)
        # Text and settings of each cue, one behind the other, and where each ends.
        pieces = [piece.encode() for cue in cues for piece in (cue.text, cue.settings)]
        self._text = b"".join(pieces)
        self._stops = np.cumsum([0, *map(len, pieces)], dtype=np.int32)
        self.nbytes = len(self._text) + self.times.nbytes + self._stops.nbytes + _CUE_BYTES

    def between(self, begin: int, end: int) -> list[Cue]:
        """Return the cues of which something is shown between two times."""
        return [self._cue(number) for number in self.times.between(begin, end)]

    def _cue(self, number: int) -> Cue:
        first, middle, last = self._stops[2 * number : 2 * number + 3].tolist()
        text, settings = self._text[first:middle].decode(), self._text[middle:last].decode()
        return Cue(*self.times.of(number), text, settings)


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
        limits: most cues and bytes of a segment.
    """
    try:
        cues.times.require_modest(times, limits)
    except TooLargeError as error:
        return CueFacts(str(error))
    return CueFacts(bandwidth=_peak_rate(cues.times.sizes(times), times))


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


def _peak_rate(sizes: Int64, times: Int64) -> int:
    """Return the peak bit rate in bit/s of segments of so many bytes of text."""
    return math.ceil(float(((sizes + _SEGMENT_BYTES) * 8 * TIMESCALE / np.diff(times)).max()))

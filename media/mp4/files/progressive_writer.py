"""The head of a progressive MP4: ``ftyp``, ``moov`` and the header of an ``mdat`` whose bytes are elsewhere.

The sample tables refer to runs of samples, between which the data may have other bytes. So concatenated
fragments become the data of a movie without being copied.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.mp4.boxes import box, full_box, media_data_header
from media.mp4.fragments.moof import Sample
from media.mp4.movie.sample_table_writer import MAX_TABLE_TICKS, RunLengths
from media.mp4.movie.track_box import TrackFacts, edit_list, mvhd, trak

MOVIE_TIMESCALE = 90_000
"""Ticks per second of the movie's own durations: those of 24, 25 and 30 frames a second are whole."""

MAX_SAMPLES = 1 << 24
"""Most samples of a track: 99 hours of AAC at 48 kHz, whose table takes 64 MiB."""

WIDE_FROM = 1 << 31
"""Bytes of data from which on offsets take 64 bits: no head fills the rest of what 32 bits reach."""


class TrackTables:
    """The sample table of one track, filled run by run.

    Attributes:
        duration: ticks from the first sample's decode time to the last one's end.
        first_offset: composition offset of the first sample.
    """

    def __init__(self) -> None:
        self.count = 0
        self.duration = 0
        self.first_offset = 0
        self._sizes = array("I")
        self._sync = array("I")
        self._durations = RunLengths()
        self._offsets = RunLengths()
        self._chunks = array("Q")
        self._chunk_lengths = array("I")

    def add(self, decode_time: int, samples: Sequence[Sample], position: int) -> None:
        """Add samples that lie one behind the other.

        Args:
            decode_time: of the first of them, in ticks since that of the track's first sample. Where it isn't
                the end of those before, the last of those lasts until then.
            samples: in decoding order.
            position: of their first byte in the data.

        Raises:
            ValueError: they begin before those before end, there are more than ``MAX_SAMPLES``, or one would
                last longer than ``MAX_TABLE_TICKS``.
        """
        if decode_time < self.duration or self.count + len(samples) > MAX_SAMPLES:
            raise ValueError(f"{len(samples)} samples at {decode_time} don't fit behind {self.duration}")
        gap = decode_time - self.duration if self.count else 0
        longest = max(self._durations.last + gap, max(sample.duration for sample in samples))
        if longest > MAX_TABLE_TICKS:
            raise ValueError(f"a sample of {longest} ticks at {self.duration}")
        if gap:
            self._durations.raise_last(gap)
        if not self.count:
            self.first_offset = samples[0].composition_offset
        self.duration = decode_time
        for sample in samples:
            self.count += 1
            self.duration += sample.duration
            self._sizes.append(sample.size)
            self._durations.add(sample.duration)
            self._offsets.add(sample.composition_offset)
            if sample.is_sync:
                self._sync.append(self.count)
        self._chunks.append(position)
        self._chunk_lengths.append(len(samples))

    def render(self, moved: int, *, wide: bool) -> list[bytes]:
        """Write the boxes behind ``stsd``.

        Args:
            moved: where in the file the data begin.
            wide: whether offsets take 64 bits.
        """
        boxes = [box(b"stts", self._durations.render())]
        if self._offsets.any():
            boxes.append(box(b"ctts", self._offsets.render(version=1)))  # §8.6.1.3: signed from version 1 on
        boxes.append(self._chunk_runs())
        boxes.append(full_box(b"stsz", 0, 0, struct.pack(">II", 0, self.count), _big_endian(self._sizes)))
        chunks = (np.asarray(self._chunks) + moved).astype(">u8" if wide else ">u4")
        count = struct.pack(">I", len(chunks))
        boxes.append(full_box(b"co64" if wide else b"stco", 0, 0, count, chunks.tobytes()))
        if len(self._sync) != self.count:  # §8.6.2: without it every sample is a sync sample
            count = struct.pack(">I", len(self._sync))
            boxes.append(full_box(b"stss", 0, 0, count, _big_endian(self._sync)))
        return boxes

    def _chunk_runs(self) -> bytes:
        """Write ``stsc`` (§8.7.4): runs of chunks with equal numbers of samples."""
        lengths = np.asarray(self._chunk_lengths)
        first = np.flatnonzero(np.diff(lengths.astype(np.int64), prepend=-1))
        table = _rows(first + 1, lengths[first], np.ones(len(first)))
        return full_box(b"stsc", 0, 0, struct.pack(">I", len(first)), table)


@dataclass(frozen=True, slots=True)
class MovieTrack:
    """A track of the movie.

    Attributes:
        start: seconds in the movie at which its first sample is presented. Below 0: samples before the
            movie's beginning are decoded and not shown (an edit list says so).
        until: seconds in the movie from which on nothing is shown; None: all samples are.
    """

    facts: TrackFacts
    start: Fraction
    tables: TrackTables = field(default_factory=TrackTables)
    until: Fraction | None = None

    @property
    def duration(self) -> int:
        """Duration in the movie, in ticks of ``MOVIE_TIMESCALE``."""
        whole = _ticks(self.start + Fraction(self.tables.duration, self.facts.timescale))
        # Rounded down: a tick more would show the beginning of the next picture.
        return whole if self.until is None else min(whole, floor(self.until * MOVIE_TIMESCALE))

    @property
    def is_shown(self) -> bool:
        """Whether the track presents any sample within the movie."""
        return self.duration > _ticks(self.start)

    def render(self, moved: int, *, wide: bool) -> bytes:
        """Write the ``trak``; the arguments are those of ``TrackTables.render``."""
        skipped = round(max(-self.start, Fraction(0)) * self.facts.timescale) + self.tables.first_offset
        empty = [(_ticks(self.start), -1)] if self.start > 0 else []
        shown = self.duration - (empty[0][0] if empty else 0)
        is_edited = empty or skipped or self.until is not None
        edits = edit_list([*empty, (shown, skipped)]) if is_edited else b""
        tables = self.tables.render(moved, wide=wide)
        return trak(
            self.facts, tables, edits=edits, duration=self.duration, media_duration=self.tables.duration
        )


def write_head(tracks: Sequence[MovieTrack], data_size: int) -> bytes:
    """Write everything in front of the data.

    Args:
        tracks: with at least a sample each; their positions count from the first byte of the data.
        data_size: bytes of the data, with those between samples.

    Returns:
        The head; the data follow as they are.
    """
    # §6.2: isom and mp42 promise nothing more than plain tables and edit lists.
    ftyp = box(b"ftyp", b"isom", b"\x00\x00\x02\x00", b"isom", b"mp42")
    media = media_data_header(data_size)
    wide = data_size >= WIDE_FROM
    # The length of the tables doesn't depend on the offsets in them.
    moved = len(ftyp) + len(_moov(tracks, 0, wide=wide)) + len(media)
    return b"".join((ftyp, _moov(tracks, moved, wide=wide), media))


def _moov(tracks: Sequence[MovieTrack], moved: int, *, wide: bool) -> bytes:
    duration = max(track.duration for track in tracks)
    next_id = max(track.facts.track_id for track in tracks) + 1
    header = mvhd(MOVIE_TIMESCALE, duration, next_id)
    return box(b"moov", header, *(track.render(moved, wide=wide) for track in tracks))


def _ticks(seconds: Fraction) -> int:
    return round(max(seconds, Fraction(0)) * MOVIE_TIMESCALE)


def _rows(*columns: NDArray[Any]) -> bytes:
    """Write rows of numbers of 32 bits."""
    table = np.empty((len(columns[0]), len(columns)), ">u4")
    for index, column in enumerate(columns):
        table[:, index] = column
    return table.tobytes()


def _big_endian(values: array[int]) -> bytes:
    return np.asarray(values).astype(f">u{values.itemsize}").tobytes()

"""Chunks of samples: how many each has, and its place in the file (ISO/IEC 14496-12 §8.7.4, §8.7.5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, UnsupportedError
from media.mp4.movie.box_arrays import MARK, Int64, Payload, box_array, box_head, stretches
from media.mp4.movie.chunk_entries import mended_entries
from media.mp4.movie.compact_columns import NarrowColumn, RisingColumn, narrowed, rising
from media.mp4.movie.sample_sizes import SampleSizes

_FARTHEST = 1 << 62
"""Bound of offsets in a file, so that sums with sizes stay inside 64 bits."""


class ChunkTable:
    """The positions of samples in a file: ``stsc`` (§8.7.4), and ``stco`` or ``co64`` (§8.7.5).

    Args:
        tables: payloads by type.
        sizes: of the samples; those without a chunk are left out there.
        descriptions: for each sample entry the first one that is equal.

    Raises:
        MalformedError: a box is missing or cut off, or its entries can't be mended.
        UnsupportedError: the samples use several sample entries.

    Attributes:
        description: index of the sample entry that all samples use, from 0.
    """

    __slots__ = ("_firsts", "_numbers", "_per_chunk", "_places", "_sizes", "description")

    def __init__(self, tables: Mapping[bytes, Payload], sizes: SampleSizes, descriptions: Int64) -> None:
        self._sizes = sizes
        self._places: NDArray[np.unsignedinteger] | RisingColumn = _chunk_places(tables)
        self.description = 0
        firsts = [np.zeros(1, np.int64)]
        rows: NDArray[np.unsignedinteger] = np.zeros((0, 3), ">u4")
        if len(sizes):
            rows = chunk_entries(tables)
            self.description = int(rows[0, 2]) - 1
        # The first chunk of each entry, and how many samples are in its chunks.
        self._numbers: NDArray[np.unsignedinteger] | RisingColumn = rows[:, 0]
        self._per_chunk: NDArray[np.unsignedinteger] | NarrowColumn = rows[:, 1]
        if len(sizes):
            covered = 0
            for begin, end in stretches(0, len(rows)):
                self._check(begin, end, rows[begin:end, 2], descriptions)
                _, chunks, per_chunk = self._entries(begin, end)
                ends = np.cumsum(np.minimum(chunks * per_chunk, len(sizes))) + covered
                firsts.append(ends[MARK - 1 :: MARK].copy())  # of a view all would stay
                covered = int(ends[-1])
            sizes.end_at(covered)
        # Chunks behind the last sample are allowed.
        self._firsts = np.concatenate(firsts)

    @property
    def nbytes(self) -> int:
        """Bytes of memory beside the boxes."""
        return self._firsts.nbytes

    def compact(self) -> int:
        """Keep what is in the boxes in fewer bytes; return how many bytes of memory that takes."""
        if not isinstance(self._places, RisingColumn):
            self._places = rising(self._places, MARK)
        if not isinstance(self._numbers, RisingColumn):
            self._numbers = rising(self._numbers, MARK)
        if not isinstance(self._per_chunk, NarrowColumn):
            self._per_chunk = narrowed(self._per_chunk)
        return self.nbytes + self._places.nbytes + self._numbers.nbytes + self._per_chunk.nbytes

    @property
    def count(self) -> int:
        """The number of chunks that have samples, and of those behind them."""
        return len(self._places)

    def places_and_firsts(self, samples: int) -> tuple[Int64, Int64]:
        """Return the offset of each chunk of so many samples, and the index of its first sample."""
        parts = [self._places_of(*found) for found in self._covering(0, samples)]
        if not parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate([place for place, _ in parts]), np.concatenate([first for _, first in parts])

    def places(self, start: int, stop: int, size: Int64) -> Int64:
        """Return the offsets of a range's samples in the file, by their sizes."""
        parts = [self._places_of(*found) for found in self._covering(start, stop)]
        if not parts:
            return np.zeros(0, np.int64)
        place, first = parts[0]
        if len(parts) > 1:
            place, first = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if len(first) == stop - start and int(first[0]) == start:  # each sample is a chunk of its own
            return place
        into = np.cumsum(size) - size
        # The first chunk may begin before the range.
        before = np.empty(len(first), np.int64)
        before[0] = -self._sizes.sum(int(first[0]), start)
        before[1:] = into[first[1:] - start]
        bounds = np.append(first, stop)
        bounds[0] = start
        return into + np.repeat(place - before, bounds[1:] - bounds[:-1])

    def end_with_last(self, start: int, stop: int) -> bool:
        """Return whether the last chunk of a range is the one with the highest offset."""
        first, last = (int(next(self._covering(at, at + 1))[0][0]) for at in (start, stop - 1))
        end = int(self._places[last : last + 1][0])
        return all(
            int(self._places[first + low : first + high].max()) <= end
            for low, high in stretches(0, last + 1 - first)
        )

    def _places_of(self, chunk: Int64, first: Int64) -> tuple[Int64, Int64]:
        return self._places[chunk].astype(np.int64), first

    def _covering(self, start: int, stop: int) -> Iterator[tuple[Int64, Int64]]:
        """Yield the chunks of a range: their indexes, and those of their first samples."""
        mark = int(self._firsts.searchsorted(start, "right")) - 1
        begin, covered = mark * MARK, int(self._firsts[mark])
        while start < stop and covered < stop:
            first, chunks, per_chunk = self._entries(begin, begin + MARK)
            counts = np.minimum(chunks * per_chunk, len(self._sizes))
            ends = counts.cumsum()
            ends += covered
            used = slice(int(ends.searchsorted(start, "right")), int(ends.searchsorted(stop)) + 1)
            if used.start < len(ends):
                starts = ends[used] - counts[used]
                behind = np.minimum(ends[used], stop)
                yield self._chunks_of(first[used], per_chunk[used], starts, behind, start)
            begin, covered = begin + MARK, int(ends[-1])

    @staticmethod
    def _chunks_of(
        first: Int64, per_chunk: Int64, starts: Int64, behind: Int64, start: int
    ) -> tuple[Int64, Int64]:
        """Return the index and the first sample of the entries' chunks that overlap a range.

        Args:
            first: each entry's first chunk, from 1.
            per_chunk: samples in each of the entry's chunks.
            starts: each entry's first sample.
            behind: the sample behind each entry's last one in the range.
            start: first sample of the range.
        """
        if len(first) == 1:  # all chunks are alike, as in video that ffmpeg has written
            at, each = int(starts[0]), int(per_chunk[0])
            number = np.arange(max(start - at, 0) // each, -(-(int(behind[0]) - at) // each))
            return number + (int(first[0]) - 1), number * each + at
        low = np.maximum(start - starts, 0) // per_chunk
        high = -(-(behind - starts) // per_chunk)
        count = high - low
        if (count == 1).all():
            return first - 1 + low, starts + low * per_chunk
        # Each chunk has a sample at least: there are no more of them than samples.
        number = np.arange(int(count.sum())) + np.repeat(low - np.cumsum(count) + count, count)
        repeated = np.repeat(np.stack((first - 1, starts, per_chunk)), count, axis=1)
        return repeated[0] + number, repeated[1] + number * repeated[2]

    def _entries(self, begin: int, end: int) -> tuple[Int64, Int64, Int64]:
        """Read entries: the first chunk of each, its number of chunks, and the samples in each chunk."""
        first = self._numbers[begin : end + 1].astype(np.int64)
        if end >= len(self._numbers):
            first = np.append(first, len(self._places) + 1)
        count = len(first) - 1
        per_chunk = self._per_chunk[begin : begin + count].astype(np.int64)
        # No chunk needs more samples than there are; the bound keeps the sums small.
        return first[:-1], np.diff(first), np.minimum(per_chunk, len(self._sizes))

    def _check(
        self, begin: int, end: int, description: NDArray[np.unsignedinteger], descriptions: Int64
    ) -> None:
        _, chunks, _ = self._entries(begin, end)
        if np.any(chunks <= 0):
            raise MalformedError("stsc: the chunks aren't numbered 1 and rising up to the last")
        if np.any(description < 1) or np.any(description > len(descriptions)):
            raise MalformedError("stsc: a sample description that isn't there")
        if np.any(descriptions[description.astype(np.int64) - 1] != descriptions[self.description]):
            raise UnsupportedError("the codec's configuration changes within a track")


def chunk_entries(tables: Mapping[bytes, Payload]) -> NDArray[np.unsignedinteger]:
    """Read the entries of ``stsc`` (§8.7.4): first chunk, samples per chunk, and number of the sample entry.

    Raises:
        MalformedError: the box is missing or cut off, or its entries can't be mended.
    """
    payload = tables.get(b"stsc", b"")
    (entries,) = box_head(payload, b"stsc", ">4xI")
    rows = box_array(payload, b"stsc", 8, ">u4", entries * 3).reshape(-1, 3)
    return mended_entries(rows, len(_chunk_places(tables)))


def _chunk_places(tables: Mapping[bytes, Payload]) -> NDArray[np.unsignedinteger]:
    if (b"stco" in tables) == (b"co64" in tables):
        raise MalformedError("there must be one of stco and co64")
    kind, layout = (b"stco", ">u4") if b"stco" in tables else (b"co64", ">u8")
    payload = tables[kind]
    (count,) = box_head(payload, kind, ">4xI")
    places = box_array(payload, kind, 8, layout, count)
    if kind == b"co64" and any(int(places[one:end].max()) > _FARTHEST for one, end in stretches(0, count)):
        raise MalformedError(f"{kind.decode()}: offset past 2^62")
    return places

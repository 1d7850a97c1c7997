"""Reads sample tables (ISO/IEC 14496-12 §8.6, §8.7) from their boxes, without expanding all samples.

The boxes are compact: a run of 2^32 samples takes eight bytes. They are validated in one pass; after that, a
stretch of samples is expanded on demand. Memory is bounded by the boxes themselves, a stretch, and marks in
the boxes (a hundredth of their size), whatever a file declares. Those of long films are brought into a form
that takes less (`SampleTable.compact`).
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.movie.chunk_entries import mended_entries
from media.mp4.movie.compact_columns import (
    CodedColumn,
    NarrowColumn,
    RisingColumn,
    coded,
    narrowed,
    rising,
)

MAX_SAMPLES = 1 << 22
"""Most samples of one track: 24 hours of AAC at 48 kHz. Uncompressed sound has a sample per tick."""

STRETCH_LENGTH = 15 << 10
"""Number of samples, or entries of a box, that are processed together.

Eight bytes for each make less than 128 KiB; malloc maps larger arrays from the system each time."""

_MARK = 1 << 10
"""Number of entries of a box, or sizes, between two marks; a divisor of ``STRETCH_LENGTH``."""

_DENSE = 8
"""Distance of samples up to which all samples between them are expanded, too, which is faster."""

_FARTHEST = 1 << 62
"""Bound of offsets in a file, so that sums with sizes stay inside 64 bits."""

Int64 = NDArray[np.int64]
Values = NDArray[np.int32]
Payload = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Samples:
    """Some samples of a track, in decoding order.

    Attributes:
        offset: of each sample's first byte in the file.
        size: of each sample in bytes.
        decode_time: in ticks of the media's timescale; the entry behind the last sample is its end.
        composition_offset: composition time minus decode time in ticks, signed (§8.6.1.3).
        is_sync: whether decoding can begin with it (§8.6.2).
    """

    offset: Int64
    size: Int64
    decode_time: Int64
    composition_offset: Int64
    is_sync: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.size)

    @property
    def composition_time(self) -> Int64:
        """Presentation times on the media's own timeline, in ticks; edit lists aren't applied."""
        return np.add(self.decode_time[:-1], self.composition_offset)

    def part(self, start: int, stop: int) -> Samples:
        """Return the samples from ``start`` up to, but not including, ``stop``."""
        return Samples(
            self.offset[start:stop],
            self.size[start:stop],
            self.decode_time[start : stop + 1],
            self.composition_offset[start:stop],
            self.is_sync[start:stop],
        )


class SampleTable:
    """The samples of one track; ranges are from ``start`` up to, but not including, ``stop``.

    Args:
        tables: payloads (version and flags included) of ``stts``, ``stsc``, ``stsz`` or ``stz2``, ``stco``
            or ``co64``, and if present ``ctts`` and ``stss``. The payloads are kept until `compact`.
        descriptions: the track's sample entries, of which equal ones are one; or only their number.
        limit: most samples.
        most_runs: most entries of ``stts`` and ``ctts`` together.

    Raises:
        MalformedError: a box is missing or cut off, or the boxes don't agree with each other.
        UnsupportedError: the samples use several sample entries.
        TooLargeError: there are more samples or entries than the limits allow.

    Attributes:
        description: index of the sample entry that all samples use, from 0.
        duration: of all samples together in ticks.
        nbytes: bytes of memory beside the boxes; behind `compact` the boxes are counted, too.
        runs: number of entries of ``stts`` and ``ctts``.
    """

    __slots__ = (
        *("_chunks", "_durations", "_offsets", "_sizes", "_sync"),
        *("description", "duration", "nbytes", "runs"),
    )

    def __init__(
        self,
        tables: Mapping[bytes, Payload],
        descriptions: Sequence[object] | int,
        limit: int = MAX_SAMPLES,
        most_runs: int = 2 * MAX_SAMPLES,
    ) -> None:
        self._sizes = _Sizes(tables, limit)
        # The number of entries that fit into the box: truncation is reported where the entries are read.
        self.runs = sum(max(len(tables[kind]) // 8 - 1, 0) for kind in (b"stts", b"ctts") if kind in tables)
        if self.runs > most_runs:
            raise TooLargeError(f"{self.runs} entries of stts and ctts: more than {most_runs}")
        known: dict[object, int] = {}
        entries = range(descriptions) if isinstance(descriptions, int) else descriptions
        alike = [known.setdefault(entry, number) for number, entry in enumerate(entries)]
        declared = len(self._sizes)
        self._chunks = _Chunks(tables, self._sizes, np.array(alike, np.int64))
        count = len(self._sizes)
        self._durations = _Runs(tables, b"stts", count, summed=True)
        if self._durations.least < 0:  # §8.6.1.2: decoding times never go back; some writers put -1 here
            raise MalformedError("stts: a delta of 2^31 or more")
        # §8.6.1.3: unsigned in version 0, but writers of version 0 put negative offsets there, too.
        self._offsets = _Runs(tables, b"ctts", count, summed=False) if b"ctts" in tables else None
        self._sync = _sync(tables, declared)
        if self._sync is not None and count < declared:
            self._sync = self._sync[: bisect_left(self._sync, count + 1)]
        self.description = self._chunks.description
        self.duration = self._durations.total
        self.nbytes = self._sizes.nbytes + self._chunks.nbytes + self._durations.nbytes
        self.nbytes += 0 if self._offsets is None else self._offsets.nbytes

    def __len__(self) -> int:
        return len(self._sizes)

    def compact(self) -> None:
        """Keep the tables in fewer bytes, and their boxes no more."""
        self.nbytes = self._sizes.compact() + self._chunks.compact() + self._durations.compact()
        if self._offsets is not None:
            self.nbytes += self._offsets.compact()
        if self._sync is not None:
            self._sync = self._sync.copy()
            self.nbytes += self._sync.nbytes

    def samples(self, start: int, stop: int) -> Samples:
        """Expand a range of samples."""
        offset, size = self.places(start, stop)
        is_sync = np.zeros(stop - start, bool)
        is_sync[self.sync_samples(start, stop) - start] = True
        return Samples(
            offset=offset,
            size=size,
            decode_time=self.decode_times(start, stop),
            composition_offset=self._composition_offsets(start, stop),
            is_sync=is_sync,
        )

    @property
    def constant_duration(self) -> int | None:
        """Duration of every sample in ticks; None if durations differ."""
        return self._durations.least if self._durations.least == self._durations.greatest else None

    @property
    def longest_duration(self) -> int:
        """Duration in ticks of the sample that lasts longest."""
        return self._durations.greatest

    def places(self, start: int, stop: int) -> tuple[Int64, Int64]:
        """Return the offsets of a range's samples in the file, and their sizes in bytes."""
        size = self.sizes(start, stop)
        return self._chunks.places(start, stop, size), size

    @property
    def chunk_count(self) -> int:
        """The number of chunks that have samples, and of those behind them."""
        return self._chunks.count

    def chunks(self) -> tuple[Int64, Int64]:
        """Return the offset of each chunk in the file, and the index of its first sample."""
        return self._chunks.places_and_firsts(len(self))

    def data_end(self, start: int, stop: int) -> int:
        """Return the offset behind the last data of a non-empty range in the file."""
        # Most writers write chunks in the order of their numbers; else each sample has to be checked.
        ranges = [(stop - 1, stop)] if self._chunks.end_with_last(start, stop) else stretches(start, stop)
        return max(int(np.add(*self.places(*one)).max()) for one in ranges)

    def sizes(self, start: int, stop: int) -> Int64:
        """Return the sizes of a range's samples in bytes."""
        return self._sizes.values(start, stop)

    def decode_times(self, start: int, stop: int) -> Int64:
        """Return the decode times of a range's samples in ticks, and the end of the last sample."""
        return self._durations.sums(start, stop)

    def composition_times(self, start: int, stop: int) -> Int64:
        """Return the presentation times of a range's samples on the media's own timeline, in ticks."""
        return np.add(self.decode_times(start, stop)[:-1], self._composition_offsets(start, stop))

    def composition_times_of(self, samples: Int64) -> Int64:
        """Return the presentation times of samples in ticks, by their rising indexes."""
        if len(samples) and int(samples[-1]) - int(samples[0]) < _DENSE * len(samples):
            first = int(samples[0])
            return self.composition_times(first, int(samples[-1]) + 1)[samples - first]
        times = self._durations.sums_of(samples)
        return times if self._offsets is None else np.add(times, self._offsets.values_of(samples))

    def bytes_between(self, samples: Int64) -> Int64:
        """Return the bytes of all samples between consecutive rising indexes."""
        return self._sizes.between(samples)

    def ends(self, start: int, stop: int) -> Int64:
        """Return the ends of presentation of a range's samples on the media's own timeline, in ticks."""
        return np.add(self.decode_times(start, stop)[1:], self._composition_offsets(start, stop))

    def decoded_by(self, time: int) -> int:
        """Return the number of samples that are decoded at a time or before."""
        return self._durations.reached(time)

    def sync_samples(self, start: int, stop: int) -> Int64:
        """Return the indexes of a range's sync samples, rising (§8.6.2)."""
        if self._sync is None:
            return np.arange(start, stop, dtype=np.int64)
        low, high = bisect_left(self._sync, start + 1), bisect_left(self._sync, stop + 1)
        return np.subtract(self._sync[low:high].astype(np.int64), 1)

    @property
    def sync_count(self) -> int:
        """The number of sync samples."""
        return len(self) if self._sync is None else len(self._sync)

    def offset_bounds(self, start: int, stop: int) -> tuple[int, int]:
        """Return the least and the greatest composition offset of a non-empty range in ticks."""
        return (0, 0) if self._offsets is None else self._offsets.bounds(start, stop)

    def _composition_offsets(self, start: int, stop: int) -> Int64:
        if self._offsets is None:
            return np.zeros(stop - start, np.int64)
        return self._offsets.values(start, stop)


def stretches(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut a range into stretches, in order."""
    for begin in range(start, stop, STRETCH_LENGTH):
        yield begin, min(begin + STRETCH_LENGTH, stop)


class _Sizes:
    """``stsz`` (§8.7.3.2) or ``stz2`` (§8.7.3.3)."""

    __slots__ = ("_bits", "_constant", "_count", "_fields", "_marks")

    def __init__(self, tables: Mapping[bytes, Payload], limit: int) -> None:
        if b"stsz" in tables and b"stz2" in tables:
            raise MalformedError("both stsz and stz2")
        self._constant, self._bits = 0, 32
        if b"stsz" in tables:
            payload, kind = tables[b"stsz"], b"stsz"
            self._constant, self._count = _head(payload, kind, ">4xII")
        elif b"stz2" in tables:
            payload, kind = tables[b"stz2"], b"stz2"
            self._bits, self._count = _head(payload, kind, ">7xBI")
            if self._bits not in (4, 8, 16):
                raise MalformedError(f"stz2: field size {self._bits}")
        else:
            raise MalformedError("no stsz")
        if self._count > limit:
            raise TooLargeError(f"{self._count} samples: more than {limit}")
        fields = 0 if self._constant else (self._count + 1) // 2 if self._bits == 4 else self._count
        self._fields: NDArray[np.unsignedinteger] | NarrowColumn = _array(
            payload, kind, 12, f">u{max(self._bits // 8, 1)}", fields
        )
        # Built on demand: files with short chunks don't need the marks.
        self._marks: Int64 | None = None

    def __len__(self) -> int:
        return self._count

    def end_at(self, count: int) -> None:
        """Leave out the samples behind so many, which have no place in the file."""
        self._count = min(count, self._count)

    @property
    def nbytes(self) -> int:
        """Memory of the marks, whether they are built already or not."""
        return 0 if self._constant else self._count // _MARK * 8

    def compact(self) -> int:
        """Keep what is in the box in fewer bytes; return how many bytes of memory that takes."""
        if not isinstance(self._fields, NarrowColumn):
            self._fields = narrowed(self._fields) if self._bits == 32 else self._fields.copy()
        return self.nbytes + self._fields.nbytes

    def values(self, start: int, stop: int) -> Int64:
        if self._constant:
            return np.full(stop - start, self._constant, np.int64)
        if self._bits != 4:
            return self._fields[start:stop].astype(np.int64)
        pairs = self._fields[start // 2 : (stop + 1) // 2]
        halves = np.stack((pairs >> 4, pairs & 15), axis=1).ravel()
        return halves[start % 2 :][: stop - start].astype(np.int64)

    def sum(self, start: int, stop: int) -> int:
        """Sum the sizes of a range."""
        if self._constant:
            return self._constant * (stop - start)
        if stop - start <= STRETCH_LENGTH:
            return int(self.values(start, stop).sum())
        return self._before(stop) - self._before(start)

    def _before(self, sample: int) -> int:
        """Return the sum of the sizes before a sample."""
        if self._marks is None:
            self._marks = self._sums_to_marks()
        mark = sample // _MARK
        return int(self._marks[mark]) + int(self.values(mark * _MARK, sample).sum())

    def _sums_to_marks(self) -> Int64:
        sums = [np.zeros(1, np.int64)]
        for start, stop in stretches(0, self._count):
            sums.append(np.add.reduceat(self.values(start, stop), np.arange(0, stop - start, _MARK)))
        return np.concatenate(sums).cumsum()

    def between(self, samples: Int64) -> Int64:
        """Return the sums of the sizes between consecutive rising indexes."""
        if self._constant:
            return np.diff(samples) * self._constant
        found = np.zeros(len(samples) - 1, np.int64)
        for start, stop in stretches(int(samples[0]), int(samples[-1])):
            # The first sum may have begun in the previous stretch.
            low = int(samples.searchsorted(start, "right")) - 1
            high = int(samples.searchsorted(stop))
            begins = np.maximum(samples[low:high] - start, 0)
            found[low:high] += np.add.reduceat(self.values(start, stop), begins)
        return found


class _Runs:
    """Run lengths: pairs of a number of samples and their value (``stts`` §8.6.1.2, ``ctts`` §8.6.1.3).

    Args:
        tables: payloads by type.
        kind: type of the box that is read.
        summed: whether sums of values are needed.

    Attributes:
        total: sum of all samples' values, if ``summed``.
        least: least value; 0 without samples.
        greatest: greatest value; 0 without samples.
    """

    __slots__ = (
        *("_count", "_firsts", "_kept", "_lengths", "_pairs", "_singles", "_totals", "_values"),
        *("greatest", "least", "total"),
    )

    def __init__(self, tables: Mapping[bytes, Payload], kind: bytes, count: int, *, summed: bool) -> None:
        payload = tables.get(kind, b"")
        (entries,) = _head(payload, kind, ">4xI")
        pairs = _array(payload, kind, 8, ">u4", entries * 2).reshape(-1, 2)
        pairs = _completed(pairs, count, goes_on=summed)
        # Values are signed; those of stts mustn't be negative.
        self._pairs: NDArray[np.unsignedinteger] | None = pairs
        self._kept = 0
        self._lengths: NDArray[np.unsignedinteger] | CodedColumn = pairs[:, 0]
        self._values: NDArray[np.signedinteger] | CodedColumn = pairs.view(">i4")[:, 1]
        self._count = count
        self._singles = len(pairs) >= count
        self.total = 0
        lows, highs = list[int](), list[int]()
        firsts, totals = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)]
        covered = 0
        for begin, end in stretches(0, len(pairs)):
            if covered == count:  # further entries belong to no sample
                break
            values, kept = self._entries(begin, end, covered, covered, count)
            self._singles = self._singles and bool((kept[: count - covered] == 1).all())
            if len(used := values if kept.all() else values[kept > 0]):
                lows.append(int(used.min()))
                highs.append(int(used.max()))
            ends = _sums_to_marks(kept) + covered
            firsts.append(ends)
            covered = int(ends[-1])
            if summed:
                sums = _sums_to_marks(np.multiply(kept, values)) + self.total
                totals.append(sums)
                self.total = int(sums[-1])
        if covered < count:
            raise MalformedError(f"{kind.decode()}: {covered} samples where stsz has {count}")
        self.least, self.greatest = min(lows, default=0), max(highs, default=0)
        self._firsts, self._totals = np.concatenate(firsts), np.concatenate(totals)

    @property
    def nbytes(self) -> int:
        return self._firsts.nbytes + self._totals.nbytes

    def compact(self) -> int:
        """Keep what is in the box in fewer bytes; return how many bytes of memory that takes."""
        if self._pairs is not None:
            pairs, self._pairs = self._pairs, None
            if (kinds := coded(pairs)) is not None:
                self._lengths, self._values = kinds.column(0, ">u4"), kinds.column(1, ">i4")
                self._kept = kinds.nbytes
            else:
                pairs = pairs.copy()
                self._lengths, self._values = pairs[:, 0], pairs.view(">i4")[:, 1]
                self._kept = pairs.nbytes
        return self.nbytes + self._kept

    @property
    def constant(self) -> bool:
        """Whether all samples have the same value."""
        return self.least == self.greatest

    def values(self, start: int, stop: int) -> Int64:
        """Return the value of each sample of a range."""
        if self.constant:
            return np.full(stop - start, self.least, np.int64)
        if self._singles:
            return self._values[start:stop].astype(np.int64)
        parts = [values.repeat(kept) for values, kept in self._covering(start, stop)]
        if len(parts) == 1:
            return parts[0].astype(np.int64)
        return np.concatenate(parts, dtype=np.int64) if parts else np.zeros(0, np.int64)

    def sums(self, start: int, stop: int) -> Int64:
        """Return the sums of the values before each sample of a range, and before ``stop``."""
        if self.constant:
            return (
                np.arange(start * self.least, stop * self.least + 1, self.least)
                if self.least
                else (np.zeros(stop - start + 1, np.int64))
            )
        mark = self._mark(start)
        before = int(self._totals[mark])
        for values, kept in self._covering(int(self._firsts[mark]), start):
            before += int(np.multiply(values, kept).sum())
        sums = np.empty(stop - start + 1, np.int64)
        sums[0] = before
        sums[1:] = self.values(start, stop)
        return sums.cumsum(out=sums)

    def reached(self, total: int) -> int:
        """Return the number of samples before which the sum of values is at most ``total``."""
        if total < 0:
            return 0
        mark = int(self._totals.searchsorted(total, "right")) - 1
        begin, covered = mark * _MARK, int(self._firsts[mark])
        values, kept = self._entries(begin, begin + _MARK, covered, covered, self._count)
        sums = np.append(self._totals[mark], np.multiply(kept, values)).cumsum()
        entry = int(sums.searchsorted(total, "right")) - 1
        if entry == len(values):
            return self._count
        samples = covered + int(kept[:entry].sum())
        return min(samples + (total - int(sums[entry])) // int(values[entry]) + 1, self._count)

    def values_of(self, samples: Int64) -> Int64:
        """Return the values of samples, by their rising indexes."""
        if self.constant:
            return np.full(len(samples), self.least, np.int64)
        if self._singles:
            return self._values[samples].astype(np.int64)
        found = [values[entry] for values, _, _, entry, _ in self._having(samples)]
        return np.concatenate(found, dtype=np.int64) if found else np.zeros(0, np.int64)

    def sums_of(self, samples: Int64) -> Int64:
        """Return the sums of the values before each of the samples, by their rising indexes."""
        if self.constant:
            return samples * self.least
        found = [np.zeros(0, np.int64)]
        total = int(self._totals[self._mark(int(samples[0]))]) if len(samples) else 0
        for values, kept, ends, entry, some in self._having(samples):
            sums = np.multiply(kept, values).cumsum()
            sums += total
            found.append(sums[entry] - (ends[entry] - some) * values[entry])
            total = int(sums[-1])
        return np.concatenate(found)

    def _having(self, samples: Int64) -> Iterator[tuple[Values, Int64, Int64, Int64, Int64]]:
        """Yield the entries of some samples.

        Yields:
            Entries in a row: their values, how many samples have each, and the samples up to its end; the
            entry of each of the samples that have one of them, and these samples.
        """
        mark = self._mark(int(samples[0])) if len(samples) else 0
        begin, covered, done = mark * _MARK, int(self._firsts[mark]), 0
        many = _MARK
        while done < len(samples):
            values, kept = self._entries(begin, begin + many, covered, covered, self._count)
            ends = kept.cumsum()
            ends += covered
            upto = int(samples.searchsorted(ends[-1]))
            some = samples[done:upto]
            yield values, kept, ends, ends.searchsorted(some, "right"), some
            begin, covered, done = begin + many, int(ends[-1]), upto
            many = min(many * 2, STRETCH_LENGTH)

    def bounds(self, start: int, stop: int) -> tuple[int, int]:
        """Return the least and the greatest value of a range."""
        if self.constant or (start == 0 and stop == self._count):
            return self.least, self.greatest
        low, high = 1 << 31, -(1 << 31)
        for values, kept in self._covering(start, stop):
            if len(used := values if kept.all() else values[kept > 0]):
                low, high = min(low, int(used.min())), max(high, int(used.max()))
        return low, high

    def _mark(self, sample: int) -> int:
        """Find the last mark at or before a sample."""
        return int(self._firsts.searchsorted(sample, "right")) - 1

    def _covering(self, start: int, stop: int) -> Iterator[tuple[Values, Int64]]:
        """Yield the values of entries, and the number of a range's samples with each."""
        if start >= stop:
            return
        mark = self._mark(start)
        begin, covered = mark * _MARK, int(self._firsts[mark])
        while covered < stop:
            # The number of entries that are probably needed.
            many = min((stop - covered) * len(self._values) // self._count + _MARK, STRETCH_LENGTH)
            values, kept = self._entries(begin, begin + many, covered, start, stop)
            yield values, kept
            begin, covered = begin + many, max(covered, start) + int(kept.sum())

    def _entries(self, begin: int, end: int, covered: int, start: int, stop: int) -> tuple[Values, Int64]:
        """Read entries behind ``covered`` samples, and the number of a range's samples with each."""
        lengths, values = self._lengths[begin:end].astype(np.int64), self._values[begin:end].astype(np.int32)
        if covered < start or covered + int(lengths.sum()) > stop:
            bounds = np.append(covered, lengths)
            bounds.cumsum(out=bounds)
            np.maximum(bounds, start, out=bounds)
            np.minimum(bounds, stop, out=bounds)
            lengths = bounds[1:] - bounds[:-1]
        return values, lengths


class _Chunks:
    """The positions of samples in a file: ``stsc`` (§8.7.4), and ``stco`` or ``co64`` (§8.7.5).

    Attributes:
        description: index of the sample entry that all samples use, from 0.
    """

    __slots__ = ("_firsts", "_numbers", "_per_chunk", "_places", "_sizes", "description")

    def __init__(self, tables: Mapping[bytes, Payload], sizes: _Sizes, descriptions: Int64) -> None:
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
                firsts.append(ends[_MARK - 1 :: _MARK].copy())  # of a view all would stay
                covered = int(ends[-1])
            sizes.end_at(covered)
        # Chunks behind the last sample are allowed.
        self._firsts = np.concatenate(firsts)

    @property
    def nbytes(self) -> int:
        return self._firsts.nbytes

    def compact(self) -> int:
        """Keep what is in the boxes in fewer bytes; return how many bytes of memory that takes."""
        if not isinstance(self._places, RisingColumn):
            self._places = rising(self._places, _MARK)
        if not isinstance(self._numbers, RisingColumn):
            self._numbers = rising(self._numbers, _MARK)
        if not isinstance(self._per_chunk, NarrowColumn):
            self._per_chunk = narrowed(self._per_chunk)
        return self.nbytes + self._places.nbytes + self._numbers.nbytes + self._per_chunk.nbytes

    @property
    def count(self) -> int:
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
        begin, covered = mark * _MARK, int(self._firsts[mark])
        while start < stop and covered < stop:
            first, chunks, per_chunk = self._entries(begin, begin + _MARK)
            counts = np.minimum(chunks * per_chunk, len(self._sizes))
            ends = counts.cumsum()
            ends += covered
            used = slice(int(ends.searchsorted(start, "right")), int(ends.searchsorted(stop)) + 1)
            if used.start < len(ends):
                starts = ends[used] - counts[used]
                behind = np.minimum(ends[used], stop)
                yield self._chunks_of(first[used], per_chunk[used], starts, behind, start)
            begin, covered = begin + _MARK, int(ends[-1])

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
    (entries,) = _head(payload, b"stsc", ">4xI")
    rows = _array(payload, b"stsc", 8, ">u4", entries * 3).reshape(-1, 3)
    return mended_entries(rows, len(_chunk_places(tables)))


def _completed(
    pairs: NDArray[np.unsignedinteger], count: int, *, goes_on: bool
) -> NDArray[np.unsignedinteger]:
    """Return run lengths for all samples, as ffmpeg and browsers read a table that ends earlier.

    Args:
        goes_on: whether the last value is that of the samples behind it, too; they have 0 otherwise.
    """
    covered = sum(int(pairs[begin:end, 0].sum(dtype=np.int64)) for begin, end in stretches(0, len(pairs)))
    if covered >= count or (goes_on and not len(pairs)):
        return pairs
    missing = np.array([(count - covered, pairs[-1, 1] if goes_on else 0)], pairs.dtype)
    return np.concatenate((pairs, missing)).astype(">u4")


def _chunk_places(tables: Mapping[bytes, Payload]) -> NDArray[np.unsignedinteger]:
    if (b"stco" in tables) == (b"co64" in tables):
        raise MalformedError("there must be one of stco and co64")
    kind, layout = (b"stco", ">u4") if b"stco" in tables else (b"co64", ">u8")
    payload = tables[kind]
    (count,) = _head(payload, kind, ">4xI")
    places = _array(payload, kind, 8, layout, count)
    if kind == b"co64" and any(int(places[one:end].max()) > _FARTHEST for one, end in stretches(0, count)):
        raise MalformedError(f"{kind.decode()}: offset past 2^62")
    return places


def _sums_to_marks(values: Int64) -> Int64:
    """Return the sums of the values before each mark but the first, and of all values."""
    return np.add.reduceat(values, np.arange(0, len(values), _MARK)).cumsum()


def _sync(tables: Mapping[bytes, Payload], count: int) -> NDArray[np.unsignedinteger] | None:
    """Read ``stss`` (§8.6.2), whose numbers count from 1; without it every sample is a sync sample."""
    if b"stss" not in tables:
        return None
    payload = tables[b"stss"]
    (entries,) = _head(payload, b"stss", ">4xI")
    numbers = _array(payload, b"stss", 8, ">u4", entries)
    last = 0
    for begin, end in stretches(0, entries):
        stretch = numbers[begin:end].astype(np.int64)
        if np.any(np.diff(stretch, prepend=last) <= 0) or stretch[-1] > count:
            raise MalformedError("stss: the sample numbers aren't rising within 1 and the last")
        last = int(stretch[-1])
    return numbers


def _head(payload: Payload, kind: bytes, layout: str) -> tuple[int, ...]:
    if len(payload) < struct.calcsize(layout):
        raise MalformedError(f"{kind.decode()} is missing or cut off")
    return struct.unpack_from(layout, payload)


def _array(
    payload: Payload, kind: bytes, offset: int, layout: str, count: int
) -> NDArray[np.unsignedinteger]:
    """View a counted array in a payload, after checking the count against the payload's size."""
    dtype: np.dtype[np.unsignedinteger] = np.dtype(layout)
    if count * dtype.itemsize > len(payload) - offset:
        raise MalformedError(f"{kind.decode()}: {count} entries don't fit in {len(payload)} bytes")
    return np.frombuffer(payload, dtype, count, offset)

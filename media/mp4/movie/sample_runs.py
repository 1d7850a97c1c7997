"""Durations and offsets of samples, as runs of equal values (ISO/IEC 14496-12 §8.6.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError
from media.mp4.movie.box_arrays import (
    MARK,
    STRETCH_LENGTH,
    Int64,
    Payload,
    Values,
    box_array,
    box_head,
    stretches,
    sums_to_marks,
)
from media.mp4.movie.compact_columns import CodedColumn, coded


class SampleRuns:
    """Run lengths: pairs of a number of samples and their value (``stts`` §8.6.1.2, ``ctts`` §8.6.1.3).

    Args:
        tables: payloads by type.
        kind: type of the box that is read.
        count: number of samples, as the box of sizes says.
        summed: whether sums of values are needed.

    Raises:
        MalformedError: the box is missing or cut off.

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
        (entries,) = box_head(payload, kind, ">4xI")
        pairs = box_array(payload, kind, 8, ">u4", entries * 2).reshape(-1, 2)
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
            ends = sums_to_marks(kept) + covered
            firsts.append(ends)
            covered = int(ends[-1])
            if summed:
                sums = sums_to_marks(np.multiply(kept, values)) + self.total
                totals.append(sums)
                self.total = int(sums[-1])
        if covered < count:
            raise MalformedError(f"{kind.decode()}: {covered} samples where stsz has {count}")
        self.least, self.greatest = min(lows, default=0), max(highs, default=0)
        self._firsts, self._totals = np.concatenate(firsts), np.concatenate(totals)

    @property
    def nbytes(self) -> int:
        """Bytes of memory beside the box."""
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
        begin, covered = mark * MARK, int(self._firsts[mark])
        values, kept = self._entries(begin, begin + MARK, covered, covered, self._count)
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
        begin, covered, done = mark * MARK, int(self._firsts[mark]), 0
        many = MARK
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
        begin, covered = mark * MARK, int(self._firsts[mark])
        while covered < stop:
            # The number of entries that are probably needed.
            many = min((stop - covered) * len(self._values) // self._count + MARK, STRETCH_LENGTH)
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

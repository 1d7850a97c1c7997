"""Sizes of samples (ISO/IEC 14496-12 §8.7.3), whose sums are found by marks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, TooLargeError
from media.mp4.movie.box_arrays import MARK, STRETCH_LENGTH, Int64, Payload, box_array, box_head, stretches
from media.mp4.movie.compact_columns import NarrowColumn, narrowed


class SampleSizes:
    """Sizes in bytes, of ``stsz`` (§8.7.3.2) or ``stz2`` (§8.7.3.3).

    Args:
        tables: payloads by type.
        limit: most samples, beyond which there is an error.

    Raises:
        MalformedError: there is no such box, it is cut off, or there are both.
        TooLargeError: there are more samples.
    """

    __slots__ = ("_bits", "_constant", "_count", "_fields", "_marks")

    def __init__(self, tables: Mapping[bytes, Payload], limit: int) -> None:
        if b"stsz" in tables and b"stz2" in tables:
            raise MalformedError("both stsz and stz2")
        self._constant, self._bits = 0, 32
        if b"stsz" in tables:
            payload, kind = tables[b"stsz"], b"stsz"
            self._constant, self._count = box_head(payload, kind, ">4xII")
        elif b"stz2" in tables:
            payload, kind = tables[b"stz2"], b"stz2"
            self._bits, self._count = box_head(payload, kind, ">7xBI")
            if self._bits not in (4, 8, 16):
                raise MalformedError(f"stz2: field size {self._bits}")
        else:
            raise MalformedError("no stsz")
        if self._count > limit:
            raise TooLargeError(f"{self._count} samples: more than {limit}")
        fields = 0 if self._constant else (self._count + 1) // 2 if self._bits == 4 else self._count
        self._fields: NDArray[np.unsignedinteger] | NarrowColumn = box_array(
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
        return 0 if self._constant else self._count // MARK * 8

    def compact(self) -> int:
        """Keep what is in the box in fewer bytes; return how many bytes of memory that takes."""
        if not isinstance(self._fields, NarrowColumn):
            self._fields = narrowed(self._fields) if self._bits == 32 else self._fields.copy()
        return self.nbytes + self._fields.nbytes

    def values(self, start: int, stop: int) -> Int64:
        """Return the sizes of a range's samples in bytes."""
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
        mark = sample // MARK
        return int(self._marks[mark]) + int(self.values(mark * MARK, sample).sum())

    def _sums_to_marks(self) -> Int64:
        sums = [np.zeros(1, np.int64)]
        for start, stop in stretches(0, self._count):
            sums.append(np.add.reduceat(self.values(start, stop), np.arange(0, stop - start, MARK)))
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

"""Columns of sample tables in fewer bytes than their boxes take, for films that last a day.

Boxes have four or eight bytes for each number (ISO/IEC 14496-12 §8.6, §8.7), whatever it is. Nearly all sizes
of samples and all distances between chunks fit into two, and the runs of a film are of few kinds, so that one
byte says which one it is. Each of these columns is read as the array is that it stands for, by slices and by
arrays of indexes; what doesn't pay stays an array.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Index = slice | Int64

STRETCH = 15 << 10
"""Entries that are read and written together: eight bytes for each make less than 128 KiB."""

_NARROW = (1 << 16) - 1
"""The value of two bytes that stands for a larger number, which is among the exceptions."""

_FEW = 8
"""There are few exceptions if they are less than one number in so many: each takes twelve bytes."""

_KINDS = 256
"""Kinds of runs that one byte tells apart."""


class NarrowColumn:
    """Numbers from 0 to 2^32 - 1, of which most fit into two bytes."""

    __slots__ = ("_large", "_narrow", "_places")

    def __init__(self, narrow: NDArray[np.uint16], places: Int64, large: NDArray[np.uint32]) -> None:
        self._narrow = narrow
        # Indexes of the exceptions, rising, and what stands there.
        self._places = places
        self._large = large

    def __len__(self) -> int:
        return len(self._narrow)

    def __getitem__(self, part: slice) -> Int64:
        found = self._narrow[part].astype(np.int64)
        if len(self._places):
            start, stop, _ = part.indices(len(self._narrow))
            low, high = self._places.searchsorted((start, stop)).tolist()
            found[self._places[low:high] - start] = self._large[low:high]
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._narrow.nbytes + self._places.nbytes + self._large.nbytes


def narrowed(values: NDArray[np.unsignedinteger]) -> NarrowColumn | NDArray[np.uint32]:
    """Return numbers of at most four bytes as a column, or as a copy where many need more than two."""
    narrow = np.empty(len(values), np.uint16)
    places, large = [np.zeros(0, np.int64)], [np.zeros(0, np.uint32)]
    exceptions = 0
    for start, stop in _stretches(len(values)):
        part = values[start:stop].astype(np.uint32)
        narrow[start:stop] = np.minimum(part, _NARROW)
        (found,) = np.nonzero(part >= _NARROW)
        exceptions += len(found)
        if exceptions * _FEW > len(values):
            return values.astype(np.uint32)
        places.append(found + start)
        large.append(part[found])
    return NarrowColumn(narrow, np.concatenate(places), np.concatenate(large))


class CodedRows:
    """Pairs of numbers, of few kinds.

    Attributes:
        codes: the kind of each pair.
        kinds: the pairs, each once.
    """

    __slots__ = ("codes", "kinds")

    def __init__(self, codes: NDArray[np.uint8], kinds: NDArray[np.unsignedinteger]) -> None:
        self.codes = codes
        self.kinds = kinds

    def column(self, number: int, dtype: str) -> CodedColumn:
        """Return the first numbers of all pairs, or the second ones.

        Args:
            dtype: in which its numbers are to be read, such as ``>i4`` for signed ones.
        """
        return CodedColumn(self.codes, np.ascontiguousarray(self.kinds[:, number]).view(dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.codes.nbytes + self.kinds.nbytes


class CodedColumn:
    """One number of each of the pairs, of few kinds."""

    __slots__ = ("_codes", "_values")

    def __init__(self, codes: NDArray[np.uint8], values: NDArray[np.integer]) -> None:
        self._codes = codes
        self._values = values

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, part: Index) -> NDArray[np.integer]:
        found: NDArray[np.integer] = self._values[self._codes[part]]
        return found


def coded(pairs: NDArray[np.unsignedinteger]) -> CodedRows | None:
    """Return pairs of numbers of four bytes as their kinds, one byte each; None where there are too many."""
    numbers: dict[int, int] = {}
    codes = np.empty(len(pairs), np.uint8)
    for start, stop in _stretches(len(pairs)):
        # As whole numbers they are compared faster; which numbers these are doesn't matter.
        part = np.ascontiguousarray(pairs[start:stop]).view(np.uint64).ravel()
        found, inverse = np.unique(part, return_inverse=True)
        if len(found) > _KINDS:
            return None
        known = [numbers.setdefault(one, len(numbers)) for one in found.tolist()]
        if len(numbers) > _KINDS:
            return None
        codes[start:stop] = np.array(known, np.uint8)[inverse.ravel()]
    kinds = np.array(list(numbers), np.uint64).view(pairs.dtype).reshape(-1, 2)
    return CodedRows(codes, kinds)


class RisingColumn:
    """Numbers that rise, by their distances and marks in between.

    Args:
        marks: each number whose index is a multiple of `step`.
        distances: from each number to the next one; behind the last anything.
    """

    __slots__ = ("_distances", "_marks", "_step")

    def __init__(self, marks: Int64, distances: NarrowColumn | NDArray[np.uint32], step: int) -> None:
        self._marks = marks
        self._distances = distances
        self._step = step

    def __len__(self) -> int:
        return len(self._distances)

    def __getitem__(self, part: Index) -> Int64:
        if isinstance(part, slice):
            start, stop, _ = part.indices(len(self))
            return self._range(start, stop)
        if not len(part):
            return np.zeros(0, np.int64)
        start = int(part.min())
        return self._range(start, int(part.max()) + 1)[part - start]

    def _range(self, start: int, stop: int) -> Int64:
        if start >= stop:
            return np.zeros(0, np.int64)
        mark = start // self._step
        begin = mark * self._step
        found = np.empty(stop - begin, np.int64)
        found[0] = self._marks[mark]
        found[1:] = self._distances[begin : stop - 1]
        return found.cumsum(out=found)[start - begin :]

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._marks.nbytes + self._distances.nbytes


def rising(values: NDArray[np.unsignedinteger], step: int) -> RisingColumn | NDArray[np.unsignedinteger]:
    """Return numbers as a column of their distances, or as a copy where they don't rise, or by 2^32 and more.

    Args:
        step: distance of the marks from which one counts.
    """
    distances = np.zeros(len(values), np.uint32)
    for start, stop in _stretches(len(values)):
        part = values[start : stop + 1].astype(np.int64)
        found = np.diff(part)
        if len(found) and (int(found.min()) < 0 or int(found.max()) >= 1 << 32):
            return values.copy()
        distances[start : start + len(found)] = found
    return RisingColumn(values[::step].astype(np.int64), narrowed(distances), step)


def _stretches(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, STRETCH):
        yield start, min(start + STRETCH, count)

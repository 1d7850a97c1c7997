"""Gathers many short ranges of a file for one send: one track's samples lie scattered among another's.

A sendfile for each would cost more than copying them. Ranges that lie close together are read in one call by
vectors, every other one of which throws away the bytes between two ranges.
"""

from __future__ import annotations

import ctypes
import os
import threading

import numpy as np
from numpy.typing import NDArray

READ_AT_ONCE = 1 << 20
"""Most bytes that are gathered for one send; they aren't kept, whether they were sent or not."""

RUNS_AT_ONCE = 512
"""Most runs that are gathered: each takes two vectors, and a call takes 1,024 (IOV_MAX)."""

GAP = 16 * 1024
"""Bytes between two runs up to which reading them too is cheaper than another call."""

Int64 = NDArray[np.int64]


class _Scratch(threading.local):
    """Memory that a thread reads into, again and again.

    The system gives new memory of that size page by page, which costs more than the reading.
    """

    def __init__(self) -> None:
        self._gathered = np.empty(READ_AT_ONCE, np.uint8)
        self._thrown_away = np.empty(GAP, np.uint8)
        self.view = self._gathered.data
        self.gathered = self._gathered.ctypes.data
        self.thrown_away = self._thrown_away.ctypes.data


_SCRATCH = _Scratch()

_preadv = ctypes.CDLL(None, use_errno=True).preadv
_preadv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_preadv.restype = ctypes.c_ssize_t


class FileRuns:
    """Runs of a file's bytes that are sent one behind the other, or a range of them; used once.

    Args:
        offsets: position of each run in the file.
        ends: bytes of all runs up to the end of each.
        start: how many bytes of them are left out at the beginning.
        stop: how many bytes of them precede the end.
    """

    __slots__ = ("_at", "_ends", "_offsets", "_stop")

    def __init__(self, offsets: Int64, ends: Int64, start: int, stop: int) -> None:
        self._offsets = offsets
        self._ends = ends
        self._at = start
        self._stop = stop

    def __len__(self) -> int:
        """Return how many bytes are left."""
        return self._stop - self._at

    def skip(self, sent: int) -> None:
        """Advance by the bytes that were sent."""
        self._at += sent

    def read(self, file: int, most: int) -> memoryview:
        """Read the next bytes, at most `most`; none if the file is too short.

        They are valid until the same thread reads again.

        Raises:
            OSError: the file can't be read.
        """
        at, stop = self._at, min(self._stop, self._at + min(most, READ_AT_ONCE))
        low = int(self._ends.searchsorted(at, "right"))
        high = min(int(self._ends.searchsorted(stop)) + 1, low + RUNS_AT_ONCE)
        # Where the bytes of each run go, which of them are wanted, and where they come from.
        bounds = np.empty(high - low + 1, np.int64)
        bounds[1:] = self._ends[low:high]
        bounds[0], bounds[-1] = at, min(bounds[-1], stop)
        lengths, begins = bounds[1:] - bounds[:-1], self._offsets[low:high].copy()
        if low < high:
            begins[0] += at - (int(self._ends[low - 1]) if low else 0)
        behind = begins + lengths
        gaps = begins[1:] - behind[:-1]
        vectors = np.empty((2 * len(lengths), 2), np.int64)
        vectors[::2, 0] = bounds[:-1] + (_SCRATCH.gathered - at)
        vectors[::2, 1] = lengths
        vectors[1::2, 0] = _SCRATCH.thrown_away
        vectors[1:-1:2, 1] = gaps
        start = 0
        for far in (*np.flatnonzero((gaps < 0) | (gaps > GAP)).tolist(), len(lengths) - 1):
            span = int(begins[start]), int(behind[far])
            if _read(file, vectors, (start, far), span[0]) < span[1] - span[0]:
                return _SCRATCH.view[:0]
            start = far + 1
        return _SCRATCH.view[: int(bounds[-1]) - at]


def _read(file: int, vectors: Int64, runs: tuple[int, int], begin: int) -> int:
    """Read from the first to the last of some runs, with the bytes between them; return how many bytes came.

    `vectors` has address and length of each run, and of the gap behind it; `begin` is the first run's
    position.
    """
    first, last = runs
    address = vectors.ctypes.data + first * 2 * vectors.strides[0]
    have = int(_preadv(file, address, 2 * (last - first) + 1, begin))
    if have < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return have

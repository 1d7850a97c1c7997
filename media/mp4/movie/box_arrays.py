"""Arrays in the boxes of sample tables, which are read in stretches."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError

STRETCH_LENGTH = 15 << 10
"""Number of samples, or entries of a box, that are processed together.

Eight bytes for each make less than 128 KiB; malloc maps larger arrays from the system each time."""

MARK = 1 << 10
"""Number of entries of a box, or sizes, between two marks; a divisor of ``STRETCH_LENGTH``."""

Int64 = NDArray[np.int64]
Values = NDArray[np.int32]
Payload = bytes | memoryview


def stretches(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut a range into stretches, in order."""
    for begin in range(start, stop, STRETCH_LENGTH):
        yield begin, min(begin + STRETCH_LENGTH, stop)


def sums_to_marks(values: Int64) -> Int64:
    """Return the sums of the values before each mark but the first, and of all values."""
    return np.add.reduceat(values, np.arange(0, len(values), MARK)).cumsum()


def box_head(payload: Payload, kind: bytes, layout: str) -> tuple[int, ...]:
    """Return the fields at the beginning of a payload.

    Raises:
        MalformedError: it is too short.
    """
    if len(payload) < struct.calcsize(layout):
        raise MalformedError(f"{kind.decode()} is missing or cut off")
    return struct.unpack_from(layout, payload)


def box_array(
    payload: Payload, kind: bytes, offset: int, layout: str, count: int
) -> NDArray[np.unsignedinteger]:
    """View a counted array in a payload.

    Args:
        kind: type of the box, for the error.
        offset: of the array in the payload.
        layout: of an entry, as numpy names it.

    Raises:
        MalformedError: the payload has fewer entries.
    """
    dtype: np.dtype[np.unsignedinteger] = np.dtype(layout)
    if count * dtype.itemsize > len(payload) - offset:
        raise MalformedError(f"{kind.decode()}: {count} entries don't fit in {len(payload)} bytes")
    return np.frombuffer(payload, dtype, count, offset)

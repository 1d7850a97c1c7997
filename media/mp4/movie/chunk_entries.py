"""Entries of ``stsc`` (ISO/IEC 14496-12 §8.7.4) that break the standard, read as ffmpeg and browsers do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError
from media.mp4.movie.box_arrays import STRETCH_LENGTH

MOST_MENDED = 1 << 17
"""Most entries of a table that isn't in order; a film of twelve hours has half as many."""

_ABSENT = "stsc: an entry of chunks that aren't there"

Rows = NDArray[np.unsignedinteger]


def mended_entries(rows: Rows, chunks: int) -> Rows:
    """Return entries of which each has a first chunk behind the one before, samples and a sample entry.

    From the last entry to the first, one that breaks the rules becomes the entry of the chunk before the next
    one. The last entry is left out if its chunks have no samples. Chunks before the first entry are its own.

    Args:
        rows: first chunk, samples per chunk and number of the sample entry, each from 1, as in the file.
        chunks: the number of chunks that have a place in the file.

    Raises:
        MalformedError: there are no entries, too many to mend, or one of chunks that aren't there.
    """
    if not len(rows):
        raise MalformedError("stsc: no entries")
    if not _in_order(rows):
        if len(rows) > MOST_MENDED:
            raise MalformedError("stsc: the chunks aren't numbered 1 and rising up to the last")
        return _mended(rows, chunks)
    if rows[-1, 0] > chunks:
        raise MalformedError(_ABSENT)
    return rows


def _mended(rows: Rows, chunks: int) -> Rows:
    firsts: list[int] = rows[:, 0].astype(np.int32).tolist()
    others: list[list[int]] = rows[:, 1:].tolist()
    before = [0, *firsts]
    for at in range(len(firsts) - 1, -1, -1):
        first, (samples, entry) = firsts[at], others[at]
        is_last = at + 1 == len(firsts)
        if before[at] < first and first > at and (is_last or first < firsts[at + 1]) and samples and entry:
            continue
        if not is_last:
            firsts[at], others[at] = firsts[at + 1] - 1, others[at + 1]
        elif at and not samples:
            del firsts[at], others[at]
        else:
            firsts[at] = max(first, at + 1, before[at] + 1 if at else 1)
            others[at] = [max(samples, 1), max(entry, 1)]
    firsts[0] = 1
    if firsts[-1] > chunks:
        raise MalformedError(_ABSENT)
    mended = np.empty((len(firsts), 3), ">u4")
    mended[:, 0], mended[:, 1:] = firsts, others
    return mended


def _in_order(rows: Rows) -> bool:
    """Return whether no entry breaks the rules, as in nearly all files."""
    if rows[0, 0] != 1 or rows[-1, 0] >> 31:
        return False
    for begin in range(0, len(rows), STRETCH_LENGTH):
        part = rows[begin : begin + STRETCH_LENGTH + 1]
        if not part[:, 1:].all() or (part[1:, 0] <= part[:-1, 0]).any():
            return False
    return True

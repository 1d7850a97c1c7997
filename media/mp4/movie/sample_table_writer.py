"""Writes sample tables (ISO/IEC 14496-12 §8.6, §8.7) for the samples of other containers.

Samples are added as arrays, some thousand at a time, and kept as compactly as in a ``moov``.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable
from fractions import Fraction
from math import lcm
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.movie.box_arrays import STRETCH_LENGTH, Int64
from media.mp4.movie.movie import Edit

MAX_TABLE_TICKS = (1 << 31) - 1
"""Bound of durations and composition offsets, which are signed in some readers."""

LATEST_START_SECONDS = 10
"""Latest start of a film; one that begins later is a part of a longer recording, and its times begin at 0."""


Reserve = Callable[[int], None]
"""Called with a number of bytes before memory is allocated; it may block until they are free."""

RESERVED_AT_ONCE = 1 << 20
"""Bytes that are reserved together."""

FRAME_BYTES = 80
"""Most bytes of memory for a frame until it is in its track's tables, intermediate results included."""

FRAMES_AT_ONCE = 1 << 16
"""Frames for which memory is reserved together."""

WRITING_SHARE = 2
"""Peak memory while tables are written, in multiples of their size: the largest table is copied."""


def reserve_nothing(_nbytes: int) -> None:
    """Reserve memory without a budget."""


class FrameRoom:
    """The memory for frames that were found in a file, before they are in its tables.

    Args:
        reserve: called before memory is allocated.
    """

    def __init__(self, reserve: Reserve = reserve_nothing) -> None:
        self._reserve = reserve
        self._frames = 0

    def reserve(self, frames: int) -> None:
        """Reserve memory for a total number of frames of all tracks, if it isn't reserved yet."""
        while frames > self._frames:
            self._reserve(FRAMES_AT_ONCE * FRAME_BYTES)
            self._frames += FRAMES_AT_ONCE


class TableRoom:
    """The memory budget for the tables of all tracks of a file.

    Args:
        nbytes: budget in bytes.
        reserve: called before memory is allocated.
    """

    def __init__(self, nbytes: int, reserve: Reserve = reserve_nothing) -> None:
        self._nbytes = nbytes
        self._left = nbytes
        self._reserve = reserve
        self._reserved_left = nbytes

    def reserve(self, nbytes: int) -> None:
        """Reserve bytes of the budget; raise TooLargeError if it is exceeded."""
        self._left -= nbytes
        if self._left < 0:
            raise TooLargeError(f"sample tables of more than {self._nbytes} bytes")
        lacking = self._reserved_left - self._left
        if lacking > 0:
            count = -(-lacking // RESERVED_AT_ONCE) * RESERVED_AT_ONCE
            self._reserve(WRITING_SHARE * count)
            self._reserved_left -= count


class SampleColumns(NamedTuple):
    """Samples of one track in decoding order; each column has a value for each of them.

    Attributes:
        decode_time: ticks of the track's timescale, never falling.
        offset: of the first byte in the file.
        size: bytes.
        composition_offset: ticks from decoding to presentation; may be negative.
        is_sync: whether decoding can begin with it.
    """

    decode_time: Int64
    offset: Int64
    size: Int64
    composition_offset: Int64
    is_sync: NDArray[np.bool_]

    def part(self, start: int, stop: int) -> SampleColumns:
        """Return a range of the samples."""
        part = slice(start, stop)
        times, offsets, sizes = self.decode_time[part], self.offset[part], self.size[part]
        return SampleColumns(times, offsets, sizes, self.composition_offset[part], self.is_sync[part])


class RunLengths:
    """Run lengths of equal values, as in ``stts`` and ``ctts``: pairs of count and value.

    Negative values are kept in 32 bits, as two's complement.
    """

    def __init__(self) -> None:
        self._pairs = array("I")

    @property
    def nbytes(self) -> int:
        """Bytes of the pairs."""
        return self._pairs.itemsize * len(self._pairs)

    @property
    def last(self) -> int:
        """The value that was added last; 0 before the first."""
        return self._pairs[-1] if self._pairs else 0

    def any(self) -> bool:
        """Return whether any value isn't 0."""
        return bool(np.asarray(self._pairs)[1::2].any())

    def add(self, value: int) -> None:
        """Add a value."""
        value &= 0xFFFF_FFFF
        if self._pairs and self._pairs[-1] == value:
            self._pairs[-2] += 1
        else:
            self._pairs.append(1)
            self._pairs.append(value)

    def extend(self, values: Int64) -> None:
        """Add many values."""
        if not len(values):
            return
        starts = np.append(0, np.flatnonzero(np.diff(values)) + 1)
        counts, first = np.diff(starts, append=len(values)), int(values[0]) & 0xFFFF_FFFF
        if self._pairs and self._pairs[-1] == first:
            counts[0] += self._pairs[-2]
            del self._pairs[-2:]
        rows = np.stack((counts, values[starts] & 0xFFFF_FFFF), axis=1)
        self._pairs.frombytes(rows.astype(np.uint32).tobytes())

    def raise_last(self, by: int) -> None:
        """Make the last value larger."""
        value = self.last
        self._pairs[-2] -= 1
        if not self._pairs[-2]:
            del self._pairs[-2:]
        self.add(value + by)

    def render(self, version: int = 0) -> bytes:
        """Write the box's payload, version and flags included."""
        head = struct.pack(">B3xI", version, len(self._pairs) // 2)
        # Swapped in place to big-endian while they are written: the pairs of a film aren't copied for that.
        _swap(self._pairs)
        table = head + self._pairs
        _swap(self._pairs)
        return table

    def clear(self) -> None:
        """Drop all values."""
        del self._pairs[:]


def _swap(pairs: array[int]) -> None:
    if sys.byteorder == "little":
        pairs.byteswap()


class SampleTableWriter:
    """The sample table of one track, written as its samples become known.

    Args:
        room: for the tables of all tracks of the file.

    Attributes:
        count: number of samples that were added.
        end: decode time at which the last sample ends, by the last call of ``add``.
    """

    def __init__(self, room: TableRoom) -> None:
        self._room = room
        self._pending: list[SampleColumns] = []
        self._waiting = self._written = self._chunks = self._per_chunk = 0
        self._sizes, self._places, self._sync = bytearray(), bytearray(), bytearray()
        self._chunk_runs = bytearray()
        self._durations, self._offsets = RunLengths(), RunLengths()
        self.count = self.end = 0

    def add(self, samples: SampleColumns, end: int) -> None:
        """Add samples; ``end`` is the decode time at which the last one ends if nothing follows.

        Raises:
            MalformedError: decode times go back.
            UnsupportedError: a duration is longer than a table can hold.
            TooLargeError: the memory budget is exceeded.
        """
        self._pending.append(samples)
        self._waiting += len(samples.size)
        self.count += len(samples.size)
        self.end = end
        if self._waiting > STRETCH_LENGTH:
            self._write(last=False)

    def render(self) -> dict[bytes, memoryview]:
        """Return the payloads of the boxes by type, version and flags included, and empty the writer."""
        if self._waiting:
            self._write(last=True)
        some_depend = len(self._sync) != 4 * self._written
        tables = {
            b"stts": _rendered(self._durations),
            b"stsc": _counted(self._chunk_runs, 12),
            b"stsz": _joined(struct.pack(">III", 0, 0, self._written), self._sizes),
            b"co64": _counted(self._places, 8),
        }
        if self._offsets.any():
            tables[b"ctts"] = _rendered(self._offsets, version=1)  # §8.6.1.3: signed from version 1 on
        if some_depend:  # §8.6.2: without it every sample is a sync sample
            tables[b"stss"] = _counted(self._sync, 4)
        return {kind: memoryview(table) for kind, table in tables.items()}

    def _write(self, *, last: bool) -> None:
        """Write the waiting samples; the duration of a sample is known when the next one is added."""
        waiting = SampleColumns(
            np.concatenate([part.decode_time for part in self._pending]),
            np.concatenate([part.offset for part in self._pending]),
            np.concatenate([part.size for part in self._pending]),
            np.concatenate([part.composition_offset for part in self._pending]),
            np.concatenate([part.is_sync for part in self._pending]),
        )
        time, offset, size, composition_offset, is_sync = waiting
        count = len(size) if last else len(size) - 1
        # A last sample whose time is over before it began has none.
        durations = np.diff(time, append=max(self.end, int(time[-1])))[:count]
        if np.any(durations < 0):
            raise MalformedError("decode times go back")
        if (
            int(durations.max(initial=0)) > MAX_TABLE_TICKS
            or int(np.abs(composition_offset).max()) > MAX_TABLE_TICKS
        ):
            raise UnsupportedError("samples whose times are too far apart for a table")
        self._pending = [] if last else [waiting.part(count, len(size))]
        self._waiting = len(time) - count
        before = self._nbytes
        self._durations.extend(durations)
        self._offsets.extend(composition_offset[:count])
        self._sizes += size[:count].astype(">u4").tobytes()
        self._sync += (np.flatnonzero(is_sync[:count]) + self._written + 1).astype(">u4").tobytes()
        self._written += count
        self._write_chunks(offset[:count], size[:count])
        self._room.reserve(self._nbytes - before)

    def _write_chunks(self, offset: Int64, size: Int64) -> None:
        """Write the chunks of samples: adjacent samples share a chunk (§8.7.4)."""
        starts = np.flatnonzero(offset[1:] != offset[:-1] + size[:-1]) + 1
        starts = np.append(0, starts) if len(offset) else starts
        self._places += offset[starts].astype(">u8").tobytes()
        lengths = np.diff(starts, append=len(offset))
        changes = np.flatnonzero(np.diff(lengths, prepend=self._per_chunk))
        rows = np.ones((len(changes), 3), ">u4")
        rows[:, 0] = changes + self._chunks + 1
        rows[:, 1] = lengths[changes]
        self._chunk_runs += rows.tobytes()
        self._chunks += len(starts)
        self._per_chunk = int(lengths[-1]) if len(lengths) else self._per_chunk

    @property
    def _nbytes(self) -> int:
        parts = (self._sizes, self._places, self._sync, self._chunk_runs)
        return sum(map(len, parts)) + self._durations.nbytes + self._offsets.nbytes


def _rendered(runs: RunLengths, version: int = 0) -> bytes:
    """Write runs, whose memory is freed."""
    table = runs.render(version)
    runs.clear()
    return table


def _counted(rows: bytearray, width: int) -> bytes:
    return _joined(struct.pack(">4xI", len(rows) // width), rows)


def _joined(head: bytes, rows: bytearray) -> bytes:
    """Put a head before rows, whose memory is freed: only one table of a film is in memory twice."""
    table = head + rows
    rows.clear()
    return table


class TrackStart(NamedTuple):
    """The start of a track.

    Attributes:
        timescale: ticks per second.
        zero: presentation time of the media's tick 0, in ticks; may be negative.
        first: presentation time of the first sample, in ticks; may be negative.
    """

    timescale: int
    zero: int
    first: int


def presentation_origin(starts: list[TrackStart]) -> Fraction:
    """Return the time in seconds at which a file's presentation begins, by its tracks' clock."""
    begins = min((Fraction(start.first, start.timescale) for start in starts), default=Fraction(0))
    return begins if begins > LATEST_START_SECONDS else Fraction(0)


def edit_lists(starts: list[TrackStart]) -> tuple[int, list[tuple[Edit, ...]]]:
    """Write edit lists (§8.6.6) that shift tracks whose media begin at tick 0 to their starts.

    Returns:
        The timescale of their durations, and the list of each track.
    """
    timescale, origin = lcm(*(start.timescale for start in starts)), presentation_origin(starts)
    lists: list[tuple[Edit, ...]] = []
    for start in starts:
        zero = Fraction(start.zero, start.timescale) - origin
        if zero > 0:
            lists.append((Edit(int(zero * timescale), -1), Edit(0, 0)))
        else:
            lists.append((Edit(0, round(-zero * start.timescale)),) if zero else ())
    return timescale, lists

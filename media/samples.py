"""Sample tables (ISO/IEC 14496-12 §8.6, §8.7): the run-length boxes of a track as arrays, one row a sample.

Every count is held against the bytes that must be behind it, and against ``MAX_SAMPLES``, before anything
of that length is made; a table can't cost more than its own size in the file times a small constant.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, UnsupportedError

MAX_SAMPLES = 1 << 23
"""Most samples of one track: 49 hours of AAC at 48 kHz. Uncompressed sound has a sample per tick."""

_FARTHEST = 1 << 62
"""Bound of offsets in a file, so that sums with sizes stay inside 64 bits."""

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SampleTable:
    """The samples of one track in decoding order.

    Attributes:
        offset: of each sample's first byte in the file.
        size: of each sample in bytes.
        decode_time: in ticks of the media's timescale; one more entry than samples, the last is the end.
        composition_offset: composition time minus decode time in ticks, signed (§8.6.1.3).
        sync: indexes of the sync samples, rising (§8.6.2).
        description: index of the sample entry that all samples use, from 0.
    """

    offset: Int64
    size: Int64
    decode_time: Int64
    composition_offset: Int64
    sync: Int64
    description: int

    def __len__(self) -> int:
        return len(self.size)

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take, in bytes."""
        arrays = (self.offset, self.size, self.decode_time, self.composition_offset, self.sync)
        return sum(array.nbytes for array in arrays)

    @property
    def composition_time(self) -> Int64:
        """When each sample is presented on the media's own timeline, in ticks; edit lists not applied."""
        return np.add(self.decode_time[:-1], self.composition_offset)


def parse_samples(tables: Mapping[bytes, bytes | memoryview], descriptions: int) -> SampleTable:
    """Expand a track's sample table.

    Args:
        tables: payloads (version and flags included) of ``stts``, ``stsc``, ``stsz`` or ``stz2``, ``stco``
            or ``co64``, and where they are there ``ctts`` and ``stss``.
        descriptions: how many sample entries the track has.

    Returns:
        The table; it may be empty.

    Raises:
        MalformedError: a box is missing or cut off, or the boxes don't agree with each other.
        UnsupportedError: there are more than ``MAX_SAMPLES``, or the samples use several sample entries.
    """
    size = _sizes(tables)
    count = len(size)
    offset, description = _offsets(tables, size, descriptions)
    decode_time = np.zeros(count + 1, np.int64)
    deltas = _runs(tables, b"stts", ">i4", count)
    if np.any(deltas < 0):  # §8.6.1.2: decoding times never go back; some writers put -1 here
        raise MalformedError("stts: a delta of 2^31 or more")
    np.cumsum(deltas, out=decode_time[1:])
    composition_offset = np.zeros(count, np.int64)
    if b"ctts" in tables:
        # §8.6.1.3: unsigned in version 0, but writers of version 0 put negative offsets there, too.
        composition_offset = _runs(tables, b"ctts", ">i4", count)
    return SampleTable(offset, size, decode_time, composition_offset, _sync(tables, count), description)


def _sizes(tables: Mapping[bytes, bytes | memoryview]) -> Int64:
    """Read ``stsz`` (§8.7.3.2) or ``stz2`` (§8.7.3.3)."""
    if b"stsz" in tables and b"stz2" in tables:
        raise MalformedError("both stsz and stz2")
    if b"stsz" in tables:
        payload = tables[b"stsz"]
        constant, count = _head(payload, b"stsz", ">4xII")
        _limit(count)
        if constant:
            return np.full(count, constant, np.int64)
        return _array(payload, b"stsz", 12, ">u4", count).astype(np.int64)
    if b"stz2" not in tables:
        raise MalformedError("no stsz")
    payload = tables[b"stz2"]
    field_size, count = _head(payload, b"stz2", ">7xBI")
    _limit(count)
    if field_size == 4:
        pairs = _array(payload, b"stz2", 12, ">u1", (count + 1) // 2)
        return np.stack((pairs >> 4, pairs & 15), axis=1).ravel()[:count].astype(np.int64)
    if field_size not in (8, 16):
        raise MalformedError(f"stz2: field size {field_size}")
    return _array(payload, b"stz2", 12, f">u{field_size // 8}", count).astype(np.int64)


def _offsets(tables: Mapping[bytes, bytes | memoryview], size: Int64, descriptions: int) -> tuple[Int64, int]:
    """Place the samples by their chunks (``stsc`` §8.7.4, ``stco`` and ``co64`` §8.7.5)."""
    count = len(size)
    chunks = _chunk_offsets(tables)
    if count == 0:
        return np.zeros(0, np.int64), 0
    payload = tables.get(b"stsc", b"")
    (entries,) = _head(payload, b"stsc", ">4xI")
    rows = _array(payload, b"stsc", 8, ">u4", entries * 3).astype(np.int64).reshape(-1, 3)
    first, per_chunk, description = rows[:, 0], rows[:, 1], rows[:, 2]
    if entries == 0 or first[0] != 1 or np.any(np.diff(first) <= 0) or first[-1] > len(chunks):
        raise MalformedError("stsc: the chunks aren't numbered 1 and rising up to the last")
    if np.any(description < 1) or np.any(description > descriptions):
        raise MalformedError("stsc: a sample description that isn't there")
    if np.any(description != description[0]):
        raise UnsupportedError("the codec's configuration changes within a track")
    # No chunk needs more samples than there are; the bound keeps the sums small.
    lengths = np.repeat(np.minimum(per_chunk, count), np.diff(np.append(first, len(chunks) + 1)))
    before = np.cumsum(lengths) - lengths
    if before[-1] + lengths[-1] < count:
        raise MalformedError("stsc: the chunks hold fewer samples than stsz")
    # Chunks behind the last sample are tolerated: their sample runs are cut to nothing.
    lengths = np.clip(count - before, 0, lengths)
    start = np.minimum(before, count - 1)
    into = np.cumsum(size) - size
    return into + np.repeat(chunks - into[start], lengths), int(description[0]) - 1


def _chunk_offsets(tables: Mapping[bytes, bytes | memoryview]) -> Int64:
    if (b"stco" in tables) == (b"co64" in tables):
        raise MalformedError("there must be one of stco and co64")
    kind, layout = (b"stco", ">u4") if b"stco" in tables else (b"co64", ">u8")
    payload = tables[kind]
    (count,) = _head(payload, kind, ">4xI")
    offsets = _array(payload, kind, 8, layout, count)
    if count and int(offsets.max()) > _FARTHEST:
        raise MalformedError(f"{kind.decode()}: offset past 2^62")
    return offsets.astype(np.int64)


def _runs(tables: Mapping[bytes, bytes | memoryview], kind: bytes, layout: str, count: int) -> Int64:
    """Expand (how many samples, value) pairs to ``count`` values (``stts`` §8.6.1.2, ``ctts`` §8.6.1.3)."""
    payload = tables.get(kind, b"")
    (entries,) = _head(payload, kind, ">4xI")
    fields = _array(payload, kind, 8, ">u4", entries * 2).reshape(-1, 2)
    ends = np.minimum(np.cumsum(fields[:, 0], dtype=np.uint64), count).astype(np.int64)
    covered = int(ends[-1]) if entries else 0
    if covered < count:
        raise MalformedError(f"{kind.decode()}: {covered} samples where stsz has {count}")
    values = np.ascontiguousarray(fields[:, 1]).view(layout).astype(np.int64)
    return np.repeat(values, np.diff(ends, prepend=0))


def _sync(tables: Mapping[bytes, bytes | memoryview], count: int) -> Int64:
    """Read ``stss`` (§8.6.2); without it every sample is a sync sample."""
    if b"stss" not in tables:
        return np.arange(count, dtype=np.int64)
    payload = tables[b"stss"]
    (entries,) = _head(payload, b"stss", ">4xI")
    numbers = _array(payload, b"stss", 8, ">u4", entries).astype(np.int64)
    if entries and (numbers[0] < 1 or numbers[-1] > count or np.any(np.diff(numbers) <= 0)):
        raise MalformedError("stss: the sample numbers aren't rising within 1 and the last")
    return np.subtract(numbers, 1)


def _head(payload: bytes | memoryview, kind: bytes, layout: str) -> tuple[int, ...]:
    if len(payload) < struct.calcsize(layout):
        raise MalformedError(f"{kind.decode()} is missing or cut off")
    return struct.unpack_from(layout, payload)


def _limit(count: int) -> None:
    if count > MAX_SAMPLES:
        raise UnsupportedError(f"a track of {count} samples: more than {MAX_SAMPLES}")


def _array(
    payload: bytes | memoryview, kind: bytes, offset: int, layout: str, count: int
) -> NDArray[np.unsignedinteger]:
    """View a counted array in a payload, after holding the count against the bytes that are there."""
    dtype: np.dtype[np.unsignedinteger] = np.dtype(layout)
    if count * dtype.itemsize > len(payload) - offset:
        raise MalformedError(f"{kind.decode()}: {count} entries don't fit in {len(payload)} bytes")
    return np.frombuffer(payload, dtype, count, offset)

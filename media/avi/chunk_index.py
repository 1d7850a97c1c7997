"""Places of an AVI file's chunks, by the index at its end, by those of OpenDML, or without any."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from media.avi.headers import AviStream
from media.errors import TooLargeError
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.sample_table_writer import FrameRoom

INDEX_BYTES = 48 << 20
"""Largest index: of ten hours of film with sound in small chunks, each of which has 16 bytes in it."""

MAX_INDEX_CHUNKS = 4096
"""Most indexes of one stream in OpenDML."""

WINDOW_BYTES = 4 << 10
"""Bytes that are read at once in search of chunks."""

KEY_FRAME = 0x10
"""AVIIF_KEYFRAME."""

_LISTS = (b"movi", b"rec ")
_VIDEO_SUFFIXES = (b"dc", b"db", b"iv")


@dataclass(frozen=True, slots=True)
class StreamChunks:
    """The chunks of one stream in the file's order.

    Attributes:
        offsets: where the content of each begins.
        sizes: bytes of each; an empty one stands for a repeated picture.
        keys: whether decoding can begin with each; None if the file doesn't say.
    """

    offsets: Int64
    sizes: Int64
    keys: NDArray[np.bool_] | None


@dataclass(slots=True)
class _FoundChunks:
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("I"))


def open_dml_index(
    stream: AviStream, number: int, read: Read, size: int, room: FrameRoom, limit: int
) -> StreamChunks | None:
    """Read the OpenDML index of a stream; return None if it has none, or a damaged one.

    Args:
        size: length of the file in bytes.

    Raises:
        TooLargeError: a limit is exceeded.
    """
    data = stream.super_index
    if len(data) < 24:
        return None
    longs, _, kind, count = struct.unpack_from("<HBBI", data)
    if kind == 1:
        return _standard_index(data, size, room, limit)
    if kind != 0 or longs != 4 or not count:
        return None
    parts: list[StreamChunks] = []
    for entry in range(min(count, (len(data) - 24) // 16)):
        if entry >= MAX_INDEX_CHUNKS:
            raise TooLargeError(f"stream {number}: more than {MAX_INDEX_CHUNKS} indexes")
        place, length = struct.unpack_from("<QI", data, 24 + 16 * entry)
        if length > INDEX_BYTES:
            raise TooLargeError(f"an index of {length} bytes: more than {INDEX_BYTES}")
        if place >= size or length < 32:
            break  # the file is cut short
        whole = read(place, length)
        known = sum(len(part.sizes) for part in parts)
        part = _standard_index(whole[8:], size, room, limit - known) if len(whole) == length else None
        if part is None:
            break
        parts.append(part)
    if not parts:
        return None
    keys = [part.keys for part in parts if part.keys is not None]
    return StreamChunks(
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.sizes for part in parts]),
        np.concatenate(keys),
    )


def _standard_index(data: bytes, size: int, room: FrameRoom, limit: int) -> StreamChunks | None:
    """Read an index of chunks (OpenDML 1.02 §3.3), payload only."""
    if len(data) < 24:
        return None
    longs, _, kind, count = struct.unpack_from("<HBBI", data)
    (base,) = struct.unpack_from("<Q", data, 12)
    count = min(count, (len(data) - 24) // (4 * longs)) if longs in (2, 3) else 0
    if kind != 1 or not count or base >= size:
        return None
    _check(count, limit)
    room.reserve(count)
    rows = np.frombuffer(data, "<u4", longs * count, 24).reshape(-1, longs)
    sizes = (rows[:, 1] & 0x7FFF_FFFF).astype(np.int64)
    return StreamChunks(rows[:, 0].astype(np.int64) + base, sizes, rows[:, 1] >> 31 == 0)


def _check(count: int, limit: int) -> None:
    if count > limit:
        raise TooLargeError("more chunks than the limits allow")


def first_index(
    data: bytes, movi: int, streams: int, probe: Callable[[int], bytes], limit: int
) -> list[StreamChunks] | None:
    """Read the index at the end of the file (``idx1``); return None if it doesn't fit the file.

    Args:
        data: its entries of 16 bytes each.
        movi: offset of the FourCC of the list of chunks.
        probe: reads the eight bytes at an offset of the file.

    Raises:
        TooLargeError: a limit is exceeded.
    """
    rows = np.frombuffer(data, "<u4", len(data) // 16 * 4).reshape(-1, 4)
    _check(len(rows), limit)
    kinds = rows[:, 0] >> 16
    numbers = ((rows[:, 0] & 0xFF).astype(np.int64) - 48) * 10 + (rows[:, 0] >> 8 & 0xFF) - 48
    suffixes = [int.from_bytes(suffix, "little") for suffix in (*_VIDEO_SUFFIXES, b"wb")]
    rows, numbers = rows[used := np.isin(kinds, suffixes)], numbers[used]
    if not len(rows):
        return None
    base = _base(rows, movi, probe)
    if base is None:
        return None
    found: list[StreamChunks] = []
    for number in range(streams):
        own = rows[numbers == number]
        offsets, sizes = own[:, 2].astype(np.int64) + base + 8, own[:, 3].astype(np.int64)
        found.append(StreamChunks(offsets, sizes & 0x7FFF_FFFF, own[:, 1] & KEY_FRAME != 0))
    return found


def _base(rows: NDArray[np.uint32], movi: int, probe: Callable[[int], bytes]) -> int | None:
    """Find out from where offsets count: from the list of chunks, or from the file's begin."""
    chosen = rows[[0, len(rows) // 2, -1]]
    for base in (movi, 0, movi + 4):
        heads = [(probe(int(row[2]) + base), row[[0, 3]].astype("<u4").tobytes()) for row in chosen]
        # The end may be missing of a file that was cut short.
        if heads[0][0][:4] == heads[0][1][:4] and all(not head or head[:4] == row[:4] for head, row in heads):
            return base
    return None


class ChunkWalk:
    """Finds chunks by going from one to the next.

    Args:
        size: length of the file in bytes.
        limit: most chunks that are visited.
    """

    def __init__(self, read: Read, size: int, room: FrameRoom, limit: int) -> None:
        self._read, self._size, self._room, self._limit = read, size, room, limit
        self._window, self._start = b"", 0
        self.found: dict[int, _FoundChunks] = {}

    def run(self, position: int, streams: int) -> list[StreamChunks]:
        """Walk from the first chunk of the list to the end of the file, or to what is no chunk."""
        visited = 0
        while position + 8 <= self._size:
            visited += 1
            _check(visited, self._limit)
            head = self._bytes(position)
            kind, size = head[:4], int.from_bytes(head[4:8], "little")
            if kind in (b"LIST", b"RIFF"):
                position += 12 if kind == b"RIFF" or head[8:12] in _LISTS else 8 + size + size % 2
                continue
            if not kind[:2].isdigit() and not kind.isalnum() and kind != b"JUNK":
                break
            if kind[:2].isdigit() and (kind[2:] in _VIDEO_SUFFIXES or kind[2:] == b"wb"):
                if position + 8 + size > self._size:
                    break
                one = self.found.setdefault(int(kind[:2]), _FoundChunks())
                one.offsets.append(position + 8)
                one.sizes.append(size)
                self._room.reserve(visited)
            position += 8 + size + size % 2
        empty = _FoundChunks()
        collected = [self.found.get(number, empty) for number in range(streams)]
        return [
            StreamChunks(np.asarray(one.offsets, np.int64), np.asarray(one.sizes, np.int64), None)
            for one in collected
        ]

    def _bytes(self, position: int) -> bytes:
        at = position - self._start
        if not 0 <= at <= len(self._window) - 12:
            self._window, self._start, at = self._read(position, WINDOW_BYTES), position, 0
        return self._window[at : at + 12]

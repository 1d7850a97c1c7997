"""Moves a file's ``moov``, which may be anywhere (ISO/IEC 14496-12 §6.2.3), to the front.

A decoder that can't seek needs it before the media. What moves them is that the places of chunks (§8.7.5)
count from the beginning of the file; nothing else that is played does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.boxes import Box, full_box, header
from media.mp4.movie import DEFAULT_LIMITS, Boxes, MovieLimits
from media.mp4.sample_table import STRETCH_LENGTH

_FARTHEST = 1 << 62
"""Bound of places in a file, so that sums with sizes stay inside 64 bits."""

UInt64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class _Table:
    """The places of one track's chunks: ``stco`` (32 bits) or ``co64`` (§8.7.5)."""

    parents: tuple[Box, ...]
    box: Box
    count: int

    @property
    def width(self) -> int:
        """Bytes of an entry."""
        return 8 if self.box.kind == b"co64" else 4

    @property
    def growth(self) -> int:
        """How much longer it is in 64 bits."""
        return 0 if self.width == 8 else 16 + 8 * self.count - self.box.size

    def places(self, moov: bytes) -> Iterator[tuple[int, UInt64]]:
        """Give the places, some thousand at a time, and of each stretch the index of the first."""
        entries = np.frombuffer(moov, f">u{self.width}", self.count, self.box.payload + 8)
        for begin in range(0, self.count, STRETCH_LENGTH):
            yield begin, entries[begin : begin + STRETCH_LENGTH].astype(np.uint64)


@dataclass(frozen=True, slots=True)
class _Move:
    """A ``moov`` of so many bytes that moves forward in its file, and grows."""

    start: int
    front: int
    length: int
    growth: int = 0

    def apply(self, places: UInt64) -> UInt64:
        """Say where chunks lie behind it."""
        end = self.start + self.length
        if np.any((places >= self.start) & (places < end)):
            raise MalformedError("a chunk lies in the moov")
        moved = places.copy()
        moved[(places >= self.front) & (places < self.start)] += np.uint64(self.length + self.growth)
        moved[places >= end] += np.uint64(self.growth)
        return moved


def moved_forward(moov: bytes, start: int, front: int, limits: MovieLimits = DEFAULT_LIMITS) -> bytes:
    """Rewrite a ``moov`` so that it fits further in front in its file.

    The file is then what was before ``front``, what this returns, and the rest in order without the old one.

    Args:
        front: where it shall lie, in front of all media.

    Returns:
        The box, its chunks' places in 64 bits where 32 don't reach any more.

    Raises:
        MalformedError: its boxes or tables are impossible.
        UnsupportedError: it is compressed.
        TooLargeError: it is larger than it may be, or has too many tracks or boxes.
    """
    if len(moov) > limits.moov_bytes:
        raise TooLargeError(f"moov of {len(moov)} bytes: more than {limits.moov_bytes}")
    tables = list(_tables(moov, limits))
    move = _Move(start, front, len(moov))
    overflowing = [table for table in tables if _overflows(table, moov, move)]
    if overflowing:
        move = replace(move, growth=sum(table.growth for table in tables))
    found = bytearray(moov)
    # From the last one on: what grows moves nothing that is still to be written.
    for table in reversed(tables):
        layout, first = f">u{table.width}", table.box.payload + 8
        if overflowing and table.width == 4:
            _widen(found, table)
            layout, first = ">u8", table.box.start + 16
        width = int(layout[-1])
        for begin, places in table.places(moov):
            at = first + begin * width
            found[at : at + width * len(places)] = move.apply(places).astype(layout).tobytes()
    if not any(found[:4]):  # §4.2: size 0 is up to the end of the file, where it isn't any more
        found[:4] = len(found).to_bytes(4, "big")
    return bytes(found)


def _overflows(table: _Table, moov: bytes, move: _Move) -> bool:
    """Look at all places of a table, and say whether any needs more bits than it has."""
    overflows = False
    for _, places in table.places(moov):
        if np.any(places >= _FARTHEST):
            raise MalformedError(f"{table.box.kind.decode()!r}: a chunk beyond all files")
        overflows |= table.width == 4 and bool(np.any(move.apply(places) >= 1 << 32))
    return overflows


def _tables(moov: bytes, limits: MovieLimits) -> Iterator[_Table]:
    """Find where the places of each track's chunks are."""
    top = header(moov, 0, len(moov))
    if top.kind != b"moov" or top.end != len(moov):
        raise MalformedError("no moov, or more than that")
    boxes = Boxes(moov, limits)
    inside = _inside(boxes, top, b"trak", b"cmov")
    traks = [found for found in inside if found.kind == b"trak"]
    if len(traks) < len(inside):  # QuickTime File Format, "Compressed movie resources"
        raise UnsupportedError("compressed moov (cmov)")
    boxes.check_tracks(len(traks))
    for trak in traks:
        parents = [top, trak]
        for kinds in ((b"mdia",), (b"minf",), (b"stbl",), (b"stco", b"co64")):
            inside = _inside(boxes, parents[-1], *kinds)
            if len(inside) != 1:  # §8.4.1, §8.4.4, §8.5.1, §8.7.5: exactly one
                raise MalformedError(f"{len(inside)} boxes {kinds[0].decode()!r} where one must be")
            parents.append(inside[0])
        yield _Table(tuple(parents[:-1]), parents[-1], _count(moov, parents[-1]))


def _inside(boxes: Boxes, parent: Box, *kinds: bytes) -> Sequence[Box]:
    return [child for child in boxes.walk(parent.payload, parent.end) if child.kind in kinds]


def _count(data: bytes, table: Box) -> int:
    width = 8 if table.kind == b"co64" else 4
    room = table.end - table.payload - 8
    count = int.from_bytes(data[table.payload + 4 : table.payload + 8], "big")
    if room < 0 or count * width > room:
        raise MalformedError(f"{table.kind.decode()!r} is shorter than its {count} entries")
    return count


def _widen(moov: bytearray, table: _Table) -> None:
    """Make room for a table in 64 bits, and make what it is in as much longer."""
    empty = full_box(b"co64", 0, 0, table.count.to_bytes(4, "big"), bytes(8 * table.count))
    moov[table.box.start : table.box.end] = empty
    for parent in table.parents:
        # §4.2: the size is in 32 bits, or says 1, and 64 follow; 0 stays what it is.
        at, width = (parent.start, 4) if parent.payload - parent.start == 8 else (parent.start + 8, 8)
        size = int.from_bytes(moov[at : at + width], "big")
        if size:
            moov[at : at + width] = (size + table.growth).to_bytes(width, "big")

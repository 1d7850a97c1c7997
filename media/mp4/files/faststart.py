"""Moves a file's ``moov``, which may be anywhere (ISO/IEC 14496-12 §6.2.3), to the front.

A decoder that can't seek needs the ``moov`` before the media. The offsets of chunks (§8.7.5) count from the
beginning of the file and are adjusted; nothing else that is played has absolute offsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.boxes import Box, full_box, header
from media.mp4.movie.box_arrays import STRETCH_LENGTH
from media.mp4.movie.movie import DEFAULT_LIMITS, Boxes, MovieLimits

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
        """Bytes that the table grows by with 64-bit offsets."""
        return 0 if self.width == 8 else 16 + 8 * self.count - self.box.size

    def places(self, moov: bytes) -> Iterator[tuple[int, UInt64]]:
        """Yield the offsets in stretches of some thousand, each with the index of its first entry."""
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
        """Return the offsets of chunks after the move."""
        end = self.start + self.length
        if np.any((places >= self.start) & (places < end)):
            raise MalformedError("a chunk lies in the moov")
        moved = places.copy()
        moved[(places >= self.front) & (places < self.start)] += np.uint64(self.length + self.growth)
        moved[places >= end] += np.uint64(self.growth)
        return moved


def moved_forward(moov: bytes, start: int, front: int, limits: MovieLimits = DEFAULT_LIMITS) -> bytes:
    """Rewrite a ``moov`` so that it fits further in front in its file.

    The new file is the bytes before ``front``, the returned box, and the rest in order without the old box.

    Args:
        front: new offset of the box, before all media.

    Returns:
        The box, with 64-bit chunk offsets where 32 bits don't suffice.

    Raises:
        MalformedError: boxes or tables are impossible.
        UnsupportedError: the ``moov`` is compressed.
        TooLargeError: the ``moov`` is too large, or has too many tracks or boxes.
    """
    if len(moov) > limits.moov_bytes:
        raise TooLargeError(f"moov of {len(moov)} bytes: more than {limits.moov_bytes}")
    tables = list(_tables(moov, limits))
    move = _Move(start, front, len(moov))
    overflowing = [table for table in tables if _overflows(table, moov, move)]
    if overflowing:
        move = replace(move, growth=sum(table.growth for table in tables))
    found = bytearray(moov)
    # From the last table on: a growing table doesn't move those that are still to be written.
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
    """Return whether any moved offset of a table needs more bits than the table's entries have."""
    overflows = False
    for _, places in table.places(moov):
        if np.any(places >= _FARTHEST):
            raise MalformedError(f"{table.box.kind.decode()!r}: a chunk beyond all files")
        overflows |= table.width == 4 and bool(np.any(move.apply(places) >= 1 << 32))
    return overflows


def _tables(moov: bytes, limits: MovieLimits) -> Iterator[_Table]:
    """Find the chunk offset table of each track."""
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
    """Make room for 64-bit offsets in a table, and enlarge the boxes around it."""
    empty = full_box(b"co64", 0, 0, table.count.to_bytes(4, "big"), bytes(8 * table.count))
    moov[table.box.start : table.box.end] = empty
    for parent in table.parents:
        # §4.2: the size is in 32 bits, or says 1, and 64 follow; 0 stays what it is.
        at, width = (parent.start, 4) if parent.payload - parent.start == 8 else (parent.start + 8, 8)
        size = int.from_bytes(moov[at : at + width], "big")
        if size:
            moov[at : at + width] = (size + table.growth).to_bytes(width, "big")

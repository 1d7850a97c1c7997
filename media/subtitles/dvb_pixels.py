"""Pixels of DVB subtitles (ETSI EN 300 743 §7.2.5), in a form that every decoder reads.

A line is of strings with 2, 4 or 8 bits a pixel, each with a signal at its end. Where a string of 8 bits
fills the region's width, some decoders take one of that signal's two bytes, and others both.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

from media.errors import MalformedError

TWO_BITS, FOUR_BITS, EIGHT_BITS, END_OF_LINE = 0x10, 0x11, 0x12, 0xF0
"""Types of data in a line."""

MAP_TABLES: Mapping[int, int] = {0x20: 2, 0x21: 4, 0x22: 16}
"""Bytes of tables that map pixels to those of more bits."""

_HEAD = struct.Struct(">HBHH")
_CODING, _PIXELS = 0x0C, 0x00
_MAX_BYTES = 0xFFFF
_CUT_OFF = "a line of pixels is cut off"


def readable_object(data: bytes, room: int) -> bytes:
    """Return the data of an object's segment, with its strings of 8 bits as every decoder reads them.

    An object without such strings is returned as it is, and so is one that can't be read.

    Args:
        room: pixels between the object's left edge and the region's right one.
    """
    if len(data) < _HEAD.size or EIGHT_BITS not in data[_HEAD.size :]:
        return data
    number, flags, top_size, bottom_size = _HEAD.unpack_from(data)
    top, bottom = (
        data[begin : begin + size]
        for begin, size in ((_HEAD.size, top_size), (_HEAD.size + top_size, bottom_size))
    )
    if flags & _CODING != _PIXELS or len(top) < top_size or len(bottom) < bottom_size:
        return data
    try:
        top, bottom = _readable_field(top, room), _readable_field(bottom, room)
    except MalformedError:
        return data
    written = _HEAD.pack(number, flags, len(top) & _MAX_BYTES, len(bottom) & _MAX_BYTES) + top + bottom
    return written if len(written) <= _MAX_BYTES else data


def _readable_field(data: bytes, room: int) -> bytes:
    written, tables = bytearray(), bytearray()
    at = count = 0
    while at < len(data):
        kind, begin = data[at], at
        at += 1
        if kind == END_OF_LINE:
            # Tables behind a full line belong to the next one.
            written.append(kind)
            written += tables
            count = 0
            tables.clear()
        elif kind in MAP_TABLES:
            at += MAP_TABLES[kind]
            (tables if count >= room else written).extend(data[begin:at])
        elif kind == EIGHT_BITS:
            at, string, pixels = eight_bit_string(data, at, room - count)
            if count < room:
                written.append(kind)
                written += string
            count += pixels
        elif kind in _SHORT_STRINGS:
            at, pixels = _SHORT_STRINGS[kind](data, at)
            if count < room:
                written += data[begin:at]
            count += pixels
        else:
            raise MalformedError(f"pixels of the type {kind:#x}")
    return bytes(written)


def eight_bit_string(data: bytes, at: int, room: int) -> tuple[int, bytes, int]:
    """Read a string of 8 bits a pixel (§7.2.5.2.3).

    Args:
        at: offset of its first byte, which is behind the type.
        room: pixels up to the right edge, behind which none are written.

    Returns:
        Where it ends; the string, with its end as every decoder reads it; and the number of its pixels.
    """
    written, count = bytearray(), 0
    while at < len(data):
        value, begin, run = data[at], at, 1
        at += 1
        if not value:
            if count >= room and data[at : at + 1] == bytes((END_OF_LINE,)):
                return at, bytes(written) + b"\0", count  # as some encoders end a full line
            following, at = data[at : at + 1], at + 1
            if not following:
                raise MalformedError(_CUT_OFF)
            if following == b"\0":
                break
            run = following[0] & 0x7F
            at += following[0] >> 7
        if count < room:
            kept = min(run, room - count)
            written += data[begin:at] if kept == run else bytes((0, data[begin + 1] & 0x80 | kept))
            written += data[begin + 2 : at] if kept < run else b""
        count += run
    else:
        raise MalformedError(_CUT_OFF)
    return at, bytes(written) + (b"\0" if count >= room else b"\0\0"), count


def four_bit_string(data: bytes, at: int) -> tuple[int, int]:
    """Return where a string of 4 bits a pixel ends, and the number of its pixels (§7.2.5.2.2)."""
    values = _BitGroups(data, at, 4)
    count = 0
    for value in values:
        run = 1
        if not value:
            kind = next(values)
            if not kind:
                return values.end, count
            if kind < 8:
                run = kind + 2
            elif kind < 12:
                run = kind - 4
                next(values)
            elif kind == 13:
                run = 2
            elif kind > 13:
                run = values.number(1) + 9 if kind == 14 else values.number(2) + 25
                next(values)
        count += run
    raise MalformedError(_CUT_OFF)


def two_bit_string(data: bytes, at: int) -> tuple[int, int]:
    """Return where a string of 2 bits a pixel ends, and the number of its pixels (§7.2.5.2.1)."""
    values = _BitGroups(data, at, 2)
    count = 0
    for value in values:
        run = 1
        if not value:
            kind = next(values)
            if kind >= 2:
                run = (kind & 1) * 4 + values.number(1) + 3
                next(values)
            elif not kind:
                kind = next(values)
                if not kind:
                    return values.end, count
                run = 2
                if kind >= 2:
                    run = values.number(2) + 12 if kind == 2 else values.number(4) + 29
                    next(values)
        count += run
    raise MalformedError(_CUT_OFF)


_SHORT_STRINGS: Mapping[int, Callable[[bytes, int], tuple[int, int]]] = {
    TWO_BITS: two_bit_string,
    FOUR_BITS: four_bit_string,
}


class _BitGroups(Iterator[int]):
    """The values of some bits each in data from a byte on."""

    def __init__(self, data: bytes, at: int, bits: int) -> None:
        self._data, self._at, self._bits, self._shift = data, at, bits, 8

    def __next__(self) -> int:
        self._shift -= self._bits
        if self._shift < 0:
            self._at, self._shift = self._at + 1, 8 - self._bits
        if self._at >= len(self._data):
            raise MalformedError(_CUT_OFF)
        return self._data[self._at] >> self._shift & (1 << self._bits) - 1

    @property
    def end(self) -> int:
        """Position of the byte behind the last value, of which a string fills the rest with stuffing."""
        return self._at + 1

    def number(self, values: int) -> int:
        """Return a number of several values."""
        found = 0
        for _ in range(values):
            found = found << self._bits | next(self)
        return found

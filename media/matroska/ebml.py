"""EBML (RFC 8794): elements of an ID, a size and a payload, each number as long as its first bits say."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from media.errors import MalformedError, TooLargeError

MAX_ELEMENTS = 8192
"""Most elements of one payload; tracks have some dozens each."""

UNKNOWN_SIZE = -1
"""Size of an element that ends where one begins that can't be in it (§6.2)."""

UNKNOWN_SIZE_BYTES = b"\x01" + b"\xff" * 7
"""An unknown size as it is written, in eight bytes."""

HEADER_BYTES = 12
"""Bytes that always suffice for :func:`header`: four of an ID and eight of a size (RFC 9559 §4.1)."""


class Element(NamedTuple):
    """The place of an EBML element in the bytes that were walked.

    Attributes:
        kind: element ID with its marker bits, as specifications write it.
        payload: offset of the first byte behind the header.
        size: of the payload in bytes, or ``UNKNOWN_SIZE``.
    """

    kind: int
    payload: int
    size: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind an element of known size."""
        return self.payload + self.size


def header(data: bytes | memoryview, at: int) -> Element:
    """Read the header of an element.

    Raises:
        MalformedError: the header is cut off or invalid.
    """
    try:
        first = data[at]
        length = 9 - first.bit_length()
        if length > 4:
            raise MalformedError(f"no element at {at}")
        sized = at + length
        second = data[sized]
        width = 9 - second.bit_length()
        if width > 8 or len(data) < sized + width:
            raise MalformedError(f"an element at {at} without a size")
    except IndexError:
        raise MalformedError(f"the element at {at} is cut off") from None
    mask = (1 << 7 * width) - 1
    size = int.from_bytes(data[sized : sized + width], "big") & mask
    return Element(
        int.from_bytes(data[at:sized], "big"), sized + width, UNKNOWN_SIZE if size == mask else size
    )


def children(data: bytes, start: int, end: int) -> Iterator[Element]:
    """Yield the elements of a payload that is in memory.

    Raises:
        MalformedError: one is cut off or of unknown size, or there are more than ``MAX_ELEMENTS``.
    """
    for _ in range(MAX_ELEMENTS):
        if start >= end:
            return
        found = header(data, start)
        if found.size == UNKNOWN_SIZE or found.end > end:
            raise MalformedError(f"element {found.kind:#x} goes past its surroundings")
        yield found
        start = found.end
    raise TooLargeError(f"more than {MAX_ELEMENTS} elements beside each other")


def number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number that is as long as its first bits say (§4); return it, and where it ends.

    Raises:
        MalformedError: the first byte is 0.
        IndexError: the number is cut off, which only the caller can judge.
    """
    first = data[at]
    if first & 0x80:
        return first & 0x7F, at + 1
    width = 9 - first.bit_length()
    if width > 8:
        raise MalformedError("a number of no length")
    end = at + width
    if end > len(data):
        raise IndexError
    return int.from_bytes(data[at:end], "big") & (1 << 7 * width) - 1, end


def unsigned(data: bytes, found: Element) -> int:
    """Read an unsigned integer (RFC 8794 §7.2)."""
    if found.size > 8:
        raise MalformedError(f"element {found.kind:#x}: an integer of {found.size} bytes")
    return int.from_bytes(data[found.payload : found.end], "big")


def real(data: bytes, found: Element) -> float:
    """Read a float (§7.3), which has 0, 4 or 8 bytes."""
    layout = {0: "", 4: ">f", 8: ">d"}.get(found.size)
    if layout is None:
        raise MalformedError(f"element {found.kind:#x}: a float of {found.size} bytes")
    return float(struct.unpack_from(layout, data, found.payload)[0]) if layout else 0.0


def text(data: bytes, found: Element) -> str:
    """Read a string (§7.4, §7.5), which zeros may end earlier."""
    return data[found.payload : found.end].partition(b"\0")[0].decode("utf-8", "replace")

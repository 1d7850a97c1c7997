"""ISO base media file format (ISO/IEC 14496-12): boxes, written and walked.

A box is a 32-bit size, a four-character type and a payload (§4.2). :mod:`media.mp4.movie.movie` parses the
boxes of a ``moov``, :mod:`media.mp4.fragments.fragments` those of fragments.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from media.errors import MalformedError, TooLargeError

MAX_BOXES = 4096
"""Most boxes that one level of a file may hold; real files have some dozens."""

LARGEST_HEADER = 16
"""Bytes that always suffice for :func:`header`: size, type and the 64-bit size."""

_SIZE_AND_KIND = struct.Struct(">I4s")
_LARGE_SIZE = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Box:
    """A box's type, and its position in the bytes that were parsed.

    Attributes:
        kind: the four-character type, such as ``b"moov"``.
        start: offset of the size field.
        payload: offset of the first byte after the header (in a full box: its version).
        end: offset of the first byte after the box.
    """

    kind: bytes
    start: int
    payload: int
    end: int

    @property
    def size(self) -> int:
        """Length of the whole box in bytes, its header included."""
        return self.end - self.start


def box(kind: bytes, *payload: bytes | bytearray | memoryview) -> bytes:
    """Write a box (§4.2), with a 64-bit size where 32 bits don't hold it.

    Args:
        payload: the content in its order; boxes inside boxes are just bytes.

    Returns:
        The box's bytes.
    """
    size = 8 + sum(len(part) for part in payload)
    if size < 1 << 32:
        return b"".join((_SIZE_AND_KIND.pack(size, kind), *payload))
    return b"".join((_SIZE_AND_KIND.pack(1, kind), _LARGE_SIZE.pack(size + 8), *payload))


def full_box(kind: bytes, version: int, flags: int, *payload: bytes | bytearray | memoryview) -> bytes:
    """Write a full box (§4.2): a box that begins with an 8-bit version and 24 bits of flags.

    Args:
        version: 0 to 255.
        flags: 0 to 2^24 - 1.
        payload: the content behind the flags.

    Returns:
        The box's bytes.
    """
    return box(kind, (version << 24 | flags).to_bytes(4, "big"), *payload)


def media_data_header(length: int) -> bytes:
    """Write the header of an ``mdat`` (§8.1.1) whose payload of so many bytes is written separately."""
    if length + 8 < 1 << 32:
        return _SIZE_AND_KIND.pack(length + 8, b"mdat")
    return _SIZE_AND_KIND.pack(1, b"mdat") + _LARGE_SIZE.pack(length + 16)


def header(data: bytes | bytearray | memoryview, start: int, end: int) -> Box:
    """Read one box's header; its payload needn't be in ``data``.

    Args:
        start: where the header begins in ``data``.
        end: where the box's surroundings end: no box reaches past it, one of size 0 reaches up to it.

    Returns:
        The box's place.

    Raises:
        MalformedError: the header is cut off, its size is less than the header's own or goes past ``end``.
    """
    if end - start < 8 or len(data) - start < 8:
        raise MalformedError(f"{end - start} bytes at {start} are no box")
    size, kind = _SIZE_AND_KIND.unpack_from(data, start)
    payload = start + 8
    if size == 1:  # §4.2: the actual size is the 64-bit field after the type
        if len(data) - payload < 8:
            raise MalformedError(f"box {_name(kind)} at {start}: its 64-bit size is cut off")
        (size,) = _LARGE_SIZE.unpack_from(data, payload)
        payload += 8
    elif size == 0:  # §4.2: the box extends to the end of the file
        size = end - start
    if size < payload - start:
        raise MalformedError(f"box {_name(kind)} at {start}: size {size} is less than its header's")
    if size > end - start:
        raise MalformedError(f"box {_name(kind)} at {start}: size {size} goes past its surroundings")
    return Box(kind, start, payload, start + size)


def walk(data: bytes | bytearray | memoryview, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes of one level, in order, without those inside them.

    Args:
        start: where the first box begins.
        end: where the last one ends; the end of ``data`` when None.

    Yields:
        Each box's place.

    Raises:
        MalformedError: a box is cut off or has an impossible size.
        TooLargeError: there are more than ``MAX_BOXES``.
    """
    end = len(data) if end is None else end
    for _ in range(MAX_BOXES):
        if start == end:
            return
        # QuickTime File Format, "User data atoms": a list may end with a 32-bit zero in place of an atom.
        if end - start == 4 and not any(data[start:end]):
            return
        found = header(data, start, end)
        yield found
        start = found.end
    if start != end:
        raise TooLargeError(f"more than {MAX_BOXES} boxes beside each other")


def _name(kind: bytes) -> str:
    """Write a type so that it fits in a message whatever its bytes are."""
    return repr(kind.decode("latin-1"))

"""Presentation Graphics (PGS): subtitles of Blu-ray that are pictures, in Matroska, MPEG-TS and ``.sup``.

A block is a display set: segments with a type of one byte and a size of two, without a time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, TooLargeError

PALETTE, OBJECT, PRESENTATION, WINDOW, END = 0x14, 0x15, 0x16, 0x17, 0x80
"""Types of segments; an object is a bitmap or a part of one, a presentation composes a picture of them."""

MAX_CANVAS = 3840, 2160
"""Pixels of the largest picture on which subtitles are composed, width and height."""

MAX_OBJECTS = 64
"""Most bitmaps of a display set; the format knows that many at a time."""

MAX_SEGMENTS = 1024
"""Most segments of a display set; a bitmap has one for each 64 KiB."""

CLOCK_RATE = 90_000

Place = tuple[int, int, int, int]
"""Left, top, width and height of a bitmap in pixels of the canvas."""

_EPOCH_START = 0x80
_FIRST_OF_OBJECT, _LAST_OF_OBJECT = 0x80, 0x40
_OBJECT_BYTES = 60_000
"""Bytes of a bitmap in one segment, whose size has 16 bits."""


@dataclass(frozen=True, slots=True)
class DisplaySet:
    """A checked display set.

    Attributes:
        canvas: width and height in pixels of the picture on which it is composed.
        is_complete: whether it needs nothing of the display sets before it.
    """

    canvas: tuple[int, int]
    is_complete: bool
    segments: tuple[bytes, ...]


def write_sup(sets: Sequence[tuple[int, DisplaySet]]) -> bytes:
    """Write a ``.sup`` file of display sets, each with its time in milliseconds."""
    heads = [b"PG" + struct.pack(">II", time * CLOCK_RATE // 1000 & 0xFFFFFFFF, 0) for time, _ in sets]
    return b"".join(
        head + segment for head, (_, one) in zip(heads, sets, strict=True) for segment in one.segments
    )


Decode = Callable[[bytes], Sequence[tuple[int, DisplaySet]]]
"""Returns the display sets of a block, each with the milliseconds behind the block's start."""


@dataclass(frozen=True, slots=True, eq=False)
class DisplaySets:
    """The display sets of a track, of whose blocks the times and positions in the file are known.

    Attributes:
        starts: milliseconds since the file's presentation begins, never falling; may be negative.
        offsets: position of each block in the file.
        sizes: bytes of each block.
        decode: returns the display sets of a block in order, each with the milliseconds behind the block's
            start at which it is shown; raises MediaError where they are damaged or too large.
        write: writes display sets, each with its time in milliseconds, as a file that a decoder reads.
        container: ffmpeg's name of the form of this file.
        with_palette: returns `decode` with the 16 colours of a disc; None where the file has its own colours.
    """

    starts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    decode: Decode
    write: Callable[[Sequence[tuple[int, DisplaySet]]], bytes] = write_sup
    container: str = "sup"
    with_palette: Callable[[tuple[bytes, ...]], Decode] | None = None


def read_display_set(data: bytes) -> DisplaySet:
    """Read a display set.

    Raises:
        MalformedError: it is damaged.
        TooLargeError: its pictures are too large, or too many.
    """
    segments = tuple(islice(_segments(data), MAX_SEGMENTS + 1))
    if len(segments) > MAX_SEGMENTS:
        raise TooLargeError(f"more than {MAX_SEGMENTS} segments of one subtitle")
    if not segments or segments[0][0] != PRESENTATION or len(segments[0]) < 14:
        raise MalformedError("a display set without a composition")
    width, height = struct.unpack_from(">HH", segments[0], 3)
    if not (0 < width <= MAX_CANVAS[0] and 0 < height <= MAX_CANVAS[1]):
        raise TooLargeError(f"subtitles of {width}x{height} pixels")
    objects = [one for one in segments if one[0] == OBJECT and len(one) >= 14 and one[6] & _FIRST_OF_OBJECT]
    if len(objects) > MAX_OBJECTS:
        raise TooLargeError(f"{len(objects)} pictures in one subtitle")
    for one in objects:
        across, down = struct.unpack_from(">HH", one, 10)
        if across > width or down > height:
            raise TooLargeError(f"a subtitle of {across}x{down} pixels on {width}x{height}")
    # The two highest bits are set in acquisition points and at the begin of epochs.
    return DisplaySet((width, height), bool(segments[0][10] & 0xC0), segments)


def write_display_set(
    canvas: tuple[int, int], place: Place | None = None, palette: bytes = b"", rows: bytes = b""
) -> DisplaySet:
    """Write a display set that shows one bitmap, or none and clears the picture.

    Args:
        palette: number, Y, Cr, Cb and opacity of each colour.
        rows: the bitmap, run-length encoded; empty where an earlier set has it.
    """
    head = (*canvas, 0x10, 0, _EPOCH_START if rows else 0, 0, 0)
    if place is None:
        bodies = [(PRESENTATION, struct.pack(">HHBHBBBB", *head, 0)), (END, b"")]
    else:
        shown = struct.pack(">HHBHBBBBHBBHH", *head, 1, 0, 0, 0, *place[:2])
        window = struct.pack(">BBHHHH", 1, 0, *place)
        bodies = [(PRESENTATION, shown), (WINDOW, window), (PALETTE, bytes(2) + palette)]
        bitmap = (len(rows) + 4).to_bytes(3, "big") + struct.pack(">HH", *place[2:]) + rows
        for at in range(0, len(bitmap) if rows else 0, _OBJECT_BYTES):
            part = bitmap[at : at + _OBJECT_BYTES]
            flags = (0 if at else _FIRST_OF_OBJECT) | (_LAST_OF_OBJECT if bitmap[at:] == part else 0)
            bodies.append((OBJECT, struct.pack(">HBB", 0, 0, flags) + part))
        bodies.append((END, b""))
    segments = tuple(struct.pack(">BH", kind, len(body)) + body for kind, body in bodies)
    return DisplaySet(canvas, bool(rows), segments)


def _segments(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        if at + 3 > len(data) or end > len(data):
            raise MalformedError("a display set is cut off")
        if data[at] == PRESENTATION and at:
            raise MalformedError("two compositions in one display set")
        yield data[at:end]
        at = end

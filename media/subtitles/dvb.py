"""DVB subtitles, which are pictures (ETSI EN 300 743), in Matroska and MPEG-TS.

A block is a display set: segments with a byte 0x0F, a type, the number of a page, and a size. Only what
bounds a picture is read here: a decoder composes regions that several display sets have drawn.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from media.errors import MalformedError, TooLargeError
from media.subtitles.dvb_pixels import readable_object
from media.subtitles.pgs import MAX_CANVAS, MAX_OBJECTS, MAX_SEGMENTS, DisplaySet

PAGE, REGION, OBJECT, DISPLAY, END = 0x10, 0x11, 0x13, 0x14, 0x80
"""Types of segments (§7.2): the composition of a page, one of a region, the pixels of an object, and the size
of the display."""

USUAL_CANVAS = 720, 576
"""Width and height in pixels of a display that isn't told (§5.1.3)."""

_HEAD = struct.Struct(">BBHH")
_SYNC = 0x0F
_DEEP = 3
"""The depth of regions with 8 bits a pixel."""

_PACKET_HEAD = b"\x20\0"
"""The identifier of subtitles, and that of their stream."""


def read_page(data: bytes) -> list[tuple[int, DisplaySet]]:
    """Read a display set.

    Returns:
        The set, and one that clears the page when its time in milliseconds ends; nothing without a page.

    Raises:
        MalformedError: the set is damaged.
        TooLargeError: its pictures are too large, or too many.
    """
    canvas, page, regions = USUAL_CANVAS, b"", list[tuple[int, int]]()
    segments = tuple(_segments(data))
    for one in segments:
        kind, payload = one[1], one[_HEAD.size :]
        if kind == DISPLAY and len(payload) >= 5:
            width, height = struct.unpack_from(">HH", payload, 1)
            canvas = width + 1, height + 1
        elif kind == REGION and len(payload) >= 6:
            regions.append(struct.unpack_from(">HH", payload, 2))
        elif kind == PAGE and len(payload) >= 2 and not page:
            page = one
    if canvas[0] > MAX_CANVAS[0] or canvas[1] > MAX_CANVAS[1]:
        raise TooLargeError("subtitles of {}x{} pixels".format(*canvas))
    fitting = [(width, height) for width, height in regions if width <= canvas[0] and height <= canvas[1]]
    if len(regions) > MAX_OBJECTS or fitting != regions:
        raise TooLargeError("regions of a subtitle that are too large, or too many")
    if not page:
        return []
    seconds, state = page[_HEAD.size : _HEAD.size + 2]
    # §7.2.2: at acquisition points and mode changes nothing before is needed.
    shown = DisplaySet(canvas, state & 0x0C in (0x04, 0x08), _readable(segments))
    if not seconds:
        return [(0, shown)]
    # A page without regions, and with a version that the next one doesn't have
    number = int.from_bytes(page[2:4], "big")
    empty = _HEAD.pack(_SYNC, PAGE, number, 2) + bytes((seconds, state & 0xF0 ^ 0x80))
    cleared = DisplaySet(canvas, False, (empty, _HEAD.pack(_SYNC, END, number, 0)))
    return [(0, shown), (seconds * 1000, cleared)]


def _readable(segments: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the segments, with the pixels of objects in regions of 8 bits as every decoder reads them."""
    rooms = dict[int, int]()
    for one in segments:
        if (
            one[1] == REGION
            and one[_HEAD.size + 6 : _HEAD.size + 7]
            and one[_HEAD.size + 6] >> 2 & 7 == _DEEP
        ):
            rooms |= _object_rooms(one[_HEAD.size :])
    made = list[bytes]()
    for one in segments:
        number = int.from_bytes(one[_HEAD.size : _HEAD.size + 2], "big")
        if one[1] == OBJECT and number in rooms:
            data = readable_object(one[_HEAD.size :], rooms[number])
            one = one[: _HEAD.size - 2] + struct.pack(">H", len(data)) + data
        made.append(one)
    return tuple(made)


def _object_rooms(region: bytes) -> dict[int, int]:
    """Return the pixels from the left edge of each object in a region to the region's right edge."""
    rooms, at = dict[int, int](), 10
    (width,) = struct.unpack_from(">H", region, 2)
    while at + 6 <= len(region):
        number, left = struct.unpack_from(">HH", region, at)
        rooms[number] = width - (left & 0xFFF)
        # Characters have a colour and one behind it.
        at += 8 if left >> 14 in (1, 2) else 6
    return rooms


def read_page_of(data: bytes, pages: frozenset[int]) -> list[tuple[int, DisplaySet]]:
    """Read the segments of some pages in a display set, as `read_page` does."""
    return read_page(b"".join(one for one in _segments(data) if int.from_bytes(one[2:4], "big") in pages))


def packet_segments(data: bytes) -> bytes:
    """Return the segments in a PES packet's data, as far as they are whole; none of other data (§7.1)."""
    if data[:2] != _PACKET_HEAD:
        return b""
    at = end = len(_PACKET_HEAD)
    while at + _HEAD.size <= len(data) and data[at] == _SYNC:
        at += _HEAD.size + int.from_bytes(data[at + 4 : at + 6], "big")
        end = at if at <= len(data) else end
    return data[len(_PACKET_HEAD) : end]


def _segments(data: bytes) -> Iterator[bytes]:
    at = count = 0
    # Behind the segments muxers may leave the marker of the packet's end.
    while at < len(data) and data[at] == _SYNC:
        end = at + _HEAD.size + int.from_bytes(data[at + 4 : at + 6], "big")
        if at + _HEAD.size > len(data) or end > len(data):
            raise MalformedError("a display set is cut off")
        count += 1
        if count > MAX_SEGMENTS:
            raise TooLargeError(f"more than {MAX_SEGMENTS} segments of one subtitle")
        yield data[at:end]
        at = end

"""Data packets of ASF files (§5.2): the payloads in which objects of media lie in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from media.errors import MalformedError

_WIDTHS = (0, 1, 2, 4)
"""Bytes of a field by the two bits that say its type."""

MULTIPLE_PAYLOADS, ERROR_CORRECTION, KEY_FRAME, COMPRESSED = 0x01, 0x80, 0x80, 1


class Payload(NamedTuple):
    """A piece of an object of media.

    Attributes:
        stream: the stream's number in the header.
        number: of the object within its stream, modulo the width of the field.
        begins: offset of the piece within the object.
        whole: bytes of the object; 0 if unknown.
        time: when the object is presented, in milliseconds, preroll included.
        place: offset of the piece in the packet.
        size: bytes of the piece.
    """

    stream: int
    is_key: bool
    number: int
    begins: int
    whole: int
    time: int
    place: int
    size: int


class _PacketFields:
    """Reads little-endian fields one behind the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self.place = data, 0

    def read(self, width: int) -> int:
        start, self.place = self.place, self.place + width
        if self.place > len(self._data):
            raise MalformedError("a packet of ASF that is cut off")
        return int.from_bytes(self._data[start : self.place], "little")


def payloads(packet: bytes) -> Iterator[Payload]:
    """Yield the payloads of a packet.

    Raises:
        MalformedError: the packet is cut off, or has an impossible payload.
    """
    fields = _PacketFields(packet)
    flags = fields.read(1)
    if flags & ERROR_CORRECTION:
        fields.read(flags & 0x0F)
        flags = fields.read(1)
    properties = fields.read(1)
    length = fields.read(_WIDTHS[flags >> 5 & 3]) or len(packet)
    fields.read(_WIDTHS[flags >> 1 & 3])
    padding = fields.read(_WIDTHS[flags >> 3 & 3])
    fields.read(6)
    end = min(length, len(packet)) - padding
    count, width = 1, 0
    if flags & MULTIPLE_PAYLOADS:
        described = fields.read(1)
        count, width = described & 0x3F, _WIDTHS[described >> 6]
    for _ in range(count):
        yield from _payload(fields, properties, end, width)


def _payload(fields: _PacketFields, properties: int, end: int, width: int) -> Iterator[Payload]:
    stream = fields.read(1)
    number = fields.read(_WIDTHS[properties >> 4 & 3])
    offset = fields.read(_WIDTHS[properties >> 2 & 3])
    replicated = fields.read(_WIDTHS[properties & 3])
    whole = time = step = 0
    if replicated == COMPRESSED:
        step = fields.read(1)
    elif replicated >= 8:
        whole, time = fields.read(4), fields.read(4)
        fields.read(replicated - 8)
    else:
        fields.read(replicated)
    size = fields.read(width) if width else end - fields.place
    if size < 0 or fields.place + size > end:
        raise MalformedError("a payload of ASF that is larger than its packet")
    own, is_key = stream & 0x7F, bool(stream & KEY_FRAME)
    if replicated != COMPRESSED:
        yield Payload(own, is_key, number, offset, whole, time, fields.place, size)
        fields.place += size
        return
    # §5.2.3.2: small objects, each behind a byte with its size; the offset is the time of the first
    stop = fields.place + size
    while fields.place < stop:
        length = fields.read(1)
        if fields.place + length > stop:
            raise MalformedError("a compressed payload of ASF that is cut off")
        yield Payload(own, is_key, number, 0, length, offset, fields.place, length)
        fields.place, number, offset = fields.place + length, (number + 1) & 0xFF, offset + step

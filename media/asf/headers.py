"""Header objects of ASF files (Microsoft's "Advanced Systems Format Specification", revision 01.20.05)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from media.errors import MalformedError, TooLargeError, UnsupportedError

OBJECT_HEADER = 24
"""Bytes of an object's GUID and size (§2.1)."""

DATA_HEADER = 50
"""Bytes of the data object before its packets (§5.1)."""

MAX_OBJECTS = 1024
MAX_STREAMS = 32
MAX_FORMAT_BYTES = 64 << 10
"""Largest format of a stream, which becomes the decoder's configuration."""


def _guid(text: str) -> bytes:
    return UUID(text).bytes_le


HEADER = _guid("75B22630-668E-11CF-A6D9-00AA0062CE6C")
DATA = _guid("75B22636-668E-11CF-A6D9-00AA0062CE6C")
_FILE_PROPERTIES = _guid("8CABDCA1-A947-11CF-8EE4-00C00C205365")
_STREAM_PROPERTIES = _guid("B7DC0791-A9B7-11CF-8EE6-00C00C205365")
_HEADER_EXTENSION = _guid("5FBF03B5-A92E-11CF-8EE3-00C00C205365")
_EXTENDED_PROPERTIES = _guid("14E6A5CB-C672-4332-8399-A96952065B5A")
_ENCRYPTIONS = (
    _guid("2211B3FB-BD23-11D2-B4B7-00A0C955FC6E"),
    _guid("298AE614-2622-4C17-B935-DAE07EE9289C"),
)
AUDIO = _guid("F8699E40-5B4D-11CF-A8FD-00805F5C442B")
VIDEO = _guid("BC19EFC0-5B4D-11CF-A8FD-00805F5C442B")
_AUDIO_SPREAD = _guid("BFC3CD50-618F-11CF-8BB2-00AA00B4E220")


@dataclass(frozen=True, slots=True)
class AsfStream:
    """A stream by its properties (§3.3).

    Attributes:
        number: 1 to 127, as payloads name it.
        kind: ``AUDIO``, ``VIDEO`` or another GUID.
        format: a WAVEFORMATEX or a BITMAPINFOHEADER.
        is_spread: whether the bytes of sound are interleaved among packets (§9.1).
    """

    number: int
    kind: bytes
    format: bytes
    is_spread: bool


@dataclass(frozen=True, slots=True)
class AsfHeader:
    """The header of a file.

    Attributes:
        packet_bytes: bytes of each packet.
        packets: number of packets; 0 if unknown.
        preroll: milliseconds that are added to all times of presentation.
        size: bytes of the header object.
    """

    packet_bytes: int
    packets: int
    preroll: int
    size: int
    streams: tuple[AsfStream, ...]


def objects(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the GUIDs of the objects of one level, and where their content begins and ends.

    Raises:
        MalformedError: an object is cut off.
        TooLargeError: there are more than ``MAX_OBJECTS``.
    """
    for _ in range(MAX_OBJECTS):
        if start + OBJECT_HEADER > end:
            return
        size = int.from_bytes(data[start + 16 : start + 24], "little")
        if size < OBJECT_HEADER or start + size > end:
            raise MalformedError("an object of ASF that is cut off")
        yield data[start : start + 16], start + OBJECT_HEADER, start + size
        start += size
    raise TooLargeError(f"more than {MAX_OBJECTS} objects")


def read_header(data: bytes) -> AsfHeader:
    """Read a header object.

    Args:
        data: the whole object, its GUID and size included.

    Raises:
        MalformedError: it is cut off, or lacks what each file has.
        UnsupportedError: its media are encrypted.
        TooLargeError: a limit is exceeded.
    """
    properties: tuple[int, int, int] | None = None
    streams: dict[int, AsfStream] = {}
    for kind, begin, end in objects(data, OBJECT_HEADER + 6, len(data)):
        if kind in _ENCRYPTIONS:
            raise UnsupportedError("its media are encrypted")
        if kind == _FILE_PROPERTIES and end - begin >= 80:
            packets, preroll, least, most = struct.unpack_from("<32xQ16xQ4xII", data, begin)
            if least != most or not 0 < most <= 1 << 20 or preroll >= 1 << 32:
                raise MalformedError(f"packets of {least} to {most} bytes")
            properties = most, packets, preroll
        elif kind == _STREAM_PROPERTIES:
            _add(streams, data[begin:end])
        elif kind == _HEADER_EXTENSION:
            for extended, at, stop in objects(data, begin + 22, end):
                if extended == _EXTENDED_PROPERTIES:
                    _add_extended(streams, data[at:stop])
    if properties is None or not streams:
        raise MalformedError("an ASF file without its properties or without streams")
    return AsfHeader(*properties, len(data), tuple(streams.values()))


def _add(streams: dict[int, AsfStream], data: bytes) -> None:
    """Add a stream by its properties object (§3.3)."""
    if len(data) < 54:
        raise MalformedError("properties of a stream that are cut off")
    correction = data[16:32]
    length, corrected, flags = struct.unpack_from("<IIH", data, 40)
    specific, extra = data[54 : 54 + length], data[54 + length : 54 + length + corrected]
    if length > MAX_FORMAT_BYTES or len(streams) >= MAX_STREAMS:
        raise TooLargeError("streams that are too many, or have too large formats")
    if flags >> 15:
        raise UnsupportedError("its media are encrypted")
    kind, is_spread = data[:16], False
    if kind == VIDEO and len(specific) >= 11:
        size = int.from_bytes(specific[9:11], "little")
        specific = specific[11 : 11 + size]
    elif kind == AUDIO and correction == _AUDIO_SPREAD and len(extra) >= 5:
        span, packet, chunk = struct.unpack_from("<BHH", extra)
        is_spread = span > 1 and chunk > 0 and packet // chunk > 1 and packet % chunk == 0
    streams.setdefault(flags & 0x7F, AsfStream(flags & 0x7F, kind, specific, is_spread))


def _add_extended(streams: dict[int, AsfStream], data: bytes) -> None:
    """Add the stream whose properties are inside extended ones (§4.1)."""
    if len(data) < 64:
        return
    names, systems = struct.unpack_from("<HH", data, 60)
    at = 64
    for _ in range(min(names, 128)):
        at += 4 + int.from_bytes(data[at + 2 : at + 4], "little")
    for _ in range(min(systems, 128)):
        at += 22 + int.from_bytes(data[at + 18 : at + 22], "little")
    for kind, begin, end in objects(data, at, len(data)):
        if kind == _STREAM_PROPERTIES:
            _add(streams, data[begin:end])

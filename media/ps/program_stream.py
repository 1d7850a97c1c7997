"""PES packets of an MPEG program stream (ISO/IEC 13818-1 §2.5, ISO/IEC 11172-1 §2.4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from media.errors import UnsupportedError
from media.mp4.movie.assembled_samples import Read
from media.ts.elementary_streams import Piece, Unit, units_of
from media.ts.timestamps import read_timestamp

PACK_START = b"\0\0\1\xba"
PREFIX = b"\0\0\1"

PACK, SYSTEM, STREAM_MAP, PRIVATE_1, END = 0xBA, 0xBB, 0xBC, 0xBD, 0xB9
"""Start codes of packs, of the system header, of the map of streams, and of private streams (§2.5.3)."""

AUDIO, VIDEO = range(0xC0, 0xE0), range(0xE0, 0xF0)

BLOCK_BYTES = 256 << 10
"""Bytes of a file that are parsed together."""

MAX_GARBAGE = 1 << 20
"""Most bytes that are no packets, in a row."""

AC3_SUBSTREAMS, DTS_SUBSTREAMS, PCM_SUBSTREAMS = range(0x80, 0x88), range(0x88, 0x90), range(0xA0, 0xA8)
EAC3_SUBSTREAMS, SUBPICTURES = range(0xC0, 0xD0), range(0x20, 0x40)
_SUBSTREAM_HEADERS = {
    **dict.fromkeys((*AC3_SUBSTREAMS, *DTS_SUBSTREAMS, *EAC3_SUBSTREAMS), 4),
    **dict.fromkeys(PCM_SUBSTREAMS, 7),
    **dict.fromkeys(SUBPICTURES, 1),
}
"""Bytes before the content in a packet of private stream 1, by the substream's number (of DVD-Video)."""

SUBSTREAM = 0x100
"""Added to the number of a substream, so that it is no stream ID."""

PCM_FORMAT_SHIFT = 12
"""Bits of a substream's number, above which that of PCM has the byte of its format.

The packets alone say what the format is, so that another one is another stream.
"""

_PCM_FORMAT = 5
"""The place of the byte with the bits of a sample, the rate and the channels in PCM's header."""

RAW_AC3 = SUBSTREAM
"""The number of AC-3 in private stream 1 without a substream's header."""


class ProgramBlock(NamedTuple):
    """Consecutive packets of a file.

    Attributes:
        found: the packets' content by stream, in the order of the file.
        packets: the number of packets of all streams.
        end: offset behind the last whole packet.
        stream_map: payload of the map of streams; empty without one.
    """

    found: dict[int, list[Piece]]
    packets: int
    end: int
    stream_map: bytes

    def pieces(self, pid: int) -> list[Piece]:
        """Return the content of a stream's PES packets."""
        return self.found.get(pid, [])


def parse_block(data: bytes, position: int, *, is_last: bool) -> ProgramBlock:
    """Parse the packets of a part of a file.

    Args:
        position: offset of the first byte in the file.
        is_last: whether the file ends with these bytes.
    """
    found: dict[int, list[Piece]] = {}
    at, count, stream_map, length = 0, 0, b"", len(data)
    while at + 6 <= length:
        count += 1
        code = data[at + 3] if data[at : at + 3] == PREFIX else 0
        if code < END:  # garbage up to the next pack
            following = data.find(PACK_START, at + 1)
            at = following if following >= 0 else max(length - 3, at)
            if following < 0:
                break
            continue
        if code == PACK:
            if at + 14 > length:
                break
            at += _pack_length(data, at)
            continue
        if code == END:
            at += 4
            continue
        size = 6 + (data[at + 4] << 8 | data[at + 5])
        if at + size > length and not is_last:
            break
        if code == STREAM_MAP:
            stream_map = data[at : at + size]
        elif code == PRIVATE_1 or code in AUDIO or code in VIDEO:
            piece = _piece(data[at : at + size], code, position + at)
            if piece is not None:
                found.setdefault(piece[0], []).append(piece[1])
        at += size
    return ProgramBlock(found, count, position + min(at, length), stream_map)


def _pack_length(data: bytes, at: int) -> int:
    """Return the length of a pack header of MPEG-2 or MPEG-1; of another, that of its start code."""
    kind = data[at + 4]
    if kind >> 6 == 1:
        return 14 + (data[at + 13] & 7)
    return 12 if kind >> 4 == 2 else 4


def _piece(packet: bytes, code: int, begin: int) -> tuple[int, Piece] | None:
    """Read a PES packet: its stream's number, and its content; None if it is damaged, or of no known use."""
    header = _header(packet)
    if header is None:
        return None
    start, pts, dts = header
    number = code
    if code == PRIVATE_1:
        if start >= len(packet):
            return None
        substream = packet[start]
        if packet[start : start + 2] == b"\x0b\x77":
            number = RAW_AC3
        elif substream in _SUBSTREAM_HEADERS:
            number = SUBSTREAM + substream
            if substream in PCM_SUBSTREAMS and start + _PCM_FORMAT < len(packet):
                number |= packet[start + _PCM_FORMAT] << PCM_FORMAT_SHIFT
            start += _SUBSTREAM_HEADERS[substream]
        else:
            return None
    # A packet without data still ends a unit by its timestamp.
    return number, Piece(packet[start:], begin, begin + len(packet), True, dts, pts)


def _header(packet: bytes) -> tuple[int, int | None, int | None] | None:
    """Read the header of a PES packet: where its data begin, its PTS and its DTS; None if it is damaged."""
    if len(packet) > 8 and packet[6] >> 6 == 2:
        start, fields, flags = 9 + packet[8], 9, packet[7] >> 6
    else:  # ISO/IEC 11172-1 §2.4.3.3: stuffing, the size of a buffer, and the times
        fields = 6
        while fields < min(len(packet), 6 + 17) and packet[fields] == 0xFF:
            fields += 1
        if fields + 2 < len(packet) and packet[fields] >> 6 == 1:
            fields += 2
        kind = packet[fields] >> 4 if fields < len(packet) else 0
        flags = kind if kind in (2, 3) else 0
        start = fields + {2: 5, 3: 10}.get(flags, 1)
    if start > len(packet):
        return None
    if flags < 2 or fields + (10 if flags == 3 else 5) > start:
        return start, None, None
    pts = read_timestamp(packet[fields : fields + 5])
    return start, pts, read_timestamp(packet[fields + 5 : fields + 10]) if flags == 3 else pts


def read_blocks(read: Read, begin: int, end: int) -> Iterator[ProgramBlock]:
    """Read the packets of a range of a file that begins with a packet.

    Raises:
        UnsupportedError: the file is shorter than it was, or there are no packets in it for long.
    """
    position, garbage = begin, 0
    while position < end:
        length = min(BLOCK_BYTES, end - position)
        data = read(position, length)
        if len(data) < length:
            raise UnsupportedError("the file is shorter than it was")
        is_last = position + length >= end
        block = parse_block(data, position, is_last=is_last)
        garbage = 0 if block.found else garbage + length
        if garbage > MAX_GARBAGE:
            raise UnsupportedError(f"no packets of MPEG-PS for {garbage} bytes at byte {position}")
        yield block
        if is_last or block.end == position:
            return
        position = block.end


def read_program_units(read: Read, number: int, begin: int, end: int) -> Iterator[Unit]:
    """Read the units of a stream again.

    Args:
        read: reads from the file; it may block.
        number: the stream ID, or that of a substream with ``SUBSTREAM`` and the format of PCM added.
        begin: offset of the first unit's first packet.
        end: offset behind the last unit's last packet.
    """
    pieces = (piece for block in read_blocks(read, begin, end) for piece in block.pieces(number))
    return units_of(pieces, end - begin)

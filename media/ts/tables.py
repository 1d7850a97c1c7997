"""A transport stream's tables, one packet each (ISO/IEC 13818-1 §2.4.4)."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from media.crc import crc32
from media.errors import UnsupportedError

PACKET = 188
SYNC = 0x47
PAT_PID = 0


class StreamType(enum.IntEnum):
    """Types of elementary streams: table 2-34, ATSC A/53 part 3 §6.9.1, and those of discs."""

    MPEG1_VIDEO = 0x01
    MPEG2_VIDEO = 0x02
    MPEG1_AUDIO = 0x03
    MPEG2_AUDIO = 0x04
    PRIVATE = 0x06  # the codec is in its descriptors
    AAC = 0x0F
    MPEG4_VIDEO = 0x10
    LATM = 0x11
    H264 = 0x1B
    HEVC = 0x24
    VVC = 0x33
    PCM = 0x80
    AC3 = 0x81
    DTS = 0x82
    TRUEHD = 0x83
    DTS_HD = 0x85
    DTS_HD_MASTER = 0x86
    EAC3 = 0x87
    PGS = 0x90
    VC1 = 0xEA


@dataclass(frozen=True, slots=True)
class ElementaryStream:
    """A stream of a program.

    Attributes:
        kind: stream type, one of ``StreamType`` or another.
    """

    kind: int
    pid: int
    descriptors: bytes = b""


@dataclass(frozen=True, slots=True)
class ProgramMap:
    """A program: the PID of its clock, and its streams."""

    clock_pid: int
    streams: tuple[ElementaryStream, ...]


def read_program_association(section: bytes) -> int | None:
    """Return the PID of the first program's map (§2.4.4.3); None without one."""
    if len(section) < 8:
        return None
    end = min(3 + _length(section) - 4, len(section))
    for entry in range(8, end - 3, 4):
        if section[entry : entry + 2] != b"\0\0":  # program 0 is the network's table
            return int.from_bytes(section[entry + 2 : entry + 4], "big") & 0x1FFF
    return None


def read_program_map(section: bytes) -> ProgramMap | None:
    """Parse a program map (§2.4.4.8); None if the section is too short."""
    if len(section) < 12:
        return None
    end = min(3 + _length(section) - 4, len(section))
    entry = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    streams: list[ElementaryStream] = []
    while entry + 5 <= end:
        pid = int.from_bytes(section[entry + 1 : entry + 3], "big") & 0x1FFF
        following = entry + 5 + (int.from_bytes(section[entry + 3 : entry + 5], "big") & 0xFFF)
        streams.append(ElementaryStream(section[entry], pid, section[entry + 5 : following]))
        entry = following
    return ProgramMap(int.from_bytes(section[8:10], "big") & 0x1FFF, tuple(streams))


def payload_offset(packet: bytes) -> int:
    """Return the offset of a packet's payload; the packet's size without one."""
    adaptation = packet[3] >> 4 & 3
    if not adaptation & 1:
        return PACKET
    return min(4 + (1 + packet[4] if adaptation & 2 else 0), PACKET)


def section_of(packet: bytes) -> bytes:
    """Return the section that begins in a packet; empty without one."""
    start = payload_offset(packet)
    if start >= PACKET or not packet[1] & 0x40:
        return b""
    return packet[start + 1 + packet[start] :]


def write_tables(program: ProgramMap, pid: int) -> bytes:
    """Write the PAT and the PMT.

    Raises:
        UnsupportedError: a table doesn't fit into a packet, as their descriptors are too long.
    """
    entries = b"".join(
        struct.pack(">BHH", one.kind, 0xE000 | one.pid, 0xF000 | len(one.descriptors)) + one.descriptors
        for one in program.streams
    )
    association = _table(PAT_PID, 0, struct.pack(">HH", 1, 0xE000 | pid))
    return association + _table(pid, 2, struct.pack(">HH", 0xE000 | program.clock_pid, 0xF000) + entries)


def _table(pid: int, table: int, content: bytes) -> bytes:
    # Number 1, version 0, in force, the only section.
    section = struct.pack(">BHHBBB", table, 0xB000 | len(content) + 9, 1, 0xC1, 0, 0) + content
    section += struct.pack(">I", checksum(section))
    packet = struct.pack(">BHBB", SYNC, 0x4000 | pid, 0x10, 0) + section
    if len(packet) > PACKET:
        raise UnsupportedError(f"a table of {len(section)} bytes, which is longer than a packet")
    return packet.ljust(PACKET, b"\xff")


def checksum(data: bytes) -> int:
    """Compute the CRC of a section (annex A)."""
    return crc32(data, 0xFFFF_FFFF)


def _length(section: bytes) -> int:
    return int.from_bytes(section[1:3], "big") & 0xFFF

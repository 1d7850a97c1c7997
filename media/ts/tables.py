"""Program tables of a transport stream: their sections' fields, read and written (ISO/IEC 13818-1 §2.4.4)."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from media.crc import crc32
from media.errors import UnsupportedError

PACKET = 188
SYNC = 0x47
PAT_PID = 0

SDT_PID = 0x11
"""Packets with the names of programs (ETSI EN 300 468 §5.1.3), with which ffmpeg begins its files."""

_LONGEST_SECTION = 1024
"""Most bytes of a section of the PAT or a PMT (§2.4.4.4, §2.4.4.9)."""

_KNOWN_TABLES = 64
"""Most texts of tables that are known of one packet ID."""


class KnownTables:
    """The packets with which tables have begun, by which those with something new are known."""

    def __init__(self) -> None:
        self._told: dict[int, set[bytes]] = {}

    def is_new(self, pid: int, content: bytes) -> bool:
        """Return whether a table of a packet ID begins with a text that hasn't come yet, and note it."""
        told = self._told.setdefault(pid, set())
        if content in told:
            return False
        if len(told) >= _KNOWN_TABLES:
            told.clear()
        told.add(content)
        return True


class StreamType(enum.IntEnum):
    """Types of elementary streams: table 2-34, ATSC A/53 part 3 §6.9.1, and those of discs."""

    MPEG1_VIDEO = 0x01
    MPEG2_VIDEO = 0x02
    MPEG1_AUDIO = 0x03
    MPEG2_AUDIO = 0x04
    PRIVATE = 0x06  # the codec is in its descriptors
    AAC = 0x0F
    METADATA = 0x15
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
    DTS_HD_MASTER = 0x86  # or sections of SCTE 35
    EAC3 = 0x87
    PGS = 0x90
    VC1 = 0xEA


PICTURE_TYPES = frozenset(
    {
        StreamType.MPEG1_VIDEO,
        StreamType.MPEG2_VIDEO,
        StreamType.MPEG4_VIDEO,
        StreamType.H264,
        StreamType.HEVC,
        StreamType.VVC,
        StreamType.VC1,
    }
)
SOUND_TYPES = frozenset(StreamType) - PICTURE_TYPES - {StreamType.PGS, StreamType.METADATA}
"""Types of streams that may be sound; what is private is so by its descriptors."""


_REGISTRATION, _DVB_AC3, _DVB_EAC3, _DVB_DTS = 0x05, 0x6A, 0x7A, 0x7B
"""Tags of descriptors that say what a private stream is (§2.6.8; ETSI EN 300 468 §6.1)."""


@dataclass(frozen=True, slots=True)
class ElementaryStream:
    """A stream of a program.

    Attributes:
        kind: stream type, one of ``StreamType`` or another.
    """

    kind: int
    pid: int
    descriptors: bytes = b""

    def described(self) -> dict[int, bytes]:
        """Return the stream's descriptors by their tags (§2.6.1)."""
        found: dict[int, bytes] = {}
        position, data = 0, self.descriptors
        while position + 2 <= len(data):
            length = data[position + 1]
            found.setdefault(data[position], data[position + 2 : position + 2 + length])
            position += 2 + length
        return found

    @property
    def registered(self) -> bytes:
        """Four letters that name the stream's format; empty without."""
        return self.described().get(_REGISTRATION, b"")[:4]

    @property
    def sound_type(self) -> int:
        """The stream type, of private sound the one that its descriptors say."""
        if self.kind != StreamType.PRIVATE:
            return self.kind
        descriptors, registered = self.described(), self.registered
        if _DVB_AC3 in descriptors or registered == b"AC-3":
            return StreamType.AC3
        if _DVB_EAC3 in descriptors or registered == b"EAC3":
            return StreamType.EAC3
        return StreamType.DTS if _DVB_DTS in descriptors or registered[:3] == b"DTS" else self.kind


@dataclass(frozen=True, slots=True)
class ProgramMap:
    """A program: the PID of its clock, its streams, and its own descriptors."""

    clock_pid: int
    streams: tuple[ElementaryStream, ...]
    descriptors: bytes = b""


def read_program_association(section: bytes) -> dict[int, int]:
    """Return the PID of each program's map by the program's number, in order (§2.4.4.3)."""
    found: dict[int, int] = {}
    end = min(3 + _length(section) - 4, len(section))
    for entry in range(8, end - 3, 4):
        number = int.from_bytes(section[entry : entry + 2], "big")
        if number:  # program 0 is the network's table
            found.setdefault(number, int.from_bytes(section[entry + 2 : entry + 4], "big") & 0x1FFF)
    return found


def read_program_map(section: bytes) -> ProgramMap | None:
    """Parse a program map (§2.4.4.8); None if the section is too short."""
    if len(section) < 12:
        return None
    end = min(3 + _length(section) - 4, len(section))
    entry = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    descriptors = section[12 : min(entry, end)]
    streams: list[ElementaryStream] = []
    while entry + 5 <= end:
        pid = int.from_bytes(section[entry + 1 : entry + 3], "big") & 0x1FFF
        following = entry + 5 + (int.from_bytes(section[entry + 3 : entry + 5], "big") & 0xFFF)
        streams.append(ElementaryStream(section[entry], pid, section[entry + 5 : following]))
        entry = following
    return ProgramMap(int.from_bytes(section[8:10], "big") & 0x1FFF, tuple(streams), descriptors)


def payload_offset(packet: bytes) -> int:
    """Return the offset of a packet's payload; the packet's size without one."""
    adaptation = packet[3] >> 4 & 3
    if not adaptation & 1:
        return PACKET
    return min(4 + (1 + packet[4] if adaptation & 2 else 0), PACKET)


class TableWriter:
    """Writes the PAT and the PMT of a stream of one program."""

    def __init__(self) -> None:
        self._counters: dict[int, int] = {}

    def write(self, program: ProgramMap, pid: int) -> bytes:
        """Write the packets of both tables, those of the program's map with this PID.

        Raises:
            UnsupportedError: the descriptors are longer than a section may be.
        """
        entries = b"".join(
            struct.pack(">BHH", one.kind, 0xE000 | one.pid, 0xF000 | len(one.descriptors)) + one.descriptors
            for one in program.streams
        )
        head = struct.pack(">HH", 0xE000 | program.clock_pid, 0xF000 | len(program.descriptors))
        association = self._packets(PAT_PID, 0, struct.pack(">HH", 1, 0xE000 | pid))
        return association + self._packets(pid, 2, head + program.descriptors + entries)

    def _packets(self, pid: int, table: int, content: bytes) -> bytes:
        # Number 1, version 0, in force, the only section.
        section = struct.pack(">BHHBBB", table, 0xB000 | len(content) + 9, 1, 0xC1, 0, 0) + content
        section += struct.pack(">I", checksum(section))
        if len(section) > _LONGEST_SECTION:
            raise UnsupportedError(f"a table of {len(section)} bytes, which is longer than a section")
        payload, packets = b"\0" + section, b""
        for begin in range(0, len(payload), PACKET - 4):
            counter = self._counters.get(pid, 0)
            self._counters[pid] = (counter + 1) & 15
            head = struct.pack(">BHB", SYNC, (0 if begin else 0x4000) | pid, 0x10 | counter)
            packets += (head + payload[begin : begin + PACKET - 4]).ljust(PACKET, b"\xff")
        return packets


def write_tables(program: ProgramMap, pid: int) -> bytes:
    """Write the PAT and the PMT of a stream once; raise UnsupportedError as ``TableWriter`` does."""
    return TableWriter().write(program, pid)


def checksum(data: bytes) -> int:
    """Compute the CRC of a section (annex A)."""
    return crc32(data, 0xFFFF_FFFF)


def _length(section: bytes) -> int:
    return int.from_bytes(section[1:3], "big") & 0xFFF

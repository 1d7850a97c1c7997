"""Program tables of a transport stream: sections over any number of packets (ISO/IEC 13818-1 §2.4.4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from media.ts.tables import (
    PACKET,
    PAT_PID,
    PICTURE_TYPES,
    SOUND_TYPES,
    ProgramMap,
    checksum,
    payload_offset,
    read_program_association,
    read_program_map,
)

_HEADER = 3
"""Bytes of a section up to the length of the rest (§2.4.4.10)."""

_ASSOCIATION, _MAP = 0x00, 0x02
"""Table IDs (table 2-31)."""

_STUFFING = 0xFF

MAX_PROGRAMS = 256
"""Most programs of a stream whose maps are read: a transponder has some twenty."""


class SectionReader:
    """Assembles the sections of one PID, without I/O.

    A section may take several packets, and a packet may have several sections. Damaged ones are left out.
    """

    __slots__ = ("_data", "_is_open", "_last")

    def __init__(self) -> None:
        self._data = b""
        self._last = b""
        self._is_open = False

    def push(self, packet: bytes) -> list[bytes]:
        """Push a packet of the PID; return the sections that it completes, without a look at their CRC."""
        start = payload_offset(packet)
        # §2.4.3.2: a packet with errors, and one that is scrambled; §2.4.3.3: a packet may be sent twice
        if packet[1] & 0x80 or packet[3] & 0xC0 or start >= PACKET or packet == self._last:
            return []
        follows = bool(self._last) and (packet[3] - self._last[3]) & 15 == 1
        self._last = packet
        self._is_open = self._is_open and follows
        found = list[bytes]()
        if packet[1] & 0x40:
            # §2.4.4.2: the pointer leads to the first section that begins in the packet
            begin = start + 1 + packet[start]
            if self._is_open:
                self._data += packet[start + 1 : begin]
                self._complete(found)
            self._data, self._is_open = packet[begin:], True
        elif self._is_open:
            self._data += packet[start:]
        if self._is_open:
            self._complete(found)
        return found

    def _complete(self, found: list[bytes]) -> None:
        """Append the sections that are whole."""
        data, at = self._data, 0
        while at + _HEADER <= len(data) and data[at] != _STUFFING:
            end = at + _HEADER + (int.from_bytes(data[at + 1 : at + 3], "big") & 0xFFF)
            if end > len(data):
                break
            found.append(data[at:end])
            at = end
        # §2.4.4: behind the stuffing a section begins only where a pointer leads
        self._is_open = at == len(data) or data[at] != _STUFFING
        self._data = data[at:] if self._is_open else b""


class ProgramTables:
    """Follows the PAT and the PMTs of a transport stream, without I/O.

    Attributes:
        programs: PID of each program's map, by the program's number, in the order of the PAT.
        maps: the maps that have come, by the program's number.
    """

    def __init__(self) -> None:
        self.programs: dict[int, int] = {}
        self.maps: dict[int, ProgramMap] = {}
        self._readers = {PAT_PID: SectionReader()}
        self.pids = frozenset(self._readers)
        self._known: dict[tuple[int, int, int], bytes] = {}
        self._associations: dict[int, Mapping[int, int]] = {}
        self._version = -1
        # Of packet IDs that may have a map, while no PAT has come.
        self._supposed: dict[int, SectionReader] = {}

    def push(self, packet: bytes) -> bool:
        """Push a packet with tables; return whether the tables have changed."""
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        reader, changed = self._readers.get(pid), False
        for section in reader.push(packet) if reader is not None else ():
            # §2.4.4.4: tables that aren't in force yet
            if len(section) < 8 or not section[1] & 0x80 or not section[5] & 1:
                continue
            place = pid, section[0], int.from_bytes(section[3:5], "big") if pid else section[6]
            if self._known.get(place) == section:
                continue
            if checksum(section):  # annex A: 0 for a section with its CRC
                continue
            if pid == PAT_PID and section[0] == _ASSOCIATION:
                self._associate(section)
            elif pid != PAT_PID and section[0] == _MAP and self.programs.get(place[2]) == pid:
                program = read_program_map(section)
                if program is None:
                    continue
                self.maps[place[2]] = program
            else:
                continue
            self._known[place] = section
            changed = True
        return changed

    def push_unlisted(self, packet: bytes) -> bool:
        """Push a packet of a stream in which no PAT has come: a map is known by its own section, too.

        A recording that was cut may have lost the PAT, which counts as soon as it comes.

        Returns:
            Whether a map was found.
        """
        pid, start = (packet[1] & 0x1F) << 8 | packet[2], payload_offset(packet)
        if not packet[1] & 0x40 and pid not in self._supposed:
            return False
        if self._associations or pid == PAT_PID:
            return False
        if pid not in self._supposed:
            begin = start + 1 + packet[start] if start < PACKET else PACKET
            # §2.4.4.8: section_syntax_indicator is 1, and the bit behind it 0; a PES packet begins with 0
            if begin + 2 > PACKET or packet[begin] != _MAP or packet[begin + 1] & 0xC0 != 0x80:
                return False
            if len(self._supposed) == MAX_PROGRAMS:
                return False
            self._supposed[pid] = SectionReader()
        found = False
        for section in self._supposed[pid].push(packet):
            if section[0] != _MAP or len(section) < 12 or not section[5] & 1 or checksum(section):
                continue
            program, number = read_program_map(section), int.from_bytes(section[3:5], "big")
            if program is None or not program.streams or number in self.programs:
                continue
            self.programs[number], self.maps[number] = pid, program
            self._readers[pid] = self._supposed[pid]
            self.pids = frozenset((PAT_PID, *self.programs.values()))
            found = True
        return found

    def _associate(self, section: bytes) -> None:
        """Read a section of the PAT, of which a version may have several (§2.4.4.3)."""
        if section[5] != self._version:
            self._version, self._associations = section[5], {}
            self._known = {place: known for place, known in self._known.items() if place[0] != PAT_PID}
        self._associations[section[6]] = read_program_association(section)
        programs = [
            one for number in sorted(self._associations) for one in self._associations[number].items()
        ]
        self.programs = dict(programs[:MAX_PROGRAMS])
        self.maps = {number: told for number, told in self.maps.items() if number in self.programs}
        self.pids = frozenset((PAT_PID, *self.programs.values()))
        self._readers = {pid: self._readers.get(pid) or SectionReader() for pid in self.pids}
        self._known = {
            place: known
            for place, known in self._known.items()
            if place[0] == PAT_PID or self.programs.get(place[2]) == place[0]
        }

    def choose(self, present: Collection[int]) -> int | None:
        """Return the number of the first program with a picture, else of the first with sound; None without.

        Args:
            present: the PIDs that have packets.
        """
        known = [number for number in self.programs if number in self.maps]
        for types in (PICTURE_TYPES, SOUND_TYPES):
            for number in known:
                if any(one.pid in present and one.kind in types for one in self.maps[number].streams):
                    return number
        return None

    def prefers(self, present: Collection[int]) -> bool:
        """Return whether the first program of the PAT is there with a picture: no other one is better."""
        program = self.maps.get(next(iter(self.programs), 0))
        return program is not None and any(
            one.pid in present and one.kind in PICTURE_TYPES for one in program.streams
        )

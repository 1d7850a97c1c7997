"""MPEG transport streams (ISO/IEC 13818-1), as far as a restart needs them.

Tables, access points, and what a decoder can't follow: other streams, other sizes, a jump of the clock.
"""

from __future__ import annotations

import re

from media.errors import MalformedError
from media.pieces import Piece

PACKET = 188
SYNC = 0x47
PAT_PID = 0
MAX_RESYNC = 64 * PACKET
"""How many bytes without a packet's beginning are skipped before it isn't a transport stream."""

H264, HEVC = 0x1B, 0x24
VIDEO_TYPES = frozenset({0x01, 0x02, 0x10, H264, HEVC})
"""Stream types (table 2-34) of MPEG-1, -2 and -4 video, H.264, H.265."""

CLOCK_RATE = 90_000
CLOCK_WRAP = 1 << 33
"""§2.4.3.5: the base of the program clock reference counts so fast and so far."""

LONGEST_STEP = 3 * CLOCK_RATE
"""How far the clock may go from one reference to the next (§2.7.2 wants 0.1 s); beyond, it has jumped."""

MAX_UNIT = 4096
"""How much of an access unit is looked at for its parameter sets, which stand in front of its first slice."""

MAX_SKIPPED = 32 << 20
"""Bytes that are left out at most between a jump of the clock and the next access point."""

START_CODE = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)


class TransportReader:
    """Cuts a transport stream at its random access points, without I/O.

    Without video each packet with the random access indicator of any stream is one.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipped = 0
        self._found: list[Piece] = []
        self._run = bytearray()
        self._pat = b""
        self._pmt_pid: int | None = None
        self._video: tuple[int, int] | None = None
        self._streams: bytes | None = None
        self._clock_pid: int | None = None
        self._clock: int | None = None
        self._jumped: int | None = None
        self._accesses = False
        # An access unit that isn't decided about: its packets, and what its stream says in them.
        self._pending: tuple[bytearray, bytearray] | None = None
        self._parameters = b""

    @property
    def signature(self) -> bytes:
        """The program's streams, and the picture's sequence parameters."""
        return (self._streams or b"") + self._parameters

    def receive_data(self, data: bytes) -> list[Piece]:
        """Take the next bytes of the stream.

        Returns:
            The whole packets that they complete, in order; a new item begins at each access point and table.
            What lies between a jump of the clock and the next access point isn't among them.

        Raises:
            MalformedError: it is no transport stream.
        """
        self._buffer += data
        position = self._synchronise(0)
        while len(self._buffer) - position >= PACKET:
            self._take(bytes(self._buffer[position : position + PACKET]))
            position = self._synchronise(position + PACKET)
        del self._buffer[:position]
        self._flush()
        found, self._found = self._found, []
        return found

    def _synchronise(self, position: int) -> int:
        """Give where the next packet begins, from a place on."""
        if position >= len(self._buffer) or self._buffer[position] == SYNC:
            self._skipped = 0 if position < len(self._buffer) else self._skipped
            return position
        following = self._buffer.find(SYNC, position)
        following = len(self._buffer) if following < 0 else following
        self._skipped += following - position
        if self._skipped > MAX_RESYNC:
            raise MalformedError("no transport stream packets")
        return following

    def _take(self, packet: bytes) -> None:
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        starts, adaptation = bool(packet[1] & 0x40), packet[3] >> 4 & 3
        payload = 4 + (1 + packet[4] if adaptation & 2 else 0)
        if pid == PAT_PID or pid == self._pmt_pid:
            self._settle()
            self._flush()
            section = packet[payload + 1 + packet[payload] :] if payload < PACKET and adaptation & 1 else b""
            self._table(packet, pid, section if starts else b"")
            return
        flags = packet[5] if adaptation & 2 and packet[4] else 0
        if flags & 0x10 and pid == self._clock_pid:  # §2.4.3.5: a clock reference
            self._tick(int.from_bytes(packet[6:11], "big") >> 7)
        if flags & 0x40 and starts and (self._video is None or self._video[0] == pid):
            self._settle()
            self._flush()
            self._accesses = True
            self._pending = (bytearray(packet), bytearray(packet[payload:]))
        elif self._pending is not None:
            self._pending[0].extend(packet)
            if self._video is not None and self._video[0] == pid:
                self._pending[1].extend(packet[payload:])
        elif self._jumped is None:
            self._run += packet
        else:
            self._leave_out(packet)
        if self._pending is not None and self._told(self._pending[1]):
            self._settle()

    def _flush(self) -> None:
        if self._run:
            self._found.append(Piece(bytes(self._run)))
            self._run.clear()

    def _table(self, packet: bytes, pid: int, section: bytes) -> None:
        """Take a packet of the PAT or the PMT (§2.4.4)."""
        if pid == PAT_PID:
            self._pat = packet
            self._receive_pat(section)
            self._found.append(Piece(packet, header=True))
            return
        streams = self._receive_pmt(section) if len(section) >= 12 else None
        changes = streams is not None and self._streams not in (None, streams)
        self._streams = streams or self._streams
        if changes:
            self._parameters, self._clock = b"", None
            self._found.append(Piece(self._pat + packet, header=True, changes=True))
        else:
            self._found.append(Piece(packet, header=True))

    def _tick(self, clock: int) -> None:
        if self._clock is not None and (clock - self._clock) % CLOCK_WRAP > LONGEST_STEP:
            self._settle()
            self._flush()
            # Without access points there is nothing to wait for.
            self._jumped = 0 if self._accesses else MAX_SKIPPED
        self._clock = clock

    def _leave_out(self, packet: bytes) -> None:
        self._jumped = (self._jumped or 0) + PACKET
        if self._jumped > MAX_SKIPPED:
            self._jumped = None
            self._found.append(Piece(packet, changes=True))

    def _told(self, unit: bytearray) -> bool:
        """Tell whether enough of an access unit is there: its first slice, or as much as is looked at."""
        if self._video is None or self._video[1] not in (H264, HEVC) or len(unit) > MAX_UNIT:
            return True
        return any(self._slice(match[1][0]) for match in START_CODE.finditer(unit))

    def _slice(self, header: int) -> bool:
        if self._video is not None and self._video[1] == HEVC:
            return header >> 1 & 0x3F < 32  # ITU-T H.265 table 7-1
        return header & 0x1F in (1, 5)  # ITU-T H.264 table 7-1

    def _settle(self) -> None:
        """Let go of the access unit that is held; tell whether a decoder can go on with it."""
        if self._pending is None:
            return
        packets, unit = self._pending
        self._pending = None
        told = self._sequence_parameters(bytes(unit))
        changes = self._jumped is not None or bool(told and self._parameters and told != self._parameters)
        self._parameters, self._jumped = told or self._parameters, None
        self._found.append(Piece(bytes(packets), access=True, changes=changes))

    def _sequence_parameters(self, unit: bytes) -> bytes:
        """Give the sequence parameter set of an access unit, which has its profile and its size."""
        kind = None if self._video is None else self._video[1]
        for match in START_CODE.finditer(unit) if kind in (H264, HEVC) else ():
            header = match[1][0]
            if header & 0x1F == 7 if kind == H264 else header >> 1 & 0x3F == 33:
                end = unit.find(b"\0\0\1", match.end())
                return unit[match.start() : end if end >= 0 else len(unit)].rstrip(b"\0")
        return b""

    def _receive_pat(self, section: bytes) -> None:
        if len(section) < 8:
            return
        end = min(3 + _section_length(section) - 4, len(section))
        for entry in range(8, end - 3, 4):
            if section[entry : entry + 2] != b"\0\0":  # §2.4.4.3: program 0 is the network's table
                self._pmt_pid = int.from_bytes(section[entry + 2 : entry + 4], "big") & 0x1FFF
                return

    def _receive_pmt(self, section: bytes) -> bytes:
        """Take the program's streams (§2.4.4.8); give their types and numbers."""
        self._clock_pid = int.from_bytes(section[8:10], "big") & 0x1FFF
        end = min(3 + _section_length(section) - 4, len(section))
        entry = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
        self._video, streams = None, bytearray(section[8:10])
        while entry + 5 <= end:
            pid = int.from_bytes(section[entry + 1 : entry + 3], "big") & 0x1FFF
            if section[entry] in VIDEO_TYPES and self._video is None:
                self._video = (pid, section[entry])
            streams += section[entry : entry + 3]
            entry += 5 + (int.from_bytes(section[entry + 3 : entry + 5], "big") & 0xFFF)
        return bytes(streams)


def _section_length(section: bytes) -> int:
    return int.from_bytes(section[1:3], "big") & 0xFFF

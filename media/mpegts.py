"""MPEG transport streams (ISO/IEC 13818-1), as far as a restart needs them: tables and access points."""

from __future__ import annotations

from media.errors import MalformedError
from media.pieces import Piece

PACKET = 188
SYNC = 0x47
PAT_PID = 0
MAX_RESYNC = 64 * PACKET
"""How many bytes without a packet's beginning are skipped before it isn't a transport stream."""

VIDEO_TYPES = frozenset({0x01, 0x02, 0x10, 0x1B, 0x24})
"""Stream types (table 2-34) of MPEG-1, -2 and -4 video, H.264, H.265."""


class TransportReader:
    """Cuts a transport stream at its random access points, without I/O.

    Without video each packet with the random access indicator of any stream is one.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipped = 0
        self._pmt_pid: int | None = None
        self._video_pid: int | None = None

    def receive_data(self, data: bytes) -> list[Piece]:
        """Take the next bytes of the stream.

        Returns:
            The whole packets that they complete, in order; a new item begins at each access point and table.

        Raises:
            MalformedError: it is no transport stream.
        """
        self._buffer += data
        found: list[Piece] = []
        run, position = bytearray(), self._synchronise(0)
        while len(self._buffer) - position >= PACKET:
            packet = bytes(self._buffer[position : position + PACKET])
            table, access = self._look(packet)
            if table or access:
                if run:
                    found.append(Piece(bytes(run)))
                    run.clear()
                if table:
                    found.append(Piece(packet, header=True))
                else:
                    found.append(Piece(packet, access=True))
            else:
                run += packet
            position = self._synchronise(position + PACKET)
        if run:
            found.append(Piece(bytes(run)))
        del self._buffer[:position]
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

    def _look(self, packet: bytes) -> tuple[bool, bool]:
        """Tell whether a packet is a table, and whether it is an access point (§2.4.3.2, §2.4.3.5)."""
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        starts, adaptation = bool(packet[1] & 0x40), packet[3] >> 4 & 3
        payload = 4 + (1 + packet[4] if adaptation & 2 else 0)
        if pid == PAT_PID or pid == self._pmt_pid:
            if starts and adaptation & 1 and payload < PACKET:
                section = packet[payload + 1 + packet[payload] :]
                self._receive_pat(section) if pid == PAT_PID else self._receive_pmt(section)
            return True, False
        random_access = bool(adaptation & 2 and packet[4] and packet[5] & 0x40)
        return False, random_access and starts and self._video_pid in (None, pid)

    def _receive_pat(self, section: bytes) -> None:
        end = min(3 + _section_length(section) - 4, len(section))
        for entry in range(8, end - 3, 4):
            if section[entry : entry + 2] != b"\0\0":  # §2.4.4.3: program 0 is the network's table
                self._pmt_pid = int.from_bytes(section[entry + 2 : entry + 4], "big") & 0x1FFF
                return

    def _receive_pmt(self, section: bytes) -> None:
        if len(section) < 12:
            return
        end = min(3 + _section_length(section) - 4, len(section))
        entry = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
        self._video_pid = None
        while entry + 5 <= end:
            if section[entry] in VIDEO_TYPES:
                self._video_pid = int.from_bytes(section[entry + 1 : entry + 3], "big") & 0x1FFF
                return
            entry += 5 + (int.from_bytes(section[entry + 3 : entry + 5], "big") & 0xFFF)


def _section_length(section: bytes) -> int:
    return int.from_bytes(section[1:3], "big") & 0xFFF

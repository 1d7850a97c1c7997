"""Divides MPEG transport streams (ISO/IEC 13818-1) into chunks at which a decoder can be restarted.

Finds tables, access points, and changes that a decoder can't follow: of streams, of sizes, or jumps of the
clock.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from media.errors import MalformedError
from media.stream_reader import CLOCK_RATE, StreamChunk
from media.ts.tables import (
    PACKET,
    PAT_PID,
    SYNC,
    ProgramMap,
    StreamType,
    payload_offset,
    read_program_association,
    read_program_map,
    section_of,
)
from media.ts.timestamps import CLOCK_WRAP

NULL_PID = 0x1FFF
VIDEO_TYPES = frozenset(
    {
        StreamType.MPEG1_VIDEO,
        StreamType.MPEG2_VIDEO,
        StreamType.MPEG4_VIDEO,
        StreamType.H264,
        StreamType.HEVC,
    }
)
_WITH_PARAMETER_SETS = frozenset({StreamType.H264, StreamType.HEVC})

LONGEST_STEP = 3 * CLOCK_RATE
"""Largest step between clock references (§2.7.2: 0.1 s); a larger one is a jump."""

START_CODE = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportReaderLimits:
    """Limits of a transport stream that is divided into chunks.

    Attributes:
        garbage_bytes: Most bytes that are skipped to find a packet.
        unit_bytes: Most bytes of an access unit that are searched for its parameter sets.
        held_bytes: Most bytes of packets that wait for that part of an access unit.
        dropped_bytes: Most bytes that are dropped from a jump of the clock to the next access point.
    """

    garbage_bytes: int = 64 * PACKET
    unit_bytes: int = 4096
    held_bytes: int = 1 << 20
    dropped_bytes: int = 32 << 20


DEFAULT_LIMITS = TransportReaderLimits()


class _AccessUnit:
    """The beginning of an access unit, while its parameter sets are unknown.

    Args:
        packet: first packet of the unit.
        data: payload of that packet.

    Attributes:
        packets: all packets since the first one, those of other streams included.
        data: the payload of the unit's own packets.
        seen: bytes of the payload that were searched.
    """

    __slots__ = ("data", "packets", "seen")

    def __init__(self, packet: bytes, data: bytes) -> None:
        self.packets = bytearray(packet)
        self.data = bytearray(data)
        self.seen = 0


class TransportReader:
    """Divides a transport stream at its random access points, without I/O.

    Without video, each packet with the random access indicator is one.

    Attributes:
        lost: number of lost packets, by their counters modulo 16.
    """

    muxed_container = ""

    def __init__(self, limits: TransportReaderLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._skipped = 0
        self._follows_packet = False
        self._found: list[StreamChunk] = []
        self._run = bytearray()
        self._pat = b""
        self._pmt_pid: int | None = None
        self._video: tuple[int, int] | None = None
        self._streams: bytes | None = None
        self._clock_pid: int | None = None
        self._clock: int | None = None
        self._elapsed: int | None = None
        self._jumped: int | None = None
        self._accesses = False
        self._pending: _AccessUnit | None = None
        self._parameters = b""
        self._counters: dict[int, int] = {}
        self.lost = 0

    @property
    def signature(self) -> bytes:
        """The program's streams and the video's sequence parameter sets."""
        return (self._streams or b"") + self._parameters

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Parse the next bytes.

        Returns:
            Chunks of whole packets, in order; a new one begins at each access point and table. Packets
            between a jump of the clock and the next access point are dropped.

        Raises:
            MalformedError: it isn't a transport stream.
        """
        self._buffer += data
        position = self._synchronise(0)
        while len(self._buffer) - position >= PACKET:
            self._push_packet(bytes(self._buffer[position : position + PACKET]))
            self._follows_packet = True
            position = self._synchronise(position + PACKET)
        del self._buffer[:position]
        self._flush()
        found, self._found = self._found, []
        return found

    def _synchronise(self, position: int) -> int:
        """Return the offset of the next packet."""
        if position >= len(self._buffer):
            return position
        if self._buffer[position] == SYNC:
            # A sync byte that was searched for may be any byte: it is confirmed by the next packet's.
            self._skipped = 0 if self._follows_packet else self._skipped
            return position
        self._follows_packet = False
        following = self._buffer.find(SYNC, position)
        following = len(self._buffer) if following < 0 else following
        self._skipped += following - position
        if self._skipped > self._limits.garbage_bytes:
            raise MalformedError("no transport stream packets")
        return following

    def _push_packet(self, packet: bytes) -> None:
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        starts, adaptation, payload = bool(packet[1] & 0x40), packet[3] >> 4 & 3, payload_offset(packet)
        flags = packet[5] if adaptation & 2 and packet[4] else 0
        if adaptation & 1:
            self._count(pid, packet[3] & 15, breaks=bool(flags & 0x80))
        if pid == PAT_PID or pid == self._pmt_pid:
            self._settle()
            self._flush()
            self._table(packet, pid, section_of(packet))
            return
        if flags & 0x10 and pid == self._clock_pid:  # §2.4.3.5: a clock reference
            self._tick(int.from_bytes(packet[6:11], "big") >> 7)
        if flags & 0x40 and starts and (self._video is None or self._video[0] == pid):
            self._settle()
            self._flush()
            self._accesses = True
            self._pending = _AccessUnit(packet, packet[payload:])
        elif self._pending is not None:
            self._pending.packets += packet
            if self._video is not None and self._video[0] == pid:
                self._pending.data += packet[payload:]
        else:
            self._pass_on(packet)
        if self._pending is not None and self._told(self._pending):
            self._settle()

    def _count(self, pid: int, counter: int, *, breaks: bool) -> None:
        """Count packets lost before one with a payload (§2.4.3.3); a packet may be sent twice."""
        former, self._counters[pid] = self._counters.get(pid, counter), counter
        if pid != NULL_PID and not breaks and counter != former:
            self.lost += (counter - former - 1) % 16

    def _flush(self) -> None:
        if self._run:
            self._found.append(StreamChunk(bytes(self._run), clock=self._elapsed))
            self._run.clear()

    def _table(self, packet: bytes, pid: int, section: bytes) -> None:
        """Parse a packet of the PAT or PMT (§2.4.4)."""
        if pid == PAT_PID:
            self._pat = packet
            self._pmt_pid = read_program_association(section) or self._pmt_pid
            self._found.append(StreamChunk(packet, header=True))
            return
        program = read_program_map(section)
        streams = None if program is None else self._receive_pmt(program)
        changes = streams is not None and self._streams not in (None, streams)
        self._streams = streams or self._streams
        if changes:
            self._parameters, self._clock = b"", None
            self._found.append(StreamChunk(self._pat + packet, header=True, changes=True))
        else:
            self._found.append(StreamChunk(packet, header=True))

    def _tick(self, clock: int) -> None:
        if self._clock is not None and (clock - self._clock) % CLOCK_WRAP > LONGEST_STEP:
            self._settle()
            self._flush()
            # Without access points there is nothing to wait for.
            self._jumped = 0 if self._accesses else self._limits.dropped_bytes
        elif self._clock is not None:
            self._elapsed = (self._elapsed or 0) + (clock - self._clock) % CLOCK_WRAP
        self._clock = clock

    def _pass_on(self, packets: bytes) -> None:
        """Emit packets without an access point; after a jump of the clock they are dropped."""
        if self._jumped is None:
            self._run += packets
            return
        self._jumped += len(packets)
        if self._jumped > self._limits.dropped_bytes:
            self._jumped = None
            self._found.append(StreamChunk(packets, changes=True))

    def _told(self, unit: _AccessUnit) -> bool:
        """Return whether an access unit is complete up to its first slice, or as far as it is searched."""
        if self._video is None or self._video[1] not in _WITH_PARAMETER_SETS:
            return True
        if len(unit.data) > self._limits.unit_bytes or len(unit.packets) > self._limits.held_bytes:
            return True
        # Searched bytes aren't searched again, except for a part of a start code at their end.
        start, unit.seen = max(unit.seen - 3, 0), len(unit.data)
        return any(self._slice(match[1][0]) for match in START_CODE.finditer(unit.data, start))

    def _slice(self, header: int) -> bool:
        if self._video is not None and self._video[1] == StreamType.HEVC:
            return header >> 1 & 0x3F < 32  # ITU-T H.265 table 7-1
        return header & 0x1F in (1, 5)  # ITU-T H.264 table 7-1

    def _settle(self) -> None:
        """Emit the held access unit as a chunk, marked if a decoder can't continue with it."""
        if self._pending is None:
            return
        unit, self._pending = self._pending, None
        packets = bytes(unit.packets)
        told = self._sequence_parameters(bytes(unit.data))
        if self._parameters and not told:
            # §2.14.1: an access point of such video has them; this is the picture of another coding.
            self._pass_on(packets)
            return
        changes = self._jumped is not None or bool(self._parameters and told != self._parameters)
        self._parameters, self._jumped = told, None
        self._found.append(StreamChunk(packets, access=True, changes=changes, clock=self._elapsed))

    def _sequence_parameters(self, unit: bytes) -> bytes:
        """Return the sequence parameter sets of an access unit, with profile and size."""
        kind = None if self._video is None else self._video[1]
        found: dict[bytes, None] = {}
        for match in START_CODE.finditer(unit) if kind in _WITH_PARAMETER_SETS else ():
            header = match[1][0]
            if header & 0x1F == 7 if kind == StreamType.H264 else header >> 1 & 0x3F == 33:
                end = unit.find(b"\0\0\1", match.end())
                found[unit[match.start() : end if end >= 0 else len(unit)].rstrip(b"\0")] = None
        return b"".join(found)

    def _receive_pmt(self, program: ProgramMap) -> bytes:
        """Adopt the streams of a program; return their types and PIDs."""
        self._clock_pid = program.clock_pid
        videos = [one for one in program.streams if one.kind in VIDEO_TYPES]
        self._video = (videos[0].pid, videos[0].kind) if videos else None
        told = [struct.pack(">BH", one.kind, one.pid) for one in program.streams]
        return struct.pack(">H", program.clock_pid) + b"".join(told)

"""Divides MPEG transport streams (ISO/IEC 13818-1) into chunks at which a decoder can be restarted.

Finds tables, access points, and changes that a decoder can't follow: of streams, of sizes, or jumps of the
clock.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace

from media.errors import MalformedError, MediaError
from media.steady_times import ALIKE, SingleStrays
from media.stream_reader import CLOCK_RATE, LONGEST_PAUSE, StreamChunk
from media.ts.moved_streams import MovedStreams
from media.ts.sections import ProgramTables
from media.ts.sound_frames import LIVE_SOUND_CODINGS, SoundCoding
from media.ts.tables import (
    PACKET,
    PAT_PID,
    PICTURE_TYPES,
    SDT_PID,
    SYNC,
    KnownTables,
    ProgramMap,
    StreamType,
    payload_offset,
    write_tables,
)
from media.ts.timestamps import CLOCK_WRAP, LiveClock, moved_packet, timestamp

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
STRIDES = (PACKET, PACKET + 4, PACKET + 16)
"""Bytes from one packet to the next: alone, with a time of arrival (.m2ts), or with parity (EN 300 421)."""

NOT_THERE = "its program map lists sound or a picture of which nothing comes: it is left out"
"""The fault of a stream whose map announces more than there is."""

ENCRYPTED = "its sound or its picture is encrypted: it is left out"
"""The fault of a stream that is there and can't be read."""

AWAITED_TYPES = PICTURE_TYPES | {
    StreamType.MPEG1_AUDIO,
    StreamType.MPEG2_AUDIO,
    StreamType.AAC,
    StreamType.LATM,
    StreamType.AC3,
    StreamType.EAC3,
}
"""Types of streams of which something always comes; of subtitles and data there may be none for long."""

_WITH_PARAMETER_SETS = frozenset({StreamType.H264, StreamType.HEVC})

LONGEST_STEP = 3 * CLOCK_RATE
"""Largest step between clock references (§2.7.2: 0.1 s); a larger one is a jump, unless sound goes on."""

LONGEST_AWAITED = CLOCK_RATE
"""Ticks of the clock within which something of each stream of the program's map must have come."""

_SOUND_HEADER = 9
"""Bytes that always hold the header of an audio frame; as many of a PES packet say where its header ends."""

START_CODE = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportReaderLimits:
    """Limits of a transport stream that is divided into chunks.

    Attributes:
        garbage_bytes: Most bytes that are skipped to find a packet.
        table_bytes: Most bytes of packets before the map of a program.
        supposed_bytes: Bytes of packets without a PAT from which on a map is taken for one without it.
        associations: How often the PAT comes before a program is chosen of those whose maps have come.
        unit_bytes: Most bytes of an access unit that are searched for its parameter sets.
        held_bytes: Most bytes of packets that wait for that part of an access unit.
        dropped_bytes: Most bytes that are dropped from a jump of the clock to the next access point.
        access_unit_bytes: largest picture, or PES packet of sound.
        access_span_bytes: most bytes of the stream between the ends of a picture or PES packet.
        searched_table_bytes: bytes from the beginning that are searched for the program tables.
    """

    garbage_bytes: int = 64 * PACKET
    table_bytes: int = 4 << 20
    supposed_bytes: int = 1 << 20
    associations: int = 4
    unit_bytes: int = 4096
    held_bytes: int = 1 << 20
    dropped_bytes: int = 32 << 20
    access_unit_bytes: int = 8 << 20
    access_span_bytes: int = 32 << 20
    searched_table_bytes: int = 4 << 20


DEFAULT_LIMITS = TransportReaderLimits()


class _HeldUnit:
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

    Without video, each packet with the random access indicator is one. Of several programs the first one with
    a picture is passed on, else the first with sound, without the packets of the others. Tables are written
    anew, so that a reader of the chunks needs to know nothing of sections and programs. Streams stay at their
    packet IDs where a new version of the map gives them others.

    Attributes:
        lost: number of lost packets, by their counters modulo 16, and of those that were cut off.
        skipped: number of bytes that were of no packet.
        fault: which streams are left out, and why; empty where none is.
    """

    muxed_container = ""

    def __init__(self, limits: TransportReaderLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._garbage = 0
        self._stride = PACKET
        self._is_synchronised = False
        self._before = b""
        self._found: list[StreamChunk] = []
        self._run = bytearray()
        self._tables = ProgramTables()
        self._moved = MovedStreams()
        self._number: int | None = None
        self._pids = frozenset[int]()
        self._present = set[int]()
        # Streams of which nothing has come, since when by the clock, and those that are left out for it.
        self._awaited, self._awaited_since = set[int](), 0
        self._come = set[int]()
        self._left_out = frozenset[int]()
        # Streams that have had scrambled packets, and those whose last PES packet had some.
        self._encrypted, self._damaged = set[int](), set[int]()
        self._searched = self._associations = 0
        self._video: tuple[int, int] | None = None
        self._streams: bytes | None = None
        # The first sound's stream, the format of its newest frames, and the one that came behind another.
        self._sound: tuple[int, SoundCoding] | None = None
        self._format: tuple[int, ...] | None = None
        self._changed_format = b""
        self._clock_pid: int | None = None
        self._clock: int | None = None
        # The last step of the clock; the newest time of sound, and whether it has gone on since that step.
        self._step = 0
        self._heard: int | None = None
        self._has_heard_on = True
        self._elapsed: int | None = None
        self._jumped: int | None = None
        self._accesses = False
        self._pending: _HeldUnit | None = None
        self._parameters = b""
        self._last: dict[int, bytes] = {}
        # The streams that have had a packet behind the newest table that doesn't follow the ones before.
        self._known_tables = KnownTables()
        self._going_on = set[int]()
        self._strays = SingleStrays()
        self._picture_time = LiveClock()
        self.lost = 0
        self.skipped = 0
        self.fault = ""

    @property
    def signature(self) -> bytes:
        """The program's streams, the video's sequence parameter sets, and a sound's format behind another."""
        return (self._streams or b"") + self._parameters + self._changed_format

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
        while self._is_synchronised and len(self._buffer) - position >= self._stride:
            self._push_packet(bytes(self._buffer[position : position + PACKET]))
            position = self._synchronise(position + self._stride)
        self._before = self._packet_before(position)
        del self._buffer[:position]
        self._flush()
        found, self._found = self._found, []
        return found

    def _packet_before(self, position: int) -> bytes:
        """Return the bytes of the packet before an offset, but the first one."""
        behind = self._buffer[max(position - self._stride + 1, 0) : position]
        return (self._before + behind)[1 - self._stride :]

    def _synchronise(self, position: int) -> int:
        """Return the offset of the next packet, or of the bytes among which it is."""
        if self._is_synchronised:
            if position >= len(self._buffer) or self._buffer[position] == SYNC:
                self._garbage = 0
                return position
            # Bytes are missing or too many: the next packet may have begun within the one before.
            self._is_synchronised = False
            before = self._packet_before(position)
            self._buffer[:position] = before
            self._garbage -= len(before)
            position, self._before = 0, b""
        begin = position
        while (position := self._buffer.find(SYNC, position)) >= 0:
            # Any byte may be a sync byte: it is confirmed by the next packet's.
            ends = [(stride, position + stride) for stride in STRIDES]
            found = [stride for stride, end in ends if end < len(self._buffer) and self._buffer[end] == SYNC]
            if found:
                self._stride, self._is_synchronised = found[0], True
                break
            if ends[-1][1] >= len(self._buffer):
                break
            position += 1
        position = len(self._buffer) if position < 0 else position
        self._garbage += position - begin
        if self._garbage > self._limits.garbage_bytes:
            raise MalformedError("no transport stream packets")
        if self._is_synchronised:
            # The time of arrival before a packet is no garbage; a packet that another one begins in is lost.
            self.skipped += max(self._garbage - self._stride % PACKET % 16, 0)
            self.lost += self._garbage < 0
        return position

    def _push_packet(self, packet: bytes) -> None:
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        starts, adaptation, payload = bool(packet[1] & 0x40), packet[3] >> 4 & 3, payload_offset(packet)
        flags = packet[5] if adaptation & 2 and packet[4] else 0
        if adaptation & 1 and self._is_repeated(pid, packet, payload, breaks=bool(flags & 0x80)):
            return
        if pid in self._tables.pids:
            self._push_tables(packet, pid)
            return
        if (found := self._of_program(packet, pid)) is None:
            return
        packet, pid = found
        if flags & 0x10 and pid == self._clock_pid:  # §2.4.3.5: a clock reference
            self._tick(int.from_bytes(packet[6:11], "big") >> 7)
        if (packet[3] & 0xC0 or self._damaged or self._awaited) and not self._can_be_read(packet, pid):
            return
        packet = self._look_at_unit(packet, pid, payload) if starts else packet
        if flags & 0x40 and starts and (self._video is None or self._video[0] == pid):
            self._settle()
            self._flush()
            self._accesses = True
            self._pending = _HeldUnit(packet, packet[payload:])
        elif self._pending is not None:
            self._pending.packets += packet
            if self._video is not None and self._video[0] == pid:
                self._pending.data += packet[payload:]
        else:
            self._pass_on(packet)
        if self._pending is not None and self._told(self._pending):
            self._settle()

    def _of_program(self, packet: bytes, pid: int) -> tuple[bytes, int] | None:
        """Return a packet with its stream's known ID, and that ID; None if it is of no stream of the program.

        Packets that come before the program is known are passed on.
        """
        if self._number is None:
            self._look_for_program(packet, pid)
        if self._number is None:
            self._pass_on(packet)
            return None
        found = self._moved.place(packet, pid) if self._moved.is_moving else (packet, pid)
        if found is not None and found[1] not in self._pids and len(self._tables.programs) > 1:
            return None
        return found

    def _look_at_unit(self, packet: bytes, pid: int, payload: int) -> bytes:
        """Return the first packet of an access unit, with another time if that of a picture strays."""
        if self._sound is not None and self._sound[0] == pid:
            self._look_at_sound(packet[payload:])
            if (heard := timestamp(packet)) is not None:
                self._hear(heard)
        told = timestamp(packet) if self._video is not None and self._video[0] == pid else None
        shift = 0 if told is None else self._strays.shift(self._picture_time.time(told))
        if self._strays.fault and not self.fault:
            self.fault = self._strays.fault
        return moved_packet(packet, shift) if shift else packet

    def _look_at_sound(self, pes: bytes) -> None:
        """Note the format of the frame with which a PES packet of sound begins, and where it changes."""
        if self._sound is None or len(pes) < _SOUND_HEADER:
            return
        coding, frame = self._sound[1], pes[_SOUND_HEADER + pes[8] :]
        try:
            facts = coding.parse(frame[: coding.header_bytes].ljust(_SOUND_HEADER, b"\0"))
            following = frame[facts.size : facts.size + coding.header_bytes]
            if facts.is_alike:
                return
            other = coding.parse(following) if len(following) >= _SOUND_HEADER else facts
            if other.kind != facts.kind and not other.is_alike:
                return
        except MediaError:
            return  # the packet begins within a frame, or is damaged
        former, self._format = self._format, facts.kind
        if former not in (None, facts.kind):
            self._changed_format = repr(facts.kind).encode()
            self._write_tables(changes=True)

    def _can_be_read(self, packet: bytes, pid: int) -> bool:
        """Return whether a packet and those before it of its PES packet are clear; note that it came."""
        # §2.4.3.2: the header of a packet with errors may be damaged
        if packet[3] & 0xC0 and not packet[1] & 0x80:
            self._encrypted.add(pid)
            self._damaged.add(pid)
        elif packet[1] & 0x40:
            self._damaged.discard(pid)
        if pid in self._damaged:
            return False
        if pid in self._awaited and packet[3] & 0x10:
            self._note_come(pid)
        return True

    def _note_come(self, pid: int) -> None:
        """Note the first packet of a stream, which was perhaps left out until now."""
        self._come.add(pid)
        self._awaited.discard(pid)
        if pid in self._left_out:
            self._left_out -= {pid}
            self._write_tables()

    def _leave_out(self) -> None:
        """Leave the streams out of the tables of which nothing comes: decoders would wait for them."""
        listed = () if self._moved.program is None else self._moved.program.streams
        missing = frozenset(
            one.pid for one in listed if one.pid in self._awaited and one.kind in AWAITED_TYPES
        )
        if missing != self._left_out and any(
            one.pid in self._come and one.kind in AWAITED_TYPES for one in listed
        ):
            self._left_out = missing
            self._write_tables(replaces=bool(missing))

    def _is_repeated(self, pid: int, packet: bytes, payload: int, *, breaks: bool) -> bool:
        """Return whether a packet with a payload was sent twice; count those lost before it (§2.4.3.3)."""
        former = self._last.get(pid)
        self._last[pid] = packet
        if former is None or pid == NULL_PID:
            self._going_on.add(pid)
            return False
        step = (packet[3] - former[3]) & 15
        if packet[1] & 0x40 and (pid == SDT_PID or pid in self._tables.pids):
            self._note_renewal(pid, packet[payload:], step)
        if not step:
            if packet[payload:] != former[payload:]:
                return False
            self._last[pid] = packet[:4]  # two in a row are the same, but no more
            return True
        if step > 1 and not breaks and (pid in self._going_on or not packet[1] & 0x40):
            self.lost += step - 1
        self._going_on.add(pid)
        return False

    def _note_renewal(self, pid: int, table: bytes, step: int) -> None:
        """Note whether streams may begin anew behind a table, whose counter has advanced by a step.

        Where a recording ends and another one begins, or streams exchange their packet IDs, tables come that
        don't follow the ones before: counters begin anew, and nothing is lost.
        """
        if self._known_tables.is_new(pid, table) or step > 1:
            self._going_on.clear()

    def _flush(self) -> None:
        if self._run:
            self._found.append(StreamChunk(bytes(self._run), clock=self._elapsed))
            self._run.clear()

    def _push_tables(self, packet: bytes, pid: int) -> None:
        """Push a packet with tables (§2.4.4), and pass on the program's own where they may have come anew."""
        changed = self._tables.push(packet)
        if changed:
            self._going_on.clear()
        if self._number is not None and self._number not in self._tables.maps:
            # The program has ended, or its map has moved.
            self._number, self._searched, self._associations = None, 0, 0
            self._present.clear()
        if self._number is None:
            self._associations += pid == PAT_PID
            self._choose_program()
        elif changed or (packet[1] & 0x40 and pid == self._tables.programs[self._number]):
            self._write_tables()

    def _look_for_program(self, packet: bytes, pid: int) -> None:
        """Note a packet of a stream whose program isn't known yet."""
        self._present.add(pid)
        if self._searched > self._limits.supposed_bytes:
            self._tables.push_unlisted(packet)
        self._choose_program()

    def _choose_program(self) -> None:
        """Choose a program, if enough is known of those that there are."""
        tables = self._tables
        if len(tables.programs) == 1:
            self._number = next(iter(tables.maps), None)
        elif tables.maps and (
            tables.prefers(self._present) or self._associations > self._limits.associations
        ):
            self._number = tables.choose(self._present)
        if self._number is not None:
            self._write_tables()
            return
        self._searched += PACKET
        if self._searched > self._limits.table_bytes:
            raise MalformedError("a transport stream without the map of a program that is in it")

    def _write_tables(self, *, changes: bool = False, replaces: bool = False) -> None:
        """Pass on the tables of the program, as those of a stream that has no other one.

        Args:
            changes: whether a decoder can't go on with the packets behind them.
            replaces: whether they lack nothing but streams of which nothing has come.
        """
        if self._number is None:
            return
        told, map_pid = self._tables.maps[self._number], self._tables.programs[self._number]
        program = self._moved.adopt(told, map_pid, self._last)
        awaited = {one.pid for one in program.streams} - self._come
        if awaited != self._awaited:
            self._awaited, self._awaited_since = awaited, self._elapsed or 0
        self._left_out &= awaited
        if self._left_out:
            kept = [one for one in program.streams if one.pid not in self._left_out]
            program = replace(program, streams=tuple(kept))
        self.fault = self._strays.fault
        if self._left_out:
            self.fault = ENCRYPTED if self._left_out & self._encrypted else NOT_THERE
        written = write_tables(program, map_pid)
        self._settle()
        self._flush()
        streams = self._receive_pmt(program)
        changes = changes or (not replaces and self._streams not in (None, streams))
        if changes:
            self._parameters, self._clock = b"", None
        self._streams = streams
        self._found.append(StreamChunk(written, header=True, changes=changes, replaces=replaces))

    def _hear(self, time: int) -> None:
        """Note the time of sound, which shows whether the clock goes on between references."""
        if self._heard is not None and (time - self._heard) % CLOCK_WRAP > LONGEST_STEP:
            self._has_heard_on = False
        self._heard = time

    def _goes_on(self, clock: int, before: int) -> bool:
        """Return whether a clock reference goes on behind the one before.

        Muxers that send references with pictures alone send few of them if there are few pictures.
        """
        step, usual, self._step = (clock - before) % CLOCK_WRAP, self._step, (clock - before) % CLOCK_WRAP
        has_heard_on, self._has_heard_on = self._has_heard_on, True
        if step <= LONGEST_STEP or step > LONGEST_PAUSE:
            return step <= LONGEST_STEP
        if self._heard is None:
            return not usual or abs(step - usual) * ALIKE < usual
        return has_heard_on and (self._heard - clock + LONGEST_STEP) % CLOCK_WRAP <= 2 * LONGEST_STEP

    def _tick(self, clock: int) -> None:
        if self._clock is not None and not self._goes_on(clock, self._clock):
            self._settle()
            self._flush()
            self._strays.restart()
            self._heard = None
            # Without access points there is nothing to wait for.
            self._jumped = 0 if self._accesses else self._limits.dropped_bytes
        elif self._clock is not None:
            self._elapsed = (self._elapsed or 0) + (clock - self._clock) % CLOCK_WRAP
            if self._awaited and self._elapsed - self._awaited_since > LONGEST_AWAITED:
                self._leave_out()
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

    def _told(self, unit: _HeldUnit) -> bool:
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
        self._pids = frozenset((program.clock_pid, *(one.pid for one in program.streams)))
        videos = [one for one in program.streams if one.kind in VIDEO_TYPES]
        self._video = (videos[0].pid, videos[0].kind) if videos else None
        types = ((one.pid, LIVE_SOUND_CODINGS.get(one.sound_type)) for one in program.streams)
        # Frames that say themselves what they are go on as they are.
        sound = next(
            ((pid, one) for pid, one in types if one is not None and not one.is_self_describing), None
        )
        if sound != self._sound:
            self._sound, self._format = sound, None
        return b"".join([struct.pack(">BH", one.kind, one.pid) for one in program.streams])

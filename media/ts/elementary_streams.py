"""Elementary streams in a file of transport stream packets (ISO/IEC 13818-1 §2.4.3): units with their times.

A PES packet's bytes lie in pieces among those of other streams. Each unit has its range of the file, from
which the same reader can read it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from media.errors import MalformedError, UnsupportedError
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.box_arrays import Int64
from media.ts.tables import PACKET, PAT_PID, SDT_PID, SYNC, KnownTables
from media.ts.timestamps import read_timestamp

BLOCK_BYTES = 64 << 10
"""Approximate bytes of a file that are parsed together."""

_NULL_PID = 0x1FFF

_PACKET_HEADER = 4
"""Bytes of a packet's header (§2.4.3.2)."""

_PES_HEADER = 9
"""Bytes of a PES packet's header up to where it says how many follow (§2.4.3.6)."""

_BLU_RAY_HEADER = 4
"""Bytes before each packet in a file of a Blu-ray disc or a camera (.m2ts): its time of arrival."""

_PARITY = 16
"""Bytes behind each packet of a receiver that keeps the parity of its channel (ETSI EN 300 421 §4.4.2)."""

CONFIRMED = 5
"""Packets in a row that begin with the sync byte where packets are looked for (ETSI TR 101 290 §5.2.1)."""


class Layout(NamedTuple):
    """The spacing of packets in a file.

    Attributes:
        stride: bytes from one to the next.
        skipped: bytes before each that aren't of the packet.
    """

    stride: int
    skipped: int

    @property
    def block(self) -> int:
        """Bytes of the whole packets that are parsed together."""
        return BLOCK_BYTES // self.stride * self.stride

    def begins(self, data: bytes, count: int) -> Int64:
        """Return the offsets below a count at which several packets in a row begin, as far as the data go."""
        synced = np.frombuffer(data, np.uint8) == SYNC
        ends = np.ones(self.skipped + CONFIRMED * self.stride + count, np.bool_)
        ends[: len(synced)] = synced[: len(ends)]
        found = ends[self.skipped : self.skipped + count].copy()
        for number in range(1, CONFIRMED):
            at = self.skipped + number * self.stride
            found &= ends[at : at + count]
        return np.flatnonzero(found)


PLAIN = Layout(PACKET, 0)
LAYOUTS = (PLAIN, Layout(PACKET + _BLU_RAY_HEADER, _BLU_RAY_HEADER), Layout(PACKET + _PARITY, 0))
HEAD_BYTES = CONFIRMED * (PACKET + _PARITY)
"""Bytes of a file's beginning from which the layout is recognized."""

MAX_BREAKS = 100_000
"""Most places of a file at which packets are looked for again: hours of poor reception have some thousand."""

_ANY_SIZE = 1 << 62
"""Bytes of a file of which only a range is read, whose packets are confirmed by those behind it."""

_FIRST_SEARCH = 16
"""Packets that are looked through first where they are looked for again; then twice as many each time."""

SEARCHED_BYTES = 64 << 10
"""Bytes of a file's beginning in which the first whole packet is looked for."""


def layout_of(head: bytes) -> Layout | None:
    """Recognize the layout of packets at a file's beginning; return None if it isn't a transport stream."""
    for layout in LAYOUTS:
        # §2.4.3.2: 0x47 begins each packet
        if len(head) > layout.stride and set(head[layout.skipped :: layout.stride]) == {SYNC}:
            return layout
    return None


def find_packets(beginning: bytes) -> tuple[Layout, int] | None:
    """Find the first whole packet of a recording that begins anywhere; return its layout and offset."""
    found = []
    for layout in LAYOUTS:
        # As many packets as confirm one must be there.
        count = len(beginning) - layout.skipped - (CONFIRMED - 1) * layout.stride
        if count > 0 and len(begins := layout.begins(beginning, count)):
            found.append((int(begins[0]), layout))
    if not found:
        return None
    offset, layout = min(found)
    return layout, offset


class StreamMove(NamedTuple):
    """A new place of a stream, as a new version of the program's map says.

    Attributes:
        begin: offset in the file from which on the stream is there.
        pid: its packets' ID from there on.
        stream: its packets' ID at its beginning, by which it is known.
        former: its packets' ID until then.
    """

    begin: int
    pid: int
    stream: int
    former: int


class Piece(NamedTuple):
    """The part of a PES packet that lies in one block of packets.

    Attributes:
        data: the payload, without the PES packet's header.
        begin: offset of the first packet in the file.
        end: offset behind the last packet.
        starts: whether the PES packet begins with this part.
        is_damaged: whether its header can't be read, so that nobody knows what the bytes are.
        dts: decode time in ticks of 90 kHz, modulo 2^33; None if the header has none.
        pts: when it is presented, in the same ticks.
    """

    data: bytes
    begin: int
    end: int
    starts: bool
    dts: int | None = None
    pts: int | None = None
    is_damaged: bool = False


class _LastPacket(NamedTuple):
    """A stream's last packet: its counter, its content, and its place among all packets."""

    counter: int
    content: bytes
    place: int


class Continuity:
    """The last packets of all streams, by which lost ones and repeated ones are known (§2.4.3.3).

    Where a recording is joined with another one, or where streams exchange their packet IDs, counters begin
    anew, and nothing is lost: tables come there that don't follow the ones before, and behind them each
    stream begins with a PES packet.

    Attributes:
        lost: packets that are missing, by their counters modulo 16, of each stream.
        tables: packet IDs of the tables behind which streams may begin anew.
    """

    def __init__(self) -> None:
        self.lost: dict[int, int] = {}
        self.tables = frozenset((PAT_PID,))
        self._last: dict[int, _LastPacket] = {}
        self._known_tables = KnownTables()
        # Packets before this block, and the place among all of the newest table that doesn't go on.
        self._count, self._renewed = 0, -1

    def push(self, block: PacketBlock, numbers: Int64, counters: Int64, breaks: Int64) -> list[int]:
        """Push the packets with a payload of a block; return the numbers of those that came twice.

        Args:
            numbers: of the packets, sorted by their streams.
            breaks: whether each has the discontinuity indicator.
        """
        pids, places = block.pids[numbers], self._count + numbers
        self._count += len(block.pids)
        if not len(numbers):
            return []
        same = pids[1:] == pids[:-1]
        steps = np.append(0, np.where(same, counters[1:] - counters[:-1] & 15, 1))
        before = np.append(-1, places[:-1])
        ends = np.flatnonzero(np.append(~same, True))
        for begin, end in zip(np.append(0, ends[:-1] + 1).tolist(), ends.tolist(), strict=True):
            pid = int(pids[begin])
            known = self._last.get(pid)
            steps[begin] = 1 if known is None else int(counters[begin]) - known.counter & 15
            before[begin] = -1 if known is None else known.place
            if known is not None and not steps[begin] and known.content == block.content(int(numbers[begin])):
                steps[begin] = -1
            self._last[pid] = _LastPacket(
                int(counters[end]), block.content(int(numbers[end])), int(places[end])
            )
        for at in np.flatnonzero(steps == 0).tolist():
            if at and same[at - 1] and steps[at - 1] >= 0:  # two in a row are the same, but no more
                alike = block.content(int(numbers[at])) == block.content(int(numbers[at - 1]))
                steps[at] = -1 if alike else 0
        tables = np.flatnonzero(np.isin(pids, [SDT_PID, *self.tables]) & (steps >= 0)).tolist()
        renewed = sorted(
            int(places[at])
            for at in tables
            if (
                block.starts(number := int(numbers[at]))
                and self._known_tables.is_new(int(pids[at]), block.content(number))
            )
            or steps[at] > 1
        )
        renewals = np.array([self._renewed, *renewed])
        self._renewed = int(renewals[-1])
        for at in np.flatnonzero((steps > 1) & (breaks == 0)).tolist():
            pid = int(pids[at])
            newest = int(renewals[max(np.searchsorted(renewals, places[at], "right") - 1, 0)])
            if pid != _NULL_PID and not (
                block.starts(int(numbers[at])) and before[at] < newest <= places[at]
            ):
                self.lost[pid] = self.lost.get(pid, 0) + int(steps[at]) - 1
        return list(map(int, numbers[steps == -1]))


class PacketBlock:
    """Consecutive packets of a file, each of which begins with the sync byte.

    Args:
        position: offset of the first packet in the file.
        continuity: the packets before them; None if it doesn't matter what came twice.
        moves: where streams have other packet IDs, in the order of the file.

    Attributes:
        pids: of each packet the ID of its stream.
    """

    def __init__(
        self,
        data: bytes,
        layout: Layout,
        position: int,
        continuity: Continuity | None = None,
        moves: Sequence[StreamMove] = (),
    ) -> None:
        self._data, self._layout, self._position = data, layout, position
        rows = np.frombuffer(data, np.uint8).reshape(-1, layout.stride)
        rows = self._rows = rows[:, layout.skipped : layout.skipped + PACKET]
        self.pids: Int64 = (rows[:, 1].astype(np.int64) & 0x1F) << 8 | rows[:, 2]
        self._starts = (rows[:, 1] & 0x40) != 0
        self._has_errors = rows[:, 1] >= 0x80
        # §2.4.3.2: the header of a packet with errors may be damaged
        self._scrambled = ((rows[:, 3] & 0xC0) != 0) & ~self._has_errors
        self._is_scrambled = bool(self._scrambled.any())
        # §2.4.3.4: an adaptation field of so many bytes, and no payload where there is none
        control = rows[:, 3] >> 4 & 3
        payload = np.where(control & 2, 5 + rows[:, 4].astype(np.int64), _PACKET_HEADER)
        self._payload: Int64 = np.where(control & 1, np.minimum(payload, PACKET), PACKET)
        if continuity is not None:
            numbers = np.flatnonzero(control & 1)
            numbers = numbers[np.argsort(self.pids[numbers], kind="stable")]
            counters = rows[numbers, 3].astype(np.int64) & 15
            flagged = (control[numbers] == 3) & (rows[numbers, 4] > 0)
            breaks = np.where(flagged, rows[numbers, 5] & 0x80, 0).astype(np.int64)
            self._payload[continuity.push(self, numbers, counters, breaks)] = PACKET
        self._raw = self.pids
        for move in moves:
            self.move(move)

    def move(self, move: StreamMove) -> None:
        """Follow a stream to another packet ID."""
        behind = np.arange(len(self._raw)) >= -((self._position - move.begin) // self._layout.stride)
        pids = self.pids.copy()
        pids[behind & (self._raw == move.former) & (pids == move.stream)] = _NULL_PID
        pids[behind & (self._raw == move.pid)] = move.stream
        self.pids = pids

    def packet(self, number: int) -> bytes:
        """Return a whole packet."""
        begin = number * self._layout.stride + self._layout.skipped
        return self._data[begin : begin + PACKET]

    def starts(self, number: int) -> bool:
        """Return whether a PES packet, or a section of a table, begins in a packet."""
        return bool(self._starts[number])

    def content(self, number: int) -> bytes:
        """Return what is the same in a packet that is sent twice: all but the clock reference."""
        return self._payload_of(number, int(self._payload[number]))

    @property
    def errors(self) -> int:
        """The number of packets with errors that the receiver couldn't correct."""
        return int(np.count_nonzero(self._has_errors))

    def scrambled(self, pid: int) -> int:
        """Return the number of a stream's packets that are encrypted (§2.4.3.3)."""
        if not self._is_scrambled:
            return 0
        return int(np.count_nonzero(self._scrambled & (self.pids == pid) & (self._payload < PACKET)))

    def place(self, number: int) -> int:
        """Return the offset of a packet in the file."""
        return self._position + number * self._layout.stride

    def pieces(self, pid: int) -> Iterator[Piece]:
        """Yield the parts of a stream's PES packets, in the order of the file.

        Scrambled packets, and those behind them up to the next PES packet, are a damaged part.
        """
        numbers = np.flatnonzero((self.pids == pid) & (self._payload < PACKET))
        if not len(numbers):
            return
        scrambled = self._scrambled[numbers]
        cuts = np.flatnonzero(np.where(scrambled, ~np.append(False, scrambled[:-1]), self._starts[numbers]))
        first = [0] if not len(cuts) or cuts[0] else []
        bounds = [*first, *cuts.tolist(), len(numbers)]
        payloads = self._payload[numbers]
        for begin, end in pairwise(bounds):
            first, last = numbers[[begin, end - 1]].tolist()
            starts = bool(self._starts[first] or scrambled[begin])
            header: tuple[int, int | None, int | None] | None = (0, None, None)
            if scrambled[begin]:
                header = None
            elif starts:
                header = self._header(first, int(payloads[begin]))
            if header is None:
                yield Piece(b"", self.place(first), self.place(last + 1), starts, is_damaged=True)
                continue
            payloads[begin] += header[0]
            yield Piece(
                self._joined(numbers[begin:end], payloads[begin:end]),
                self.place(first),
                self.place(last + 1),
                starts,
                *header[1:],
            )

    def _joined(self, numbers: Int64, payloads: Int64) -> bytes:
        """Join the payloads of packets; mostly only the first and the last have more than a header."""
        if len(numbers) > 2 and not np.any(payloads[1:-1] != _PACKET_HEADER):
            inner = self._rows[numbers[1:-1], _PACKET_HEADER:].tobytes()
            return b"".join(
                (
                    self._payload_of(numbers[0], payloads[0]),
                    inner,
                    self._payload_of(numbers[-1], payloads[-1]),
                )
            )
        return b"".join(map(self._payload_of, numbers.tolist(), payloads.tolist()))

    def _payload_of(self, number: int, payload: int) -> bytes:
        begin = number * self._layout.stride + self._layout.skipped
        return self._data[begin + payload : begin + PACKET]

    def _header(self, number: int, payload: int) -> tuple[int, int | None, int | None] | None:
        """Read the header of a PES packet: its length, and its times; None if it is damaged."""
        packet = self.packet(number)
        header = packet[payload:]
        if header[:3] != b"\0\0\1" or len(header) < _PES_HEADER or header[6] & 0xC0 != 0x80:
            return None
        length = _PES_HEADER + header[8]
        if length > len(header):
            return None
        flags = header[7] >> 6
        if flags < 2 or length < _PES_HEADER + 5:
            return length, None, None
        pts = read_timestamp(header[9:14])
        return length, read_timestamp(header[14:19]) if flags == 3 and length >= 19 else pts, pts


@dataclass(frozen=True, slots=True)
class Unit:
    """The bytes with one timestamp: a PES packet, and those behind it that have no timestamp of their own.

    Attributes:
        data: the bytes of the elementary stream.
        begin: offset of the first packet in the file.
        end: offset behind the last packet.
        dts: decode time in ticks of 90 kHz, modulo 2^33.
        pts: when it is presented, in the same ticks.
    """

    data: bytes
    begin: int
    end: int
    dts: int
    pts: int


class UnitReader:
    """Assembles the units of one stream from pieces.

    Args:
        most: most bytes of a unit.
        span: most bytes of the file between the ends of a unit.
    """

    def __init__(self, most: int, span: int) -> None:
        self._most, self._span = most, span
        self._parts: list[bytes] = []
        self._size = self._begin = self._end = 0
        self._times: tuple[int, int] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether a unit has begun."""
        return self._times is not None

    def push(self, piece: Piece) -> Unit | None:
        """Push a piece; return the unit before it, if the piece begins another one.

        Raises:
            UnsupportedError: a unit is too long.
        """
        unit = None
        if piece.is_damaged:
            return self.finish()
        if piece.dts is not None and piece.pts is not None:
            unit = self.finish()
            self._times, self._begin = (piece.dts, piece.pts), piece.begin
        if self._times is None:  # bytes before the first timestamp belong to a unit that isn't in the file
            return None
        self._parts.append(piece.data)
        self._size, self._end = self._size + len(piece.data), piece.end
        if self._size > self._most or self._end - self._begin > self._span:
            raise UnsupportedError(
                f"a picture or a sound at byte {self._begin} is too large, or too scattered"
            )
        return unit

    def finish(self) -> Unit | None:
        """Return the last unit, at the end of the stream."""
        if self._times is None:
            return None
        unit = Unit(b"".join(self._parts), self._begin, self._end, *self._times)
        self._parts, self._size, self._times = [], 0, None
        return unit


class PacketReader:
    """Reads the packets of a file in blocks, and finds the next packet where bytes are missing or too many.

    Args:
        read: reads from the file; it may block.
        size: bytes of the file behind which nothing is read.
        moves: where streams have other packet IDs; more may follow while the file is read.

    Attributes:
        skipped: bytes that are of no packet.
        continuity: the packets that are missing.
    """

    def __init__(self, layout: Layout, read: Read, size: int, moves: Sequence[StreamMove] = ()) -> None:
        self._layout, self._moves = layout, moves
        self._read_file, self._size = read, size
        self.skipped = 0
        self.continuity = Continuity()

    def blocks(self, begin: int, end: int) -> Iterator[PacketBlock]:
        """Yield the packets of a range that begins with one. They don't depend on where the range begins.

        Raises:
            MalformedError: the file is shorter.
            UnsupportedError: it is damaged at more than ``MAX_BREAKS`` places.
        """
        layout, position = self._layout, begin
        longest, breaks = layout.block, 0
        while end - position >= layout.stride:
            length = min(longest, end - position)
            longest = min(2 * longest, layout.block)
            # A packet may be cut off: whether the next one follows it shows that it is whole.
            data = self._read(position, length + layout.stride)
            if len(data) < length:
                raise MalformedError("the file is shorter than it was")
            whole = length // layout.stride
            synced = np.frombuffer(data, np.uint8)[layout.skipped :: layout.stride][: whole + 1] == SYNC
            lost = np.flatnonzero(~synced)
            good = int(lost[0]) if len(lost) else whole
            following = position + good * layout.stride
            if good < whole or len(lost):
                # The last packet before it may be a part of one.
                search = following - layout.stride + 1 if good else following + 1
                found = self._next(search, end)
                good -= bool(good) and found < following
                self.skipped += found - position - good * layout.stride
                following, longest, breaks = found, _FIRST_SEARCH * layout.stride, breaks + 1
                if breaks > MAX_BREAKS:
                    raise UnsupportedError(f"packets that are damaged at more than {MAX_BREAKS} places")
            if good:
                packets = data[: good * layout.stride]
                yield PacketBlock(packets, layout, position, self.continuity, self._moves)
            position = following

    def _read(self, offset: int, length: int) -> bytes:
        return self._read_file(offset, min(length, self._size - offset))

    def _next(self, begin: int, end: int) -> int:
        """Return the offset of the next packet; the end of the range without one."""
        layout, position, width = self._layout, begin, _FIRST_SEARCH * self._layout.stride
        while position < end:
            ahead = self._read(position, width + layout.skipped + CONFIRMED * layout.stride)
            found = layout.begins(ahead, min(len(ahead), width))
            if len(found):
                return min(position + int(found[0]), end)
            position, width = position + width, min(2 * width, BLOCK_BYTES)
        return end


def read_packet_units(
    layout: Layout, moves: Sequence[StreamMove], read: Read, pid: int, begin: int, end: int
) -> Iterator[Unit]:
    """Read the units of a stream again.

    Args:
        moves: where streams have other packet IDs.
        read: reads from the file; it may block.
        begin: offset of the first unit's first packet.
        end: offset behind the last unit's last packet.
    """
    blocks = PacketReader(layout, read, _ANY_SIZE, moves).blocks(begin, end)
    return units_of((piece for block in blocks for piece in block.pieces(pid)), end - begin)


def units_of(pieces: Iterable[Piece], most: int) -> Iterator[Unit]:
    """Assemble the units of one stream from its pieces.

    Args:
        most: most bytes of a unit.

    Raises:
        UnsupportedError: a unit is longer.
    """
    reader = UnitReader(most, most)
    for piece in pieces:
        unit = reader.push(piece)
        if unit is not None:
            yield unit
    unit = reader.finish()
    if unit is not None:
        yield unit

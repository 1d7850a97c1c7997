"""Elementary streams in a file of transport stream packets (ISO/IEC 13818-1 §2.4.3): units with their times.

A PES packet's bytes lie in pieces among those of other streams. Each unit has its range of the file, from
which the same reader can read it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from media.errors import UnsupportedError
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.sample_table import Int64
from media.ts.tables import PACKET, SYNC
from media.ts.timestamps import read_timestamp

BLOCK_BYTES = 64 << 10
"""Approximate bytes of a file that are parsed together."""

_PACKET_HEADER = 4
"""Bytes of a packet's header (§2.4.3.2)."""

_PES_HEADER = 9
"""Bytes of a PES packet's header up to where it says how many follow (§2.4.3.6)."""

_BLU_RAY_HEADER = 4
"""Bytes before each packet in a file of a Blu-ray disc or a camera (.m2ts): its time of arrival."""


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


LAYOUTS = (Layout(PACKET, 0), Layout(PACKET + _BLU_RAY_HEADER, _BLU_RAY_HEADER))
HEAD_BYTES = 3 * (PACKET + _BLU_RAY_HEADER)
"""Bytes of a file's beginning from which the layout is recognized."""


def layout_of(head: bytes) -> Layout | None:
    """Recognize the layout of packets at a file's beginning; return None if it isn't a transport stream."""
    for layout in LAYOUTS:
        # §2.4.3.2: 0x47 begins each packet
        if len(head) > layout.stride and set(head[layout.skipped :: layout.stride]) == {SYNC}:
            return layout
    return None


class Piece(NamedTuple):
    """The part of a PES packet that lies in one block of packets.

    Attributes:
        data: the payload, without the PES packet's header.
        begin: offset of the first packet in the file.
        end: offset behind the last packet.
        starts: whether the PES packet begins with this part.
        dts: decode time in ticks of 90 kHz, modulo 2^33; None if the header has none.
        pts: when it is presented, in the same ticks.
    """

    data: bytes
    begin: int
    end: int
    starts: bool
    dts: int | None = None
    pts: int | None = None


class PacketBlock:
    """Consecutive packets of a file.

    Args:
        position: offset of the first packet in the file.

    Raises:
        UnsupportedError: a packet doesn't begin with the sync byte.
    """

    def __init__(self, data: bytes, layout: Layout, position: int) -> None:
        self._data, self._layout, self._position = data, layout, position
        rows = self._rows = np.frombuffer(data, np.uint8).reshape(-1, layout.stride)[:, layout.skipped :]
        lost = np.flatnonzero(rows[:, 0] != SYNC)
        if len(lost):
            at = position + int(lost[0]) * layout.stride
            raise UnsupportedError(f"no packet at byte {at}, where the next one is due")
        self.pids: Int64 = (rows[:, 1].astype(np.int64) & 0x1F) << 8 | rows[:, 2]
        self._starts = (rows[:, 1] & 0x40) != 0
        self._scrambled = (rows[:, 3] & 0xC0) != 0
        # §2.4.3.4: an adaptation field of so many bytes, and no payload where there is none
        control = rows[:, 3] >> 4 & 3
        payload = np.where(control & 2, 5 + rows[:, 4].astype(np.int64), _PACKET_HEADER)
        self._payload: Int64 = np.where(control & 1, np.minimum(payload, PACKET), PACKET)

    def packet(self, number: int) -> bytes:
        """Return a whole packet."""
        begin = number * self._layout.stride + self._layout.skipped
        return self._data[begin : begin + PACKET]

    def place(self, number: int) -> int:
        """Return the offset of a packet in the file."""
        return self._position + number * self._layout.stride

    def pieces(self, pid: int) -> Iterator[Piece]:
        """Yield the parts of a stream's PES packets, in the order of the file.

        Raises:
            UnsupportedError: the stream is scrambled, or has no PES packets.
        """
        numbers = np.flatnonzero((self.pids == pid) & (self._payload < PACKET))
        if not len(numbers):
            return
        if self._scrambled[numbers].any():
            raise UnsupportedError("encrypted media")
        cuts = np.flatnonzero(self._starts[numbers])
        first = [0] if not len(cuts) or cuts[0] else []
        bounds = [*first, *cuts.tolist(), len(numbers)]
        payloads = self._payload[numbers]
        for begin, end in pairwise(bounds):
            starts = bool(self._starts[numbers[begin]])
            first, last = numbers[[begin, end - 1]].tolist()
            header, dts, pts = self._header(first, int(payloads[begin])) if starts else (0, None, None)
            payloads[begin] += header
            yield Piece(
                self._joined(numbers[begin:end], payloads[begin:end]),
                self.place(first),
                self.place(last + 1),
                starts,
                dts,
                pts,
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

    def _header(self, number: int, payload: int) -> tuple[int, int | None, int | None]:
        """Read the header of a PES packet: its length, and its times."""
        packet = self.packet(number)
        header = packet[payload:]
        if header[:3] != b"\0\0\1" or len(header) < _PES_HEADER or header[6] & 0xC0 != 0x80:
            raise UnsupportedError(f"no PES packet begins at byte {self.place(number)}")
        length = _PES_HEADER + header[8]
        if length > len(header):
            raise UnsupportedError(f"the header of a PES packet at byte {self.place(number)} is too long")
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

    def push(self, piece: Piece) -> Unit | None:
        """Push a piece; return the unit before it, if the piece begins another one.

        Raises:
            UnsupportedError: a unit is too long.
        """
        unit = None
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


def read_packet_units(layout: Layout, read: Read, pid: int, begin: int, end: int) -> Iterator[Unit]:
    """Read the units of a stream again.

    Args:
        read: reads from the file; it may block.
        begin: offset of the first unit's first packet.
        end: offset behind the last unit's last packet.
    """
    return units_of(_packet_pieces(layout, read, pid, begin, end), end - begin)


def _packet_pieces(layout: Layout, read: Read, pid: int, begin: int, end: int) -> Iterator[Piece]:
    for position in range(begin, end, layout.block):
        data = read(position, min(layout.block, end - position))
        whole = len(data) - len(data) % layout.stride
        yield from PacketBlock(data[:whole], layout, position).pieces(pid)
        if whole < min(layout.block, end - position):
            raise UnsupportedError("the file is shorter than it was")


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

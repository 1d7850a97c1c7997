"""Transport streams packet by packet (ISO/IEC 13818-1): lost packets, jumps of the clock, and held ones."""

from __future__ import annotations

import struct

import pytest

from media.stream_reader import CLOCK_RATE
from media.ts.reader import MAX_HELD, NULL_PID, TransportReader
from media.ts.tables import PACKET, ElementaryStream, ProgramMap, write_tables

PID = 0x100
TABLES = write_tables(ProgramMap(PID, (ElementaryStream(0x1B, PID),)), 0x20)


def packet(
    counter: int = 0, *, pid: int = PID, flags: int = 0, clock: int | None = None, starts: bool = False
) -> bytes:
    """Write a packet with an adaptation field (§2.4.3.4) of these flags and this clock reference."""
    flags |= 0 if clock is None else 0x10
    field = bytes((flags,)) + (b"" if clock is None else (clock << 15).to_bytes(6, "big"))
    head = struct.pack(">BHB", 0x47, pid | (0x4000 if starts else 0), 0x30 | counter % 16)
    return (head + bytes((len(field),)) + field).ljust(PACKET, b"\xff")


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.3.3")
@pytest.mark.parametrize(
    ("packets", "lost"),
    [
        ([packet(counter) for counter in range(40)], 0),
        ([packet(1), packet(2), packet(2), packet(3)], 0),
        ([packet(1), packet(4)], 2),
        ([packet(15), packet(1)], 1),
        ([packet(1), packet(7, flags=0x80), packet(8)], 0),
        ([packet(1), packet(5, pid=PID + 1), packet(2), packet(7, pid=PID + 1)], 1),
        ([packet(counter, pid=NULL_PID) for counter in (1, 9, 4)], 0),
    ],
    ids=["none", "one twice", "two", "around 15", "a break that is told", "of two streams", "of no stream"],
)
def test_lost_packets_are_counted_by_the_counters_of_their_streams(packets: list[bytes], lost: int) -> None:
    reader = TransportReader()
    reader.receive_data(TABLES + b"".join(packets))
    assert reader.lost == lost


def test_a_stream_without_access_points_goes_on_at_once_behind_a_jump_of_its_clock() -> None:
    clocks = (0, 9000, 10 * CLOCK_RATE, 10 * CLOCK_RATE + 9000)
    packets = [packet(counter, clock=clock) for counter, clock in enumerate(clocks)]
    found = TransportReader().receive_data(TABLES + b"".join(packets))
    assert b"".join(one.data for one in found) == TABLES + b"".join(packets)
    (change,) = [one for one in found if one.changes]
    assert change.data.startswith(packets[2])


@pytest.mark.clause("CWE-770")
def test_an_access_unit_that_never_tells_what_it_is_goes_on_when_much_came_behind_it() -> None:
    reader = TransportReader()
    unit, other = packet(flags=0x40, starts=True), packet(pid=PID + 1)
    assert not any(one.access for one in reader.receive_data(TABLES + unit))
    found = reader.receive_data(other * (MAX_HELD // PACKET + 1))
    assert [len(one.data) > MAX_HELD for one in found if one.access] == [True]

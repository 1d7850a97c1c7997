"""Transport streams packet by packet (ISO/IEC 13818-1): lost packets, jumps of the clock, and held ones."""

from __future__ import annotations

import struct

import pytest

from media.errors import MalformedError
from media.stream_reader import CLOCK_RATE
from media.ts.stream_reader import NULL_PID, TransportReader, TransportReaderLimits
from media.ts.tables import PACKET, ElementaryStream, ProgramMap, write_tables

PID = 0x100
HELD_BYTES = 20 * PACKET
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
    reader = TransportReader(TransportReaderLimits(held_bytes=HELD_BYTES))
    unit, other = packet(flags=0x40, starts=True), packet(pid=PID + 1)
    assert not any(one.access for one in reader.receive_data(TABLES + unit))
    found = reader.receive_data(other * (HELD_BYTES // PACKET + 1))
    assert [len(one.data) > HELD_BYTES for one in found if one.access] == [True]


@pytest.mark.clause("CWE-770")
def test_no_more_is_passed_over_to_find_a_packet_than_may_be() -> None:
    limits = TransportReaderLimits(garbage_bytes=100)
    reader = TransportReader(limits)
    for _ in range(3):
        reader.receive_data(packet() * 2 + bytes(100))
    with pytest.raises(MalformedError):
        reader.receive_data(packet() * 2 + bytes(101))


@pytest.mark.clause("CWE-770")
def test_an_access_unit_is_searched_for_its_parameter_sets_as_far_as_may_be() -> None:
    reader = TransportReader(TransportReaderLimits(unit_bytes=3 * PACKET))
    unit = struct.pack(">BHB", 0x47, PID, 0x10).ljust(PACKET, b"\xff")
    found = reader.receive_data(TABLES + packet(flags=0x40, starts=True) + unit * 2)
    assert not any(one.access for one in found)
    assert any(one.access for one in reader.receive_data(unit))


def test_no_more_is_dropped_behind_a_jump_of_the_clock_than_may_be() -> None:
    """An access point comes first, so that another one is waited for behind the jump."""
    reader = TransportReader(TransportReaderLimits(dropped_bytes=5 * PACKET, unit_bytes=0))
    reader.receive_data(TABLES + packet(flags=0x40, starts=True) + packet(1, clock=0) + packet(2))
    found = reader.receive_data(packet(3, clock=100 * CLOCK_RATE) + packet(4) * 4)
    assert not any(one.data for one in found)
    assert any(one.changes for one in reader.receive_data(packet(4)))

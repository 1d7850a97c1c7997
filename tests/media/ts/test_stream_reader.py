"""Transport streams packet by packet (ISO/IEC 13818-1): lost packets, jumps of the clock, and held ones."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from media.errors import MalformedError
from media.packets import Packet, TrackKind
from media.stream_reader import CLOCK_RATE
from media.ts.demuxer import TransportDemuxer
from media.ts.stream_reader import NULL_PID, TransportReader, TransportReaderLimits
from media.ts.tables import PACKET, ElementaryStream, ProgramMap, read_program_map, write_tables
from tests.media.ts.rewritten_streams import (
    PICTURE_PID,
    SOUND_PID,
    WHOLE,
    encrypted,
    moved,
    packets_of,
    pid_of,
    program_map,
    told,
    with_tables,
)

PID = 0x100
HELD_BYTES = 20 * PACKET
PICTURE, SOUND = ElementaryStream(0x1B, PID), ElementaryStream(0x0F, PID + 1)
TABLES = write_tables(ProgramMap(PID, (PICTURE,)), 0x20)
TWO_STREAMS = write_tables(ProgramMap(PID, (PICTURE, SOUND)), 0x20)


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
    unit = packet(flags=0x40, starts=True)
    others = b"".join(packet(counter, pid=PID + 1) for counter in range(HELD_BYTES // PACKET + 1))
    assert not any(one.access for one in reader.receive_data(TWO_STREAMS + unit))
    found = reader.receive_data(others)
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
    units = [struct.pack(">BHB", 0x47, PID, 0x10 | n).ljust(PACKET, b"\xff") for n in (1, 2, 3)]
    found = reader.receive_data(TABLES + packet(flags=0x40, starts=True) + units[0] + units[1])
    assert not any(one.access for one in found)
    assert any(one.access for one in reader.receive_data(units[2]))


def test_no_more_is_dropped_behind_a_jump_of_the_clock_than_may_be() -> None:
    """An access point comes first, so that another one is waited for behind the jump."""
    reader = TransportReader(TransportReaderLimits(dropped_bytes=5 * PACKET, unit_bytes=0))
    reader.receive_data(TABLES + packet(flags=0x40, starts=True) + packet(1, clock=0) + packet(2))
    dropped = b"".join(packet(counter) for counter in range(4, 8))
    found = reader.receive_data(packet(3, clock=100 * CLOCK_RATE) + dropped)
    assert not any(one.data for one in found)
    assert any(one.changes for one in reader.receive_data(packet(8)))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of a stream with a picture and sound, by ffmpeg."""
    path = tmp_path_factory.mktemp("recorded") / "made.ts"
    inputs = "-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440 -t 2"
    encoder = "-c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p -c:a aac"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *f"{inputs} {encoder} {path}".split()], check=True)
    return path.read_bytes()


def demuxed(data: bytes, step: int) -> tuple[list[Packet], TransportReader]:
    """Read a stream in steps of so many bytes; also return the reader."""
    reader, demuxer, found = TransportReader(), TransportDemuxer(), list[Packet]()
    for at in range(0, len(data), step):
        for chunk in reader.receive_data(data[at : at + step]):
            assert not chunk.changes
            found += demuxer.receive_data(chunk.data)
    return found, reader


LATE = ("absent programs", "maps that share a PID")
"""Streams of several programs, one of which is chosen when the others could have come."""


@pytest.mark.parametrize("name", WHOLE)
def test_pictures_and_sound_are_the_same_however_the_stream_is_written(recorded: bytes, name: str) -> None:
    whole, _ = demuxed(recorded, 1 << 16)
    assert len(whole) > 100
    for step in (1 << 16, 1000, 97):
        found, reader = demuxed(WHOLE[name](recorded), step)
        if name in LATE:
            for kind in (TrackKind.VIDEO, TrackKind.AUDIO):
                theirs = [one.data for one in whole if one.track.kind is kind]
                ours = [one.data for one in found if one.track.kind is kind]
                assert len(ours) > len(theirs) // 3
                assert ours == theirs[-len(ours) :]
        else:
            assert found == whole
        assert reader.lost == 0
        garbage = {"bytes put in": 160, "a beginning within a packet": 103}.get(name, 0)
        assert reader.skipped == garbage


def test_a_stream_whose_table_of_programs_is_lost_goes_on_by_the_map_of_one(recorded: bytes) -> None:
    every = [recorded[at : at + PACKET] for at in range(0, len(recorded), PACKET)]
    cut = b"".join(one for one in every if pid_of(one))
    reader, demuxer = TransportReader(TransportReaderLimits(supposed_bytes=10 * PACKET)), TransportDemuxer()
    found = [one for chunk in reader.receive_data(cut) for one in demuxer.receive_data(chunk.data)]
    whole, _ = demuxed(recorded, 1 << 16)
    assert len(found) > len(whole) // 2
    for kind in (TrackKind.VIDEO, TrackKind.AUDIO):
        ours = [one.data for one in found if one.track.kind is kind]
        assert ours == [one.data for one in whole if one.track.kind is kind][-len(ours) :]


def test_a_packet_that_lost_bytes_takes_no_other_one_along(recorded: bytes) -> None:
    middle = len(recorded) // PACKET // 2 * PACKET
    found, reader = demuxed(recorded[: middle - 50] + recorded[middle:], 1000)
    whole, _ = demuxed(recorded, 1000)
    assert len(whole) - len(found) <= 3
    assert sum(one not in whole for one in found) <= 1
    assert reader.lost == 1


def test_streams_that_a_new_version_of_the_map_adds_or_removes_are_changes(recorded: bytes) -> None:
    program = told(recorded)
    alone = program_map(replace(program, streams=program.streams[:1]))
    both = program_map(program, version=1)
    grown = with_tables(recorded, (), lambda turn: [alone if turn < 5 else both])
    shrunk = with_tables(recorded, (), lambda turn: [both if turn < 5 else alone])
    for data, streams in ((grown, [1, 2]), (shrunk, [2, 1])):
        chunks = TransportReader().receive_data(data)
        maps = [one.data[PACKET:] for one in chunks if one.header]
        numbers = [len(read_program_map(one[5:]).streams) for one in maps]  # type: ignore[union-attr]
        assert list(dict.fromkeys(numbers)) == streams
        assert sum(one.changes for one in chunks) == 1


MOVES: dict[str, Sequence[Mapping[int, int]]] = {
    "exchanged": [{PICTURE_PID: SOUND_PID, SOUND_PID: PICTURE_PID}],
    "exchanged and back": [{PICTURE_PID: SOUND_PID, SOUND_PID: PICTURE_PID}, {}],
    "moved": [{PICTURE_PID: 0x300, SOUND_PID: 0x301}],
    "a picture alone": [{PICTURE_PID: 0x300}],
    "one behind the other": [{PICTURE_PID: SOUND_PID, SOUND_PID: 0x300}, {PICTURE_PID: 0x300}],
}


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.4.9")
@pytest.mark.parametrize("name", MOVES)
def test_streams_that_a_new_version_of_the_map_moves_go_on(recorded: bytes, name: str) -> None:
    whole, _ = demuxed(recorded, 1 << 16)
    data = moved(recorded, MOVES[name], len(MOVES[name]))
    for step in (1 << 16, 1000, 97):
        found, reader = demuxed(data, step)
        assert found == whole
        assert reader.lost == 0
    # ffmpeg says which packets are behind counters that don't go on.
    written = b"".join(one.data for one in TransportReader().receive_data(data))
    words = "-nostdin -v warning -f mpegts -i pipe:0 -c copy -f null -"
    shown = subprocess.run(["ffmpeg", *words.split()], input=written, check=True, capture_output=True)
    assert b"orrupt" not in shown.stderr


def test_streams_that_would_take_the_place_of_the_map_are_a_change(recorded: bytes) -> None:
    """A picture at the packet ID that the map has at last can't stay where it was before."""
    program = told(recorded)
    other = tuple(replace(one, pid=one.pid + 0x200) for one in program.streams)
    tables = [
        write_tables(ProgramMap(PID, program.streams), 0x20),
        write_tables(ProgramMap(0x300, other), PID),
    ]
    chunks = TransportReader().receive_data(b"".join(tables) + packet() * 2)
    changes = [one.changes for one in chunks if one.header]
    assert (changes[-1], sum(changes)) == (True, 1)


@pytest.mark.clause("CWE-770")
def test_a_stream_without_the_map_of_a_program_is_refused_when_much_has_come() -> None:
    reader = TransportReader(TransportReaderLimits(table_bytes=20 * PACKET))
    reader.receive_data(b"".join(packet(counter) for counter in range(20)))
    with pytest.raises(MalformedError, match="map of a program"):
        reader.receive_data(packet(20) + packet(21) + packet(22))


def listed(data: bytes) -> list[int]:
    """Return the PIDs of the streams of the newest program map among the packets."""
    maps = [
        read_program_map(data[at + 5 : at + PACKET])
        for at in range(0, len(data), PACKET)
        if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == 0x20
    ]
    assert maps[-1] is not None
    return [one.pid for one in maps[-1].streams]


def test_sound_that_is_listed_and_never_comes_is_left_out_until_it_comes() -> None:
    reader = TransportReader()
    step = CLOCK_RATE // 10
    found = reader.receive_data(
        TWO_STREAMS + b"".join(packet(index, clock=step * index) for index in range(20))
    )
    assert listed(b"".join(one.data for one in found)) == [PID]
    # A decoder goes on without what never came.
    assert not any(one.changes for one in found)
    assert [one.header for one in found if one.replaces] == [True]
    signature = reader.signature
    assert "program map" in reader.fault
    # The map comes again, and says what it said before.
    assert not any(one.changes for one in reader.receive_data(TWO_STREAMS))
    found = reader.receive_data(packet(pid=PID + 1) + packet(20, clock=step * 20))
    assert listed(b"".join(one.data for one in found)) == [PID, PID + 1]
    assert sum(one.changes for one in found) == 1
    assert reader.signature != signature
    assert not reader.fault


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.3.3")
def test_a_stream_that_is_encrypted_is_left_out_until_it_can_be_read() -> None:
    reader, step = TransportReader(), CLOCK_RATE // 10
    sounds = [encrypted(packet(index, pid=PID + 1)) for index in range(20)]
    pictures = [packet(index, clock=step * index) for index in range(20)]
    every = b"".join(one + other for one, other in zip(pictures, sounds, strict=True))
    found = b"".join(one.data for one in reader.receive_data(TWO_STREAMS + every))
    assert listed(found) == [PID]
    assert not any(pid_of(one) == PID + 1 for one in packets_of(found))
    assert "encrypted" in reader.fault
    clear = packet(20, starts=True, pid=PID + 1) + packet(20, clock=step * 20)
    assert listed(b"".join(one.data for one in reader.receive_data(clear))) == [PID, PID + 1]
    assert not reader.fault


def test_what_is_encrypted_of_a_stream_takes_nothing_else_along(recorded: bytes) -> None:
    every = packets_of(recorded)
    middle = range(len(every) // 2, len(every) // 2 + 40)
    data = b"".join(encrypted(one) if n in middle and pid_of(one) else one for n, one in enumerate(every))
    found, _ = demuxed(data, 1000)
    whole, _ = demuxed(recorded, 1000)
    assert len(whole) - 25 <= len(found) < len(whole)
    assert sum(one not in whole for one in found) <= 2


def test_sound_of_another_format_is_a_change_whose_tables_come_anew(tmp_path: Path) -> None:
    """Copied frames of another format don't fit the description of those before them."""
    parts = list[bytes]()
    for number, words in enumerate(("aac -ac 2", "aac -ac 6", "aac -ac 6 -ar 32000", "aac -ac 2")):
        out = tmp_path / f"{number}.ts"
        inputs = "-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440 -t 2"
        encoder = f"-c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p -c:a {words}"
        moved = f"-output_ts_offset {2 * number} -mpegts_flags +initial_discontinuity"
        subprocess.run(["ffmpeg", "-v", "error", *f"{inputs} {encoder} {moved} {out}".split()], check=True)
        parts.append(out.read_bytes())
    reader, changes, signatures = TransportReader(), list[bool](), list[bytes]()
    for part in parts:
        chunks = [
            one for at in range(0, len(part), 1000) for one in reader.receive_data(part[at : at + 1000])
        ]
        changes.append(any(one.changes for one in chunks if one.header))
        signatures.append(reader.signature)
    assert changes == [False, True, True, True]
    assert len(set(signatures)) == 4


def test_streams_that_come_within_a_second_are_no_change() -> None:
    packets = [packet(index, clock=CLOCK_RATE // 10 * index) for index in range(20)]
    data = TWO_STREAMS + b"".join(packets[:9]) + packet(pid=PID + 1) + b"".join(packets[9:])
    assert not any(one.changes for one in TransportReader().receive_data(data))

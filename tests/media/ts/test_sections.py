"""Sections of program tables, however they are put into packets (ISO/IEC 13818-1 §2.4.4)."""

from __future__ import annotations

from itertools import count

import pytest

from media.ts.sections import MAX_PROGRAMS, ProgramTables, SectionReader
from media.ts.tables import ElementaryStream, ProgramMap, checksum
from tests.media.ts.rewritten_streams import association, packed, program_map, section

PID = 0x20
FIRST = ProgramMap(0x100, (ElementaryStream(0x1B, 0x100), ElementaryStream(0x0F, 0x101)))
SOUND = ProgramMap(0x200, (ElementaryStream(0x0F, 0x200),))


def read(packets: list[bytes]) -> list[bytes]:
    reader = SectionReader()
    return [one for packet in packets for one in reader.push(packet)]


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.4.1")
@pytest.mark.parametrize("sizes", [[50], [500], [20, 20, 20], [183, 183], [170, 400, 30], [4000]])
def test_sections_come_out_as_they_were_put_in(sizes: list[int]) -> None:
    sections = [section(0xC0, size, bytes(size - 12)) for size in sizes]
    assert read(packed(PID, sections, count())) == sections


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.4.2")
def test_the_rest_of_a_section_is_before_the_place_to_which_the_pointer_leads() -> None:
    counters, long = count(), section(0xC0, 1, bytes(300))
    packets = packed(PID, [long[:183]], counters)
    packets += packed(PID, [section(0xC0, 2, b"x")], counters, before=long[183:])
    assert read(packets) == [long, section(0xC0, 2, b"x")]


def test_a_section_whose_packet_is_lost_is_left_out_and_the_next_one_is_read() -> None:
    packets = packed(PID, [section(0xC0, 1, bytes(500))], counters := count())
    following = packed(PID, [section(0xC0, 2, bytes(500))], counters)
    assert read([packets[0], *packets[2:], *following]) == [section(0xC0, 2, bytes(500))]
    assert read([*packets[1:], *following]) == [section(0xC0, 2, bytes(500))]


def test_a_packet_that_is_sent_twice_adds_nothing_to_a_section() -> None:
    packets = packed(PID, [section(0xC0, 1, bytes(500))], count())
    assert read([one for packet in packets for one in (packet, packet)]) == [section(0xC0, 1, bytes(500))]


def tables(*sections: tuple[int, bytes]) -> ProgramTables:
    found, counters = ProgramTables(), {pid: count() for pid, _ in sections}
    for pid, one in sections:
        for packet in packed(pid, [one], counters[pid]):
            found.push(packet)
    return found


ALL = range(1 << 13)


def test_the_first_program_with_a_picture_is_chosen_and_else_the_first_with_sound() -> None:
    programs = association((4, 0x40), (3, 0x30), (1, 0x20))
    maps = [(0x30, program_map(SOUND, 3)), (0x20, program_map(FIRST, 1))]
    found = tables((0, programs), *maps)
    assert found.choose(ALL) == 1  # nothing is known of 4, and 3 has no picture
    assert found.choose([0x200]) == 3
    assert found.choose([]) is None


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.4.9")
def test_a_map_is_one_by_its_table_its_program_and_its_checksum() -> None:
    programs = (0, association((1, PID)))
    assert tables(programs, (PID, program_map(FIRST))).maps == {1: FIRST}
    damaged = program_map(FIRST)[:-1] + b"\0"
    for other in (program_map(FIRST, 2), section(0xC0, 1, bytes(30)), damaged):
        assert tables(programs, (PID, other)).maps == {}


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.4.8")
def test_a_map_is_found_without_a_table_of_programs_which_counts_when_it_comes() -> None:
    long = ProgramMap(0x100, (ElementaryStream(0x1B, 0x100, b"\x05\xc8" + bytes(200)),))
    found, sections = ProgramTables(), [program_map(long, 7)]
    damaged = packed(0x30, [program_map(FIRST)[:-1] + b"\0"], count())
    picture = [b"\x47\x41\x00\x10" + b"\0\0\1\xe0" + bytes(180)]
    packets = [*picture, *damaged, *packed(PID, sections, count())]
    assert [found.push_unlisted(packet) for packet in packets] == [False] * (len(packets) - 1) + [True]
    assert (found.programs, found.maps, found.choose(ALL)) == ({7: PID}, {7: long}, 7)
    assert PID in found.pids
    for packet in packed(0, [association((1, PID))], count()) + packed(PID, [program_map(FIRST)], count()):
        found.push(packet)
    assert (found.programs, found.maps) == ({1: PID}, {1: FIRST})
    assert not any(map(found.push_unlisted, packets))


def test_a_new_version_of_a_table_takes_the_place_of_the_one_before() -> None:
    newer = (PID, program_map(SOUND, version=1))
    assert tables((0, association((1, PID))), (PID, program_map(FIRST)), newer).maps == {1: SOUND}


def test_a_program_that_is_taken_from_the_association_has_no_map_any_more() -> None:
    gone = section(0, 1, b"\0\2\xe0\x30", version=1)
    found = tables((0, association((1, PID))), (PID, program_map(FIRST)), (0, gone))
    assert found.programs == {2: 0x30}
    assert found.maps == {}


@pytest.mark.clause("CWE-770")
def test_no_more_programs_are_followed_than_may_be() -> None:
    found, counters = ProgramTables(), count()
    for part in range(20):
        content = b"".join(bytes((part + 1, number, 0xE1, number)) for number in range(200))
        whole = section(0, 1, content)[:6] + bytes((part, 19)) + content
        for packet in packed(0, [whole + checksum(whole).to_bytes(4, "big")], counters):
            found.push(packet)
    assert len(found.programs) == MAX_PROGRAMS
    assert len(found.pids) <= MAX_PROGRAMS + 1

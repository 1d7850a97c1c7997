"""Transport streams by ffmpeg whose tables and packets are written in other ways (ISO/IEC 13818-1)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

from media.ts.tables import PACKET, ElementaryStream, ProgramMap, checksum, read_program_map

MAP_PID, PICTURE_PID, SOUND_PID = 0x1000, 0x100, 0x101
"""Where ffmpeg writes its program map, its first stream and its second one."""

PRIVATE = b"\x09\x11" + bytes(17)
"""A descriptor as broadcasters have several in a program map."""

Rewrite = Callable[[bytes], bytes]


def packets_of(data: bytes) -> list[bytes]:
    return [data[at : at + PACKET] for at in range(0, len(data), PACKET)]


def pid_of(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def section(table: int, number: int, content: bytes, version: int = 0) -> bytes:
    """Write a section (§2.4.4.10) that is in force, and the only one."""
    head = struct.pack(">BHHBBB", table, 0xB000 | len(content) + 9, number, 0xC1 | version << 1, 0, 0)
    return head + content + struct.pack(">I", checksum(head + content))


def association(*programs: tuple[int, int]) -> bytes:
    """Write a PAT (§2.4.4.3) of programs' numbers and their maps' PIDs."""
    return section(0, 1, b"".join(struct.pack(">HH", number, 0xE000 | pid) for number, pid in programs))


def program_map(program: ProgramMap, number: int = 1, version: int = 0) -> bytes:
    """Write a PMT (§2.4.4.8)."""
    streams = b"".join(
        struct.pack(">BHH", one.kind, 0xE000 | one.pid, 0xF000 | len(one.descriptors)) + one.descriptors
        for one in program.streams
    )
    head = struct.pack(">HH", 0xE000 | program.clock_pid, 0xF000 | len(program.descriptors))
    return section(2, number, head + program.descriptors + streams, version)


def packed(pid: int, sections: Iterable[bytes], counters: Iterator[int], before: bytes = b"") -> list[bytes]:
    """Put sections into packets, one behind the other, the first behind so many bytes (§2.4.4.2)."""
    payload, packets = bytes((len(before),)) + before + b"".join(sections), list[bytes]()
    for at in range(0, len(payload), PACKET - 4):
        head = struct.pack(">BHB", 0x47, (0 if at else 0x4000) | pid, 0x10 | next(counters) & 15)
        packets.append((head + payload[at : at + PACKET - 4]).ljust(PACKET, b"\xff"))
    return packets


def told(data: bytes) -> ProgramMap:
    """Read the program map by ffmpeg."""
    packet = next(one for one in packets_of(data) if pid_of(one) == MAP_PID)
    program = read_program_map(packet[5:])
    assert program is not None
    return program


def with_tables(data: bytes, associations: Sequence[bytes], maps: Callable[[int], Sequence[bytes]]) -> bytes:
    """Write other tables in the places of ffmpeg's.

    Args:
        associations: sections of the PAT; ffmpeg's own if empty.
        maps: sections on the PID of the map, by how often it came.
    """
    counters, turns, out = (count(), count()), count(), list[bytes]()
    for packet in packets_of(data):
        if pid_of(packet) == 0 and associations:
            out += packed(0, associations, counters[0])
        elif pid_of(packet) == MAP_PID:
            out += packed(MAP_PID, maps(next(turns)), counters[1])
        else:
            out.append(packet)
    return b"".join(out)


def long_map(data: bytes) -> bytes:
    """Put so many descriptors between the entries of two streams that the second is in a second packet."""
    program = told(data)
    first = replace(program.streams[0], descriptors=PRIVATE * 10)
    program = replace(program, streams=(first, *program.streams[1:]))
    return with_tables(data, (), lambda _: [program_map(program)])


def long_description(data: bytes) -> bytes:
    """Put so many descriptors before the streams that all of them are in a second packet."""
    program = replace(told(data), descriptors=PRIVATE * 10)
    return with_tables(data, (), lambda _: [program_map(program)])


FOREIGN = ProgramMap(0x321, (ElementaryStream(0x1B, 0x321), ElementaryStream(0x0F, 0x322)))
"""A program that isn't in the stream."""

OTHER_TABLE = section(0xC0, 1, bytes(300))


def other_tables(data: bytes) -> bytes:
    """Have another table before the map in its packets, and alone in some."""
    program = program_map(told(data))
    return with_tables(data, (), lambda turn: [OTHER_TABLE, program] if turn % 2 == 0 else [OTHER_TABLE])


def shared_map_pid(data: bytes) -> bytes:
    """Have the maps of two programs on one PID, of which only one is in the stream."""
    maps = [program_map(FOREIGN, 7), program_map(told(data))]
    programs = association((7, MAP_PID), (1, MAP_PID))
    return with_tables(data, [programs], lambda turn: [maps[turn % 2]])


def absent_programs(data: bytes) -> bytes:
    """Have a PAT of a whole transponder, of which only the last program was recorded."""
    many = [(number, 0x400 + number) for number in range(2, 60)]
    programs = association((0, 0x10), *many, (1, MAP_PID))
    return with_tables(data, [programs], lambda _: [program_map(told(data))])


def wrong_checksums(data: bytes) -> bytes:
    """Have a damaged map, of other streams, behind each second one (annex A)."""
    damaged = program_map(FOREIGN)[:-1] + b"\0"
    return with_tables(data, (), lambda turn: [damaged if turn % 2 else program_map(told(data))])


def next_tables(data: bytes) -> bytes:
    """Have a map that isn't in force yet behind the one that is (§2.4.4.4)."""
    head = bytearray(program_map(FOREIGN, version=1)[:-4])
    head[5] &= 0xFE
    coming = bytes(head) + struct.pack(">I", checksum(bytes(head)))
    return with_tables(data, (), lambda _: [program_map(told(data)), coming])


def encrypted(packet: bytes) -> bytes:
    """Scramble the payload of a packet (§2.4.3.3); its adaptation field stays clear."""
    begin = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    return packet[:3] + bytes((packet[3] | 0x80,)) + packet[4:begin] + bytes(b ^ 0xA5 for b in packet[begin:])


def sent_twice(data: bytes) -> bytes:
    """Send each third packet twice (§2.4.3.3)."""
    return b"".join(one * (2 if number % 3 == 0 else 1) for number, one in enumerate(packets_of(data)))


def begun_within(data: bytes) -> bytes:
    """Begin within a packet of zeros before the stream, as a recording does."""
    return struct.pack(">BHB", 0x47, 0x1FFF, 0x10)[1:] + bytes(100) + data


def put_in(data: bytes) -> bytes:
    """Put bytes between two packets, of which one looks like the beginning of another."""
    middle = len(data) // PACKET // 2 * PACKET
    return data[:middle] + bytes(50) + b"\x47" + bytes(109) + data[middle:]


def with_arrival_times(data: bytes) -> bytes:
    """Put a time of arrival before each packet, as discs and cameras do."""
    return b"".join(struct.pack(">I", n * 300) + one for n, one in enumerate(packets_of(data)))


def with_parity(data: bytes) -> bytes:
    """Put sixteen bytes of parity behind each packet (ETSI EN 300 421 §4.4.2)."""
    return b"".join(one + bytes(range(16)) for one in packets_of(data))


def exchanged(data: bytes, times: int = 1) -> bytes:
    """Exchange the packet IDs of picture and sound some times, as new versions of the map tell."""
    return moved(data, ({PICTURE_PID: SOUND_PID, SOUND_PID: PICTURE_PID}, {}) * times, times)


def moved(data: bytes, places: Sequence[Mapping[int, int]], times: int = 1) -> bytes:
    """Give streams other packet IDs, some times, as new versions of the map tell.

    Args:
        places: the other IDs by those that ffmpeg gives, from each of the times on.
    """
    every, program = packets_of(data), told(data)
    # Both streams begin anew behind the next picture's map.
    maps = [number for number, one in enumerate(every) if pid_of(one) == MAP_PID]
    turns = [maps[len(maps) * turn // (times + 1)] for turn in range(1, times + 1)]
    counters, ids, found = count(every[maps[0]][3] & 15), dict[int, int](), list[bytes]()
    for number, one in enumerate(every):
        version = sum(turn <= number for turn in turns)
        newest = places[version - 1] if version else {}
        pid = pid_of(one)
        if pid == MAP_PID:
            streams = tuple(replace(one, pid=newest.get(one.pid, one.pid)) for one in program.streams)
            clock = newest.get(program.clock_pid, program.clock_pid)
            written = replace(program, clock_pid=clock, streams=streams)
            found += packed(MAP_PID, [program_map(written, version=version)], counters)
            continue
        # The rest of a PES packet that began before the map goes on where it was.
        ids[pid] = newest.get(pid, pid) if one[1] & 0x40 else ids.get(pid, pid)
        found.append(one[:1] + bytes((one[1] & 0xE0 | ids[pid] >> 8, ids[pid] & 0xFF)) + one[3:])
    return b"".join(found)


WHOLE: dict[str, Rewrite] = {
    "a map of two packets": long_map,
    "a description of two packets": long_description,
    "other tables on the map's PID": other_tables,
    "maps that share a PID": shared_map_pid,
    "absent programs": absent_programs,
    "damaged maps": wrong_checksums,
    "maps that come into force later": next_tables,
    "packets that are sent twice": sent_twice,
    "a beginning within a packet": begun_within,
    "bytes put in": put_in,
    "192 bytes": with_arrival_times,
    "204 bytes": with_parity,
}
"""Ways to write a stream in which nothing of it is lost."""

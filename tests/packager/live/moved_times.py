"""Published streams of which the times of one track are moved, in the bytes of each container."""

from __future__ import annotations

import itertools
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from media.matroska.element_ids import EBML, INFO, SEGMENT, TRACKS
from media.matroska.live_elements import BLOCKS, LiveElementReader
from media.ts.tables import PACKET, payload_offset
from media.ts.timestamps import read_timestamp


def in_container(recording: Path, folder: Path, container: str) -> bytes:
    """Write a recording in a container, with fragments of a fifth of a second."""
    made = folder / f"stream.{container}"
    options = {
        "ts": "-f mpegts",
        "latm": "-f mpegts -mpegts_flags latm",
        "mkv": "-f matroska -live 1",
        "mp4": "-f mp4 -frag_duration 200000 -movflags empty_moov+default_base_moof",
    }[container]
    words = f"-nostdin -v error -i {recording} -c copy {options} {made}"
    subprocess.run(["ffmpeg", *words.split()], check=True)
    return made.read_bytes()


def moved_in_ts(data: bytes, pid: int, moved: Callable[[int], int]) -> bytes:
    """Write the times of one elementary stream anew; each has the index of its access unit."""
    packets, count = [], itertools.count()
    for at in range(0, len(data), PACKET):
        packet = bytearray(data[at : at + PACKET])
        start = payload_offset(bytes(packet))
        if int.from_bytes(packet[1:3], "big") & 0x5FFF == 0x4000 | pid:
            ticks = moved(next(count))
            # ISO/IEC 13818-1 §2.4.3.6: PTS and DTS have five bytes each.
            for place in (start + 9, start + 14)[: 2 if packet[start + 7] >> 6 == 3 else 1]:
                field = bytes(packet[place : place + 5])
                time = (read_timestamp(field) + ticks) % (1 << 33)
                packet[place : place + 5] = struct.pack(
                    ">BHH",
                    field[0] & 0xF1 | time >> 29 & 0xE,
                    time >> 14 & 0xFFFE | 1,
                    time << 1 & 0xFFFE | 1,
                )
        packets.append(bytes(packet))
    return b"".join(packets)


def moved_in_mkv(data: bytes, track: int, moved: Callable[[int], int]) -> bytes:
    """Write the times of the blocks of one track anew: clusters of a millisecond, for each block its own."""
    reader, found, cluster = LiveElementReader(), list[bytes](), 0
    count = itertools.count()
    for element in reader.receive_data(data):
        whole = bytes(element.whole)
        if element.kind in BLOCKS:
            block = reader.block(element)
            time = block.nanoseconds // 1_000_000
            if block.track == track:
                time += moved(next(count)) // 90
            # RFC 9559 §10.1: behind the track's number, 16 bits relative to the cluster's time.
            place = element.payload + 1
            whole = whole[:place] + bytes(2) + whole[place + 2 :]
            cluster_head = b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff\xe7\x88" + time.to_bytes(
                8, "big"
            )
            found.append(cluster_head + whole)
            cluster += 1
        elif element.kind == SEGMENT:
            found.append(b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff")
        elif element.kind in (EBML, INFO, TRACKS):
            found.append(whole)
    assert cluster > 100
    return b"".join(found)


def moved_in_mp4(data: bytes, track: int, moved: Callable[[int], int]) -> bytes:
    """Write the decode times of the fragments of one track anew."""
    made, count = bytearray(data), itertools.count()
    for match in re.finditer(rb"tfdt\x01\0\0\0", data):
        # ISO/IEC 14496-12 §8.8.7: the track's number is behind the version and flags of tfhd.
        head = data.rindex(b"tfhd", 0, match.start())
        if int.from_bytes(data[head + 8 : head + 12], "big") != track:
            continue
        place = match.end()
        timescale = 12_800 if track == 1 else 48_000
        time = int.from_bytes(data[place : place + 8], "big") + moved(next(count)) * timescale // 90_000
        made[place : place + 8] = time.to_bytes(8, "big")
    assert next(count) > 10
    return bytes(made)


MOVED = {"ts": (moved_in_ts, 0x100, 0x101), "mkv": (moved_in_mkv, 1, 2), "mp4": (moved_in_mp4, 1, 2)}
"""How times are written anew, and the numbers of picture and sound that ffmpeg's muxers give."""

"""How many packets a transport stream has lost, where counters begin anew and nothing is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from media.ts.stream_reader import TransportReader
from media.ts.tables import PACKET
from packager.vod.index.index_builder import read_index
from tests.media.ts.rewritten_streams import (
    PICTURE_PID,
    SOUND_PID,
    exchanged,
    packets_of,
    pid_of,
)


def lost_of_film(data: bytes) -> int:
    """Return how many packets a film's note names."""
    notes = read_index(lambda at, length: data[at : at + length], len(data)).left_out
    named = [int(note.split()[0]) for note in notes if "which its recording has lost" in note]
    return sum(named)


def lost_live(data: bytes) -> int:
    reader = TransportReader()
    for begin in range(0, len(data), 4000):
        reader.receive_data(data[begin : begin + 4000])
    return reader.lost


WAYS: dict[str, Callable[[bytes], int]] = {"film": lost_of_film, "live": lost_live}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Record two streams of different length and content with the same packet IDs."""
    folder, made = tmp_path_factory.mktemp("recordings"), list[bytes]()
    for seconds, picture in ((3.4, "testsrc2"), (2.3, "smptebars")):
        path = folder / f"{picture}.ts"
        inputs = f"-f lavfi -i {picture}=size=160x120:rate=25 -f lavfi -i sine=440:sample_rate=48000"
        words = f"-nostdin -v error {inputs} -t {seconds} -c:v libx264 -g 25 -pix_fmt yuv420p -c:a aac {path}"
        subprocess.run(["ffmpeg", *words.split()], check=True)
        made.append(path.read_bytes())
    return made[0], made[1]


def without(data: bytes, pid: int, first: int, number: int) -> bytes:
    """Lose some packets of a stream, which don't begin a PES packet."""
    every = packets_of(data)
    within = [n for n, one in enumerate(every) if n >= first and pid_of(one) == pid and not one[1] & 0x40]
    places = next(
        within[at : at + number]
        for at in range(len(within))
        if within[at + number - 1] == within[at] + number - 1
    )
    return b"".join(one for n, one in enumerate(every) if n not in places)


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.3.3")
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_where_recordings_are_joined(recordings: tuple[bytes, bytes], way: str) -> None:
    one, other = recordings
    for joined in (one + other, other + one, one + one + other, one + other + one):
        # Their counters don't go on: ffmpeg's muxer begins each file's with 0.
        assert WAYS[way](joined) == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pid", [PICTURE_PID, SOUND_PID])
def test_what_is_lost_of_a_joined_recording_is_counted(
    recordings: tuple[bytes, bytes], way: str, pid: int
) -> None:
    one, other = recordings
    for number in (1, 2):
        lost = without(other, pid, len(other) // PACKET // 3, number)
        assert WAYS[way](one + lost) == number
        assert WAYS[way](lost + one) == number


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_where_streams_exchange_their_packet_ids(
    recordings: tuple[bytes, bytes], way: str
) -> None:
    for times in (1, 2):
        assert WAYS[way](exchanged(recordings[0], times)) == 0

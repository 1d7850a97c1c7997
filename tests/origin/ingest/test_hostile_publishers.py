"""Streams of publishers that are broken or made to harm: the channel goes on with what follows."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.origin.ingest.studio import KEY, Studio, encoder_arguments, studio, timelines
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("hostile")) as one:
        yield one


SECONDS = 10
"""How long a stream is, and comes: long enough to be played meanwhile."""


def recorded(more: str = "", container: str = "mpegts", sound: bool = True, seconds: int = SECONDS) -> bytes:
    """Make a stream."""
    arguments = encoder_arguments(container, more=f"-t {seconds} {more}").replace("-re ", "")
    if not sound:
        arguments = arguments.replace("-c:a aac", "-an")
    return subprocess.run(["ffmpeg", *arguments.split(), "pipe:1"], check=True, capture_output=True).stdout


def publish(hall: Studio, data: bytes, chunk: int = 1 << 14, seconds: float = 0) -> bytes:
    """Publish in chunks of so many bytes, at an encoder's pace if it takes seconds; give what is answered."""
    host, port = hall.server.url.removeprefix("http://").split(":")
    head = f"PUT /live/studio/ingest?key={KEY} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    pieces = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    answer = b""
    with socket.create_connection((host, int(port)), CLIENT_SECONDS) as client:
        with contextlib.suppress(ConnectionError):  # it may have answered already
            client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for start in range(0, len(pieces), 64):
                some = pieces[start : start + 64]
                time.sleep(seconds * 64 / len(pieces))
                client.sendall(b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in some))
            client.sendall(b"0\r\n\r\n")
        while more := client.recv(4096):
            answer += more
    return answer


def test_chunks_of_a_single_byte_are_a_stream_as_well(hall: Studio) -> None:
    before = hall.media_playlist_so_far()
    assert publish(hall, recorded(), 1, seconds=SECONDS).startswith(b"HTTP/1.1 200 ")
    hall.wait_for_timeline(before)


def test_a_stream_with_a_single_key_frame_is_cut_into_segments_all_the_same(hall: Studio) -> None:
    before = hall.media_playlist_so_far()
    stream = recorded("-g 100000 -sc_threshold 0")
    assert publish(hall, stream, 256, seconds=SECONDS).startswith(b"HTTP/1.1 200 ")
    listed = hall.wait_for_timeline(before).rpartition("#EXT-X-DISCONTINUITY\n")[2]
    # Its segments are as long as those of any other stream (``segment_duration``), not as its only group.
    assert listed.count("#EXTINF:1.0") > 1


@pytest.mark.clause("Clocks that jump or wrap are discontinuities, and the playlist goes on")
def test_clocks_that_jump_by_a_day_and_wrap_are_discontinuities(hall: Studio) -> None:
    before = hall.media_playlist_so_far()
    # Ahead and back by ten seconds and more, ahead by a day; the last one wraps (ISO/IEC 13818-1 §2.4.3.7).
    data = b"".join(recorded(f"-output_ts_offset {offset}") for offset in (10, 35, 20, 95_436))
    assert publish(hall, data, 188, seconds=4 * SECONDS).startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: timelines(hall.media_playlist()) >= timelines(before) + 2, "the discontinuities")


@pytest.mark.clause("Sound that comes late is heard, without a reload")
def test_a_program_map_that_changes_is_a_discontinuity(hall: Studio) -> None:
    before = hall.media_playlist_so_far()
    data = recorded(sound=False) + recorded(f"-output_ts_offset {SECONDS}") + recorded(sound=False)
    assert publish(hall, data, 188, seconds=3 * SECONDS).startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: timelines(hall.media_playlist()) >= timelines(before) + 2, "the discontinuities")
    hall.has_played = True


def test_packets_of_all_8192_streams_among_its_own_do_no_harm(hall: Studio) -> None:
    before, good = hall.media_playlist_so_far(), recorded()
    rng = random.Random(7)
    spoilt = bytearray()
    for start in range(0, len(good), 188):
        spoilt += good[start : start + 188]
        pid = rng.randrange(0x300, 0x1FFF)
        spoilt += bytes((0x47, pid >> 8, pid & 0xFF, 0x10 | rng.randrange(16))) + rng.randbytes(184)
    assert publish(hall, bytes(spoilt), 188, seconds=SECONDS).startswith(b"HTTP/1.1 200 ")
    hall.wait_for_timeline(before)


@pytest.mark.parametrize(
    "damage",
    ["two inits", "moof without mdat", "moof of another track"],
)
def test_fragments_that_contradict_each_other_are_refused_or_begin_anew(hall: Studio, damage: str) -> None:
    seconds = SECONDS if damage == "two inits" else 4
    data = recorded("-movflags frag_keyframe+empty_moov+default_base_moof", "mp4", seconds=seconds)
    first = data.index(b"moof") - 4
    mdat = data.index(b"mdat", first) - 4
    behind = mdat + int.from_bytes(data[mdat : mdat + 4], "big")
    if damage == "two inits":
        other = recorded("-s 320x240 -movflags frag_keyframe+empty_moov+default_base_moof", "mp4")
        before = hall.media_playlist_so_far()
        assert publish(hall, data + other, 188, seconds=2 * SECONDS).startswith(b"HTTP/1.1 200 ")
        hall.wait_for_timeline(before)
        return
    if damage == "moof without mdat":
        spoilt = data[:behind] + data[first:mdat] + data[first:]
    else:
        track = data.index(b"tfhd", behind) + 8
        spoilt = data[:track] + b"\0\0\0\x63" + data[track + 4 :]
    answer = publish(hall, spoilt[: behind + 40_000])
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"not a stream that can be published: " in answer
    hall.wait_for_state("idle")

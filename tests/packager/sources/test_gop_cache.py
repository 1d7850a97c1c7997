"""A publisher's stream outlives the ffmpeg that takes it: cut at access points, kept, and given again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import subprocess

import pytest

from media.errors import MalformedError
from media.packets import Packet, StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE, StreamChunk
from media.ts.stream_reader import TransportReader
from media.ts.tables import PACKET
from packager.ffmpeg.arguments import QUIET, pipe
from packager.process.ffmpeg_discovery import Tools
from packager.process.process import Process
from packager.sources.gop_cache import GopCache
from packager.sources.limits import SourceLimits
from packager.sources.pump import Pump

GOP, RATE, SECONDS = 25, 25, 12

AHEAD = 22
"""So many frames at most a publisher is ahead of a decoder: more than that holds, and less than a group."""

KILLED_AFTER = 50
"""Frames."""


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Twelve seconds with a key frame each second."""
    path = tmp_path_factory.mktemp("replay") / "a.ts"
    command = f"ffmpeg -v error -f lavfi -i testsrc2=size=160x120:rate={RATE} -f lavfi -i sine -t {SECONDS}"
    command += f" -c:v libx264 -g {GOP} -sc_threshold 0 -bf 2 -pix_fmt yuv420p -c:a aac -f mpegts {path}"
    subprocess.run(command.split(), check=True)
    return path.read_bytes()


def bytes_of(cache: GopCache) -> bytes:
    return b"".join(one.data for one in cache.beginning())


def test_bytes_between_packets_are_skipped_and_another_format_is_refused(stream: bytes) -> None:
    reader = TransportReader()
    reader.receive_data(stream[: 10 * PACKET] + b"\0" * 50)
    assert b"".join(one.data for one in reader.receive_data(stream[10 * PACKET : 20 * PACKET]))
    with pytest.raises(MalformedError):
        TransportReader().receive_data(bytes(1 << 20))


def test_what_is_kept_is_bounded_and_begins_with_the_tables(stream: bytes) -> None:
    cache = GopCache()
    for packets in TransportReader().receive_data(stream):
        cache.push(packets)
    assert len(bytes_of(cache)) < len(stream) / 4
    first = bytes_of(cache)[:PACKET]
    assert first[1] & 0x1F == 0 == first[2]  # the PAT's PID
    small = GopCache(limits=SourceLimits(gop_bytes=PACKET))
    for packets in TransportReader().receive_data(stream):
        small.push(packets)
    assert len(bytes_of(small)) <= 17 * PACKET


def test_headers_that_are_repeated_push_no_others_out() -> None:
    cache = GopCache(limits=SourceLimits(gop_headers=2))
    for header in (b"first", *[b"second"] * 5):
        cache.push(StreamChunk(header, header=True))
    assert bytes_of(cache) == b"firstsecond"


@pytest.mark.clause("CWE-770")
def test_packets_of_nothing_take_memory_and_no_more_of_them_are_kept_than_may_be() -> None:
    cache = GopCache(limits=SourceLimits(gop_bytes=1 << 20))
    video = StreamTrack(TrackKind.VIDEO, "avc1")

    def frames(count: int, *, is_key: bool) -> StreamChunk:
        return StreamChunk.of_packets([Packet(video, 0, 0, is_key, b"a")] * count, access=is_key, clock=0)

    cache.push(frames(1, is_key=True))
    for _ in range(10):
        cache.push(frames(500, is_key=False))
    assert cache.has_access_point
    # Objects of Python take more than a hundred bytes each: ten thousand packets don't fit.
    cache.push(frames(10_000, is_key=False))
    assert not cache.has_access_point


async def decode(process: Process, times: list[int], *, kill_after: int | None = None) -> None:
    """Read framecrc lines to the end, which a kill after some frames brings about; note the frames' times."""
    output = b""
    while data := await process.read():
        *lines, output = (output + data).split(b"\n")
        rows = [line.decode().split(",") for line in lines if not line.startswith(b"#")]
        times += [int(row[2]) for row in rows if len(row) > 5]
        if kill_after is not None and len(times) > kill_after:
            os.kill(process.pid, signal.SIGKILL)
            kill_after = None


async def test_an_ffmpeg_that_is_killed_is_followed_by_one_that_begins_with_a_whole_group(
    tools: Tools, stream: bytes
) -> None:
    argv = [str(tools.ffmpeg), *QUIET[1:], "-copyts", "-f", "mpegts", "-analyzeduration", "300000"]
    argv += ["-i", "pipe:0", "-map", "0:v", "-fps_mode", "passthrough", "-flush_packets", "1"]
    argv += ["-f", "framecrc", pipe(0)]
    pump, first, second = Pump("mpegts"), list[int](), list[int]()
    is_given_again = False

    def allowed() -> int:
        """Frames that may have been published."""
        decoded = (second or first)[-1] - first[0] if first else 0
        # Of the group that is kept there may be a single frame, of which no decoder gives any.
        return decoded + AHEAD + (GOP if is_given_again and not second else 0)

    async def publish() -> None:
        step = len(stream) // (SECONDS * 20) // PACKET * PACKET
        for start in range(0, len(stream), step):
            # However late an ffmpeg is that a busy machine starves: what is kept for it is one group.
            while SECONDS * RATE * start / len(stream) > allowed():
                await asyncio.sleep(1 / 100)
            await pump.receive_data(stream[start : start + step])
            await asyncio.sleep(1 / 50)  # two and a half times real time
        pump.receive_eof()

    async def play(times: list[int], kill_after: int | None = None) -> None:
        nonlocal is_given_again
        process = await Process.start(argv, stdin=True)
        giving = asyncio.create_task(pump.feed(process))
        await asyncio.sleep(0)  # now it has what is kept, and nothing that comes is lost
        is_given_again = kill_after is None
        try:
            await decode(process, times, kill_after=kill_after)
        finally:
            if kill_after is not None:
                giving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await giving
            await process.stop()

    publishing = asyncio.create_task(publish())
    async with asyncio.timeout(240):
        await play(first, kill_after=KILLED_AFTER)
        await play(second)
        await publishing
    tick = second[1] - second[0]
    assert first
    assert (second[0] - first[0]) % (GOP * tick) == 0  # a key frame
    assert second[0] <= first[-1] + GOP * tick  # nothing is lost in between but what was on its way
    assert second == list(range(second[0], second[0] + tick * len(second), tick))
    assert second[-1] - first[0] == (SECONDS * RATE - 1) * tick


def test_a_header_that_replaces_others_keeps_the_pictures_before_it() -> None:
    cache = GopCache(more_seconds=10.0)
    old, new = StreamChunk(b"old", header=True), StreamChunk(b"new", header=True, replaces=True)
    picture, following = StreamChunk(b"first", access=True, clock=0), StreamChunk(b"second", clock=1)
    for chunk in (old, picture, old, following, new):
        cache.push(chunk)
    assert b"".join(one.data for one in cache.beginning(-math.inf)) == b"newfirstsecondnew"


@pytest.mark.parametrize(
    ("clocks", "expected"),
    [
        # In real time; in bursts of two groups, of which the last one came when it was made; without a clock.
        ([(0, 10.0), (1, 11.0), (2, 12.0)], 10.0),
        ([(0, 12.0), (1, 12.0), (2, 14.0), (3, 14.0)], 11.0),
        ([(None, 12.0), (1, 12.0)], 12.0),
        ([], None),
    ],
)
def test_a_beginning_came_as_soon_as_the_soonest_group_shows(
    clocks: list[tuple[int | None, float]], expected: float | None
) -> None:
    cache = GopCache(more_seconds=10.0)
    for seconds, came in clocks:
        clock = None if seconds is None else seconds * CLOCK_RATE
        cache.push(StreamChunk(b"picture", access=True, clock=clock), came)
    assert cache.soonest_begin(-math.inf) == expected

"""How late a part is there for who waits in another process, and what it costs each of the two.

The channel's parts come by a timer, without an encoder. Each follower is a process of its own, in which
somebody always waits for the next part; it says when that was released, by the clock that all processes of a
machine share.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import uvloop

from media.mp4.codecs.sample_entry import SampleEntry
from packager.concurrency import background_task
from packager.publish.live_stream import FoldedLog, LiveStream
from packager.replication.limits import ReplicationLimits
from packager.replication.live_log import LIVE, ElsewhereCommands, FollowedLiveLog, ServedLiveLog
from packager.replication.log_follower import LogFollower
from packager.replication.log_server import LogServer
from packager.window.cadence import cadence
from packager.window.limits import DEFAULT_LIMITS
from packager.window.log import CadenceEntry, Log, RenditionFormat
from packager.window.model import LivePart
from packager.window.rendition_log_writer import RenditionWriter
from tests.benchmarks.load import Figure

NAME = "live: log to followers"
FOLLOWERS = (1, 4)
PARTS = 600
WARM_UP = 60
PART_SECONDS = Fraction(1, 3)
INTERVAL_SECONDS = 0.02
PARTS_OF_SEGMENT = 6
SIZES = {"720p": 110_000, "360p": 33_000, "audio": 5_500}
FIRST_NUMBER = 1000
RELEASED = struct.Struct("=Qdd")
"""What a follower says: how many parts came before, the moment, and its seconds of CPU so far."""


def channel(
    name: str = "test", sizes: Mapping[str, int] = SIZES
) -> tuple[LiveStream, Log, dict[str, RenditionWriter]]:
    """Make a channel that a test feeds, with these renditions."""
    formats = tuple(RenditionFormat(one, one != "audio", 1000) for one in sizes)
    entry = CadenceEntry(cadence(Fraction(30), 2.0, 0.333), formats, FIRST_NUMBER)
    folded = FoldedLog(entry)
    log = Log(folded.fold, entry)
    log.follow()
    stream = LiveStream(name, ElsewhereCommands())
    stream.adopt(folded)
    writers = {key: RenditionWriter(log, key, one.window) for key, one in folded.renditions.items()}
    for writer in writers.values():
        writer.begin(b"init", SampleEntry(b"avc1", "avc1.42c01f", b"", (), width=640, height=360))
    return stream, log, writers


def publish(
    writers: dict[str, RenditionWriter], count: int, head: bytes = b"", sizes: Mapping[str, int] = SIZES
) -> None:
    """Publish the next part of each rendition, of its size, with something at its beginning."""
    number, index = divmod(count, PARTS_OF_SEGMENT)
    date = 2 * (FIRST_NUMBER + number) + index * PART_SECONDS
    for name, writer in writers.items():
        part = LivePart(head.ljust(sizes[name], b"\0"), PART_SECONDS, not index)
        writer.append(part, date, ends_segment=index == PARTS_OF_SEGMENT - 1)


async def feed(followers: int) -> tuple[list[float], float, float]:
    """Publish parts to so many followers.

    Returns:
        Seconds from each part to each follower's waiter, and seconds of CPU a part: here, and in a follower.
    """
    stream, log, writers = channel()
    for count in range(PARTS_OF_SEGMENT):
        publish(writers, count)
    server = LogServer(ReplicationLimits())
    log.add_follower(server.serve(ServedLiveLog(stream)))
    processes = []
    for _ in range(followers):
        ours, its = socket.socketpair()
        with its:
            command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, str(its.fileno())]
            processes.append(
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    pass_fds=(its.fileno(),),
                    cwd=Path(__file__).parents[2],
                )
            )
        await server.connect(ours)
    try:
        for process in processes:
            await asyncio.to_thread(process.stdout.read, 1)  # type: ignore[union-attr]
        moments, used = {}, 0.0
        for count in range(PARTS_OF_SEGMENT, PARTS_OF_SEGMENT + PARTS):
            if count == PARTS_OF_SEGMENT + WARM_UP:
                used = time.process_time()
            moments[count] = time.monotonic()
            publish(writers, count)
            await asyncio.sleep(INTERVAL_SECONDS)
        used = time.process_time() - used
        server.close()
        await asyncio.sleep(0)
        told = []
        for process in processes:
            # Behind that it may log that the connection is lost.
            data = await asyncio.to_thread(process.stdout.read, PARTS * RELEASED.size)  # type: ignore[union-attr]
            told.append([*RELEASED.iter_unpack(data)])
    finally:
        for process in processes:
            process.kill()
            process.wait()
    late = [moment - moments[count] for rows in told for count, moment, _ in rows[WARM_UP:]]
    there = [(rows[-1][2] - rows[WARM_UP][2]) / (len(rows) - WARM_UP - 1) for rows in told]
    return late, used / (PARTS - WARM_UP), statistics.mean(there)


async def follow(sock: socket.socket) -> None:
    """Wait for part after part, until the connection is lost."""
    streams: dict[str, LiveStream] = {}
    sockets = [sock]

    async def connect() -> socket.socket:
        if not sockets:
            os._exit(0)
        return sockets.pop()

    limits = ReplicationLimits()
    kinds = {LIVE: lambda name: FollowedLiveLog(name, streams, DEFAULT_LIMITS)}
    follower = LogFollower(kinds, connect, limits)
    async with background_task(follower.run()):
        while "test" not in streams:
            await asyncio.sleep(0.001)
        window = streams["test"].renditions["720p"].window
        os.write(1, b"\n")
        for count in itertools.count(PARTS_OF_SEGMENT):
            number, index = divmod(count, PARTS_OF_SEGMENT)
            await window.waiters.wait(lambda: window.reached(FIRST_NUMBER + number, index), 60)  # noqa: B023
            os.write(1, RELEASED.pack(count, time.monotonic(), time.process_time()))


def run(words: tuple[str, ...]) -> Iterator[Figure]:
    """Measure, if it is among what is wanted."""
    if words and not any(word in NAME for word in words):
        return
    for followers in FOLLOWERS:
        late, here, there = uvloop.run(feed(followers))
        late.sort()
        of = f"{followers} followers"
        yield Figure(f"{NAME}, p50", of, late[len(late) // 2] * 1e3, "ms")
        yield Figure(f"{NAME}, p99", of, late[len(late) * 99 // 100] * 1e3, "ms")
        yield Figure(f"{NAME}, here", of, here * 1e6, "µs a part")
        yield Figure(f"{NAME}, there", of, there * 1e6, "µs a part")


if __name__ == "__main__":
    uvloop.run(follow(socket.socket(fileno=int(sys.argv[1]))))

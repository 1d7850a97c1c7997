"""How late a part is at the edges of a cluster, behind a real Redis, and what it costs each of the three.

The owner's parts come by a timer, without an encoder. Each edge is a node in a process of its own; it notes
when a part is folded, which is when those who wait there are woken. A part begins with the moment when it was
appended, by the clock that all processes of a machine share. What the three do without parts, such as
renewing leases, is among the cost of the parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
import uvloop

from packager.cluster.connection import RedisConnection
from packager.cluster.limits import ClusterLimits
from packager.cluster.node import ClusterNode
from packager.concurrency import background_task
from packager.publish.limits import DEFAULT_LIMITS
from packager.publish.live_stream import LiveStream
from packager.window.log import Entry, PartEntry
from packager.window.rendition_writer import RenditionWriter
from tests.benchmarks.load import Figure
from tests.benchmarks.log_followers import (
    FIRST_NUMBER,
    PART_SECONDS,
    PARTS_OF_SEGMENT,
    SIZES,
    channel,
    publish,
)
from tests.benchmarks.peers import Peer
from tests.redis_server import RedisServer, redis_running

NAME = "cluster: parts to edges"
CASES = ((1, 1), (4, 1), (16, 1), (1, 10))
"""How many edges there are, and how many channels."""

HELD_SEGMENTS = 21
"""What a channel has from the beginning: what is listed, and what stays fetchable behind that."""

PARTS = 42
"""How many come of each rendition, in fourteen seconds."""

LAST_RENDITION = [*SIZES][-1]
LAST_PART = FIRST_NUMBER + HELD_SEGMENTS + PARTS // PARTS_OF_SEGMENT - 1, PARTS_OF_SEGMENT - 1
START_SECONDS = 60.0
END_SECONDS = 60.0
MOMENT = struct.Struct("=d")
"""How a part begins: with nothing, or the moment when it was appended."""


class Arrivals:
    """Notes how late the parts are that an edge folds.

    Attributes:
        late: seconds of each.
        used_before: seconds of CPU when the first one came.
    """

    def __init__(self) -> None:
        self.late: list[float] = []
        self.used_before = 0.0

    def take(self, stream: LiveStream, entry: Entry) -> None:
        """Take an entry that has been folded."""
        del stream
        if isinstance(entry, PartEntry):
            (moment,) = MOMENT.unpack_from(entry.part.data)
            if moment:
                self.used_before = self.used_before or time.process_time()
                self.late.append(time.monotonic() - moment)

    def withdraw(self, name: str) -> None:
        """Take no notice: no channel goes."""


async def follow(url: str, channels: int) -> None:
    """Be an edge, until all parts are here; then tell of them."""
    arrivals = Arrivals()
    streams: dict[str, LiveStream] = {}
    connection = RedisConnection(url, ClusterLimits().redis)
    node = ClusterNode(connection, streams, arrivals, ClusterLimits(), DEFAULT_LIMITS, follows_all=True)
    async with background_task(node.run()):
        while len(streams) < channels:
            await asyncio.sleep(0.01)
        os.write(1, b"\n")
        for stream in streams.values():
            window = stream.renditions[LAST_RENDITION].window
            await window.waiters.wait(lambda: window.reached(*LAST_PART), END_SECONDS)  # noqa: B023
    used = time.process_time() - arrivals.used_before
    resident = Peer("edge", "", (os.getpid(),)).resident_bytes()
    print(json.dumps({"late": arrivals.late, "used": used, "resident": resident}))  # noqa: T201


@contextlib.contextmanager
def edges(count: int, url: str, channels: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run so many edges."""
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, url, str(channels)]
    running: list[subprocess.Popen[bytes]] = []
    try:
        while len(running) < count:
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]))
        yield running
    finally:
        for one in running:
            one.kill()
            one.wait()


async def feed(url: str, redis: Peer, count: int, channels: int) -> tuple[float, float, list[dict[str, Any]]]:
    """Own channels, and publish their parts to so many edges.

    Returns:
        Seconds of CPU of Redis and of the owner, and what each edge tells.
    """
    connection = await asyncio.to_thread(RedisConnection, url, ClusterLimits().redis)
    node = ClusterNode(connection, {}, Arrivals(), ClusterLimits(), DEFAULT_LIMITS, follows_all=False)
    made = [_shared(node, f"channel-{number}") for number in range(channels)]
    with edges(count, url, channels) as running:
        async with background_task(node.run()):
            async with asyncio.timeout(START_SECONDS):
                await asyncio.gather(*(asyncio.to_thread(_first_byte, one) for one in running))
            before, own_before = redis.scheduled_seconds(), time.process_time()
            for part in range(PARTS):
                for writers in made:
                    await asyncio.sleep(float(PART_SECONDS) / channels)
                    publish(writers, HELD_SEGMENTS * PARTS_OF_SEGMENT + part, MOMENT.pack(time.monotonic()))
            told = await asyncio.gather(
                *(asyncio.to_thread(one.communicate, timeout=END_SECONDS) for one in running)
            )
            used = redis.scheduled_seconds() - before, time.process_time() - own_before
    node.close()
    return *used, [json.loads(output) for output, _ in told]


def _shared(node: ClusterNode, name: str) -> dict[str, RenditionWriter]:
    """Share a channel that has all that it holds already."""
    stream, log, writers = channel(name)
    for part in range(HELD_SEGMENTS * PARTS_OF_SEGMENT):
        publish(writers, part)
    log.add_follower(node.share(stream, lambda: True))
    return writers


def _first_byte(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.read(1)


def _figures(server: RedisServer, count: int, channels: int) -> Iterator[Figure]:
    assert server.process is not None
    redis = Peer("Redis", "", (server.process.pid,))
    in_redis, in_owner, told = uvloop.run(feed(server.url, redis, count, channels))
    late = sorted(seconds for one in told for seconds in one["late"])
    parts = channels * PARTS * len(SIZES)
    missed = count * parts - len(late)
    of = f"{count} edges, {channels} ch."
    yield Figure(f"{NAME}, p50", of, late[len(late) // 2] * 1e3, "ms")
    yield Figure(f"{NAME}, p99", of, late[len(late) * 99 // 100] * 1e3, "ms")
    yield Figure(f"{NAME}, Redis", of, in_redis / parts * 1e6, "µs a part")
    yield Figure(f"{NAME}, owner", of, in_owner / parts * 1e6, "µs a part")
    if missed:
        yield Figure(f"{NAME}, by a snapshot", of, missed, "parts")
    in_edge = statistics.mean(one["used"] for one in told)
    yield Figure(f"{NAME}, an edge", of, in_edge / parts * 1e6, "µs a part")
    resident = statistics.mean(one["resident"] for one in told)
    yield Figure(f"{NAME}, memory", of, resident / (1 << 20), "MiB an edge")


def run(words: tuple[str, ...]) -> Iterator[Figure]:
    """Measure, if it is among what is wanted."""
    if words and not any(word in NAME for word in words):
        return
    if shutil.which("redis-server") is None:
        print(f"{NAME}: not measured, for there is no redis-server: make test installs it")  # noqa: T201
        return
    _log_beside_the_figures()
    for count, channels in CASES:
        with tempfile.TemporaryDirectory() as folder, redis_running(Path(folder)) as server:
            yield from _figures(server, count, channels)


def _log_beside_the_figures() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    _log_beside_the_figures()
    uvloop.run(follow(sys.argv[1], int(sys.argv[2])))

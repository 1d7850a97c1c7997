"""How late a part is at the edges of a cluster, behind a real Redis, and what it costs each of the three.

The owner's parts come by a timer, without an encoder. Each edge is a node in a process of its own; it notes
when a part is folded, which is when those who wait there are woken. A part begins with the moment when it was
appended, by the clock that all processes of a machine share. What the three do without parts, such as
renewing leases, is among the cost of the parts.

New edges are a ``headwater serve`` each, one after the other, beside a Redis and an owner that run already:
what counts is the time from the first answer that such a process gives to its first playlist.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
import uvloop

from packager.cluster.connection import RedisConnection
from packager.cluster.limits import ClusterLimits
from packager.cluster.node import ClusterNode, NodeOptions
from packager.concurrency import background_task
from packager.publish.live_stream import LiveStream
from packager.window.limits import DEFAULT_LIMITS
from packager.window.log import Entry, PartEntry
from packager.window.rendition_log_writer import RenditionWriter
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
from tests.fork_server import HEADWATER
from tests.ports import kept_port
from tests.processes import end
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
NEW_EDGE = "cluster: a new edge's playlist"
NEW_EDGES = 20
NEW_EDGES_CHANNELS = {"3.6 Mbit/s": SIZES, "0.5 Mbit/s": {"240p": 14_000, "audio": 5_500}}
"""The sizes of a part of each rendition."""

LOOK_SECONDS = 0.005
"""Between two questions whether a playlist is there."""

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

    def fold(self, stream: LiveStream, entry: Entry) -> None:
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
    connection = RedisConnection(url, ClusterLimits())
    node = ClusterNode(
        connection, streams, arrivals, ClusterLimits(), DEFAULT_LIMITS, NodeOptions("one", follows_all=True)
    )
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
    connection = await asyncio.to_thread(RedisConnection, url, ClusterLimits())
    node = ClusterNode(
        connection, {}, Arrivals(), ClusterLimits(), DEFAULT_LIMITS, NodeOptions("one", follows_all=False)
    )
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


def _shared(node: ClusterNode, name: str, sizes: Mapping[str, int] = SIZES) -> dict[str, RenditionWriter]:
    """Share a channel that has all that it holds already."""
    stream, log, writers = channel(name, sizes)
    for part in range(HELD_SEGMENTS * PARTS_OF_SEGMENT):
        publish(writers, part, sizes=sizes)
    log.add_follower(node.share(stream, lambda: True, lambda: "live"))
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


async def begin_edges(url: str, sizes: Mapping[str, int]) -> list[float]:
    """Own a channel and publish to it while new edges begin; give each one's seconds to its playlist."""
    connection = await asyncio.to_thread(RedisConnection, url, ClusterLimits())
    node = ClusterNode(
        connection, {}, Arrivals(), ClusterLimits(), DEFAULT_LIMITS, NodeOptions("one", follows_all=False)
    )
    name = "channel"
    writers = _shared(node, name, sizes)

    async def publish_on() -> None:
        for part in itertools.count(HELD_SEGMENTS * PARTS_OF_SEGMENT):
            await asyncio.sleep(float(PART_SECONDS))
            publish(writers, part, sizes=sizes)

    async with background_task(node.run()), background_task(publish_on()):
        while not node.channels[name].is_owner:
            await asyncio.sleep(LOOK_SECONDS)
        path = f"/live/{name}/audio/media.m3u8"
        taken = [await asyncio.to_thread(_begin_edge, url, path) for _ in range(NEW_EDGES)]
    node.close()
    return taken


def _begin_edge(url: str, path: str) -> float:
    """Run an edge; give the seconds from its first answer to its first playlist."""
    with tempfile.TemporaryDirectory() as folder, kept_port() as port:
        given = {"HEADWATER_CLUSTER_URL": url, "HEADWATER_CLUSTER_ROLE": "edge"}
        process = subprocess.Popen(
            [str(HEADWATER), "serve", "--port", str(port)],
            cwd=folder,
            env={**os.environ, **given},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _ask_until(port, "/health", lambda status: status > 0)
            began = time.monotonic()
            _ask_until(port, path, lambda status: status == 200)
            return time.monotonic() - began
        finally:
            end(process)


def _ask_until(port: int, path: str, is_it: Callable[[int], bool]) -> None:
    """Ask a server until an answer has the right status."""
    ends = time.monotonic() + START_SECONDS
    while not is_it(_status(port, path)):
        if time.monotonic() > ends:
            raise TimeoutError(path)
        time.sleep(LOOK_SECONDS)


def _status(port: int, path: str) -> int:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    with contextlib.closing(client), contextlib.suppress(OSError):
        client.request("GET", path)
        return client.getresponse().status
    return 0


def _figures_of_new_edges(server: RedisServer, of: str, sizes: Mapping[str, int]) -> Iterator[Figure]:
    taken = uvloop.run(begin_edges(server.url, sizes))
    yield Figure(f"{NEW_EDGE}, median", of, statistics.median(taken) * 1e3, "ms")
    yield Figure(f"{NEW_EDGE}, most", of, max(taken) * 1e3, "ms")


def run(words: tuple[str, ...]) -> Iterator[Figure]:
    """Measure, if it is among what is wanted."""
    begins = not words or any(word in NEW_EDGE for word in words)
    follows = not words or any(word in NAME for word in words)
    if not (begins or follows):
        return
    if shutil.which("redis-server") is None:
        print(f"{NAME}: not measured, for there is no redis-server: make test installs it")  # noqa: T201
        return
    _log_beside_the_figures()
    for of, sizes in NEW_EDGES_CHANNELS.items() if begins else ():
        with tempfile.TemporaryDirectory() as folder, redis_running(Path(folder)) as server:
            yield from _figures_of_new_edges(server, of, sizes)
    for count, channels in CASES if follows else ():
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

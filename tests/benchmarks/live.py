"""A thousand players blocked on the next part: how late its bytes come, and what a player costs.

The server publishes parts by a timer, without an encoder, and says when it did, by the clock that all
processes of a machine share. Each player asks for the playlist with the next part, in one scenario for the
hinted part too, and asks on when it has all bytes, as hls.js does.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from tests.benchmarks.load import Figure
from tests.benchmarks.peers import CLIENT_CORE, SERVER_CORE, Peer

PLAYERS = 1000
PARTS = 24
"""How many parts are followed; the first ones warm up."""

WARM_UP = 6
PARTS_OF_SEGMENT = 6
FIRST_NUMBER = 1000
START_SECONDS = 30
RUN_SECONDS = 120

SERVER = """
import asyncio, contextlib, sys, time, uvicorn
from fractions import Fraction
from starlette.applications import Starlette
from media.codecs import SampleEntry
from origin import live
from origin.edge import Edge, Traffic
from origin.wire import WireLimits, wire_protocol
from packager.live import Channel, ChannelOptions
from packager.tools import discover
from packager.window import LivePart

players, first, of_segment = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
channel = Channel(ChannelOptions("test", ladder=("360p",)), asyncio.run(discover()))
entry = SampleEntry(b"avc1", "avc1.42c01f", b"", (), width=640, height=360)
sizes = {"360p": 33_000, "audio": 5_500}

def publish(number, index):
    for name, rendition in channel.renditions.items():
        part = LivePart(bytes(sizes[name]), Fraction(1, 3), index == 0)
        date = Fraction(2 * number) + Fraction(index, 3)
        rendition.window.append(part, date, ends_segment=index == of_segment - 1)

for rendition in channel.renditions.values():
    rendition.window.next_number = first - 12
    rendition.window.begin(b"init", entry)
for number in range(first - 12, first):
    for index in range(of_segment):
        publish(number, index)

async def feed():
    number, index = first, 0
    while channel.blocked < players:
        await asyncio.sleep(0.05)
    due = time.monotonic()
    while True:
        due += 1 / 3
        await asyncio.sleep(due - time.monotonic())
        print(number, index, time.monotonic(), flush=True)
        publish(number, index)
        number, index = (number, index + 1) if index < of_segment - 1 else (number + 1, 0)

@contextlib.asynccontextmanager
async def lifespan(_):
    task = asyncio.create_task(feed())
    yield
    task.cancel()

app = Starlette(routes=live.routes({"test": channel}), lifespan=lifespan)
app = Edge(live.Front(app, {"test": channel}), traffic=Traffic(), allow_origin="*", log_requests=False)
config = uvicorn.Config(app, http=wire_protocol(WireLimits()), port=0, ws="none", loop="uvloop",
    log_config=None, access_log=False, server_header=False, backlog=4096)
server = uvicorn.Server(config)

async def main():
    async def tell():
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await asyncio.gather(server.serve(), tell())

uvloop = __import__("uvloop")
uvloop.run(main())
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a player asks for; ``paths`` by number and index of the part."""

    name: str
    paths: Sequence[str]


SCENARIOS = (
    Scenario("live: 1000 playlists", ("/live/test/360p/media.m3u8?_HLS_msn={number}&_HLS_part={index}",)),
    Scenario(
        "live: 1000 delta playlists",
        ("/live/test/360p/media.m3u8?_HLS_msn={number}&_HLS_part={index}&_HLS_skip=YES",),
    ),
    Scenario(
        "live: 1000 lists and parts",
        (
            "/live/test/360p/media.m3u8?_HLS_msn={number}&_HLS_part={index}",
            "/live/test/360p/{number}.{index}.m4s",
        ),
    ),
)


def after(number: int, index: int) -> tuple[int, int]:
    """Name the part that follows."""
    return (number, index + 1) if index < PARTS_OF_SEGMENT - 1 else (number + 1, 0)


class Player(asyncio.Protocol):
    """One connection that asks for part after part of one kind of resource."""

    def __init__(self, path: str, received: list[tuple[int, int, float]], done: asyncio.Event) -> None:
        self._path = path
        self._received = received
        self._done = done
        self._position = (FIRST_NUMBER, 0)
        self._left = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's isn't a subclass
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        number, index = self._position
        path = self._path.format(number=number, index=index)
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if self._left == 0:
            head, _, body = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode("latin-1"))
            start = head.index(b"content-length: ") + 16
            self._left = int(head[start : head.find(b"\r\n", start) if b"\r\n" in head[start:] else None])
            data = body
        self._left -= len(data)
        if self._left == 0:
            self._received.append((*self._position, time.monotonic()))
            self._position = after(*self._position)
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self._done.set()


@contextlib.contextmanager
def serving(players: int) -> Iterator[tuple[Peer, subprocess.Popen[str]]]:
    """Run the server on its core until the block ends."""
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-c", SERVER, str(players)]
    process = subprocess.Popen(
        [*command, str(FIRST_NUMBER), str(PARTS_OF_SEGMENT)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Peer("headwater", f"127.0.0.1:{port}", (process.pid,)), process
    finally:
        process.kill()
        process.wait()


async def follow(scenario: Scenario, peer: Peer, process: subprocess.Popen[str]) -> Iterator[Figure]:
    """Let all players follow, and give the figures."""
    loop = asyncio.get_running_loop()
    received: list[tuple[int, int, float]] = []
    lost = asyncio.Event()
    host, _, port = peer.url.partition(":")
    memory = resident(process.pid)
    transports = []
    for _ in range(PLAYERS):
        for path in scenario.paths:
            make = functools.partial(Player, path, received, lost)
            transports.append((await loop.create_connection(make, host, int(port)))[0])
    assert process.stdout is not None
    published: dict[tuple[int, int], float] = {}
    used = 0.0
    for count in range(PARTS):
        line = await loop.run_in_executor(None, process.stdout.readline)
        number, index, moment = line.split()
        published[int(number), int(index)] = float(moment)
        if count == WARM_UP:
            used, begin = peer.cpu_seconds(), time.monotonic()
    cpu, seconds = peer.cpu_seconds() - used, time.monotonic() - begin
    grown = resident(process.pid) - memory
    await asyncio.sleep(0.3)
    if lost.is_set():
        raise RuntimeError("the server closed a connection")
    for transport in transports:
        transport.abort()
    warm = set(sorted(published)[WARM_UP:-2])
    late = sorted(
        moment - published[number, index] for number, index, moment in received if (number, index) in warm
    )
    if len(late) < len(warm) * PLAYERS * len(scenario.paths):
        raise RuntimeError(f"{len(late)} answers of {len(warm) * PLAYERS * len(scenario.paths)}")
    return iter(
        (
            Figure(f"{scenario.name}: p50", peer.name, late[len(late) // 2] * 1e3, "ms"),
            Figure(f"{scenario.name}: p99", peer.name, late[len(late) * 99 // 100] * 1e3, "ms"),
            Figure(f"{scenario.name}: CPU", peer.name, cpu / seconds / PLAYERS * 1e5, "% / 1000"),
            Figure(f"{scenario.name}: RSS", peer.name, grown / PLAYERS / 1024, "KiB / player"),
        )
    )


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def run(words: Sequence[str] = ()) -> Iterator[Figure]:
    """Give the figures of all scenarios, or of those whose names have one of the words."""
    allowed = os.sched_getaffinity(0)
    for scenario in SCENARIOS:
        if not words or any(word in scenario.name for word in words):
            with serving(PLAYERS * len(scenario.paths)) as (peer, process):
                os.sched_setaffinity(0, {int(CLIENT_CORE)})
                try:
                    yield from uvloop.run(follow(scenario, peer, process))
                finally:
                    os.sched_setaffinity(0, allowed)


if __name__ == "__main__":
    for figure in run(tuple(sys.argv[1:])):
        print(f"{figure.benchmark:36} {figure.value:10.2f} {figure.unit}")  # noqa: T201  # its purpose

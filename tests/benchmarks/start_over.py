"""What many cost who watch from a beginning that isn't in the live playlist any more.

``python -m tests.benchmarks.start_over [VIEWERS [SECONDS]]``. Somebody publishes to a channel with a DVR of
more than a day, of which the live playlist has three hours. All viewers wait for each part by one address.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.benchmarks.long_dvr import DAY, HOUR, LISTED, cpu_seconds, start
from tests.conftest import ServerProcess
from tests.long_dvr import LongDvr, make_long_dvr
from tests.made_once import VARIABLE
from tests.waiting import wait_for

DAYS = 1.3
BEGINS = {"the live edge": 0.0, "four hours": 4 * HOUR, "23 hours": 23 * HOUR}
FORMS = {"delta updates": "&_HLS_skip=YES", "whole playlists": ""}
PLAYLIST = "/live/long/720p/media.m3u8"
HINT = re.compile(r'PRELOAD-HINT:TYPE=PART,URI="(\d+)\.(\d+)\.m4s')
PUBLISHED = (
    "-nostdin -v error -re -f lavfi -i testsrc2=size=160x90:rate=25 -re -f lavfi -i sine=sample_rate=48000"
    " -c:v libx264 -preset ultrafast -tune zerolatency -g 48 -pix_fmt yuv420p -c:a aac -f mpegts -method PUT"
)
IDLE_SECONDS = 10.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.contextmanager
def publishing(server: ServerProcess) -> Iterator[None]:
    """Publish to the channel."""
    url = f"{server.url}/live/long/ingest?key=key"
    process = subprocess.Popen(["ffmpeg", *PUBLISHED.split(), url])
    try:
        wait_for(lambda: HINT.search(httpx.get(server.url + PLAYLIST).text), "parts")
        yield
    finally:
        process.kill()
        process.wait()


@dataclass
class Polls:
    """What viewers got, from the part on that was the next one."""

    newest: tuple[int, int]
    statuses: Counter[int] = field(default_factory=Counter)
    nbytes: int = 0
    times: list[float] = field(default_factory=list)


@contextlib.asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[Streams]:
    parts = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def newest_part(server: ServerProcess) -> tuple[int, int]:
    """Return the number and the index of the part that comes next."""
    found = HINT.search(httpx.get(server.url + PLAYLIST, timeout=60).text)
    assert found is not None
    return int(found[1]), int(found[2])


async def watch(server: ServerProcess, query: str, skip: str, until: float, polls: Polls) -> None:
    """Reload a playlist for each part until a time."""
    number, part = polls.newest
    async with connected(server) as (reader, writer):
        while time.monotonic() < until:
            target = f"{PLAYLIST}?{query}_HLS_msn={number}&_HLS_part={part}{skip}"
            head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n"
            asked = time.monotonic()
            writer.write(head.encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", answer, re.IGNORECASE)
            body = await reader.readexactly(int(length[1]) if length else 0)
            polls.nbytes += len(body)
            polls.times.append(time.monotonic() - asked)
            polls.statuses[int(answer.split()[1])] += 1
            part += 1
            if part == 6:
                number, part = number + 1, 0


async def measure(server: ServerProcess, viewers: int, seconds: float, begin: float) -> AsyncIterator[str]:
    """Yield a line for each way of reloading."""
    idle = cpu_seconds(server)
    await asyncio.sleep(IDLE_SECONDS)
    idle = (cpu_seconds(server) - idle) / IDLE_SECONDS
    query = f"start={time.time() - begin:.3f}&" if begin else ""
    for name, skip in FORMS.items():
        polls = Polls(await asyncio.to_thread(newest_part, server))
        until = time.monotonic() + seconds
        spent = cpu_seconds(server)
        await asyncio.gather(*(watch(server, query, skip, until, polls) for _ in range(viewers)))
        spent = cpu_seconds(server) - spent - idle * seconds
        count = polls.statuses[200]
        yield (
            f"{name}: {count} of {polls.statuses.total()} answers in {seconds:.0f} s,"
            f" {1000 * spent / max(count, 1):.2f} ms of CPU each,"
            f" {polls.nbytes / max(count, 1) / 1000:.0f} kB,"
            f" longest {max(polls.times, default=0):.1f} s"
        )


async def main(viewers: int, seconds: float) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="headwater-start-over-") as folder:
        os.environ.setdefault(VARIABLE, folder)
        place, now = Path(folder), time.time() - 30
        make_long_dvr(LongDvr(place / "data" / "live" / "long", now, DAYS * DAY, LISTED))
        for name, begin in BEGINS.items():
            server, _ = start(place, "2d", None)
            with publishing(server):
                async for line in measure(server, viewers, seconds, begin):
                    sys.stdout.write(f"{viewers} viewers, {name}, {line}\n")
                    sys.stdout.flush()
            server.stop()


if __name__ == "__main__":
    _viewers, _seconds, *_ = (*sys.argv[1:], *("100", "20")[len(sys.argv) - 1 :])
    asyncio.run(main(int(_viewers), float(_seconds)))

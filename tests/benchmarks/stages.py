"""From glass to glass: what each stage between a picture's being made and its being seen adds.

``python -m tests.benchmarks.stages`` prints the table. The test picture carries its clock as a row of black
and white squares, which ffmpeg draws when it makes a frame. The parts that a client got are decoded again, so
that each frame tells when it was made. The player is hls.js in Chromium on the page of a server of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from playwright.async_api import async_playwright

from media.mp4.fragments.fragments import Fragment, FragmentReader
from packager.ffmpeg import live as live_arguments
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.live.rendition_output import Feed
from packager.process.ffmpeg_discovery import Tools, discover
from packager.process.process import Process
from packager.window.model import LivePart
from packager.window.program_date_time import Instant
from packager.window.window import Window
from tests.benchmarks.load import Figure
from tests.conftest import start_server
from tests.e2e.conftest import launching, open_tab
from tests.live_server import broadcasting
from tests.waiting import wait_for

NAME = "live: stage"
BITS = 16
"""Bits of the picture's clock, which counts milliseconds: it turns over every 65 seconds."""

SQUARE = 16
RENDITION = "360p"
WARM_UP_SECONDS = 4
PARTS = 24
PIPE_LINES = 100
PLAYER_SAMPLES = 12
CONFIG = f'[[live]]\nname = "test"\nsource = "testsrc"\nladder = ["{RENDITION}"]\n'
TELL_TIME = (
    "import os,time\nfor _ in range({lines}):\n time.sleep(0.02)\n os.write({fd}, b'%.6f ' % time.time())"
)

Position = tuple[int, int]


@dataclass
class Log:
    """When what happened, in seconds since the epoch; parts by media sequence number and index.

    Attributes:
        read: each frame's being read from its pipe, by the ticks at its end.
        published: each part's date and its being published.
        released: when those who waited for it were told.
    """

    read: dict[int, float] = field(default_factory=dict)
    published: dict[Position, tuple[float, float]] = field(default_factory=dict)
    released: dict[Position, float] = field(default_factory=dict)


class Told:
    """Somebody who waits for a part."""

    def __init__(self, log: Log, position: Position) -> None:
        self._log = log
        self._position = position

    def release(self, holds: bool) -> None:
        """It has come."""
        del holds
        self._log.released[self._position] = time.time()


def with_clock(captioned: Any) -> Any:
    """Give what draws the captions, with the squares in the upper left corner."""

    def draw(picture: Any, name: str, top: Any) -> Any:
        found = captioned(picture, name, top)
        found = found.filter("drawbox", x=0, y=0, w=BITS * SQUARE, h=SQUARE, color="black", t="fill")
        for bit in range(BITS):
            shown = f"mod(floor(mod(time(0)*1000,{1 << BITS})/{1 << bit}),2)"
            where = {"x": bit * SQUARE, "y": 0, "w": SQUARE, "h": SQUARE}
            found = found.filter("drawbox", color="white", t="fill", enable=shown, **where)
        return found

    return draw


def watched(window: Window, log: Log) -> Callable[..., None]:
    """Give what publishes a window's parts and writes down when."""
    append = window.append

    def appending(part: LivePart, program_date_time: Fraction, *, ends_segment: bool) -> None:
        position = window.next_part
        append(part, program_date_time, ends_segment=ends_segment)
        log.published[position] = float(program_date_time), time.time()
        following = window.next_part
        window.waiters.add(Told(log, following), lambda: window.next_part > following, 30)

    return appending


def fetch(url: str, first: Position, window: Window) -> Iterator[tuple[Position, float, bytes]]:
    """Ask for part after part before it is there; give when each of them came."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    path, position = urlsplit(url).path, first
    for _ in range(PARTS):
        connection.request("GET", f"{path}/{RENDITION}/{position[0]}.{position[1]}.m4s")
        answer = connection.getresponse()
        data = answer.read()
        yield position, time.time(), data
        number, index = position
        position = (number, index + 1) if window.next_part[0] == number else (number + 1, 0)


def made(tools: Tools, init: bytes, parts: Sequence[bytes]) -> list[int]:
    """Decode parts, and read the clock of each frame: milliseconds, as far as there are bits."""
    shape = f"crop={BITS * SQUARE}:{SQUARE}:0:0,scale={BITS}:1:flags=area,format=gray"
    command = [str(tools.ffmpeg), "-v", "error", "-i", "pipe:0", "-vf", shape, "-f", "rawvideo", "pipe:1"]
    pixels = subprocess.run(command, input=b"".join((init, *parts)), capture_output=True, check=True).stdout
    rows = (pixels[at : at + BITS] for at in range(0, len(pixels), BITS))
    return [sum((pixel > 127) << bit for bit, pixel in enumerate(row)) for row in rows]


def samples(init: bytes, part: bytes) -> Fragment:
    """Take a part apart."""
    reader = FragmentReader()
    reader.receive_data(init + part)
    (fragment,) = [event for event in reader.events() if isinstance(event, Fragment)]
    return fragment


async def through_a_pipe() -> float:
    """Seconds from a child's writing to our having the bytes."""
    told: list[float] = []
    # The launcher gives the first output the descriptor 3.
    words = [sys.executable, "-c", TELL_TIME.format(lines=PIPE_LINES, fd=3)]
    process = await Process.start(words, sandbox=None)

    def receive(data: bytes) -> float:
        told.append(time.time() - float(data.split()[-1]))
        return 0.0

    await process.drain(0, receive)
    await process.stop()
    return statistics.median(told)


async def page_latency(folder: Path) -> float:
    """Seconds by which the page's picture is behind the dates of the playlist."""
    (folder / "headwater.toml").write_text(CONFIG)
    server = await asyncio.to_thread(
        start_server, "--config", str(folder / "headwater.toml"), "--library", str(folder), "--port", "0"
    )
    seen: list[float] = []
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(**launching())
            tab = await open_tab(browser, server.url)
            await tab.open("live/test")
            await tab.playing()
            await asyncio.sleep(WARM_UP_SECONDS)
            for _ in range(PLAYER_SAMPLES):
                await asyncio.sleep(0.5)
                stats = await tab.stats()
                if stats["wallLatency"] is not None:
                    seen.append(stats["wallLatency"])
            await browser.close()
    finally:
        await asyncio.to_thread(server.stop)
    return statistics.median(seen)


def stages(tools: Tools) -> dict[str, float]:
    """Seconds that each stage adds, medians; ``dated`` is how far the dates are from the picture's clock."""
    log, channel = Log(), Channel(ChannelOptions("test", ladder=(RENDITION,)), tools)
    window, take = channel.renditions[RENDITION].window, Feed.add

    def taking(feed: Feed, fragment: Fragment, now: Instant) -> bool:
        if feed._window is window:
            end = fragment.base_media_decode_time + sum(sample.duration for sample in fragment.samples)
            log.read[end] = now.wall
        return take(feed, fragment, now)

    with (
        mock.patch.object(window, "append", watched(window, log)),
        mock.patch.object(live_arguments, "_captioned", with_clock(live_arguments._captioned)),
        mock.patch.object(Feed, "add", taking),
        broadcasting(channel) as server,
    ):
        wait_for(lambda: channel.ready, what="the channel")
        time.sleep(WARM_UP_SECONDS)
        got = list(fetch(server.url, window.next_part, window))
        assert window.timeline is not None
        init = window.timeline.init
    clock = made(tools, init, [data for _, _, data in got])
    fragments = [samples(init, data) for _, _, data in got]
    ends = accumulate(len(fragment.samples) for fragment in fragments)
    found: dict[str, list[float]] = {}
    for (position, received, _), fragment, end in zip(got, fragments, ends, strict=True):
        read = log.read[fragment.base_media_decode_time + sum(one.duration for one in fragment.samples)]
        turn = (1 << BITS) / 1000
        first, last = (clock[at] / 1000 for at in (end - len(fragment.samples), end - 1))
        date, published = log.published[position]
        row = {
            "encoder": (read - last) % turn,
            "cut": published - read,
            "publish": log.released[position] - published,
            "wire": received - log.released[position],
            "dated": (date - first + turn / 2) % turn - turn / 2,
            "part": (last - first) % turn,
        }
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def run(words: Sequence[str] = ()) -> Iterator[Figure]:
    """Give the table."""
    if words and not any(word in NAME for word in words):
        return
    tools = asyncio.run(discover())
    pipe, found = asyncio.run(through_a_pipe()), stages(tools)
    with tempfile.TemporaryDirectory() as name:
        total = asyncio.run(page_latency(Path(name))) + found["dated"]
    there = found["encoder"] + found["cut"] + found["publish"] + found["wire"]
    table = {
        "encoder": found["encoder"] - pipe,
        "pipe": pipe,
        "cut": found["cut"],
        "publish": found["publish"],
        "wire": found["wire"],
        "a frame's wait for its part's last": found["part"] / 2,
        "player": total - there - found["part"] / 2,
        "glass to glass": total,
    }
    for stage, seconds in table.items():
        yield Figure(f"{NAME}: {stage}", "headwater", seconds * 1e3, "ms")


if __name__ == "__main__":
    for figure in run():
        print(f"{figure.benchmark:46} {figure.value:10.2f} {figure.unit}")  # noqa: T201  # its purpose

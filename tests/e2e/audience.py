"""Who watches a channel that has troubles: hls.js in a browser, and ffmpeg."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import RATE
from tests.e2e.conftest import SMALL, Tab, keep, open_tab
from tests.waiting import until

RECOVERY_SECONDS = 240.0
FRAMES = 2 * RATE
"""Of what comes behind a trouble, that a viewer must have played: two seconds."""

HOUR = 3600
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
START_SECONDS = 90.0
STARTS = 4
"""How often a server with a clock of its own is started, for so long each, before it counts as failed."""

STEP_SECONDS = 1
"""How long a process goes on by the time that it had, where the clock was set."""


@dataclass
class Spectator:
    """An ffmpeg that plays a channel, and how many frames it has decoded."""

    process: asyncio.subprocess.Process
    frames: int = 0

    async def count(self) -> None:
        """Note its progress until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.startswith(b"frame="):
                self.frames = int(line[6:])


@asynccontextmanager
async def spectator(tools: Tools, url: str) -> AsyncIterator[Spectator]:
    """Let ffmpeg play a channel; it asks as often as it takes for a playlist with something new."""
    command = [str(tools.ffmpeg), "-nostdin", "-v", "fatal", "-progress", "pipe:1", "-max_reload", "1000"]
    command += ["-i", url, "-map", "v:0", "-f", "null", "-"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    seen = Spectator(process)
    counting = asyncio.create_task(seen.count())
    try:
        yield seen
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await counting


@dataclass
class Audience:
    """Both viewers of a channel.

    Attributes:
        server: Whose channel it is.
        clock: A file with the seconds by which the server's clock is ahead.
        ahead: These seconds.
    """

    server: ServerProcess
    tab: Tab
    other: Spectator
    clock: Path
    ahead: int = 0

    async def plays_on(self) -> None:
        """Wait until both have played seconds of what came later than now, by the server's clock."""
        date = f"headwater.hls?.playingDate?.getTime() / 1000 > {time.time() + self.ahead + 2}"
        await self.tab.until(f"{date} && !headwater.video.paused", RECOVERY_SECONDS)
        await self.tab.playing(RECOVERY_SECONDS)
        assert await self.tab.value("window.sameDocument")
        frames = self.other.frames
        await until(lambda: self.other.frames > frames + FRAMES, "ffmpeg's playing", RECOVERY_SECONDS)

    async def plays_on_an_hour_later(self) -> None:
        """Set the server's clock an hour forward, and wait for the same; the steady clock is as it was."""
        self.ahead += HOUR
        self.clock.write_text(f"+{self.ahead}\n")
        await self.plays_on()


def start_usual(folder: Path) -> ServerProcess:
    """Start a server of the configuration in a folder."""
    return start_server("--config", "headwater.toml", cwd=folder)


def start_with_clock(folder: Path, clock: Path, env: Mapping[str, str] | None = None) -> ServerProcess:
    """Start a server whose clock is libfaketime's.

    That library locks a mutex wherever a thread waits with a time limit, which a forked child keeps for ever
    when it was locked just then; a server that forks for its first look at ffmpeg hangs so now and then.
    """
    (library,) = glob.glob(FAKETIME)
    stepped = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        # Asked each time, the file would keep the server and its ffmpegs busier than all else does.
        "FAKETIME_CACHE_DURATION": str(STEP_SECONDS),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        **(env or {}),
    }
    for _ in range(STARTS - 1):
        with contextlib.suppress(AssertionError):
            return start_server("--config", "headwater.toml", cwd=folder, env=stepped, seconds=START_SECONDS)
    return start_server("--config", "headwater.toml", cwd=folder, env=stepped, seconds=START_SECONDS)


@asynccontextmanager
async def watched(
    browser: Browser, tools: Tools, folder: Path, config: str, *, own_clock: bool = False
) -> AsyncIterator[Audience]:
    """Start a server of one channel, "test", and have it watched by both, who play.

    Args:
        browser: Where one of them watches.
        tools: The other is its ffmpeg.
        folder: Where the server starts.
        config: Its configuration.
        own_clock: Whether its clock can be set: each wait of a thread is dearer then.
    """
    (folder / "library").mkdir()
    (folder / "headwater.toml").write_text(config)
    clock = folder / "clock"
    clock.write_text("+0\n")
    start = partial(start_with_clock, folder, clock) if own_clock else partial(start_usual, folder)
    server = await asyncio.to_thread(start)
    try:
        tab = await open_tab(browser, server.url, viewport=SMALL)
        await tab.open("live/test")
        await tab.value("void (window.sameDocument = true)")
        await tab.playing(RECOVERY_SECONDS)
        async with spectator(tools, f"{server.url}/live/test/master.m3u8") as other:
            await until(lambda: other.frames > FRAMES, "ffmpeg's playing", RECOVERY_SECONDS)
            yield Audience(server, tab, other, clock)
            keep(folder.name, {"log": server.output, "player": await tab.stats()})
            await tab.page.context.close()
    finally:
        await asyncio.to_thread(server.stop)

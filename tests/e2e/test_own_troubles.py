"""A server's own troubles as viewers see them: hls.js and ffmpeg play on when there is media again."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess
from tests.copied_channel import film
from tests.e2e.audience import RECOVERY_SECONDS, Audience, watched
from tests.waiting import until, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

DISK_BYTES = 1 << 20
LEFT_BYTES = 8192
CONFIG = """
[server]
port = 0
data = "disk"

[[live]]
name = "test"
source = "{film}"
ladder = ["240p"]
part_duration = 0.5
segment_duration = 1.0
dvr = "1h"
"""


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a disk that a minute of a channel fills."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def audience(
    browser: Browser, tools: Tools, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Audience]:
    folder = tmp_path_factory.mktemp("own-troubles", numbered=False)
    with small_disk(folder / "disk"):
        async with watched(browser, tools, folder, CONFIG.format(film=film()), own_clock=True) as audience:
            yield audience


def fill(disk: Path) -> None:
    """Leave next to nothing of a disk; the channel writes there meanwhile."""
    with (disk / "others").open("wb") as file:
        while True:
            free = os.statvfs(disk)
            size = free.f_bavail * free.f_frsize - LEFT_BYTES
            if size <= 0:
                return
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                return


def troubles(server: ServerProcess) -> str:
    """What operators are told of the channel."""
    health = httpx.get(f"{server.url}/health", trust_env=False, timeout=RECOVERY_SECONDS).json()
    return str(health.get("troubles", {}).get("live/test", ""))


async def test_viewers_play_on_after_the_encoder_stopped_without_a_word(audience: Audience) -> None:
    stopped = await asyncio.to_thread(audience.server.encoder, b"-filter_complex")
    os.kill(stopped, signal.SIGSTOP)
    # Nobody lets it go on: it is the server that has to notice.
    await until(lambda: not Path(f"/proc/{stopped}").exists(), "the end of what hangs", RECOVERY_SECONDS)
    await audience.plays_on()


async def test_viewers_play_on_while_the_disk_is_full_and_operators_are_told(audience: Audience) -> None:
    disk = audience.clock.parent / "disk"
    fill(disk)
    await asyncio.to_thread(wait_for, lambda: "space" in troubles(audience.server), "the full disk")
    await audience.plays_on()
    await until(lambda: "DVR isn't kept" in audience.server.text(), "the log's line")


async def test_viewers_play_on_after_the_clock_was_set_forward(audience: Audience) -> None:
    await audience.plays_on_an_hour_later()

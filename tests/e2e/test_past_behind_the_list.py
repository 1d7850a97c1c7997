"""The past of a channel behind its live playlist: hls.js and Shaka play it like the rest."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import m3u8
import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.e2e.conftest import new_page
from tests.e2e.timed_film import opened
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

BEHIND = 25
"""Segments behind the first one that is listed that have left the windows, too."""

DELAY = BEHIND + 3
INTO = 0.5
SHIFT = 2.1
"""Seconds by which a player may begin later, or end before: a segment, and one that is being played."""

SEGMENTS = 6
LOADED = "performance.getEntriesByType('resource').map(entry => entry.name)"
PART = re.compile(r"/source/\d+\.\d+\.m4s$")
FAST = "video.playbackRate = 4; void video.play()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("past")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    """Serve a channel whose beginning isn't listed any more."""
    options = 'dvr = "1h"', 'playlist_window = "1s"', "segment_duration = 1.0", "part_duration = 0.25"
    (folder / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "data"\n{copied_channel("a", *options)}'
    )
    running = start_server(cwd=folder)
    first = wait_for(lambda: listed(running).media_sequence, "the channel")
    wait_for(
        lambda: (listed(running).media_sequence or 0) > first + BEHIND + SEGMENTS, "it has left the list"
    )
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.text()


def listed(server: ServerProcess) -> m3u8.M3U8:
    answer = httpx.get(f"{server.url}/live/a/source/media.m3u8", timeout=CLIENT_SECONDS)
    return m3u8.loads(answer.text if answer.status_code == 200 else "#EXTM3U\n")


def beginning(server: ServerProcess, folder: Path) -> float:
    """Return the date of a segment that isn't listed any more."""
    numbers = sorted(int(one.stem) for one in folder.glob("data/live/a/dvr/source/**/*.m4s"))
    assert numbers[2] < (listed(server).media_sequence or 0) - BEHIND
    newest = listed(server)
    ago = (newest.media_sequence or 0) - numbers[2]
    return float(newest.segments[0].program_date_time.timestamp() - ago)


async def test_hls_js_starts_over_before_the_list_and_goes_to_the_live_edge(
    server: ServerProcess, folder: Path, browser: Browser
) -> None:
    began = beginning(server, folder) + INTO
    page = await new_page(browser)
    async with opened(page, "hls.js", f"{server.url}/live/a/master.m3u8?start={began:.3f}") as watching:
        assert await page.evaluate("video.currentTime") == pytest.approx(INTO, abs=0.05)
        await page.evaluate(f"() => {{ {FAST} }}")
        await watching.until(f"video.currentTime > {SEGMENTS}")
        assert await page.evaluate("player.playingDate.getTime() / 1000 - video.currentTime") == (
            pytest.approx(began - INTO, abs=0.1)
        )
        await page.evaluate("video.playbackRate = 1")
        await page.evaluate("video.currentTime = player.liveSyncPosition")
        edge = await page.evaluate("player.liveSyncPosition")
        await watching.until(f"!video.seeking && video.currentTime > {edge} + 2")
        loaded = await page.evaluate(LOADED)
        assert (await watching.facts())["troubles"] == []
    assert any("_HLS_msn=" in one and "_HLS_skip=" in one and f"start={began:.3f}" in one for one in loaded)
    assert sum(bool(PART.search(one)) for one in loaded) > 2
    await page.close()


async def test_shaka_plays_a_growing_manifest_from_before_the_list_to_its_end(
    server: ServerProcess, folder: Path, browser: Browser
) -> None:
    began, end = beginning(server, folder), time.time() + 12
    page = await new_page(browser)
    url = f"{server.url}/live/a/manifest.mpd?start={began:.3f}&end={end:.3f}"
    async with opened(page, "shaka-player", url) as watching:
        # Times of the presentation are dates.
        assert await page.evaluate("video.currentTime") == pytest.approx(began, abs=SHIFT)
        await page.evaluate(f"() => {{ {FAST} }}")
        await watching.until(f"troubles.length || video.ended || video.currentTime > {end - SHIFT}")
        assert (await watching.facts())["troubles"] == []
    await page.close()


@pytest.mark.parametrize("kind", ["hls.js", "shaka-player"])
async def test_players_play_a_delayed_channel_that_is_behind_the_list(
    server: ServerProcess, browser: Browser, kind: str
) -> None:
    page = await new_page(browser)
    name = "master.m3u8" if kind == "hls.js" else "manifest.mpd"
    async with opened(page, kind, f"{server.url}/live/a/{name}?delay={DELAY}") as watching:
        await page.evaluate("void video.play()")
        begin = await page.evaluate("video.currentTime")
        # Longer than what the first playlist or manifest has.
        await watching.until(f"troubles.length || video.currentTime > {begin} + 8")
        assert (await watching.facts())["troubles"] == []
        # Times of the presentation of DASH are dates.
        playing = "player.playingDate.getTime() / 1000" if kind == "hls.js" else "video.currentTime"
        behind = await page.evaluate(f"Date.now() / 1000 - {playing}")
        assert behind > DELAY
        loaded = await page.evaluate(LOADED)
    assert any(f"delay={DELAY}" in one for one in loaded)
    await page.close()

"""A running programme from its beginning: players begin there, and go to the live edge if viewers want it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

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

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SEGMENTS = 12
DELAY = 6
SHIFT = 2.1
"""Seconds by which a player may begin later, or end before: a segment, and one that is being played."""

INTO = 0.5
"""Seconds of a segment behind whose beginning a span begins."""

LOADED = "performance.getEntriesByType('resource').map(entry => entry.name)"
PART = re.compile(r"/source/\d+\.\d+\.m4s$")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("past")
    channel = copied_channel("a", 'dvr = "1h"', "segment_duration = 1.0", "part_duration = 0.25")
    (folder / "headwater.toml").write_text(f'[server]\nport = 0\ndata = "data"\n{channel}')
    with start_server(cwd=folder) as running:
        wait_for(lambda: len(segments(running)) > SEGMENTS, "some segments")
        yield running


def segments(server: ServerProcess) -> list[m3u8.Segment]:
    answer = httpx.get(f"{server.url}/live/a/source/media.m3u8", timeout=CLIENT_SECONDS)
    text = answer.text if answer.status_code == 200 else "#EXTM3U\n"
    return [one for one in m3u8.loads(text).segments if one.uri]


async def test_hls_js_begins_where_the_span_does_and_plays_parts_at_the_live_edge(
    server: ServerProcess, browser: Browser
) -> None:
    began = segments(server)[2].program_date_time.timestamp() + INTO
    page = await new_page(browser)
    async with opened(page, "hls.js", f"{server.url}/live/a/master.m3u8?start={began:.3f}") as watching:
        assert await page.evaluate("video.currentTime") == pytest.approx(INTO, abs=0.05)
        await page.evaluate("void video.play()")
        await watching.until("video.currentTime > 1.5")
        assert await page.evaluate("player.playingDate.getTime() / 1000 - video.currentTime") == (
            pytest.approx(began - INTO, abs=0.05)
        )
        await page.evaluate("video.currentTime = player.liveSyncPosition")
        edge = await page.evaluate("player.liveSyncPosition")
        await watching.until(f"!video.seeking && video.currentTime > {edge} + 2")
        loaded = await page.evaluate(LOADED)
        assert (await watching.facts())["troubles"] == []
    playlists = [one for one in loaded if "/source/media.m3u8" in one]
    assert all(f"start={began:.3f}" in one for one in playlists)
    assert any("_HLS_msn=" in one and "_HLS_part=" in one for one in playlists)
    assert any("_HLS_skip=" in one for one in playlists)
    assert sum(bool(PART.search(one)) for one in loaded) > 2
    await page.close()


@pytest.mark.parametrize("kind", ["dashjs", "shaka-player"])
async def test_dash_players_play_a_running_span_from_its_beginning_to_its_end(
    server: ServerProcess, browser: Browser, kind: str
) -> None:
    began, end = segments(server)[2].program_date_time.timestamp(), time.time() + 12
    page = await new_page(browser)
    url = f"{server.url}/live/a/manifest.mpd?start={began:.3f}&end={end:.3f}"
    async with opened(page, kind, url) as watching:
        # Times of the presentation are dates.
        assert await page.evaluate("video.currentTime") == pytest.approx(began, abs=SHIFT)
        await page.evaluate("void video.play()")
        await page.evaluate("void (video.playbackRate = 4)")
        await watching.until(f"troubles.length || video.ended || video.currentTime > {end - SHIFT}")
        assert (await watching.facts())["troubles"] == []
    await page.close()


@pytest.mark.parametrize("kind", ["dashjs", "shaka-player"])
async def test_dash_players_play_a_channel_as_it_was(
    server: ServerProcess, browser: Browser, kind: str
) -> None:
    page = await new_page(browser)
    async with opened(page, kind, f"{server.url}/live/a/manifest.mpd?delay={DELAY}") as watching:
        await page.evaluate("void video.play()")
        begin = await page.evaluate("video.currentTime")
        await watching.until(f"troubles.length || video.currentTime > {begin} + 2")
        assert (await watching.facts())["troubles"] == []
        behind = await page.evaluate("Date.now() / 1000 - video.currentTime")
        assert behind > DELAY
    await page.close()

"""Players that wind through a span of the past show key frames of its I-frame playlist."""

from __future__ import annotations

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

SEGMENTS = 14
LOADED = "performance.getEntriesByType('resource').map(entry => entry.name)"


@pytest.fixture(scope="module")
def span(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a channel, and return the address of a span of it that is over."""
    folder = tmp_path_factory.mktemp("past")
    channel = copied_channel("a", 'dvr = "1h"', "segment_duration = 1.0", "part_duration = 0.25")
    (folder / "headwater.toml").write_text(f'[server]\nport = 0\ndata = "data"\n{channel}')
    with start_server(cwd=folder) as running:
        wait_for(lambda: len(dates(running)) > SEGMENTS, "some segments")
        known = dates(running)
        yield f"{running.url}/live/a/master.m3u8?start={known[1]:.3f}&end={known[SEGMENTS]:.3f}"


def dates(server: ServerProcess) -> list[float]:
    answer = httpx.get(f"{server.url}/live/a/source/media.m3u8", timeout=CLIENT_SECONDS)
    text = answer.text if answer.status_code == 200 else "#EXTM3U\n"
    return [one.program_date_time.timestamp() for one in m3u8.loads(text).segments if one.uri]


async def test_shaka_player_winds_by_the_key_frames(span: str, browser: Browser) -> None:
    page = await new_page(browser)
    async with opened(page, "shaka-player", span) as watching:
        await page.evaluate("void video.play()")
        await watching.until("troubles.length || video.currentTime > 0.5")
        await page.evaluate("void player.trickPlay(4)")
        await watching.until(f"troubles.length || video.ended || video.currentTime > {SEGMENTS - 2}")
        assert (await watching.facts())["troubles"] == []
        assert await page.evaluate("player.getStats().corruptedFrames") == 0
        assert any("/source/iframes.m3u8?" in one for one in await page.evaluate(LOADED))
    await page.close()


async def test_hls_js_plays_a_span_with_an_i_frame_playlist_as_without(span: str, browser: Browser) -> None:
    page = await new_page(browser)
    async with opened(page, "hls.js", span) as watching:
        await page.evaluate("void (video.playbackRate = 4)")
        await page.evaluate("void video.play()")
        await watching.until(f"troubles.length || video.ended || video.currentTime > {SEGMENTS - 2}")
        assert (await watching.facts())["troubles"] == []
    await page.close()

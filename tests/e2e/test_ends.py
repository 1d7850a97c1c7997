"""The end of a channel in hls.js where sound and picture end apart, as they do when an encoder is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route

from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import NUMBER, Track, on_air
from tests.e2e.conftest import new_page
from tests.e2e.watching import Watching

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

HLS_JS = Path(__file__).parents[2] / "player" / "vendor" / "hls.min.mjs"
SEGMENTS = 4

START = """
async (url) => {
  const { default: Hls } = await import("/hls.mjs");
  document.body.innerHTML = "<video muted autoplay width=320></video>";
  window.video = document.querySelector("video");
  window.troubles = [];
  window.stalls = 0;
  // The channel stands until the test goes on: that is no reason to give it up.
  const retry = { maxNumRetry: 1000, retryDelayMs: 500, maxRetryDelayMs: 500 };
  const { default: policy } = Hls.DefaultConfig.playlistLoadPolicy;
  window.hls = new Hls({
    lowLatencyMode: true,
    // Not by the clock, which goes on meanwhile: behind the end of the sound nothing ever comes.
    startPosition: 2,
    playlistLoadPolicy: { default: { ...policy, timeoutRetry: retry, errorRetry: retry } },
  });
  window.latency = () => hls.latency;
  hls.on(Hls.Events.ERROR, (_, data) => data.fatal && troubles.push(data.details));
  hls.loadSource(url);
  hls.attachMedia(video);
}
"""


async def follow(page: Page, address: tuple[str, int]) -> Watching:
    """Begin to watch the channel."""

    async def give(route: Route) -> None:
        await route.fulfill(path=HLS_JS, content_type="text/javascript")

    await page.route("**/hls.mjs", give)
    root = f"http://{address[0]}:{address[1]}"
    await page.goto(f"{root}/nothing")
    await page.evaluate(START, f"{root}/live/test/master.m3u8")
    watching = Watching(page)
    await watching.until("video.currentTime > 0 && video.readyState >= 2")
    return watching


@pytest.mark.parametrize(("pictures", "sounds"), [(1, 3), (3, 1)])
async def test_a_player_comes_to_the_end(
    browser: Browser, material: dict[str, Track], tools: Tools, tmp_path: Path, pictures: int, sounds: int
) -> None:
    with on_air(material, tools, tmp_path) as fed:
        for name, more in (("240p", pictures), ("audio", sounds)):
            while fed.channel.renditions[name].window.next_number < NUMBER + SEGMENTS:
                fed.publish(1, name)
            fed.publish(more, name)
        page = await new_page(browser)
        there = await follow(page, fed.address)
        fed.end()
        await there.until("video.ended")
        # And for who comes now.
        late = await follow(page, fed.address)
        await late.until("!hls.levels[0].details?.live")
        await page.evaluate("void (video.currentTime = video.duration - 1)")
        await late.until("video.ended")
        assert (await late.facts())["troubles"] == []
        await page.close()

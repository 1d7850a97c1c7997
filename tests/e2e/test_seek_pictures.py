"""What viewers see while they seek: thumbnails on the page, tiles and I-frames in dash.js and Shaka."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Route

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import new_page, open_tab
from tests.e2e.watching import Watching

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SECONDS = 45
SPRITE = re.compile(r"/vod/film\.mp4/thumbnails/v_[0-9a-f]{12}/0\.jpg$")

SHAKA = """
window.player = new shaka.Player();
window.troubles = [];
window.stalls = 0;
player.addEventListener('error', event => troubles.push(JSON.stringify(event.detail)));
window.latency = () => 0;
player.attach(video).then(() => player.load(MANIFEST)).catch(error => troubles.push(String(error.code)));
"""

DASHJS = """
window.player = dashjs.MediaPlayer().create();
window.troubles = [];
window.stalls = 0;
player.on('error', event => troubles.push(JSON.stringify(event.error)));
player.initialize(video, MANIFEST, true);
window.latency = () => 0;
"""


@pytest.fixture(scope="module")
def film_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("seeking")
    words = f"-f lavfi -i testsrc=size=320x180:rate=25:duration={SECONDS} -f lavfi -i sine=duration={SECONDS}"
    words += " -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50 -c:a aac"
    subprocess.run(["ffmpeg", "-v", "error", *words.split(), str(folder / "film.mp4")], check=True)
    with start_server("--library", str(folder), "--port", "0") as server:
        yield server


async def test_pictures_come_where_the_server_had_no_time_for_them_at_first(
    browser: Browser, film_server: ServerProcess
) -> None:
    tab = await open_tab(browser, film_server.url)
    asked: list[str] = []

    async def refuse_the_first(route: Route) -> None:
        asked.append(route.request.url)
        busy = len(asked) == 1
        await (route.fulfill(status=503, headers={"retry-after": "1"}) if busy else route.continue_())

    await tab.page.route("**/thumbnails.vtt", refuse_the_first)
    await tab.open("library")
    await tab.until("document.readyState === 'complete'")
    places = await tab.value(
        """(async () => {
            const { fetchThumbnails } = await import("/player/controls/thumbnailtrack.js");
            return (await fetchThumbnails("/vod/film.mp4/thumbnails.vtt")).length;
        })()"""
    )
    assert places == 5
    assert len(asked) > 1
    await tab.page.context.close()


async def test_the_page_shows_a_picture_over_its_seek_bar(
    browser: Browser, film_server: ServerProcess
) -> None:
    tab = await open_tab(browser, film_server.url)
    await tab.open("library/film.mp4?mode=hls")
    await tab.playing()
    box = await tab.page.locator("#seek-range").bounding_box()
    assert box is not None
    loaded = "document.getElementById('seek-picture').style.backgroundImage"
    for share, left in ((0.5, 2), (0.98, 4), (0.02, 0)):
        x = box["x"] + share * box["width"]
        await tab.page.mouse.move(x, box["y"] + box["height"] / 2)
        await tab.page.mouse.move(x + 1, box["y"] + box["height"] / 2)
        await tab.until(loaded)
        place = await tab.value("document.getElementById('seek-picture').style.backgroundPosition")
        assert place == f"{-left * 192}px 0px"
    address = await tab.value(f"{loaded}.slice(5, -2)")
    size = await tab.value(
        f"fetch('{address}').then(one => one.blob()).then(createImageBitmap)"
        ".then(one => [one.width, one.height])"
    )
    assert size == [5 * 192, 108]
    await tab.screenshot("thumbnails")
    await tab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await tab.until(f"Math.abs(headwater.video.currentTime - {SECONDS / 2}) < 4")
    await tab.page.context.close()
    assert tab.troubles == []


@pytest.mark.parametrize("manifest", ["manifest.mpd", "master.m3u8"])
async def test_shaka_winds_by_the_i_frames_and_shows_the_tiles(
    browser: Browser, film_server: ServerProcess, manifest: str
) -> None:
    page = await new_page(browser)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{film_server.url}/health")
    watching = Watching(page)
    await watching.play("shaka-player", SHAKA, f"{film_server.url}/vod/film.mp4/{manifest}")
    assert not any(url.endswith("iframes.mp4") for url in asked)
    assert await page.evaluate("player.getImageTracks().length") == 1
    thumbnail = await page.evaluate(
        "player.getThumbnails(player.getImageTracks()[0].id, 25).then(one => ({...one, uris: one.uris}))"
    )
    assert (thumbnail["width"], thumbnail["height"]) == (192, 108)
    assert (thumbnail["positionX"], thumbnail["positionY"]) == (2 * 192, 0)
    assert SPRITE.search(thumbnail["uris"][0])
    await page.evaluate("player.trickPlay(4, true)")
    await watching.until("video.currentTime > 20")
    assert any(url.endswith("iframes.mp4") for url in asked)
    assert await page.evaluate("troubles") == []
    await page.close()


@pytest.mark.parametrize("manifest", ["manifest.mpd", "master.m3u8"])
async def test_shaka_winds_within_a_clip(browser: Browser, film_server: ServerProcess, manifest: str) -> None:
    page = await new_page(browser)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{film_server.url}/health")
    watching = Watching(page)
    address = f"{film_server.url}/vod/film.mp4/{manifest}?start=5.5&end=35.5"
    await watching.play("shaka-player", SHAKA, address)
    assert not any("/iframes-" in url for url in asked)
    assert await page.evaluate("video.duration") == pytest.approx(30, abs=0.1)
    await page.evaluate("player.trickPlay(4, true)")
    await watching.until("video.currentTime > 20")
    assert any("/iframes-" in url for url in asked)
    assert await page.evaluate("troubles") == []
    await page.close()


async def test_dash_js_shows_the_tiles_and_plays_no_i_frames_by_itself(
    browser: Browser, film_server: ServerProcess
) -> None:
    page = await new_page(browser)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{film_server.url}/health")
    watching = Watching(page)
    await watching.play("dashjs", DASHJS, f"{film_server.url}/vod/film.mp4/manifest.mpd")
    await page.evaluate("player.provideThumbnail(25, one => { window.thumbnail = one; })")
    thumbnail = await watching.until("window.thumbnail")
    assert (thumbnail["x"], thumbnail["y"], thumbnail["width"], thumbnail["height"]) == (384, 0, 192, 108)
    assert SPRITE.search(thumbnail["url"])
    assert not any(url.endswith("iframes.mp4") for url in asked)
    assert await page.evaluate("troubles") == []
    await page.close()

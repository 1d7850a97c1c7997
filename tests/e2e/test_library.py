"""Files on the page: as they are, adaptive, and those that can't be played."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Response

from packager.library.demo_media import cache_folder, folder
from packager.process.tools import Tools
from tests import demo_media
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import Tab, keep, looks, open_tab, quiet_tab

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

REAL_TIME = (0.85, 1.15)
MOST_DROPPED = 0.2
"""Share of frames that a machine with two shared cores may lose."""

THROTTLE_BYTES_PER_SECOND = 112_500
"""900 kbit/s: enough for the lowest rendition with its sound, too little for the one above."""

SWITCH_SECONDS = 240.0

NOTE_THE_PLACE = """void document.getElementById("modes").addEventListener(
  "change", () => { window.left = headwater.video.currentTime; }, { capture: true, once: true })"""
"""Notes where the video was when the other way was chosen."""


@pytest.fixture(scope="module")
def films_server(tools: Tools) -> Iterator[ServerProcess]:
    """A server of the demo's films, without its channel, whose encoder takes a third of a core."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(lambda: asyncio.run(demo_media.make())).result()
    films = folder(cache_folder(), tools) / "library"
    server = start_server("--library", str(films), "--port", "0")
    yield server
    server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, films_server: ServerProcess) -> AsyncIterator[Tab]:
    async with quiet_tab(browser, films_server.url) as tab:
        yield tab


async def test_a_file_plays_as_it_is_and_a_seek_makes_a_range_request(tab: Tab) -> None:
    starts: list[int] = []

    def seen(response: Response) -> None:
        match = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
        if response.status == 206 and response.url.endswith("/media/film.720p.mp4") and match:
            starts.append(int(match[1]))

    tab.page.on("response", seen)
    await tab.open("library/film.720p.mp4?mode=file")
    await tab.playing()
    assert await tab.value("headwater.hls") is None
    size = await tab.value("headwater.video.duration")
    starts.clear()
    await tab.value(f"void (headwater.video.currentTime = {size} - 12)")
    await tab.until(f"!headwater.video.seeking && headwater.video.currentTime > {size} - 11")
    assert any(start > 0 for start in starts)
    await tab.screenshot("library-file")


async def test_the_moov_box_at_the_end_doesnt_matter(tab: Tab) -> None:
    await tab.open("library")
    paths = await tab.until(
        "(all => all.length && all)([...document.querySelectorAll('a.row')].map(row => row.dataset.path))"
    )
    others = [path for path in paths if not path.startswith("film")]
    assert others
    await tab.open(f"library/{others[0]}?mode=file")
    await tab.playing()


async def test_the_same_file_goes_on_adaptively_where_it_was(tab: Tab) -> None:
    await tab.open("library/film.480p.mp4?mode=file&t=20")
    await tab.playing()
    await tab.until("headwater.video.currentTime > 22")
    await tab.value(NOTE_THE_PLACE)
    await tab.page.get_by_role("radio", name="Adaptive").check(force=True)
    await tab.until("headwater.stats().mode === 'hls' && headwater.video.currentTime > 21")
    await tab.playing()
    left, began = await tab.value("[left, headwater.video.played.start(0)]")
    # Neither from the beginning nor from where the address says; where the page was slow it played on.
    assert left - 0.5 < began < left + 15
    assert "mode=hls" in tab.page.url


async def test_an_adaptive_title_plays_at_real_time_without_a_storm_of_dropped_frames(tab: Tab) -> None:
    for _ in looks():
        # From the beginning: the film is short.
        await tab.open("library/film?mode=hls")
        await tab.playing()
        before = await tab.stats()
        pace = await tab.pace("video", 4)
        after = await tab.stats()
        decoded = after["decoded"] - before["decoded"]
        dropped = after["dropped"] - before["dropped"]
        keep("adaptive-playback", {"pace": pace, "decoded": decoded, "dropped": dropped, **after})
        at_real_time = REAL_TIME[0] < pace < REAL_TIME[1] and decoded > 4 * 20
        if at_real_time and dropped < MOST_DROPPED * decoded:
            break
    assert REAL_TIME[0] < pace < REAL_TIME[1]
    assert decoded > 4 * 20
    assert dropped < MOST_DROPPED * decoded
    await tab.until("headwater.stats().bandwidth > 0 && headwater.stats().levels === 3")
    await tab.screenshot("library-adaptive")


async def test_the_level_follows_the_connection_down_and_up_again(tab: Tab) -> None:
    await tab.open("library/film?mode=hls&level=0&buffer=5")
    # It isn't over before a busy machine has done with it.
    await tab.value("void (headwater.video.loop = true)")
    await tab.until("headwater.stats().level === 2", SWITCH_SECONDS)
    devtools = await tab.page.context.new_cdp_session(tab.page)
    limits = {"offline": False, "latency": 20, "uploadThroughput": -1}
    await devtools.send(
        "Network.emulateNetworkConditions", {**limits, "downloadThroughput": THROTTLE_BYTES_PER_SECOND}
    )
    await tab.until("headwater.stats().level < 2", SWITCH_SECONDS)
    await tab.screenshot("library-throttled")
    await devtools.send("Network.emulateNetworkConditions", {**limits, "downloadThroughput": -1})
    # hls.js takes minutes to believe in a link that got better: its estimate is put right by hand.
    await tab.value("void (headwater.hls.bandwidthEstimate = 20e6)")
    await tab.until("headwater.stats().level === 2", SWITCH_SECONDS)
    assert await tab.value("headwater.stats().automatic")


async def test_a_chosen_quality_stays(tab: Tab) -> None:
    await tab.open("library/film?mode=hls")
    await tab.playing()
    await tab.page.get_by_label("Quality").select_option("240p")
    await tab.until("headwater.stats().level === 0 && headwater.video.videoHeight === 240")
    assert await tab.value("headwater.stats().automatic") is False


@pytest.fixture
def own_films(own_library: Path) -> Iterator[ServerProcess]:
    server = start_server("--library", str(own_library), "--port", "0")
    yield server
    server.stop()


async def test_what_a_browser_cant_play_is_listed_with_its_reason(
    browser: Browser, own_films: ServerProcess
) -> None:
    tab = await open_tab(browser, own_films.url)
    await tab.open("library")
    row = tab.page.locator(".row.off")
    await row.wait_for()
    assert "old <b>film.avi" in await row.inner_text()
    assert len(await row.locator(".quiet").inner_text()) > 10
    assert await row.locator("a, button").count() == 0
    assert await tab.page.locator("a.row", has_text="clip.mp4").count() == 1
    await tab.screenshot("library-own")
    await tab.page.context.close()
    assert tab.troubles == []


COME_BACK = "document.dispatchEvent(new Event('visibilitychange'))"
"""What a tab hears that is looked at again."""


async def test_a_large_library_is_shown_a_page_at_a_time(
    browser: Browser, tools: Tools, tmp_path: Path
) -> None:
    for number in range(450):
        (tmp_path / f"{number:03}.mp4").write_bytes(b"no film")
    # Looking into each is another test's subject: what says at once that it can't read them does here.
    env = {"FFMPEG": str(tools.ffmpeg), "FFPROBE": "false"}
    server = start_server("--library", str(tmp_path), "--port", "0", env=env)
    try:
        tab = await open_tab(browser, server.url)
        rows = "document.querySelectorAll('#panel-library li').length"
        await tab.open("library")
        await tab.until(f"{rows} === 200")
        more = tab.page.get_by_role("button", name="Show more")
        await more.click()
        await tab.until(f"{rows} === 400")
        await more.click()
        await tab.until(f"{rows} === 450")
        assert await more.is_hidden()
        # A new file appears by itself, and what is loaded stays so.
        (tmp_path / "new.mp4").write_bytes(b"no film")
        await tab.until(f"{rows} === 451")
        # An address leads to a file of a page that isn't loaded.
        await tab.page.reload()
        await tab.until(f"{rows} === 200")
        await tab.page.evaluate("location.hash = 'library/449.mp4'")
        await tab.until('document.body.innerText.includes("449.mp4 can\'t be played here")')
        await tab.page.evaluate("location.hash = 'library/450.mp4'")
        await tab.until("document.body.innerText.includes('isn\\'t in the library')")
        # The folder goes, and comes back.
        tmp_path.rename(tmp_path.with_name("elsewhere"))
        # Whoever comes back to the page needn't wait until it asks by itself.
        await tab.until(
            f"({COME_BACK}, document.getElementById('notice').textContent.includes('be read now'))"
        )
        tmp_path.with_name("elsewhere").rename(tmp_path)
        await tab.until("document.getElementById('notice').hidden")
        await tab.page.context.close()
    finally:
        server.stop()

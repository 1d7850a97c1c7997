"""Files on the page: as they are, adaptive, and those that can't be played."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Response, expect

from packager.library.demo_media import cache_folder, folder
from packager.process.ffmpeg_discovery import Tools
from tests.conftest import START_SECONDS, ServerProcess, start_server
from tests.e2e.conftest import ENCODE, Tab, keep, looks, open_tab, quiet_tab
from tests.run_journal import Figures

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

REAL_TIME = (0.85, 1.15)
RATE = 30
"""Frames per second of the demo's film."""

MOST_DROPPED = 0.2
"""Share of frames that may be lost, beyond that of a file."""

THROTTLE_BYTES_PER_SECOND = 112_500
"""900 kbit/s: enough for the lowest rendition with its sound, too little for the one above."""

SWITCH_SECONDS = 240.0

NOTE_THE_PLACE = """void document.getElementById("modes").addEventListener(
  "change", () => { window.left = headwater.video.currentTime; }, { capture: true, once: true })"""
"""Notes where the video was when the other way was chosen."""


@pytest.fixture(scope="module")
def films_server(tools: Tools) -> Iterator[ServerProcess]:
    """A server of the demo's films, without its channel, whose encoder takes a third of a core."""
    # In a process of its own: it looks for files in an event loop, which no test may.
    found = {"FFMPEG": str(tools.ffmpeg), "FFPROBE": str(tools.ffprobe)}
    command = [sys.executable, "-m", "tests.demo_media"]
    subprocess.run(command, env={**os.environ, **found}, check=True, timeout=START_SECONDS)
    films = folder(cache_folder(), tools) / "library"
    with start_server("--library", str(films), "--port", "0") as server:
        yield server


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
    others = [path for path in paths if path.endswith(".mp4") and not path.startswith("film")]
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


@dataclass(frozen=True)
class Playback:
    """How a film has been played for a while.

    Attributes:
        pace: media time over wall time.
        rate: frames decoded in a second of media time.
        dropped: share of them that weren't shown.
    """

    pace: float
    rate: float
    dropped: float


async def playback(tab: Tab, address: str) -> Playback:
    """Look at the begin of a film; the demo's is short."""
    await tab.open(address)
    await tab.playing()
    before = await tab.stats()
    pace = await tab.pace("video", 4)
    after = await tab.stats()
    decoded = after["decoded"] - before["decoded"]
    dropped = after["dropped"] - before["dropped"]
    seconds = after["currentTime"] - before["currentTime"]
    keep("adaptive-playback", {"pace": pace, "decoded": decoded, "dropped": dropped, **after})
    return Playback(pace, decoded / seconds, dropped / decoded)


@pytest.mark.realtime
async def test_an_adaptive_title_plays_at_real_time_without_a_storm_of_dropped_frames(
    tab: Tab, figures: Figures
) -> None:
    """On a machine that is too slow for that, no worse than the largest of its files plays as it is."""
    as_it_is = Playback(1.0, RATE, 0.0)
    for _ in looks():
        adaptive = await playback(tab, "library/film?mode=hls")
        at_real_time = REAL_TIME[0] * as_it_is.pace < adaptive.pace < REAL_TIME[1]
        most_dropped = as_it_is.dropped + MOST_DROPPED
        if at_real_time and adaptive.dropped < most_dropped:
            break
        as_it_is = await playback(tab, "library/film.720p.mp4?mode=file")
    figures.judge(at_real_time, f"not at real time: {adaptive}, {as_it_is}")
    figures.judge(adaptive.dropped < most_dropped, f"too many dropped frames: {adaptive}, {as_it_is}")
    figures.judge(adaptive.rate > 0.8 * RATE, f"{adaptive.rate:.1f} frames a second of {RATE}")
    await tab.open("library/film?mode=hls")
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
    await (await tab.setting("Quality")).select_option("240p")
    await tab.until("headwater.stats().level === 0 && headwater.video.videoHeight === 240")
    assert await tab.value("headwater.stats().automatic") is False


@pytest.fixture
def own_films(own_library: Path) -> Iterator[ServerProcess]:
    # Where films are encoded, all of these play.
    with start_server("--library", str(own_library), "--port", "0", env={ENCODE: "off"}) as server:
        yield server


async def test_what_a_browser_cant_play_is_listed_with_its_reason(
    browser: Browser, own_films: ServerProcess
) -> None:
    tab = await open_tab(browser, own_films.url)
    await tab.open("library")
    row = tab.page.locator(".row.off")
    await row.wait_for()
    assert "old <b>film.avi" in await row.inner_text()
    assert "doesn't play MPEG-4 Part 2" in await row.locator(".quiet").inner_text()
    assert await tab.page.locator("a.row", has_text="clip.mp4").count() == 1
    await tab.screenshot("library-own")
    # It is the browser that says so: whoever knows better may try, and can have the file in any case.
    await row.click()
    await tab.until("document.getElementById('status').textContent.includes('doesn\\'t play')")
    download = tab.page.get_by_role("link", name="Download")
    assert await download.get_attribute("href") == "/media/old%20%3Cb%3Efilm.avi"
    await tab.page.get_by_role("link", name="Play anyway").click()
    await tab.until("document.getElementById('status').textContent.includes('can\\'t play this file')")
    await tab.page.locator("a.row", has_text="clip.mp4").click()
    await tab.playing()
    assert await download.get_attribute("href") == "/media/clip.mp4"
    assert await tab.page.get_by_role("link", name="Play anyway").count() == 0
    await tab.page.context.close()
    assert tab.troubles == []


COME_BACK = """(performance.now() < window.cameBack + 1000
  || (window.cameBack = performance.now(), document.dispatchEvent(new Event("visibilitychange"))))"""
"""What a tab hears that is looked at again: once a second, as all files are listed anew each time."""


ROWS = "document.querySelectorAll('#panel-library li').length"
PANEL = "document.getElementById('panel-library')"
NAMES = "[...document.querySelectorAll('#panel-library .row .name')].map(name => name.textContent)"
LOADED = f"{ROWS} > 5 && {NAMES}.every(name => name !== '…')"
MANY = 30_000
MOST_ROWS = 60
"""Rows that exist at a time, of all that there are."""

SCROLLER = "document.querySelector('#panel-library .scroller')"


@pytest.fixture(scope="module")
def many_server(
    tools: Tools, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, Path]]:
    """A server of a library of so many files that no page shows them all."""
    root = tmp_path_factory.mktemp("many")
    (root / "a folder").mkdir()
    (root / "a folder" / "inside.mp4").write_bytes(b"no film")
    (root / "0.mp4").write_bytes(b"no film")
    for number in range(1, MANY):
        # More names of one file: to make so many and to delete them keeps a file system busy for seconds.
        (root / f"{number}.mp4").hardlink_to(root / "0.mp4")
    # Looking into each is another test's subject: what says at once that it can't read them does here.
    env = {"FFMPEG": str(tools.ffmpeg), "FFPROBE": "false"}
    with start_server("--library", str(root), "--port", "0", env=env) as server:
        yield server, root


async def test_thirty_thousand_files_are_a_list_of_which_only_what_is_seen_exists(
    browser: Browser, many_server: tuple[ServerProcess, Path]
) -> None:
    server, _ = many_server
    tab = await open_tab(browser, server.url)
    await tab.open("library")
    await tab.until(LOADED)
    # The folder comes first, then names by the values of their numbers.
    assert (await tab.value(NAMES))[:4] == ["a folder", "0.mp4", "1.mp4", "2.mp4"]
    assert f"{MANY + 1:,} items" in await tab.page.locator("#panel-library").inner_text()
    await tab.value(f"void ({SCROLLER}.scrollTop = {SCROLLER}.scrollHeight)")
    await tab.until(f"{LOADED} && {NAMES}.includes('{MANY - 1}.mp4')")
    assert await tab.value(ROWS) < MOST_ROWS
    # What is typed is found, and an order is chosen.
    await tab.page.get_by_role("searchbox").fill("2999")
    await tab.until(f"{LOADED} && {NAMES}[0] === '2999.mp4' && {NAMES}.length === 13")
    await tab.page.get_by_label("Sort by").select_option("Name, from Z")
    await tab.until(f"{LOADED} && {NAMES}[0] === '29999.mp4'")
    await tab.page.get_by_role("searchbox").fill("no such film")
    await tab.until(f"{ROWS} === 0 && document.body.innerText.includes('Nothing here is called')")
    await tab.page.context.close()
    assert tab.troubles == []


async def test_the_page_says_that_others_search_and_asks_again(
    browser: Browser, films_server: ServerProcess
) -> None:
    tab = await open_tab(browser, films_server.url)
    line = "Too many others search or sort the library now."
    busy = {"status": 503, "content_type": "text/plain; charset=utf-8", "body": f"{line}\n"}
    await tab.page.route("**/api/library?*", lambda route: route.fulfill(**busy))
    await tab.open("library")
    notice = await tab.until("document.getElementById('notice').textContent")
    assert notice == f"{line} This page goes on asking."
    await tab.page.unroute("**/api/library?*")
    await tab.until("document.getElementById('notice').hidden && document.querySelector('a.row') !== null")
    await tab.page.context.close()


async def test_an_address_leads_to_a_row_far_down_and_a_folder_has_its_own(
    browser: Browser, many_server: tuple[ServerProcess, Path]
) -> None:
    server, root = many_server
    tab = await open_tab(browser, server.url)
    await tab.open("library/23456.mp4")
    await tab.until(f"{NAMES}.includes('23456.mp4')")
    await tab.until('document.body.innerText.includes("23456.mp4 can\'t be played here")')
    await tab.page.evaluate("location.hash = 'library/a folder/'")
    await tab.until(f"{NAMES}.join() === 'inside.mp4'")
    await tab.page.get_by_role("navigation", name="Folders").get_by_text("Library").click()
    await tab.until(f"{NAMES}[0] === 'a folder'")
    await tab.page.evaluate("location.hash = 'library/450.avi'")
    await tab.until("document.body.innerText.includes('isn\\'t in the library')")
    # A new file appears by itself.
    (root / "0 new.mp4").write_bytes(b"no film")
    await tab.until(f"({COME_BACK}, {NAMES}.includes('0 new.mp4'))")
    # The folder goes, and comes back: whoever comes back to the page needn't wait until it asks by itself.
    root.rename(root.with_name("elsewhere"))
    await tab.until(f"({COME_BACK}, document.getElementById('notice').textContent.includes('be read now'))")
    root.with_name("elsewhere").rename(root)
    await tab.until("document.getElementById('notice').hidden")
    await tab.page.context.close()


async def test_a_click_far_down_brings_the_picture_into_view_on_a_phone(
    browser: Browser, films_server: ServerProcess
) -> None:
    tab = await open_tab(browser, films_server.url, viewport={"width": 360, "height": 500}, has_touch=True)
    await tab.open("library")
    last = tab.page.locator("a.row", has_text="mandelbrot.mp4")
    await tab.until(f"({PANEL}.scrollIntoView({{ block: 'end' }}), {NAMES}.includes('mandelbrot.mp4'))")
    assert await tab.value("headwater.video.getBoundingClientRect().bottom") < 0
    await last.click()
    await tab.playing()
    await tab.until("headwater.video.getBoundingClientRect().top > -1")
    await tab.page.context.close()
    assert tab.troubles == []


async def test_the_keys_of_video_sites_move_the_film(tab: Tab) -> None:
    await tab.open("library/mandelbrot.mp4?mode=file")
    await tab.playing()
    keyboard = tab.page.keyboard
    await keyboard.press("k")
    await tab.until("headwater.video.paused")
    for key, place in (("5", 20), ("l", 30), ("ArrowLeft", 25), ("j", 15), ("ArrowRight", 20), ("0", 0)):
        await keyboard.press(key)
        await tab.until(f"Math.abs(headwater.video.currentTime - {place}) < 0.2")
    await keyboard.press("m")
    await tab.until("headwater.video.muted")
    await keyboard.press("ArrowDown")
    await tab.until("Math.abs(headwater.video.volume - 0.95) < 0.001")
    await keyboard.press("?")
    await tab.page.get_by_role("dialog", name="Keys").wait_for()
    await keyboard.press("Escape")
    await tab.until("!document.querySelector('dialog').open")
    # In a field they are letters.
    await keyboard.press("/")
    await tab.until("document.activeElement.id === 'search'")
    await keyboard.type("mk 0")
    await tab.until("document.getElementById('search').value === 'mk 0'")
    assert await tab.value("headwater.video.muted && headwater.video.paused")
    await tab.page.get_by_role("searchbox").fill("")
    # A picture of each film's storyboard is in its row.
    await tab.until("document.querySelectorAll('canvas.drawn').length >= 4")
    await tab.value("void document.activeElement.blur()")
    await keyboard.press(" ")
    await tab.playing()
    # The last one: a browser may take no keys while its window changes.
    await keyboard.press("f")
    await tab.until("document.fullscreenElement !== null")


async def test_a_search_says_in_which_folder_an_item_is(tab: Tab) -> None:
    await tab.open("library")
    (song, *_) = await tab.value("fetch('/api/library?folder=music').then((answer) => answer.json())")
    facts = tab.page.locator(f'a.row[data-path="{song["path"]}"] .quiet')
    await tab.page.get_by_role("searchbox").fill(song["name"])
    await expect(facts).to_have_text(re.compile("^music · "))
    await tab.page.get_by_role("searchbox").fill("")
    await tab.open("library/music/")
    await expect(facts).to_have_text(re.compile("^(?!music · )."))

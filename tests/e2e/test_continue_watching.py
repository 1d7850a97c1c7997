"""The page goes on where a film was left, and with the next one of its folder."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import Tab, open_tab, quiet_tab

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

EPISODES = ("Episode 1.mp4", "Episode 2.mp4", "Episode 10.mp4")
SECONDS = 60
EPISODE = f"-f lavfi -i testsrc2=size=160x90:rate=10 -f lavfi -i sine=440 -t {SECONDS}"
CODECS = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 20 -c:a aac"

LEFT = "JSON.parse(localStorage['headwater.left'] ?? '[]')"
TITLE = "document.getElementById('title').textContent"
ENDS = "void (headwater.video.currentTime = headwater.video.duration - 0.5)"
PLAYED_FROM = """(({ played }) => played.length > 0 && played.end(0) > played.start(0) + 0.5
  && played.start(0))(headwater.video)"""
CUT_OFF = """(selector) => [...document.querySelectorAll(selector)]
  .filter((element) => element.offsetWidth > 0).map((element) => element.getBoundingClientRect())
  .filter(({ left, right }) => left < 0 || right > innerWidth).length"""


@pytest.fixture(scope="module")
def films(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root: Path = tmp_path_factory.mktemp("continued")
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error"]
    (root / "Series").mkdir()
    (root / "Music").mkdir()
    first = root / "Series" / EPISODES[0]
    subprocess.run([*command, *EPISODE.split(), *CODECS.split(), str(first)], check=True)
    for name in EPISODES[1:]:
        (root / "Series" / name).write_bytes(first.read_bytes())
    for number in (1, 2, 10):
        words = f"-f lavfi -i sine={300 * number} -t 3 -c:a libmp3lame".split()
        subprocess.run([*command, *words, str(root / "Music" / f"{number}.mp3")], check=True)
    # What isn't of their kind doesn't follow them.
    (root / "Music" / "3.mp4").write_bytes(first.read_bytes())
    with start_server("--library", str(root), "--port", "0") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, films: ServerProcess) -> AsyncIterator[Tab]:
    async with quiet_tab(browser, films.url) as tab:
        yield tab


async def leave_at(tab: Tab, name: str, seconds: int, mode: str = "file") -> None:
    await tab.open(f"library/Series/{name}?mode={mode}")
    await tab.playing()
    await tab.value(f"void (headwater.video.currentTime = {seconds})")
    await tab.until(f"headwater.video.currentTime > {seconds} && !headwater.video.seeking")
    await tab.page.goto("about:blank")


@pytest.mark.parametrize("mode", ["file", "hls"])
async def test_a_film_goes_on_where_it_was_left_or_begins_anew(tab: Tab, mode: str) -> None:
    await leave_at(tab, EPISODES[1], 30, mode)
    await tab.open("library")
    card = tab.page.get_by_role("region", name="Continue watching").get_by_role("link")
    await card.wait_for()
    assert EPISODES[1] in await card.inner_text()
    # It plays on until the page is left.
    assert re.search("0:[3-5][0-9] of 1:00", await card.inner_text())
    await tab.until("document.querySelector('.continue canvas.drawn')")
    await tab.screenshot(f"continue-{mode}")
    await card.click()
    await tab.until(f"{TITLE} === '{EPISODES[1]}'")
    assert await tab.until(PLAYED_FROM) >= 29
    await tab.page.get_by_role("button", name="From the beginning").click()
    await tab.until("!headwater.video.seeking && headwater.video.currentTime < 20")
    assert await tab.value(LEFT) == []
    assert not await tab.page.get_by_role("button", name="From the beginning").is_visible()


async def test_what_was_left_is_forgotten_by_hand_and_when_it_is_gone(tab: Tab) -> None:
    await tab.open("library")
    gone = [{"path": f"gone/{number}.mp4", "name": "gone", "at": 20, "duration": 60} for number in range(60)]
    await tab.page.evaluate("left => void (localStorage['headwater.left'] = JSON.stringify(left))", gone)
    await leave_at(tab, EPISODES[0], 20)
    await tab.open("library")
    left: list[dict[str, Any]] = await tab.value(LEFT)
    assert (len(left), left[0]["path"]) == (40, f"Series/{EPISODES[0]}")
    await tab.page.get_by_role("button", name=f"Forget {EPISODES[0]}").click()
    assert (await tab.value(LEFT))[0]["path"] == "gone/0.mp4"
    await tab.page.get_by_role("link", name="gone").first.click()
    await tab.until("document.getElementById('facts').textContent.includes('isn\\'t in the library')")
    assert (await tab.value(LEFT))[0]["path"] == "gone/1.mp4"


async def test_the_next_episode_is_offered_and_begins_by_itself_unless_that_is_cancelled(tab: Tab) -> None:
    await tab.open(f"library/Series/{EPISODES[1]}")
    await tab.playing()
    await tab.value(ENDS)
    offer = tab.page.get_by_role("group", name="What follows")
    await offer.wait_for()
    # As people count, and not by letters.
    assert EPISODES[2] in await offer.inner_text()
    assert await tab.value(LEFT) == []
    await tab.screenshot("next-episode")
    await offer.get_by_role("button", name="Cancel").click()
    await offer.wait_for(state="hidden")
    assert await tab.value("headwater.video.ended")
    # Played again to its end, it is offered again.
    await tab.open(f"library/Series/{EPISODES[0]}")
    await tab.playing()
    await tab.value(ENDS)
    await offer.get_by_role("button", name="Play now").click()
    await tab.until(f"{TITLE} === '{EPISODES[1]}'")
    await tab.playing()
    await tab.value(ENDS)
    await tab.until(f"{TITLE} === '{EPISODES[2]}'")
    await tab.playing()
    assert tab.page.url.endswith("#library/Series/Episode%2010.mp4")
    assert await tab.page.locator("a.row[aria-current]").get_attribute("data-path") == f"Series/{EPISODES[2]}"
    await tab.value(ENDS)
    await tab.until("headwater.video.ended")
    assert not await offer.is_visible()


async def test_the_next_track_of_music_plays_by_itself(tab: Tab) -> None:
    await tab.open("library/Music/1.mp3")
    for name in ("2.mp3", "10.mp3"):
        await tab.until(f"{TITLE} === '{name}'")
    await tab.until("headwater.video.ended")
    assert await tab.value(LEFT) == []


async def test_the_row_and_the_offer_stay_on_a_phones_screen(browser: Browser, films: ServerProcess) -> None:
    tab = await open_tab(browser, films.url, viewport={"width": 360, "height": 640}, has_touch=True)
    for name in EPISODES:
        await leave_at(tab, name, 20)
    await tab.open("library")
    await tab.page.get_by_role("region", name="Continue watching").scroll_into_view_if_needed()
    assert await tab.page.evaluate(CUT_OFF, ".continue, .continue ul") == 0
    await tab.screenshot("continue-phone")
    await tab.open(f"library/Series/{EPISODES[0]}")
    await tab.playing()
    await tab.value(ENDS)
    await tab.until("!document.getElementById('next').hidden")
    assert await tab.page.evaluate(CUT_OFF, "#next, #next *") == 0
    await tab.screenshot("next-phone")
    assert await tab.value("document.documentElement.scrollWidth") <= 360
    await tab.page.context.close()
    assert tab.troubles == []

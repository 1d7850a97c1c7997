"""The page goes on from one season to the next, and a search from a folder to the whole library."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import start_server
from tests.e2e.conftest import PHONE, Tab, open_tab

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

FILM = "-f lavfi -i testsrc2=size=160x90:rate=10 -t 30 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 20"
FILMS = (
    *("Series/Season 9/Episode 1.mp4", "Series/Season 9/Episode 2.mp4"),
    *("Series/Season 10/Episode 1.mp4", "Series/Season 10/Episode 2.mp4", "Series/Extras/Bloopers.mp4"),
)
TITLE = "document.getElementById('title').textContent"
ENDS = "void (headwater.video.currentTime = headwater.video.duration - 0.5)"


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def tab(browser: Browser, tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tab]:
    root: Path = tmp_path_factory.mktemp("seasons")
    made = root / "made.mp4"
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *FILM.split(), str(made)]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=120)
    for name in FILMS:
        (root / "library" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "library" / name).write_bytes(made.read_bytes())
    server = await asyncio.to_thread(start_server, "--library", str(root / "library"), "--port", "0")
    opened = await open_tab(browser, server.url, viewport=PHONE)
    yield opened
    await opened.page.context.close()
    await asyncio.to_thread(server.stop)
    assert opened.troubles == []


async def test_behind_the_last_episode_of_a_season_the_next_season_is_offered(tab: Tab) -> None:
    await tab.open("library/Series/Season%209/Episode%202.mp4")
    await tab.playing()
    await tab.value(ENDS)
    offer = tab.page.get_by_role("group", name="What follows")
    await offer.wait_for()
    assert "Episode 1" in await offer.inner_text()
    await offer.get_by_role("button", name="Play now").click()
    await tab.until("location.hash === '#library/Series/Season%2010/Episode%201.mp4'")
    await tab.playing()
    # Behind the last season nothing follows, nor does a folder of another name.
    for last in ("Season%2010/Episode%202.mp4", "Extras/Bloopers.mp4"):
        await tab.open(f"library/Series/{last}")
        await tab.playing()
        await tab.value(ENDS)
        await tab.until("headwater.video.ended")
        assert not await offer.is_visible()


async def test_what_the_server_has_found_only_meanwhile_is_offered(tab: Tab) -> None:
    early = list[str]()

    async def has_nothing_yet(route: Route) -> None:
        if early:
            await route.continue_()
        else:
            early.append(route.request.url)
            await route.fulfill(json=[], headers={"x-total-count": "0", "x-offset": "0"})

    await tab.open("library/Series/Season%209/Episode%201.mp4")
    await tab.playing()
    await tab.page.route("**/api/library?*around=*", has_nothing_yet)
    await tab.value(ENDS)
    offer = tab.page.get_by_role("group", name="What follows")
    await offer.wait_for()
    assert early
    assert "Episode 2" in await offer.inner_text()
    await offer.get_by_role("button", name="Cancel").click()
    await tab.page.unroute_all()


async def test_a_search_that_finds_nothing_in_a_folder_goes_on_in_the_whole_library(tab: Tab) -> None:
    await tab.open("library/Series/Season%209/")
    everywhere = tab.page.get_by_role("button", name="Search the whole library")
    await tab.until("document.querySelectorAll('a.row').length === 2")
    await tab.page.get_by_role("searchbox").fill("bloopers")
    await everywhere.wait_for()
    await everywhere.click()
    await tab.until("document.querySelector('a.row')?.dataset.path === 'Series/Extras/Bloopers.mp4'")
    assert not await everywhere.is_visible()

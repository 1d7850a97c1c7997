"""Sharing by who runs the server: how to come to what is closed, folders and stations, and until when."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Browser, expect

from origin.access.address_tokens import SigningKeys
from tests.clients.vlc import check_plays
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import DESKTOP, PHONE, SMALL, Tab, open_tab
from tests.e2e.station_tones import tone
from tests.keys import ADMIN_TOKEN, BEARER
from tests.patience import CLIENT_SECONDS

pytestmark = pytest.mark.e2e
in_session = pytest.mark.asyncio(loop_scope="session")

KEY = "2026-11:a-secret-of-the-tests"
SIZES = {"desktop": DESKTOP, "phone": PHONE}
FAMILY = "family of 2026"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One on this machine alone, whose lists are open, and which counts no viewers."""
    folder = tmp_path_factory.mktemp("sharing")
    for name in ("library", "music"):
        (folder / name).mkdir()
    shutil.copyfile(film(), folder / "library" / "film.mp4")
    (folder / "library" / FAMILY).mkdir()
    (folder / "library" / FAMILY / "first.mp4").hardlink_to(folder / "library" / "film.mp4")
    clips = {
        "clips": [{"path": "film.mp4", "start": 2, "end": 6}, {"path": "film.mp4", "start": 20, "end": 23}]
    }
    (folder / "library" / "evening.playlist.json").write_text(json.dumps(clips))
    (folder / "music" / "one.mp3").write_bytes(tone(440, 30, artist="Artist", title="Song"))
    config = folder / "headwater.toml"
    station = f'folder = "{folder / "music"}"\nbitrate = 64\n'
    config.write_text(
        f'[server]\ndata = "data"\n[access]\nkeys = ["{KEY}"]\n'
        f'[library]\npath = "library"\nfolders = {{ "{FAMILY}" = "signed" }}\n'
        f'[[radio]]\nname = "open.mp3"\n{station}[[radio]]\nname = "closed.mp3"\naccess = "signed"\n{station}'
        + copied_channel("match")
        + '[[live]]\nname = "studio"\nsource = "publish"\n'
    )
    with start_server("--config", str(config), "--port", "0") as running:
        yield running


async def give_admin_token(tab: Tab) -> None:
    await tab.page.get_by_role("textbox", name="Admin token").fill(ADMIN_TOKEN)
    await tab.page.get_by_role("button", name="Show it").click()


async def make_address(tab: Tab) -> str:
    """Make an address for a browser in the form that is unfolded."""
    await tab.page.get_by_role("button", name="Make an address").click()
    await tab.until("document.getElementById('shared-page').value")
    return await tab.page.get_by_role("textbox", name="For a browser").input_value()


@in_session
@pytest.mark.parametrize(("name", "size"), SIZES.items())
async def test_an_owner_comes_to_closed_folders_from_the_library_and_shares_one(
    browser: Browser, server: ServerProcess, name: str, size: dict[str, int]
) -> None:
    tab = await open_tab(browser, server.url, viewport=size)
    await tab.open("library")
    await tab.page.get_by_role("link", name="film.mp4").wait_for()
    assert FAMILY not in await tab.page.inner_text("body")
    await tab.screenshot(f"closed-{name}-folders")
    await tab.page.get_by_role("button", name="Show them").click()
    await give_admin_token(tab)
    await tab.page.get_by_role("link", name=FAMILY).click()
    await tab.page.get_by_role("link", name="first").wait_for()
    await expect(tab.page.get_by_role("button", name="Show them")).to_be_hidden()
    share = tab.page.get_by_role("button", name="Share this folder")
    await share.click()
    page = await make_address(tab)
    assert not await tab.page.get_by_role("textbox", name="For a player").is_visible()
    until = time.strftime("%Y", time.localtime(time.time() + 86400))
    await expect(tab.page.locator("#sharing-state")).to_contain_text(
        re.compile(f"can play this until .*{until}")
    )
    await tab.screenshot(f"share-{name}-folder")
    assert not await tab.value("document.documentElement.scrollWidth > innerWidth")
    # Players are counted where access.viewers_per_name is set: nothing is asked, and refused, that needs it.
    assert tab.troubles == []
    await tab.page.context.close()
    guest = await open_tab(browser, server.url, viewport=size)
    await guest.page.goto(page)
    await guest.page.get_by_role("link", name="first").click()
    await guest.playing()
    await guest.screenshot(f"shared-{name}-folder")
    assert guest.troubles == []
    await guest.page.context.close()


@in_session
async def test_who_shares_what_is_open_is_told_so(browser: Browser, server: ServerProcess) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.open("library/film.mp4?admin")
    await give_admin_token(tab)
    await tab.page.get_by_role("button", name="Share", exact=True).click()
    await make_address(tab)
    await expect(tab.page.locator("#sharing-state")).to_contain_text("Everybody can play this")
    assert tab.troubles == []
    await tab.page.context.close()


@in_session
async def test_a_station_is_shared_from_its_card(browser: Browser, server: ServerProcess) -> None:
    tab = await open_tab(browser, server.url, viewport=DESKTOP)
    await tab.open("radio?admin")
    await give_admin_token(tab)
    card = tab.page.locator(".station", has_text="closed.mp3")
    await card.get_by_role("button", name="Share", exact=True).click()
    page = await make_address(tab)
    media = await tab.page.get_by_role("textbox", name="For a player").input_value()
    assert page.endswith("/#radio/closed.mp3")
    with httpx.stream("GET", media, timeout=CLIENT_SECONDS) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")
    await asyncio.to_thread(check_plays, media)
    for name, size in SIZES.items():
        await tab.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        await tab.screenshot(f"share-{name}-station")
        assert not await tab.value("document.documentElement.scrollWidth > innerWidth")
    assert tab.troubles == []
    await tab.page.context.close()
    guest = await open_tab(browser, server.url, viewport=SMALL)
    await guest.page.goto(page)
    await guest.until("!headwater.audio.paused && headwater.audio.currentTime > 1")
    await guest.page.context.close()


@in_session
async def test_a_films_file_is_shared_to_download_where_that_is_wanted(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=DESKTOP)
    await tab.open(f"library/{FAMILY}/first.mp4?admin")
    await give_admin_token(tab)
    await tab.playing()
    await tab.page.get_by_role("button", name="Share", exact=True).click()
    download = tab.page.get_by_role("textbox", name="To download")
    await make_address(tab)
    assert not await download.is_visible()
    await tab.page.get_by_role("checkbox", name="The file, too").check()
    await tab.page.get_by_role("button", name="Make an address").click()
    await download.wait_for()
    answer = httpx.head(await download.input_value(), timeout=CLIENT_SECONDS)
    assert (answer.status_code, int(answer.headers["content-length"])) == (200, film().stat().st_size)
    assert tab.troubles == []
    await tab.page.context.close()


PAGES = {
    "/vod/holiday/": "#library/holiday/",
    "/vod/a%20b/film.mp4/master.m3u8": "#library/a%20b/film.mp4",
    "/media/film.mp4": "#library/film.mp4",
    "/live/demo/master.m3u8": "#live/demo",
    "/live/demo/recordings/20261130T120000Z/master.m3u8": "#live/demo/20261130T120000Z",
    "/live/demo/master.m3u8?programme=news": "#live/demo/programme%3Anews",
    "/live/demo/master.m3u8?start=1&end=2": "#live/demo/clip%3A1/2",
    "/live/demo/master.m3u8?start=1": "#live/demo/from%3A1",
    "/radio/fm.mp3": "#radio/fm.mp3",
    "/events/chat": "#events/chat",
    "/": "",
}


@pytest.mark.parametrize(("path", "view"), PAGES.items())
def test_what_is_signed_has_an_address_of_the_page(server: ServerProcess, path: str, view: str) -> None:
    wanted = {"path": path, "for": "2h"}
    made = httpx.post(f"{server.url}/api/sign", json=wanted, headers=BEARER, timeout=CLIENT_SECONDS).json()
    assert made["page"] == f"{server.url}/t/{made['token']}/{view}"
    assert urlsplit(made["url"]).netloc == urlsplit(made["page"]).netloc


def test_a_page_behind_a_token_names_what_is_open_without_it(server: ServerProcess) -> None:
    token = SigningKeys([KEY]).sign("", int(time.time()) + 3600)
    base = f"{server.url}/t/{token}"

    def listed(area: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = httpx.get(f"{base}/api/{area}", timeout=CLIENT_SECONDS).json()
        return found

    stations = {one["name"]: (one["url"], one["events"]) for one in listed("radio")}
    assert stations["open.mp3"] == ("/radio/open.mp3", "/events/radio/open.mp3")
    assert stations["closed.mp3"] == (f"/t/{token}/radio/closed.mp3", f"/t/{token}/events/radio/closed.mp3")
    assert {one["name"]: one["hls"] for one in listed("live")}["match"] == "/live/match/master.m3u8"
    films = {one["path"]: one["media"] for one in listed("library")}
    assert films["film.mp4"] == "/media/film.mp4"
    assert films[f"{FAMILY}/first.mp4"] == f"/t/{token}/media/family%20of%202026/first.mp4"


@in_session
async def test_a_playlist_of_clips_is_in_the_library_and_plays(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.open("library/evening.playlist.json")
    await tab.page.get_by_role("link", name="evening.playlist.json").wait_for()
    await tab.playing()
    assert 6.5 < await tab.value("headwater.video.duration") < 8.5
    assert tab.troubles == []
    await tab.page.context.close()


@in_session
@pytest.mark.parametrize(("name", "size"), SIZES.items())
async def test_what_concerns_an_operator_is_folded_up_until_it_is_asked_for(
    browser: Browser, server: ServerProcess, name: str, size: dict[str, int]
) -> None:
    tab = await open_tab(browser, server.url, viewport=size)
    await tab.open("live/studio")
    operator = tab.page.get_by_text("Operate this channel")
    await operator.wait_for()
    for words in ("What to type into OBS", "Stream key", "parts of"):
        assert words not in await tab.page.inner_text("body")
    await tab.screenshot(f"operator-{name}-folded")
    await operator.click()
    await tab.page.get_by_text("What to type into OBS").wait_for()
    # It is remembered in this browser.
    await tab.open("live/studio")
    await tab.page.get_by_text("What to type into OBS").wait_for()
    await tab.page.context.close()

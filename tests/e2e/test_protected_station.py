"""A station for listeners with a password, on the page: it asks for it, and then all is as of any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import PHONE, Tab, open_tab
from tests.e2e.station_tones import tone

pytestmark = pytest.mark.e2e
in_session = pytest.mark.asyncio(loop_scope="session")

PASSWORD = "sésame & more?"
SONG = ".station .song"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("closed")
    (folder / "music").mkdir()
    (folder / "music" / "one.mp3").write_bytes(tone(440, 30, artist="Secret", title="Song"))
    (folder / "headwater.toml").write_text(
        f"""
        [server]
        port = 0
        [library]
        path = "{folder}"
        [[radio]]
        name = "closed.mp3"
        title = "Closed FM"
        folder = "{folder / "music"}"
        bitrate = 64
        listener_password = "{PASSWORD}"
        """,
        "utf-8",
    )
    with start_server(cwd=folder) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, closed: ServerProcess) -> AsyncIterator[Tab]:
    tab = await open_tab(browser, closed.url, viewport=PHONE)
    yield tab
    await tab.page.context.close()
    # The browser itself tells of the one wrong password.
    assert [text for text in tab.troubles if "status of 401" not in text] == []


@in_session
async def test_the_page_asks_for_the_password_and_then_plays_with_titles(tab: Tab) -> None:
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    await tab.open("radio")
    await tab.until("document.querySelector('.station h3')?.textContent.includes('Closed FM')")
    assert await tab.value(f"document.querySelector('{SONG}').textContent") == "For listeners with a password"
    assert "Secret" not in await tab.page.content()
    assert not [url for url in asked if "/radio/closed.mp3" in url], "nothing is asked for before"

    await tab.page.click(".station .play")
    await tab.page.fill(".station input[type=password]", "wrong")
    await tab.page.press(".station input[type=password]", "Enter")
    await tab.until("document.querySelector('.station [role=alert]').textContent.includes('password')")
    assert await tab.value("headwater.audio.paused")
    await tab.screenshot("protected-station")

    await tab.page.fill(".station input[type=password]", PASSWORD)
    await tab.page.press(".station input[type=password]", "Enter")
    await tab.until("!headwater.audio.paused && headwater.audio.currentTime > 1")
    await tab.until(f"document.querySelector('{SONG}').textContent === 'Secret - Song'")
    assert await tab.value("document.querySelector('.station input[type=password]')") is None
    # The list, which is asked for again and again, leaves what is heard as it is.
    before = len([url for url in asked if "/api/radio" in url])
    while len([url for url in asked if "/api/radio" in url]) < before + 2:
        await asyncio.sleep(0.1)
    assert await tab.value(f"document.querySelector('{SONG}').textContent") == "Secret - Song"
    # Stopped and played again, it isn't asked for anew.
    await tab.page.click(".station .play")
    await tab.until("headwater.audio.paused")
    await tab.page.click(".station .play")
    await tab.until("!headwater.audio.paused && headwater.audio.currentTime > 1")
    assert await tab.value("document.querySelector('.station input[type=password]')") is None


@in_session
async def test_an_address_of_the_station_asks_for_it_too(tab: Tab) -> None:
    await tab.open("radio/closed.mp3")
    await tab.until("document.activeElement?.type === 'password'")

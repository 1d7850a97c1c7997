"""The page's box "Watch on television": addresses that an app opens, and a QR code that a camera reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, expect

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.e2e.axe import RULES, SERIOUS
from tests.e2e.conftest import DESKTOP, PHONE, Tab, open_tab
from tests.e2e.scripts import script
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.qr_code import read_picture
from tests.television_lists import entries
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

KEY = "one:0123456789abcdef0123456789abcdef"
BOX = ".television:visible"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("box")
    (folder / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "data"\n[access]\nkeys = ["{KEY}"]\n'
        + copied_channel("a", 'dvr = "1h"')
        + '[[live]]\nname = "closed"\nsource = "publish"\naccess = "signed"\n'
        + '[[radio]]\nname = "morning.mp3"\nsource = "publish"\n'
    )
    with start_server(cwd=folder) as running:
        yield running


@pytest.fixture
def port() -> Iterator[int]:
    with kept_port() as kept:
        yield kept


async def open_box(tab: Tab) -> tuple[str, str]:
    """Open the box, and return the addresses of the list and of the guide."""
    await tab.page.locator(BOX).locator("summary").click()
    await tab.until("document.querySelector('.television[open] img').naturalWidth > 0")
    fields = tab.page.locator(BOX).get_by_role("textbox")
    return await fields.nth(0).input_value(), await fields.nth(1).input_value()


async def code_in(tab: Tab, folder: Path) -> str:
    """Return what a program that knows nothing of this server reads in the picture of the code."""
    picture = folder / "code.png"
    await tab.page.locator(BOX).locator("img").screenshot(path=picture)
    return read_picture(picture)


@pytest.mark.parametrize("view", ["live/a", "radio"])
async def test_the_box_has_two_addresses_and_a_code_for_the_camera(
    browser: Browser, server: ServerProcess, tmp_path: Path, view: str
) -> None:
    tab = await open_tab(browser, server.url)
    await tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await tab.open(view)
    playlist, guide = await open_box(tab)
    assert (playlist, guide) == (f"{server.url}/playlist.m3u", f"{server.url}/guide.xml")
    assert await code_in(tab, tmp_path) == playlist
    # What is reached by 127.0.0.1 is no address for another device.
    await expect(tab.page.locator(BOX)).to_contain_text("for this machine alone")
    for name, address in (("Copy the list", playlist), ("Copy the guide", guide)):
        await tab.page.get_by_role("button", name=name).click()
        assert await tab.value("navigator.clipboard.readText()") == address
    await tab.value(f"{script('axe-core').read_text('utf-8')}; 0")
    for size in (PHONE, DESKTOP):
        await tab.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        await tab.until(f"innerWidth === {size['width']}")
        for scheme in ("light", "dark"):
            await tab.page.emulate_media(color_scheme=scheme)
            assert await tab.page.evaluate(SERIOUS, RULES[scheme]) == [], (size, scheme)
        assert await tab.value("document.documentElement.scrollWidth") <= size["width"]
        await tab.page.locator(BOX).scroll_into_view_if_needed()
        await tab.screenshot(f"television-{view.partition('/')[0]}-{size['width']}")
    assert tab.troubles == []
    await tab.page.context.close()


async def test_the_addresses_have_the_token_that_the_page_was_opened_with(
    browser: Browser, server: ServerProcess, tmp_path: Path
) -> None:
    token = SigningKeys([KEY]).sign("/live/closed", int(time.time()) + 3600)
    tab = await open_tab(browser, f"{server.url}/t/{token}")
    await tab.open("live")
    playlist, _ = await open_box(tab)
    assert playlist == f"{server.url}/t/{token}/playlist.m3u"
    assert await code_in(tab, tmp_path) == playlist
    assert tab.troubles == []
    await tab.page.context.close()


async def test_the_administrators_addresses_have_a_token_that_lasts(
    browser: Browser, server: ServerProcess, tmp_path: Path
) -> None:
    tab = await open_tab(browser, server.url)
    await tab.open("live?admin")
    await tab.page.fill("#administrator input", ADMIN_TOKEN)
    await tab.page.press("#administrator input", "Enter")
    await tab.page.get_by_role("link", name="closed").wait_for()
    playlist, guide = await open_box(tab)
    assert playlist.startswith(f"{server.url}/t/")
    assert await code_in(tab, tmp_path) == playlist
    listed = httpx.get(playlist, timeout=CLIENT_SECONDS).text
    assert [attributes["tvg-id"] for attributes, _, _ in entries(listed)] == [
        "a",
        "closed",
        "radio/morning.mp3",
    ]
    assert guide == playlist.replace("playlist.m3u", "guide.xml")
    assert tab.troubles == []
    await tab.page.context.close()


@pytest.mark.promise("server.public_url")
async def test_all_addresses_to_type_elsewhere_begin_with_the_public_url(
    browser: Browser, tmp_path: Path, port: int
) -> None:
    (tmp_path / "headwater.toml").write_text(
        f'[server]\nport = 0\nrtmp_port = {port}\npublic_url = "https://media.example"\n'
        '[[live]]\nname = "studio"\nsource = "publish"\npublish_key = "a-key-of-the-tests"\n'
    )
    with start_server(cwd=tmp_path) as server:
        wait_for(
            lambda: f"In OBS: Server rtmp://media.example:{port}/live" in server.text(), "the start's line"
        )
        tab = await open_tab(browser, server.url)
        await tab.open("live/studio")
        playlist, guide = await open_box(tab)
        assert playlist == "https://media.example/playlist.m3u"
        assert guide == "https://media.example/guide.xml"
        assert await code_in(tab, tmp_path) == playlist
        await tab.page.get_by_text("Operate this channel").click()
        typed = tab.page.locator(".publisher h3 + dl")
        await expect(typed).to_contain_text(f"rtmp://media.example:{port}/live")
        await expect(typed).to_contain_text("https://media.example/live/studio/ingest?key=")
        assert tab.troubles == []
        await tab.page.context.close()

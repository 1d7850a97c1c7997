"""A server on which everything needs a token: what its page says to visitors, and its lists to the owner."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import httpx
import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import DESKTOP, PHONE, open_tab
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS

KEY = "2026-11:a-secret-of-the-tests"
CONFIG = f"""
[server]
data = "data"

[access]
keys = ["{KEY}"]

[library]
path = "library"
access = "signed"

[[radio]]
name = "fm.mp3"
source = "publish"
access = "signed"

[[events]]
name = "room/*"
"""
SIZES = {"desktop": DESKTOP, "phone": PHONE}
ITEMS = {"library": "film.mp4", "live": "match", "radio": "fm.mp3"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("signed")
    (folder / "library").mkdir()
    shutil.copyfile(film(), folder / "library" / "film.mp4")
    (folder / "headwater.toml").write_text(CONFIG + copied_channel("match", 'access = "signed"'))
    with start_server("--config", "headwater.toml", cwd=folder) as running:
        yield running


def get(server: ServerProcess, path: str, **headers: str) -> httpx.Response:
    return httpx.get(server.url + path, headers=headers, timeout=CLIENT_SECONDS)


@pytest.mark.parametrize(("area", "item"), ITEMS.items())
def test_the_admin_token_lists_and_describes_what_is_signed(
    server: ServerProcess, area: str, item: str
) -> None:
    assert get(server, f"/api/{area}").json() == []
    assert get(server, f"/api/item/{area}/{item}").status_code == 401
    for path in (f"/api/{area}", f"/api/item/{area}/{item}"):
        (shown,) = get(server, path, **BEARER).json()
        assert shown["name"] == item
    assert get(server, f"/api/{area}", authorization="Bearer a-wrong-token-of-some-length").json() == []


def test_the_administrators_token_lists_the_programmes_of_what_is_signed(server: ServerProcess) -> None:
    assert get(server, "/api/live/match/programmes").status_code == 401
    assert get(server, "/api/live/match/programmes", **BEARER).json() == []


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(("name", "size"), SIZES.items())
async def test_the_page_says_that_what_is_here_needs_a_token(
    browser: Browser, server: ServerProcess, name: str, size: dict[str, int]
) -> None:
    tab = await open_tab(browser, server.url, viewport=size)
    for view in ITEMS:
        await tab.open(view)
        said = tab.page.get_by_text("What is here is for those who were given an address with a token.")
        await said.locator("visible=true").wait_for()
        assert "is configured" not in await tab.page.locator(f"#panel-{view}").inner_text()
    await tab.open("events")
    await tab.page.get_by_text("Event channels are made at run time here").wait_for()
    await tab.screenshot(f"signed-{name}-events")
    await tab.open("live")
    await tab.screenshot(f"signed-{name}")
    assert not await tab.value("document.documentElement.scrollWidth > innerWidth")
    assert await tab.page.locator("#to-administrator").is_visible()
    await tab.page.context.close()
    assert tab.troubles == []

"""The page behind a token: it shows and plays what the token is valid for, to the end, and nothing else."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.async_api import Browser

from origin.access.address_tokens import SigningKeys
from origin.http.path_prefixes import split_token
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import DESKTOP, ENCODES, PHONE, SMALL, open_tab
from tests.e2e.scripts import script
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

KEY = "2026-11:a-secret-of-the-tests"
SHARED = {
    "library/private/film.mp4?mode=hls": "/vod/private/film.mp4/master.m3u8",
    "live/demo": "/live/demo/master.m3u8",
}
"""What is played on the page, and which address of it is given away."""

SERIOUS = """() => axe.run("#stage").then(({ violations }) => violations.map(({ id }) => id))"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One whose library and channel are for those with a token alone."""
    folder = tmp_path_factory.mktemp("signed")
    (folder / "library" / "private").mkdir(parents=True)
    path = folder / "library" / "private" / "film.mp4"
    copy = ["ffmpeg", "-v", "error", "-i", str(film()), "-t", "8", "-c", "copy", str(path)]
    subprocess.run(copy, check=True, timeout=CLIENT_SECONDS)
    config = folder / "headwater.toml"
    config.write_text(
        f'[server]\ndata = "data"\n[access]\nkeys = ["{KEY}"]\nviewers_per_name = 2\n'
        '[library]\npath = "library"\naccess = "signed"\n' + copied_channel("demo", 'access = "signed"')
    )
    with start_server("--config", str(config), "--port", "0", env=ENCODES) as running:
        yield running


async def test_a_protected_film_and_channel_play_behind_their_token(
    browser: Browser, server: ServerProcess
) -> None:
    expires = int(time.time()) + 3600
    for signed, view in (
        ("/vod/private", "library/private/film.mp4?mode=hls"),
        ("/live/demo", "live/demo"),
    ):
        token = SigningKeys([KEY]).sign(signed, expires)
        tab = await open_tab(browser, f"{server.url}/t/{token}", viewport=SMALL)
        await tab.open(view)
        await tab.playing()
        names = await tab.value("performance.getEntriesByType('resource').map((one) => one.name)")
        media = [name for name in names if "/api/" not in name and name.endswith((".m3u8", ".m4s"))]
        assert media
        prefix = f"{server.url}/t/{token}{signed}/"
        assert [name for name in media if not name.startswith(prefix)] == []
        if signed == "/vod/private":
            await tab.value("void (headwater.video.currentTime = headwater.video.duration - 2)")
            await tab.until("headwater.video.ended")
            await tab.page.goto(f"{server.url}/t/{token}/embed/vod/private/film.mp4?autoplay&muted")
            await tab.until("headwater.media.currentTime > 1")
        assert tab.troubles == []
        await tab.page.context.close()


@pytest.mark.parametrize(("view", "shared"), SHARED.items())
async def test_the_administrator_sees_all_and_gives_addresses_away(
    browser: Browser, server: ServerProcess, view: str, shared: str
) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.open(view + ("&admin" if "?" in view else "?admin"))
    await tab.page.get_by_role("textbox", name="Admin token").fill(ADMIN_TOKEN)
    share = tab.page.get_by_role("button", name="Share", exact=True)
    assert not await share.is_visible()
    await tab.page.get_by_role("button", name="Show it").click()
    await tab.playing()
    await share.click()
    await tab.page.get_by_role("combobox", name="For", exact=True).select_option("a week")
    await tab.page.get_by_role("textbox", name="Name, for your log").fill("anna")
    await tab.page.get_by_role("button", name="Make an address").click()
    await tab.until("document.getElementById('shared-media').value")
    await tab.value(f"{script('axe-core').read_text('utf-8')}; 0")
    for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
        await tab.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        await tab.screenshot(f"share-{name}")
        assert await tab.page.evaluate(SERIOUS) == []
        assert not await tab.value("document.documentElement.scrollWidth > innerWidth")
    page = await tab.page.get_by_role("textbox", name="For a browser").input_value()
    media = await tab.page.get_by_role("textbox", name="For a player").input_value()
    await tab.page.context.close()
    assert tab.troubles == []
    async with httpx.AsyncClient(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        answer = await client.get(media.removeprefix(server.url))
        assert (answer.status_code, answer.text[:7]) == (200, "#EXTM3U")
        token, path = split_token(media.removeprefix(server.url))
        assert path == shared
        for other in {*SHARED.values(), "/vod/private/other.mp4/master.m3u8", "/vod/private"} - {shared}:
            assert (await client.get(f"/t/{token}{other}")).status_code == 403
    found = SigningKeys([]).read(token)
    assert found is not None
    assert found.name == "anna"
    assert 6.9 < (found.expires - time.time()) / 86400 < 7.1
    viewer = await open_tab(browser, server.url, viewport=SMALL)
    await viewer.page.goto(page)
    await viewer.playing()
    assert not await viewer.page.get_by_role("button", name="Share", exact=True).is_visible()
    assert viewer.troubles == []
    await viewer.page.context.close()


async def test_the_administrator_sees_who_watches_and_ends_it(
    browser: Browser, server: ServerProcess
) -> None:
    token = SigningKeys([KEY]).sign("/live/demo", int(time.time()) + 3600, "bert")
    viewer = await open_tab(browser, f"{server.url}/t/{token}", viewport=SMALL)
    await viewer.open("live/demo")
    await viewer.playing()
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.open("live/demo?admin")
    await tab.page.get_by_role("textbox", name="Admin token").fill(ADMIN_TOKEN)
    await tab.page.get_by_role("button", name="Show it").click()
    await tab.page.get_by_role("button", name="Share", exact=True).click()
    end = tab.page.get_by_role("button", name="End bert at 127.0.0.1")
    await end.wait_for()
    await tab.value(f"{script('axe-core').read_text('utf-8')}; 0")
    for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
        await tab.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        await tab.screenshot(f"named-viewers-{name}")
        assert await tab.page.evaluate(SERIOUS) == []
        assert not await tab.value("document.documentElement.scrollWidth > innerWidth")
    await end.click()
    await tab.page.get_by_text("bert was ended").wait_for()
    await end.wait_for(state="detached")
    await tab.page.context.close()
    await viewer.until("headwater.video.paused || headwater.video.readyState < 3")
    await viewer.page.context.close()
    assert tab.troubles == []

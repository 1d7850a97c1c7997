"""A live channel's publisher on the page: what is on air, where to publish to, and the key on demand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, ViewportSize, expect

from tests.conftest import start_server
from tests.copied_channel import film
from tests.e2e.conftest import open_tab
from tests.keys import ADMIN_TOKEN
from tests.origin.ingest.studio import KEY, Studio, encoder_arguments, encoding, studio
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port

pytestmark = pytest.mark.e2e

PANEL = "document.querySelector('.publisher').innerText"
ADDRESSES = "document.querySelectorAll('.publisher h3 + dl dd')"
NARROW: ViewportSize = {"width": 400, "height": 800}
WIDE: ViewportSize = {"width": 1280, "height": 800}


@pytest.fixture
def rtmp_studio(tmp_path: Path) -> Iterator[tuple[Studio, int]]:
    with kept_port() as port:
        head = f"[server]\nrtmp_port = {port}\nsrt_port = {port}\n"
        with studio(tmp_path, 'ladder = ["source", "240p"]', head, ladder=False) as one:
            yield one, port


@pytest.mark.clause("The page shows the publisher, and its key to the administrator alone")
@pytest.mark.asyncio(loop_scope="session")
async def test_the_page_shows_the_publisher_and_the_key_on_demand(
    browser: Browser, rtmp_studio: tuple[Studio, int]
) -> None:
    one, port = rtmp_studio
    tab = await open_tab(browser, one.server.url)
    await tab.open("live/studio")
    await tab.page.get_by_text("Operate this channel").click()
    await tab.until(f"{PANEL}.includes('Waiting for a publisher')")
    shown = await tab.value(PANEL)
    assert f"rtmp://127.0.0.1:{port}/live" in shown
    assert "studio?key=…" in shown
    assert f"srt://127.0.0.1:{port}?streamid=publish:studio:…" in shown
    assert f"{one.server.url}/live/studio/ingest?key=…" in shown
    assert f"{one.server.url}/live/studio/ingest/multitrack" in shown

    await tab.page.click(".publisher button:text('Show the key')")
    await tab.page.fill(".publisher input", "wrong")
    await tab.page.press(".publisher input", "Enter")
    await tab.until("document.querySelector('.publisher [role=alert]').textContent.includes('admin token')")
    assert KEY not in await tab.page.content()
    await tab.page.fill(".publisher input", ADMIN_TOKEN)
    await tab.page.press(".publisher input", "Enter")
    await tab.until(f"{PANEL}.includes('studio?key={KEY}')")
    assert f"streamid=publish:studio:{KEY}" in await tab.value(PANEL)
    assert await tab.value("document.querySelector('.publisher input').value") == ""

    # What the page says is what an encoder is given.
    server, key = [await tab.value(f"{ADDRESSES}[{number}].textContent") for number in (0, 1)]
    with encoding(*encoder_arguments("flv").split(), f"{server}/{key}"):
        for text in ("On air", "RTMP", "H.264", "160 × 120", "10 fps", "every 1 s"):  # noqa: RUF001
            await tab.until(f"{PANEL}.includes('{text}')")
        for name, size in (("wide", WIDE), ("narrow", NARROW)):
            await tab.page.set_viewport_size(size)
            for scheme in ("light", "dark"):
                await tab.page.emulate_media(color_scheme=scheme)
                await tab.page.locator(".publisher").scroll_into_view_if_needed()
                await tab.screenshot(f"publisher-{name}-{scheme}")
            assert await tab.value("document.documentElement.scrollWidth <= innerWidth")
        await tab.page.click(".publisher button:text('Hide the key')")
        assert KEY not in await tab.page.content()
    await tab.until(f"{PANEL}.includes('Waiting for a publisher')")
    await tab.page.context.close()
    # The browser itself tells of the one wrong token.
    assert [text for text in tab.troubles if "status of 401" not in text] == []


@pytest.mark.asyncio(loop_scope="session")
async def test_the_page_makes_a_new_key_where_only_the_hash_of_one_is_known(
    browser: Browser, tmp_path: Path
) -> None:
    channel = '[[live]]\nname = "studio"\nsource = "publish"\nladder = ["240p"]\n'
    (tmp_path / "headwater.toml").write_text(f'[server]\nport = 0\ndata = "data"\n{channel}')
    (tmp_path / "library").mkdir()
    for _ in range(2):
        server = start_server(cwd=tmp_path)
        try:
            tab = await open_tab(browser, server.url)
            await tab.open("live/studio")
            await tab.page.get_by_text("Operate this channel").click()
            await tab.until(f"{PANEL}.includes('Waiting for a publisher')")
            await tab.page.click(".publisher button:text('Show the key')")
            await tab.page.fill(".publisher input", ADMIN_TOKEN)
            await tab.page.press(".publisher input", "Enter")
            await tab.until(f"{PANEL}.includes('Hide the key') || {PANEL}.includes('has only a hash')")
            if not await tab.value(f"{PANEL}.includes('Hide the key')"):
                await tab.page.fill(".publisher input", ADMIN_TOKEN)
                await tab.page.click(".publisher button:text('Make a new key')")
                await tab.until(f"{PANEL}.includes('Hide the key')")
            address = await tab.value(f"{ADDRESSES}[3].textContent")
            assert httpx.put(address, content=b"x").status_code == 415, "the key is right, the stream is none"
            await tab.page.context.close()
            assert tab.troubles == []
        finally:
            server.stop()


@pytest.fixture
def studio_with_slate(tmp_path: Path) -> Iterator[Studio]:
    with studio(tmp_path, more=f'offline = "{film()}"\n') as one:
        one.wait_for_state("live")
        yield one


@pytest.mark.asyncio(loop_scope="session")
async def test_a_channel_with_its_slate_waits_for_a_publisher(
    browser: Browser, studio_with_slate: Studio
) -> None:
    one = studio_with_slate
    tab = await open_tab(browser, one.server.url)
    await tab.open("live/studio")
    state = tab.page.locator(".row .state")
    await expect(state).to_contain_text("waiting for a publisher, with a slate")
    with encoding(*encoder_arguments().split(), "-method", "PUT", f"{one.address}?key={KEY}"):
        await expect(state).to_contain_text("on air", timeout=1000 * CLIENT_SECONDS)
    await expect(state).to_contain_text("with a slate", timeout=1000 * CLIENT_SECONDS)
    await tab.page.context.close()

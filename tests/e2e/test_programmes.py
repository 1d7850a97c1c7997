"""Programmes on the page: their list, with titles as text, and each from its beginning while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import DESKTOP, PHONE, open_tab
from tests.programmed_channel import configure, date_of, live, put
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

SECONDS = 25
TITLES = "[...document.querySelectorAll('.programmes .name')].map((one) => one.textContent)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("programmes")
    configure(folder, 'dvr = "1h"', 'record = "programmes"')
    with start_server(cwd=folder) as running:
        wait_for(lambda: len(live(running).segments) > SECONDS, "some segments")
        begin, now = date_of(running, 0), time.time()
        spans = [
            {"id": "over", "start": begin + 1, "end": begin + 5, "title": "<b>Morning</b> & more"},
            {
                "id": "on",
                "start": begin,
                "end": now + 3000,
                "title": "The final, with a title of more than one line",
            },
            {"id": "coming", "start": now + 2000, "end": now + 3000, "title": "Later"},
        ]
        assert put(running, spans).status_code == 200
        wait_for(lambda: httpx.get(f"{running.url}/api/live").json()[0]["recordings"], "a recording")
        yield running


@pytest.mark.parametrize(("name", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
async def test_a_programme_that_runs_is_watched_from_its_beginning(
    server: ServerProcess, browser: Browser, name: str, size: dict[str, int]
) -> None:
    tab = await open_tab(browser, server.url, viewport=size)
    await tab.open("live/a")
    await tab.until(f"{TITLES}.length === 2")
    titles = await tab.value(TITLES)
    assert set(titles) == {"<b>Morning</b> & more", "The final, with a title of more than one line"}
    coming = tab.page.locator(".coming .row")
    assert await coming.count() == 1
    assert "Later" in await coming.inner_text()
    await tab.page.locator(".programmes a.row", has_text="The final").click()
    await tab.until("headwater.hls?.levels[0]?.details?.type === 'EVENT'")
    await tab.playing()
    shown, length = await tab.value("[headwater.video.currentTime, headwater.video.duration]")
    # It began with the first picture, however far behind the live edge that is, and stays there.
    assert shown < 15
    assert length > SECONDS
    grown = await tab.until(
        f"headwater.video.duration > {length} && headwater.video.currentTime > {shown} + 1"
    )
    assert grown
    assert await tab.value("headwater.video.currentTime < headwater.video.duration - 10")
    assert await tab.value("document.documentElement.scrollWidth <= innerWidth")
    await tab.page.locator(".programmes").scroll_into_view_if_needed()
    await tab.screenshot(f"programmes-{name}")
    # Somebody who is given the address sees the same.
    await tab.open("live/a/programme%3Aover")
    await tab.playing()
    assert await tab.value("Math.round(headwater.video.duration)") in (4, 5, 6)
    assert "<b>Morning</b> & more" in await tab.value("document.getElementById('stage').innerText")
    assert tab.troubles == []
    await tab.page.context.close()

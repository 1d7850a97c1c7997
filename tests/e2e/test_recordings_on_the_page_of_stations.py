"""A station's recordings on the page: listed with their addresses, played, moved in, and downloaded."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import m3u8
import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import DESKTOP, PHONE, open_tab
from tests.e2e.scripts import script
from tests.e2e.station_tones import tone
from tests.keys import ADMIN_TOKEN, BEARER
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

SECONDS = 16
TITLE = "The <b>morning</b> & more"
CONFIG = f"""
[server]
port = 0
data = "data"
admin_token = "{ADMIN_TOKEN}"
[[radio]]
name = "fm"
title = "Harbour"
folder = "music"
bitrate = 64
dvr = "1h"
hls_bitrates = [64]
"""
FAULTS = "({ violations }) => violations.map(({ id, nodes }) => id + nodes[0].html)"
SERIOUS = f"axe.run('#panel-radio').then({FAULTS})"
PLAYS = "!headwater.audio.paused && headwater.audio.currentTime > 0.5 && headwater.audio.readyState > 2"
KIND = "headwater.audio.src.split(':')[0]"
SONG = "document.querySelector('.station .song').textContent"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("recordings-of-stations")
    (folder / "music").mkdir()
    (folder / "music" / "440.mp3").write_bytes(tone(440, 300, title="Low"))
    (folder / "headwater.toml").write_text(CONFIG)
    with start_server(cwd=folder) as running:
        began = wait_for(lambda: _began(running), "the first segment")
        span = {"start": began + 1, "end": began + 1 + SECONDS, "title": TITLE}
        url = f"{running.url}/live/fm/recordings"
        assert httpx.post(url, json=span, headers=BEARER, timeout=CLIENT_SECONDS).status_code in (201, 202)
        wait_for(lambda: _recordings(running), "the recording")
        yield running


def _began(server: ServerProcess) -> float:
    answer = httpx.get(f"{server.url}/live/fm/64k/media.m3u8", timeout=CLIENT_SECONDS)
    listed = m3u8.loads(answer.text).segments if answer.status_code == 200 else []
    date = listed[0].program_date_time if listed else None
    return 0.0 if date is None else float(date.timestamp())


def _recordings(server: ServerProcess) -> list[dict[str, Any]]:
    (station,) = httpx.get(f"{server.url}/api/radio", timeout=CLIENT_SECONDS).json()
    return list(station["recordings"])


@pytest.mark.parametrize(("name", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
async def test_a_recording_of_a_station_is_played_moved_in_and_left_by_the_keyboard(
    server: ServerProcess, browser: Browser, name: str, size: dict[str, int]
) -> None:
    (recording,) = _recordings(server)
    tab = await open_tab(browser, server.url, viewport=size)
    await tab.open("radio")
    listed = tab.page.locator("#panel-radio li.with-file")
    link = listed.get_by_role("link", name=TITLE).first
    await link.focus()
    await tab.page.keyboard.press("Enter")
    await tab.until(PLAYS)
    assert await tab.value("location.hash") == f"#radio/fm/{recording['id']}"
    assert await tab.value(KIND) == "blob"
    assert await link.get_attribute("aria-current") == "true"
    await tab.until(f"({SONG}).includes('Low')")
    assert SECONDS - 0.5 < await tab.value("headwater.audio.duration") < SECONDS + 9
    position = listed.get_by_role("slider", name="Position in the recording")
    await position.focus()
    await tab.page.keyboard.press("PageUp")
    await tab.until("headwater.audio.currentTime > 2 && !headwater.audio.seeking")
    await tab.page.keyboard.press("Home")
    await tab.until(f"headwater.audio.currentTime < 2 && {PLAYS}")
    assert " of 0:" in (await position.get_attribute("aria-valuetext") or "")
    await tab.value(f"{script('axe-core').read_text('utf-8')}; 0")
    assert await tab.value(SERIOUS) == []
    assert await tab.value("document.documentElement.scrollWidth <= innerWidth")
    await listed.scroll_into_view_if_needed()
    await tab.screenshot(f"station-recordings-{name}")
    await tab.page.get_by_role("button", name="Stop Harbour").click()
    await tab.until("headwater.audio.paused")
    await tab.page.get_by_role("button", name="Play Harbour").click()
    await tab.until(PLAYS)
    await listed.get_by_role("link", name="Back to live").focus()
    await tab.page.keyboard.press("Enter")
    await tab.until(f"{KIND} === 'http' && {PLAYS}")
    assert await tab.value("location.hash") == "#radio/fm"
    assert await listed.get_by_role("slider").count() == 0
    assert tab.troubles == []
    await tab.page.context.close()


async def test_a_recording_of_a_station_has_addresses_for_others(
    server: ServerProcess, browser: Browser, tmp_path: Path
) -> None:
    (recording,) = _recordings(server)
    other = await open_tab(browser, server.url, viewport=DESKTOP)
    await other.open(f"radio/fm/{recording['id']}")
    await other.until(PLAYS)
    listed = other.page.locator("#panel-radio li.with-file")
    hls = await listed.get_by_role("link", name="HLS address").get_attribute("href")
    assert m3u8.loads(httpx.get(f"{server.url}{hls}", timeout=CLIENT_SECONDS).text).is_variant
    file = await listed.get_by_role("link", name="Download").get_attribute("href")
    (tmp_path / "kept.mp4").write_bytes(httpx.get(f"{server.url}{file}", timeout=CLIENT_SECONDS).content)
    words = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
    done = subprocess.run([*words, str(tmp_path / "kept.mp4")], check=True, capture_output=True, text=True)
    # What was asked for, of whole segments.
    assert float(done.stdout) == pytest.approx(SECONDS, abs=0.2)
    # Its end leaves the list as it was.
    await other.until("headwater.audio.paused && location.hash === '#radio'")
    assert await listed.get_by_role("slider").count() == 0
    assert other.troubles == []
    await other.page.context.close()
    (item,) = httpx.get(f"{server.url}/api/item/radio/fm/{recording['id']}", timeout=CLIENT_SECONDS).json()
    assert item["recordings"] == [recording]
    (item,) = httpx.get(f"{server.url}/api/item/radio/fm", timeout=CLIENT_SECONDS).json()
    assert item["recordings"] == [], "who is given the station's address"

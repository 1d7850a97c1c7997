"""How long those wait who listen or watch while nothing is on air, once something is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import SMALL, open_tab
from tests.e2e.watching import NO_RETRIES
from tests.origin.ingest.studio import encoding

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

PASSWORD = "of-the-source"
LONGEST_SECONDS = 2.5
"""The longest wait before another attempt: two seconds, and a quarter of that as jitter."""

WAITS = """
  window.waits = [];
  const { setTimeout: soon } = window;
  window.setTimeout = (action, wait, ...rest) => {
    if (/[/](retry|embed)[.]js/.test(new Error().stack.split("\\n")[2])) window.waits.push(wait / 1000);
    return soon(action, Math.min(wait, 20), ...rest);
  };
"""
"""Makes a page note its waits for another attempt, in seconds, which then are short."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("waits")
    (folder / "library").mkdir()
    config = folder / "headwater.toml"
    config.write_text(
        '[server]\nallow_embed = ["*"]\n[library]\npath = "library"\n'
        '[[live]]\nname = "studio"\nsource = "publish"\n'
        f'[[radio]]\nname = "station.mp3"\nsource = "publish"\nsource_password = "{PASSWORD}"\n'
    )
    with start_server("--config", str(config), "--port", "0") as running:
        yield running


async def test_a_station_plays_when_the_list_says_that_its_source_is_back(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.page.add_init_script(NO_RETRIES)
    audio = re.compile(r"/radio/station\.mp3\?")
    await tab.page.route(audio, lambda route: route.abort())
    await tab.open("radio")
    await tab.page.get_by_role("button", name="Play station.mp3").click()
    await tab.until("retries > 0")
    await tab.page.unroute(audio)
    address = f"{server.url.replace('http://', f'http://source:{PASSWORD}@')}/radio/station.mp3"
    words = "-re -f lavfi -i sine=frequency=440 -c:a libmp3lame -b:a 64k -f mp3 -content_type audio/mpeg"
    with encoding(*words.split(), "-method", "PUT", address):
        await tab.until("!headwater.audio.paused && headwater.audio.currentTime > 0")
    await tab.page.context.close()


@pytest.mark.parametrize(
    ("target", "media"), [("embed/live/studio", "/live/"), ("embed/radio/station.mp3?autoplay", "/radio/")]
)
async def test_a_frame_tries_again_within_seconds_however_long_nothing_was_on_air(
    browser: Browser, server: ServerProcess, target: str, media: str
) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.page.add_init_script(WAITS)
    await tab.page.route(re.compile(rf"(?<!embed){media}"), lambda route: route.abort())
    await tab.page.goto(f"{server.url}/{target}")
    await tab.page.get_by_text("Nothing is on air at the moment.").wait_for()
    await tab.until("waits.length >= 8")
    waits = await tab.value("waits")
    assert 0 < min(waits) <= max(waits) <= LONGEST_SECONDS
    assert len(set(waits)) > 1, "with jitter"
    await tab.page.context.close()


async def test_who_listens_to_a_station_tries_again_within_seconds_for_twenty_minutes(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.page.add_init_script(WAITS)
    await tab.page.route(re.compile(r"/(radio|events/radio)/"), lambda route: route.abort())
    await tab.open("radio")
    await tab.page.get_by_role("button", name="Play station.mp3").click()
    await tab.until("waits.length >= 12")
    waits = await tab.value("waits")
    assert max(waits) <= LONGEST_SECONDS
    await tab.page.context.close()

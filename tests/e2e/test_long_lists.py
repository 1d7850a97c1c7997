"""Lists of more items than the server answers with at once: the page shows them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import open_tab
from tests.recorded_events import make_recordings

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

CHANNELS, RECORDINGS, LISTED = 510, 450, 200
NAMES = "[...document.querySelectorAll('#panel-events .rows .name')].map(each => each.textContent)"
ROWS = "document.querySelectorAll('#panel-live .with-file').length"
BUTTON = "#panel-live button:text-is('Earlier recordings')"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("long")
    config = '[server]\nport = 0\ndata = "data"\n'
    config += '[[live]]\nname = "live"\nsource = "publish"\nevent = true\ndvr = "1h"\n'
    config += "".join(f'[[events]]\nname = "e{number}"\n' for number in range(CHANNELS))
    (folder / "headwater.toml").write_text(config)
    make_recordings(folder / "data" / "live" / "live" / "recordings", RECORDINGS)
    server = start_server("--config", str(folder / "headwater.toml"))
    yield server
    server.stop()


async def test_the_page_shows_all_event_channels_of_several_pages(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url)
    await tab.open(f"events/e{CHANNELS - 1}")
    await tab.until("headwater.events().state === 'open'")
    names = await tab.page.evaluate(NAMES)
    assert len(names) == CHANNELS
    await tab.page.context.close()


async def test_the_page_fetches_earlier_recordings_when_it_is_asked_to(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url)
    await tab.open("live")
    await tab.until(f"{ROWS} === {LISTED}")
    await tab.page.click(BUTTON)
    await tab.until(f"{ROWS} === {2 * LISTED}")
    await tab.page.click(BUTTON)
    await tab.until(f"{ROWS} === {RECORDINGS}")
    assert not await tab.page.is_visible(BUTTON)
    await tab.page.context.close()


async def test_a_recording_beyond_the_list_opens_by_its_address(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url)
    await tab.open("live/live/20260101T000000Z")
    await tab.until(f"{ROWS} === {LISTED + 1}")
    await tab.page.context.close()

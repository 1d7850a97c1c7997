"""What the page says of a channel while the server is away: one thing at a time, and nothing of before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.e2e.conftest import SMALL, open_tab
from tests.ports import kept_port

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SHOWN = """[...document.querySelectorAll("#notice, #status, #waiting")]
    .filter((one) => one.checkVisibility() && one.textContent).map((one) => one.id).join()"""
VISIBLE_STATES = """[...document.querySelectorAll("main *")]
    .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.childElementCount)
    .map((one) => one.textContent).filter((text) => /\\bon air\\b/i.test(text))"""
EDGE = "document.getElementById('edge').textContent"


@contextlib.contextmanager
def server_at(port: int, folder: Path) -> Iterator[ServerProcess]:
    with start_server("--port", str(port), cwd=folder) as server:
        yield server


async def test_the_page_says_once_that_the_server_is_away_and_nothing_of_a_latency(
    browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "headwater.toml").write_text(copied_channel("a"))
    with kept_port() as port:
        with server_at(port, tmp_path) as server:
            tab = await open_tab(browser, server.url, viewport=SMALL)
            await tab.open("live/a")
            await tab.until(f"/^Live, [0-9.]+ s$/.test({EDGE})")
        # The picture stands, and both the list and the player have noticed.
        await tab.until("headwater.video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA")
        await tab.until("document.getElementById('status').textContent !== ''")
        await tab.until(f"{SHOWN} === 'notice'")
        assert await tab.value(EDGE) in ("Live", "Go to live")
        # No row and no line says a state that nobody knows now.
        assert await tab.value(VISIBLE_STATES) == []
        with server_at(port, tmp_path):
            await tab.until(f"{SHOWN} === '' && /[0-9] s/.test({EDGE})")
        await tab.page.context.close()

"""The page by the server's own HTTPS: films, live, and events in a browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.conftest import start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import SMALL, open_tab
from tests.waiting import wait_for

WIRES = """[...new Set(performance.getEntriesByType("resource").filter(({ name, nextHopProtocol }) =>
  nextHopProtocol && name.startsWith(location.origin)).map((entry) => entry.nextHopProtocol))].join()"""
"""The protocols by which the browser has fetched from the server."""

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def test_films_live_and_events_play_over_tls(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    shutil.copy(film(), tmp_path / "library" / "film.mp4")
    config = tmp_path / "headwater.toml"
    config.write_text(
        '[library]\npath = "library"\n[tls]\ncertificate = "self-signed"\nport = 0\n'
        f'{copied_channel("live")}\n[[events]]\nname = "news"\npublish_token = "a-token-of-news"\n'
    )
    server = start_server("--config", str(config), "--port", "0")
    try:
        found = wait_for(lambda: re.search(r"and at (https://\S+)/", server.text()), "the line about HTTPS")
        assert found is not None
        tab = await open_tab(browser, found[1], ignore_https_errors=True, viewport=SMALL)
        for view in ("library/film.mp4?mode=file", "library/film.mp4?mode=hls", "live/live"):
            await tab.open(view)
            await tab.playing()
            assert await tab.value("location.protocol") == "https:"
            await tab.until(f"{WIRES} === 'h2'")
        await tab.open("events/news")
        posted = await tab.value(
            """fetch("/events/news", { method: "POST", body: "over TLS",
                 headers: { authorization: "Bearer a-token-of-news" } }).then(({ status }) => status)"""
        )
        assert posted == 200
        await tab.until("document.querySelector('.messages li')?.textContent.includes('over TLS')")
        # A WebSocket opens a connection of its own, unless the server says that it shares one (RFC 8441).
        opened = """new Promise((done) => {
          const socket = new WebSocket("wss://" + location.host + "/events/news");
          socket.onopen = () => { socket.close(); done("open"); };
          socket.onerror = () => done("error");
        })"""
        assert await tab.value(opened) == "open"
        await tab.page.context.close()
        assert tab.troubles == []
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()

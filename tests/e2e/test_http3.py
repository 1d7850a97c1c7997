"""The page by HTTP/3 in a browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.certificates import CHAIN, self_signed
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import SMALL, browser_of_http3, open_tab
from tests.waiting import wait_for

LATEST_WIRE = """performance.getEntriesByType("resource").filter(({ name, nextHopProtocol }) =>
  nextHopProtocol && name.startsWith(location.origin)).at(-1)?.nextHopProtocol"""
"""The protocol of the browser's latest request to the server."""

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture
def server(tmp_path: Path) -> ServerProcess:
    (tmp_path / "library").mkdir()
    shutil.copy(film(), tmp_path / "library" / "film.mp4")
    self_signed(tmp_path)
    config = tmp_path / "headwater.toml"
    config.write_text(
        '[library]\npath = "library"\n'
        '[tls]\ncertificate = "chain.pem"\nkey = "key.pem"\nport = 0\nhttp3 = true\n'
        f'{copied_channel("live")}\n[[events]]\nname = "news"\npublish_token = "a-token-of-news"\n'
    )
    return start_server("--config", str(config), "--port", "0")


@pytest.fixture
def origin(server: ServerProcess) -> str:
    found = wait_for(lambda: re.search(r"and at (https://\S+)/", server.text()), "the line about HTTPS")
    assert found is not None
    return found[1]


async def test_films_live_and_events_play_by_http3(
    server: ServerProcess, origin: str, tmp_path: Path
) -> None:
    try:
        async with browser_of_http3(origin, tmp_path / CHAIN) as browser:
            tab = await open_tab(browser, origin, viewport=SMALL)
            for view in ("library/film.mp4?mode=file", "library/film.mp4?mode=hls", "live/live"):
                await tab.open(view)
                await tab.playing()
                await tab.until(f"{LATEST_WIRE} === 'h3'")
            await tab.open("events/news")
            posted = await tab.value(
                """fetch("/events/news", { method: "POST", body: "by QUIC",
                     headers: { authorization: "Bearer a-token-of-news" } }).then(({ status }) => status)"""
            )
            assert posted == 200
            await tab.until("document.querySelector('.messages li')?.textContent.includes('by QUIC')")
            assert await tab.value(LATEST_WIRE) == "h3"
        assert tab.troubles == []
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()

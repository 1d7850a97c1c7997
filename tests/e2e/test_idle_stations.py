"""A station that is silent says for whom it waits: a source, or a listener."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.conftest import start_server
from tests.e2e.conftest import SMALL, open_tab

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

CONFIG = """
[[radio]]
name = "guests.mp3"
source = "publish"
source_password = "of-the-source"

[[radio]]
name = "copy.mp3"
source = "relay"
url = "http://127.0.0.1:9/radio"
on_demand = true
"""
WAITS = {"guests.mp3": "source", "copy.mp3": "listener"}


async def test_an_idle_station_says_for_whom_it_waits(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(CONFIG)
    server = start_server("--config", str(tmp_path / "headwater.toml"), "--port", "0", cwd=tmp_path)
    try:
        async with httpx.AsyncClient() as client:
            told = (await client.get(f"{server.url}/api/radio")).json()
        assert {one["name"]: one["waits_for"] for one in told} == WAITS
        tab = await open_tab(browser, server.url, viewport=SMALL)
        await tab.open("radio")
        for name, awaited in WAITS.items():
            card = tab.page.locator(".station").filter(has_text=f"/radio/{name}")
            await expect(card.locator(".song")).to_have_text(f"Waiting for a {awaited}")
        await tab.page.context.close()
    finally:
        server.stop()

"""Several event channels in one EventSource of a real browser, over a crash of the server."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page

from tests.conftest import start_server
from tests.e2e.conftest import PATIENCE_SECONDS, looked_for, new_page
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

TOKEN = "a-publish-token-of-chat"
READ = """key => {
    window.got = [];
    const source = new EventSource(`/events?channel=chat&channel=room/*&key=${key}`);
    source.onmessage = ({ data, lastEventId }) => got.push([lastEventId.split("=")[0], data]);
}"""
"""As the documentation has it: an event's channel is the first word of its id."""


async def publish(client: httpx.AsyncClient, name: str, token: str, text: str) -> None:
    answer = await client.post(f"/events/{name}", content=text, headers={"authorization": f"Bearer {token}"})
    assert answer.is_success, answer.text


async def gets(page: Page, wanted: dict[str, list[str]]) -> None:
    """Wait until the page has these texts of each channel in their order, and no other ones."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            got: list[tuple[str, str]] = await page.evaluate("got")
            if {name: [text for one, text in got if one == name] for name in wanted} == wanted:
                assert len(got) == sum(map(len, wanted.values()))
                return
            await looked_for(page, "true")


async def test_an_event_source_reads_channels_on_and_loses_nothing_by_a_crash(
    browser: Browser, tmp_path: Path
) -> None:
    config = tmp_path / "headwater.toml"
    config.write_text(
        f'[server]\ndata = "data"\n[[events]]\nname = "chat"\nhistory = "1h"\npublish_token = "{TOKEN}"\n'
        '[[events]]\nname = "room/*"\ncreate = "request"\nhistory = "1h"\n'
    )
    config.chmod(0o600)
    server = await asyncio.to_thread(start_server, "--config", str(config), "--port", "0")
    port = server.url.rpartition(":")[2]
    async with httpx.AsyncClient(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        made = await client.post("/events", json={"name": "room/lobby"}, headers=BEARER)
        assert made.status_code == 201, made.text
        room: dict[str, Any] = made.json()
        other = (await client.post("/events", json={"name": "room/closed"}, headers=BEARER)).json()
        page = await new_page(browser)
        await page.goto(server.url)
        await page.evaluate(READ, room["read_token"])
        await publish(client, "chat", TOKEN, "one")
        await publish(client, "room/lobby", room["publish_token"], "in the lobby")
        await publish(client, "room/closed", other["publish_token"], "behind a door")
        await gets(page, {"chat": ["one"], "room/lobby": ["in the lobby"]})
        server.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(server.process.wait)
    server = await asyncio.to_thread(start_server, "--config", str(config), "--port", port)
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=CLIENT_SECONDS) as client:
            await publish(client, "room/lobby", room["publish_token"], "again")
            await publish(client, "chat", TOKEN, "two")
            await gets(page, {"chat": ["one", "two"], "room/lobby": ["in the lobby", "again"]})
            state = await client.get("/events/room/lobby", headers=BEARER)
            assert (state.status_code, state.json()["name"]) == (200, "room/lobby")
            assert (await client.delete("/events/room/lobby", headers=BEARER)).is_success
            assert (await client.get("/events/room/lobby", headers=BEARER)).status_code == 410
        await page.close()
    finally:
        server.stop()

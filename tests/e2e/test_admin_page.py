"""The page `/admin/` of a station in a real browser: what the administrator can do there, by its forms."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, HttpCredentials, ViewportSize

from tests.clients.programs import environment
from tests.conftest import start_server
from tests.e2e.conftest import PATIENCE_SECONDS, PHONE
from tests.e2e.station_tones import tone
from tests.keys import ADMIN_TOKEN
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

STATION = """
[[radio]]
name = "{0}.mp3"
source = "publish"
source_password = "sesame-of-the-source"
aliases = ["/{0}"]
"""


async def source(url: str, station: str) -> asyncio.subprocess.Process:
    """Send a tone in real time, as a station's source."""
    to = f"icecast://source:sesame-of-the-source@{url.partition('://')[2]}/radio/{station}.mp3"
    tone = ["-re", "-f", "lavfi", "-i", "sine", "-b:a", "64k", "-content_type", "audio/mpeg", "-f", "mp3", to]
    return await asyncio.create_subprocess_exec(
        "ffmpeg", "-nostdin", "-v", "error", *tone, env=environment(), stderr=subprocess.DEVNULL
    )


async def test_a_station_is_listed_once_and_administered_by_its_forms(
    browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "headwater.toml"
    stations = "".join(STATION.format(name) for name in ("morning", "night"))
    path.write_text(f'[server]\nadmin_token = "{ADMIN_TOKEN}"\n{stations}')
    path.chmod(0o600)
    server = await asyncio.to_thread(start_server, "--config", str(path), "--port", "0")
    sources = [await source(server.url, name) for name in ("morning", "night")]
    context = await browser.new_context(http_credentials={"username": "admin", "password": ADMIN_TOKEN})
    context.set_default_timeout(1000 * PATIENCE_SECONDS)
    client = httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS)

    async def on_air() -> dict[str, str]:
        told = (await client.get("/status-json.xsl")).json()["icestats"]["source"]
        return {one["listenurl"].rpartition("/")[2]: one["title"] for one in told}

    async def told(label: str, mount: str = "/radio/morning.mp3") -> str:
        """Press a button of a station; give the page's answer."""
        section = f'form:has(input[value="{mount}"]) button:text-is("{label}")'
        async with page.expect_navigation():
            await page.click(section)
        return await page.inner_text("body")

    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(await on_air()) < 4:
            await asyncio.sleep(0.1)
    page = await context.new_page()
    try:
        await page.goto(f"{server.url}/admin/")
        assert await page.locator("h2").all_inner_texts() == [
            "Mountpoint /radio/morning.mp3",
            "Mountpoint /radio/night.mp3",
        ]
        assert "Also at /morning" in await page.inner_text("body")

        await page.fill(
            'form:has(input[value="/radio/morning.mp3"]) input[name=song]', "Grieg - Morgenstimmung"
        )
        assert "Metadata update successful" in await told("Set the title")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await on_air())["morning.mp3"] != "Grieg - Morgenstimmung":
                await asyncio.sleep(0.1)

        async with client.stream("GET", "/radio/morning.mp3") as listener:
            heard = listener.aiter_bytes()
            await anext(heard)
            await page.goto(f"{server.url}/admin/")
            assert "Clients moved" in await told("Move the listeners")
            await page.goto(f"{server.url}/admin/listclients.xsl?mount=/radio/night.mp3")
            assert "removed" in await told("Disconnect the listener", "/radio/night.mp3")
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for _ in heard:
                    pass

        await page.goto(f"{server.url}/admin/")
        assert "Source Removed" in await told("Disconnect the source")
        await until(lambda: sources[0].returncode is not None)
        assert sources[1].returncode is None
    finally:
        await context.close()
        await client.aclose()
        for one in sources:
            if one.returncode is None:
                one.terminate()
                await one.wait()
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize("path", ["/admin/", "/status.xsl", "/admin/listmounts.xsl"])
async def test_the_pages_of_stations_fit_on_a_phone(browser: Browser, tmp_path: Path, path: str) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "one.mp3").write_bytes(tone(440, 6, title="Donaudampfschifffahrtsgesellschaft" * 3))
    name = f"{'a-station-whose-name-is-long' * 2}.mp3"
    config = f'[[radio]]\nname = "{name}"\nfolder = "music"\nbitrate = 64\naliases = ["/{"an-alias" * 6}"]\n'
    (tmp_path / "headwater.toml").write_text(f'[server]\nport = 0\nadmin_token = "{ADMIN_TOKEN}"\n{config}')
    server = await asyncio.to_thread(start_server, cwd=tmp_path)
    phone = ViewportSize(width=PHONE["width"], height=PHONE["height"])
    credentials = HttpCredentials(username="admin", password=ADMIN_TOKEN)
    context = await browser.new_context(http_credentials=credentials, viewport=phone)
    try:
        page = await context.new_page()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "Donaudampf" not in httpx.get(f"{server.url}/status.xsl", timeout=PATIENCE_SECONDS).text:
                await asyncio.sleep(0.1)
        await page.goto(server.url + path)
        assert name in await page.inner_text("body")
        # At 390 pixels nothing leads beyond the edge.
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await page.evaluate("innerWidth") == PHONE["width"]
    finally:
        await context.close()
        await asyncio.to_thread(server.stop)

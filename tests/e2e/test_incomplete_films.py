"""A film that is still being downloaded, in the list and on the page."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import start_server
from tests.e2e.conftest import open_tab
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SOURCE = "-f lavfi -i testsrc2=size=160x90:rate=10:duration=6"
MADE = f"{SOURCE} -g 10 -c:v libx264 -preset ultrafast -pix_fmt yuv420p"


async def test_half_a_download_is_shown_as_incomplete_until_it_is_whole(
    browser: Browser, tools: Tools, tmp_path: Path
) -> None:
    film = tmp_path / "film.mkv"
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *MADE.split(), str(film)]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=120)
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "other.mkv").write_bytes(whole)
    server = await asyncio.to_thread(start_server, "--library", str(tmp_path), "--port", "0")

    def listed() -> dict[str, str | None]:
        answer = httpx.get(f"{server.url}/api/library", timeout=60).json()
        return {one["path"]: one["incomplete"] for one in answer if one["playable"] is not None}

    try:
        told = f"{len(whole) // 2} of {len(whole)} bytes are there"
        expected = {"film.mkv": told, "other.mkv": None}
        await asyncio.to_thread(wait_for, lambda: listed() == expected, "both films")
        tab = await open_tab(browser, server.url)
        await tab.open("library/other.mkv")
        await tab.until(f"document.body.innerText.includes('incomplete: {told}')")
        # What is there plays with its own length, and the whole one is named as that.
        await tab.open("library/film.mkv")
        await tab.until("headwater.video.ended")
        assert 1 < await tab.page.evaluate("headwater.video.duration") < 5
        assert not (await tab.page.inner_text("#time")).endswith("/ 0:06")
        assert "0:06 when it is whole" in await tab.page.inner_text("body")
        await tab.page.context.close()
        film.write_bytes(whole)
        expected["film.mkv"] = None
        await asyncio.to_thread(wait_for, lambda: listed() == expected, "the whole film")
    finally:
        await asyncio.to_thread(server.stop)

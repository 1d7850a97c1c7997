"""Captions in the picture (CEA-608) of films and live channels: they are announced, and players show them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import m3u8
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import PATIENCE_SECONDS, POLL_SECONDS, SMALL, open_tab
from tests.packager.captioned_films import FRAMES, constructs, film, odd, popped_on, shown_by_ffmpeg
from tests.ports import kept_port

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

TEXT = "HELLO 608 "
KEY = "of-the-studio-41c7"
CONFIG = """
[server]
port = {port}
rtmp_port = {rtmp}

[[live]]
name = "test"
source = "publish"
publish_key = "{key}"
ladder = ["source", "240p"]
part_duration = 0.5
segment_duration = 1.0
dvr = "1h"
"""
SHOWN = """[...headwater.video.textTracks].filter((track) => track.mode === "showing")
  .flatMap((track) => [...track.activeCues ?? []]).some((cue) => cue.text.includes("HELLO 608"))"""
ANNOUNCED = 'schemeIdUri="urn:scte:dash:cc:cea-608:2015" value="CC1=und"'
FILM = "library/film.mp4"
MODES = ("hls", "dash")
ERASED = [(odd(0x14), odd(0x2C))]
SHOWN_AT = 2.0
"""A moment at which the film shows its caption, in seconds."""


@dataclass
class Captioned:
    """A server with a film, which is also published to a channel in a loop."""

    server: ServerProcess
    client: httpx.AsyncClient

    async def text(self, name: str) -> str:
        return (await self.client.get(f"/live/test/{name}")).text

    async def until_announced(self) -> None:
        """Wait until the channel names captions in the picture."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "CLOSED-CAPTIONS" not in (text := await self.text("master.m3u8")):
                await asyncio.sleep(POLL_SECONDS)
            while ANNOUNCED not in await self.text("manifest.mpd"):
                await asyncio.sleep(POLL_SECONDS)
        playlist = m3u8.loads(text)
        captions = [one for one in playlist.media if one.type == "CLOSED-CAPTIONS"]
        assert [(one.instream_id, one.uri) for one in captions] == [("CC1", None)]
        groups = [one.stream_info.closed_captions for one in playlist.playlists]
        assert groups == [f'"{captions[0].group_id}"'] * 2

    async def fetched(self, path: Path, rendition: str) -> Path:
        """Fetch what a rendition's playlist has at the moment."""
        playlist = m3u8.loads(await self.text(f"{rendition}/media.m3u8"))
        names = [playlist.segments[0].init_section.uri, *(one.uri for one in playlist.segments)]
        gotten = [await self.client.get(f"/live/test/{rendition}/{name}") for name in names]
        path.write_bytes(b"".join(one.content for one in gotten))
        return path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def captioned(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Captioned]:
    folder = tmp_path_factory.mktemp("captioned")
    (folder / "library").mkdir()
    shown = constructs(popped_on(TEXT, 1), 0, 40) + constructs(ERASED, 0, FRAMES - 40)
    once = await asyncio.to_thread(film, folder / "library" / "film.mp4", shown)
    with kept_port() as port, kept_port() as rtmp:
        (folder / "headwater.toml").write_text(CONFIG.format(port=port, rtmp=rtmp, key=KEY))
        server = await asyncio.to_thread(start_server, "--config", "headwater.toml", cwd=folder)
        words = f"-nostdin -v error -re -stream_loop -1 -i {once} -c copy -f flv"
        address = f"rtmp://127.0.0.1:{rtmp}/live/test?key={KEY}"
        publisher = await asyncio.create_subprocess_exec("ffmpeg", *words.split(), address)
        try:
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as client:
                yield Captioned(server, client)
        finally:
            publisher.kill()
            await publisher.wait()
            await asyncio.to_thread(server.stop)


@pytest.mark.clause("RFC 8216bis §4.4.6.1")
async def test_live_ladders_announce_captions_of_copied_and_encoded_pictures(
    captioned: Captioned, tmp_path: Path
) -> None:
    await captioned.until_announced()
    for rendition in ("source", "240p"):
        async with asyncio.timeout(PATIENCE_SECONDS):
            path = tmp_path / f"{rendition}.mp4"
            while TEXT.strip() not in shown_by_ffmpeg(await captioned.fetched(path, rendition)):
                await asyncio.sleep(POLL_SECONDS)


@pytest.mark.parametrize(
    "view", ["live/test", "live/test?mode=dash", *(f"{FILM}?mode={one}" for one in MODES)]
)
async def test_the_page_shows_captions_in_the_picture(
    browser: Browser, captioned: Captioned, view: str
) -> None:
    await captioned.until_announced()
    tab = await open_tab(browser, captioned.server.url, viewport=SMALL)
    await tab.open(view)
    await tab.until("document.getElementById('captions-toggle').hidden === false")
    assert not await tab.value(SHOWN)
    await tab.page.locator("#captions-toggle").click()
    if view.startswith(FILM):
        await tab.value(f"void (headwater.video.currentTime = {SHOWN_AT})")
    await tab.until(SHOWN)
    assert await tab.value("document.getElementById('captions').selectedOptions[0].label") == "CC1"
    await tab.page.context.close()

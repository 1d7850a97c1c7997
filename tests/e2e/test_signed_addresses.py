"""The page behind a token: it shows and plays what the token is valid for, to the end, and nothing else."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from playwright.async_api import Browser

from origin.access.address_tokens import SigningKeys
from tests.conftest import start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import SMALL, open_tab
from tests.patience import CLIENT_SECONDS

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

KEY = "2026-11:a-secret-of-the-tests"


async def test_a_protected_film_and_channel_play_behind_their_token(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "library" / "private").mkdir(parents=True)
    path = tmp_path / "library" / "private" / "film.mp4"
    copy = ["ffmpeg", "-v", "error", "-i", str(film()), "-t", "8", "-c", "copy", str(path)]
    subprocess.run(copy, check=True, timeout=CLIENT_SECONDS)
    config = tmp_path / "headwater.toml"
    config.write_text(
        f'[access]\nkeys = ["{KEY}"]\n[library]\npath = "library"\naccess = "signed"\n'
        + copied_channel("demo", 'access = "signed"')
    )
    server = start_server("--config", str(config), "--port", "0")
    try:
        expires = int(time.time()) + 3600
        for signed, view in (
            ("/vod/private", "library/private/film.mp4?mode=hls"),
            ("/live/demo", "live/demo"),
        ):
            token = SigningKeys([KEY]).sign(signed, expires)
            tab = await open_tab(browser, f"{server.url}/t/{token}", viewport=SMALL)
            await tab.open(view)
            await tab.playing()
            names = await tab.value("performance.getEntriesByType('resource').map((one) => one.name)")
            media = [name for name in names if "/api/" not in name and name.endswith((".m3u8", ".m4s"))]
            assert media
            prefix = f"{server.url}/t/{token}{signed}/"
            assert [name for name in media if not name.startswith(prefix)] == []
            if signed == "/vod/private":
                await tab.value("void (headwater.video.currentTime = headwater.video.duration - 2)")
                await tab.until("headwater.video.ended")
                await tab.page.goto(f"{server.url}/t/{token}/embed/vod/private/film.mp4?autoplay&muted")
                await tab.until("headwater.media.currentTime > 1")
            assert tab.troubles == []
            await tab.page.context.close()
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()

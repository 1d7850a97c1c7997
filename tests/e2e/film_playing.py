"""Films that are played to their end on a page, at four times their speed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from playwright.async_api import Browser, Route

from packager.process.ffmpeg_discovery import Tools
from tests.e2e.conftest import new_page
from tests.e2e.timed_film import address, opened

HLS_JS = Path(__file__).parents[2] / "player" / "vendor" / "hls.min.mjs"

PLAY = """
() => {
  video.addEventListener("canplay", () => { video.playbackRate = 4; });
  video.addEventListener("pause", () => { if (!video.ended) video.play().catch(() => {}); });
  video.playbackRate = 4;
  video.play().catch(() => {});
}
"""
"""dash.js sets the source once more behind its first segments, which ends what played before."""


def encode(tools: Tools, path: Path, pictures: str, sound: float, options: str) -> None:
    """Encode a film.

    Args:
        tools: ffmpeg.
        path: where to.
        pictures: a source of pictures, as lavfi knows it.
        sound: seconds of sound.
        options: how both are encoded.
    """
    inputs = f"-f lavfi -i {pictures} -f lavfi -i sine=440:r=48000:d={sound}"
    codecs = f"-vsync vfr -c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -c:a aac {options}"
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *inputs.split(), *codecs.split()]
    subprocess.run([*command, f"file:{path}"], check=True)


async def give_hls_js(route: Route) -> None:
    """Answer a page's request for hls.js, also on a server that doesn't have it."""
    await route.fulfill(path=HLS_JS, content_type="text/javascript")


async def played_to_the_end(browser: Browser, url: str, kind: str, seconds: float) -> None:
    """Play a film in a player at four times its speed, and check that it ends where it should."""
    page = await new_page(browser)
    if kind == "hls.js":
        await page.route("**/player/vendor/hls.min.mjs", give_hls_js)
    async with opened(page, kind, f"{url}/{address(kind)}") as watching:
        assert await page.evaluate("video.duration") == pytest.approx(seconds, abs=0.1)
        await page.evaluate(PLAY)
        await watching.until("video.ended || troubles.length")
        facts = await page.evaluate("() => ({ troubles, ended: video.ended, time: video.currentTime })")
        assert (facts["troubles"], facts["ended"]) == ([], True)
        assert facts["time"] == pytest.approx(seconds, abs=0.1)
    await page.close()

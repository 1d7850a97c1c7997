"""A page on which hls.js, dash.js or Shaka Player plays a stream."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from playwright.async_api import Page

from tests.e2e.conftest import looked_for
from tests.e2e.scripts import script

PATIENCE_SECONDS = 300.0

NO_RETRIES = """
  window.retries = 0;
  const { setTimeout: soon } = window;
  window.setTimeout = (action, wait, ...rest) => {
    if (!new Error().stack.includes("/retry.js")) return soon(action, wait, ...rest);
    window.retries += 1;
    return 1;
  };
"""
"""Makes a page whose waits for another attempt never end, as if each were as long as a viewer's patience."""

DASHJS = """
window.player = dashjs.MediaPlayer().create();
window.troubles = [];
window.stalls = 0;
player.on('error', event => troubles.push(JSON.stringify(event.error)));
player.on('playbackStalled', () => { if (window.watching) stalls += 1; });
player.updateSettings({streaming: {abr: {autoSwitchBitrate: {video: true}}}});
player.initialize(video, MANIFEST, true);
window.latency = () => player.getCurrentLiveLatency();
"""

SHAKA = """
window.player = new shaka.Player();
window.troubles = [];
window.stalls = 0;
player.addEventListener('error', event => troubles.push(JSON.stringify(event.detail)));
player.configure({streaming: {lowLatencyMode: true, liveSync: {enabled: true}}});
window.latency = () => player.getStats().liveLatency;
player.attach(video).then(() => player.load(MANIFEST)).catch(error => troubles.push(String(error.code)));
"""


class Watching:
    """A page with one video and one player."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def until(self, expression: str, seconds: float = PATIENCE_SECONDS) -> Any:
        end = time.monotonic() + seconds
        while not (value := await looked_for(self.page, expression)):
            if time.monotonic() > end:
                facts = await self.facts()
                pytest.fail(f"{expression} not in {seconds:.0f} s: {facts}")
        return value

    async def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = await self.page.evaluate(
            "({time: video.currentTime, ready: video.readyState, troubles, stalls, latency: latency(),"
            " width: video.videoWidth, frames: video.getVideoPlaybackQuality().totalVideoFrames,"
            " dropped: video.getVideoPlaybackQuality().droppedVideoFrames})"
        )
        return facts

    async def load(self, package: str | None, start: str, manifest: str) -> None:
        """Begin to play, whether anything comes or not; without a package the script needs none."""
        await self.page.set_content("<video muted autoplay width=160></video>")
        await self.page.evaluate("void (window.video = document.querySelector('video'))")
        if package is not None:
            await self.page.add_script_tag(path=script(package))
        await self.page.evaluate(f"async () => {{ {start.replace('MANIFEST', json.dumps(manifest))} }}")

    async def play(self, package: str | None, start: str, manifest: str) -> None:
        await self.load(package, start, manifest)
        await self.until("video.currentTime > 0 && (video.readyState >= 3 || video.ended)")

    async def watch(self, seconds: float) -> list[float]:
        """Play on, and give the latency twice a second."""
        await self.page.evaluate(
            "() => { window.watching = true; video.addEventListener('waiting', () => stalls += 1); }"
        )
        latencies = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(0.5)
            latencies.append(float(await self.page.evaluate("latency()")))
        return latencies

"""A viewer with hls.js in a real Chromium, and what that one sees of a live channel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Page, Response, async_playwright

from tests.e2e.conftest import SMALL, launching

HLS_JS = Path(__file__).parents[2] / "player" / "vendor" / "hls.min.mjs"
BAD_REQUEST = 400
SEEK_SECONDS = 3.0
PLAYED = """(([played]) => played.length > 0 && played.end(played.length - 1) - played.start(0) > 10)
  ([document.querySelector("video").played])"""
"""Whether the picture has gone on for ten seconds."""

PAGE = """async ([source, address]) => {
  const module = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: Hls } = await import(module);
  const video = document.querySelector("video");
  const hls = new Hls({ lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.08 });
  const fresh = () => ({ stalled: 0, longest: 0, errors: [], fatal: [], latency: 0, skipped: 0 });
  let seen = fresh();
  hls.on(Hls.Events.ERROR, (_, data) => {
    const status = data.response?.code ? ` ${data.response.code}` : "";
    (data.fatal ? seen.fatal : seen.errors).push(data.details + status);
    // What the documentation of hls.js has pages do.
    if (data.fatal && data.type === Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
    else if (data.fatal) setTimeout(() => hls.loadSource(address), 1000);
  });
  hls.loadSource(address);
  hls.attachMedia(video);
  let [time, date, moment, still] = [0, 0, performance.now(), 0];
  setInterval(() => {
    const now = performance.now();
    const played = video.currentTime - time;
    const shown = (hls.playingDate?.getTime() ?? 0) / 1000;
    still = played === 0 ? still + (now - moment) / 1000 : 0;
    if (played === 0) seen.stalled += (now - moment) / 1000;
    seen.longest = Math.max(seen.longest, still);
    seen.latency = Math.max(seen.latency, hls.latency);
    // By the programme's clock, where the picture goes on behind a gap.
    if (date && shown && shown - date - played > 0.2) seen.skipped += shown - date - played;
    [time, date, moment] = [video.currentTime, shown, now];
  }, 50);
  window.goLive = () => {
    if (hls.latency > hls.targetLatency + 1) video.currentTime = hls.liveSyncPosition;
  };
  window.take = () => {
    const taken = { ...seen, latency_now: hls.latency, behind: Date.now() / 1000 - date };
    seen = fresh();
    return taken;
  };
}"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a viewer saw in some time.

    Attributes:
        stalled: seconds in which the picture stood still.
        longest: the longest of them without a break.
        errors: what hls.js told of, and got over by itself.
        fatal: what the page had to begin anew for.
        latency: the largest, in seconds.
        latency_now: at the end.
        behind: seconds of the picture's time behind the clock at the end.
        skipped: seconds of the programme that weren't shown.
        refused: answers with a status of 400 or more, and requests that got none.
    """

    stalled: float
    longest: float
    errors: tuple[str, ...]
    fatal: tuple[str, ...]
    latency: float
    latency_now: float
    behind: float
    skipped: float
    refused: tuple[str, ...]


class Viewer:
    """A page that plays a channel.

    Args:
        page: it.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._refused: list[str] = []
        page.on("response", self._note)
        page.on("requestfailed", lambda one: self._refused.append(f"{one.failure} {one.url}"))

    def _note(self, response: Response) -> None:
        if response.status >= BAD_REQUEST:
            self._refused.append(f"{response.status} {response.url}")

    async def play(self, address: str) -> None:
        """Begin to play, and wait until it has gone on for a while: players look for their place at first."""
        await self._page.set_content("<video muted autoplay width=320></video>")
        await self._page.evaluate(PAGE, [HLS_JS.read_text("utf-8"), address])
        await self._page.wait_for_function(PLAYED)

    async def go_live(self) -> None:
        """Go to the live edge, as by a player's button, where the picture is far behind it, and play on."""
        await self._page.evaluate("goLive()")
        await asyncio.sleep(SEEK_SECONDS)

    async def take(self) -> Seen:
        """Give what was seen since this was asked last."""
        told: dict[str, Any] = await self._page.evaluate("take()")
        errors, fatal = tuple(told.pop("errors")), tuple(told.pop("fatal"))
        refused, self._refused = tuple(self._refused), []
        return Seen(**told, errors=errors, fatal=fatal, refused=refused)


@contextlib.asynccontextmanager
async def viewing(address: str) -> AsyncIterator[Viewer]:
    """Have somebody watch the channel at this address."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**launching())
        try:
            viewer = Viewer(await browser.new_page(viewport=SMALL))
            await viewer.play(address)
            yield viewer
        finally:
            await browser.close()

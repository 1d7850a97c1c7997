"""Chromium's own player seeks through a gigabyte, and fetches little of it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from tests.clients.films import make_film
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import SMALL, keep, looked_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

FILM_SIZE = 1_000_000_000
PLACES = 20
SMALL_PART = FILM_SIZE // 8
"""What may be fetched besides what the browser holds at the places: its index, and what was under way."""

SEEK_SECONDS = 240.0

WATCH = """() => {
  const video = window.video = document.querySelector('video');
  window.seen = -1;
  const frame = (_, shown) => { window.seen = shown.mediaTime; video.requestVideoFrameCallback(frame); };
  video.requestVideoFrameCallback(frame);
}"""

HELD = """Array.from({ length: video.buffered.length }, (_, i) => i)
  .map((i) => [video.buffered.start(i), video.buffered.end(i)])
  .filter(([begin, end]) => begin <= video.currentTime && video.currentTime <= end)
  .reduce((sum, [begin, end]) => sum + end - begin, 0)"""
"""Seconds of the film around the place that the browser has."""


@pytest.fixture(scope="module")
def large_film(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with one film of a gigabyte, `film.mp4`."""
    folder: Path = tmp_path_factory.mktemp("large")
    film = folder / "film.mp4"
    make_film(film, FILM_SIZE, moov_first=True)
    assert film.stat().st_size >= FILM_SIZE
    server = start_server("--library", str(folder), "--port", "0")
    yield server
    server.stop()
    film.unlink()


async def until(page: Page, expression: str) -> None:
    end = time.monotonic() + SEEK_SECONDS
    while not await looked_for(page, expression):
        if time.monotonic() > end:
            state = await page.evaluate("[video.currentTime, seen, video.readyState, video.error?.message]")
            pytest.fail(f"{expression} not in {SEEK_SECONDS:.0f} s; {state}")


async def test_twenty_places_of_a_gigabyte_play_and_cost_a_small_part_of_it(
    browser: Browser, large_film: ServerProcess
) -> None:
    """Each seek shows the frame of its place and plays on; the bytes are those that Chromium received."""
    context = await browser.new_context(viewport=SMALL)
    context.set_default_timeout(1000 * SEEK_SECONDS)
    page = await context.new_page()
    fetched = {"bytes": 0, "requests": 0, "partial": 0}

    def data(event: dict[str, Any]) -> None:
        fetched["bytes"] += event["dataLength"]

    def response(event: dict[str, Any]) -> None:
        fetched["requests"] += 1
        fetched["partial"] += event["response"]["status"] == 206

    devtools = await context.new_cdp_session(page)
    devtools.on("Network.dataReceived", data)
    devtools.on("Network.responseReceived", response)
    await devtools.send("Network.enable")
    await page.goto(f"{large_film.url}/media/film.mp4")
    await page.evaluate(WATCH)
    await until(page, "video.duration > 0 && seen >= 0")
    duration = await page.evaluate("video.duration")
    places = [duration * (number + 0.5) / PLACES for number in range(PLACES)]
    random.Random(20).shuffle(places)
    waited = []
    held = 0.0
    for place in places:
        asked = time.monotonic()
        # It stands meanwhile: the frame of this time, within two frames' time, may be looked at late.
        await page.evaluate(f"video.pause(), seen = -1, video.currentTime = {place}, 0")
        await until(page, f"!video.seeking && seen > {place} - 0.08 && seen < {place} + 0.08")
        waited.append(time.monotonic() - asked)
        # Then half a second is played on from it.
        await page.evaluate("void video.play()")
        await until(page, f"!video.paused && video.currentTime > {place} + 0.5 && seen > {place} + 0.4")
        assert await page.evaluate("video.error") is None
        held += FILM_SIZE * await page.evaluate(HELD) / duration
    await context.close()
    keep("seeking", {**fetched, "held": held, "film": FILM_SIZE, "seconds": duration, "slowest": max(waited)})
    assert fetched["partial"] >= PLACES
    # How far ahead the browser reads depends on how long it stood at each.
    assert 0 < fetched["bytes"] < held + SMALL_PART
    assert held < FILM_SIZE / 2

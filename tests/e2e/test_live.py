"""Live on the page: latency, and playing on when the encoder or the whole origin dies."""

import asyncio
import math
import os
import signal
import statistics
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Route

from tests.conftest import ServerProcess, small_demo, start_server
from tests.copied_channel import film
from tests.e2e.conftest import SMALL, Tab, keep, looks, open_tab
from tests.run_journal import Figures
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

MOST_LATENCY_SECONDS = 6.0
RECOVERY_SECONDS = 240.0
SAMPLES = 6
HEARD = """fetch("/api/radio").then((answer) => answer.json())
  .then((stations) => stations[0].listeners === 1).catch(() => false)"""
LIVE = "document.getElementById('edge')"
DATE = "headwater.hls?.playingDate?.getTime()"
"""None while the page begins anew."""

LATE_SECONDS = 6.0
"""How late each of two answers is, one behind the other: a page that shows nothing for eight begins anew."""


@pytest.fixture(scope="module")
def demo_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One whose channel is encoded, in two sizes."""
    with small_demo(request.path.stem, tmp_path_factory.mktemp("demo")) as server:
        yield server


@pytest.mark.realtime
async def test_a_live_channel_plays_close_to_now(tab: Tab, figures: Figures) -> None:
    await tab.open("live/demo")
    await tab.playing()
    await tab.until("headwater.stats().latency > 0 && headwater.stats().wallLatency !== null")
    for _ in looks():
        latencies, clocks, paces = [], [], []
        for _ in range(SAMPLES):
            paces.append(await tab.pace("video", 0.7))
            stats = await tab.stats()
            latencies.append(stats["latency"] or math.inf)
            clocks.append(stats["wallLatency"] or math.inf)
        typical = {"latency": statistics.median(latencies), "by_clock": statistics.median(clocks)}
        keep("live-latency", {**typical, "latencies": latencies, "by_clock_all": clocks, "stats": stats})
        is_near = all(0 < seconds < MOST_LATENCY_SECONDS for seconds in typical.values())
        if is_near and min(paces) > 0 and stats["levels"] == 2:
            break
    assert min(paces) > 0
    assert typical["latency"] > 0
    assert typical["by_clock"] > 0
    figures.judge(is_near, f"{typical} s behind, {MOST_LATENCY_SECONDS} at most")
    assert stats["levels"] == 2
    await tab.screenshot("live")
    # Beside a publisher's return the estimate of the live edge may lie behind what is played.
    for wrong in ("-0.2", "-0.04"):
        await tab.value(
            f"void Object.defineProperty(headwater.hls, 'latency', {{ value: {wrong}, configurable: true }})"
        )
        await tab.until(f"{LIVE}.textContent === 'Live' && {LIVE}.classList.contains('at-edge')")
        assert (await tab.stats())["latency"] is None


async def test_going_to_the_live_edge_catches_up_after_a_pause(tab: Tab) -> None:
    await tab.open("live/demo")
    await tab.playing()
    await tab.value("headwater.video.pause()")
    # Behind the newest part: on a busy machine the encoder itself falls behind the clock on the wall.
    await tab.until(f"headwater.stats().latency > {MOST_LATENCY_SECONDS} + 2")
    await tab.page.get_by_role("button", name="Go to live").click()
    await tab.until(f"!headwater.video.paused && headwater.stats().latency < {MOST_LATENCY_SECONDS}")
    await tab.playing()


async def test_a_channel_that_begins_slowly_is_given_longer_each_time(tab: Tab) -> None:
    async def answer_late(route: Route) -> None:
        if route.request.method == "GET":
            await asyncio.sleep(LATE_SECONDS)
        await route.continue_()

    for address in ("**/master.m3u8", "**/*p/init-*.mp4"):
        await tab.page.route(address, answer_late)
    await tab.open("live/demo")
    await tab.playing()
    assert (await tab.stats())["recoveries"] > 0
    await tab.until("document.getElementById('status').textContent === ''")


def _encoders(server: ServerProcess) -> list[int]:
    """The server's ffmpegs that encode the film: those of the live channel."""
    return [pid for pid, line in server.command_lines().items() if bytes(film()) in line]


@pytest.mark.clause("Viewers outlast kills of the encoder")
async def test_the_page_plays_on_when_the_encoder_is_killed(
    browser: Browser, demo_server: ServerProcess
) -> None:
    tab = await open_tab(browser, demo_server.url, viewport=SMALL)
    await tab.open("live/demo")
    await tab.playing()
    await tab.value("void (window.sameDocument = true)")
    encoder = await asyncio.to_thread(demo_server.encoder, bytes(film()))
    date = await tab.until(DATE)
    os.kill(encoder, signal.SIGKILL)
    # Ten seconds of the channel later everything that was buffered has been used up.
    await tab.until(f"{DATE} > {date} + 10000 && !headwater.video.paused", RECOVERY_SECONDS)
    await tab.playing(RECOVERY_SECONDS)
    assert await tab.value("window.sameDocument")
    await until(lambda: _encoders(demo_server) not in ([], [encoder]), "another encoder")
    await tab.until(f"headwater.stats().latency < {MOST_LATENCY_SECONDS}", RECOVERY_SECONDS)
    keep("live-encoder-killed", await tab.stats())
    await tab.page.context.close()


async def test_the_page_plays_on_when_the_origin_is_killed_and_started_again(
    browser: Browser, own_server: ServerProcess, own_library: Path
) -> None:
    tab, radio = [await open_tab(browser, own_server.url, viewport=SMALL) for _ in range(2)]
    await radio.open("radio/demo.mp3")
    await radio.until("headwater.audio.currentTime > 0.5")
    await tab.open("live/demo")
    await tab.playing()
    await tab.value("void (window.sameDocument = true)")
    own_server.stop(signal.SIGKILL)
    await tab.until("!document.getElementById('notice').hidden", RECOVERY_SECONDS)
    port = urlsplit(own_server.url).port
    again = start_server(
        "--library", str(own_library), "--demo", "--port", str(port), env={"HEADWATER_SERVER_RTMP_PORT": "0"}
    )
    try:
        date = await tab.value("Date.now()")
        await tab.until(f"{DATE} > {date}", RECOVERY_SECONDS)
        await tab.playing(RECOVERY_SECONDS)
        assert await tab.value("window.sameDocument")
        await tab.until("document.getElementById('notice').hidden")
        await tab.until("document.getElementById('status').textContent === ''")
        await radio.until(HEARD, RECOVERY_SECONDS)
        heard = await radio.value("headwater.audio.currentTime")
        await radio.until(f"Math.abs(headwater.audio.currentTime - {heard}) > 1", RECOVERY_SECONDS)
        await radio.until("document.getElementById('radio-status').textContent === ''")
    finally:
        for each in (tab, radio):
            await each.page.context.close()
        again.stop()


async def test_a_channel_is_wound_back_and_led_to_a_time_of_day_and_to_its_live_edge(tab: Tab) -> None:
    await tab.open("live/demo")
    await tab.playing()
    seek = "document.getElementById('seek-range')"
    behind = "headwater.stats().latency"
    kept = "document.getElementById('seek').checkVisibility({ visibilityProperty: true })"
    await tab.until(f"{kept} && headwater.video.currentTime > 14")
    # To the beginning of what the channel keeps.
    # A busy machine may have lost that before it has loaded it: then a viewer winds back again.
    wind = f"({seek}.value = 0, {seek}.dispatchEvent(new Event('input')))"
    await tab.until(f"!headwater.video.seeking && ({behind} > 9 || ({behind} < 5 && {wind}, false))")
    await tab.playing()
    live = tab.page.get_by_role("button", name="Go to live")
    await live.wait_for()
    assert "ahead" in await live.inner_text()
    await tab.until("headwater.hls.config.liveMaxLatencyDuration === Infinity")
    # To a time of day, some seconds on.
    moment = "new Date(headwater.hls.playingDate.getTime() + 4000).toTimeString().slice(0, 8)"
    wanted = await tab.value(
        f"((field, text) => (field.value = text, field.dispatchEvent(new Event('change')), text))"
        f"(document.getElementById('clock'), {moment})"
    )
    shown = "headwater.hls.playingDate.toTimeString().slice(0, 8)"
    await tab.until(f"!headwater.video.seeking && {shown} >= '{wanted}'")
    await live.click()
    await tab.until("document.getElementById('edge').textContent.startsWith('Live')")
    # Whom the network left behind, beyond what playing faster catches up with, is brought to live.
    await tab.until("Number.isFinite(headwater.hls.config.liveMaxLatencyDuration)")
    await tab.value(
        "(window.seeks = 0, headwater.video.addEventListener('seeking', () => (window.seeks += 1)),"
        " headwater.video.currentTime -= 10, 0)"
    )
    await tab.until(f"window.seeks > 1 && {behind} < {MOST_LATENCY_SECONDS}")

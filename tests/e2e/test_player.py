"""The page's player: its controls, the choice of its engine, the instruments, and their exercises."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess
from tests.copied_channel import film
from tests.e2e.conftest import SMALL, Tab, keep, open_tab

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

FILM = "library/film?mode=hls"
NEAR_SECONDS = 10.0
"""How much may be played while another engine is fetched and fills its buffer, on a busy machine."""

LATE_SECONDS = 30.0
"""From then on another engine that was chosen is late: what a channel showed before is gone."""

TIME = "headwater.video.currentTime"
DATE = "headwater.date()?.getTime()"

COUNT_WHAT_RUNS = """
const isOurs = () => /player.instruments.[a-z]+[.]js/.test(new Error().stack);
window.running = new Set();
window.observing = 0;
const { setInterval: begin, clearInterval: end } = window;
window.setInterval = (...words) => {
  const id = begin(...words);
  if (isOurs()) running.add(id);
  return id;
};
window.clearInterval = (id) => { running.delete(id); end(id); };
const { observe, disconnect } = PerformanceObserver.prototype;
PerformanceObserver.prototype.observe = function (what) { observing += isOurs(); observe.call(this, what); };
PerformanceObserver.prototype.disconnect = function () { observing -= isOurs(); disconnect.call(this); };
"""
"""Counts the timers and observers of the instruments; hls.js has its own, which come and go."""

A_DEVICE_NEARBY = """
window.asked = 0;
class Remote extends EventTarget {
  state = "disconnected";
  watchAvailability(tell) { tell(true); return Promise.resolve(1); }
  prompt() {
    asked += 1;
    this.state = "connected";
    this.dispatchEvent(new Event("connect"));
    return Promise.resolve();
  }
}
const remote = new Remote();
Object.defineProperty(HTMLMediaElement.prototype, "remote", { get: () => remote });
"""
"""What a browser with a television in its network has: no machine for tests has one."""


async def exercise(tab: Tab, name: str) -> dict[str, Any]:
    """Run an exercise by its button, and give the JSON that it prints."""
    await tab.page.get_by_role("button", name=name).click()
    return await result(tab)


async def result(tab: Tab) -> dict[str, Any]:
    await tab.until("document.querySelector('#exercise-result:not([hidden])')", 600)
    found: dict[str, Any] = json.loads(await tab.page.locator("#exercise-result").inner_text())
    keep(f"exercise-{found['exercise']}-chromium", found)
    return found


async def test_the_controls_do_what_they_say(tab: Tab) -> None:
    await tab.open(FILM)
    await tab.playing()
    page = tab.page
    await page.get_by_role("button", name="Pause").click()
    await tab.until("headwater.video.paused")
    # What is loaded is drawn, and ends behind what is played.
    width = "document.getElementById('{}').getBBox().width"
    await tab.until(f"{width.format('seek-loaded')} > {width.format('seek-played')}")
    assert (await page.locator("#time").inner_text()).endswith(" / 1:12")
    await (await tab.setting("Speed")).select_option("1.5")
    assert await tab.value("headwater.video.playbackRate") == 1.5
    await page.keyboard.press("Escape")
    assert await page.locator("#settings").is_hidden()
    assert await tab.value("document.activeElement.id") == "settings-button"
    await page.get_by_role("button", name="Sound off").click()
    assert await tab.value("headwater.video.muted")
    # A click on the picture plays, and the slider moves as the keys do: once.
    await page.locator("#video").click()
    await tab.playing()
    await page.keyboard.press("k")
    await tab.until("headwater.video.paused")
    await page.locator("#seek-range").focus()
    place = await tab.value(TIME)
    await page.keyboard.press("ArrowRight")
    await tab.until(f"Math.abs({TIME} - {place} - 5) < 0.01")
    for key, frames in ((".", 1), (",", 0)):
        await page.keyboard.press(key)
        await tab.until(f"Math.abs({TIME} - {place} - 5 - {frames} / 30) < 0.01")
    await page.get_by_role("button", name="Full screen").click()
    await tab.until("document.fullscreenElement?.id === 'screen'")
    assert await page.get_by_role("button", name="Play", exact=True).is_visible()
    await page.get_by_role("button", name="Leave full screen").click()
    await tab.until("!document.fullscreenElement")


async def test_a_film_goes_on_where_it_was_with_each_engine(tab: Tab) -> None:
    await tab.open(f"{FILM}&t=20")
    await tab.playing()
    choice = await tab.setting("Player")
    modes = await choice.locator("option").evaluate_all("(all) => all.map((one) => one.value)")
    assert modes[:3] == ["file", "hls", "dash"]
    assert await tab.value("window.shaka === undefined")
    for mode in ["dash", *modes[3:], "file", "hls"]:
        left = await tab.value(TIME)
        await (await tab.setting("Player")).select_option(mode)
        await tab.until(f"headwater.stats().mode === '{mode}' && headwater.video.readyState >= 3")
        await tab.playing()
        began = await tab.value("headwater.video.played.start(0)")
        assert left - 0.5 < began < left + NEAR_SECONDS, mode
        assert (await tab.value("headwater.hls !== null")) == (mode == "hls")
        assert f"mode={mode}" in tab.page.url
    assert await tab.value("window.shaka !== undefined")


async def test_a_channel_that_was_wound_back_stays_at_its_time_with_another_engine(
    browser: Browser, demo_server: ServerProcess
) -> None:
    tab = await open_tab(browser, demo_server.url)
    await tab.open("live/demo")
    await tab.playing()
    await tab.until("document.getElementById('seek').checkVisibility({ visibilityProperty: true })")
    await tab.until("headwater.seekable()[1] - headwater.seekable()[0] > 14")
    seek = "document.getElementById('seek-range')"
    behind = "headwater.seekable()[1] - headwater.video.currentTime"
    wind = f"({seek}.value = 200, {seek}.dispatchEvent(new Event('input')))"
    await tab.until(f"!headwater.video.seeking && ({behind} > 8 || ({wind}, false))")
    await tab.playing()
    left, at = await tab.value(f"(headwater.video.pause(), [{DATE}, performance.now()])")
    await (await tab.setting("Player")).select_option("dash")
    await tab.until("headwater.stats().mode === 'dash' && headwater.video.readyState >= 2")
    # What a paused viewer looked at is what is there now, as far as the channel still keeps it: where a busy
    # machine has taken too long, it has left the playlist, and Shaka moves on only when it is to play.
    since = f"(performance.now() - {at})"
    late = f"({since} > {1000 * LATE_SECONDS} ? {since} : 0)"
    await tab.until(
        f"!headwater.video.seeking && Math.abs({DATE} - {left}) < {1000 * NEAR_SECONDS} + {late}"
        f" || ({late} && headwater.video.paused && void headwater.video.play())"
    )
    # Shaka plays faster to catch up with the live edge, where a viewer was who isn't any more.
    await tab.value(
        "void (window.rates = [], headwater.video.addEventListener('ratechange',"
        " () => rates.push(headwater.video.playbackRate)), headwater.video.play())"
    )
    place = await tab.value("headwater.video.currentTime")
    await tab.until(f"headwater.video.currentTime > {place} + 2")
    assert await tab.value("rates") == []
    await tab.page.context.close()


async def test_the_instruments_show_what_is_measured_and_cost_nothing_when_closed(
    browser: Browser, demo_server: ServerProcess
) -> None:
    tab = await open_tab(browser, demo_server.url)
    await tab.page.add_init_script(COUNT_WHAT_RUNS)
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    await tab.open(f"{FILM}&buffer=5")
    await tab.playing()
    assert not any(url.endswith("/instruments.js") for url in asked)
    button = tab.page.get_by_role("button", name="Instruments")
    await button.click()
    panel = tab.page.get_by_role("region", name="Instruments")
    await panel.wait_for()
    assert await tab.value("[running.size, observing]") == [1, 1]
    await tab.until("document.querySelectorAll('.ladder li').length === 3")
    await tab.until("document.querySelector('.ladder [aria-current]')")
    # A seek elsewhere asks for segments, and what is between isn't loaded.
    await tab.value("void (headwater.video.currentTime = 60)")
    await tab.until("document.querySelectorAll('.requests .body').length > 1")
    await tab.until("document.querySelector('.map .fetched').getAttribute('d').split('M').length > 2")
    await tab.screenshot("instruments")
    await button.click()
    await panel.wait_for(state="hidden")
    assert await tab.value("[running.size, observing]") == [0, 0]
    await tab.page.context.close()
    assert tab.troubles == []


async def test_the_exercises_of_a_film_print_what_they_measured(tab: Tab) -> None:
    await tab.page.set_viewport_size(SMALL)
    await tab.open(f"{FILM}&level=0&buffer=5")
    await tab.playing()
    await tab.page.get_by_role("button", name="Instruments").click()
    storm = await exercise(tab, "Seek storm")
    assert (storm["exercise"], storm["mode"], storm["failed"]) == ("seek-storm", "hls", 0)
    assert len(storm["seeks"]) == 20
    assert len({one["to"] for one in storm["seeks"]}) == 20
    assert 0 <= storm["median_ms"] <= storm["slowest_ms"]
    stairs = await exercise(tab, "Staircase")
    assert stairs["failed"] == 0
    assert [(step["level"], step["height"]) for step in stairs["steps"]] == [
        *((0, 240), (1, 480), (2, 720)),
        *((1, 480), (0, 240)),
    ]
    assert await tab.value("headwater.stats().automatic")
    # What has no encoder says so.
    await tab.page.get_by_role("button", name="Encoder restart").click()
    await tab.page.get_by_text("Only a live channel has an encoder.").wait_for()


async def test_the_exercise_of_a_channel_tells_what_its_viewer_saw_of_a_restart(
    browser: Browser, demo_server: ServerProcess
) -> None:
    tab = await open_tab(browser, demo_server.url)
    await tab.open("live/demo")
    await tab.playing()
    await tab.page.get_by_role("button", name="Instruments").click()
    await tab.page.get_by_role("button", name="Encoder restart").click()
    await tab.page.get_by_text("Waiting for a restart").wait_for()
    os.kill(await asyncio.to_thread(demo_server.encoder, bytes(film())), signal.SIGKILL)
    seen = await result(tab)
    assert (seen["restarts"], seen["played_on"]) == (1, True)
    assert 0 <= seen["longest_standstill_s"] < seen["seconds"]
    await tab.page.context.close()


async def test_a_device_nearby_can_be_chosen(browser: Browser, demo_server: ServerProcess) -> None:
    tab = await open_tab(browser, demo_server.url)
    await tab.open(FILM)
    button = tab.page.get_by_role("button", name="Play on another device")
    assert await button.count() == 0
    await tab.page.add_init_script(A_DEVICE_NEARBY)
    await tab.open(FILM)
    await button.click()
    assert await tab.value("asked") == 1
    assert await button.get_attribute("aria-pressed") == "true"
    await tab.page.context.close()
    assert tab.troubles == []

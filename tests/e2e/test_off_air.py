"""Viewers of a channel whose source is gone, or was never there, are told so in a sentence."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.async_api import Browser, Page

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.e2e.conftest import PATIENCE_SECONDS, POLL_SECONDS, SMALL, new_page, open_tab
from tests.e2e.watching import NO_RETRIES
from tests.keys import BEARER
from tests.origin.ingest.studio import KEY, encoder_arguments, encoding
from tests.ports import kept_port

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("off-air")
    config = folder / "headwater.toml"
    with kept_port() as port:
        config.write_text(
            f'[library]\npath = "{folder}"\n'
            f'[[live]]\nname = "studio"\nsource = "publish"\npublish_key = "{KEY}"\nladder = ["240p"]\n'
            f"{copied_channel('picture')}{copied_channel('event')}{copied_channel('past')}"
            f'[[live]]\nname = "away"\nsource = "http://127.0.0.1:{port}/a.ts"\nladder = ["240p"]\n'
        )
        one = start_server("--config", str(config), "--port", "0")
        yield one
        one.stop()


async def until_seen(page: Page, selector: str, words: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not (await page.is_visible(selector) and words in await page.inner_text(selector)):
        assert time.monotonic() < end, words
        await asyncio.sleep(POLL_SECONDS)


async def test_the_page_says_why_there_is_no_picture(browser: Browser, server: ServerProcess) -> None:
    page = await new_page(browser)
    await page.goto(f"{server.url}/#live/studio")
    await until_seen(page, "#off-air", "Nobody publishes to this channel")
    await page.goto(f"{server.url}/#live/away")
    await until_seen(page, "#off-air", "source is gone")
    # Nothing of it stays in another view.
    await page.goto(f"{server.url}/#library")
    await page.wait_for_selector("#panel-library:visible")
    await page.close()


async def test_a_channel_that_plays_has_no_words_over_its_picture(
    browser: Browser, server: ServerProcess
) -> None:
    page = await new_page(browser)
    await page.goto(f"{server.url}/#live/picture")
    end = time.monotonic() + PATIENCE_SECONDS
    while not await page.evaluate("window.headwater?.video.currentTime > 1"):
        assert time.monotonic() < end, "it plays"
        await asyncio.sleep(POLL_SECONDS)
    await page.wait_for_selector("#off-air", state="hidden")
    await page.close()


WATCH = """void (async () => {
  window.states = [];
  for (;;) {
    const all = await fetch("/api/live").then((answer) => answer.json());
    const { state } = all.find(({ name }) => name === "studio");
    document.dispatchEvent(new Event("visibilitychange"));
    const shown = ["facts", "edge"].map((id) => document.getElementById(id).textContent);
    const text = `${state}: ${shown.join(", ")}`;
    if (text !== states.at(-1)) states.push(text);
    await new Promise((done) => setTimeout(done, 200));
  }
})()"""
"""Notes all that the page and the list say of the first channel, as one who looks at each moment."""


async def test_a_publisher_that_reconnects_is_never_called_down(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.open("live/studio")
    await tab.until("document.getElementById('facts').textContent.includes('waiting for a publisher')")
    await tab.value(WATCH)
    words = [*encoder_arguments().split(), "-method", "PUT", f"{server.url}/live/studio/ingest?key={KEY}"]
    for _ in range(3):
        await tab.value("void states.splice(0)")
        with encoding(*words):
            await tab.until("states.some((text) => text.startsWith('live') && text.includes('on air'))")
        await tab.until("states.at(-1).startsWith('idle')")
        states = await tab.value("states")
        assert not [text for text in states if "down" in text or ", -" in text], states
    await tab.page.context.close()


SAID = """["off-air", "waiting", "edge", "status"].filter((id) => {
  const node = document.getElementById(id);
  return node.checkVisibility() && node.textContent !== "";
}).join()"""
"""Which places of the page say something about the picture."""


async def test_a_page_plays_when_the_list_says_that_the_publisher_is_back(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.page.add_init_script(NO_RETRIES)
    media = re.compile(r"/live/studio/")
    await tab.page.route(media, lambda route: route.abort())
    await tab.open("live/studio")
    await tab.until("retries > 0")
    await tab.page.unroute(media)
    # Nobody publishes, which is said once, and not what became of attempts to play that.
    await tab.until(f"{SAID} === 'off-air'")
    words = [*encoder_arguments().split(), "-method", "PUT", f"{server.url}/live/studio/ingest?key={KEY}"]
    with encoding(*words):
        await tab.until("headwater.video.readyState > HTMLMediaElement.HAVE_CURRENT_DATA")
        await tab.until(f"{SAID} === 'edge'")
    await tab.page.context.close()


async def test_a_wait_that_is_cut_short_is_over_and_the_next_one_short_again(
    browser: Browser, server: ServerProcess
) -> None:
    page = await new_page(browser)
    await page.goto(server.url)
    ran = await page.evaluate(
        """(async () => {
          const { Retry } = await import("/player/retry.js");
          const retry = new Retry();
          const ran = [];
          retry.attempts = 200;
          retry.later(() => ran.push("waited"));
          retry.now();
          retry.now();
          ran.push(retry.pending, retry.attempts);
          await new Promise((done) => { retry.later(done); });
          return ran;
        })()"""
    )
    assert ran == ["waited", False, 0]
    await page.close()


async def test_what_is_back_is_expected_to_move_soon_and_once_only(
    browser: Browser, server: ServerProcess
) -> None:
    page = await new_page(browser)
    await page.goto(server.url)
    stuck = await page.evaluate(
        """(async () => {
          const { Progress } = await import("/player/retry.js");
          let now = 0;
          performance.now = () => now;
          const media = { paused: false, ended: false, currentTime: 5, readyState: 2 };
          const progress = new Progress();
          const stuck = [];
          const pass = (until) => {
            for (; now < until; now += 500)
              progress.check(media, 8000, { moved: () => stuck.push("moved"), stuck: () => stuck.push(now) });
          };
          pass(30000);
          progress.expect(3000);
          pass(60000);
          media.currentTime = 6;
          media.readyState = 4;
          progress.expect(3000);
          pass(65000);
          return stuck;
        })()"""
    )
    # Without a publisher each wait is twice the one before; a return begins with a short one.
    assert stuck == [8500, 25000, 33500, 42000, 58500, "moved"]
    await page.close()


async def test_an_event_that_is_over_has_no_live_edge_and_the_next_one_begins_by_itself(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.open("live/event")
    await tab.playing()
    await tab.until(f"{SAID} === 'edge'")
    address = f"{server.url}/live/event"
    async with httpx.AsyncClient(headers=BEARER, timeout=PATIENCE_SECONDS) as client:
        assert (await client.post(f"{address}/end")).json()["state"] == "ended"
        await tab.until("headwater.video.ended")
        await tab.until(f"{SAID} === 'off-air'")
        assert await tab.page.text_content("#off-air") == "The event is over."
        await client.post(f"{address}/start")
    await tab.until("!headwater.video.ended")
    await tab.playing()
    await tab.until(f"{SAID} === 'edge'")
    await tab.page.context.close()


async def test_an_event_that_is_over_shows_its_position_and_length(
    browser: Browser, server: ServerProcess
) -> None:
    address = f"{server.url}/live/past"
    async with httpx.AsyncClient(headers=BEARER, timeout=PATIENCE_SECONDS) as client:

        async def kept() -> float:
            media = (await client.get(f"{address}/source/media.m3u8")).text
            return sum(map(float, re.findall(r"#EXTINF:([\d.]+)", media)))

        while await kept() < 6:
            await asyncio.sleep(POLL_SECONDS)
        assert (await client.post(f"{address}/end")).json()["state"] == "ended"
        length = await kept()
        tab = await open_tab(browser, server.url)
        await tab.open("live/past")
        # It begins at the beginning, since it has no edge.
        await tab.until("headwater.video.currentTime > 1 && !document.getElementById('time').hidden")
        position, whole = (await tab.page.inner_text("#time")).split(" / ")
        # The page rounds to whole seconds; the video goes on between two looks at it.
        assert abs(_seconds(whole) - length) <= 1
        assert 1 <= _seconds(position) <= length + 1
        await tab.page.evaluate("headwater.video.pause()")
        shown = await tab.page.evaluate(
            "[document.getElementById('time').textContent, headwater.video.currentTime]"
        )
        assert abs(_seconds(shown[0].split(" / ")[0]) - shown[1]) <= 1
        words = await tab.page.get_attribute("#seek-range", "aria-valuetext")
        assert words
        assert "live" not in words
        await tab.page.context.close()


def _seconds(text: str) -> int:
    minutes, seconds = map(int, text.split(":"))
    return 60 * minutes + seconds


async def test_a_frame_says_that_nothing_is_on_air(browser: Browser, server: ServerProcess) -> None:
    page = await new_page(browser)
    await page.goto(f"{server.url}/embed/live/away")
    await until_seen(page, "#status", "Nothing is on air")
    await page.close()

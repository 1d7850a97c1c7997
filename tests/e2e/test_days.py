"""A channel's past on the page: a bar with programmes and pictures, moments, and clips by two handles."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import DESKTOP, PHONE, Tab, open_tab
from tests.e2e.scripts import script
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import configure, date_of, live, put
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

SECONDS = 45
SIZES = [("desktop", DESKTOP), ("phone", PHONE)]
SERIOUS = (
    """axe.run(".past").then(({ violations }) => violations.map(({ id, nodes }) => id + nodes[0].html))"""
)
CUT_TIMES = """[...document.querySelectorAll(".day-ticks span")].filter((tick) => {
  const { right, bottom } = tick.getBoundingClientRect();
  const text = document.createRange();
  text.selectNodeContents(tick);
  return [...text.getClientRects()].some((line) => line.top < bottom && line.right > right + 1);
}).length"""
SHOWN = "headwater.date().getTime() / 1000"
VALUE = "(label) => document.querySelector(`[aria-label='${label}']`).valueAsNumber"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("days")
    configure(folder, 'dvr = "1h"')
    with start_server(cwd=folder) as running:
        wait_for(lambda: len(live(running).segments) > SECONDS, "some segments")
        begin = date_of(running, 0)
        spans = [
            {"id": "over", "start": begin + 2, "end": begin + 20, "title": "Morning"},
            {"id": "on", "start": begin + 20, "end": time.time() + 3000, "title": "The final"},
        ]
        assert put(running, spans).status_code == 200
        yield running


async def opened(browser: Browser, server: ServerProcess, size: dict[str, int]) -> Tab:
    tab = await open_tab(browser, server.url, viewport=size)
    await tab.open("live/a")
    await tab.playing()
    await tab.until("!document.querySelector('.past').hidden")
    return tab


@pytest.mark.parametrize(("name", "size"), SIZES)
async def test_the_bar_shows_programmes_pictures_and_leads_to_any_moment(
    server: ServerProcess, browser: Browser, name: str, size: dict[str, int]
) -> None:
    tab = await opened(browser, server, size)
    begin = (await tab.value("fetch('/api/live').then((one) => one.json())"))[0]["available_from"]
    assert begin == pytest.approx(date_of(server, 0), abs=0.01)
    await tab.until("document.querySelectorAll('.day-programmes a').length === 2")
    bar = tab.page.locator(".day-line")
    await bar.scroll_into_view_if_needed()
    await bar.hover(position={"x": 40, "y": 14})
    await tab.until("document.querySelector('.day .tip img')?.naturalWidth === 192")
    assert await tab.value("document.querySelector('.day .tip span').textContent")
    await tab.screenshot(f"day-{name}")
    assert await tab.value("document.documentElement.scrollWidth <= innerWidth")
    assert await tab.value("document.querySelectorAll('.day-ticks span').length") > 0
    assert await tab.value(CUT_TIMES) == 0
    # The seek bar below the picture shows what was there, too.
    await tab.page.locator("#seek").hover(position={"x": 60, "y": 12})
    await tab.until("document.getElementById('seek-picture').style.backgroundImage.includes('snapshot.jpg')")
    assert await tab.value("document.getElementById('seek-picture').offsetHeight") == 108
    await tab.screenshot(f"seek-past-{name}")
    box = await bar.bounding_box()
    assert box is not None
    await bar.click(position={"x": box["width"] / 4, "y": 14})
    await tab.until("headwater.hls?.levels[0]?.details?.type === 'EVENT'")
    await tab.playing()
    chosen = await tab.value("Date.parse(decodeURIComponent(location.hash).split('from:')[1]) / 1000")
    shown, played = await tab.value(f"[{SHOWN}, headwater.video.currentTime]")
    first = await tab.value("headwater.hls.levels[0].details.fragments[0].programDateTime / 1000")
    # It began with the very moment, which lies within the first segment.
    assert first <= chosen + 0.01
    assert chosen < first + 1.1
    assert chosen <= shown
    assert shown - first == pytest.approx(played, abs=0.5)
    await tab.page.get_by_role("button", name="From the beginning").click()
    await tab.until("decodeURIComponent(location.hash) === '#live/a/programme:on'")
    await tab.playing()
    assert tab.troubles == []
    await tab.page.context.close()


@pytest.mark.parametrize(("name", "size"), SIZES)
async def test_a_clip_is_cut_with_two_handles_played_and_downloaded(
    server: ServerProcess, browser: Browser, tmp_path: Path, name: str, size: dict[str, int]
) -> None:
    tab = await opened(browser, server, size)
    await tab.page.get_by_role("button", name="Cut a clip").click()
    first = tab.page.get_by_role("slider", name="Beginning of the clip")
    last = tab.page.get_by_role("slider", name="End of the clip")
    begin, end = [await tab.value(f"({VALUE})('{one} of the clip')") for one in ("Beginning", "End")]
    assert begin < end
    # By the keyboard, and by the pointer: neither handle is below the other.
    await first.focus()
    for _ in range(5):
        await tab.page.keyboard.press("ArrowRight")
    moved = await tab.value(f"({VALUE})('Beginning of the clip')")
    assert moved == pytest.approx(begin + 0.5, abs=0.11)
    box = await last.bounding_box()
    assert box is not None
    least, most = [float(await last.get_attribute(one) or 0) for one in ("min", "max")]
    place = 8 + (end - least) / (most - least) * (box["width"] - 16)
    target = 8 + (moved + 6 - least) / (most - least) * (box["width"] - 16)
    await tab.page.mouse.move(box["x"] + place, box["y"] + 14)
    await tab.page.mouse.down()
    await tab.page.mouse.move(box["x"] + target, box["y"] + 14, steps=5)
    await tab.page.mouse.up()
    ended = await tab.value(f"({VALUE})('End of the clip')")
    assert ended == pytest.approx(moved + 6, abs=1.5)
    await tab.value(f"{script('axe-core').read_text('utf-8')}; 0")
    assert await tab.value(SERIOUS) == []
    await tab.page.locator(".cutting").scroll_into_view_if_needed()
    await tab.screenshot(f"clip-{name}")
    file = await tab.page.get_by_role("link", name="Download MP4").get_attribute("href")
    answer = httpx.get(f"{server.url}{file}", timeout=CLIENT_SECONDS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    (tmp_path / "clip.mp4").write_bytes(answer.content)
    words = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
    done = subprocess.run([*words, str(tmp_path / "clip.mp4")], check=True, capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(ended - moved, abs=0.2)
    address = await tab.page.get_by_label("Address").input_value()
    await tab.page.get_by_role("link", name="Play it").click()
    await tab.until("headwater.hls?.levels[0]?.details?.type === 'VOD'")
    # Who is given the address sees the same.
    other = await open_tab(browser, server.url, viewport=size)
    assert address.startswith(f"{server.url}/#live/a/clip")
    await other.open(address.partition("#")[2])
    await other.playing()
    shown = await other.value(SHOWN)
    assert moved - 0.1 <= shown <= ended
    assert tab.troubles == other.troubles == []
    await tab.page.context.close()
    await other.page.context.close()


async def test_the_bar_reaches_back_no_further_than_spans_may(browser: Browser, tmp_path: Path) -> None:
    hours = 0.025
    configure(tmp_path, 'dvr = "1h"', f"[limits]\nwindow_hours = {hours}")
    server = start_server(cwd=tmp_path)
    wait_for(lambda: len(live(server).segments) > 3600 * hours, "more than a span may have")
    tab = await opened(browser, server, DESKTOP)
    moment = "document.querySelector('[aria-label=Moment]')"
    begin, end = await tab.value(f"[Number({moment}.min), Number({moment}.max)]")
    assert end - begin == pytest.approx(3600 * hours, abs=0.01)
    await tab.page.get_by_role("button", name="From the beginning").click()
    await tab.until("headwater.hls?.levels[0]?.details?.type === 'EVENT'")
    await tab.playing()
    assert tab.troubles == []
    await tab.page.context.close()
    assert server.stop() == 0

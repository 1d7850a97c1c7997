"""A station's past on the page: a bar with programmes, any moment with its title, clips by two handles."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import m3u8
import pytest
from playwright.async_api import Browser, Locator

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import DESKTOP, PHONE, Tab, open_tab
from tests.e2e.scripts import script
from tests.e2e.station_tones import tone
from tests.keys import ADMIN_TOKEN, BEARER
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

TUNE_SECONDS = 12
PITCHES = (440, 1760)
LEAST_SECONDS = 70
CONFIG = f"""
[server]
port = 0
data = "data"
admin_token = "{ADMIN_TOKEN}"
[[radio]]
name = "fm"
folder = "music"
bitrate = 64
dvr = "1h"
hls_bitrates = [64]
"""
SIZES = [("desktop", DESKTOP), ("phone", PHONE)]
SERIOUS = (
    """axe.run(".station").then(({ violations }) => violations.map(({ id, nodes }) => id + nodes[0].html))"""
)
VALUE = "(label) => document.querySelector(`.station [aria-label='${label}']`).valueAsNumber"
PLAYS = "!headwater.audio.paused && headwater.audio.currentTime > 1 && headwater.audio.readyState > 2"
PITCH = """(() => {
  const { analyser } = headwater;
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  const loudest = bins.indexOf(Math.max(...bins));
  const hertz = (loudest * analyser.context.sampleRate) / analyser.fftSize;
  return bins[loudest] < -60 ? 0 : hertz < 880 ? 440 : 1760;
})()"""
SONG = "document.querySelector('.station .song').textContent"
KIND = "headwater.audio.src.split(':')[0]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("days-of-stations")
    (folder / "music").mkdir()
    for pitch in PITCHES:
        (folder / "music" / f"{pitch}.mp3").write_bytes(tone(pitch, TUNE_SECONDS, title=f"Tone {pitch}"))
    (folder / "headwater.toml").write_text(CONFIG)
    with start_server(cwd=folder) as running:
        wait_for(lambda: _seconds(running) > LEAST_SECONDS, "some minutes")
        begin = _began(running)
        spans = [
            {"id": "over", "start": begin + 2, "end": begin + 30, "title": "Morning"},
            {"id": "on", "start": begin + 30, "end": time.time() + 3000, "title": "The news"},
        ]
        url = f"{running.url}/live/fm/programmes"
        assert httpx.put(url, json=spans, headers=BEARER, timeout=CLIENT_SECONDS).status_code == 200
        yield running


def _playlist(server: ServerProcess) -> str:
    answer = httpx.get(f"{server.url}/live/fm/64k/media.m3u8", timeout=CLIENT_SECONDS)
    return answer.text if answer.status_code == 200 else "#EXTM3U\n"


def _seconds(server: ServerProcess) -> float:
    return float(sum(one.duration for one in m3u8.loads(_playlist(server)).segments if one.uri))


def _began(server: ServerProcess) -> float:
    date = m3u8.loads(_playlist(server)).segments[0].program_date_time
    assert date is not None
    return float(date.timestamp())


def _titles(server: ServerProcess) -> list[tuple[float, int]]:
    """The dates at which tunes began, and their pitches."""
    found = re.findall(r'START-DATE="([^"]+)".*X-TITLE="Tone ([0-9]+)"', _playlist(server))
    return [(datetime.fromisoformat(date).timestamp(), int(pitch)) for date, pitch in found]


async def opened(browser: Browser, server: ServerProcess, size: dict[str, int]) -> tuple[Tab, Locator]:
    """Open the stations; return the page, and the bar that was unfolded by the keyboard."""
    tab = await open_tab(browser, server.url, viewport=size)
    await tab.open("radio")
    past = tab.page.locator(".station details.past").filter(has_text="Earlier")
    await past.locator("summary").focus()
    await tab.page.keyboard.press("Enter")
    await tab.until("document.querySelectorAll('.station .day-programmes a').length === 2")
    return tab, past


@pytest.mark.parametrize(("name", "size"), SIZES)
async def test_the_bar_of_a_station_leads_to_any_moment_with_its_title_and_back_to_live(
    server: ServerProcess, browser: Browser, name: str, size: dict[str, int]
) -> None:
    tab, past = await opened(browser, server, size)
    bar = past.locator(".day-line")
    await bar.scroll_into_view_if_needed()
    await bar.hover(position={"x": 40, "y": 14})
    await tab.until("document.querySelector('.station .tip span').textContent")
    await tab.screenshot(f"station-day-{name}")
    assert await tab.value("document.documentElement.scrollWidth <= innerWidth")
    box = await bar.bounding_box()
    assert box is not None
    await bar.click(position={"x": box["width"] / 4, "y": 14})
    await tab.until(PLAYS)
    assert await tab.value("location.hash.startsWith('#radio/fm/from')")
    # A tune is heard from its beginning on, with its title.
    began, pitch = _titles(server)[1]
    moment = datetime.fromtimestamp(began + 1).astimezone().isoformat(timespec="milliseconds")
    await tab.value(f"void (location.hash = 'radio/fm/from:' + encodeURIComponent('{moment}'))")
    await tab.until(f"{PLAYS} && headwater.audio.currentTime < {TUNE_SECONDS - 2} && {PITCH}")
    assert await tab.value(f"[{PITCH}, {KIND}]") == [pitch, "blob"]
    await tab.until(f"({SONG}).includes('Tone {pitch}')")
    await tab.screenshot(f"station-earlier-{name}")
    # It is paused, and goes on where it was.
    await past.locator("..").get_by_role("button", name="Stop fm").click()
    await tab.until("headwater.audio.paused")
    stood = await tab.value("headwater.audio.currentTime")
    await past.locator("..").get_by_role("button", name="Play fm").click()
    await tab.until(f"headwater.audio.currentTime > {stood + 0.5}")
    await past.get_by_role("button", name="From the beginning").click()
    await tab.until("decodeURIComponent(location.hash) === '#radio/fm/programme:on'")
    await tab.until(PLAYS)
    await past.get_by_role("link", name="Back to live").click()
    await tab.until(f"{KIND} === 'http' && headwater.audio.src.includes('/radio/fm?')")
    await tab.until(PLAYS)
    assert await tab.value("location.hash") == "#radio/fm"
    asked = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('snapshot'))"
    assert await tab.value(f"{asked}.length") == 0, "sound has no pictures"
    assert tab.troubles == []
    await tab.page.context.close()


@pytest.mark.parametrize(("name", "size"), SIZES)
async def test_a_clip_of_a_station_is_cut_played_shared_and_downloaded(
    server: ServerProcess, browser: Browser, tmp_path: Path, name: str, size: dict[str, int]
) -> None:
    tab, past = await opened(browser, server, size)
    await past.get_by_role("button", name="Cut a clip").click()
    begin, end = [await tab.value(f"({VALUE})('{one} of the clip')") for one in ("Beginning", "End")]
    assert begin < end
    await past.get_by_role("slider", name="Beginning of the clip").focus()
    for _ in range(5):
        await tab.page.keyboard.press("ArrowRight")
    moved = await tab.value(f"({VALUE})('Beginning of the clip')")
    assert moved == pytest.approx(begin + 0.5, abs=0.11)
    last = past.get_by_role("slider", name="End of the clip")
    await last.focus()
    while await tab.value(f"({VALUE})('End of the clip')") > moved + 6:
        await tab.page.keyboard.press("PageDown")
    ended = await tab.value(f"({VALUE})('End of the clip')")
    assert ended > moved
    await tab.value(f"{script('axe-core').read_text('utf-8')}; 0")
    assert await tab.value(SERIOUS) == []
    await past.locator(".cutting").scroll_into_view_if_needed()
    await tab.screenshot(f"station-clip-{name}")
    file = await past.get_by_role("link", name="Download M4A").get_attribute("href")
    answer = httpx.get(f"{server.url}{file}", timeout=CLIENT_SECONDS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mp4")
    (tmp_path / "clip.m4a").write_bytes(answer.content)
    words = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
    done = subprocess.run([*words, str(tmp_path / "clip.m4a")], check=True, capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(ended - moved, abs=0.2)
    address = await past.get_by_label("Address").input_value()
    await past.get_by_role("link", name="Play it").click()
    await tab.until(PLAYS)
    # Who is given the address hears the same, to its end.
    other = await open_tab(browser, server.url, viewport=size)
    assert address.startswith(f"{server.url}/#radio/fm/clip")
    await other.open(address.partition("#")[2])
    await other.until(PLAYS)
    # Whole segments, of which the first is entered at the very moment.
    assert ended - moved - 0.1 < await other.value("headwater.audio.duration") < ended - moved + 8.1
    await other.until("headwater.audio.paused && location.hash === '#radio'")
    assert tab.troubles == other.troubles == []
    await tab.page.context.close()
    await other.page.context.close()

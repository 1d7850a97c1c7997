"""A station as HLS in a browser: hls.js plays it at real time, and has each title when its tune is heard."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import LOOK_SECONDS, keep, looks, open_tab
from tests.e2e.station_tones import TITLES, Notes, tone

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

TUNE_SECONDS = 3
CLOSE_SECONDS = 1.0
"""How far apart the audible change and the title's may be."""

PLAY = """async (address) => {
  const { default: Hls } = await import("/player/vendor/hls.min.mjs");
  const audio = new Audio();
  const hls = new Hls({ lowLatencyMode: true });
  window.station = { audio, hls, notes: { heard: [], range: [], tag: [], still: [] }, troubles: [] };
  hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) station.troubles.push(data.details); });
  hls.loadSource(address);
  hls.attachMedia(audio);
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0 });
  context.createMediaElementSource(audio).connect(analyser).connect(context.destination);
  const bins = new Float32Array(analyser.frequencyBinCount);
  const note = (list, value) => {
    if (value === undefined || list.at(-1)?.value === value) return;
    list.push({ value, at: performance.now() / 1000 });
  };
  let before = performance.now();
  setInterval(() => {
    const now = performance.now();
    if (now - before > 250) station.notes.still.push({ from: before / 1000, to: now / 1000 });
    before = now;
    analyser.getFloatFrequencyData(bins);
    const loudest = bins.indexOf(Math.max(...bins));
    const hertz = (loudest * context.sampleRate) / analyser.fftSize;
    if (bins[loudest] > -60) note(station.notes.heard, hertz < 660 ? 440 : hertz < 1320 ? 880 : 1760);
    const cues = [...audio.textTracks].flatMap((track) => [...(track.activeCues ?? [])]);
    const newest = (key) => cues.filter((cue) => cue.value?.key === key)
      .sort((one, other) => one.startTime - other.startTime).at(-1)?.value.data;
    note(station.notes.range, newest("X-TITLE"));
    note(station.notes.tag, newest("TIT2"));
  }, 20);
  await audio.play();
}"""
"""Plays a station and notes when the tone changes, and with it the date range's title and the ID3 tag's.

And when the page of a starved browser stood still, so that its notes came late.
"""

NOTED = "({ ...station.notes, now: [{ at: performance.now() / 1000 }] })"
CLOCKS = "[station.audio.currentTime, performance.now() / 1000]"
PACE_SECONDS = 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("simulcast")
    for hertz, (artist, title) in TITLES.items():
        (folder / f"{hertz}.mp3").write_bytes(tone(hertz, TUNE_SECONDS, artist=artist, title=title))
    config = folder / "headwater.toml"
    config.write_text(
        f'[library]\npath = "{folder}"\n[[radio]]\nname = "tones.mp3"\nfolder = "{folder}"\nbitrate = 64\n',
        "utf-8",
    )
    with start_server("--config", str(config), "--port", "0") as server:
        yield server


def nearest(notes: list[dict[str, Any]], value: str, moment: float) -> float:
    """How much later than a moment something was noted; the nearest of all times."""
    moments: list[float] = [note["at"] for note in notes if note["value"] == value]
    return min((other - moment for other in moments), key=abs, default=math.inf)


async def test_hls_js_has_a_stations_title_within_a_second_of_the_change_that_is_heard(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url)
    await tab.open("radio")
    card = tab.page.get_by_role("link", name="HLS")
    assert await card.get_attribute("href") == "/live/tones.mp3/master.m3u8"
    await tab.page.evaluate(PLAY, "/live/tones.mp3/master.m3u8")
    await tab.until("station.audio.currentTime > 0.5 && station.notes.heard.length > 0")
    end = time.monotonic() + LOOK_SECONDS
    for count in itertools.count(3):
        await tab.until(f"station.notes.heard[{count}]?.at + {CLOSE_SECONDS} < performance.now() / 1000")
        notes = Notes(await tab.value(NOTED))
        # The browser may drop what hls.js put on the text track with the first playlist, while that loads.
        changes = [change for change in notes.changes["heard"][2:] if notes.is_sure(change["at"])]
        if len(changes) >= 2 or time.monotonic() > end:
            break
    assert len(changes) >= 2
    found = [
        {
            "range": nearest(notes.changes["range"], " - ".join(TITLES[change["value"]]), change["at"]),
            "tag": nearest(notes.changes["tag"], TITLES[change["value"]][1], change["at"]),
        }
        for change in changes
    ]
    for _ in looks():
        media, wall = await tab.value(CLOCKS)
        await tab.until(f"performance.now() / 1000 > {wall + PACE_SECONDS}")
        media_end, wall_end = await tab.value(CLOCKS)
        pace = (media_end - media) / (wall_end - wall)
        if 0.9 < pace < 1.15:
            break
    keep("radio-hls", {"pace": pace, "changes": found, "latency": await tab.value("station.hls.latency")})
    for change in found:
        assert abs(change["range"]) < CLOSE_SECONDS
        assert abs(change["tag"]) < CLOSE_SECONDS
    # hls.js hurries by up to a tenth while it is behind
    assert 0.9 < pace < 1.15
    assert await tab.value("station.troubles") == []
    assert await tab.value("[...new Set(station.hls.levels.map((level) => level.audioCodec))]") == [
        "mp4a.40.2"
    ]
    await tab.page.context.close()
    assert tab.troubles == []

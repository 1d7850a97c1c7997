"""Date ranges of a channel as DASH players get them: once, live, from a span that runs, and of the past."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import httpx
import m3u8
import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.e2e.conftest import new_page
from tests.e2e.scripts import script
from tests.e2e.watching import Watching
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SCHEME = "urn:headwater:daterange:2026"
MPD = "{urn:mpeg:dash:schema:mpd:2011}"
SEGMENTS = 8
BEFORE = 100
"""Seconds before the channel's beginning at which a programme begins that lasts into it."""

DASHJS = """([url, scheme]) => {
  document.body.innerHTML = "<video muted></video>";
  Object.assign(window, {video: document.querySelector("video"), heard: [], troubles: []});
  window.player = dashjs.MediaPlayer().create();
  player.on("error", (event) => troubles.push(JSON.stringify(event.error)));
  player.on(scheme, ({ event }) => heard.push(
    { ...JSON.parse(event.messageData), at: event.calculatedPresentationTime, lasts: event.duration,
      time: video.currentTime }));
  player.initialize(video, url, true);
}"""

SHAKA = """async ([url, scheme]) => {
  document.body.innerHTML = "<video muted></video>";
  Object.assign(window, {video: document.querySelector("video"), heard: [], troubles: []});
  window.player = new shaka.Player();
  player.addEventListener("error", (event) => troubles.push(JSON.stringify(event.detail)));
  player.addEventListener("timelineregionenter", ({ detail }) => detail.schemeIdUri === scheme && heard.push(
    { ...JSON.parse(detail.eventNode.children[0]), at: detail.startTime,
      lasts: detail.endTime - detail.startTime, time: video.currentTime }));
  await player.attach(video);
  await player.load(url);
  void video.play();
}"""

PLAYERS = {"dashjs": DASHJS, "shaka-player": SHAKA}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serve a channel with a programme that began before it, and a moment in one of its first segments."""
    folder = tmp_path_factory.mktemp("ranges")
    channel = copied_channel("a", 'dvr = "1h"', "segment_duration = 1.0", "part_duration = 0.25")
    (folder / "headwater.toml").write_text(f'[server]\nport = 0\ndata = "data"\n{channel}')
    with start_server(cwd=folder) as running:
        now = int(time.time())
        programme = {"id": "news", "start": now - BEFORE, "end": now + 3600, "title": "News & more"}
        url = f"{running.url}/live/a/programmes"
        answer = httpx.put(url, json=[programme], headers=BEARER, timeout=CLIENT_SECONDS)
        assert answer.status_code == 200, answer.text
        wait_for(lambda: len(dates(running)) > 2, "some segments")
        told = {"id": "goal", "class": "sport", "duration": 1, "attributes": {"X-N": 2}}
        url = f"{running.url}/live/a/metadata"
        assert httpx.post(url, json=told, headers=BEARER, timeout=CLIENT_SECONDS).status_code == 201
        wait_for(lambda: len(dates(running)) > SEGMENTS, "some more segments")
        wait_for(lambda: "programme-news" in hls(running), "the programme")
        yield running


def hls(server: ServerProcess) -> str:
    answer = httpx.get(f"{server.url}/live/a/source/media.m3u8", timeout=CLIENT_SECONDS)
    return answer.text if answer.status_code == 200 else "#EXTM3U\n"


def dates(server: ServerProcess) -> list[float]:
    return [one.program_date_time.timestamp() for one in m3u8.loads(hls(server)).segments if one.uri]


def addresses(server: ServerProcess) -> dict[str, str]:
    known, base = dates(server), f"{server.url}/live/a/manifest.mpd"
    return {
        "live": base,
        "growing": f"{base}?start={known[1]:.3f}",
        "past": f"{base}?start={known[1]:.3f}&end={known[SEGMENTS - 1]:.3f}",
    }


@pytest.mark.clause("ISO/IEC 23009-1 §5.10.2", "ISO/IEC 23009-1 §5.3.2")
@pytest.mark.parametrize("kind", ["live", "growing", "past"])
async def test_manifests_have_the_date_ranges_of_hls(server: ServerProcess, kind: str) -> None:
    text = httpx.get(addresses(server)[kind], timeout=CLIENT_SECONDS).text
    (period,) = ElementTree.fromstring(text).iter(f"{MPD}Period")
    order = [one.tag.removeprefix(MPD) for one in period]
    assert order[:2] == ["EventStream", "AdaptationSet"]
    assert order.count("EventStream") == 1
    (stream,) = period.iter(f"{MPD}EventStream")
    assert stream.get("schemeIdUri") == SCHEME
    told = {one["ID"]: one for one in (json.loads(event.text or "") for event in stream)}
    for line in hls(server).splitlines():
        if line.startswith("#EXT-X-DATERANGE:"):
            name = line.partition('ID="')[2].partition('"')[0]
            assert f'START-DATE="{told[name]["START-DATE"]}"' in line
    assert told["goal"]["X-N"] == 2
    (programme,) = (one for name, one in told.items() if name.startswith("programme-news"))
    assert (programme["X-TITLE"], programme["X-PROGRAMME"]) == ("News & more", "news")
    times = [int(one.attrib["presentationTime"]) for one in stream]
    assert times[0] == 0, "it began before"
    assert 0 < times[1] < 1000 * SEGMENTS


async def opened(browser: Browser, server: ServerProcess, package: str, url: str) -> Watching:
    """Open a player, which notes the date ranges that it is told."""
    page = await new_page(browser)
    await page.goto(f"{server.url}/nothing")
    await page.add_script_tag(path=script(package))
    await page.evaluate(PLAYERS[package], [url, SCHEME])
    watching = Watching(page)
    await watching.until("troubles.length || video.ended || video.currentTime > 0 && !video.paused")
    return watching


async def heard_by(watching: Watching) -> list[dict[str, Any]]:
    """Return what a player was told, and close it."""
    heard: list[dict[str, Any]] = await watching.page.evaluate("heard")
    assert await watching.page.evaluate("troubles") == []
    await watching.page.close()
    return heard


@pytest.mark.parametrize("kind", ["growing", "past"])
@pytest.mark.parametrize("package", list(PLAYERS))
async def test_dash_players_are_told_each_date_range_once(
    server: ServerProcess, browser: Browser, package: str, kind: str
) -> None:
    url, known = addresses(server)[kind], dates(server)
    watching = await opened(browser, server, package, url)
    begin = float(await watching.page.evaluate("video.currentTime"))
    await watching.until(f"troubles.length || video.ended || video.currentTime > {begin + SEGMENTS - 4}")
    heard = await heard_by(watching)
    assert [one["ID"].rpartition("-")[0] or one["ID"] for one in heard][:2] == ["programme-news", "goal"]
    assert len({one["ID"] for one in heard}) == len(heard)
    programme, goal = heard[:2]
    assert programme["X-TITLE"] == "News & more"
    assert goal["lasts"] == pytest.approx(1, abs=0.01)
    since = goal["at"] - (0 if kind == "past" else known[1])
    assert 0 < since < SEGMENTS
    assert goal["time"] == pytest.approx(goal["at"], abs=1.5)


@pytest.mark.parametrize("package", list(PLAYERS))
async def test_who_watches_live_is_told_what_runs_and_what_comes(
    server: ServerProcess, browser: Browser, package: str
) -> None:
    watching = await opened(browser, server, package, addresses(server)["live"])
    told = {"id": f"news for {package}", "duration": 2}
    url = f"{server.url}/live/a/metadata"
    async with httpx.AsyncClient(timeout=CLIENT_SECONDS) as client:
        assert (await client.post(url, json=told, headers=BEARER)).status_code == 201
    await watching.until(f"troubles.length || heard.some((one) => one.ID === '{told['id']}')")
    at = float(await watching.page.evaluate("video.currentTime"))
    # Manifests are loaded each second.
    await watching.until(f"troubles.length || video.currentTime > {at + 3}")
    heard = await heard_by(watching)
    names = [one["ID"] for one in heard]
    assert names.count(told["id"]) == 1
    assert [name for name in names if name.startswith("programme-news")] == names[:1]

"""An event in the browser: its DVR by date, its end, and its replay."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import open_tab
from tests.e2e.test_players import DASHJS, SHAKA, Watching
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

ON_DISK = 9
"""So many segments of a second: the last six target durations are in memory, what is before them isn't."""

TO_THE_END = """() => {
    const { video } = headwater;
    if (!video.seeking && video.currentTime < video.duration - 3) video.currentTime = video.duration - 0.5;
    return video.ended;
}"""
"""Seeks near the end, again where the player had to begin anew, and tells whether it is over."""

SOUGHT = """date => {
    const { details } = headwater.hls.levels[headwater.hls.loadLevel];
    const part = details.fragments.find(one => date >= one.programDateTime
        && date < one.programDateTime + 1000 * one.duration);
    headwater.video.currentTime = part.start + (date - part.programDateTime) / 1000;
    return part.sn;
}"""
"""Seeks as a page does that knows a date: by the segments' EXT-X-PROGRAM-DATE-TIME."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A channel of one picture with a DVR on disk."""
    folder = tmp_path_factory.mktemp("event")
    (folder / "library").mkdir()
    (folder / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "{folder / "data"}"\n[library]\npath = "{folder / "library"}"\n'
        '[[live]]\nname = "talk"\nsource = "testsrc"\nladder = ["240p"]\nsegment_duration = 1.0\ndvr = "1h"\n'
        'captions = ["en"]\n'
    )
    server = start_server("--config", str(folder / "headwater.toml"))
    yield server
    server.stop()


def dates(server: ServerProcess) -> list[tuple[str, float]]:
    """Names and dates of the listed segments."""
    answer = httpx.get(f"{server.url}/live/talk/240p/media.m3u8", timeout=30)
    lines, found, date = answer.text.splitlines(), [], 0.0
    for line in lines if answer.status_code == 200 else ():
        if line.startswith("#EXT-X-PROGRAM-DATE-TIME:"):
            date = datetime.fromisoformat(line.partition(":")[2]).astimezone(UTC).timestamp()
        elif line.endswith(".m4s") and not line.startswith("#"):
            found.append((line, date))
    return found


def recordings(server: ServerProcess) -> list[dict[str, Any]]:
    """What there is of the channel's events."""
    found: list[dict[str, Any]] = httpx.get(f"{server.url}/api/live", timeout=30).json()[0]["recordings"]
    return found


async def test_a_date_in_the_part_on_disk_is_played_then_the_end_and_then_the_replay(
    browser: Browser, server: ServerProcess
) -> None:
    listed = await asyncio.to_thread(wait_for, lambda: (found := dates(server))[ON_DISK:] and found)
    tab = await open_tab(browser, server.url)
    requested: list[str] = []
    tab.page.on("request", lambda request: requested.append(Path(request.url).name))
    await tab.open("live/talk")
    await tab.playing()
    # The second segment of all: it is on disk alone.
    name, date = listed[1]
    number = await tab.page.evaluate(SOUGHT, 1000 * (date + 0.5))
    assert number == int(name.removesuffix(".m4s"))
    await tab.until(f"Math.abs(headwater.hls.playingDate - {1000 * (date + 0.5)}) < 2500")
    await tab.playing()
    assert name in requested
    seekable = await tab.value("headwater.video.seekable.end(0) - headwater.video.seekable.start(0)")
    assert seekable > ON_DISK - 1, "what the page's own controls offer to seek in"

    ended = await asyncio.to_thread(httpx.post, f"{server.url}/live/talk/end", timeout=60)
    assert ended.json()["state"] == "ended"
    (recording,) = await asyncio.to_thread(wait_for, lambda: recordings(server))
    await tab.until("headwater.hls.levels[headwater.hls.loadLevel].details.live === false")
    await tab.until(f"({TO_THE_END})()")

    replay = tab.page.get_by_role("link", name="talk, ")
    await replay.first.click(timeout=30_000)
    await tab.playing()
    assert await tab.value("headwater.hls.url") == f"{server.url}{recording['hls']}"
    length = await tab.value("headwater.video.duration")
    assert length == pytest.approx(recording["duration"], abs=0.2)
    async with tab.page.expect_download() as downloading:
        await tab.page.get_by_role("link", name="Download talk").click()
    download = await downloading.value
    assert download.suggested_filename == f"talk-{recording['id']}.mp4"
    await tab.screenshot("replay")
    # The MP4 plays in the page's element, too, with sound and picture to the end.
    await tab.value(
        "window.film = Object.assign(document.createElement('video'),"
        f" {{src: '{recording['mp4']}', muted: true}}), film.play(), 0"
    )
    await tab.until("film.readyState >= 3 && film.videoHeight === 240")
    assert await tab.value("film.duration") == pytest.approx(recording["duration"], abs=0.2)
    await tab.value("film.currentTime = film.duration - 0.3, 0")
    await tab.until("film.ended")
    assert await tab.value("film.error") is None
    await tab.page.context.close()
    assert tab.troubles == []


@pytest.mark.parametrize(("package", "start"), [("dashjs", DASHJS), ("shaka-player", SHAKA)])
async def test_dash_players_come_to_the_end_and_play_what_is_over_from_its_beginning(
    browser: Browser, server: ServerProcess, package: str, start: str
) -> None:
    channel, manifest = f"{server.url}/live/talk", f"{server.url}/live/talk/manifest.mpd"
    await asyncio.to_thread(httpx.post, f"{channel}/start", timeout=60)
    await asyncio.to_thread(wait_for, lambda: dates(server)[3:])
    page = await browser.new_page()
    watching = Watching(page)
    await watching.play(package, start, manifest)
    assert (await asyncio.to_thread(httpx.post, f"{channel}/end", timeout=60)).is_success
    await watching.until(f"video.currentTime > {dates(server)[-1][1]} - 1")
    await page.close()

    def is_static() -> bool:
        return 'type="static"' in httpx.get(manifest, timeout=30).text

    await asyncio.to_thread(wait_for, is_static)
    page = await browser.new_page()
    watching = Watching(page)
    await watching.play(package, start, manifest)
    # What is over is played from its beginning, not from a live edge that is gone, and to its end.
    assert await page.evaluate("video.currentTime") < dates(server)[1][1] + 1
    await watching.until("video.ended")
    assert (await watching.facts())["troubles"] == []
    await page.close()


def goes_on(server: ServerProcess) -> bool:
    """Whether there are two segments behind a discontinuity."""
    text = httpx.get(f"{server.url}/live/talk/240p/media.m3u8", timeout=30).text
    before, _, behind = text.rpartition("#EXT-X-DISCONTINUITY\n")
    return ".m4s\n" in before and len(re.findall(r"^[0-9]+\.m4s$", behind, re.MULTILINE)) > 1


CAPTIONED = {
    "dashjs": "player.enableText(true); player.setTextTrack(0)",
    "shaka-player": (
        "player.selectTextTrack(player.getTextTracks()[0]); player.setTextTrackVisibility?.(true)"
    ),
}
CUE_TIMES = """[...new Set([...video.textTracks].flatMap((track) => [...(track.cues ?? [])])
    .filter((cue) => cue.text?.includes('behind the break')).map((cue) => cue.startTime))]"""


@pytest.fixture(scope="module")
def broken(server: ServerProcess) -> dict[str, Any]:
    """The recording of an event whose encoder was killed."""
    httpx.post(f"{server.url}/live/talk/start", timeout=60)
    # An event before this one is listed until it begins.
    wait_for(lambda: server.children() and dates(server)[3:], what="some segments")
    (encoder,) = server.children()
    os.kill(encoder, signal.SIGKILL)
    wait_for(lambda: goes_on(server), what="segments behind the break")
    words = "WEBVTT\n\n00:00.000 --> 00:09.000\nbehind the break\n"
    told = httpx.post(
        f"{server.url}/live/talk/captions/en", content=words, headers={"content-type": "text/vtt"}, timeout=60
    )
    said, before = datetime.fromisoformat(told.json()["start"]).timestamp(), dates(server)
    wait_for(lambda: dates(server)[len(before) :], what="a segment that has the caption")
    httpx.post(f"{server.url}/live/talk/end", timeout=60)
    text = httpx.get(f"{server.url}/live/talk/240p/media.m3u8", timeout=30).text.partition(
        "-DISCONTINUITY\n"
    )[2]
    found = re.search("DATE-TIME:(.*)", text)
    assert found is not None
    return {**recordings(server)[0], "said": said, "resumed": datetime.fromisoformat(found[1]).timestamp()}


@pytest.mark.parametrize(("package", "start"), [("dashjs", DASHJS), ("shaka-player", SHAKA)])
async def test_dash_players_play_a_recording_over_the_break_in_it(
    browser: Browser, server: ServerProcess, broken: dict[str, Any], package: str, start: str
) -> None:
    url = f"{server.url}{broken['dash']}"
    manifest = (await asyncio.to_thread(httpx.get, url, timeout=30)).text
    assert manifest.count("<Period ") == 2
    length = re.search(r'mediaPresentationDuration="PT([0-9.]+)S"', manifest)
    assert length is not None
    # Of the segment in which the encoder died, no more is offered than picture and sound both have.
    assert broken["duration"] - 1 < float(length[1]) < broken["duration"] + 0.1
    page = await browser.new_page()
    watching = Watching(page)
    await watching.play(package, start, url)
    assert await page.evaluate("video.currentTime") < 3, "from its beginning"
    await page.evaluate(f"() => {{ {CAPTIONED[package]} }}")
    await watching.until("video.ended")
    facts = await watching.facts()
    assert facts["troubles"] == []
    assert facts["time"] == pytest.approx(float(length[1]), abs=0.05)
    # The caption is as far behind the break as it was live: what is missing is missing for both.
    began = [float(found) for found in re.findall(r'<Period [^>]*start="PT([0-9.]+)S"', manifest)]
    assert await page.evaluate(CUE_TIMES) == [
        pytest.approx(began[1] + broken["said"] - broken["resumed"], abs=0.1)
    ]
    await page.close()

"""An event in the browser: its DVR by date, its end, and its replay."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import HEIGHT, copied_channel
from tests.e2e.conftest import looks, new_page, open_tab
from tests.e2e.regularity import PATIENCE_SECONDS, Segment, fetched, is_regular, stretches
from tests.e2e.watching import DASHJS, SHAKA, Watching
from tests.keys import BEARER
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

ON_DISK = 9
"""So many segments of a second: the last six target durations are in memory, what is before them isn't."""

TO_THE_END = """() => {
    const { video } = headwater;
    const far = Number.isFinite(video.duration) && video.currentTime < video.duration - 3;
    if (!video.seeking && far) video.currentTime = video.duration - 0.5;
    return video.ended;
}"""
"""Seeks near the end, again where the player had to begin anew, and tells whether it is over."""

SOUGHT = """date => {
    headwater.video.pause();
    const { details } = headwater.hls.levels[headwater.hls.loadLevel];
    const part = details.fragments.find(one => date >= one.programDateTime
        && date < one.programDateTime + 1000 * one.duration);
    headwater.video.currentTime = part.start + (date - part.programDateTime) / 1000;
    return part.sn;
}"""
"""Seeks as a page does that knows a date: by the segments' EXT-X-PROGRAM-DATE-TIME. It doesn't play on."""

LOADED = "headwater.hls?.levels[headwater.hls.loadLevel]?.details"
"""The playlist that the page has; none while it begins anew."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A channel of one picture with a DVR on disk."""
    folder = tmp_path_factory.mktemp("event")
    (folder / "library").mkdir()
    (folder / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "{folder / "data"}"\n[library]\npath = "{folder / "library"}"\n'
        + copied_channel("talk", "segment_duration = 1.0", 'dvr = "1h"', 'captions = ["en"]')
    )
    with start_server("--config", str(folder / "headwater.toml")) as server:
        yield server


def segments(server: ServerProcess) -> list[Segment]:
    """The listed segments."""
    return fetched(f"{server.url}/live/talk/source/media.m3u8")


def on_disk(server: ServerProcess) -> list[Segment]:
    """Those that are on disk alone, from the second of all on; not where the encoder was starved."""
    listed = segments(server)
    places = range(1, len(listed) - ON_DISK + 1)
    groups = [listed[place : place + 3] for place in places]
    return [group[0] for group in groups if is_regular(group) and min(one.duration for one in group) > 0.9]


def recordings(server: ServerProcess) -> list[dict[str, Any]]:
    """What there is of the channel's events."""
    answer = httpx.get(f"{server.url}/api/live", timeout=PATIENCE_SECONDS)
    found: list[dict[str, Any]] = answer.json()[0].get("recordings", [])
    return found


def end_of(server: ServerProcess) -> dict[str, Any]:
    """End the channel's event; give its recording."""
    known = {one["id"] for one in recordings(server)}
    ended = httpx.post(f"{server.url}/live/talk/end", headers=BEARER, timeout=PATIENCE_SECONDS)
    assert ended.json()["state"] == "ended"
    # On a slow disk it comes later than the answer.
    (made,) = wait_for(
        lambda: [one for one in recordings(server) if one["id"] not in known], what="the recording"
    )
    return made


def begin(server: ServerProcess) -> None:
    """Begin another event, unless one is on air; wait for some segments."""
    httpx.post(f"{server.url}/live/talk/start", headers=BEARER, timeout=PATIENCE_SECONDS)
    # The event before this one is listed until it begins.
    wait_for(lambda: server.children() and segments(server)[3:], what="some segments")


async def test_a_date_in_the_part_on_disk_is_played_then_the_end_and_then_the_replay(
    browser: Browser, server: ServerProcess
) -> None:
    sought, *_ = await asyncio.to_thread(wait_for, lambda: on_disk(server), "segments on disk")
    tab = await open_tab(browser, server.url)
    requested: list[str] = []
    tab.page.on("request", lambda request: requested.append(Path(request.url).name))
    await tab.open("live/talk")
    await tab.playing()
    date = 1000 * (sought.date + 0.5)
    await tab.until(f"{LOADED}?.fragments.some(({{ sn }}) => `${{sn}}.m4s` === '{sought.name}')")
    number = await tab.page.evaluate(SOUGHT, date)
    assert number == int(sought.name.removesuffix(".m4s"))
    await tab.until(f"!headwater.video.seeking && Math.abs(headwater.hls?.playingDate - {date}) < 2500")
    await tab.value("void headwater.video.play()")
    await tab.playing()
    assert sought.name in requested
    seekable = await tab.value("headwater.video.seekable.end(0) - headwater.video.seekable.start(0)")
    assert seekable > ON_DISK - 1, "what the page's own controls offer to seek in"

    recording = await asyncio.to_thread(end_of, server)
    await tab.until(f"{LOADED}?.live === false")
    await tab.until(f"({TO_THE_END})()")

    assert await tab.page.get_by_role("heading", name="Recordings").is_visible()
    replay = tab.page.get_by_role("link", name="talk, ")
    await replay.first.click()
    await tab.until(f"headwater.hls?.url === '{server.url}{recording['hls']}'")
    await tab.playing()
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
    await tab.until(f"film.readyState >= 3 && film.videoHeight === {HEIGHT}")
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
    manifest = f"{server.url}/live/talk/manifest.mpd"
    await asyncio.to_thread(begin, server)
    page = await new_page(browser)
    watching = Watching(page)
    await watching.play(package, start, manifest)
    await asyncio.to_thread(end_of, server)
    played = [one for one in segments(server) if not one.broken]
    await watching.until(f"video.currentTime > {played[-1].date} - 1")
    await page.close()

    def is_static() -> bool:
        return 'type="static"' in httpx.get(manifest, timeout=PATIENCE_SECONDS).text

    await asyncio.to_thread(wait_for, is_static)
    page = await new_page(browser)
    watching = Watching(page)
    await watching.play(package, start, manifest)
    # What is over is played from its beginning, not from a live edge that is gone, and to its end.
    assert await page.evaluate("video.played.start(0)") < segments(server)[1].date + 1
    await watching.until("video.ended")
    assert (await watching.facts())["troubles"] == []
    await page.close()


def goes_on(server: ServerProcess) -> bool:
    """Whether there are two segments behind a break."""
    found = stretches(segments(server))
    return len(found) > 1 and len(found[-1]) > 1


CAPTIONED = {
    "dashjs": "player.enableText(true); player.setTextTrack(0)",
    "shaka-player": (
        "player.selectTextTrack(player.getTextTracks()[0]); player.setTextTrackVisibility?.(true)"
    ),
}
HELD = "video.addEventListener('playing', () => video.pause(), { once: true });"
CUE_TIMES = """[...new Set([...video.textTracks].flatMap((track) => [...(track.cues ?? [])])
    .filter((cue) => cue.text?.includes('{}')).map((cue) => cue.startTime))]"""


@pytest.fixture(scope="module")
def broken(server: ServerProcess) -> dict[str, Any]:
    """The recording of an event with one break, where its encoder was killed; a starved one makes more."""
    for number in looks():
        # That of an event before this one may be on still.
        recording = break_and_record(server, f"behind break {number}")
        if len(stretches(segments(server))) == 2:
            break
    return recording


def break_and_record(server: ServerProcess, words: str) -> dict[str, Any]:
    """Have an event with a break in it, and a caption with these words behind that."""
    begin(server)
    os.kill(server.encoder(), signal.SIGKILL)
    wait_for(lambda: goes_on(server), what="segments behind the break")
    told = httpx.post(
        f"{server.url}/live/talk/captions/en",
        content=f"WEBVTT\n\n00:00.000 --> 00:09.000\n{words}\n",
        headers={"content-type": "text/vtt", **BEARER},
        timeout=PATIENCE_SECONDS,
    )
    said, before = datetime.fromisoformat(told.json()["start"]).timestamp(), segments(server)
    wait_for(lambda: segments(server)[len(before) :], what="a segment that has the caption")
    recording = end_of(server)
    return {**recording, "words": words, "said": said, "resumed": stretches(segments(server))[-1][0].date}


@pytest.mark.parametrize(("package", "start"), [("dashjs", DASHJS), ("shaka-player", SHAKA)])
async def test_dash_players_play_a_recording_over_the_break_in_it(
    browser: Browser, server: ServerProcess, broken: dict[str, Any], package: str, start: str
) -> None:
    url = f"{server.url}{broken['dash']}"
    manifest = (await asyncio.to_thread(httpx.get, url, timeout=PATIENCE_SECONDS)).text
    assert manifest.count("<Period ") == 2
    length = re.search(r'mediaPresentationDuration="PT([0-9.]+)S"', manifest)
    assert length is not None
    # Of the segment in which the encoder died, no more is offered than picture and sound both have.
    assert broken["duration"] - 1 < float(length[1]) < broken["duration"] + 0.1
    page = await new_page(browser)
    watching = Watching(page)
    # It stands at its beginning until it has its captions, however late that is.
    await watching.play(package, HELD + start, url)
    # Nothing counts as played where it was held before the first picture was over.
    began = await page.evaluate("video.played.length ? video.played.start(0) : video.currentTime")
    assert began < 3, "from its beginning"
    await page.evaluate(f"() => {{ {CAPTIONED[package]}; void video.play(); }}")
    await watching.until("video.ended")
    facts = await watching.facts()
    assert facts["troubles"] == []
    assert facts["time"] == pytest.approx(float(length[1]), abs=0.05)
    # The caption is as far behind the break as it was live: what is missing is missing for both.
    periods = [float(found) for found in re.findall(r'<Period [^>]*start="PT([0-9.]+)S"', manifest)]
    assert await page.evaluate(CUE_TIMES.replace("{}", broken["words"])) == [
        pytest.approx(periods[1] + broken["said"] - broken["resumed"], abs=0.1)
    ]
    await page.close()

"""Timed metadata and captions in real players: hls.js on the page, dash.js, ffmpeg, the judge."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import film
from tests.e2e.conftest import SMALL, Tab, keep, looks, new_page, open_tab
from tests.e2e.regularity import NEWEST_SECONDS, Pace, kept_pace, listed
from tests.e2e.scripts import script
from tests.e2e.watching import DASHJS, SHAKA, Watching
from tests.fork_server import HEADWATER
from tests.keys import BEARER

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.realtime]

CONFIG = """
[server]
port = 0

[[live]]
name = "test"
source = "{film}"
ladder = ["240p"]
captions = ["en", "de"]
part_duration = 0.25
segment_duration = 1.0
"""

DATE_SECONDS = 0.1
"""By which dates may differ: those of segments that follow each other are corrected by 10 ms at most."""

EARLY_SECONDS = 0.05
LATE_SECONDS = 2.0
"""By which a busy browser may tell a cue late; on an idle machine it looks four times a second.

Not counted is the time for which its page stood still.
"""

PATIENCE_SECONDS = 240.0
BEHIND_SECONDS = 13
"""How far a viewer has come beyond the time of what was told when it isn't awaited any more."""

LISTEN = """
() => {
  window.fired = [];
  const { video } = headwater;
  const gaps = [];
  let before = performance.now();
  const stood = () => {
    const now = performance.now();
    gaps.push([now, (now - before) / 1000]);
    before = now;
    while (gaps[0][0] < now - 10000) gaps.shift();
    return Math.max(...gaps.map(([, seconds]) => seconds));
  };
  setInterval(stood, 50);
  const listen = (track) => track.addEventListener("cuechange", () => {
    for (const cue of track.activeCues) {
      const { startTime: start, endTime: end, type, value, text } = cue;
      fired.push({ kind: track.kind, lang: track.language, start, end, type, value, text,
        at: video.currentTime, stood: stood(),
        date: headwater.hls.playingDate.getTime() / 1000 + start - video.currentTime });
    }
  });
  window.jumps = 0;
  video.addEventListener("seeking", () => { jumps += 1; });
  for (const track of video.textTracks) listen(track);
  video.textTracks.addEventListener("addtrack", (event) => listen(event.track));
}
"""
"""Writes down each cue when it becomes active, with the program's date of its begin.

And the longest time for which the page of a starved browser stood still just before, and how often it jumped:
who falls behind jumps on, over what was told meanwhile.
"""


CUES = """
(language) => {
  const { video, hls } = headwater;
  const origin = hls.playingDate.getTime() / 1000 - video.currentTime;
  // Of a player that began anew, tracks without cues are there, too.
  const tracks = [...video.textTracks].filter((track) => track.language === language);
  return tracks.flatMap(({ cues }) => [...(cues ?? [])]).map(({ startTime, endTime, text }) => (
    { start: startTime, end: endTime, text, date: origin + startTime }));
}
"""
"""The cues of a language, with the program's dates of their begins."""


@pytest.fixture(scope="module")
def timed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("timed")
    (folder / "library").mkdir()
    (folder / "headwater.toml").write_text(CONFIG.format(film=film()))
    with start_server("--config", "headwater.toml", cwd=folder) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, timed_server: ServerProcess) -> AsyncIterator[Tab]:
    tab = await open_tab(browser, timed_server.url, viewport=SMALL)
    await tab.open("live/test")
    await tab.value(f"void ({LISTEN})()")
    await tab.playing()
    yield tab
    await tab.page.context.close()
    assert tab.troubles == []


async def post(server: ServerProcess, path: str, body: str, media_type: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        headers = {"content-type": media_type, **BEARER}
        answer = await client.post(f"{server.url}/live/test/{path}", content=body, headers=headers)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def seconds(date: str) -> float:
    return datetime.fromisoformat(date).timestamp()


async def found_or_over(tab: Tab, expression: str, date: str) -> Any:
    """Wait until an expression is true, or what was told at a date is over; give its value."""
    beyond = 1000 * (seconds(date) + BEHIND_SECONDS)
    await tab.until(f"({expression}) || headwater.hls?.playingDate?.getTime() > {beyond}")
    return await tab.value(expression)


async def is_sure(server: ServerProcess, told: dict[str, Any]) -> bool:
    """Whether the encoder has kept pace since something was told: then it is where it should be."""
    return await asyncio.to_thread(kept_pace, server, "test", seconds(told["start"]))


async def played_through(tab: Tab, jumps: int, cue: dict[str, Any] | None) -> bool:
    """Whether the page has played on without a jump since so many, and told a cue as it began.

    One that reads captions late begins with those of then, and never reads the ones before.
    """
    prompt = cue is not None and cue["at"] - cue["start"] < LATE_SECONDS
    return prompt and await tab.value("jumps") == jumps


async def test_hls_js_reads_an_event_from_the_media_when_it_is_on(
    tab: Tab, timed_server: ServerProcess
) -> None:
    for number in looks():
        jumps = await tab.value("jumps")
        name = f"Größe {number}"
        frames = {"TIT2": name, "WOAR": "http://a.example/"}
        body = json.dumps({"class": "song", "duration": 5, "id3": frames})
        told = await post(timed_server, "metadata", body, "application/json")
        title = f"fired.find((cue) => cue.kind === 'metadata' && cue.value?.data === '{name}')"
        cue = await found_or_over(tab, title, told["start"])
        if await is_sure(timed_server, told) and await played_through(tab, jumps, cue):
            break
    keep("live-event", cue)
    assert cue["value"]["key"] == "TIT2"
    assert cue["type"] == "https://aomedia.org/emsg/ID3"
    assert cue["date"] == pytest.approx(seconds(told["start"]), abs=DATE_SECONDS)
    assert -EARLY_SECONDS < cue["at"] - cue["start"] < LATE_SECONDS + cue["stood"]
    found = await tab.value("fired.filter((cue) => cue.type?.includes('ID3')).map((cue) => cue.value)")
    told_frames = {(frame["key"], frame.get("info", ""), frame["data"]) for frame in found}
    assert told_frames >= {("TXXX", "ID", told["id"]), ("TXXX", "CLASS", "song")}
    assert ("WOAR", "", "http://a.example/") in told_frames


async def test_the_page_shows_captions_at_their_time(tab: Tab, timed_server: ServerProcess) -> None:
    select = await tab.setting("Captions")
    await select.locator("option").nth(2).wait_for(state="attached")
    assert await select.locator("option").all_text_contents() == ["Off", "English", "Deutsch"]
    await select.select_option("Deutsch")
    for number in looks():
        jumps = await tab.value("jumps")
        texts = [f"zwei Sätze {number},\nlang", f"noch einer {number}"]
        text = f"WEBVTT\n\n00:00.500 --> 00:03.500\n{texts[0]}\n\n00:03.500 --> 00:09.500\n{texts[1]}\n"
        told = await post(timed_server, "captions/de", text, "text/vtt")
        await post(timed_server, "captions/en", text.replace("zwei", "two"), "text/vtt")
        shown = f"fired.find((cue) => cue.text === '{texts[1]}')"
        await found_or_over(tab, shown, told["start"])
        await tab.screenshot("captions")
        fired, cues = await tab.value(f"[{shown}, ({CUES})('de')]")
        keep("live-captions", {"fired": fired, "cues": cues})
        if await is_sure(timed_server, told) and await played_through(tab, jumps, fired):
            break
    assert fired["lang"] == "de"
    assert -EARLY_SECONDS < fired["at"] - fired["start"] < LATE_SECONDS + fired["stood"]
    # A cue that spans segments and parts is one cue to the player.
    cues = [cue for cue in cues if f" {number}" in cue["text"]]
    assert [cue["text"] for cue in cues] == texts
    for cue, begin, end in zip(cues, (0.5, 3.5), (3.5, 9.5), strict=True):
        assert cue["end"] - cue["start"] == pytest.approx(end - begin, abs=0.001)
        assert cue["date"] == pytest.approx(seconds(told["start"]) + begin, abs=DATE_SECONDS)
    await (await tab.setting("Captions")).select_option("Off")
    await tab.until("headwater.hls.subtitleTrack === -1")


async def test_captions_and_events_are_at_their_time_behind_a_discontinuity(
    tab: Tab, timed_server: ServerProcess
) -> None:
    await (await tab.setting("Captions")).select_option("English")
    encoder = await asyncio.to_thread(timed_server.encoder)
    before = await tab.value("Date.now()")
    os.kill(encoder, signal.SIGKILL)
    await tab.until(f"headwater.hls?.playingDate?.getTime() > {before} + 3000")
    await tab.playing()
    for number in looks():
        jumps = await tab.value("jumps")
        name = f"again {number}"
        # A busy page that reads its captions late still tells one that lasts until they are awaited no more.
        text = f"WEBVTT\n\n00:00.500 --> 00:12.500\n{name}\n"
        told = await post(timed_server, "captions/en", text, "text/vtt")
        body = json.dumps({"id3": {"TIT2": name}})
        event = await post(timed_server, "metadata", body, "application/json")
        heard = f"fired.find((cue) => cue.value?.data === '{name}')"
        both = f"{heard} && fired.some((cue) => cue.text === '{name}')"
        came = await found_or_over(tab, both, told["start"])
        cues, title = await tab.value(f"[({CUES})('en'), {heard}]")
        caption = await tab.value(f"fired.find((cue) => cue.text === '{name}')")
        in_time = [await played_through(tab, jumps, cue) for cue in (caption, title)]
        if await is_sure(timed_server, told) and all(in_time):
            break
    assert came
    (again,) = [cue for cue in cues if cue["text"] == name]
    assert again["date"] == pytest.approx(seconds(told["start"]) + 0.5, abs=DATE_SECONDS)
    assert title["date"] == pytest.approx(seconds(event["start"]), abs=DATE_SECONDS)


async def test_dash_js_is_told_the_event(browser: Browser, timed_server: ServerProcess) -> None:
    page = await new_page(browser)
    await page.set_content("<video muted autoplay></video>")
    await page.add_script_tag(path=script("dashjs"))
    await page.evaluate(
        """(url) => {
          window.heard = [];
          window.video = document.querySelector("video");
          window.player = dashjs.MediaPlayer().create();
          player.initialize(video, url, true);
          player.on("https://aomedia.org/emsg/ID3", ({ event }) => heard.push(
            new TextDecoder("latin1").decode(event.messageData)));
        }""",
        f"{timed_server.url}/live/test/manifest.mpd",
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await page.evaluate("video.currentTime > 0 && video.readyState >= 3"):
            await asyncio.sleep(0.1)
    for number in looks():
        name = f"dash {number}."
        body = json.dumps({"id3": {"TIT2": name}})
        told = await post(timed_server, "metadata", body, "application/json")
        mine = f"heard.filter((tag) => tag.includes('{name}'))"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await page.evaluate(f"{mine}.length"):
                await asyncio.sleep(0.1)
        sure = await is_sure(timed_server, told)
        # Behind a break a period begins: dash.js may have fetched its first segment in the one before, too,
        # and tells the events of both.
        since = seconds(told["start"]) - NEWEST_SECONDS
        sure = sure and await asyncio.to_thread(kept_pace, timed_server, "test", since)
        tags = await page.evaluate(mine)
        if sure:
            break
    await page.close()
    assert len(tags) == 1
    assert tags[0].startswith("ID3")


def presented(server: ServerProcess, date: str) -> float:
    """When DASH presents what HLS has at a date: both name media times, which ffprobe reads of a segment.

    A period begins with the epoch's seconds; the dates behind that follow an encoder that comes late.
    """
    base = f"{server.url}/live/test"
    text = httpx.get(f"{base}/240p/media.m3u8", timeout=PATIENCE_SECONDS).text
    # Of a gap there is nothing to read.
    last = next(one for one in reversed(listed(text)) if not one.broken)
    names = (re.findall(r'#EXT-X-MAP:URI="([^"]+)"', text)[-1], last.name)
    answers = [httpx.get(f"{base}/240p/{one}", timeout=PATIENCE_SECONDS).raise_for_status() for one in names]
    data = b"".join(answer.content for answer in answers)
    words = "ffprobe -v error -select_streams v -show_entries packet=pts_time -of csv=p=0 pipe:0"
    seen = subprocess.run(words.split(), input=data, capture_output=True, check=True, timeout=300)
    media_time = float(seen.stdout.split()[0].strip(b",")) + seconds(date) - last.date
    manifest = httpx.get(f"{base}/manifest.mpd", timeout=PATIENCE_SECONDS).text
    period = ElementTree.fromstring(manifest).findall("{*}Period")[-1]
    template = next(period.iter("{urn:mpeg:dash:schema:mpd:2011}SegmentTemplate"))
    offset = int(template.get("presentationTimeOffset", "0")) / int(template.get("timescale", "1"))
    return float(period.get("start", "")[2:-1]) + media_time - offset


CUE = (
    "[...video.textTracks].flatMap((track) => [...(track.cues ?? [])])"
    ".find((cue) => cue.text?.includes('größer {}'))"
)
"""The cue of a player: those of the players before it are in the window, too."""

TIMES = "((cue) => cue && { startTime: cue.startTime, endTime: cue.endTime, text: cue.text })"


@pytest.mark.parametrize(
    ("package", "start", "enable"),
    [
        ("dashjs", DASHJS, "player.enableText(true); player.setTextTrack(0)"),
        (
            "shaka-player",
            SHAKA,
            "player.selectTextTrack(player.getTextTracks()[0]); player.setTextTrackVisibility?.(true)",
        ),
    ],
)
async def test_a_dash_player_has_a_caption_at_its_time(
    browser: Browser, timed_server: ServerProcess, package: str, start: str, enable: str
) -> None:
    page = await new_page(browser)
    watching = Watching(page)
    await watching.play(package, start, f"{timed_server.url}/live/test/manifest.mpd")
    await page.evaluate(f"() => {{ {enable} }}")
    for number in looks():
        name = f"{package} {number}"
        feed = f"WEBVTT\n\n00:01.000 --> 00:04.500 align:start\n<i>größer {name}</i> & mehr\n"
        told = await post(timed_server, "captions/en", feed, "text/vtt")
        found = CUE.format(name)
        cue = await watching.until(f"{TIMES}({found})")
        keep(f"dash-captions-{package}", cue)
        begins = await asyncio.to_thread(presented, timed_server, told["start"])
        if await is_sure(timed_server, told):
            break
    assert cue["startTime"] == pytest.approx(begins + 1, abs=DATE_SECONDS)
    assert "größer" in cue["text"]
    await watching.until(f"video.currentTime > {cue['startTime']}")
    assert (await watching.facts())["troubles"] == []
    await page.close()


async def test_the_judge_is_content_with_captions_and_events(timed_server: ServerProcess) -> None:
    url = f"{timed_server.url}/live/test/master.m3u8"
    words = [str(HEADWATER), "check", url]
    feed = "WEBVTT\n\n" + "".join(f"00:{at:02}.000 --> 00:{at + 1:02}.000\nword {at}\n\n" for at in range(40))
    await post(timed_server, "captions/en", feed, "text/vtt")
    for number in range(8):
        await post(timed_server, "metadata", json.dumps({"id3": {"TIT2": str(number)}}), "application/json")
    for _ in looks():
        pace = Pace(timed_server, "test")
        judging = asyncio.create_task(
            asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=300)
        )
        while not judging.done():
            await asyncio.wait((judging,), timeout=2)
            await asyncio.to_thread(pace.look)
        judged = judging.result()
        # It says so where a starved encoder or server comes late, as it should.
        if judged.returncode == 0 or pace.kept:
            break
    assert judged.returncode == 0, judged.stdout

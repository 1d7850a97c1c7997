"""Films whose picture stands still: players play them to the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import new_page
from tests.e2e.film_playing import encode, give_hls_js, played_to_the_end
from tests.e2e.timed_film import PLAYERS
from tests.e2e.watching import Watching
from tests.run_journal import Figures

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.realtime]

FILMS = {
    "still.mp4": ("if(lt(N,50),N,N+500)", 4, 24),
    "last slide.mp4": ("if(lt(N,50),N,N+400)", 2.4, 18.4),
    "still.mkv": ("if(lt(N,50),N,N+500)", 4, 24),
}
"""The pictures' times by their numbers, seconds of pictures before, and of the film as it is."""

LONG_SECONDS = 64
"""Seconds of a film of which a picture stands for sixty."""

STALLED = "bufferStalledError"
"""What hls.js says where it can't keep up with four times real time."""

EXCUSED = ("bufferAppendError", STALLED)

START = """
async (url) => {
  const { default: Hls } = await import("/hls.mjs");
  document.body.innerHTML = "<video muted width=320></video>";
  window.video = document.querySelector("video");
  window.troubles = [];
  window.hls = new Hls();
  hls.on(Hls.Events.ERROR, (_, data) => troubles.push(data.details));
  hls.loadSource(url);
  hls.attachMedia(video);
  // A busy machine loads the first short segments no faster than they are played.
  const loaded = () => video.buffered.length && video.buffered.end(0) > 10;
  while (!loaded() && !troubles.length) await new Promise((done) => setTimeout(done, 50));
  video.playbackRate = 4;
  await video.play();
}
"""


@pytest.fixture(scope="module")
def films(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("films")
    for name, (times, pictures, seconds) in FILMS.items():
        source = f"testsrc2=s=160x90:r=25:d={pictures}"
        encode(tools, folder / name, source, seconds, f"-g 25 -vf setpts='{times}/25/TB'")
    source = "testsrc2=s=160x90:r=25:d=4"
    still = "-g 50 -vf setpts='if(lt(N,50),N,N+1500)/25/TB'"
    encode(tools, folder / "long still.mp4", source, LONG_SECONDS, still)
    with start_server("--library", str(folder), "--port", "0") as server:
        yield server


@pytest.mark.parametrize("name", FILMS)
async def test_a_picture_that_stands_still_is_played_to_its_end(
    browser: Browser, films: ServerProcess, name: str, figures: Figures
) -> None:
    page = await new_page(browser)
    await page.route("**/hls.mjs", give_hls_js)
    await page.goto(f"{films.url}/nothing")
    await page.evaluate(START, f"{films.url}/vod/{name}/master.m3u8")
    watching = Watching(page)
    await watching.until(f"video.ended || troubles.some((one) => !{json.dumps(EXCUSED)}.includes(one))")
    facts = await page.evaluate(
        "() => ({ troubles, ended: video.ended, duration: video.duration, parts: video.played.length,"
        " begin: video.played.start(0), end: video.played.end(video.played.length - 1) })"
    )
    stalls = facts["troubles"].count(STALLED)
    figures.judge(stalls == 0, f"{stalls} stalls, none wanted")
    troubles = [one for one in facts["troubles"] if one != STALLED]
    assert (troubles, facts["ended"], facts["parts"]) == ([], True, 1)
    assert facts["duration"] == pytest.approx(FILMS[name][2], abs=0.1)
    assert facts["begin"] == pytest.approx(0, abs=0.1)
    assert facts["end"] == pytest.approx(FILMS[name][2], abs=0.1)
    await page.close()


@pytest.mark.parametrize("kind", PLAYERS)
async def test_a_picture_that_stands_for_a_minute_is_played_to_its_end(
    browser: Browser, films: ServerProcess, kind: str
) -> None:
    await played_to_the_end(browser, f"{films.url}/vod/long still.mp4", kind, LONG_SECONDS)

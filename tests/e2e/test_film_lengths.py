"""Films whose tracks differ in length, or whose picture stands still: players play them to the end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Route

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import new_page
from tests.e2e.timed_film import PLAYERS, address, opened
from tests.e2e.watching import Watching
from tests.run_journal import Figures

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.realtime]

HLS_JS = Path(__file__).parents[2] / "player" / "vendor" / "hls.min.mjs"

FILMS = {
    "still.mp4": ("if(lt(N,50),N,N+500)", 4, 24),
    "last slide.mp4": ("if(lt(N,50),N,N+400)", 2.4, 18.4),
    "still.mkv": ("if(lt(N,50),N,N+500)", 4, 24),
}
"""The pictures' times by their numbers, seconds of pictures before, and of the film as it is."""

STALLED = "bufferStalledError"
"""What hls.js says where it can't keep up with four times real time."""

EXCUSED = ("bufferAppendError", STALLED)
LENGTHS = {
    "longer sound.mp4": (8, 30, 30),
    "longer picture.mp4": (30, 8, 30),
    "one picture.mp4": (0.04, 30, 30),
    "long still.mp4": (4, 64, 64),
}
"""Seconds of picture and of sound, and of the film."""

LATE = {"late sound.mp4": (0, 9), "late picture.mp4": (9, 0)}
"""Seconds at which picture and sound of films of twenty seconds begin."""

PLAY = """
() => {
  video.addEventListener("canplay", () => { video.playbackRate = 4; });
  video.addEventListener("pause", () => { if (!video.ended) video.play().catch(() => {}); });
  video.playbackRate = 4;
  video.play().catch(() => {});
}
"""
"""dash.js sets the source once more behind its first segments, which ends what played before."""

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
        inputs = f"-f lavfi -i testsrc2=s=160x90:r=25:d={pictures} -f lavfi -i sine=440:r=48000:d={seconds}"
        command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *inputs.split()]
        command += ["-vf", f"setpts='{times}/25/TB'", "-vsync", "vfr"]
        encoder = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -g 25 -c:a aac"
        subprocess.run([*command, *encoder.split(), f"file:{folder / name}"], check=True)
    for name, (pictures, sound, _) in LENGTHS.items():
        inputs = f"-f lavfi -i testsrc2=s=160x90:r=25:d={pictures} -f lavfi -i sine=440:r=48000:d={sound}"
        still = "setpts='if(lt(N,50),N,N+1500)/25/TB'" if "still" in name else "null"
        encoder = (
            f"-vf {still} -vsync vfr -c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -g 50 -c:a aac"
        )
        command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *inputs.split(), *encoder.split()]
        subprocess.run([*command, f"file:{folder / name}"], check=True)
    for size, seconds in (("64x48", 20), ("128x96", 27)):
        inputs = f"-f lavfi -i testsrc2=s={size}:r=25:d={seconds} -f lavfi -i sine=440:r=48000:d={seconds}"
        encoder = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -g 50 -sc_threshold 0 -c:a aac"
        command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *inputs.split(), *encoder.split()]
        name = f"title.{size.partition('x')[2]}p.mp4"
        subprocess.run([*command, f"file:{folder / name}"], check=True)
    whole = folder / "title.48p.mp4"
    for name, (picture, sound) in LATE.items():
        offsets = f"-itsoffset {picture} -i {whole} -itsoffset {sound} -i {whole} -map 0:v -map 1:a -c copy"
        command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *offsets.split()]
        subprocess.run([*command, f"file:{folder / name}"], check=True)
    server = start_server("--library", str(folder), "--port", "0")
    yield server
    server.stop()


@pytest.mark.parametrize("name", FILMS)
async def test_a_picture_that_stands_still_is_played_to_its_end(
    browser: Browser, films: ServerProcess, name: str, figures: Figures
) -> None:
    async def give(route: Route) -> None:
        await route.fulfill(path=HLS_JS, content_type="text/javascript")

    page = await new_page(browser)
    await page.route("**/hls.mjs", give)
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


async def played_to_the_end(browser: Browser, url: str, kind: str, seconds: float) -> None:
    """Play a film in a player at four times its speed, and check that it ends where it should."""
    page = await new_page(browser)
    if kind == "hls.js":

        async def give(route: Route) -> None:
            await route.fulfill(path=HLS_JS, content_type="text/javascript")

        await page.route("**/player/vendor/hls.min.mjs", give)
    async with opened(page, kind, f"{url}/{address(kind)}") as watching:
        assert await page.evaluate("video.duration") == pytest.approx(seconds, abs=0.1)
        await page.evaluate(PLAY)
        await watching.until("video.ended || troubles.length")
        facts = await page.evaluate("() => ({ troubles, ended: video.ended, time: video.currentTime })")
        assert (facts["troubles"], facts["ended"]) == ([], True)
        assert facts["time"] == pytest.approx(seconds, abs=0.1)
    await page.close()


@pytest.mark.parametrize("kind", PLAYERS)
@pytest.mark.parametrize("name", LENGTHS)
async def test_a_film_is_played_to_the_end_of_its_longer_track(
    browser: Browser, films: ServerProcess, name: str, kind: str
) -> None:
    await played_to_the_end(browser, f"{films.url}/vod/{name}", kind, LENGTHS[name][2])


@pytest.mark.parametrize("kind", PLAYERS)
async def test_a_title_is_played_to_the_end_of_its_longest_rendition(
    browser: Browser, films: ServerProcess, kind: str
) -> None:
    await played_to_the_end(browser, f"{films.url}/vod/title", kind, 27)


@pytest.mark.parametrize("kind", PLAYERS)
@pytest.mark.parametrize("name", LATE)
async def test_a_film_whose_track_begins_late_is_played_from_its_begin(
    browser: Browser, films: ServerProcess, name: str, kind: str
) -> None:
    await played_to_the_end(browser, f"{films.url}/vod/{name}", kind, 20 + max(LATE[name]))

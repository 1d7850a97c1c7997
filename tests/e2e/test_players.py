"""Players of others on a live channel: dash.js and Shaka in Chromium, ffmpeg, mpv, VLC, GStreamer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import RATE, film
from tests.e2e.conftest import keep, looks, new_page
from tests.e2e.regularity import fetched, kept_pace
from tests.e2e.watching import DASHJS, PATIENCE_SECONDS, SHAKA, Watching
from tests.run_journal import Figures
from tests.waiting import until, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

WATCH_SECONDS = float(os.environ.get("HEADWATER_WATCH_SECONDS", "8"))
"""How long each player plays; two minutes by hand."""

AGAIN_SECONDS = 100.0
"""How long after its time a player that is to end by itself is given up, and another one looked at."""

SEGMENT_SECONDS = 2
KILLS = 5
"""Of an encoder in a row: it is started anew after longer and longer pauses."""

NEAR_SECONDS = 20.0
"""In which a program comes near the end that isn't just there."""

MOST_LATENCY_SECONDS = 4.0
"""Of a browser on a busy machine; the target is 1.7 s."""

LEAST_FRAMES = 0.8 * RATE * WATCH_SECONDS
"""Of those that a player shows while it plays."""

CONFIG = """
[server]
port = 0

[[live]]
name = "test"
source = "{film}"
ladder = ["360p", "240p"]
part_duration = 0.333
segment_duration = 2.0

[log]
requests = true
"""


@contextlib.contextmanager
def serving_channel(folder: Path) -> Iterator[ServerProcess]:
    """Serve the channel, in an empty folder."""
    (folder / "library").mkdir()
    (folder / "headwater.toml").write_text(CONFIG.format(film=film()))
    with start_server("--config", "headwater.toml", cwd=folder) as server:
        yield server


@pytest.fixture(scope="module")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving_channel(tmp_path_factory.mktemp("players")) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def watching(browser: Browser) -> AsyncIterator[Watching]:
    page = await new_page(browser)
    yield Watching(page)
    await page.close()


@pytest.mark.realtime
@pytest.mark.parametrize(("package", "start"), [("dashjs", DASHJS), ("shaka-player", SHAKA)])
async def test_a_dash_player_plays_close_to_now(
    watching: Watching, live_server: ServerProcess, package: str, start: str, figures: Figures
) -> None:
    await watching.play(package, start, f"{live_server.url}/live/test/manifest.mpd")
    await watching.until("latency() > 0")
    for _ in looks():
        before, begin = await watching.facts(), time.monotonic()
        latencies = await watching.watch(WATCH_SECONDS)
        facts = await watching.facts()
        pace = (facts["time"] - before["time"]) / (time.monotonic() - begin)
        typical = sorted(latencies)[len(latencies) // 2]
        keep(f"dash-{package}", {"latency": typical, "pace": pace, **facts, "latencies": latencies})
        assert facts["troubles"] == []
        frames = facts["frames"] - before["frames"]
        if 0 < typical < MOST_LATENCY_SECONDS and 0.8 < pace < 1.2 and frames > LEAST_FRAMES:
            break
    assert typical > 0
    # Players come from behind: they hurry by four percent.
    figures.judge(typical < MOST_LATENCY_SECONDS, f"{typical:.1f} s behind, {MOST_LATENCY_SECONDS} at most")
    figures.judge(0.8 < pace < 1.2, f"{pace:.2f} of real time, 0.8 to 1.2 wanted")
    figures.judge(frames > LEAST_FRAMES, f"{frames} frames, {LEAST_FRAMES} at least")


@pytest.mark.parametrize(("package", "start"), [("dashjs", DASHJS), ("shaka-player", SHAKA)])
async def test_a_dash_player_plays_on_when_the_encoder_is_killed(
    watching: Watching, live_server: ServerProcess, package: str, start: str
) -> None:
    await watching.play(package, start, f"{live_server.url}/live/test/manifest.mpd")
    os.kill(await asyncio.to_thread(live_server.encoder), signal.SIGKILL)
    before = await watching.page.evaluate("video.currentTime")
    await watching.until(f"video.currentTime > {before} + 10 && !video.paused && video.readyState >= 3")
    keep(f"dash-{package}-killed", await watching.facts())


# At real time: it asks for a manifest that has nothing new again and again, hundreds of times a second.
FFMPEG = "ffmpeg -nostdin -v error -re -i {url} -t {seconds} -f null -"
PROGRAMS = {
    "mpv": "mpv --no-config --vo=null --ao=null {url}",
    "cvlc": "cvlc -I dummy --vout=vdummy --aout=adummy {url}",
    "gst-launch-1.0": "gst-launch-1.0 uridecodebin3 uri={url} ! videoconvert ! fakesink sync=true",
}
"""Command lines that play until they are interrupted."""


def played_by_ffmpeg(server: ServerProcess, address: str) -> tuple[int, str]:
    """Let ffmpeg play for a while; give its exit status, and what it complains about."""
    url = f"{server.url}/live/test/{address}"
    command, seconds = FFMPEG.format(url=url, seconds=WATCH_SECONDS).split(), WATCH_SECONDS + AGAIN_SECONDS
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return -1, "it stands still"
    return done.returncode, done.stderr


async def test_ffmpeg_plays_hls_without_a_complaint(live_server: ServerProcess) -> None:
    for _ in looks():
        # It begins with what was there before.
        since = time.time() - 4 * SEGMENT_SECONDS
        found = await asyncio.to_thread(played_by_ffmpeg, live_server, "master.m3u8")
        # It complains about breaks, too, which a starved encoder makes.
        if found == (0, "") or await asyncio.to_thread(kept_pace, live_server, "test", since):
            break
    missed = [line for line in live_server.output if "status=404" in line]
    assert found == (0, ""), missed


def seconds_behind(server: ServerProcess) -> float:
    """Tell how far the media times of a channel's newest period are behind the clock when they come."""
    manifest = httpx.get(f"{server.url}/live/test/manifest.mpd", timeout=PATIENCE_SECONDS)
    period = ElementTree.fromstring(manifest.content).findall("{*}Period")[-1]
    template = period.find(".//{*}SegmentTemplate")
    assert template is not None
    begin = int(template.attrib["presentationTimeOffset"]) / int(template.attrib["timescale"])
    return float(period.attrib["start"][2:-1]) - begin


async def test_ffmpeg_plays_dash_without_a_complaint(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A channel of its own, without a break, whose encoder begins in time.

    ffmpeg 5.1 counts segments by the clock from ``presentationTimeOffset`` on, whenever their period begins.
    Where a channel's media times are a segment behind the clock, as behind breaks of that length, it asks for
    what isn't there yet, again and again.
    """
    for _ in looks():
        with serving_channel(tmp_path_factory.mktemp("unbroken")) as server:
            await asyncio.to_thread(wait_for, partial(has_begun, server), "some segments")
            since = time.time() - SEGMENT_SECONDS
            found = await asyncio.to_thread(played_by_ffmpeg, server, "manifest.mpd")
            in_time = await asyncio.to_thread(seconds_behind, server) < SEGMENT_SECONDS / 2
            if found == (0, "") or (in_time and await asyncio.to_thread(kept_pace, server, "test", since)):
                break
    assert found == (0, "")


async def test_ffmpeg_plays_dash_behind_breaks_of_several_segments(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Numbers and media times stay those of the clock over breaks, by which alone ffmpeg 5.1 counts."""
    for _ in looks():
        with serving_channel(tmp_path_factory.mktemp("broken")) as server:
            await asyncio.to_thread(wait_for, partial(has_begun, server), "some segments")
            await asyncio.to_thread(kill_encoders, server)
            newest = await asyncio.to_thread(newest_media, server)
            goes_on = partial(has_media_behind, server, newest + 1)
            await asyncio.to_thread(wait_for, goes_on, "segments behind the breaks")
            # What fails again and again isn't told each time.
            broken = broken_seconds(server)
            assert broken > SEGMENT_SECONDS
            found = await asyncio.to_thread(played_by_ffmpeg, server, "manifest.mpd")
            behind = await asyncio.to_thread(seconds_behind, server)
            keep("ffmpeg-dash-breaks", {"broken": broken, "behind": behind, "found": found})
            # A starved encoder takes seconds to its first picture.
            if found == (0, "") and behind < broken:
                break
    assert found == (0, "")
    # Times that went on from those before the breaks would be as late as all of these lasted.
    assert behind < broken


def kill_encoders(server: ServerProcess) -> None:
    """Kill a channel's encoder, and those that follow it."""
    for _ in range(KILLS):
        killed = server.encoder()
        os.kill(killed, signal.SIGKILL)
        wait_for(partial(has_gone, server, killed), "the encoder's end")


def has_gone(server: ServerProcess, pid: int) -> bool:
    return pid not in server.command_lines()


def newest_media(server: ServerProcess) -> int:
    """Give the number of the newest segment that isn't a gap."""
    text = httpx.get(f"{server.url}/live/test/240p/media.m3u8", timeout=PATIENCE_SECONDS).text
    found = re.findall(r"#EXTINF:.*\n(?!(?:#.*\n)*#EXT-X-GAP)(?:#.*\n)*(\d+)\.m4s", text)
    return int(found[-1])


def has_media_behind(server: ServerProcess, number: int) -> bool:
    return newest_media(server) > number


def broken_seconds(server: ServerProcess) -> float:
    """Tell for how long no encoder of a channel ran, at least: the pauses before each start."""
    return sum(map(float, re.findall(r"again_in=([0-9.]+)", "".join(server.output))))


def has_begun(server: ServerProcess) -> bool:
    """Tell whether a channel has as many segments as players begin behind its end."""
    return len(fetched(f"{server.url}/live/test/240p/media.m3u8")) > 3


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_program_plays_every_segment_and_stays_near_the_end(
    live_server: ServerProcess, program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} isn't installed")
    words = PROGRAMS[program].format(url=f"{live_server.url}/live/test/master.m3u8").split()
    if program == "cvlc" and os.geteuid() == 0:  # VLC doesn't run as root.
        as_nobody = "setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/nonexistent"
        words = [*as_nobody.split(), *words]
    for _ in looks():
        # A player that stood still stays as far behind: then another one is looked at.
        if await plays_near_the_end(live_server, program, words):
            return
    pytest.fail(f"{program} doesn't stay near the end")


async def plays_near_the_end(live_server: ServerProcess, program: str, words: list[str]) -> bool:
    """Let a program play, and look at what it asks for; whether it was near the end at last."""
    logged = len(live_server.output)
    player = await asyncio.create_subprocess_exec(
        *words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def asked() -> list[int]:
        text = "".join(live_server.output[logged:])
        return sorted({int(number) for number in re.findall(r"p/(\d+)(?:\.\d+)?\.m4s", text)})

    async def is_near() -> bool:
        # It may be three target durations behind. Numbers fall behind the clock where an encoder stood still.
        newest = await asyncio.to_thread(newest_number, live_server)
        return newest - asked()[-1] < 5

    lacking = set[int]()

    async def note_gaps() -> None:
        while True:
            # All of them: they leave the playlist after twenty seconds.
            lacking.update(await asyncio.to_thread(gaps, live_server))
            await asyncio.sleep(SEGMENT_SECONDS)

    noting = asyncio.create_task(note_gaps())
    try:
        await until(asked, f"{program}'s first segment")
        await asyncio.sleep(WATCH_SECONDS)
        await until(lambda: len(asked()) >= WATCH_SECONDS // SEGMENT_SECONDS, f"{program}'s segments")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NEAR_SECONDS):
                while not await is_near():
                    await asyncio.sleep(0.1)
        was_near = await is_near()
        assert player.returncode is None, f"{program} ended with {player.returncode}"
    finally:
        if player.returncode is None:
            # How it ends when it is asked to is its own affair.
            player.kill()
        await player.wait()
        noting.cancel()
    media = [line for line in live_server.output[logged:] if ".m4s" in line]
    assert {found[1] for line in media if (found := re.search(r"status=(\d+)", line))} <= {"200", "206"}
    # None is left out but what a starved encoder didn't make.
    lacking |= await asyncio.to_thread(gaps, live_server)
    assert set(range(asked()[0], asked()[-1] + 1)) - lacking <= set(asked())
    return was_near


def newest_number(server: ServerProcess) -> int:
    """Give the number of the newest segment that is finished."""
    return int(fetched(f"{server.url}/live/test/240p/media.m3u8")[-1].name.partition(".")[0])


def gaps(server: ServerProcess) -> set[int]:
    """Numbers of the segments of which any picture is a gap."""
    found: set[int] = set()
    for name in ("360p", "240p"):
        url = f"{server.url}/live/test/{name}/media.m3u8"
        text = httpx.get(url, timeout=PATIENCE_SECONDS).raise_for_status().text
        found |= {int(number) for number in re.findall(r"#EXT-X-GAP\n(?:#.*\n)*?(\d+)\.m4s", text)}
    return found

"""Live channels in trouble: late, killed again and again, started anew; and whether their dates are true."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import itertools
import math
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import httpx
import m3u8
import pytest
from structlog.testing import capture_logs

from origin.config.options import Config, LibraryOptions, LiveOptions
from origin.server.services import services
from origin.server.services.limits import Limits, ServerLimits
from packager.concurrency import background_task
from packager.ffmpeg import live as live_arguments
from packager.ffmpeg.ladder import Rung
from packager.live import restarts as runs_module
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.publish.dash_periods import parse_time
from packager.window.model import LiveSegment
from packager.window.program_date_time import Dating, Instant, WallClock
from packager.window.window import Window
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.live_server import running
from tests.patience import GAPS, LIVE
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)
"""All that a test waits for together."""

OPTIONS = ChannelOptions("small", ladder=("240p",), part_duration=0.25, segment_duration=1.0)
PATIENCE_SECONDS = 120.0
LONGEST_TICK_SECONDS = 0.1
MARKS = 8, 36
"""Lines of the picture where the marks are that tell the time."""

STARTS, KILLS = 3, 3
"""Of a server; and of its ffmpeg, before it is killed itself."""


async def test_a_late_source_is_a_gap_in_time_and_the_same_run_goes_on_behind_a_discontinuity(
    tools: Tools,
) -> None:
    # However many come at once where this process stood still, none of them leaves the list.
    channel = Channel(replace(OPTIONS, dvr_window=3600, limits=GAPS), tools)
    async with running(channel), clock_of_this_loop() as clock:
        await until(lambda: channel.ready)
        windows = [rendition.window for rendition in channel.renditions.values()]
        window, pid = windows[0], channel.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: channel.state == "down")
        times, stopped = [clock.now], window.next_number
        for number in range(stopped, stopped + 3):
            await until(functools.partial(beyond, window, number))
            times.append(clock.now)
        assert channel.state == "down"
        os.kill(pid, signal.SIGCONT)
        await until(lambda: channel.state == "live" and not window.listed[-1].gap)
        # RFC 8216bis §6.2.2: within 1.5 target durations; the loop's own lateness on top
        assert max(after - before for before, after in itertools.pairwise(times)) < 1.5 + 0.3
        assert sum(segment.gap for segment in window.listed) >= 3
        assert (channel.restarts, channel.pid) == (0, pid)
        resumed = next(one for one in window.listed if one.number >= stopped and one.data)
        assert resumed.discontinuity
        await until(lambda: all(one.next_number > resumed.number for one in windows))
        assert window.init(resumed.number) == window.init(window.listed[0].number)
        for other in windows[1:]:
            same = {one.number: one for one in other.listed}
            for one in window.listed:
                # Behind that a busy machine may be late with one of them alone.
                if one.number in same and one.number < resumed.number:
                    assert (one.gap, one.discontinuity) == (
                        same[one.number].gap,
                        same[one.number].discontinuity,
                    )


def beyond(window: Window, number: int) -> bool:
    return window.next_number > number


class LoopClock:
    """Seconds in which the event loop ran: while this process stands still it does, too, but for a moment."""

    def __init__(self) -> None:
        self.now = 0.0

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            self.now += min(time.monotonic() - began, LONGEST_TICK_SECONDS)


@contextlib.asynccontextmanager
async def clock_of_this_loop() -> AsyncIterator[LoopClock]:
    clock = LoopClock()
    async with background_task(clock.run()):
        yield clock


def beacon(picture: Any, name: str, top: Rung) -> Any:
    """Draw white marks whose places tell the time of day, on black: in 4 seconds, and roughly in 64."""
    marked = picture.filter("drawbox", x=0, y=0, w="iw", h=64, color="black", t="fill")
    mark = {"text": "M", "fontcolor": "white", "box": 1, "boxcolor": "white", "fontsize": 16}
    for row, (period, scale) in zip(MARKS, ((4, 100), (64, 6)), strict=True):
        marked = marked.filter("drawtext", x=f"mod(time(0),{period})*{scale}", y=row, **mark)
    return marked


class WatchedClock(WallClock):
    """Notes what it was told, and which dates it made of that."""

    made: ClassVar[list[WatchedClock]] = []

    def __init__(self, bucket_seconds: float) -> None:
        super().__init__(bucket_seconds)
        self.made.append(self)
        self.soonest = math.inf
        self.began_late = math.inf
        self.offsets: set[Fraction] = set()

    def observe(self, media_end: float, now: Instant) -> None:
        self.soonest = min(self.soonest, now.wall - media_end)
        super().observe(media_end, now)

    def dating(self, segment: int, now: Instant) -> Dating:
        dating = super().dating(segment, now)
        self.began_late = self.began_late if self.offsets else self.soonest
        self.offsets.add(dating.offset)
        return dating


async def ahead(segment: LiveSegment, tools: Tools, path: Path) -> float:
    """Seconds by which a segment's date is later than its pictures: than the one that was made soonest."""
    assert segment.timeline is not None
    path.write_bytes(segment.timeline.init + segment.data)
    command = f"{tools.ffmpeg} -v error -i {path} -f rawvideo -pix_fmt gray -"
    done = await asyncio.to_thread(subprocess.run, command.split(), check=True, capture_output=True)
    begin, found = float(segment.program_date_time), []
    for frame in range(len(done.stdout) // (426 * 240)):
        rows = [240 * frame + top + 4 for top in MARKS]
        places = [next(x for x in range(426) if done.stdout[426 * row + x] > 128) for row in rows]
        made = places[0] / 100
        made += 4 * round((places[1] / 6 - made) / 4)
        # However late a starved encoder makes a frame, within half a minute.
        found.append((begin + frame / 30 - made + 32) % 64 - 32)
    return max(found)


async def test_program_date_time_is_the_wall_clock_when_the_frame_was_made(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(live_arguments, "_captioned", beacon)
    monkeypatch.setattr(runs_module, "WallClock", WatchedClock)
    monkeypatch.setattr(WatchedClock, "made", [])
    channel = Channel(replace(OPTIONS, dvr_window=3600, limits=LIVE), tools)
    async with running(channel):
        await until(lambda: len(channel.renditions["240p"].window.listed) >= 5 and channel.pid)
        window = channel.renditions["240p"].window
        assert channel.pid is not None
        os.kill(channel.pid, signal.SIGKILL)
        await until(lambda: channel.restarts)
        # While there was no encoder, segments without data may be listed.
        before = sum(bool(segment.data) for segment in window.listed)
        await until(lambda: sum(bool(segment.data) for segment in window.listed) >= max(before + 4, 8))
        listed = [segment for segment in window.listed if segment.data]
    runs = [clock for clock in WatchedClock.made if clock.offsets]
    assert len(runs) >= 2
    for clock in runs:
        segments = [one for one in listed if offset_of(one) in clock.offsets]
        aheads = [await ahead(one, tools, tmp_path / "segment.mp4") for one in segments]
        offsets = [float(offset_of(one)) for one in segments]
        truth = min(offset - one for offset, one in zip(offsets, aheads, strict=True))
        # A date is told by the frame that came soonest: a start of which all came late has that in its dates.
        late = clock.began_late - truth
        assert min(offsets) - truth > -0.1
        assert max(offsets) - truth < max(0.1, late + 0.02), (offsets, truth, late)


def offset_of(segment: LiveSegment) -> Fraction:
    """Seconds from a segment's media time to its date."""
    assert segment.timeline is not None
    time = parse_time(segment.timeline.init, bytes(segment.parts[0].data))
    return segment.program_date_time - Fraction(*time)


def configuration(folder: Path, data: str) -> list[str]:
    path = folder / "headwater.toml"
    (folder / "library").mkdir(exist_ok=True)
    path.write_text(
        f'[server]\nport = 0\ndata = "{data}"\n[library]\npath = "{folder / "library"}"\n'
        + copied_channel("demo", "part_duration = 0.25", "segment_duration = 1.0")
    )
    return ["--config", str(path)]


class Ledger:
    """Every part and segment that was ever listed, by name, with a hash of its bytes."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.highest = 0

    def look(self, server: ServerProcess, client: httpx.Client) -> tuple[int, int]:
        """Fetch all that is listed; give the last number, and the last of media in both renditions."""
        last, media = 0, []
        for name in ("source", "audio"):
            base = f"{server.url}/live/demo/{name}"
            playlist = m3u8.loads(client.get(f"{base}/media.m3u8").raise_for_status().text)
            numbers = [int(one.uri.split(".")[0]) for one in playlist.segments if one.uri]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            last = max(last, numbers[-1])
            uris = [one.uri for one in playlist.segments if one.uri and not one.gap_tag]
            media.append(max((int(uri.split(".")[0]) for uri in uris), default=0))
            uris += [part.uri for one in playlist.segments for part in one.parts]
            for uri in uris:
                if (answer := client.get(f"{base}/{uri}")).status_code == 200:
                    digest = hashlib.sha256(answer.content).hexdigest()
                    assert self.known.setdefault(f"{name}/{uri}", digest) == digest, uri
                    self.highest = max(self.highest, int(uri.split(".")[0]))
        return last, min(media)

    def await_beyond(self, number: int, server: ServerProcess, client: httpx.Client) -> None:
        """Wait for a segment with a number above this one, not a gap, in both renditions."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.look(server, client)[1] <= number:
            assert time.monotonic() < end
            # It asks for all that is listed: not more often than there is something new.
            time.sleep(OPTIONS.part_duration)


def await_start(server: ServerProcess, client: httpx.Client) -> None:
    """Ask for the playlist as a player does: one that isn't there in three target durations, again."""
    url = f"{server.url}/live/demo/source/media.m3u8"
    began = time.monotonic()
    while (answer := client.get(url)).status_code == 503:
        # RFC 8216bis §6.2.5.2: not sooner than after three target durations, here three seconds.
        assert time.monotonic() - began >= 3
        began = time.monotonic()
    answer.raise_for_status()


@pytest.mark.clause("A kill loses nothing that was listed, and the next start is quick")
def test_a_number_is_never_used_twice_when_ffmpeg_and_then_the_server_are_killed(tmp_path: Path) -> None:
    """Where numbers come from the clock alone and where a folder keeps them: at once, since both wait."""
    with ThreadPoolExecutor() as executor:
        tasks = []
        for name, data in (("clock", ""), ("folder", str(tmp_path / "data"))):
            (tmp_path / name).mkdir()
            tasks.append(executor.submit(kill_all, *configuration(tmp_path / name, data)))
        access_logs = [task.result() for task in tasks]
    for access_log in access_logs:
        segments = {name for name in access_log.known if name.count(".") == 1}
        assert len(segments) >= STARTS * (1 + KILLS) * 2, "each was waited for, in two renditions"


def kill_all(*arguments: str) -> Ledger:
    """Start a server again and again, and kill its ffmpeg and then itself; gives all that was listed."""
    access_log, newest = Ledger(), 0
    with httpx.Client(timeout=120) as client:
        for _ in range(STARTS):
            server = start_server(*arguments)
            try:
                await_start(server, client)
                access_log.await_beyond(access_log.highest, server, client)
                for _ in range(KILLS):
                    os.kill(server.encoder(b"film.mp4"), signal.SIGKILL)
                    before, _ = access_log.look(server, client)
                    assert before >= newest
                    access_log.await_beyond(before, server, client)
                newest, _ = access_log.look(server, client)
            finally:
                server.stop(signal.SIGKILL)
    return access_log


async def test_a_channel_whose_folder_can_not_be_written_goes_on_and_says_so_once(
    tools: Tools, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    channel = Channel(replace(OPTIONS, data=tmp_path / "file" / "demo", limits=LIVE), tools)
    told = [
        "reserved sequence numbers can't be read",
        "programmes can't be read",
        "the end of the last event can't be read",
        "sequence numbers can't be reserved",
    ]
    with capture_logs() as logs:
        async with running(channel):
            await until(lambda: told[-1] in [line["event"] for line in logs])
            window = channel.renditions["240p"].window
            number = window.next_number
            await until(lambda: window.next_number >= number + 4)
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == told


async def test_a_channel_with_a_folder_has_its_numbers_on_disk_before_it_uses_them(
    tools: Tools, tmp_path: Path
) -> None:
    path = tmp_path / "demo" / "number"
    path.parent.mkdir()
    # Far ahead of the clock, which would let them be used without the disk.
    path.write_text(f"{int(time.time()) + 1000} 1\n")
    channel = Channel(replace(OPTIONS, data=path.parent), tools)
    async with running(channel):
        await until(lambda: channel.ready)
        window = channel.renditions["240p"].window
        enough = window.next_number + 3
        while window.next_number < enough:
            assert window.last is not None
            number, _ = window.last
            kept = await asyncio.to_thread(path.read_text)
            assert int(kept.split()[0]) >= number
            await asyncio.sleep(0.1)


@pytest.mark.clause("A service that breaks is started again, and the others don't notice")
async def test_a_channel_that_breaks_is_started_again_and_the_others_do_not_notice(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = ("broken", "whole")
    channels = [LiveOptions(name, "testsrc", ladder=("240p",), segment_duration=1.0) for name in names]
    config = Config(library=LibraryOptions(path=str(tmp_path)), live=tuple(channels))
    limits = Limits(live=LIVE, server=ServerLimits(revive_seconds=0.1))
    home = services.Services(config, tools, limits=limits)
    broken, whole = home.live.channels.values()
    fill = broken._aligned.align

    def fail() -> None:
        monkeypatch.setattr(broken._aligned, "align", fill)
        raise ZeroDivisionError

    async with home.running():
        await until(lambda: broken.ready and whole.ready and broken.pid and whole.pid)
        pid = whole.pid
        monkeypatch.setattr(broken._aligned, "align", fail)
        assert broken.pid is not None
        with capture_logs() as logs:
            os.kill(broken.pid, signal.SIGKILL)
            await until(lambda: any(line["event"] == "service broke" for line in logs))
            number = broken.renditions["240p"].window.next_number
            await until(lambda: broken.renditions["240p"].window.next_number > number)
        assert (whole.restarts, whole.pid) == (0, pid)
        home.close()

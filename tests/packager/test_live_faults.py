"""Live channels in trouble: late, killed again and again, started anew; and whether their dates are true."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import m3u8
import pytest
from structlog.testing import capture_logs

from origin import house
from origin.config import Config, LibraryOptions, LiveOptions
from packager.live import encoder, run
from packager.live.channel import Channel, ChannelOptions
from packager.live.ladder import Rung
from packager.live.window import Window
from packager.tools import Tools
from tests.conftest import ServerProcess, start_server, wait_for

LIMIT_SECONDS = 30.0
OPTIONS = ChannelOptions("small", ladder=("240p",), part_duration=0.25, segment_duration=1.0)


@contextlib.asynccontextmanager
async def running(channel: Channel) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(channel.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_late_source_is_a_gap_in_time_and_the_same_run_goes_on_behind_a_discontinuity(
    tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STALL_SECONDS", 60.0)
    channel = Channel(OPTIONS, tools)
    windows = [rendition.window for rendition in channel.renditions.values()]
    window = windows[0]
    async with running(channel):
        await until(lambda: channel.ready)
        pid = channel.pid
        assert pid is not None
        times = []
        os.kill(pid, signal.SIGSTOP)
        stopped = window.next_number
        for number in range(stopped, stopped + 4):
            await until(functools.partial(beyond, window, number))
            times.append(time.monotonic())
        assert channel.state == "down"
        os.kill(pid, signal.SIGCONT)
        await until(lambda: channel.state == "live" and not window.listed[-1].gap)
        # RFC 8216bis §6.2.2: within 1.5 target durations; the loop's own lateness on top
        assert max(after - before for before, after in itertools.pairwise(times)) < 1.5 + 0.3
        assert sum(segment.gap for segment in window.listed) >= 3
        assert (channel.restarts, channel.pid) == (0, pid)
        resumed = next(one for one in window.listed if one.number > stopped + 1 and one.data)
        assert resumed.discontinuity
        await until(lambda: all(one.next_number > resumed.number for one in windows))
        assert window.init(resumed.number) == window.init(window.listed[0].number)
        for other in windows[1:]:
            same = {one.number: one for one in other.listed}
            for one in window.listed:
                if one.number in same:
                    assert (one.gap, one.discontinuity) == (
                        same[one.number].gap,
                        same[one.number].discontinuity,
                    )


def beyond(window: Window, number: int) -> bool:
    return window.next_number > number


def beacon(picture: Any, name: str, top: Rung) -> Any:
    """Draw a white mark whose place tells the time of day in 4 seconds, on black."""
    bar = picture.filter("drawbox", x=0, y=0, w="iw", h=40, color="black", t="fill")
    mark = {"fontcolor": "white", "box": 1, "boxcolor": "white", "fontsize": 16, "y": 8}
    return bar.filter("drawtext", text="M", x="mod(time(0),4)*100", **mark)


async def test_program_date_time_is_the_wall_clock_when_the_frame_was_made(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(encoder, "_captioned", beacon)
    channel = Channel(OPTIONS, tools)
    window = channel.renditions["240p"].window
    async with running(channel):
        await until(lambda: len(window.listed) >= 5)
        assert channel.pid is not None
        os.kill(channel.pid, signal.SIGKILL)
        await until(lambda: channel.restarts == 1)
        count = len(window.listed)
        await until(lambda: len(window.listed) >= count + 4)
        listed = [segment for segment in window.listed if segment.data]
    errors = []
    for segment in listed:
        assert segment.timeline is not None
        path = tmp_path / f"{segment.number}.mp4"
        path.write_bytes(segment.timeline.init + segment.data)
        command = f"{tools.ffmpeg} -v error -i {path} -frames:v 1 -f rawvideo -pix_fmt gray -"
        picture = (
            await asyncio.to_thread(subprocess.run, command.split(), check=True, capture_output=True)
        ).stdout
        row = picture[12 * 426 : 13 * 426]
        shown = next(x for x in range(426) if row[x] > 128) / 100
        difference = (float(segment.program_date_time) - shown) % 4
        errors.append(min(difference, 4 - difference))
    assert max(errors) < 0.1, errors


def configuration(folder: Path, data: str) -> list[str]:
    path = folder / "headwater.toml"
    (folder / "library").mkdir(exist_ok=True)
    path.write_text(
        f'[server]\nport = 0\ndata = "{data}"\n[library]\npath = "{folder / "library"}"\n'
        '[[live]]\nname = "demo"\nladder = ["240p"]\npart_duration = 0.25\nsegment_duration = 1.0\n'
    )
    return ["--config", str(path)]


class Ledger:
    """Every part and segment that was ever listed, by name, with a hash of its bytes."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.highest = 0

    def look(self, server: ServerProcess, client: httpx.Client) -> int:
        """Fetch all that is listed; give the newest segment's number."""
        newest = 0
        for name in ("240p", "audio"):
            base = f"{server.url}/live/demo/{name}"
            playlist = m3u8.loads(client.get(f"{base}/media.m3u8").raise_for_status().text)
            numbers = [int(one.uri.split(".")[0]) for one in playlist.segments if one.uri]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            newest = max(newest, numbers[-1])
            uris = [one.uri for one in playlist.segments if one.uri and not one.gap_tag]
            uris += [part.uri for one in playlist.segments for part in one.parts]
            for uri in uris:
                if (answer := client.get(f"{base}/{uri}")).status_code == 200:
                    digest = hashlib.sha256(answer.content).hexdigest()
                    assert self.known.setdefault(f"{name}/{uri}", digest) == digest, uri
                    self.highest = max(self.highest, int(uri.split(".")[0]))
        return newest

    def await_beyond(self, number: int, server: ServerProcess, client: httpx.Client) -> None:
        wait_for(lambda: self.look(server, client) > number, what="another segment")


@pytest.mark.parametrize("kept", [False, True], ids=["clock", "data folder"])
def test_a_number_is_never_used_twice_when_ffmpeg_and_then_the_server_are_killed(
    tmp_path: Path, kept: bool
) -> None:
    arguments = configuration(tmp_path, str(tmp_path / "data") if kept else "")
    ledger, newest = Ledger(), 0
    with httpx.Client(timeout=30) as client:
        for _ in range(2):
            server = start_server(*arguments)
            try:
                ledger.await_beyond(ledger.highest, server, client)
                for _ in range(2):
                    (encoder_pid,) = wait_for(server.children, what="ffmpeg")
                    os.kill(encoder_pid, signal.SIGKILL)
                    before = ledger.look(server, client)
                    assert before >= newest
                    ledger.await_beyond(before, server, client)
                newest = ledger.look(server, client)
            finally:
                server.stop(signal.SIGKILL)
    # of each of two servers at least one number, in both renditions; a slow machine has gaps for the rest
    assert len({name.split(".")[0] for name in ledger.known}) >= 4


async def test_a_channel_whose_folder_can_not_be_written_goes_on_and_says_so_once(
    tools: Tools, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    channel = Channel(replace(OPTIONS, data=tmp_path / "file" / "demo"), tools)
    window = channel.renditions["240p"].window
    with capture_logs() as logs:
        async with running(channel):
            await until(lambda: len(window.listed) >= 4)
    troubles = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert troubles == ["numbers can't be read", "end of the event can't be read", "numbers can't be kept"]


async def test_a_channel_with_a_folder_has_its_numbers_on_disk_before_it_uses_them(
    tools: Tools, tmp_path: Path
) -> None:
    channel = Channel(replace(OPTIONS, data=tmp_path / "demo"), tools)
    async with running(channel):
        await until(lambda: channel.ready)
        for _ in range(20):
            number = channel.renditions["240p"].window.next_number
            kept = int(await asyncio.to_thread((tmp_path / "demo" / "number").read_text))
            assert kept >= number
            await asyncio.sleep(0.1)


async def test_a_channel_that_breaks_is_started_again_and_the_others_do_not_notice(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(house, "REVIVE_SECONDS", 0.1)
    channels = [LiveOptions(name, ladder=("240p",), segment_duration=1.0) for name in ("broken", "whole")]
    home = house.House(Config(library=LibraryOptions(path=str(tmp_path)), live=tuple(channels)), tools)
    broken, whole = home.channels.values()
    fill = broken._lineup.align

    def fail() -> None:
        monkeypatch.setattr(broken._lineup, "align", fill)
        raise ZeroDivisionError

    async with home.running():
        await until(lambda: broken.ready and whole.ready and broken.pid)
        pid = whole.pid
        monkeypatch.setattr(broken._lineup, "align", fail)
        assert broken.pid is not None
        with capture_logs() as logs:
            os.kill(broken.pid, signal.SIGKILL)
            await until(lambda: any(line["event"] == "service broke" for line in logs))
            number = broken.renditions["240p"].window.next_number
            await until(lambda: broken.renditions["240p"].window.next_number > number)
        assert (whole.restarts, whole.pid) == (0, pid)
        home.close()

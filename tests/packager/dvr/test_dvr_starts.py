"""A channel with a DVR that is started again, with a source that isn't what it was, or isn't there."""

from __future__ import annotations

import asyncio
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.window.limits import PublishLimits
from packager.window.model import LiveSegment
from tests.live_server import broadcasting, running
from tests.patience import DVR, LIVE
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)
"""All that a test waits for together."""

NOBODY = "http://127.0.0.1:9/live.ts"


LATE = LiveLimits(dvr=DVR)
"""What a channel leaves is what its tests know of it, however late the thread is that stores it."""

PATIENT = replace(LIVE, dvr=DVR)


def options(source: str | Path, folder: Path, rung: str, limits: LiveLimits = LATE) -> ChannelOptions:
    return ChannelOptions(
        "again",
        str(source),
        ladder=(rung,),
        part_duration=0.25,
        segment_duration=1.0,
        dvr_window=3600,
        data=folder,
        limits=limits,
    )


async def film(path: Path, key_frames: str) -> Path:
    words = "-v error -f lavfi -i testsrc2=size=320x240:rate=25 -f lavfi -i sine -t 8 -c:a aac -c:v libx264"
    keys = ["-preset", "ultrafast", "-g", "250", "-sc_threshold", "0", "-force_key_frames", key_frames]
    await asyncio.to_thread(subprocess.run, ["ffmpeg", *words.split(), *keys, str(path)], check=True)
    return path


def stored(channel: Channel) -> list[LiveSegment]:
    """The segments that are on disk, of the rendition that has the fewest."""
    listed = [one.window.listed for one in channel.renditions.values()]
    return min(([one for one in segments if one.stored] for segments in listed), key=len)


async def test_a_source_with_irregular_key_frames_goes_on_behind_its_dvr_whatever_of_them_is_seen(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # longest groups of 1.6, 0.8 and 4 seconds
    first = await film(tmp_path / "first.mp4", "0,0.4,2,2.8,4.4,5.2,6.8")
    second = await film(tmp_path / "second.mp4", "0,0.4,1.2,1.6,2.4,3.2,3.6,4.4,5.2,6,6.8,7.2")
    third = await film(tmp_path / "third.mp4", "0,4,4.4")
    data = tmp_path / "data"
    channel = Channel(options(first, data, "source", PATIENT), tools)
    async with running(channel):
        await until(lambda: len(stored(channel)) >= 3)
    known, target_duration = stored(channel), channel.target_duration

    channel = Channel(options(second, data, "source", PATIENT), tools)
    with capture_logs() as logs:
        async with running(channel):
            await until(lambda: len(stored(channel)) >= len(known) + 3)
    assert not [line for line in logs if line["log_level"] == "warning"]
    assert channel.target_duration == target_duration
    assert [one.number for one in stored(channel)][: len(known)] == [one.number for one in known]

    # RFC 8216bis §4.4.3.1: EXT-X-TARGETDURATION must not change
    before = channel.renditions["source"].window.next_number
    channel = Channel(options(third, data, "source", PATIENT), tools)
    with capture_logs() as logs:
        async with running(channel):
            await until(lambda: channel.target_duration > target_duration and stored(channel))
    assert stored(channel)[0].number >= before
    (told,) = [line for line in logs if line["event"] == "a DVR with other segment durations was set aside"]
    assert told["meaning"] == "viewers can't go back to before this stream; recordings have it"
    assert list((data / "dvr" / "former" / "source").glob("*.m4s"))


@pytest.mark.clause("A kill loses nothing that was listed, and the next start is quick")
async def test_a_dvr_is_served_and_goes_on_with_gaps_while_its_source_is_not_there(
    tools: Tools, tmp_path: Path
) -> None:
    channel = Channel(options("testsrc", tmp_path, "240p"), tools)
    async with running(channel):
        await until(lambda: len(stored(channel)) >= 3)
    known = [one.number for one in stored(channel)]

    channel = Channel(options(NOBODY, tmp_path, "240p"), tools)
    async with running(channel):
        await until(lambda: channel.ready)
        assert [one.number for one in stored(channel)] == known
        window = channel.renditions["240p"].window
        number = window.next_number
        await until(lambda: window.next_number >= number + 2)
        assert all(one.gap for one in window.listed if one.number >= number)
        assert channel.state == "down"

    channel = Channel(options("gone.mp4", tmp_path, "240p"), tools)
    with pytest.raises(ToolsError, match=r"gone\.mp4"):
        await channel.run()
    assert [one.number for one in stored(channel)] == known

    channel = Channel(options("testsrc", tmp_path, "240p"), tools)
    async with running(channel):
        await until(lambda: len(stored(channel)) > len(known))
    numbers = [one.number for one in channel.renditions["240p"].window.listed]
    assert numbers == list(range(known[0], known[0] + len(numbers)))
    assert [one.number for one in stored(channel)][: len(known)] == known
    assert stored(channel)[len(known)].discontinuity


@pytest.mark.clause("RFC 8216bis §6.2.2")
@pytest.mark.parametrize("dvr_window", [0.0, 3600.0])
async def test_a_channel_goes_on_at_once_where_its_numbers_are_far_ahead_of_its_clock(
    tools: Tools, tmp_path: Path, dvr_window: float
) -> None:
    """Numbers never go back, also where segments were half as long before."""
    chosen = replace(options("testsrc", tmp_path, "240p"), segment_duration=2.0, dvr_window=dvr_window)
    used = int(time.time())
    (tmp_path / "number").write_text(f"{used} 1\n")
    channel = Channel(chosen, tools)
    async with running(channel):
        await until(lambda: channel.ready)
        assert all(one.window.listed[0].number > used for one in channel.renditions.values())


def test_what_a_start_has_not_found_yet_is_not_unknown(tools: Tools, tmp_path: Path) -> None:
    """503, which caches don't keep, where 404 would stay with them when it is there again."""
    brief = replace(LATE, publish=PublishLimits(blocked_target_durations=1))
    with broadcasting(Channel(options(NOBODY, tmp_path, "240p", brief), tools)) as server:
        for name in ("5.m4s", "5.0.m4s", "init-5.mp4"):
            answer = httpx.get(f"{server.url}/240p/{name}", timeout=120)
            assert (name, answer.status_code, "retry-after" in answer.headers) == (name, 503, True)
            assert answer.headers["cache-control"] == "no-store"
        assert httpx.get(f"{server.url}/240p/nonsense", timeout=120).status_code == 404

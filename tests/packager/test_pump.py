"""Channels of a stream that somebody brings: over ffmpeg's deaths and its own changes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from fractions import Fraction

from packager.live.channel import Channel, ChannelOptions
from packager.live.window import LiveSegment
from packager.sources.pump import Pump
from packager.tools import Tools

LIMIT_SECONDS = 60.0
OPTIONS = ChannelOptions("pumped", "", ladder=("240p",), part_duration=0.25, segment_duration=1.0)
SOUND = "-re -f lavfi -i sine=frequency=440:sample_rate=44100"
BOTH = (
    f"-re -f lavfi -i testsrc2=size=320x240:rate=25 {SOUND} -c:v libx264 -preset ultrafast -tune zerolatency "
    "-g 25 -pix_fmt yuv420p -c:a aac -f mpegts pipe:1"
)


@contextlib.asynccontextmanager
async def bringing(pump: Pump, tools: Tools, arguments: str) -> AsyncIterator[None]:
    """Give a pump what an ffmpeg of another make makes."""
    argv = [str(tools.ffmpeg), "-nostdin", "-v", "error", *arguments.split()]
    maker = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)

    async def bring() -> None:
        assert maker.stdout is not None
        while data := await maker.stdout.read(1 << 14):
            await pump.receive(data)

    task = asyncio.create_task(bring())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with contextlib.suppress(ProcessLookupError):
            maker.kill()
        await maker.communicate()


@contextlib.asynccontextmanager
async def running(channel: Channel) -> AsyncIterator[None]:
    task = asyncio.create_task(channel.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_stream_that_is_brought_plays_over_the_death_of_its_ffmpeg(tools: Tools) -> None:
    pump = Pump("mpegts")
    channel = Channel(OPTIONS, tools, pump=pump)
    async with bringing(pump, tools, BOTH), running(channel):
        window = channel.renditions["240p"].window
        await until(lambda: channel.ready and channel.pid)
        window = channel.renditions["240p"].window
        assert channel.cadence.frame_rate == 25
        assert channel.pid is not None
        os.kill(channel.pid, signal.SIGKILL)
        await until(lambda: channel.restarts)
        number = window.next_number
        await until(lambda: window.next_number >= number + 3)
        assert channel.restarts == 1
        assert sum(segment.discontinuity for segment in window.listed) == 1
        assert {one.duration for one in list(window.listed)[-2:]} == {Fraction(1)}


async def test_a_stream_that_ends_is_waited_for_without_an_ffmpeg(tools: Tools) -> None:
    pump = Pump("mpegts")
    channel = Channel(OPTIONS, tools, pump=pump)
    async with running(channel):
        async with bringing(pump, tools, BOTH):
            await until(lambda: channel.ready)
        pump.receive_eof()
        await until(lambda: channel.restarts == 1 and channel.pid is None)
        before = time.monotonic()
        await until(lambda: time.monotonic() > before + 1)
        assert channel.pid is None
        number = channel.renditions["240p"].window.next_number
        pump.begin("mpegts")
        async with bringing(pump, tools, BOTH):
            await until(lambda: channel.renditions["240p"].window.next_number > number and channel.pid)


async def test_a_picture_that_changes_its_size_goes_on_behind_a_discontinuity_with_an_init_of_its_own(
    tools: Tools,
) -> None:
    pump = Pump("mpegts")
    channel = Channel(replace(OPTIONS, ladder=("source",)), tools, pump=pump)
    async with running(channel):
        async with bringing(pump, tools, BOTH):
            await until(lambda: channel.ready)
        async with bringing(pump, tools, BOTH.replace("320x240", "160x120")):
            window = channel.renditions["source"].window
            await until(lambda: window.timeline and window.timeline.entry.width == 160 and window.open)
            number = window.next_number
            await until(lambda: window.next_number > number + 1)
    shown = [one for one in window.listed if one.timeline is not None and one.data]
    assert [key for key, _ in itertools.groupby(width_of(one) for one in shown)] == [320, 160]
    (changed,) = [one for one in window.listed if one.discontinuity and width_of(one) == 160]
    assert changed.parts[0].independent
    playlist = channel.presentation.media("source").decode()
    # RFC 8216bis §4.4.4.3: the discontinuity, and a map of its own for what is behind it
    assert f'#EXT-X-MAP:URI="init-{changed.number}.mp4"' in playlist.partition("#EXT-X-DISCONTINUITY\n")[2]


def width_of(segment: LiveSegment) -> int:
    return 0 if segment.timeline is None else segment.timeline.entry.width


async def test_who_brings_a_stream_is_held_back_by_an_ffmpeg_that_is_slow_and_by_nothing_else(
    tools: Tools,
) -> None:
    pump = Pump("mp3", max_ahead=1 << 16)
    async with asyncio.timeout(LIMIT_SECONDS):
        for _ in range(100):
            await pump.receive(bytes(1 << 16))  # nobody takes it

"""packager.radio.simulcast with a real ffmpeg: what becomes of a channel whose encoder or station falters."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from fractions import Fraction

import pytest

from media.hls.date_range import DateRange
from origin.answers.request import request_from_headers
from origin.live.handler import LiveHandler
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.publish.date_ranges import MAX_DATE_RANGES, DateRangeError
from packager.radio.audio_blocks import Throttle
from packager.radio.limits import LiveSourceLimits
from packager.radio.live_encoder_queue import BlockQueue
from packager.radio.mpeg_block_reader import MpegBlockReader
from packager.radio.simulcast import Simulcast, SimulcastOptions
from packager.window.window import Window
from tests.origin.live.replies import Received, later
from tests.waiting import until

AT_ONCE = LiveSourceLimits(ahead_seconds=0.0)
OPTIONS = SimulcastOptions("tone.mp3", (64_000, 96_000), on_demand=False)


@pytest.fixture(scope="module")
def tone() -> bytes:
    """Five minutes of a sine as MP3: the frames of one of them again and again."""
    source = ["-f", "lavfi", "-i", "sine=frequency=700:duration=60:sample_rate=44100", "-b:a", "64k"]
    command = ["ffmpeg", "-nostdin", "-v", "error", *source, "-write_xing", "0", "-f", "mp3", "pipe:1"]
    return 5 * subprocess.run(command, check=True, timeout=240, stdout=subprocess.PIPE).stdout


class Mount:
    """Plays a tone in blocks at real time while it sounds."""

    def __init__(self, audio: bytes) -> None:
        self._audio = audio
        self.queue = BlockQueue(60.0)
        self.sounds = asyncio.Event()
        self.sounds.set()
        self.title = "a tone"

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[BlockQueue]:
        yield self.queue

    async def play(self) -> None:
        reader, throttle = MpegBlockReader(), Throttle(AT_ONCE)
        for block in await asyncio.to_thread(reader.receive_data, self._audio):
            if not self.sounds.is_set():
                await self.sounds.wait()
                throttle = Throttle(AT_ONCE)
            await throttle.wait(block)
            self.queue.put(replace(block, title=self.title), time.monotonic())


@contextlib.asynccontextmanager
async def on_air(
    mount: Mount, tools: Tools, idle_seconds: int = 0, options: SimulcastOptions = OPTIONS
) -> AsyncIterator[Simulcast]:
    simulcast = Simulcast(options, mount.subscribe, tools)
    since = int(time.time())
    await until(lambda: time.time() >= since + idle_seconds, "its time")
    tasks = [asyncio.create_task(work) for work in (mount.play(), simulcast.run())]
    try:
        yield simulcast
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def sounds_from(window: Window, number: int) -> bool:
    """Tell whether a segment has come with at least this number that is neither a gap nor cut short."""
    return any(
        segment.number >= number and not segment.gap and segment.duration >= 4 for segment in window.listed
    )


def sounds_anew_from(window: Window, number: int) -> bool:
    """Tell whether one has come so behind a discontinuity, which has at least this number."""
    breaks = [segment.number for segment in window.listed if segment.discontinuity]
    return any(found >= number and sounds_from(window, found) for found in breaks)


def is_silent_from(window: Window, number: int) -> bool:
    """Tell whether a gap has come with at least this number."""
    return any(segment.number >= number and segment.gap for segment in window.listed)


def numbers(window: Window) -> list[int]:
    return [segment.number for segment in window.listed]


async def test_a_channel_goes_on_over_its_encoders_death_and_its_stations_silence(
    tools: Tools, tone: bytes
) -> None:
    mount = Mount(tone)
    async with on_air(mount, tools) as simulcast:
        channel = simulcast.channel
        # Nobody has asked: this one is always on.
        await until(lambda: simulcast.state == "live" and channel.pid, "the first segment")
        assert channel.stream.viewers == 0
        assert channel.pid is not None
        # Now, since it has others from the time on when it began to play.
        windows = [channel.renditions[name].window for name in ("96k", "64k")]
        os.kill(channel.pid, signal.SIGKILL)
        killed = windows[0].next_number
        await until(lambda: sounds_anew_from(windows[0], killed), "the next encoder")
        quiet = windows[0].next_number
        mount.sounds.clear()
        await until(lambda: is_silent_from(windows[0], quiet), "a gap")
        silent = windows[1].next_number
        mount.sounds.set()
        await until(lambda: sounds_from(windows[1], silent), "the station again")
        for window in windows:
            assert numbers(window) == list(range(window.listed[0].number, window.next_number))
        # A title that goes on is told once, whatever happened to the encoder.
        (title,) = channel.presentation.date_ranges.tags()
        assert title.client_attributes == {"X-TITLE": "a tone"}
    assert simulcast.channel.pid is None


async def test_titles_are_told_though_nobody_asked_for_a_while(tools: Tools, tone: bytes) -> None:
    """A channel that has waited for some segments' time begins with others, whose numbers are the clock's."""
    short = replace(OPTIONS, segment_duration=1.0, part_duration=0.5)
    async with on_air(Mount(tone), tools, idle_seconds=3, options=short) as simulcast:
        await until(lambda: simulcast.channel.ready, "the first segment")
        assert b'X-TITLE="a tone"' in simulcast.channel.presentation.media("64k")


async def test_a_channel_does_not_end_while_somebody_waits_for_its_first_segment(
    tools: Tools, tone: bytes
) -> None:
    """Whose request is the last that it knows of; the station may be silent for longer than it stays idle."""
    mount = Mount(tone)
    mount.sounds.clear()
    async with on_air(mount, tools, options=replace(OPTIONS, on_demand=True, idle_seconds=0.5)) as simulcast:
        channel = simulcast.channel
        handler, received = LiveHandler({channel.name: channel.stream}), Received()
        target = f"/live/{channel.name}/master.m3u8".encode()
        pending = later(handler.handle(request_from_headers("GET", target, (), "")))
        pending.start(received)
        await asyncio.sleep(3.0)
        assert simulcast.channel is channel
        assert received.replies == []
        pending.cancel()
        await until(lambda: simulcast.channel is not channel, "the channel's end")


async def test_a_title_for_which_the_playlists_have_no_room_is_in_the_media(
    tools: Tools, tone: bytes
) -> None:
    mount = Mount(tone)
    async with on_air(mount, tools) as simulcast:
        channel = simulcast.channel
        await until(lambda: simulcast.state == "live", "the first segment")
        with contextlib.suppress(DateRangeError):
            for number in range(MAX_DATE_RANGES):
                channel.add_date_range(DateRange(f"of-others-{number}", Fraction(round(time.time()))))
        mount.title = "another"
        window = channel.renditions["64k"].window
        await until(lambda: any(b"another" in bytes(one.data) for one in window.listed), "the title")
        assert b"another" not in channel.presentation.media("64k")


async def test_what_ffmpeg_lacks_ends_a_stations_channel_as_that_error_alone(tools: Tools) -> None:
    """In a group of errors, whoever supervises it would take it for a fault and try again for ever."""
    without_aac = replace(tools, encoders=tools.encoders - {"aac"})
    simulcast = Simulcast(OPTIONS, Mount(b"").subscribe, without_aac)
    with pytest.raises(ToolsError, match="needs encoder aac"):
        await simulcast.run()
    assert simulcast.channel.state == "down"

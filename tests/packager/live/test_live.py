"""packager.live: a channel from a real ffmpeg, its files, its ends; and the pieces that need no ffmpeg."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import m3u8
import pytest

from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.live.options import ChannelHooks, ChannelOptions
from packager.live.rendition_output import Feed, RunContext, RunStart
from packager.live.timed_metadata import TimedMetadata
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.segment.keyframe_segmenter import segmenter_factories
from packager.sources.probe import frame_rate
from packager.window.cadence import cadence
from packager.window.model import WindowOptions
from packager.window.program_date_time import Instant, WallClock
from packager.window.sequence_numbers import SequenceNumbers
from packager.window.window import Window
from tests.live_server import running
from tests.packager.writers import writer_of
from tests.patience import LIVE
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)
"""All that a test waits for together."""


def small(name: str = "small", source: str = "testsrc", segment_duration: float = 1.0) -> ChannelOptions:
    return ChannelOptions(
        name, source, ladder=("240p",), part_duration=0.25, segment_duration=segment_duration
    )


def discontinuities(channel: Channel) -> list[list[int]]:
    """Numbers of each rendition's finished segments that begin a timeline."""
    return [
        [segment.number for segment in rendition.window.listed if segment.discontinuity]
        for rendition in channel.renditions.values()
    ]


def restarted(channel: Channel, before: int) -> bool:
    return channel.restarts > before


def agree(channel: Channel) -> bool:
    """Tell whether all renditions have their discontinuities at the same numbers."""
    return all(numbers == discontinuities(channel)[0] for numbers in discontinuities(channel))


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 23")
async def test_a_channel_publishes_parts_soon_after_their_last_frame(tools: Tools) -> None:
    delays: list[float] = []
    channel = Channel(small(), tools, ChannelHooks(delays.append))
    assert channel.state == "starting"
    async with running(channel):
        await until(lambda: channel.ready, "readiness")
        # An ffmpeg that stood still may be on its way out, but another one follows.
        await until(lambda: channel.state == "live", "its being live")
        # RFC 8216bis §B.1: within a part target; the middle one of twenty is far from it, as soon as ffmpeg
        # gets the time that it wants.
        await until(lambda: len(delays) > 20 and sorted(delays[-21:])[10] < 0.15, "parts in time", 240)
    assert channel.pid is None


async def test_numbers_come_from_the_wall_clock_and_no_segment_opens_before_its_numbers_time(
    tools: Tools,
) -> None:
    began = time.time()
    channel = Channel(small(), tools)
    async with running(channel):
        # A channel that starts late makes its windows anew.
        await until(lambda: channel.renditions["240p"].window.last is not None, "the first part")
        window = channel.renditions["240p"].window
        newest = window.newest
        assert newest is not None
        first = window.listed[0] if window.listed else newest
        # One segment is a second long.
        assert began <= first.number <= time.time()
    later = Channel(small(), tools).renditions["240p"].window.next_number
    assert window.last is not None
    assert later > window.last[0]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds at 29.97 frames a second, sound at 44.1 kHz, that don't begin together."""
    path = tmp_path_factory.mktemp("film") / "-film:1.mp4"
    command = (
        "ffmpeg -nostdin -v error -f lavfi -i testsrc2=size=320x240:rate=30000/1001"
        " -f lavfi -itsoffset 0.3 -i sine=sample_rate=44100 -t 3 -c:v libx264 -g 50 -pix_fmt yuv420p -c:a aac"
    )
    subprocess.run([*command.split(), f"file:{path}"], check=True)
    return path


async def test_a_file_is_played_in_a_loop_at_its_own_frame_rate(
    tools: Tools, film: Path, tmp_path: Path
) -> None:
    channel = Channel(replace(small(source=str(film)), limits=LIVE), tools)
    async with running(channel):
        await until(
            lambda: all(len(one.window.listed) >= 5 for one in channel.renditions.values()), "five segments"
        )
        assert channel.restarts == 0
        assert channel.cadence.frame_rate == Fraction(30000, 1001)
        for name, rendition in channel.renditions.items():
            segments = rendition.window.listed
            timeline = segments[0].timeline
            assert timeline is not None
            path = tmp_path / f"{name}.mp4"
            path.write_bytes(timeline.init + b"".join(segment.data for segment in segments))
            command = ["ffprobe", "-v", "error", "-show_entries", "packet=dts", "-of", "json", str(path)]
            answer = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
            times = [packet["dts"] for packet in json.loads(answer.stdout)["packets"]]
            # over the loop's seam, too: 1001 ticks of 1/30000 s, 1,024 samples
            assert {after - before for before, after in itertools.pairwise(times)} == {
                1024 if name == "audio" else 1001
            }
        playlist = m3u8.loads(channel.presentation.media("240p").decode())
        # 30 frames of 1001/30000 s
        assert {segment.duration for segment in playlist.segments if segment.uri} == {1.001}


async def test_a_file_without_sound_gets_silence(tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    command = (
        f"{tools.ffmpeg} -nostdin -v error -f lavfi -i testsrc2=size=320x240:rate=25 -t 2 -c:v libx264 {path}"
    )
    await asyncio.to_thread(subprocess.run, command.split(), check=True)
    channel = Channel(small(source=str(path)), tools)
    async with running(channel):
        await until(lambda: channel.ready, "readiness")
        assert channel.cadence.frame_rate == 25


@pytest.mark.parametrize("source", ["/nowhere/film.mp4", "gopher://example.com/film.mp4", "playlist.m3u8"])
async def test_a_source_that_is_not_there_is_told_in_one_line(tools: Tools, source: str) -> None:
    with pytest.raises(ToolsError, match="live source") as caught:
        await Channel(small(source=source), tools).run()
    assert "\n" not in str(caught.value)


@pytest.mark.clause("An ffmpeg that hangs is started again, and its words are bounded")
async def test_a_stalled_ffmpeg_is_started_again(tools: Tools) -> None:
    # However long it might have taken to its first output.
    limits = LiveLimits(start_seconds=3600)
    channel = Channel(replace(small(), captions=("en",), limits=limits), tools)
    async with running(channel):
        await until(lambda: channel.ready and channel.pid, "readiness")
        assert channel.pid is not None
        before = channel.restarts  # a machine under load stalls by itself
        os.kill(channel.pid, signal.SIGSTOP)
        await until(lambda: channel.restarts > before, "the restart")
        await until(lambda: channel.state == "live", "the channel's being live again")
        await until(lambda: discontinuities(channel)[0] != [], "a segment behind the discontinuity")
        await until(lambda: agree(channel), "the same in all renditions")


@pytest.mark.clause("RFC 8216bis §6.2.4 MUST 2c")
async def test_renditions_go_on_with_the_same_number_after_a_kill(tools: Tools) -> None:
    channel = Channel(replace(small(), captions=("en",)), tools)
    async with running(channel):
        await until(lambda: channel.ready and channel.pid, "readiness")
        windows = [rendition.window for rendition in channel.renditions.values()]
        for _ in range(2):
            assert channel.pid is not None
            before = channel.restarts  # a machine under load stalls by itself
            os.kill(channel.pid, signal.SIGKILL)
            await until(functools.partial(restarted, channel, before), "the restart")
            assert len({window.next_number for window in windows}) == 1
            await until(lambda: channel.state == "live" and channel.pid is not None, "parts again")
        await until(lambda: len(discontinuities(channel)[0]) > 0, "a segment behind the discontinuity")
        await until(lambda: agree(channel), "the same in all renditions")


async def test_closing_a_channel_releases_who_waits_in_every_rendition(tools: Tools) -> None:
    channel = Channel(small(), tools)
    waiting = [
        asyncio.create_task(rendition.window.waiters.wait(rendition.window.has_segments, 30))
        for rendition in channel.renditions.values()
    ]
    while channel.stream.blocked < len(waiting):
        await asyncio.sleep(0)
    channel.close()
    assert await asyncio.gather(*waiting) == [False, False]


def test_what_is_no_fragmented_mp4_publishes_nothing() -> None:
    window = Window(WindowOptions(1, 5))
    timed_metadata = TimedMetadata(["240p"], 1)
    (make_segmenter,) = segmenter_factories(cadence(Fraction(30), 1.0, 0.25), Fraction(5), 1)
    writer, clock, second = writer_of(window), WallClock(), Fraction(1)
    run = RunContext(clock, RunStart(second), second, SequenceNumbers(), timed_metadata, lambda _: None)
    feed = Feed(run, writer, make_segmenter)
    assert not feed.receive_data(b"\x00\x00\x00\x10free12345678", Instant.now())
    assert window.last is None


@pytest.mark.parametrize(
    ("told", "rate"),
    [
        ("30000/1001", Fraction(30000, 1001)),
        ("2997/100", Fraction(30000, 1001)),
        ("25/1", Fraction(25)),
        ("24000/1001", Fraction(24000, 1001)),
        ("120/1", Fraction(60)),
        ("0/0", Fraction(30)),
        ("x", Fraction(30)),
    ],
)
def test_a_frame_rate_is_taken_from_what_ffprobe_tells(told: str, rate: Fraction) -> None:
    assert frame_rate({"avg_frame_rate": told}) == rate


async def test_a_picture_of_wide_pixels_fills_the_shape_in_which_it_is_seen(
    tools: Tools, tmp_path: Path
) -> None:
    """A 16:9 picture of standard definition, whose pixels are 64:45, has no bars in a 16:9 rendition."""
    path = tmp_path / "wide.mp4"
    white = "-f lavfi -i color=white:size=720x576:rate=25 -f lavfi -i sine -t 3 -vf setsar=64/45"
    encoder = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac"
    subprocess.run(["ffmpeg", "-v", "error", *f"{white} {encoder}".split(), f"file:{path}"], check=True)
    channel = Channel(replace(small(source=str(path)), limits=LIVE), tools)
    async with running(channel):
        await until(lambda: len(channel.renditions["240p"].window.listed) >= 2, "two segments")
        segment = channel.renditions["240p"].window.listed[0]
        assert segment.timeline is not None
        made = tmp_path / "made.mp4"
        made.write_bytes(segment.timeline.init + segment.data)
    shown = (
        "ffprobe -v error -select_streams v -show_entries stream=width,height,sample_aspect_ratio -of csv=p=0"
    )
    told = await asyncio.to_thread(
        subprocess.run, [*shown.split(), str(made)], check=True, capture_output=True, text=True
    )
    assert told.stdout.split() == ["426,240,1:1"]
    found = f"ffmpeg -nostdin -i {made} -vf cropdetect=limit=24:round=2 -f null -"
    told = await asyncio.to_thread(subprocess.run, found.split(), check=True, capture_output=True, text=True)
    crops = [word for word in told.stderr.split() if word.startswith("crop=")]
    assert crops
    assert set(crops) == {"crop=426:240:0:0"}

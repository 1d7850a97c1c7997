"""Published streams that go out as they came, whatever their frame rates, key frames and clocks are like.

Their playlists are judged by an independent reader and by the rules of low latency, and ffmpeg decodes all.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.window.model import LiveSegment
from tests.live_server import running
from tests.media.muxers.muxed_streams import packets
from tests.packager.live.copied_streams import (
    CODING,
    FIRST,
    OPTIONS,
    SECOND,
    SECONDS,
    Recorded,
    assert_same,
    media_of,
    newest_segments,
    published_by,
    publishing,
    recorded,
    segments,
)
from tests.packager.live.cut_rules import assert_cut_by_the_rules
from tests.waiting import until

__all__ = ["recorded"]
pytestmark = pytest.mark.timeout(600)

KEYS_EACH_SECOND = "-force_key_frames expr:gte(t,n_forced)"
VARYING = f"{CODING} {KEYS_EACH_SECOND} -vsync vfr -vf select="


def listed(channel: Channel) -> list[LiveSegment]:
    """Give the picture's segments that are no gaps."""
    return [one for one in channel.renditions["source"].window.listed if not one.gap]


def discontinuities(channel: Channel) -> int:
    return sum(one.discontinuity for one in listed(channel))


def newest_timeline(channel: Channel, name: str) -> int:
    """Return the number of a rendition's newest timeline."""
    timeline = channel.renditions[name].window.timeline
    assert timeline is not None
    return timeline.number


async def until_free(channel: Channel) -> None:
    """Wait until numbers of a time are free at which nobody has published, of two segments."""
    began = time.monotonic()
    await until(lambda: time.monotonic() > began + 2 * channel.options.segment_duration)


def is_copied(channel: Channel) -> bool:
    return channel.pid is None and channel.source is not None and channel.source.copied is not None


def assert_playable(channel: Channel, folder: Path) -> None:
    """Check that the playlists keep the rules, and that ffmpeg finds nothing wrong with any timeline."""
    assert_cut_by_the_rules(channel)
    for rendition in channel.renditions.values():
        window = rendition.window
        numbers = [one.number for one in window.listed]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        media = [one for one in window.listed if not one.gap]
        for timeline in {one.timeline.number for one in media if one.timeline is not None}:
            made = folder / f"{rendition.name}-{timeline}.mp4"
            made.write_bytes(media_of(window, timeline))
            command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(made), "-f", "null", "-"]
            run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
            assert run.stderr == ""


@pytest.mark.parametrize(
    ("coding", "rate"),
    [
        (f"{CODING.replace('-bf 2 -g 25', '-bf 3 -g 30')} -ar 44100", "30000/1001"),
        # Of seven and of five frames one is missing.
        (f"{VARYING}mod(n\\,7)*mod(n\\,5)", "30"),
    ],
    ids=["29.97 a second with B-frames", "variable frame rate"],
)
@pytest.mark.clause("What a publisher's frame rate is like, viewers get it as it came")
async def test_frames_of_any_rate_go_out_as_they_came(
    tools: Tools, recorded: Recorded, tmp_path: Path, coding: str, rate: str
) -> None:
    channel, recording = Channel(OPTIONS, tools), recorded(coding=coding, rate=rate)
    async with running(channel), publishing(published_by(channel).begin(FIRST), recording):
        await until(lambda: segments(channel) >= 4)
        assert is_copied(channel)
        assert channel.restarts == discontinuities(channel) == 0
    await asyncio.to_thread(assert_same, channel, recording, tmp_path)
    await asyncio.to_thread(assert_playable, channel, tmp_path)


@pytest.mark.parametrize("first", [0, 1], ids=["a short group first", "a long group first"])
@pytest.mark.parametrize("ladder", [("source",), ("source", "240p")], ids="+".join)
@pytest.mark.clause("A picture that pauses goes on, whoever came before")
async def test_each_picture_goes_out_of_a_variable_rate_after_a_constant_rate_that_set_the_part_target(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...], first: int
) -> None:
    """Pauses of half a second as of phones, shared screens and busy encoders; parts have a quarter."""
    coding = f"{VARYING}lt(mod(t+{first}\\,2)\\,1.5)".replace("-bf 2", "-bf 0")
    constant, varying = recorded(rate="30"), recorded(coding=coding, rate="30")
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    async with running(channel):
        async with publishing(published_by(channel).begin(FIRST), constant):
            await until(lambda: segments(channel) >= 2)
        await until(lambda: not published_by(channel).has_publisher)
        restarts = channel.restarts
        async with publishing(published_by(channel).begin(SECOND), varying):
            await until(lambda: discontinuities(channel) >= 1)
            await until(lambda: newest_segments(channel) >= 4)
        assert is_copied(channel) == (len(ladder) == 1)
        assert channel.restarts == restarts
        assert discontinuities(channel) == 1
    await asyncio.to_thread(assert_same, channel, varying, tmp_path)
    await asyncio.to_thread(assert_playable, channel, tmp_path)
    copied, *encoded = [
        [time for time, *_ in packets(tmp_path / f"{name}-{newest_timeline(channel, name)}.mp4", "v")]
        for name in ladder
    ]
    for times in encoded:
        assert abs(len(times) - len(copied)) <= 2
        count = min(len(times), len(copied))
        assert times[:count] == pytest.approx(copied[:count], abs=2)


@pytest.mark.parametrize(
    "told",
    [
        lambda moment: moment + 10_000 * (moment >= 500 * SECONDS),
        lambda moment: moment + 60_000 - 10_000 * (moment >= 500 * SECONDS),
        lambda moment: moment + 600_000 * (moment >= 500 * SECONDS),
    ],
    ids=["10 s on", "10 s back", "10 min on"],
)
@pytest.mark.clause("A clock that jumps is a discontinuity, and the channel goes on")
async def test_a_clock_that_jumps_is_one_discontinuity(
    tools: Tools, recorded: Recorded, tmp_path: Path, told: Callable[[int], int]
) -> None:
    channel = Channel(OPTIONS, tools)
    publication = published_by(channel).begin(FIRST)
    async with running(channel), publishing(publication, recorded(), told):
        await until(lambda: discontinuities(channel))
        number = listed(channel)[-1].number
        await until(lambda: segments(channel, number) >= 2)
        assert is_copied(channel)
        assert publication.is_on_air
        assert discontinuities(channel) == 1
    await asyncio.to_thread(assert_playable, channel, tmp_path)


async def test_a_clock_of_32_bits_that_wraps_goes_on(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    channel, wrap = Channel(OPTIONS, tools), 7000
    publication = published_by(channel).begin(FIRST)
    # FLV 10.1 §E.4.1: a timestamp of 32 bits, of which the highest eight stand apart.
    async with running(channel), publishing(publication, recorded(), lambda moment: moment - wrap):
        await until(lambda: sum(one.duration for one in listed(channel)) > 9)
        assert is_copied(channel)
        assert publication.is_on_air
        assert discontinuities(channel) == 0
        assert channel.restarts == 0
    await asyncio.to_thread(assert_playable, channel, tmp_path)


@pytest.mark.clause("Key frames every ten seconds are played; who has fewer is told")
async def test_groups_of_pictures_of_ten_seconds_are_segments_and_longer_ones_are_told(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    """Both at once, since each takes so long."""
    rare, rarer = (recorded(coding=CODING.replace("-g 25", f"-g {frames}")) for frames in (250, 1500))
    channel, other = Channel(OPTIONS, tools), Channel(replace(OPTIONS, name="other"), tools)
    async with contextlib.AsyncExitStack() as stack:
        for one, recording in ((channel, rare), (other, rarer)):
            await stack.enter_async_context(running(one))
            await until_free(one)
            await stack.enter_async_context(publishing(published_by(one).begin(FIRST), recording))
        await until(lambda: segments(channel) >= 1)
        assert is_copied(channel)
        assert published_by(channel).last_error == ""
        await until(lambda: segments(other) >= 1)
        told = published_by(other).last_error
        assert "key frames are too far apart for segments of 11 s" in told
        assert published_by(other).live is not None
    assert listed(channel)[0].duration == 10
    await asyncio.to_thread(assert_playable, channel, tmp_path)
    await asyncio.to_thread(assert_playable, other, tmp_path)


@pytest.mark.clause("A publisher whose stream can't be cut as the channel's is told why, and viewers stay")
async def test_a_later_stream_with_key_frames_farther_apart_is_refused_and_forgotten_behind_a_good_one(
    tools: Tools, recorded: Recorded
) -> None:
    """Both have the same format, so that nobody looks at the second one before it is played."""
    good, rare = recorded(), recorded(coding=CODING.replace("-g 25", "-g 250"))
    limits = replace(OPTIONS.limits, source=replace(OPTIONS.limits.source, well_seconds=0.0))
    channel = Channel(replace(OPTIONS, limits=limits), tools)
    published = published_by(channel)
    async with running(channel):
        async with publishing(published.begin(FIRST), good):
            await until(lambda: segments(channel) >= 1)
        reasons = list[str]()
        later = published.begin(SECOND, on_end=reasons.append)
        async with publishing(later, rare):
            await until(lambda: bool(reasons), "the refusal")
        assert "key frames are too far apart for segments of 1 s" in reasons[0]
        assert published.last_error == reasons[0]
        async with publishing(published.begin(FIRST), good):
            await until(lambda: published.has_publisher)
            assert published.last_error == ""


@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")], ids="+".join)
async def test_pictures_that_were_kept_have_the_dates_at_which_they_came(
    tools: Tools, recorded: Recorded, ladder: tuple[str, ...]
) -> None:
    recording = recorded(rate="30")
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    async with running(channel):
        await until_free(channel)
        async with publishing(published_by(channel).begin(FIRST), recording):
            await until(lambda: segments(channel) >= 4)
            now = time.time()
            media = [one for one in channel.renditions[ladder[0]].window.listed if not one.gap]
    # However late a busy machine is, nothing has been published before it was made.
    assert float(media[-1].program_date_time + media[-1].duration) - now < 0.25
    for one, following in itertools.pairwise(media):
        apart = following.program_date_time - one.program_date_time
        # The times of FLV are whole milliseconds, at both ends of a segment.
        assert abs(apart - one.duration) < Fraction(3, 1000)


@pytest.mark.clause("A first publisher is shown from its first key frame on")
async def test_a_first_publisher_is_shown_from_its_first_picture_on(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    """Its media sequence number needn't wait for the clock where none can have been used since long."""
    channel = Channel(replace(OPTIONS, segment_duration=2.0), tools)
    async with running(channel):
        await until_free(channel)
        async with publishing(published_by(channel).begin(FIRST), recorded()):
            await until(lambda: segments(channel) >= 2)
            assert is_copied(channel)
    # Two key frames were enough, and the others keep to the times of their numbers.
    assert listed(channel)[0].duration == 1
    await asyncio.to_thread(assert_same, channel, recorded(), tmp_path)

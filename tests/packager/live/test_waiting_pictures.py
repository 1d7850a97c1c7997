"""Pictures that wait until a stream is known are published, all of them, also behind another publisher."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import running
from tests.packager.live.copied_streams import FIRST, OPTIONS, bring, published_by
from tests.waiting import until

pytestmark = [pytest.mark.timeout(600), pytest.mark.realtime]

RATE, SECONDS = 25, 8


def stream(path: Path, sound: str) -> bytes:
    """Make MPEG-TS with a key frame each second."""
    inputs = f"-f lavfi -i testsrc2=s=160x120:r={RATE} -f lavfi -i sine=440:r=48000 -t {SECONDS}"
    coding = f"-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g {RATE} {sound} -f mpegts"
    subprocess.run(["ffmpeg", *f"-nostdin -v error {inputs} {coding} {path}".split()], check=True)
    return path.read_bytes()


@pytest.mark.parametrize("ladder", [("source",), ("source", "240p")], ids="+".join)
async def test_more_segments_that_come_at_once_are_published_than_have_numbers_by_the_clock(
    tools: Tools, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    """ffprobe looks for a while at Opus in frames of 120 ms, which come behind what was published before."""
    limits = replace(OPTIONS.limits, gap_target_durations=LiveLimits().gap_target_durations)
    channel = Channel(replace(OPTIONS, ladder=ladder, data=tmp_path / "data", limits=limits), tools)
    usual = await asyncio.to_thread(stream, tmp_path / "usual.ts", "-c:a aac")
    slow = await asyncio.to_thread(stream, tmp_path / "slow.ts", "-c:a libopus -frame_duration 120")
    with capture_logs() as logs:
        async with running(channel):

            async def publish(data: bytes) -> None:
                ended = [one["event"] for one in logs].count("source ended")
                publication = published_by(channel).begin(FIRST)
                await bring(publication, data, SECONDS)
                publication.end()
                await until(lambda: [one["event"] for one in logs].count("source ended") > ended)

            await publish(usual)
            window = channel.renditions["source"].window
            await until(lambda: window.listed[-1].gap)
            first = window.next_number
            await publish(slow)
            for name in ladder:
                listed = channel.renditions[name].window.listed
                came = [one.duration for one in listed if one.number >= first and not one.gap]
                assert sum(came) == SECONDS

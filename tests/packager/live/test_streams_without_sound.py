"""All pictures of a stream without sound are published, also where it announces sound that never comes."""

from __future__ import annotations

import asyncio
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from media.ts.tables import PACKET
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import running
from tests.media.muxers.muxed_streams import packets
from tests.packager.live.copied_streams import FIRST, OPTIONS, bring, media_of, published_by
from tests.waiting import until

pytestmark = [pytest.mark.timeout(600), pytest.mark.realtime]

RATE, SECONDS = 25, 8.24
PICTURES = round(RATE * SECONDS)

SOUND_PID = 0x101
"""Of ffmpeg's second stream."""


@pytest.fixture(scope="module")
def announcing(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return MPEG-TS whose program map lists sound, without any packet of it."""
    made = tmp_path_factory.mktemp("streams") / "both.ts"
    inputs = f"-f lavfi -i testsrc2=s=160x120:r={RATE} -f lavfi -i sine=440 -t {SECONDS}"
    coding = f"-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g {2 * RATE} -c:a aac"
    subprocess.run(["ffmpeg", *f"-nostdin -v error {inputs} {coding} {made}".split()], check=True)
    data = made.read_bytes()
    pieces = (data[begin : begin + PACKET] for begin in range(0, len(data), PACKET))
    return b"".join(one for one in pieces if (one[1] & 0x1F) << 8 | one[2] != SOUND_PID)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return FLV of a picture alone."""
    made = tmp_path_factory.mktemp("streams") / "alone.flv"
    picture = f"-f lavfi -i testsrc2=s=160x120:r={RATE} -t {SECONDS}"
    coding = f"-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g {2 * RATE}"
    subprocess.run(["ffmpeg", *f"-nostdin -v error {picture} {coding} {made}".split()], check=True)
    return made.read_bytes()


@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")], ids="+".join)
@pytest.mark.parametrize("kind", ["announcing", "alone"])
@pytest.mark.clause("However long a start takes, a stream is published from its first picture to its last")
async def test_all_pictures_of_a_stream_without_sound_are_published(
    tools: Tools, request: pytest.FixtureRequest, tmp_path: Path, kind: str, ladder: tuple[str, ...]
) -> None:
    data: bytes = request.getfixturevalue(kind)
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    with capture_logs() as logs:
        async with running(channel):
            # The numbers of the stream's time are free then.
            free = time.monotonic() + 2 * channel.options.segment_duration
            await until(lambda: time.monotonic() > free)
            publication = published_by(channel).begin(FIRST)
            await bring(publication, data, SECONDS)
            publication.end()
            await until(lambda: any(one["event"] == "source ended" for one in logs), "the end")
            for name in ladder:
                window, made = channel.renditions[name].window, tmp_path / f"{name}.mp4"
                assert window.timeline is not None
                made.write_bytes(await asyncio.to_thread(media_of, window, window.timeline.number))
                assert len(await asyncio.to_thread(packets, made, "v")) >= PICTURES

"""What an ffmpeg of a live channel is given, when the stream changes while it is started."""

from __future__ import annotations

import asyncio
import subprocess
from fractions import Fraction

import pytest

from packager.live.encoder_run import EncoderRun
from packager.live.rendition_output import RunStart
from packager.process.ffmpeg_discovery import Tools
from packager.sources.limits import SourceLimits
from packager.sources.publication import Publisher
from packager.sources.published_source import PublishedSource
from packager.sources.source import Source
from packager.window.aligned_windows import AlignedWindows
from packager.window.model import WindowOptions
from packager.window.window import Window
from tests.conformance.handfed import NUMBER
from tests.packager.writers import writer_of
from tests.patience import CLIENT_SECONDS

pytestmark = pytest.mark.timeout(600)

AT_ONCE = SourceLimits(ahead_seconds=1e6, untaken_seconds=1e6)
"""Streams that come faster than they are played aren't slowed down."""

CODING = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 10 -c:a aac"


def published(tools: Tools, container: str) -> bytes:
    """Make four seconds of a stream."""
    line = f"-nostdin -v error -f lavfi -i testsrc2=size=160x120:rate=10 -f lavfi -i sine=440 -t 4 {CODING}"
    argv = [str(tools.ffmpeg), *line.split(), "-f", container, "pipe:1"]
    return subprocess.run(argv, capture_output=True, check=True).stdout


@pytest.mark.clause("Another publisher's stream is played on the same playlists, behind a discontinuity")
async def test_an_ffmpeg_is_not_given_the_container_of_who_took_over_while_it_was_started(
    tools: Tools,
) -> None:
    """It would look for MPEG-TS in megabytes of FLV, and the channel would be down meanwhile."""
    source = PublishedSource("studio", limits=AT_ONCE)
    first = source.begin(Publisher("http", "192.0.2.1"))
    await first.receive_data(published(tools, "mpegts"))
    found = Source(pump=source, stream=source.stream)
    assert source.container == "mpegts"

    second = source.begin(Publisher("http", "192.0.2.2"))
    await second.receive_data(published(tools, "flv"))
    assert source.live is second
    window = Window(WindowOptions(1, NUMBER))
    aligned = AlignedWindows([writer_of(window, "240p")])
    run = EncoderRun(found, [], RunStart(Fraction(1)), aligned, asyncio.Event())
    argv = [str(tools.ffmpeg), "-v", "error", "-f", "mpegts", "-i", "pipe:0", "-f", "null", "-"]
    async with asyncio.timeout(CLIENT_SECONDS):
        assert await run.play(argv) == "another stream follows"
    assert run.supply_ended
    assert source.live is second
    second.end()

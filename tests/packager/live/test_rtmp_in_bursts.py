"""Encoders that send what they have made of some seconds at once over RTMP, and then nothing."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from media.flv import tags as flv_tags
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.publication import Publication
from tests.live_server import running
from tests.media.muxers.muxed_streams import tags_of
from tests.packager.live.copied_streams import FIRST, OPTIONS, Recorded, published_by, recorded
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)

BURST, SECONDS = 4, 24


def milliseconds(tag: bytes) -> int:
    return int.from_bytes(tag[4:7], "big")


async def bring(publication: Publication, recording: Path) -> None:
    """Bring the tags of each four seconds when the last of them is made, and end the stream."""
    loop, data = asyncio.get_running_loop(), recording.read_bytes()
    began = loop.time()
    await publication.receive_data(data[: flv_tags.FILE_HEADER])
    ordered = sorted(tags_of(data), key=milliseconds)
    for number, tags in itertools.groupby(ordered, lambda tag: milliseconds(tag) // (1000 * BURST)):
        await asyncio.sleep(max(began + BURST * (number + 1) - loop.time(), 0))
        await publication.receive_data(b"".join(tags))
    publication.end()


@pytest.mark.parametrize("has_data", [True, False], ids=["", "without-data"])
@pytest.mark.parametrize("ladder", [("240p",), ("source", "240p")], ids="+".join)
async def test_an_encoded_stream_that_comes_in_bursts_goes_on_from_each_to_the_next(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...], has_data: bool
) -> None:
    channel = Channel(replace(OPTIONS, ladder=ladder, data=tmp_path if has_data else None), tools)
    publication = published_by(channel).begin(FIRST)
    with capture_logs() as logs:
        async with running(channel):
            await bring(publication, recorded(seconds=SECONDS))
            await until(lambda: any(one["event"] == "source ended" for one in logs))
            for one in channel.renditions.values():
                listed = one.window.listed
                assert not any(segment.gap or segment.discontinuity for segment in listed)
                # Without holding them back, a third of a second and more of each burst is lost.
                assert sum(segment.duration for segment in listed) >= SECONDS - 0.1
            assert channel.restarts == 0

"""Publications whose picture or sound changes its format on the way: viewers miss no more than they must."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from media.flv import tags as flv_tags
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.publication import Publication
from tests.live_server import running
from tests.media.muxers.muxed_streams import tags_of
from tests.packager.live.copied_streams import (
    CODING,
    FIRST,
    OPTIONS,
    SECONDS,
    Recorded,
    bring,
    published_by,
    publishing,
    recorded,
    segments,
)
from tests.packager.live.moved_times import in_container
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)

CHANGE = 4000
"""Milliseconds from which on a stream has another format."""

ONE_KEY_FRAME = 900
"""Milliseconds of a stream with a key frame each second."""


def tags_until(recording: Path, seconds: int, begin: int) -> bytes:
    """Return the tags of an FLV file up to some milliseconds, with times from another begin on."""
    tags = [(int.from_bytes(tag[4:7], "big"), tag) for tag in tags_of(recording.read_bytes())]
    return b"".join(
        tag[:4] + (time + begin).to_bytes(3, "big") + tag[7:]
        for time, tag in tags
        if tag[0] != flv_tags.SCRIPT and time < seconds
    )


async def bring_sound(publication: Publication, recording: Path) -> None:
    """Bring the sound behind the first group of pictures: a stream of which nothing comes doesn't flow."""
    for tag in tags_of(recording.read_bytes()):
        if tag[0] == flv_tags.AUDIO and (time := int.from_bytes(tag[4:7], "big")) >= ONE_KEY_FRAME:
            await publication.receive_data(tag[:4] + (time + CHANGE).to_bytes(3, "big") + tag[7:])
            await asyncio.sleep(1 / 20)


OTHER_SOUND = CODING.replace("-c:a aac", "-c:a aac -ar 44100 -ac 1")


@pytest.mark.parametrize("ladder", [("source",), ("source", "240p")], ids="+".join)
@pytest.mark.parametrize("change", [{"size": "320x180"}, {"coding": OTHER_SOUND}], ids=["size", "sound"])
async def test_another_format_is_played_from_its_first_key_frame_on(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...], change: dict[str, str]
) -> None:
    """How the channel is cut is known by then, so that no more key frames must be waited for."""
    header, begun = recorded().read_bytes()[: flv_tags.FILE_HEADER], tmp_path / "begun.flv"
    begun.write_bytes(header + tags_until(recorded(), CHANGE, 0))
    other = tags_until(recorded(**change), ONE_KEY_FRAME, CHANGE)
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    publication = published_by(channel).begin(FIRST)
    async with running(channel), publishing(publication, begun):
        await until(lambda: segments(channel) >= 1)
        first = channel.source
        # No picture comes behind that key frame's group, and the publisher stays.
        await publication.receive_data(other)
        async with background_task(bring_sound(publication, recorded(**change))):
            await until(lambda: channel.source is not first)
        assert channel.source is not None
        assert channel.source.frame_rate == 25
        assert channel.source.size == ((320, 180) if "size" in change else (160, 120))
        assert channel.source.audio_codec == "aac"


HEVC = "-c:v libx265 -preset ultrafast -x265-params keyint=25:bframes=0:log-level=none -c:a copy"


@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")], ids="+".join)
async def test_hevc_behind_h264_of_one_publication_goes_on_air(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    other = tmp_path / "hevc.ts"
    words = f"-nostdin -v error -i {recorded()} {HEVC} -f mpegts {other}"
    await asyncio.to_thread(subprocess.run, ["ffmpeg", *words.split()], check=True)
    data = await asyncio.to_thread(in_container, recorded(), tmp_path, "ts")
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    publication = published_by(channel).begin(FIRST)
    async with running(channel):
        async with background_task(bring(publication, data, SECONDS)):
            await until(lambda: segments(channel) >= 1)
        number = channel.renditions["audio"].window.next_number
        async with background_task(bring(publication, other.read_bytes(), SECONDS)):
            await until(lambda: channel.source is not None and channel.source.video_codec == "hevc")
            await until(lambda: segments(channel, number) >= 3)
            timeline = channel.renditions[ladder[0]].window.timeline
            assert timeline is not None
            assert timeline.entry.kind == (b"hvc1" if ladder[0] == "source" else b"avc1")
        publication.end()

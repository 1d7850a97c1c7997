"""Pictures that are coded as two fields are on air as pictures, with their sound."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from media.ts.tables import StreamType
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import running
from tests.media.ts import coded_fields
from tests.packager.live.copied_streams import (
    FIRST,
    LOUD,
    OPTIONS,
    bring,
    published_by,
    segments,
    volumes,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

LADDERS = [("source",), ("240p",), ("source", "240p")]


def sound_of(codec: str, folder: Path, seconds: int) -> coded_fields.Frames:
    """Return a tone of some seconds, in AAC or in layer II of MPEG-1."""
    made = folder / f"sound.{codec}"
    tone = f"-f lavfi -i sine=440:sample_rate=48000:duration={seconds}"
    words = f"-nostdin -v error {tone} -c:a {codec} -b:a 128k -ac 2 {made}"
    subprocess.run(["ffmpeg", *words.split()], check=True)
    data = made.read_bytes()
    if codec == "aac":
        return coded_fields.Frames(coded_fields.adts_frames(data))
    # ISO/IEC 11172-3 §2.4.3.1: 144 bytes for each bit of the rate and sample a second
    frames = [data[at : at + 384] for at in range(0, len(data), 384)]
    return coded_fields.Frames(frames, StreamType.MPEG1_AUDIO, 1152)


@pytest.mark.clause("ISO/IEC 14496-15 §5.2.2")
@pytest.mark.parametrize(
    ("way", "codec"), [*((way, "aac") for way in coded_fields.WAYS), (coded_fields.WAYS[-1], "mp2")]
)
@pytest.mark.parametrize("ladder", LADDERS, ids="+".join)
async def test_pictures_of_two_fields_are_on_air_as_pictures(
    tools: Tools, tmp_path: Path, ladder: tuple[str, ...], way: str, codec: str
) -> None:
    seconds = 24
    sound = await asyncio.to_thread(sound_of, codec, tmp_path, seconds)
    data = await asyncio.to_thread(coded_fields.stream, way, 25 * seconds, sound=sound)
    channel = Channel(replace(OPTIONS, ladder=ladder, segment_duration=2.0), tools)
    source = published_by(channel)
    publication = source.begin(FIRST)
    async with running(channel), background_task(bring(publication, data, seconds)):
        await until(lambda: segments(channel) >= 3)
        assert not source.last_error
        assert channel.restarts == 0
        assert channel.presentation.multivariant().count(b"FRAME-RATE=25.000") == len(ladder)
        windows = [one.window for one in channel.renditions.values()]
        assert not any(one.gap or one.discontinuity for window in windows for one in window.listed)
        told = await asyncio.to_thread(volumes, channel, tmp_path)
        publication.end()
    assert min(told[1:-1]) > LOUD

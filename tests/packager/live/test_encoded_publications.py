"""Publications of which ffmpeg encodes a part: they play alike in every container."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from media.flv import tags as flv_tags
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.publication import Publication, PublicationEndedError
from tests.live_server import running
from tests.media.muxers.muxed_streams import tags_of
from tests.media.ts import coded_fields
from tests.packager.live.copied_streams import (
    FIRST,
    LOUD,
    OPTIONS,
    SECONDS,
    Recorded,
    bring,
    newest_segments,
    published_by,
    publishing,
    recorded,
    segments,
    volumes,
)
from tests.packager.live.moved_times import MOVED, in_container
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)

LADDERS = [("240p",), ("source", "240p")]
WAY = coded_fields.WAYS[-1]


async def test_some_key_frames_are_enough_to_encode_beside_a_copied_picture(
    tools: Tools, recorded: Recorded
) -> None:
    """Viewers wait for it: two or three groups of pictures are known after as many seconds."""
    channel = Channel(replace(OPTIONS, ladder=("source", "240p")), tools)
    # Nothing comes behind these seconds, and the publisher stays.
    async with running(channel), publishing(published_by(channel).begin(FIRST), recorded(seconds=4)):
        await until(lambda: channel.source is not None)
        assert channel.source is not None
        assert channel.source.copied is None
        assert channel.source.seen is not None
        assert channel.source.frame_rate == 25
        assert channel.source.size == (160, 120)


@pytest.mark.parametrize("ladder", LADDERS, ids="+".join)
@pytest.mark.parametrize("container", MOVED)
async def test_sound_with_a_clock_of_its_own_is_heard_with_its_picture(
    tools: Tools, recorded: Recorded, tmp_path: Path, container: str, ladder: tuple[str, ...]
) -> None:
    write, _, sound = MOVED[container]
    data = await asyncio.to_thread(in_container, recorded(), tmp_path, container)
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    source = published_by(channel)
    publication = source.begin(FIRST)
    faulty = write(data, sound, lambda _: 4 * 90_000)
    async with running(channel), background_task(bring(publication, faulty, SECONDS)):
        await until(lambda: newest_segments(channel) >= 4)
        assert "s ahead of its picture's" in source.last_error
        assert channel.restarts == 0
        (sound_begin, picture_begin) = (
            channel.renditions[name].window.listed[0].program_date_time for name in ("audio", ladder[0])
        )
        told = await asyncio.to_thread(volumes, channel, tmp_path)
        publication.end()
    assert sound_begin is not None
    assert picture_begin is not None
    assert abs(sound_begin - picture_begin) < 1
    assert min(told[1:-1]) > LOUD


@pytest.mark.clause("ISO/IEC 14496-3 §1.7")
@pytest.mark.parametrize("ladder", [("source",), *LADDERS], ids="+".join)
async def test_sound_in_latm_is_heard(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    data = await asyncio.to_thread(in_container, recorded(), tmp_path, "latm")
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    source = published_by(channel)
    publication = source.begin(FIRST)
    async with running(channel), background_task(bring(publication, data, SECONDS)):
        await until(lambda: segments(channel) >= 4)
        assert not source.last_error
        assert channel.restarts == 0
        assert channel.source is not None
        assert ladder[0] != "source" or channel.source.audio_codec == "aac"
        told = await asyncio.to_thread(volumes, channel, tmp_path)
        publication.end()
    assert min(told[1:-1]) > LOUD


@pytest.mark.parametrize("ladder", [("source",), *LADDERS], ids="+".join)
async def test_a_picture_in_four_seconds_is_on_air_with_its_sound_and_stays(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    coding = "-c:v libx264 -preset fast -tune zerolatency -g 1 -pix_fmt yuv420p -c:a aac"
    recording, stream = recorded(coding=coding, rate="1/4", seconds=60).read_bytes(), tmp_path / "slow.flv"
    # ffmpeg writes such a picture seconds before its sound; encoders send what is made at the same time.
    tags = sorted(tags_of(recording), key=lambda tag: int.from_bytes(tag[4:7], "big"))
    stream.write_bytes(recording[: flv_tags.FILE_HEADER] + b"".join(tags))
    channel = Channel(replace(OPTIONS, ladder=ladder, segment_duration=2.0), tools)
    source = published_by(channel)
    async with running(channel), publishing(source.begin(FIRST), stream):
        await until(lambda: segments(channel) >= 5)
        assert channel.state == "live"
        assert channel.restarts == 0
        windows = [one.window for one in channel.renditions.values()]
        assert not any(one.gap for window in windows for one in window.listed)
        told = await asyncio.to_thread(volumes, channel, tmp_path)
    assert min(told[1:-1]) > LOUD


def with_fragments(recording: Path, folder: Path) -> bytes:
    """Write a recording as MP4 with a fragment for each group of pictures, as ffmpeg usually does."""
    made = folder / "fragments.mp4"
    words = f"-nostdin -v error -i {recording} -c copy -movflags frag_keyframe+empty_moov {made}"
    subprocess.run(["ffmpeg", *words.split()], check=True)
    return made.read_bytes()


async def bring_fragments(publication: Publication, data: bytes, seconds: float) -> None:
    """Bring each fragment when its last picture is made."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    places = [found.start() - 4 for found in re.finditer(b"moof", data)]
    with contextlib.suppress(PublicationEndedError):
        await publication.receive_data(data[: places[0]])
        for index, (begin, end) in enumerate(itertools.pairwise([*places, len(data)]), 1):
            await asyncio.sleep(began + seconds * index - loop.time())
            await publication.receive_data(data[begin:end])


@pytest.mark.parametrize("ladder", LADDERS, ids="+".join)
async def test_fragments_with_all_pictures_before_their_sound_are_played_together(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    coding = "-c:v libx264 -preset fast -bf 2 -g 50 -sc_threshold 0 -pix_fmt yuv420p -c:a aac"
    data = await asyncio.to_thread(with_fragments, recorded(coding=coding, seconds=20), tmp_path)
    channel = Channel(replace(OPTIONS, ladder=ladder, segment_duration=2.0), tools)
    source = published_by(channel)
    publication = source.begin(FIRST)
    async with running(channel), background_task(bring_fragments(publication, data, 2.0)):
        await until(lambda: segments(channel) >= 4)
        assert not source.last_error
        assert channel.restarts == 0
        told = await asyncio.to_thread(volumes, channel, tmp_path)
        publication.end()
    assert min(told[1:-1]) > LOUD

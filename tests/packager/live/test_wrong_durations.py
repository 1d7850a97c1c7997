"""Published fragmented MP4 whose samples have durations of 0 or wrong ones, and fragments of a second."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from media.mp4.fragments.fragments import Fragment, FragmentReader, write_fragment
from media.mp4.fragments.moof import Sample
from media.mp4.fragments.sample_durations import WRONG_DURATIONS
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import running
from tests.packager.live.copied_streams import (
    FIRST,
    LOUD,
    OPTIONS,
    SECONDS,
    Recorded,
    bring,
    published_by,
    recorded,
    segments,
    volumes,
)
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)

LADDERS = [("source",), ("240p",), ("source", "240p")]
WRONG: dict[str, Callable[[int], int]] = {"none": lambda _: 0, "half": lambda told: told // 2}


def each(told: Callable[[int], int]) -> Callable[[Sequence[Sample]], Sequence[Sample]]:
    """Return what gives samples other durations, which depend on their own."""
    return lambda samples: [one._replace(duration=told(one.duration)) for one in samples]


def with_empty_samples(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Let each tenth sample last for nothing, and the one before it for the time of both."""
    found = list(samples)
    for at in range(5, len(found), 10):
        found[at - 1] = found[at - 1]._replace(duration=found[at - 1].duration + found[at].duration)
        found[at] = found[at]._replace(duration=0)
    return found


def with_durations(
    recording: Path, folder: Path, change: Callable[[Sequence[Sample]], Sequence[Sample]]
) -> bytes:
    """Write a recording as a fragment for each key frame, with other durations of its samples."""
    words = (
        f"-nostdin -v error -i {recording} -c copy -f mp4 -movflags frag_keyframe+empty_moov {folder}/a.mp4"
    )
    subprocess.run(["ffmpeg", *words.split()], check=True)
    reader, made = FragmentReader(), b""
    reader.receive_data((folder / "a.mp4").read_bytes())
    for event in reader.events():
        if not isinstance(event, Fragment):
            made += event.data
            continue
        made += write_fragment(
            sequence_number=event.sequence_number,
            track_id=event.track_id,
            base_media_decode_time=event.base_media_decode_time,
            samples=change(event.samples),
            data=event.data,
        )
    return made


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("ladder", LADDERS, ids="+".join)
async def test_no_fragment_is_a_spurt_with_a_pause_behind_it(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...], wrong: str
) -> None:
    data = await asyncio.to_thread(with_durations, recorded(), tmp_path, each(WRONG[wrong]))
    # Where numbers are reserved, fragments that come late on a busy machine lose no segment for being early.
    channel = Channel(replace(OPTIONS, ladder=ladder, data=tmp_path / "data"), tools)
    source = published_by(channel)
    publication = source.begin(FIRST)
    async with running(channel), background_task(bring(publication, data, SECONDS)):
        await until(lambda: segments(channel) >= 6)
        assert source.last_error == WRONG_DURATIONS
        assert channel.restarts == 0
        windows = [one.window for one in channel.renditions.values()]
        assert not any(one.gap for window in windows for one in window.listed)
        # Three fragments come at once where the first two show that the durations are wrong.
        assert all(sum(one.discontinuity for one in window.listed) <= (wrong == "half") for window in windows)
        assert b"FRAME-RATE=25.000" in channel.presentation.multivariant()
        told = await asyncio.to_thread(volumes, channel, tmp_path)
        publication.end()
    assert min(told[1:-1]) > LOUD


@pytest.mark.parametrize("ladder", LADDERS, ids="+".join)
async def test_samples_that_last_for_nothing_leave_the_stream_on_air(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    data = await asyncio.to_thread(with_durations, recorded(), tmp_path, with_empty_samples)
    channel = Channel(replace(OPTIONS, ladder=ladder, data=tmp_path / "data"), tools)
    source = published_by(channel)
    publication = source.begin(FIRST)
    async with running(channel), background_task(bring(publication, data, SECONDS)):
        await until(lambda: segments(channel) >= 6)
        assert channel.restarts == 0
        windows = [one.window for one in channel.renditions.values()]
        assert not any(one.gap or one.discontinuity for window in windows for one in window.listed)
        told = await asyncio.to_thread(volumes, channel, tmp_path)
        publication.end()
    assert min(told[1:-1]) > LOUD

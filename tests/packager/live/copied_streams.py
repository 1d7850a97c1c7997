"""Channels that copy a publisher's stream, and what they publish of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from media.flv import tags as flv_tags
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.sources.publication import Publication, PublicationEndedError, Publisher
from packager.sources.published_source import PUBLISH, PublishedSource
from packager.window.window import Window
from tests.made_once import made_once
from tests.media.muxers.muxed_streams import packets, tags_of
from tests.patience import LIVE

OPTIONS = ChannelOptions(
    "studio",
    PUBLISH,
    ladder=("source",),
    part_duration=0.25,
    segment_duration=1.0,
    dvr_window=600,
    # However busy the machine is, no gap stands for what comes late.
    limits=replace(LIVE, gap_target_durations=60.0),
)

FIRST, SECOND = Publisher("rtmp", "192.0.2.1"), Publisher("rtmp", "192.0.2.2")

CODING = "-c:v libx264 -preset fast -bf 2 -g 25 -sc_threshold 0 -pix_fmt yuv420p -c:a aac"

SECONDS = 14

Recorded = Callable[..., Path]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """Record some seconds of a stream of a size."""

    def record(size: str = "160x120", coding: str = CODING, rate: str = "25", seconds: int = SECONDS) -> Path:
        inputs = f"-f lavfi -i testsrc2=size={size}:rate={rate} -f lavfi -i sine=440:sample_rate=48000"
        # Of slow pictures and sound the muxer takes no packet that is out of order.
        order = "-max_interleave_delta 0"
        words = f"-nostdin -v error {inputs} -t {seconds} {coding} {order} recording.flv".split()
        made = made_once(words, lambda folder: subprocess.run(["ffmpeg", *words], check=True, cwd=folder))
        return made / "recording.flv"

    return record


@contextlib.asynccontextmanager
async def publishing(
    publication: Publication, recording: Path, told: Callable[[int], int] = int, came: Path | None = None
) -> AsyncIterator[None]:
    """Publish a recording in real time, for as long as the block lasts or it is wanted.

    Args:
        publication: takes it.
        recording: it.
        told: gives the timestamp, modulo 2^32, that is told in the place of one of the recording.
        came: a recording with as many tags, at whose times they come; None: at their own.
    """
    data = recording.read_bytes()
    moments = [int.from_bytes(tag[4:7], "big") for tag in tags_of((came or recording).read_bytes())]

    async def bring() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with contextlib.suppress(PublicationEndedError):
            await publication.receive_data(data[: flv_tags.FILE_HEADER])
            for tag, moment in zip(tags_of(data), moments, strict=True):
                await asyncio.sleep(max(began + moment / 1000 - loop.time(), 0))
                own = moment if came is None else int.from_bytes(tag[7:8] + tag[4:7], "big")
                time = (told(own) % (1 << 32)).to_bytes(4, "big")
                await publication.receive_data(tag[:4] + time[1:] + time[:1] + tag[8:])
            await loop.create_future()

    try:
        async with background_task(bring()):
            yield
    finally:
        publication.end()


def published_by(channel: Channel) -> PublishedSource:
    assert channel.published is not None
    return channel.published


def media_of(window: Window, timeline: int) -> bytes:
    """Join all that is listed of a timeline."""
    listed = [one for one in window.listed if one.timeline is not None and one.timeline.number == timeline]
    while listed[-1].gap:  # behind a publisher that has gone, in the middle of a segment of one rendition
        listed.pop()
    assert not any(one.gap for one in listed)
    init = listed[0].timeline
    assert init is not None
    return init.init + b"".join(bytes(part.data) for one in listed for part in one.parts)


def assert_same(channel: Channel, recording: Path, folder: Path) -> None:
    """Check that what the newest timeline has are packets of the recording, one behind the other."""
    for name, kind in (("source", "v"), ("audio", "a")):
        window, made = channel.renditions[name].window, folder / f"{name}.mp4"
        assert window.timeline is not None
        made.write_bytes(media_of(window, window.timeline.number))
        sent, found = packets(recording, kind), packets(made, kind)
        first = [one[3] for one in sent].index(found[0][3])
        assert len(found) > 40
        shift = found[0][1] - sent[first][1]
        for one, other in zip(sent[first:], found, strict=False):
            assert one[2:] == other[2:]
            assert abs(other[0] - one[0] - shift) <= 1
            assert abs(other[1] - one[1] - shift) <= 1
        assert kind == "a" or found[0][2]


def segments(channel: Channel, number: int = 0) -> int:
    """Count the complete segments from a number on, of the rendition that has fewest."""
    return min(
        sum(one.number >= number and not one.gap for one in rendition.window.listed)
        for rendition in channel.renditions.values()
    )


def newest_segments(channel: Channel) -> int:
    """Count the complete segments of the newest timeline, of the rendition that has fewest."""
    windows = [rendition.window for rendition in channel.renditions.values()]
    return min(
        sum(one.timeline is window.timeline and not one.gap for one in window.listed) for window in windows
    )


async def bring(publication: Publication, data: bytes, seconds: float) -> None:
    """Bring a stream in real time."""
    steps = round(20 * seconds)
    with contextlib.suppress(PublicationEndedError):
        for step in range(steps):
            begin, end = (len(data) * one // steps for one in (step, step + 1))
            await publication.receive_data(data[begin:end])
            await asyncio.sleep(1 / 20)


LOUD, SILENT = -40.0, -80.0
"""Volumes in dB: ffmpeg's sine has -21, and what isn't there has -91 or less."""


def volumes(channel: Channel, folder: Path) -> list[float]:
    """Return the mean volume in dB of each second of what the newest timeline has of the sound."""
    window, made = channel.renditions["audio"].window, folder / "sound.mp4"
    assert window.timeline is not None
    made.write_bytes(media_of(window, window.timeline.number))
    told = "ametadata=print:key=lavfi.astats.Overall.RMS_level:file=-"
    graph = f"asetnsamples=48000,astats=metadata=1:reset=1,{told}"
    words = f"-nostdin -v error -i {made} -af {graph} -f null -"
    told = subprocess.run(["ffmpeg", *words.split()], check=True, capture_output=True, text=True).stdout
    return [float(one) for one in re.findall(r"RMS_level=(\S+)", told)]

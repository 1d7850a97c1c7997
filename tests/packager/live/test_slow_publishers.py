"""Publishers with a picture in some seconds, in each container; in MPEG-TS the next one ends a picture."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import pytest

from media.flv import tags as flv_tags
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.publication import Publication, PublicationEndedError
from tests.live_server import running
from tests.media.muxers.muxed_streams import tags_of
from tests.packager.live.copied_streams import (
    FIRST,
    LOUD,
    OPTIONS,
    SECOND,
    Recorded,
    media_of,
    published_by,
    recorded,
    segments,
    volumes,
)
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)

CODING = "-c:v libx264 -preset fast -tune zerolatency -g 1 -pix_fmt yuv420p -c:a aac"


def in_order(recording: Path, folder: Path) -> Path:
    """Write a recording in the order of its times: encoders send what is made at the same time."""
    data, written = recording.read_bytes(), folder / "ordered.flv"
    tags = sorted(tags_of(data), key=lambda tag: int.from_bytes(tag[4:7], "big"))
    written.write_bytes(data[: flv_tags.FILE_HEADER] + b"".join(tags))
    return written


MUXERS = {
    "flv": "-flush_packets 1 -f flv",
    "ts": "-max_interleave_delta 100k -flush_packets 1 -f mpegts",
    "mkv": "-max_interleave_delta 100k -flush_packets 1 -f matroska -live 1 -cluster_time_limit 100",
    "mp4": "-max_interleave_delta 100k -flush_packets 1 -f mp4 -frag_duration 500000"
    " -movflags empty_moov+default_base_moof",
}


@contextlib.asynccontextmanager
async def sending(
    publication: Publication, recording: Path, container: str = "ts", sound: str = "-c copy"
) -> AsyncIterator[None]:
    """Publish what ffmpeg sends of a recording in real time."""
    words = f"ffmpeg -nostdin -v error -re -i {recording} {sound} {MUXERS[container]} pipe:1"
    process = await asyncio.create_subprocess_exec(*words.split(), stdout=PIPE)

    async def bring() -> None:
        assert process.stdout is not None
        with contextlib.suppress(PublicationEndedError):
            while data := await process.stdout.read(1 << 16):
                await publication.receive_data(data)

    try:
        async with background_task(bring()):
            yield
    finally:
        publication.end()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def shown_times(channel: Channel, name: str, folder: Path) -> list[float]:
    """Return the times of the pictures that a rendition's newest timeline has, in seconds."""
    window, made = channel.renditions[name].window, folder / f"{channel.name}-{name}.mp4"
    assert window.timeline is not None
    made.write_bytes(media_of(window, window.timeline.number))
    words = f"ffprobe -v error -select_streams v -show_entries packet=pts_time -of csv=p=0 {made}"
    told = subprocess.run(words.split(), check=True, capture_output=True, text=True).stdout
    return [float(one.strip(",")) for one in told.split()]


# Encoded pictures alone have ffmpeg's frame rate; of the others a picture is repeated.
@pytest.mark.parametrize(
    ("ladder", "rates"),
    [(("source",), [b"1.000"]), (("240p",), [b"30.000"]), (("source", "240p"), [b"2.500", b"2.500"])],
)
async def test_a_picture_in_four_seconds_is_on_air_with_its_sound(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...], rates: list[bytes]
) -> None:
    recording = in_order(recorded(coding=CODING, rate="1/4", seconds=120), tmp_path)
    channel = Channel(replace(OPTIONS, ladder=ladder, segment_duration=2.0), tools)
    source = published_by(channel)
    async with running(channel), sending(source.begin(FIRST), recording):
        await until(lambda: segments(channel) >= 4)
        assert channel.state == "live"
        assert channel.restarts == 0
        windows = [one.window for one in channel.renditions.values()]
        assert not any(one.gap or one.discontinuity for window in windows for one in window.listed)
        told = channel.presentation.multivariant().split(b"FRAME-RATE=")[1:]
        assert [one.split(b",")[0] for one in told] == rates
        heard = await asyncio.to_thread(volumes, channel, tmp_path)
    assert min(heard[1:-1]) > LOUD


@pytest.mark.parametrize(
    ("container", "ladder"), [("mkv", ("source",)), ("mp4", ("240p",)), ("mp4", ("source", "240p"))]
)
async def test_a_picture_in_four_seconds_is_on_air_in_each_container(
    tools: Tools, recorded: Recorded, tmp_path: Path, container: str, ladder: tuple[str, ...]
) -> None:
    recording = in_order(recorded(coding=CODING, rate="1/4", seconds=120), tmp_path)
    channel = Channel(replace(OPTIONS, ladder=ladder, segment_duration=2.0), tools)
    source = published_by(channel)
    async with running(channel), sending(source.begin(FIRST), recording, container):
        await until(lambda: segments(channel) >= 2)
        assert (channel.state, channel.restarts) == ("live", 0)
        listed = [one for rendition in channel.renditions.values() for one in rendition.window.listed]
        assert not any(one.gap for one in listed)


@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")])
async def test_a_picture_in_four_seconds_without_any_sound_is_on_air_with_silence(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    recording = in_order(recorded(coding=CODING, rate="1/4", seconds=120), tmp_path)
    options = replace(OPTIONS, ladder=ladder, segment_duration=2.0)
    channels = {name: Channel(replace(options, name=name), tools) for name in MUXERS}
    async with contextlib.AsyncExitStack() as stack:
        for name, channel in channels.items():
            await stack.enter_async_context(running(channel))
            publication = published_by(channel).begin(FIRST)
            await stack.enter_async_context(sending(publication, recording, name, "-c copy -an"))
        await until(lambda: min(map(segments, channels.values())) >= 5)
        for name, channel in channels.items():
            assert (channel.state, channel.restarts) == ("live", 0), name
            # Nobody said that there would be sound.
            assert not published_by(channel).last_error
            windows = [rendition.window for rendition in channel.renditions.values()]
            assert not any(one.gap or one.discontinuity for window in windows for one in window.listed), name
        if len(ladder) > 1:
            # Encoded pictures have the times of the copied ones, whatever rate a slow stream seems to have.
            copied, encoded = [
                await asyncio.to_thread(shown_times, channels["flv"], one, tmp_path) for one in ladder
            ]
            count = min(map(len, (copied, encoded)))
            assert count > 20
            assert encoded[:count] == pytest.approx(copied[:count], abs=0.002)


@pytest.mark.parametrize(
    ("container", "ladder"), [("ts", ("source",)), ("mkv", ("240p",)), ("mp4", ("source", "240p"))]
)
async def test_a_picture_a_second_is_on_air_behind_a_publisher_of_25(
    tools: Tools, recorded: Recorded, tmp_path: Path, container: str, ladder: tuple[str, ...]
) -> None:
    usual = in_order(recorded(seconds=40), tmp_path)
    channel = Channel(replace(OPTIONS, ladder=ladder, segment_duration=2.0), tools)
    source = published_by(channel)
    async with running(channel):
        async with sending(source.begin(FIRST), usual, container):
            await until(lambda: segments(channel) >= 2)
        number = max(one.window.next_number for one in channel.renditions.values())
        slow = recorded(coding=CODING.replace("-g 1", "-g 2"), rate="1", seconds=120)
        (tmp_path / "slow").mkdir()
        publication = source.begin(SECOND)
        async with sending(publication, in_order(slow, tmp_path / "slow"), container):
            await until(lambda: segments(channel, number) >= 2)
            assert not publication.end_reason
            rates = channel.presentation.multivariant().split(b"FRAME-RATE=")[1:]
        # An encoder has a frame rate of its own.
        assert (rates[0].split(b",")[0] == b"1.000") == ("source" in ladder)

"""Sound that begins behind its picture is heard from then on, also where an encoder runs without it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from media.flv import tags as flv_tags
from media.stream_reader import CLOCK_RATE, StreamChunk
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.pump import Pump
from tests.live_server import running
from tests.media.muxers.muxed_streams import tags_of
from tests.packager.live.copied_streams import (
    FIRST,
    LOUD,
    OPTIONS,
    Recorded,
    published_by,
    publishing,
    recorded,
    segments,
    volumes,
)
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)


def time_of(tag: bytes) -> int:
    """Return the milliseconds of a tag."""
    return int.from_bytes(tag[4:7], "big")


def with_late_sound(recording: Path, folder: Path, late: int) -> Path:
    """Write a recording whose sound, with what announces it, begins at some milliseconds."""
    data, made = recording.read_bytes(), folder / "late.flv"
    tags = list(tags_of(data))
    header = next(tag for tag in tags if tag[0] == flv_tags.AUDIO)
    before = [tag for tag in tags if time_of(tag) < late and tag[0] == flv_tags.VIDEO]
    behind = [tag for tag in tags if time_of(tag) >= late]
    announced = header[:4] + late.to_bytes(3, "big") + header[7:]
    made.write_bytes(data[: flv_tags.FILE_HEADER] + b"".join([*before, announced, *behind]))
    return made


@pytest.mark.parametrize("late", [950, 3000])
@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")], ids="+".join)
async def test_sound_is_heard_that_begins_behind_its_picture(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...], late: int
) -> None:
    stream = with_late_sound(recorded(), tmp_path, late)
    # With numbers that are reserved, an encoder is started at once.
    channel = Channel(replace(OPTIONS, ladder=ladder, data=tmp_path / "data"), tools)
    async with running(channel), publishing(published_by(channel).begin(FIRST), stream):
        await until(lambda: channel.source is not None and channel.source.has_audio, seconds=30)
        number = channel.renditions["audio"].window.next_number
        await until(lambda: segments(channel, number) >= 3)
        told = await asyncio.to_thread(volumes, channel, tmp_path)
    assert min(told[-3:-1]) > LOUD


class Taker:
    """Takes a stream, and notes how far it has come, in ticks, and its end."""

    def __init__(self) -> None:
        self.has_ended = False
        self.clock = 0

    async def push(self, chunks: Sequence[StreamChunk]) -> None:
        """Take chunks."""
        self.clock = max([self.clock, *(one.clock or 0 for one in chunks)])

    def close_stdin(self) -> None:
        """Note the end."""
        self.has_ended = True


async def test_who_reads_a_stream_without_sound_begins_anew_with_its_sound(
    recorded: Recorded, tmp_path: Path
) -> None:
    data = with_late_sound(recorded(), tmp_path, 800).read_bytes()
    tags, pump, taker = list(tags_of(data)), Pump("flv"), Taker()
    await pump.receive_data(data[: flv_tags.FILE_HEADER] + b"".join(tags[:5]))
    async with background_task(pump.feed_chunks(taker)):
        await asyncio.sleep(0)
        await pump.receive_data(b"".join(tag for tag in tags[5:] if time_of(tag) < 800))
        assert not taker.has_ended
        await pump.receive_data(next(tag for tag in tags if tag[0] == flv_tags.AUDIO))
        await until(lambda: taker.has_ended, seconds=10)


async def test_who_reads_from_before_the_first_picture_goes_on(recorded: Recorded) -> None:
    data = recorded().read_bytes()
    tags = [tag for tag in tags_of(data) if time_of(tag) < 1000]
    header = data[: flv_tags.FILE_HEADER]
    # FLV 1.0, E.4.3.1: behind the sequence header AVCPacketType is 1.
    first = next(index for index, tag in enumerate(tags) if tag[0] == flv_tags.VIDEO and tag[12] == 1)
    for pieces in [(b"", header + b"".join(tags))] + [
        (header + b"".join(tags[:count]), b"".join(tags[count:])) for count in range(first)
    ]:
        pump, taker = Pump("flv"), Taker()
        await pump.receive_data(pieces[0])
        async with background_task(pump.feed_chunks(taker)):
            await asyncio.sleep(0)
            await pump.receive_data(pieces[1])
            await until(partial(_has_come, taker, CLOCK_RATE // 2), seconds=10)
            assert not taker.has_ended


def _has_come(taker: Taker, ticks: int) -> bool:
    """Return whether a stream has come so far."""
    return taker.clock >= ticks

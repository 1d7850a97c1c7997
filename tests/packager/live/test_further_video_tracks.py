"""Streams of several pictures: each is a rendition as it came, or the main one makes the ladder alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from media.flv import tags as flv_tags
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.publication import Publication, PublicationEndedError
from tests.live_server import running
from tests.media.flv.test_flv_to_fragments import packets, tags_of
from tests.packager.live.test_copied import (
    CODING as CAREFUL,
)
from tests.packager.live.test_copied import (
    FIRST,
    OPTIONS,
    SECOND,
    SECONDS,
    Recorded,
    media_of,
    published_by,
    recorded,
    segments,
)
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)

CODING = CAREFUL.replace("fast", "ultrafast")
LADDER = replace(OPTIONS, ladder=("source", "360p", "240p"))
TWO = replace(OPTIONS, ladder=("source", "240p"))
MIDDLE, SMALL = "480x360", "320x240"


def main(recorded: Recorded) -> Path:
    """Record the main picture and the sound."""
    return recorded(coding=CODING)


def small(recorded: Recorded) -> Path:
    """Record what the ladder calls 240p."""
    return recorded(SMALL, CODING)


@contextlib.asynccontextmanager
async def publishing(
    publication: Publication,
    first: Path,
    further: Mapping[int, Path],
    *,
    lasts: float = SECONDS,
    late: float = 0.0,
) -> AsyncIterator[None]:
    """Publish recordings together in real time, for as long as the block lasts or they are wanted.

    Args:
        publication: takes them.
        first: the main picture and the sound.
        further: the pictures beside it, by the numbers of their tracks.
        lasts: seconds of the stream for which they come.
        late: seconds by which they come too late.
    """
    tags = [(_moment(tag), 0, tag) for tag in tags_of(first.read_bytes())]
    for track, recording in further.items():
        of_track = [tag for tag in tags_of(recording.read_bytes()) if tag[0] == flv_tags.VIDEO]
        tags += [(_moment(tag), track, tag) for tag in of_track if _moment(tag) < 1000 * lasts]
    tags.sort(key=lambda one: (one[0] + (1000 * late if one[1] else 0), one[1]))

    async def bring() -> None:
        loop, begun = asyncio.get_running_loop(), {0}
        began = loop.time()
        with contextlib.suppress(PublicationEndedError):
            await publication.receive_data(flv_tags.file_header())
            for moment, track, tag in tags:
                await asyncio.sleep(max(began + moment / 1000 + (late if track else 0) - loop.time(), 0))
                if not track:
                    await publication.receive_data(tag)
                else:
                    beginning = b"" if track in begun else flv_tags.file_header()
                    begun.add(track)
                    await publication.receive_further_video_track(track, beginning + tag)
            await loop.create_future()

    try:
        async with background_task(bring()):
            yield
    finally:
        publication.end()


def _moment(tag: bytes) -> int:
    return int.from_bytes(tag[4:7], "big")


async def test_each_picture_is_a_rendition_packet_by_packet(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    channel = Channel(LADDER, tools)
    # One more than the ladder has, in no order, and all a little late.
    further = {2: small(recorded), 5: recorded("64x48", CODING), 1: recorded(MIDDLE, CODING)}
    publishes = publishing(published_by(channel).begin(FIRST), main(recorded), further, late=0.3)
    async with running(channel), publishes:
        await until(lambda: segments(channel) >= 4)
        assert channel.pid is None
        assert channel.source is not None
        assert channel.source.further == (1, 2)
        assert channel.restarts == 0
        windows = {name: one.window for name, one in channel.renditions.items()}
        media = {
            name: media_of(window, window.timeline.number)
            for name, window in windows.items()
            if window.timeline is not None
        }
    starts = set()
    for name, recording in (("source", main(recorded)), ("360p", further[1]), ("240p", further[2])):
        made = tmp_path / f"{name}.mp4"
        made.write_bytes(media[name])
        sent, found = packets(recording, "v"), packets(made, "v")
        at = [one[3] for one in sent].index(found[0][3])
        assert len(found) > 40
        assert found[0][2]
        assert [one[2:] for one in found] == [one[2:] for one in sent[at : at + len(found)]]
        starts.add(min(one[0] for one in found[:3]))
    assert max(starts) - min(starts) <= 1


async def test_the_same_pictures_come_again_and_others_behind_them(tools: Tools, recorded: Recorded) -> None:
    channel, further = Channel(LADDER, tools), {1: recorded(MIDDLE, CODING), 2: small(recorded)}
    source = published_by(channel)
    async with running(channel), publishing(source.begin(FIRST), main(recorded), further):
        await until(lambda: segments(channel) >= 1)
        second = source.begin(SECOND)
        async with publishing(second, main(recorded), {7: further[1], 3: further[2]}):
            await until(lambda: second.is_on_air)
            number = channel.renditions["240p"].window.next_number + 1
            await until(lambda: segments(channel, number) >= 1)
            assert channel.pid is None
            numbers = [[one.number for one in each.window.listed] for each in channel.renditions.values()]
            assert all(one == numbers[0] for one in numbers)


@pytest.mark.parametrize(
    ("size", "coding", "told"),
    [
        (MIDDLE, CODING, "no track has a picture of 240 lines, for 240p"),
        (SMALL, CODING.replace("-g 25", "-g 20"), "has its key frames at other times"),
    ],
    ids=["missing", "other key frames"],
)
async def test_where_pictures_do_not_fit_the_ladder_is_made_of_the_main_one(
    tools: Tools, recorded: Recorded, size: str, coding: str, told: str
) -> None:
    channel, further = Channel(TWO, tools), {1: recorded(size, coding)}
    async with running(channel), publishing(published_by(channel).begin(FIRST), main(recorded), further):
        await until(lambda: channel.pid is not None)
        assert told in published_by(channel).last_error
        assert not published_by(channel).further_video_tracks


async def test_where_a_picture_stops_the_main_one_makes_the_ladder(tools: Tools, recorded: Recorded) -> None:
    channel = Channel(replace(TWO, limits=replace(TWO.limits, stall_seconds=1.5)), tools)
    source = published_by(channel)
    publishes = publishing(source.begin(FIRST), main(recorded), {1: small(recorded)}, lasts=4)
    async with running(channel), publishes:
        await until(lambda: segments(channel) >= 1)
        assert channel.pid is None
        await until(lambda: channel.pid is not None)
        assert source.last_error == "its track 1 stopped"
        number = channel.renditions["240p"].window.next_number
        await until(lambda: segments(channel, number) >= 1)

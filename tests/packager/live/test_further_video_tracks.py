"""Streams of several pictures: each is a rendition as it came, or the main one makes the ladder alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import running
from tests.media.muxers.muxed_streams import packets
from tests.packager.live.copied_streams import (
    CODING as CAREFUL,
)
from tests.packager.live.copied_streams import (
    FIRST,
    OPTIONS,
    SECOND,
    Recorded,
    media_of,
    published_by,
    recorded,
    segments,
)
from tests.packager.live.video_tracks import publishing
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

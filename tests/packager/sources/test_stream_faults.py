"""Faults of published streams: damage is logged, and pictures that stand still are repeated for ffmpeg."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from media.packets import Packet, StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE, StreamChunk
from media.ts.tables import PACKET, ElementaryStream, ProgramMap, write_tables
from packager.sources.limits import SourceLimits
from packager.sources.publication import Publisher
from packager.sources.published_source import PublishedSource
from packager.sources.still_picture import StillPicture

PID = 0x100
TABLES = write_tables(ProgramMap(PID, (ElementaryStream(0x1B, PID),)), 0x20)
PICTURE = StreamTrack(TrackKind.VIDEO, "avc1")


def packet(counter: int) -> bytes:
    return (struct.pack(">BHB", 0x47, PID, 0x10 | counter % 16)).ljust(PACKET, b"\xff")


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.3.3")
@pytest.mark.parametrize(("seconds", "lines"), [(0.0, 2), (60.0, 1)])
async def test_damage_of_a_transport_stream_is_logged_now_and_then(seconds: float, lines: int) -> None:
    source = PublishedSource("studio", limits=replace(SourceLimits(), loss_log_seconds=seconds))
    publication = source.begin(Publisher("http", "192.0.2.1"), "mpegts")
    with capture_logs() as logs:
        await publication.receive_data(TABLES + packet(0) + packet(1))
        await publication.receive_data(packet(5) + packet(6))
        await publication.receive_data(packet(7))
        await publication.receive_data(packet(9))
    told = [one["lost_packets"] for one in logs if one["event"] == "a publisher's stream is damaged"]
    assert told == [3, 4][:lines]
    assert source.lost_packets == 4


def chunk(seconds: float, *, is_key: bool = True) -> StreamChunk:
    time = round(seconds * CLOCK_RATE)
    return StreamChunk.of_packets([Packet(PICTURE, time, time, is_key, b"picture")])


def test_a_key_frame_that_stands_still_is_repeated_with_the_time_that_has_passed() -> None:
    still = StillPicture(1.7, 1.0)
    still.push([chunk(4.0)], 100.0)
    assert still.wait(100.2) == pytest.approx(1.5)
    assert not still.repeat(101.5)
    for passed in (1.75, 3.0):
        (again,) = still.repeat(100.0 + passed)
        assert [(one.dts, one.data) for one in again.packets] == [((4 + passed) * CLOCK_RATE, b"picture")]
    still.push([chunk(8.0)], 104.0)
    assert still.wait(104.0) == pytest.approx(1.0)
    # A picture that has come and isn't pushed yet is shown in its place.
    assert not still.repeat(105.5, [StreamChunk(b"picture", access=True)])
    assert not still.repeat(105.5, [None])
    assert still.repeat(105.5, [StreamChunk(b"sound")])


def test_pictures_that_are_pushed_together_have_repetitions_between_them_and_late_ones_follow_these() -> None:
    still = StillPicture(1.7, 1.0)
    pushed = still.push([chunk(0.0), chunk(4.0)], 100.0)
    assert [one.dts / CLOCK_RATE for part in pushed for one in part.packets] == [0, 1, 2, 3, 4]
    shown = [one.dts / CLOCK_RATE for now in (101, 102, 103, 104.5) for one in still.repeat(now)[0].packets]
    assert shown == [5, 6, 7, 8.5]
    ((late,),) = (one.packets for one in still.push([chunk(8.0)], 104.6))
    assert 8.5 < late.dts / CLOCK_RATE < 8.6
    assert late.pts == late.dts
    assert not still.repeat(105.5)
    # What is more than a pause is a jump of the clock, and is left as it is.
    ((jumped,),) = (one.packets for one in still.push([chunk(100.0)], 106.0))
    assert jumped.dts == 100 * CLOCK_RATE


def test_a_repetition_waits_hardly_longer_for_the_next_picture_than_for_another_repetition() -> None:
    still = StillPicture(1.7, 1.0)
    still.push([chunk(0.0), chunk(4.0)], 100.0)
    assert still.repeat(103.0)
    # It is probably there in one second, and a segment may have to begin before it comes.
    assert still.wait(103.0) == pytest.approx(1.15)
    assert still.repeat(104.15)
    assert still.wait(104.15) == pytest.approx(1.0)


def test_large_pictures_are_not_repeated_between_two_that_are_pushed_together() -> None:
    still, time = StillPicture(1.7, 1.0), 4 * CLOCK_RATE
    large = StreamChunk.of_packets([Packet(PICTURE, time, time, True, bytes(6 << 20))])
    still.push([large], 100.0)
    assert [len(one.packets) for one in still.push([chunk(8.0)], 100.0)] == [1]


def test_pictures_that_come_often_or_need_others_are_not_repeated() -> None:
    often, needing, slow = (StillPicture(1.7, 1.0) for _ in range(3))
    slow.push([chunk(0.0)], 100.0)
    slow.push([chunk(1.0)], 101.0)
    assert slow.wait(102.0) is None
    often.push([chunk(0.0)], 100.0)
    often.push([chunk(0.04)], 100.04)
    needing.push([chunk(0.0), chunk(0.04, is_key=False)], 100.0)
    assert often.wait(101.0) is None
    assert needing.wait(101.0) is None

"""Packets of streams that are demuxed for ffmpeg: in order, and none of them waits for long."""

from __future__ import annotations

import random

import pytest

from media.packets import Packet, StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE
from packager.sources.demuxing import BURSTS_AWAITED, PacketSorter, container_for

VIDEO, AUDIO = StreamTrack(TrackKind.VIDEO, "avc1"), StreamTrack(TrackKind.AUDIO, "mp4a")


def frames(track: StreamTrack, begin: float, end: float, every: float = 0.04) -> list[Packet]:
    times = [round((begin + index * every) * CLOCK_RATE) for index in range(round((end - begin) / every))]
    return [Packet(track, time, time, is_key=True, data=b"frame") for time in times]


def test_pictures_of_a_burst_wait_for_their_sound_and_keep_their_order() -> None:
    sorter = PacketSorter()
    found = sorter.push(frames(VIDEO, 0, 2), 100.0, 2.0)
    assert not found
    found = sorter.push(frames(AUDIO, 0, 2, 0.02), 100.1, 2.0)
    assert [one.dts for one in found] == sorted(one.dts for one in found)
    # Both tracks have come up to the last picture.
    assert sum(one.track is VIDEO for one in found) == 50
    assert len(found) + len(sorter.flush()) == 150
    assert sorter.held_bytes == 0


def test_packets_that_come_evenly_wait_for_nothing() -> None:
    sorter = PacketSorter()
    for index in range(100):
        picture = frames(VIDEO, 0.04 * index, 0.04 * (index + 1))
        assert sorter.push(picture, 100 + 0.04 * index, 0.0) == picture
    assert sorter.wait(104.0) is None


@pytest.mark.parametrize("burst", [1.0, 2.0, 10.0])
def test_pictures_do_not_wait_for_sound_that_stops(burst: float) -> None:
    sorter = PacketSorter()
    sorter.push(frames(AUDIO, 0, burst), 100.0, burst)
    held = sorter.push(frames(VIDEO, 0, 2 * burst), 100.0, burst)
    assert held
    wait = sorter.wait(100.0)
    assert wait is not None
    assert wait == pytest.approx(BURSTS_AWAITED * burst)
    assert not sorter.due(100.0 + 0.9 * wait)
    assert sorter.due(100.0 + wait)[-1].dts == frames(VIDEO, 0, 2 * burst)[-1].dts
    assert sorter.wait(200.0) is None


def test_pictures_wait_once_for_sound_that_stops_and_again_once_it_is_back() -> None:
    sorter, now = PacketSorter(), 100.0
    sorter.push([*frames(VIDEO, 0, 2), *frames(AUDIO, 0, 2)], now, 2.0)
    sorter.push(frames(VIDEO, 2, 4), now + 2, 2.0)
    assert sorter.due(now + 2 + 2 * BURSTS_AWAITED)
    later = frames(VIDEO, 4, 6)
    assert sorter.push(later, now + 6, 2.0)[-1] == later[-1]
    assert sorter.wait(now + 6) is None
    sorter.push(frames(AUDIO, 6, 8), now + 8, 2.0)
    sorter.flush()
    assert not sorter.push(frames(VIDEO, 8, 10), now + 10, 2.0)


def test_no_packet_is_lost_or_comes_twice_however_they_come() -> None:
    chance, sorter = random.Random(1), PacketSorter()
    sent, found, now = list[Packet](), list[Packet](), 100.0
    for _ in range(300):
        track = chance.choice((VIDEO, AUDIO))
        begin = chance.uniform(0, 30)
        some = frames(track, begin, begin + chance.uniform(0, 3))
        sent += some
        now += chance.uniform(0, 1)
        found += sorter.push(some, now, chance.choice((None, 0.0, 2.0)))
        found += sorter.due(now)
    found += sorter.flush()
    assert sorted(found, key=lambda one: (one.dts, one.track.codec)) == sorted(
        sent, key=lambda one: (one.dts, one.track.codec)
    )


def test_ffmpeg_gets_the_own_bytes_of_streams_that_say_how_a_picture_is_shown() -> None:
    assert container_for((VIDEO, AUDIO)) == "flv"
    assert container_for((StreamTrack(TrackKind.VIDEO, "hvc1"), AUDIO)) == "matroska"
    assert container_for((VIDEO, StreamTrack(TrackKind.AUDIO, "Opus"))) == "matroska"
    assert not container_for((StreamTrack(TrackKind.VIDEO, "avc1", pixel_aspect=(4, 3)), AUDIO))
    assert not container_for((StreamTrack(TrackKind.VIDEO, "avc1", matrix=bytes(36)), AUDIO))

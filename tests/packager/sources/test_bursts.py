"""Streams that come in bursts are told from those that come evenly, and go on evenly."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from media.packets import Packet, StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE, StreamChunk
from packager.sources.bursts import LONGEST_BURST_SECONDS, RELEASE_SECONDS, BurstMeter, PacketPacer
from packager.sources.demuxing import DemuxedChunks

VIDEO, AUDIO = StreamTrack(TrackKind.VIDEO, "avc1"), StreamTrack(TrackKind.AUDIO, "mp4a")
PICTURE = 1 / 25


def packets(begin: float, seconds: float) -> list[Packet]:
    """Return the packets of a fragment of pictures, and of one of sound behind it."""
    return [
        Packet(track, time, time, is_key=True, data=b"a")
        for track in (VIDEO, AUDIO)
        for time in (
            round((begin + index * PICTURE) * CLOCK_RATE) for index in range(round(seconds / PICTURE))
        )
    ]


def measured(arrivals: Iterable[float]) -> float | None:
    """Return the length of bursts, by the moments at which media came."""
    meter, now = BurstMeter(), 0.0
    for now in arrivals:
        meter.observe(now)
    return meter.seconds(now)


@pytest.mark.parametrize("burst", [1.0, 2.0, 6.0, 10.0])
def test_bursts_are_known_from_the_second_one_on(burst: float) -> None:
    assert measured([100, 100.01]) is None
    for count in (2, 3, 10):
        # What a burst brings comes in several reads.
        moments = [100 + index * burst + late for index in range(count) for late in (0, 0.001, 0.02)]
        assert measured(moments) == pytest.approx(burst, abs=0.03)


def test_bursts_have_a_longest_length() -> None:
    assert measured([0, 60, 120]) == LONGEST_BURST_SECONDS


@pytest.mark.parametrize(
    "moments",
    [
        [index * PICTURE for index in range(1000)],
        # A server reads once a part.
        [index * 0.34 for index in range(200)],
        # A network fails for a second and a half every ten seconds.
        [10 * index + late * PICTURE for index in range(5) for late in range(210)],
        # An encoder begins, and needs a second until it goes on.
        [0, *(1.0 + index * PICTURE for index in range(100))],
    ],
    ids=["even", "parts", "failures", "a late start"],
)
def test_other_streams_have_no_bursts(moments: list[float]) -> None:
    assert measured(moments) == 0


def test_a_stream_that_begins_again_is_measured_anew() -> None:
    meter = BurstMeter()
    for now in (0, 2, 4):
        meter.observe(now)
    meter.restart()
    assert meter.seconds(4) is None


def released(
    bursts: Iterable[tuple[float, float, float]], until: float, hold: float
) -> list[tuple[float, Packet]]:
    """Return the packets with the moments of their release.

    Args:
        bursts: when each comes, its first time and its length.
    """
    pacer, found = PacketPacer(), list[tuple[float, Packet]]()
    waiting, now = sorted(bursts), 0.0
    while now < until:
        while waiting and waiting[0][0] <= now:
            moment, begin, seconds = waiting.pop(0)
            pacer.push(packets(begin, seconds), moment, hold)
        found += [(now, packet) for packet in pacer.due(now)]
        wait = pacer.wait(now)
        arrival = waiting[0][0] if waiting else until
        now = arrival if wait is None else min(now + wait, arrival)
    return found


def test_packets_go_out_evenly_and_in_the_order_of_their_times() -> None:
    found = released([(2 * index + 2, 2 * index, 2) for index in range(5)], 14, hold=2.0)
    assert len(found) == 2 * 5 * 50
    times = [packet.dts for _, packet in found]
    assert times == sorted(times)
    for moment, packet in found:
        # The first picture goes out when it comes, and the last one two seconds later.
        assert packet.dts / CLOCK_RATE + 2 <= moment + 0.001
        assert moment <= packet.dts / CLOCK_RATE + 2 + RELEASE_SECONDS + PICTURE


def test_a_burst_that_is_late_goes_out_when_it_comes_and_later_ones_are_even_again() -> None:
    late = [(2 + 2 * index + (1.5 if index == 2 else 0), 2 * index, 2) for index in range(6)]
    found = released(late, 20, hold=2.0)
    assert len(found) == 2 * 6 * 50
    assert (
        max(moment - packet.dts / CLOCK_RATE for moment, packet in found if packet.dts >= 6 * CLOCK_RATE)
        < 2.2
    )


def test_what_has_gathered_goes_out_at_once_but_for_the_newest_burst() -> None:
    found = released([(10, 2 * index, 2) for index in range(5)], 14, hold=2.0)
    at_once = [packet for moment, packet in found if moment == 10]
    assert len(at_once) >= 2 * 4 * 50
    assert max(packet.dts for packet in at_once) <= 8.1 * CLOCK_RATE


def test_nothing_is_held_without_bursts_and_everything_is_flushed() -> None:
    pacer = PacketPacer()
    pacer.push(packets(0, 2), 5.0, 0.0)
    assert len(pacer.due(5.0)) == 100
    assert pacer.wait(5.0) is None
    pacer.push(packets(2, 2), 7.0, 2.0)
    assert pacer.held_bytes == 100
    assert len(pacer.flush()) == 100
    assert (pacer.held_bytes, pacer.is_holding) == (0, False)


def test_metadata_at_the_beginning_delay_nothing() -> None:
    pacer, metadata = PacketPacer(), StreamTrack(TrackKind.METADATA, "onMetaData", b"a")
    pacer.push([Packet(metadata, 0, 0, is_key=False, data=b""), *packets(0, 4)], 100.0, 4.0)
    # The last picture goes out four seconds behind its time.
    assert [packet.dts for packet in pacer.due(100 + 1.01 * PICTURE)] == [0, 0, 0]
    assert len(pacer.due(104.01)) == len(packets(0, 4)) - 2
    assert not pacer.is_holding


def held_back(seconds: float, passed: float) -> int:
    """Return how many packets of a stream's first data are held back, some time after they came."""
    demuxed = DemuxedChunks(None, (), 1 << 20, lambda _: None)
    chunk = StreamChunk.of_packets(packets(0, seconds))
    steps = demuxed.steps([chunk], 100 + passed, None, 100)
    return len(packets(0, seconds)) - sum(len(one.packets) for step in steps for one in step)


def test_the_first_burst_is_held_back_before_it_is_known_to_be_one() -> None:
    assert held_back(4, 0) == pytest.approx(len(packets(0, 4)), abs=4)
    assert held_back(4, 1) == pytest.approx(len(packets(0, 3)), abs=4)
    assert held_back(4, 4) == 0


def test_a_stream_that_has_come_evenly_is_not_held_back() -> None:
    assert held_back(4, 3.9) == 0
    assert held_back(0.4, 0) == 0


def test_a_picture_whose_sound_comes_with_the_next_burst_waits_for_it() -> None:
    pacer = PacketPacer()
    released = dict[str, dict[float, float]](avc1={}, mp4a={})
    now = 100.0
    for burst in range(8):
        begin = 2.0 * burst
        pictures = [one for one in packets(begin, 2.0) if one.track is VIDEO]
        sound = [one for one in packets(begin - 2.0, 2.0) if one.track is AUDIO and burst]
        pacer.push([*pictures, *sound], now, 2.0)
        for _ in range(20):
            for one in pacer.due(now):
                released[one.track.codec][one.dts / CLOCK_RATE] = now
            now += 0.1
    apart = [abs(released["mp4a"][time] - released["avc1"][time]) for time in released["mp4a"] if time >= 2]
    assert len(apart) > 100
    assert max(apart) <= 0.1

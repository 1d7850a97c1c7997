"""Clocks of sound and picture that are apart are told from sound that comes behind its picture."""

from __future__ import annotations

import pytest

from media.packets import Packet, StreamTrack, TrackKind
from media.steady_times import SteadyTimes
from media.stream_reader import CLOCK_RATE

VIDEO, AUDIO = StreamTrack(TrackKind.VIDEO, "avc1"), StreamTrack(TrackKind.AUDIO, "mp4a")


def frames(track: StreamTrack, begin: float, end: float) -> list[Packet]:
    times = [round((begin + index / 25) * CLOCK_RATE) for index in range(round((end - begin) * 25))]
    return [Packet(track, time, time, is_key=True, data=b"frame") for time in times]


@pytest.mark.parametrize("seconds", [1.0, 4.0, 10.0])
@pytest.mark.parametrize("late", [0.0, 2.0])
def test_a_fragment_of_pictures_before_its_sound_has_no_fault(seconds: float, late: float) -> None:
    steady = SteadyTimes(awaits_picture=True)
    for index in range(3):
        begin = index * seconds
        some = [
            *frames(VIDEO, begin, begin + seconds),
            *frames(AUDIO, begin - late, begin - late + seconds),
        ]
        assert [one for packet in some for one in steady.push(packet)] == some
    assert not steady.fault


@pytest.mark.parametrize("apart", [0, 4, 600])
def test_sound_that_comes_before_an_announced_picture_waits_for_its_clock(apart: float) -> None:
    steady = SteadyTimes()
    announced = Packet(VIDEO, 0, 0, is_key=False, data=b"")
    early, first, late = (
        frames(AUDIO, apart, apart + 0.2),
        frames(VIDEO, 0, 0.04),
        frames(AUDIO, apart + 0.2, 1),
    )
    assert steady.push(announced) == (announced,)
    assert not [one for packet in early for one in steady.push(packet)]
    found = [one for packet in [*first, *late] for one in steady.push(packet)]
    heard = [one.dts / CLOCK_RATE for one in found if one.track is AUDIO]
    assert heard == sorted(heard)
    assert heard[0] == 0
    assert bool(steady.fault) == bool(apart)


@pytest.mark.parametrize("apart", [-600, -8, 8, 600])
def test_sound_whose_clock_is_apart_is_moved_to_its_picture(apart: float) -> None:
    steady = SteadyTimes(awaits_picture=True)
    some = [*frames(VIDEO, 0, 2), *frames(AUDIO, apart, apart + 2)]
    found = [one for packet in some for one in steady.push(packet)]
    heard = [one.dts / CLOCK_RATE for one in found if one.track is AUDIO]
    assert 0 <= heard[0] <= 2
    assert ("ahead of" if apart > 0 else "behind") in steady.fault

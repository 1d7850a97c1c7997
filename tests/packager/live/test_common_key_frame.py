"""Where the video tracks of a stream begin together, and what is held back until that is known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from types import FrameType

import pytest

from media.mp4.fragments.fragments import Fragment
from media.mp4.fragments.moof import Sample
from media.stream_reader import CLOCK_RATE
from packager.live.common_key_frame import SOUND, CommonKeyFrameGate, IndexedFragment
from packager.segment.limits import SegmentLimits
from packager.sources.further_video_tracks import FurtherVideoTracksError, SeenVideoTrack

FRAME = CLOCK_RATE // 25
APART = FRAME // 2
"""Ticks by which key frames differ that are never the same moment's."""


def fragment(time: int, *, is_key: bool = True, size: int = 10) -> Fragment:
    """Make one of a single sample."""
    return Fragment(1, 1, time, (Sample(FRAME, size, is_key),), bytes(size))


def video(track: int, time: int, *, is_key: bool = True) -> IndexedFragment:
    return IndexedFragment(track, CLOCK_RATE, fragment(time, is_key=is_key))


def steps(work: Callable[[], object]) -> int:
    """Count the calls of functions that something takes, those of generators and of C included."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def hold(shifts: tuple[int, ...], count: int) -> Callable[[], object]:
    """Give what brings key frames only, those of each track at other times than some other one's."""
    gate = CommonKeyFrameGate(len(shifts), SegmentLimits())

    def bring() -> None:
        for number in range(count):
            for track, shift in enumerate(shifts):
                gate.push(video(track, number * FRAME + shift))
        assert gate.time is None

    return bring


@pytest.mark.parametrize("shifts", [(0, APART), (0, 0, APART), (0, APART, 0)])
def test_key_frames_that_never_come_together_cost_the_same_each(shifts: tuple[int, ...]) -> None:
    few, many = (steps(hold(shifts, count)) for count in (15, 60))
    assert many < 5 * few


def test_many_key_frames_of_one_moment_cost_the_same_each() -> None:
    def bring(count: int) -> Callable[[], object]:
        gate = CommonKeyFrameGate(3, SegmentLimits())

        def work() -> None:
            for number in range(count):
                gate.push(video(0, number))
                gate.push(video(1, number))
            assert gate.time is None

        return work

    few, many = (steps(bring(count)) for count in (15, 60))
    assert many < 5 * few


def test_looking_whether_a_track_has_all_key_frames_costs_the_same_for_each() -> None:
    def look(count: int) -> Callable[[], object]:
        seen = SeenVideoTrack(most_keys=count)
        for number in range(count):
            seen.push(fragment(number * FRAME))
        keys = [Fraction(number * FRAME, CLOCK_RATE) for number in range(count)]
        return lambda: seen.has_all(keys)

    few, many = (steps(look(count)) for count in (15, 60))
    assert many < 5 * few


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_all_tracks_begin_with_the_first_key_frame_that_all_have(order: tuple[int, ...]) -> None:
    # By so much an encoder's times may differ from another's: five milliseconds.
    times = {0: (0, 3 * FRAME, 9 * FRAME), 1: (3 * FRAME - 450, 9 * FRAME), 2: (APART, 3 * FRAME + 450)}
    gate = CommonKeyFrameGate(3, SegmentLimits())
    given = [one for track in order for time in times[track] for one in gate.push(video(track, time))]
    assert gate.time == Fraction(3 * FRAME, CLOCK_RATE)
    assert next(one.fragment.base_media_decode_time for one in given if one.track == 0) == 3 * FRAME


def test_what_is_a_tick_too_far_away_is_another_moment() -> None:
    gate = CommonKeyFrameGate(2, SegmentLimits())
    gate.push(video(0, 900))
    gate.push(video(1, 449))
    gate.push(video(1, 1351))
    assert gate.time is None
    gate.push(video(1, 1350))
    assert gate.time == Fraction(900, CLOCK_RATE)


def test_a_track_that_begins_again_holds_what_it_has_then_and_no_more() -> None:
    limits = replace(SegmentLimits(), held_samples=10, held_bytes=100)
    gate = CommonKeyFrameGate(2, limits)
    gate.push(video(0, 0))
    for turn in range(30):
        gate.push(video(1, APART + turn * FRAME))
        gate.forget(1)
    for turn in range(9):
        gate.push(video(1, APART + turn * FRAME))
    with pytest.raises(FurtherVideoTracksError):
        gate.push(video(1, APART + 9 * FRAME))


def test_key_frames_of_a_stream_that_another_one_replaced_do_not_count() -> None:
    gate = CommonKeyFrameGate(3, SegmentLimits())
    for track in (0, 1):
        gate.push(video(track, 0))
    gate.forget(1)
    assert gate.push(video(2, 0)) == []
    assert gate.push(IndexedFragment(SOUND, 48_000, fragment(0))) == []
    given = gate.push(video(1, 0))
    assert gate.time == 0
    assert [one.track for one in given] == [0, 2, SOUND, 1]

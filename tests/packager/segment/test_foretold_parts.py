"""Foretelling when the next part of a picture is whole, by which publishers are read."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from media.mp4.fragments.moof import Sample
from packager.segment.keyframe_cadence import KeyframePattern, keyframe_cadence
from packager.segment.keyframe_segmenter import Cuts, KeyframeSegmenter

PART = Fraction(1, 4)


@pytest.mark.parametrize("rate", [25, 30])
def test_where_key_frames_are_regular_it_is_foretold_when_the_next_part_can_end(rate: int) -> None:
    cuts = Cuts(Fraction(2), Fraction(3), is_regular=True)
    picture = KeyframeSegmenter(timescale=rate, part_target=PART, cuts=cuts, leads=True)
    foretold, wrong, parts = list[int | None](), 0, 0
    for frame in range(20 * rate):
        closed = picture.push(frame, [Sample(1, 1, is_sync=frame % (2 * rate) == 0)], b"v")
        wrong += bool(closed) != (bool(foretold) and foretold[-1] == frame + 1)
        parts += len(closed)
        foretold.append(picture.foretold)
    assert parts > 70
    assert wrong == 0


@pytest.mark.parametrize("rate", [24, 25, 30, 50, 60])
def test_times_in_milliseconds_foretell_the_same_parts(rate: int) -> None:
    chosen = keyframe_cadence(KeyframePattern(tuple(map(Fraction, range(7)))), Fraction(rate), 2.0, 0.333)
    assert chosen.longest is not None
    cuts = Cuts(chosen.segment_duration, chosen.longest, is_regular=chosen.regular)
    picture = KeyframeSegmenter(timescale=1000, part_target=chosen.part_target, cuts=cuts, leads=True)
    foretold, wrong, parts = list[int | None](), 0, 0
    times = [round(1000 * frame / rate) for frame in range(20 * rate + 1)]
    for frame, (time, end) in enumerate(itertools.pairwise(times)):
        closed = picture.push(time, [Sample(end - time, 1, is_sync=frame % rate == 0)], b"v")
        due = foretold[-1] if foretold else None
        wrong += bool(closed) != (due is not None and end > due - 500 / rate)
        parts += len(closed)
        foretold.append(picture.foretold)
    assert parts > 50
    assert wrong <= 1

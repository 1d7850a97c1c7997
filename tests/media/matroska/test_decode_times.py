"""media.matroska.decode_times: the order of decoding, by how far pictures are reordered."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import MalformedError
from media.matroska.decode_times import OBSERVED_FRAMES, DecodeTimes, PresentedFrame, reordering


def decode_times(
    shown: Sequence[int], depth: int | None = None, duration: int | None = 1
) -> list[tuple[int, int]]:
    """List the decode and presentation times of pictures that come in this order."""
    times = DecodeTimes(depth, None if duration is None else Fraction(duration))
    return [(dts, frame.pts) for pts in shown for dts, frame in times.push(PresentedFrame(pts, False, b"a"))]


PYRAMID = [0, 4, 2, 1, 3, 8, 6, 5, 7, 12, 10, 9, 11, 16, 14, 13, 15]
"""Pictures as x264 sends them with three B-frames, one of which others refer to; two are reordered."""


@pytest.mark.parametrize(("depth", "duration"), [(2, 1), (None, 1), (2, None), (None, None)])
def test_pictures_are_decoded_at_the_times_at_which_others_are_shown(
    depth: int | None, duration: int | None
) -> None:
    assert reordering(PYRAMID) == 2
    found = decode_times(PYRAMID, depth, duration)
    assert found == list(zip(range(-2, 15), PYRAMID, strict=True))


def test_nothing_is_held_where_nothing_is_reordered() -> None:
    times = DecodeTimes(0, None)
    for pts in range(5):
        assert times.push(PresentedFrame(pts, True, b"")) == [(pts, PresentedFrame(pts, True, b""))]


def test_large_pictures_are_held_for_no_longer_than_their_bytes_allow() -> None:
    times = DecodeTimes(None, None)
    assert times.push(PresentedFrame(0, True, bytes(4 << 20))) == []
    assert len(times.push(PresentedFrame(3600, False, bytes(4 << 20)))) == 2


def test_a_picture_that_is_reordered_further_than_told_is_the_only_one_shown_before_its_decoding() -> None:
    shown = [0, 10, 20, 30, 70, 60, 50, 40, 110, 100, 90, 80, 150, 140, 130, 120]
    found = decode_times(shown, depth=0)
    assert [pts for _, pts in found] == shown
    assert all(after[0] > before[0] for before, after in itertools.pairwise(found))
    late = [pts for dts, pts in found if dts > pts]
    assert late == [60, 50, 40]


def test_times_that_go_back_by_seconds_are_an_error() -> None:
    with pytest.raises(MalformedError, match="times go back"):
        decode_times([900_000, 0], depth=0)


@given(st.permutations(range(3 * OBSERVED_FRAMES)), st.sampled_from([None, 0, 2, 16]))
def test_decode_times_rise_whatever_comes(shown: list[int], depth: int | None) -> None:
    found = decode_times(shown, depth, duration=100)
    assert [pts for _, pts in found] == shown
    assert all(after[0] > before[0] for before, after in itertools.pairwise(found))


@given(st.integers(0, 4))
def test_no_picture_is_shown_before_its_decoding_where_the_depth_is_right(depth: int) -> None:
    groups = range(0, 60, depth + 1)
    shown = [time for begin in groups for time in reversed(range(begin, begin + depth + 1))]
    found = decode_times(shown, depth)
    assert all(dts <= pts for dts, pts in found)
    assert [dts for dts, _ in found] == list(range(-depth, len(found) - depth))

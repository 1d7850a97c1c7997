"""Decode times that are derived from when samples are presented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.vod.movie.decode_times import decode_times_in_time, decode_times_in_turn

PICTURE = 512
"""Ticks of a picture."""

GROUPS = {"no B-frames": [0, 1, 2, 3], "two": [0, 3, 1, 2, 6, 4, 5], "a pyramid": [0, 4, 2, 1, 3, 8, 6, 5, 7]}
"""Orders in which x264 codes pictures, by the places at which they are shown."""


@pytest.mark.parametrize("order", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("start", [0, 90_000])
def test_decoding_begins_and_ends_with_the_presentation(order: list[int], start: int) -> None:
    times = np.array(order, np.int64) * PICTURE + start
    end = start + len(order) * PICTURE
    for found in (decode_times_in_turn(times, end), decode_times_in_time(times, end)):
        assert (found[0], found[-1]) == (start, end)
        assert np.all(np.diff(found) > 0)


@pytest.mark.parametrize("order", GROUPS.values(), ids=GROUPS)
def test_pictures_last_as_long_as_they_are_shown(order: list[int]) -> None:
    times = np.array(order, np.int64) * PICTURE
    end = len(order) * PICTURE
    assert set(np.diff(decode_times_in_turn(times, end))) == {PICTURE}
    in_time = decode_times_in_time(times, end)
    assert np.all(in_time[:-1] <= times)
    # Only those at the beginning are short, before the first that is shown out of turn.
    assert not np.any(np.diff(in_time)[3:] < PICTURE)
    assert np.diff(in_time)[int(times.argmax())] == PICTURE or len(order) == 4


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=50, unique=True), st.integers(1, 5000))
def test_any_times_give_decode_times_that_rise_and_come_in_time(shown: list[int], lasts: int) -> None:
    times = np.array(shown, np.int64) + len(shown)
    end = int(times.max()) + lasts
    for found in (decode_times_in_turn(times, end), decode_times_in_time(times, end)):
        assert np.all(np.diff(found) > 0)
        assert found[-1] == end
    found = decode_times_in_time(times, end)
    assert np.all(found[:-1] <= times)
    assert 0 <= times.min() - found[0] < len(times)

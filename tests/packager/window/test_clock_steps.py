"""Which segments the dates of a span find, whatever the clock did while they were made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import pytest

from packager.window.clock_steps import MOST_STEPS, begin_of, found_by_date, stretches_of
from packager.window.model import LiveSegment, WindowOptions
from packager.window.window import Window
from tests.packager.window.clock_runs import ELEVEN, MINUTE, NINE, NOON, STEP, TEN, made

Part = tuple[int, float, float]
"""The number of the first segment of some in a row, its date, and that of the end of the last one."""


def parts_of(segments: Sequence[LiveSegment], start: int, end: int | None) -> list[Part]:
    """Return what a span has of some segments, whose dates rise."""
    found = [one for one in segments if begin_of(one) + STEP > start and (end is None or begin_of(one) < end)]
    begins = [begin_of(one) for one in found]
    assert begins == sorted(set(begins))
    edges = [at for at, (one, later) in enumerate(pairwise(found), 1) if later.number != one.number + 1]
    return [
        (found[first].number, begins[first], begins[behind - 1] + STEP)
        for first, behind in pairwise([0, *edges, len(begins)])
        if begins
    ]


def bounds(start: int, end: int | None) -> tuple[Fraction, Fraction | None]:
    return Fraction(start), None if end is None else Fraction(end)


def shown(segments: Sequence[LiveSegment], start: int, end: int | None) -> list[Part]:
    chosen = found_by_date(stretches_of(segments), *bounds(start, end))
    return parts_of([one for one in segments if any(each.has(one) for each in chosen)], start, end)


def listed(segments: Sequence[LiveSegment], start: int, end: int | None) -> list[Part]:
    """Return what a span has of segments that are in the playlist."""
    window = Window(WindowOptions(STEP, 0, dvr_window=86_400))
    window.restore(segments, len(segments))
    assert len(window.listed) == len(segments)
    return parts_of(window.finished.dated(*bounds(start, end)), start, end)


def test_dates_that_rise_find_all() -> None:
    segments = made((NINE, 600), (TEN, 600))
    assert shown(segments, NINE, NOON) == [(0, NINE, TEN + 600)]
    assert shown(segments, NINE, None) == [(0, NINE, TEN + 600)]


AN_HOUR_BACK = made((NINE, 2 * 3600), (TEN, 1200))
BACK = 3600


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (NINE, NINE + 600, [(0, NINE, NINE + 600)]),
        (TEN - 60, TEN + 60, [(1770, TEN - 60, TEN), (BACK, TEN, TEN + 60)]),
        (TEN + 60, TEN + 600, [(BACK + 30, TEN + 60, TEN + 600)]),
        # The clock is still to come to it again.
        (ELEVEN - 600, ELEVEN, [(3300, ELEVEN - 600, ELEVEN)]),
        (TEN + 1200, ELEVEN, [(2400, TEN + 1200, ELEVEN)]),
    ],
)
def test_of_two_segments_of_a_date_the_newer_is_found(start: int, end: int, found: list[Part]) -> None:
    assert shown(AN_HOUR_BACK, start, end) == found
    assert listed(AN_HOUR_BACK, start, end) == found


def test_what_comes_now_is_found_however_little_it_is() -> None:
    segments = made((NINE, 2 * 3600), (TEN, 10))
    for end in (None, NOON, TEN + 10):
        assert listed(segments, TEN - 60, end) == [(1770, TEN - 60, TEN), (BACK, TEN, TEN + 10)]


@pytest.mark.parametrize("start", [TEN, ELEVEN + 610, ELEVEN + 1000])
def test_what_a_clock_ahead_dated_is_found_at_its_dates_alone(start: int) -> None:
    segments = made((TEN, 600), (ELEVEN + 600, 600), (TEN + 600, 600))
    if start == TEN:
        assert shown(segments, TEN, TEN + 1200) == [(0, TEN, TEN + 600), (600, TEN + 600, TEN + 1200)]
    else:
        number = 300 + (start - ELEVEN - 600) // STEP
        assert shown(segments, start, start + 100) == [(number, start, start + 100)]


def test_a_clock_that_was_behind_for_a_moment_hides_nothing_of_what_came_before() -> None:
    # As of a machine without a battery for its clock, which starts with the time at which that was saved.
    segments = made((NINE, 3 * 3600), (TEN, 30), (NOON + MINUTE, 600))
    assert shown(segments, NINE, NOON + 600) == [(0, NINE, NOON), (5415, NOON + MINUTE, NOON + 600)]
    assert shown(segments, TEN, TEN + 30) == [(5400, TEN, TEN + 30)]


def test_however_often_the_clock_was_set_back_what_came_last_is_found() -> None:
    segments = made(*[(TEN, 1200)] * 4)
    assert shown(segments, TEN, TEN + 1200) == [(1800, TEN, TEN + 1200)]


async def test_a_clock_that_is_set_back_again_and_again_holds_nobody_up() -> None:
    """That it doesn't is judged after each test: the event loop computes for no tenth of a second."""
    runs = [(TEN + 2 * STEP * number, 3 * STEP) for number in range(3000)]
    segments = await asyncio.to_thread(made, *runs)
    window = Window(WindowOptions(STEP, 0, dvr_window=86_400))
    await asyncio.to_thread(window.restore, segments, len(segments))
    newest = runs[-1][0]
    for end in (None, Fraction(newest + 3 * STEP)):
        found = window.finished.dated(Fraction(TEN), end)
        assert [begin_of(one) for one in found[-3:]] == [newest, newest + STEP, newest + 2 * STEP]
    assert len(await asyncio.to_thread(stretches_of, segments)) == MOST_STEPS + 1


def test_a_pause_without_a_step_divides_nothing_that_numbers_explain() -> None:
    early, late = made((NINE, 600)), made((TEN, 600))
    moved = [
        LiveSegment(one.number + 1800, None, one.date_ratio, gap=True, duration=one.duration) for one in late
    ]
    assert len(stretches_of([*early, *moved])) == 1
    assert len(stretches_of(made((NINE, 600), (TEN, 600)))) == 2

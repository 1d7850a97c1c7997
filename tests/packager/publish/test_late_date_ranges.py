"""Date ranges that come late: they are told of spans that ended later than that, and of no others."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from media.hls.date_range import DateRange
from packager.dvr.date_ranges.date_range_objects import DateRangeObjects
from packager.publish.date_ranges import LATE_SECONDS, DateRanges, lines_until, reach

NOW = 1_795_000_000
SHOW = DateRange("show", Fraction(NOW - 600), planned_duration=Fraction(5000))
LATE = DateRange("late", Fraction(NOW - 300), duration=Fraction(10), client_attributes={"X-A": "b"})


@pytest.fixture
def ranges() -> DateRanges:
    """Return the ranges of a channel that has one."""
    ranges = DateRanges()
    ranges.add(SHOW, 0.0)
    return ranges


def test_a_range_that_begins_now_is_as_it_was(ranges: DateRanges) -> None:
    for ago in (-60, 0, LATE_SECONDS):
        tag = DateRange("new", Fraction(NOW - ago))
        assert ranges.arrived(tag, Fraction(NOW)) is tag
    ending = DateRange("show", SHOW.start_date, duration=Fraction(600 - LATE_SECONDS))
    assert ranges.arrived(ending, Fraction(NOW)) is ending


def test_spans_that_were_over_do_not_have_what_came_late(ranges: DateRanges) -> None:
    late = ranges.arrived(LATE, Fraction(NOW))
    ending = ranges.arrived(DateRange("show", SHOW.start_date, duration=Fraction(400)), Fraction(NOW))
    assert ranges.arrived(late, Fraction(NOW + 500)) is late, "it comes to another node"
    for tag in (late, ending):
        ranges.add(tag, 0.0)
    begin, lines = Fraction(NOW - 600), [str(SHOW), str(late), str(ending)]
    assert lines_until(ranges.lines_within(begin, Fraction(NOW)), Fraction(NOW - LATE_SECONDS)) == lines
    end = Fraction(NOW - LATE_SECONDS) - Fraction(1, 1000)
    assert lines_until(ranges.lines_within(begin, end), end) == lines[:1]


@pytest.mark.parametrize("is_stored", [False, True], ids=["listed", "stored"])
def test_spans_behind_an_end_that_was_known_late_had_the_range(
    ranges: DateRanges, tmp_path: Path, *, is_stored: bool
) -> None:
    ending = ranges.arrived(DateRange("show", SHOW.start_date, duration=Fraction(100)), Fraction(NOW))
    ranges.add(ending, 0.0)
    found = ranges.lines_within
    if is_stored:
        file = DateRangeObjects.on_disk(tmp_path)
        file.add([SHOW, ending], Fraction(0))
        found = file.within(Fraction(0), Fraction(2 * NOW)).lines_within
    # It was over for 400 s, which nobody knew.
    span = Fraction(NOW - 100), Fraction(NOW - 50)
    assert lines_until(found(*span), span[1]) == [str(SHOW)]
    assert found(Fraction(NOW + 1), Fraction(NOW + 50)) == []
    ranges.evict(Fraction(NOW + 1), 0.0, 60.0)
    assert not ranges.tags()


@pytest.mark.parametrize(
    "date", ["", "yesterday", "2026-13-01T00:00:00.000Z", "2026-11-29T00:00:00.000", 5.0]
)
def test_a_date_that_is_none_in_our_own_files_is_no_fault(date: str | float) -> None:
    tag = replace(LATE, client_attributes={"X-ADDED": date})
    assert reach(tag, is_end=True) == NOW - 290
    assert lines_until([str(tag)], Fraction(NOW)) == [str(tag)]


def test_a_text_that_looks_like_it_says_nothing_of_when_it_came() -> None:
    texts = {"X-A": "x,X-ADDED=", "X-B": "2026-11-29T00:00:00.000Z", "X-C": ",X-ADDED=2099-01-01T00:00:00Z"}
    line = str(replace(LATE, client_attributes=texts))
    assert lines_until([line], Fraction(0)) == [line]

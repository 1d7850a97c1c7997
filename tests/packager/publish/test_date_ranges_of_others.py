"""The date ranges of another packager, of which a channel that takes over lists what is new to it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from media.hls.date_range import DateRange
from packager.publish.date_ranges import DateRangeError, DateRanges

AD = DateRange("ad", Fraction(100), "ad", planned_duration=Fraction(30), client_attributes={"X-NAME": "soap"})
END = replace(AD, duration=Fraction(20), client_attributes={})
NEWS = DateRange("news", Fraction(110))


def listing(*tags: DateRange) -> DateRanges:
    ranges = DateRanges()
    for tag in tags:
        ranges.add(tag, 0.0)
    return ranges


def test_new_ranges_and_the_ends_of_listed_ones_are_new() -> None:
    assert listing().new_of([AD, NEWS, END]) == [AD, NEWS, END]
    assert listing(AD).new_of([AD, END]) == [END]
    assert listing(AD, END).new_of([AD, END]) == []


def test_what_would_be_refused_can_be_known_before_and_changes_nothing() -> None:
    gone = listing(AD, END)
    gone.evict(Fraction(121), 0.0, 0.0)
    version = gone.version
    gone.check_id(NEWS)
    for refused in (AD, END):
        with pytest.raises(DateRangeError, match="used already"):
            gone.check_id(refused)
    assert (gone.version, gone.tags()) == (version, [])


def test_what_contradicts_a_listed_range_or_was_over_before_is_not_new() -> None:
    assert listing(AD).new_of([replace(END, start_date=Fraction(101))]) == []
    gone = listing(AD, END, NEWS)
    gone.evict(Fraction(121), 0.0, 0.0)
    assert gone.new_of([AD, END, NEWS]) == []

"""Times in addresses: dates as RFC 3339 has them, seconds, and before now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.live.requests.moments import LATEST, Moment, MomentError, read_moment

NOW = Fraction(1_795_723_200)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1795723200", 1_795_723_200),
        ("1795723200.25", Fraction("1795723200.25")),
        ("2026-11-26T20:14:03Z", 1_795_724_043),
        ("2026-11-26t20:14:03z", 1_795_724_043),
        # RFC 3339 §5.8: the leap second of 1990; POSIX counts the second after it the same.
        ("1990-12-31T23:59:60Z", 662_688_000),
        ("1990-12-31T15:59:60.5-08:00", Fraction("662688000.5")),
        ("2026-11-26T21:14:03+01:00", 1_795_724_043),
        ("2026-11-26T21:14:03 01:00", 1_795_724_043),
        ("2026-11-26 15:14:03.5-05:00", Fraction("1795724043.5")),
        ("now", NOW),
        ("now-90m", NOW - 5400),
        ("now-1h30m", NOW - 5400),
        ("-5400", NOW - 5400),
        ("-1.5", NOW - Fraction(3, 2)),
        ("-2d", NOW - 172_800),
    ],
)
def test_a_time_is_read(text: str, seconds: Fraction) -> None:
    assert read_moment(text).at(NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "-", "now-", "now+5", "+5", "5h", "1e5", "٣", "12345678901", "-1h5", "-1w", "-1h1h1h1h1h"),
        *(
            "2026-11-26",
            "2026-11-26T20:14:03",
            "2026-13-26T20:14:03Z",
            "2026-11-26T24:14:03Z",
            "2026-11-26T20:14:61Z",
        ),
        *("2026-W48-4T20:14:03Z", "2026-11-26T20:14:03+1", "1960-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        *("1795723200 ", "1795723200\n", "1" * 65, "nan", "inf", "0x10"),
    ],
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(MomentError, match="allowed: 2026-"):
        read_moment(text)


@given(text=st.text(max_size=80))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        found = read_moment(text)
    except MomentError:
        return
    assert found.is_relative or 0 <= found.seconds <= LATEST


@given(
    date=st.datetimes(datetime(1970, 1, 2), datetime(2099, 1, 1)),  # hypothesis wants these
    minutes=st.integers(-23 * 60, 23 * 60),
)
def test_dates_are_those_of_the_standard_library(date: datetime, minutes: int) -> None:
    there = date.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    since = there.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    expected = Fraction(since.days * 86_400 + since.seconds) + Fraction(since.microseconds, 10**6)
    assert read_moment(there.isoformat()) == Moment(expected)

"""Segments that were made while the clock was set."""

from __future__ import annotations

from fractions import Fraction

from packager.window.model import LiveSegment

NINE, TEN, ELEVEN, NOON = (hour * 3600 for hour in (9, 10, 11, 12))
MINUTE = 60
STEP = 2
"""Seconds of a segment."""

Run = tuple[int, int]
"""The date of the first segment, and the seconds of all."""


def made(*runs: Run) -> list[LiveSegment]:
    """Make segments without media whose numbers begin with 0."""
    dates = [begin + at for begin, seconds in runs for at in range(0, seconds, STEP)]
    return [
        LiveSegment(number, None, (date, 1), gap=True, duration=Fraction(STEP))
        for number, date in enumerate(dates)
    ]

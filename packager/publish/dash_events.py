"""The date ranges of a channel as events of its DASH manifests (ISO/IEC 23009-1 §5.10.2). Pure."""

from __future__ import annotations

import functools
import json
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice

from media.dash.mpd import EventStream, PeriodEvent
from media.hls.date_range import DateRange

SCHEME = "urn:headwater:daterange:2026"
"""The scheme of events whose message is a JSON object with the attributes of an EXT-X-DATERANGE."""

TIMESCALE = 1000

MOST_EVENTS = 500
"""Most events of a manifest, a range counted in each period that it touches: some milliseconds' worth."""

_ESCAPES = {ord(one): f"\\u{ord(one):04x}" for one in "&<>"}

TEXTS_KEPT = 1024
"""Cached messages."""


def event_streams(
    ranges: Sequence[DateRange], begins: Sequence[Fraction], end: Fraction | None
) -> list[EventStream | None]:
    """Return the events of each period of a manifest: ranges that began before and last into it as well.

    Args:
        begins: dates of the periods' beginnings in seconds since the epoch, rising.
        end: date of the end of the last one; None: it goes on.

    Returns:
        For each period its events, or None without any. Where there are too many, old ranges have none.
    """
    found: list[list[PeriodEvent]] = [[] for _ in begins]
    left = MOST_EVENTS
    for one in sorted(ranges, key=_start, reverse=True):
        if end is not None and one.start_date >= end:
            continue
        length = one.planned_duration if one.duration is None else one.duration
        first = max(bisect_right(begins, one.start_date) - 1, 0)
        # The newest periods first: that is where players are.
        behind = len(begins) if length is None else bisect_left(begins, one.start_date + length, lo=first)
        for index in islice(reversed(range(first, max(behind, first + 1))), left):
            if (event := _event(one, length, begins[index])) is not None:
                found[index].append(event)
                left -= 1
    return [EventStream(SCHEME, TIMESCALE, tuple(reversed(events))) if events else None for events in found]


def _start(one: DateRange) -> Fraction:
    return one.start_date


def _event(one: DateRange, length: Fraction | None, begin: Fraction) -> PeriodEvent | None:
    """Return the event of what a range has from a period's beginning on; None where that is nothing."""
    gone = max(begin - one.start_date, Fraction(0))
    if length is not None and gone and gone >= length:
        return None
    time = round(max(one.start_date - begin, Fraction(0)) * TIMESCALE)
    rest = None if length is None else round((length - gone) * TIMESCALE)
    return PeriodEvent(zlib.crc32(one.id.encode()), time, rest, _text(tuple(one.values.items())))


@functools.lru_cache(maxsize=TEXTS_KEPT)
def _text(values: tuple[tuple[str, str | float], ...]) -> str:
    # Not every player undoes the escapes of XML in a message, and it lacks some characters; JSON has its own.
    return json.dumps(dict(values)).translate(_ESCAPES)

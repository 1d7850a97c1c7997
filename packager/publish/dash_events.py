"""The date ranges of a channel as events of its DASH manifests (ISO/IEC 23009-1 §5.10.2). Pure."""

from __future__ import annotations

import base64
import functools
import json
import zlib
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

from media.dash.mpd import EventStream, PeriodEvent
from media.hls.date_range import SPLICE_IN, DateRange, is_splice

SCHEME = "urn:headwater:daterange:2026"
"""The scheme of events whose message is a JSON object with the attributes of an EXT-X-DATERANGE."""

SPLICE_SCHEME = "urn:scte:scte35:2013:bin"
"""The scheme of events whose message is a splice_info_section of SCTE 35 (SCTE 214-1 §6.7.4)."""

TIMESCALE = 1000

MOST_EVENTS = 500
"""Most events of a manifest, a range counted in each period that it touches: some milliseconds' worth."""

_ESCAPES = {ord(one): f"\\u{ord(one):04x}" for one in "&<>"}

TEXTS_KEPT = 1024
"""Cached messages."""


class _DatedEvent(NamedTuple):
    """An event of a date range: the range itself, or a section of SCTE 35 that it carries.

    Attributes:
        length: seconds, or None where that isn't known.
        section: of SCTE 35 in hexadecimal; empty for the range itself.
    """

    range: DateRange
    start: Fraction
    length: Fraction | None
    section: str = ""


def event_streams(
    ranges: Sequence[DateRange], begins: Sequence[Fraction], end: Fraction | None
) -> list[tuple[EventStream, ...]]:
    """Return the events of each period of a manifest: ranges that began before and last into it as well.

    Args:
        begins: dates of the periods' beginnings in seconds since the epoch, rising.
        end: date of the end of the last one; None: it goes on.

    Returns:
        For each period its events, by their schemes. Where there are too many, old ranges have none.
    """
    found: list[defaultdict[str, list[PeriodEvent]]] = [defaultdict(list) for _ in begins]
    left = MOST_EVENTS
    for one in sorted((each for tag in ranges for each in _messages(tag)), key=_start, reverse=True):
        if end is not None and one.start >= end:
            continue
        first = max(bisect_right(begins, one.start) - 1, 0)
        # The newest periods first: that is where players are.
        behind = len(begins) if one.length is None else bisect_left(begins, one.start + one.length, lo=first)
        for index in islice(reversed(range(first, max(behind, first + 1))), left):
            if (event := _event(one, begins[index])) is not None:
                found[index][SPLICE_SCHEME if one.section else SCHEME].append(event)
                left -= 1
    return [
        tuple(
            EventStream(scheme, TIMESCALE, tuple(reversed(events))) for scheme, events in sorted(one.items())
        )
        for one in found
    ]


def _messages(tag: DateRange) -> Iterator[_DatedEvent]:
    length = tag.planned_duration if tag.duration is None else tag.duration
    yield _DatedEvent(tag, tag.start_date, length)
    for name, section in tag.client_attributes.items():
        if is_splice(name) and name == SPLICE_IN:
            yield _DatedEvent(tag, tag.start_date + (length or 0), Fraction(0), str(section))
        elif is_splice(name):
            yield _DatedEvent(tag, tag.start_date, length, str(section))


def _start(one: _DatedEvent) -> Fraction:
    return one.start


def _event(one: _DatedEvent, begin: Fraction) -> PeriodEvent | None:
    """Return the event of what a message has from a period's beginning on; None where that is nothing."""
    gone, length = max(begin - one.start, Fraction(0)), one.length
    if length is not None and gone and gone >= length:
        return None
    time = round(max(one.start - begin, Fraction(0)) * TIMESCALE)
    rest = None if length is None else round((length - gone) * TIMESCALE)
    if not one.section:
        text = _text(tuple(one.range.values.items()))
        return PeriodEvent(zlib.crc32(one.range.id.encode()), time, rest, text)
    text = base64.b64encode(bytes.fromhex(one.section[2:])).decode()
    return PeriodEvent(zlib.crc32(text.encode()), time, rest, text, is_base64=True)


@functools.lru_cache(maxsize=TEXTS_KEPT)
def _text(values: tuple[tuple[str, str | float], ...]) -> str:
    # Not every player undoes the escapes of XML in a message, and it lacks some characters; JSON has its own.
    return json.dumps(dict(values)).translate(_ESCAPES)

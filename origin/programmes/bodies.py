"""Reads programmes and spans as requests have them: in JSON or XMLTV, with dates as in addresses."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from media.errors import MediaError
from media.xmltv.reader import XmltvLimits, in_one_line, read_xmltv
from origin.live.requests.moments import MomentError, read_moment
from origin.responses.refusal import RefusalError
from packager.past.programmes import (
    ID,
    LATEST,
    MOST_CATEGORIES,
    MOST_DESCRIPTION,
    MOST_PROGRAMMES,
    MOST_TITLE,
    Programme,
)
from packager.reader_guard import ReaderGuard

T = TypeVar("T")

Time = str | float | int
_Title = Annotated[str, Meta(max_length=4096)]


class ProgrammeBody(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A programme in the JSON of a request."""

    id: str
    start: Time
    """A date (RFC 3339), seconds since 1970, or a time before now."""
    end: Time
    title: _Title = ""
    subtitle: _Title = ""
    description: _Title = ""
    categories: Annotated[tuple[_Title, ...], Meta(max_length=MOST_CATEGORIES)] = ()


class SpanBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A span that is to be kept."""

    start: Time
    end: Time
    title: _Title = ""


_PROGRAMMES = msgspec.json.Decoder(list[ProgrammeBody])
_SPAN = msgspec.json.Decoder(SpanBody)


def read_json(data: bytes) -> list[Programme]:
    """Read a list of programmes; of thousands that takes a while.

    Raises:
        RefusalError: 400: it isn't one.
    """
    now = Fraction(time.time())
    bodies = _decoded(_PROGRAMMES, data)
    if len(bodies) > MOST_PROGRAMMES:
        raise RefusalError(400, f"more than {MOST_PROGRAMMES} programmes")
    found: dict[str, Programme] = {}
    for index, one in enumerate(bodies):
        place = f"[{index}]"
        if not ID.fullmatch(one.id):
            raise RefusalError(400, f"{place}.id: 1 to 100 letters, digits and any of . _ ~ : + -")
        if one.id in found:
            raise RefusalError(400, f"{place}.id: another programme has it")
        start, end = _moment(one.start, f"{place}.start", now), _moment(one.end, f"{place}.end", now)
        programme = Programme(
            one.id,
            start,
            end,
            in_one_line(one.title, MOST_TITLE),
            in_one_line(one.subtitle, MOST_TITLE),
            in_one_line(one.description, MOST_DESCRIPTION),
            tuple(in_one_line(category, MOST_TITLE) for category in one.categories),
        )
        if programme.fault:
            raise RefusalError(400, f"{place}.{programme.fault}")
        found[one.id] = programme
    return list(found.values())


def read_guide(data: bytes, channel: str, limits: XmltvLimits) -> list[Programme]:
    """Read a channel's programmes from XMLTV; of thousands that takes a while.

    A guide may have several channels, one of which is then to have the name.

    Raises:
        RefusalError: 400: it isn't a guide, or which channel is meant isn't known.
    """
    try:
        with ReaderGuard(channel):
            programmes = read_xmltv(data, limits)
    except MediaError as error:
        raise RefusalError(400, str(error)) from error
    channels = Counter(one.channel for one in programmes)
    if len(channels) > 1:
        if channel not in channels:
            some = ", ".join(repr(name[:64]) for name in sorted(channels)[:20])
            raise RefusalError(400, f"?channel=: one of the guide's channels is needed: {some}")
        programmes = [one for one in programmes if one.channel == channel]
    if len(programmes) > MOST_PROGRAMMES:
        raise RefusalError(400, f"more than {MOST_PROGRAMMES} programmes")
    found: dict[str, Programme] = {}
    for one in programmes:
        date = _id_of(one.start)
        name, count = date, 1
        while name in found:
            count += 1
            name = f"{date}-{count}"
        span = one.start * 1000, (one.stop or 0) * 1000
        programme = Programme(name, *span, one.title, one.subtitle, one.description, one.categories)
        if not 0 <= one.start <= LATEST // 1000 or programme.end_ms > LATEST or programme.fault:
            raise RefusalError(400, f"the programme at {date}: {programme.fault or 'no possible date'}")
        found[name] = programme
    return list(found.values())


def _id_of(start: int) -> str:
    """Name a programme of a guide, which has no names of its own, by its beginning."""
    try:
        return datetime.fromtimestamp(start, UTC).strftime("%Y%m%dT%H%M%SZ")
    except (ValueError, OverflowError, OSError) as error:
        raise RefusalError(400, "a programme has no possible date") from error


def read_span(data: bytes) -> tuple[int, int, str]:
    """Read a span in milliseconds since the epoch, and its title.

    Raises:
        RefusalError: 400: it isn't one.
    """
    now = Fraction(time.time())
    body = _decoded(_SPAN, data)
    start, end = _moment(body.start, "start", now), _moment(body.end, "end", now)
    title = in_one_line(body.title, MOST_TITLE)
    if fault := Programme("span", start, end, title).fault:
        raise RefusalError(400, fault)
    return start, end, title


def _moment(value: Time, place: str, now: Fraction) -> int:
    """Read a time in milliseconds since the epoch."""
    try:
        if isinstance(value, str):
            seconds = read_moment(value).at(now)
        else:
            seconds = read_moment(f"{value:.3f}" if isinstance(value, float) else str(value)).at(now)
    except MomentError as error:
        raise RefusalError(400, f"{place}: {error}") from None
    milliseconds = round(seconds * 1000)
    if not 0 <= milliseconds <= LATEST:
        raise RefusalError(400, f"{place}: no possible date")
    return milliseconds


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(400, str(error).replace("\n", " ")) from error

"""The bounds of spans of a channel's past, as requests name them and as redirections lead to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple
from urllib.parse import urlencode

from origin.answers.heads import PlainHead
from origin.answers.refusals import refusal
from origin.answers.reply import Reply
from origin.answers.request import Request
from origin.live.requests.addresses import LiveAddress, Span
from packager.past.past_window import PastWindow
from packager.publish.live_stream import LiveStream
from packager.threads import ThreadLimits, Threads
from packager.window.rendition import variant_renditions

IMMUTABLE_SECONDS = 365 * 86_400
"""For how long caches may keep what doesn't change any more."""

SETTLED_SECONDS = 60
"""A span that ended so long ago doesn't change: what was late has come."""

AVAILABLE_FROM = b"x-available-from"
"""Field with the oldest time that is kept, in seconds since the epoch, where a span began before."""

AT_ONCE, MOST_WAITING = 2, 64
"""Most spans that are written at once, one for each network, and most requests that wait for their turn."""

REST = 1.0
"""For how long a network's next span waits, as a share of the time that the last one took."""

WRITERS = Threads(ThreadLimits(threads=AT_ONCE, client_threads=1, waiting=MOST_WAITING, rest=REST), "spans")
"""The threads in which texts of spans are written: anybody may vary the bounds at will."""

LATE_SEGMENTS = 4
"""For how many segments the next one may be late: the newest one is now."""

NOTHING_KEPT = "nothing of this time is kept"
NOT_YET = "this time is still to come"


class Bounds(NamedTuple):
    """The bounds of a span, in seconds since the epoch; an end of None is none."""

    start: Fraction
    end: Fraction | None


def read_bounds(
    request: Request, span: Span, stream: LiveStream, most_hours: float, limit: str
) -> Bounds | Reply:
    """Return the bounds of a span, or the refusal of a span that can't be.

    Args:
        most_hours: longest span.
        limit: the configuration key of that.
    """
    now, target_duration = Fraction(stream.wall_clock()), stream.target_duration
    start = Fraction(0) if span.start is None else span.start.at(now)
    end = None if span.end is None else span.end.at(now)
    if end is not None and end <= start:
        return refusal(request, 400, target_duration, "end: a time behind start")
    if span.start is not None and (now if end is None else end) - start > most_hours * 3600:
        reason = f"start and end: at most {most_hours:g} hours between them ({limit})"
        return refusal(request, 400, target_duration, reason)
    return _of_segments(span, Bounds(start, end), stream)


def _of_segments(span: Span, bounds: Bounds, stream: LiveStream) -> Bounds:
    """Return the bounds of a span, of which those that count from now are not behind the newest segment.

    So all who ask for a span up to now, or from now on, get the same one until another segment has come.
    """
    windows = [one.window for one in stream.renditions.values()]
    if not all(one.listed for one in windows):
        return bounds
    leading = variant_renditions(stream.renditions.values())[0].window
    # The last segment of another rendition may come a moment later.
    newest = leading.at(min(one.listed[-1].number for one in windows))
    if newest is None:
        return bounds
    start, end = bounds
    edge = newest.program_date_time + newest.duration
    if span.start is not None and span.start.is_relative and start - edge < LATE_SEGMENTS * newest.duration:
        start = min(start, newest.program_date_time)
    if end is not None and span.end is not None and span.end.is_relative and edge > start:
        end = min(end, edge)
    return Bounds(start, end)


def is_relative(span: Span) -> bool:
    """Return whether a bound of the span counts from now."""
    return any(moment is not None and moment.is_relative for moment in span)


def dated(span: Span, bounds: Bounds, past: PastWindow) -> dict[str, str]:
    """Write the bounds of a span as dates, for its query.

    Bounds that count from now become those of segments, so that caches keep one object for all who ask within
    the same segment. So does a beginning that the channel no longer has.
    """
    start, end = bounds.start, bounds.end
    if span.start is None or span.start.is_relative or past.is_cut:
        start = past.first.program_date_time
    if end is not None and span.end is not None and span.end.is_relative:
        is_cut = past.last.number > past.first.number and end < past.behind
        end = past.last.program_date_time if is_cut else end
    found = {"start": written(start, up=True)}
    return found if end is None else {**found, "end": written(end)}


def redirection(
    address: LiveAddress, query: Mapping[str, str], max_age: int, past: PastWindow | None = None
) -> Reply:
    """Lead to another span at the same address.

    Args:
        query: the bounds of the span; what the address carries on follows.
        max_age: seconds for which caches may keep the redirection.
        past: segments of the span that the channel has.
    """
    # RFC 9110 §15.4.3: relative to the address that was asked for, which may have a prefix.
    location = address.name + query_of(address, query)
    fields = (
        (b"location", location.encode("ascii")),
        (b"cache-control", b"public, max-age=%d" % max_age),
        (b"content-length", b"0"),
        *available_from(past),
    )
    return Reply(PlainHead(302, fields))


def available_from(past: PastWindow | None) -> tuple[tuple[bytes, bytes], ...]:
    """Return the field that says from when on the channel has media, for a span that began before."""
    if past is None or not past.is_cut:
        return ()
    return ((AVAILABLE_FROM, written(past.oldest, up=True).encode("ascii")),)


def nothing_of(request: Request, bounds: Bounds, stream: LiveStream) -> Reply:
    """Refuse a span of which the channel has nothing."""
    reason = NOT_YET if bounds.start > stream.wall_clock() else NOTHING_KEPT
    return refusal(request, 404, stream.target_duration, reason)


def is_refused(address: LiveAddress, span: Span, past: PastWindow) -> bool:
    """Return whether the rest of a span isn't wanted whose beginning the channel no longer has."""
    return address.is_strict and span.start is not None and past.is_cut


def kept_from(past: PastWindow) -> str:
    """Return the line that says from when on the channel has media."""
    return f"the channel has what came from {written(past.oldest, up=True)} on"


def query_of(address: LiveAddress, query: Mapping[str, str]) -> str:
    """Return a query with these parameters, and what the address carries on."""
    if address.is_strict:
        query = {**query, "strict": "1"}
    return f"?{urlencode(query)}{address.directives.suffix.replace('?', '&', 1)}"


def is_settled(stream: LiveStream, past: PastWindow, end: Fraction | None) -> bool:
    """Return whether a span doesn't change any more."""
    is_old = end is not None and stream.wall_clock() - end >= SETTLED_SECONDS
    return past.is_whole and is_old and not past.is_cut and not _waits(stream, past.last.number)


def _waits(stream: LiveStream, number: int) -> bool:
    """Return whether segments of a number may still become gaps, as they aren't in the channel's DVR yet."""
    entry = stream.begun_with
    if entry is None or all(one.folder is None for one in entry.renditions):
        return False
    found = (one.window.at(number) for one in stream.renditions.values())
    return any(one is not None and not one.gap and one.stored is None for one in found)


def written(date: Fraction, *, up: bool = False) -> str:
    """Write a date in seconds since the epoch, in whole milliseconds, the later or the earlier ones."""
    whole, rest = divmod(math.ceil(date * 1000) if up else math.floor(date * 1000), 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)

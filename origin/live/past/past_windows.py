"""Decides requests for a span of a channel's past: `?start=TIME&end=TIME` of playlists and manifests."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace as replaced
from fractions import Fraction
from typing import NamedTuple

from msgspec.structs import replace

from origin.answers.refusals import refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.request import Request
from origin.answers.single_flight import SingleFlight
from origin.http.client_limits import network_of
from origin.live.past.listed_outlines import ListedOutlines
from origin.live.past.past_requests import LONGEST_SEGMENT, BoundedSpan, PastRequest, is_long_over
from origin.live.past.span_writer import SpanWriter
from origin.live.past.spans import AT_ONCE, MOST_WAITING, REST, is_relative, read_bounds
from origin.live.past.start_over import StartOver, grows
from origin.live.requests.addresses import MANIFEST, MULTIVARIANT, LiveAddress, Span
from origin.live.requests.dvr_segments import OldestDates, StoredSegments, past_of, ranges_of, unreadable
from origin.live.requests.playlist_requests import Reload
from origin.live.requests.waits import Outcome, wait_for_past
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.past.earlier_segments import EarlierSegments
from packager.past.past_window import PastWindow, past_window
from packager.past.programmes import LONGEST_SECONDS
from packager.past.stored_ranges import StoredRanges
from packager.publish.live_stream import LiveStream
from packager.window.rendition import Rendition


class _ReadSpan(NamedTuple):
    """The segments and the date ranges of a span."""

    past: PastWindow | None
    ranges: StoredRanges


class PastWindowReplies:
    """Decides requests for spans of the past.

    Args:
        most_hours: longest span.
        stored: opens segments that have left memory.
        listed: makes spans of segments that are listed.
    """

    def __init__(self, most_hours: float, stored: StoredSegments, listed: ListedOutlines) -> None:
        self._most_hours = most_hours
        self._stored = stored
        # Anybody may vary the bounds at will, so networks take turns.
        self._reading = FairSemaphore(AT_ONCE, 1, MOST_WAITING, REST)
        self._oldest = OldestDates(stored)
        self._writer = SpanWriter(stored, listed)
        self._start_over = StartOver(stored, self._reading, self._oldest, self._writer)
        self._read = SingleFlight[Hashable, _ReadSpan]()

    def decide(self, request: Request, address: LiveAddress, span: Span, stream: LiveStream) -> Outcome:
        """Decide a request for a playlist or a manifest of a span, once the channel has segments."""
        return wait_for_past(request, stream, lambda: self._decide(request, address, span, stream))

    def _decide(self, request: Request, address: LiveAddress, span: Span, stream: LiveStream) -> Outcome:
        # The administrator decides how long a programme is.
        most_hours = LONGEST_SECONDS / 3600 if address.programme else self._most_hours
        bounds = read_bounds(request, span, stream, most_hours, "limits.window_hours")
        if isinstance(bounds, Reply):
            return bounds
        asked = BoundedSpan(request, address, span, stream, bounds)
        rendition, name = stream.renditions.get(address.rendition), asked.growing_name
        if name and (known := self._start_over.find(asked, name)) is not None:
            return self._waits(asked, rendition) or self._start_over.go_on(asked, known)
        past = past_window(stream.renditions, *bounds)
        is_growing = grows(stream, bounds.end) if past is None else not past.is_whole
        past_segments = past_of(stream, stream.renditions, self._stored)
        needs_segments = address.name == MANIFEST and not is_long_over(bounds.end, stream)
        earlier = EarlierSegments(
            stream.renditions,
            past_segments,
            address.rendition,
            outlined=not needs_segments,
            client=network_of(request.client),
        )
        has_earlier = span.start is not None and earlier.has(bounds.start)
        is_redirected = span.start is None or is_relative(span) or (past is not None and past.is_cut)
        is_awaited = past is not None and is_growing and (has_earlier or not is_redirected)
        if is_awaited and (waits := self._waits(asked, rendition)) is not None:
            return waits
        if not has_earlier:
            return self._decide_listed(asked, past)
        if is_growing and name and not earlier.is_ahead(bounds.start):
            return PendingTask(self._start_over.from_past(asked, name))
        return PendingTask(self._with_earlier(asked, earlier, past if address.name == MANIFEST else None))

    def _decide_listed(self, asked: BoundedSpan, past: PastWindow | None) -> Outcome:
        """Decide a request for a span that is listed."""
        outcome = asked.answer(past)
        if isinstance(outcome, Reply):
            return outcome
        rendition = outcome.stream.renditions.get(outcome.address.rendition)
        if rendition is not None and not outcome.past.is_whole:
            return self._start_over.from_list(asked, outcome, rendition)
        is_settled = outcome.past.is_whole and outcome.address.name != MULTIVARIANT
        return PendingTask(self._with_ranges(outcome) if is_settled else self._writer.reply(outcome))

    def _waits(self, asked: BoundedSpan, rendition: Rendition | None) -> Outcome | None:
        """Return the wait for what a playlist is to have (RFC 8216bis §6.2.5.2); None where it is there."""
        request, address, span, stream, _ = asked
        if rendition is None:
            return None
        reload = Reload(request, address, stream, rendition)
        if reload.has_come():
            return None
        return reload.wait(
            lambda holds: self._decide(request, address, span, stream) if holds else reload.refused()
        )

    async def _with_ranges(self, asked: PastRequest) -> Reply:
        """Reply with a listed span that is over, with date ranges that the live playlist may have lost."""
        begin, end = asked.past.first.program_date_time, asked.past.behind
        try:
            network = network_of(asked.request.client)
            stored = await ranges_of(asked.stream, begin, end, self._stored, network)
        except OSError as error:
            return unreadable(asked.request, asked.stream.name, error)
        ranges = stored.lines_within(begin, end, asked.date_ranges)
        return await self._writer.reply(replace(asked, date_ranges=ranges))

    async def _with_earlier(
        self, asked: BoundedSpan, earlier: EarlierSegments, recent: PastWindow | None
    ) -> Reply:
        """Reply with a span that begins before the playlists do.

        Args:
            recent: the listed segments of the span, where a manifest of the span may be known.
        """
        past, ranges = None if recent is None else await self._known(asked, recent), StoredRanges()
        if past is None:
            try:
                past, ranges = await self._read_earlier(asked, earlier)
            except TooManyWaitingError:
                return refusal(asked.request, 503, 0, retry_after=asked.stream.target_duration)
            except OSError as error:
                return unreadable(asked.request, asked.stream.name, error)
        outcome = asked.answer(past, ranges)
        if isinstance(outcome, PastRequest):
            return await self._writer.reply(outcome)
        return outcome

    async def _known(self, asked: BoundedSpan, recent: PastWindow) -> PastWindow | None:
        """Return the first and the listed segments of a span whose manifest is known, and still whole."""
        oldest, spans = await self._oldest.of(asked.stream), asked.stream.presentation.spans
        found = spans.find(asked.bounds.start)
        if found is None:
            return None
        if oldest is None or oldest > float(found.first.program_date_time):
            spans.forget(asked.bounds.start)
            return None
        segments = {name: [found.first, *own] for name, own in recent.segments.items()}
        past = replaced(recent, segments=segments, oldest=recent.start)
        request = PastRequest(asked.request, asked.address, asked.stream, past, asked.bounds.end, ())
        return past if request.is_dynamic else None

    async def _read_earlier(self, asked: BoundedSpan, earlier: EarlierSegments) -> _ReadSpan:
        async def read() -> _ReadSpan:
            network = network_of(asked.request.client)
            async with self._reading.held(network):
                begin, end = asked.bounds.start - LONGEST_SEGMENT, asked.bounds.end or _now(asked.stream)
                ranges = await ranges_of(asked.stream, begin, end, self._stored, network)
                # In the step in which the rest is decided.
                past = await earlier.window(*asked.bounds, may_lack=asked.address.name == MANIFEST)
            return _ReadSpan(past, ranges)

        if asked.address.name != MANIFEST:
            return await read()
        # All who ask for the same span while it is read make their manifests of it.
        return await self._read.do((asked.stream.presentation, asked.bounds), read)


def _now(stream: LiveStream) -> Fraction:
    return Fraction(stream.wall_clock())

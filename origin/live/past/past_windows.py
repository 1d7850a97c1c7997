"""Decides requests for a span of a channel's past: `?start=TIME&end=TIME` of playlists and manifests."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace as replaced
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import NamedTuple
from weakref import WeakKeyDictionary

from msgspec import Struct
from msgspec.structs import replace

from media.dash import mpd
from media.hls.date_range import read_date_range
from media.hls.media_playlist import MEDIA_TYPE
from media.hls.precompressed_text import Pieces
from origin.answers import gzip_cache
from origin.answers.refusals import ABSENT_LIVE_SECONDS, refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.representation_replies import text_reply
from origin.answers.request import Request
from origin.answers.single_flight import SingleFlight
from origin.http.client_limits import network_of
from origin.live.past.spans import (
    AT_ONCE,
    AVAILABLE_FROM,
    IMMUTABLE_SECONDS,
    MOST_WAITING,
    NOTHING_KEPT,
    REST,
    Bounds,
    dated,
    is_refused,
    is_relative,
    is_settled,
    kept_from,
    query_of,
    read_bounds,
    redirection,
    written,
)
from origin.live.requests.addresses import I_FRAMES, MANIFEST, MULTIVARIANT, PLAYLIST, LiveAddress, Span
from origin.live.requests.dvr_segments import OldestDates, StoredSegments, past_of, ranges_of, unreadable
from origin.live.requests.playlist_requests import IRREGULAR, Reload
from origin.live.requests.waits import Outcome, not_on_air, wait_until_ready
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.past.date_range_file import StoredRanges
from packager.past.earlier_segments import EarlierSegments
from packager.past.growing_span import (
    MOST_FOLLOWED,
    Edge,
    GrowingSpan,
    GrowingSpans,
    SpanRanges,
    settled_segments,
)
from packager.past.i_frames import i_frame_playlist, i_frame_variants
from packager.past.manifest import live_texts, manifest
from packager.past.outlined_span import OutlinedSpan
from packager.past.outlines import BLOCK_SEGMENTS, OUTLINE_BYTES, Outline
from packager.past.past_window import PastWindow, past_window
from packager.past.periods import recorded_periods
from packager.past.programmes import LONGEST_SECONDS
from packager.past.span_playlists import span_playlist, span_totals
from packager.publish.dash import SETTLED_UPDATES
from packager.publish.date_ranges import MOST_DISTANT_SECONDS, merged
from packager.publish.hls import Presentation, RenderingError
from packager.publish.hls_multivariant import multivariant_playlist
from packager.publish.live_stream import LiveStream
from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition, extension_of, variant_renditions
from packager.window.window import Window

MOST_LATE_SEGMENTS = 4
"""Target durations behind the beginning of a span for which its first segment is awaited."""

SEGMENT_BYTES = 256
"""Memory of a listed segment whose media are elsewhere, about."""

OUTLINES_KEPT = CacheLimits(items=1 << 16, nbytes=64 << 20)
"""The outlines of listed segments that stay in memory; a day of four renditions has 350."""

LONGEST_SEGMENT = 60
"""Seconds before a span from which on date ranges are read: its first segment begins before."""

NOT_OVER = "a span has an I-frame playlist once it is over"


class BoundedSpan(NamedTuple):
    """A request for a span, and the dates of its bounds."""

    request: Request
    address: LiveAddress
    span: Span
    stream: LiveStream
    bounds: Bounds


class PastRequest(Struct, frozen=True, gc=False):
    """A request for a span of the past, of which a channel has something.

    Attributes:
        end: of the span, in seconds since the epoch; None: it goes on.
        date_ranges: EXT-X-DATERANGE tags of the span.
    """

    request: Request
    address: LiveAddress
    stream: LiveStream
    past: PastWindow
    end: Fraction | None
    date_ranges: Sequence[str]

    @property
    def key(self) -> Hashable:
        """All that the text depends on: those who ask for the same one get it from one of them."""
        past, suffix = self.past, self.address.directives.suffix
        asked = (self.address.name, self.address.rendition, suffix, self.query, tuple(self.date_ranges))
        coded = self.request.takes_gzip
        return self.stream, asked, coded, (past.first.number, past.last.number, past.is_whole)

    def text(self) -> Pieces:
        """Write the playlist or the manifest, which is empty if there is none; of a day it takes long."""
        if self.address.name == MULTIVARIANT:
            is_over, target_duration = self.past.is_whole, self.stream.target_duration
            # A span that is over has the same text on all nodes, and behind a restart.
            made = multivariant_playlist(
                list(self.stream.renditions.values()),
                self.stream.cadence,
                suffix=self.query,
                span=span_totals(self.past.columns, target_duration) if is_over else None,
                pictures=i_frame_variants(self.past.columns, self.query) if is_over else (),
            )
            return (made.render().encode(),)
        if self.address.name == MANIFEST:
            return self._manifest()
        rendition = self.stream.renditions.get(self.address.rendition)
        if rendition is None:
            return ()
        suffix = self.address.directives.suffix
        if self.address.name == I_FRAMES:
            listed = i_frame_playlist(self.past.segments, rendition.name, suffix)
            return () if listed is None else listed.pieces()
        target_duration, start = self.stream.target_duration, self.past.start
        return span_playlist(
            self.past.columns, rendition.name, start, target_duration, self.date_ranges, suffix
        ).pieces()

    def reply(self, text: Pieces) -> Reply:
        """Return the reply with what was written."""
        is_manifest = self.address.name == MANIFEST
        if not text:
            reason = NOTHING_KEPT if is_manifest else ""
            return refusal(self.request, 404, self.stream.target_duration, reason)
        return self._text(text, mpd.MEDIA_TYPE if is_manifest else MEDIA_TYPE)

    def growing_reply(self, rendition: Rendition, span: GrowingSpan) -> Reply:
        """Return the reply with a playlist that grows: the same text for all who ask for it in one state."""
        presentation, wanted, name = self.stream.presentation, self.address.directives, rendition.name

        def render() -> Pieces:
            live = presentation.edge(name, wanted.suffix, self.query)
            edge, window = Edge(live, presentation.skip_boundary(name)), rendition.window
            made = span.playlist(self.past, self.end, window, edge, skip=wanted.skip, suffix=wanted.suffix)
            begin, end = span.first.program_date_time, self.past.behind
            ranges = span.ranges.lines(begin, end, presentation.date_ranges)
            return replaced(made, date_ranges=ranges).pieces()

        key = f"{self.past.start} {self.end} {self.query}"
        try:
            text = presentation.span_pieces(name, key, render, skip=wanted.skip)
        except RenderingError:
            return refusal(self.request, 500, 0)
        return self._text(text, MEDIA_TYPE)

    @property
    def query(self) -> str:
        """The query of the addresses of all playlists of the span."""
        if self.address.programme:
            # Players go on with the programme, even if its end is changed.
            bounds = {"programme": self.address.programme}
        else:
            bounds = {"start": written(self.past.start)}
            if self.end is not None:
                bounds["end"] = written(self.end)
        return query_of(self.address, bounds)

    def _manifest(self) -> Pieces:
        stream = self.stream
        coded = [name for name, one in stream.renditions.items() if one.language is None]
        ranges = merged(map(read_date_range, self.date_ranges))
        periods = recorded_periods(self.past.columns, coded)
        languages = {name: one.language for name, one in stream.renditions.items() if one.language}
        made = manifest(periods, stream.cadence.frame_rate, languages, ranges, live_texts)
        return () if made is None else (made.render(),)

    @property
    def is_dynamic(self) -> bool:
        """Whether its manifest grows, or did a moment ago: players learn of the end from the next one."""
        if not self.past.is_whole:
            return True
        if not self.address.is_followed or self.end is None or self.past.is_cut:
            return False
        return self.end <= self.stream.wall_clock() and not _is_settled(self.end, self.stream)

    def dynamic_manifest(self) -> Reply | None:
        """Return the manifest of a span that grows; None where its periods have to be found first."""
        stream, past, presentation = self.stream, self.past, self.stream.presentation
        last, suffix = past.last.number if past.is_whole else None, self.address.directives.suffix
        # At the first address, players that come after the end get a film.
        location = "" if self.address.is_followed else f"{MANIFEST}{self.query}&follow=1"
        try:
            made = presentation.span_manifest(past.start, stream.wall_clock(), last, suffix, location)
        except RenderingError:
            return refusal(self.request, 500, 0)
        if made is None:
            return None
        if not made:
            return refusal(self.request, 404, stream.target_duration, NOTHING_KEPT)
        return self._text(made, mpd.MEDIA_TYPE)

    def _text(self, text: Pieces, media_type: str) -> Reply:
        """Return the reply with a text; caches may keep one that doesn't change for ever."""
        request, stream, past = self.request, self.stream, self.past
        fields = ((AVAILABLE_FROM, written(past.oldest, up=True).encode("ascii")),) if past.is_cut else ()
        if is_settled(stream, past, self.end) and not self.address.programme:
            max_age, tag = IMMUTABLE_SECONDS, gzip_cache.tag(text)
        else:
            # RFC 8216bis appendix B: what was waited for is the same for six target durations.
            is_awaited = not past.is_whole and self.address.directives.number is not None
            max_age = 6 * stream.target_duration if is_awaited else max(stream.target_duration // 2, 1)
            tag = None
        coded = request.takes_gzip
        return text_reply(
            request,
            text,
            media_type,
            max_age,
            coded=coded,
            immutable_tag=tag,
            fields=fields,
        )


class _ListedOutline(NamedTuple):
    """An outline, and the segments of which it was made."""

    outline: Outline
    segments: Sequence[LiveSegment]


class ListedOutlines:
    """Makes spans of segments that are listed; other threads may call it."""

    def __init__(self) -> None:
        self._kept = SingleFlightCache[tuple[int, int, int], _ListedOutline](
            OUTLINES_KEPT, lambda _: OUTLINE_BYTES + BLOCK_SEGMENTS * SEGMENT_BYTES
        )

    def span(self, past: PastWindow) -> OutlinedSpan:
        """Return the columns of a span of the playlists."""
        outlines = {
            name: [self._outline(one, extension_of(name)) for one in _by_block(own)]
            for name, own in past.blocks.items()
        }
        return OutlinedSpan(range(past.first.number, past.last.number + 1), outlines)

    def _outline(self, segments: Sequence[LiveSegment], extension: str) -> Outline:
        # The segments of an outline are kept with it, so that no others have their identities.
        key = id(segments[0]), id(segments[-1]), len(segments)
        known = self._kept.find(key)
        if known is not None and known.segments == segments:
            return known.outline
        made = Outline.of(segments, extension)
        if all(one.gap or (one.stored is not None and not one.data) for one in segments):
            self._kept.get(key, lambda: _ListedOutline(made, segments))
        return made


def _by_block(segments: Sequence[LiveSegment]) -> Iterator[Sequence[LiveSegment]]:
    """Yield the segments of each block, of which none is missing in between."""
    begin = 0
    while begin < len(segments):
        behind = begin + BLOCK_SEGMENTS - segments[begin].number % BLOCK_SEGMENTS
        yield segments[begin:behind]
        begin = behind


class _ReadSpan(NamedTuple):
    """The segments and the date ranges of a span."""

    past: PastWindow | None
    ranges: StoredRanges


class PastWindowReplies:
    """Decides requests for spans of the past.

    Args:
        most_hours: longest span.
        stored: opens segments that have left memory.
    """

    def __init__(self, most_hours: float, stored: StoredSegments) -> None:
        self._most_hours = most_hours
        self._stored = stored
        # Anybody may vary the bounds at will, so networks take turns.
        self._turns = FairSemaphore(AT_ONCE, 1, MOST_WAITING, REST)
        self._reading = FairSemaphore(AT_ONCE, 1, MOST_WAITING, REST)
        self._listed = ListedOutlines()
        self._texts = SingleFlight[Hashable, Pieces]()
        self._read = SingleFlight[Hashable, _ReadSpan]()
        self._found = SingleFlight[Hashable, None]()
        self._growing = WeakKeyDictionary[Presentation, GrowingSpans]()
        self._begun = SingleFlight[Hashable, GrowingSpan | None]()
        self._ranges_read = SingleFlight[Hashable, SpanRanges]()
        self._oldest = OldestDates(stored)

    def decide(self, request: Request, address: LiveAddress, span: Span, stream: LiveStream) -> Outcome:
        """Decide a request for a playlist or a manifest of a span, once the channel has segments."""

        def when_ready(is_ready: bool) -> Outcome:
            if not is_ready:
                return not_on_air(request, stream)
            return self._decide(request, address, span, stream)

        return wait_until_ready(stream, when_ready)

    async def _in_turn(self, asked: PastRequest) -> Reply:
        """Reply with a playlist or a manifest, which is written in a thread if the channel's state allows."""
        try:
            if asked.address.name == MANIFEST and asked.is_dynamic:
                return await self._dynamic(asked)
            text = await self._texts.do(asked.key, partial(self._write, asked))
        except TooManyWaitingError:
            return refusal(asked.request, 503, 0, retry_after=asked.stream.target_duration)
        return asked.reply(text)

    async def _dynamic(self, asked: PastRequest) -> Reply:
        """Reply with the manifest of a span that grows, whose periods are found once for all who watch it."""
        stream, start = asked.stream, asked.past.start
        if not stream.cadence.regular:
            return refusal(asked.request, 404, ABSENT_LIVE_SECONDS, IRREGULAR)
        presentation = stream.presentation

        async def find() -> None:
            async with self._turns.held(network_of(asked.request.client)):
                segments = _with_listed(asked.past.segments, stream.renditions)
                begin, end = asked.past.first.program_date_time, Fraction(stream.wall_clock())
                ranges = (await ranges_of(stream, begin, end, self._stored)).tags_within(begin, end)
                presentation.spans.add(start, await asyncio.to_thread(presentation.span, segments, ranges))

        if (reply := asked.dynamic_manifest()) is None:
            try:
                await self._found.do((presentation, start), find)
            except OSError as error:
                return unreadable(asked.request, stream.name, error)
            reply = asked.dynamic_manifest()
        return reply or refusal(asked.request, 503, 0, retry_after=stream.target_duration)

    async def _write(self, asked: PastRequest) -> Pieces:
        def write() -> Pieces:
            text = self._outlined(asked).text()
            if text:
                # For all who wait, as they are kept.
                gzip_cache.tag(text)
            if text and asked.request.takes_gzip:
                gzip_cache.gzip(text)
            return text

        async with self._turns.held(network_of(asked.request.client)):
            return await asyncio.to_thread(write)

    def _outlined(self, asked: PastRequest) -> PastRequest:
        """Return a request with the columns of its span, where all of that is listed."""
        past = asked.past
        if not past.is_whole or not past.blocks or asked.address.name == I_FRAMES:
            return asked
        return replace(asked, past=replaced(past, outlined=self._listed.span(past)))

    def _decide(self, request: Request, address: LiveAddress, span: Span, stream: LiveStream) -> Outcome:
        # The administrator decides how long a programme is.
        most_hours = LONGEST_SECONDS / 3600 if address.programme else self._most_hours
        bounds = read_bounds(request, span, stream, most_hours, "limits.window_hours")
        if isinstance(bounds, Reply):
            return bounds
        asked = BoundedSpan(request, address, span, stream, bounds)
        rendition, name = stream.renditions.get(address.rendition), _growing_name(asked)
        if name and (known := self._known_span(asked, name)) is not None:
            return self._waits(asked, rendition) or self._goes_on(asked, known)
        past = past_window(stream.renditions, *bounds)
        grows = _grows(stream, bounds.end) if past is None else not past.is_whole
        past_segments = past_of(stream, stream.renditions, self._stored)
        needs_segments = address.name == MANIFEST and not _is_settled(bounds.end, stream)
        outlined = address.name != I_FRAMES and not needs_segments
        earlier = EarlierSegments(stream.renditions, past_segments, address.rendition, outlined=outlined)
        has_earlier = span.start is not None and earlier.has(bounds.start)
        is_redirected = span.start is None or is_relative(span) or (past is not None and past.is_cut)
        is_awaited = past is not None and grows and (has_earlier or not is_redirected)
        if is_awaited and (waits := self._waits(asked, rendition)) is not None:
            return waits
        if not has_earlier:
            return self._decide_listed(asked, past)
        if grows and name:
            return PendingTask(self._from_past(asked, name))
        return PendingTask(self._with_earlier(asked, earlier, past if address.name == MANIFEST else None))

    def _decide_listed(self, asked: BoundedSpan, past: PastWindow | None) -> Outcome:
        """Decide a request for a span that is listed."""
        outcome = self._answer(asked, past)
        if isinstance(outcome, Reply):
            return outcome
        rendition = outcome.stream.renditions.get(outcome.address.rendition)
        if rendition is not None and not outcome.past.is_whole:
            return self._listed_span(asked, outcome, rendition)
        is_settled = outcome.past.is_whole and outcome.address.name != MULTIVARIANT
        return PendingTask(self._with_ranges(outcome) if is_settled else self._in_turn(outcome))

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

    def _known_span(self, asked: BoundedSpan, name: str) -> GrowingSpan | None:
        """Return what is known of a rendition's playlist that grows, as long as that can go on.

        Args:
            name: the name of the rendition.
        """
        stream, start = asked.stream, asked.bounds.start
        spans = self._growing.get(stream.presentation)
        # A time that counts from now is another one for each request.
        if spans is None or is_relative(asked.span) or not _grows(stream, asked.bounds.end):
            return None
        found, window = spans.find(start, name), stream.renditions[name].window
        if found is None:
            return None
        has_first = _is_listed(found, window) or past_of(stream, [name], self._stored)
        behind = stream.presentation.skip_boundary(name) - found.next_number
        if has_first and found.may_follow(window) and behind <= MOST_FOLLOWED:
            return found
        spans.forget(start, name)
        return None

    def _goes_on(self, asked: BoundedSpan, known: GrowingSpan) -> Outcome:
        """Reply with a playlist that grows, at once if nothing has to be read for it."""
        stream = asked.stream
        is_current = known.ranges.version == stream.presentation.date_ranges.version
        leading = next(iter(stream.renditions.values())).window
        if is_current and (_is_listed(known, leading) or self._oldest.surely_has(stream, known.first)):
            outcome = self._grown(asked, known)
            return outcome if isinstance(outcome, Reply) else PendingTask(self._in_turn(outcome))
        return PendingTask(self._looked_after(asked, known))

    def _grown(self, asked: BoundedSpan, known: GrowingSpan) -> Reply | PastRequest:
        request, address, _, stream, (start, end) = asked
        past = known.past(start, end, stream.renditions.values())
        found = PastRequest(request, address, stream, past, end, ())
        rendition = stream.renditions.get(address.rendition)
        return found if rendition is None else found.growing_reply(rendition, known)

    async def _looked_after(self, asked: BoundedSpan, known: GrowingSpan) -> Reply:
        """Reply with a playlist that grows, once it is certain that its beginning is there still."""
        stream, name = asked.stream, _growing_name(asked)
        presentation = stream.presentation
        if known.ranges.version != presentation.date_ranges.version:
            known.ranges = await self._ranges(asked)
        oldest = await self._oldest.of(stream)
        if oldest is None or oldest > float(known.first.program_date_time):
            self._spans_of(presentation).forget(asked.bounds.start, name)
            return await self._from_past(asked, name)
        if presentation is not stream.presentation:
            return refusal(asked.request, 503, 0, retry_after=stream.target_duration)
        outcome = self._grown(asked, known)
        return outcome if isinstance(outcome, Reply) else await self._in_turn(outcome)

    async def _from_past(self, asked: BoundedSpan, name: str) -> Reply:
        """Reply with a playlist of a span that grows, and begins before the live playlist does.

        Args:
            name: of the rendition whose playlist it is, or of the first one.
        """
        request, address, _, stream, (start, end) = asked
        presentation = stream.presentation
        try:
            made = await self._begun.do((presentation, start, name), partial(self._begin, asked, name))
        except TooManyWaitingError:
            return refusal(request, 503, 0, retry_after=stream.target_duration)
        except OSError as error:
            return unreadable(request, stream.name, error)
        if presentation is not stream.presentation:
            return refusal(request, 503, 0, retry_after=stream.target_duration)
        past = None if made is None else made.past(start, end, stream.renditions.values())
        outcome = self._answer(asked, past)
        if isinstance(outcome, Reply):
            return outcome
        rendition = stream.renditions.get(address.rendition)
        if made is None or rendition is None:
            return await self._in_turn(outcome)
        return outcome.growing_reply(rendition, made)

    async def _begin(self, asked: BoundedSpan, name: str) -> GrowingSpan | None:
        """Read what has left the live playlist of a span that grows, for all who ask for it."""
        stream, start = asked.stream, asked.bounds.start
        presentation = stream.presentation
        past = past_of(stream, stream.renditions, self._stored)
        async with self._reading.held(network_of(asked.request.client)):
            ranges = await self._ranges(asked)
            earlier = EarlierSegments(stream.renditions, past, name)
            made = await earlier.growing(start, partial(presentation.skip_boundary, name))
        if made is not None:
            made.ranges = ranges
            await asyncio.to_thread(gzip_cache.join, made.lasting)
            # The viewers of a later beginning are redirected.
            if made.first.program_date_time <= start and not is_relative(asked.span):
                self._spans_of(presentation).add(start, name, made)
        return made

    def _listed_span(self, asked: BoundedSpan, found: PastRequest, rendition: Rendition) -> Outcome:
        """Reply with a playlist of a span that grows, and begins in the live playlist."""
        stream, start, name, first = asked.stream, asked.bounds.start, rendition.name, found.past.first
        presentation, window = stream.presentation, rendition.window
        number = presentation.skip_boundary(name)

        def begun() -> GrowingSpan:
            made = GrowingSpan(name, first)
            made.ranges = SpanRanges(StoredRanges(), presentation.date_ranges.version)
            return made

        if number - first.number <= MOST_FOLLOWED:
            made = begun()
            self._spans_of(presentation).add(start, name, made)
            return found.growing_reply(rendition, made)

        async def begin() -> GrowingSpan:
            made, segments = begun(), list(settled_segments(window, first.number, number))
            async with self._turns.held(network_of(asked.request.client)):
                await asyncio.to_thread(made.extend, segments)
                await asyncio.to_thread(gzip_cache.join, made.lasting)
            self._spans_of(presentation).add(start, name, made)
            return made

        async def reply() -> Reply:
            later = refusal(asked.request, 503, 0, retry_after=stream.target_duration)
            try:
                made = await self._begun.do((presentation, start, name), begin)
            except TooManyWaitingError:
                return later
            if made is None or presentation is not stream.presentation:
                return later
            return found.growing_reply(rendition, made)

        return PendingTask(reply())

    def _spans_of(self, presentation: Presentation) -> GrowingSpans:
        return self._growing.setdefault(presentation, GrowingSpans())

    async def _ranges(self, asked: BoundedSpan) -> SpanRanges:
        """Read the date ranges of a span that grows, also those that are announced."""
        stream, begin = asked.stream, asked.bounds.start - LONGEST_SEGMENT
        version = stream.presentation.date_ranges.version
        end = Fraction(stream.wall_clock()) + MOST_DISTANT_SECONDS

        async def read() -> SpanRanges:
            return SpanRanges(await ranges_of(stream, begin, end, self._stored), version)

        return await self._ranges_read.do((stream.presentation, version, begin), read)

    async def _with_ranges(self, asked: PastRequest) -> Reply:
        """Reply with a listed span that is over, with date ranges that the live playlist may have lost."""
        begin, end = asked.past.first.program_date_time, asked.past.behind
        try:
            stored = await ranges_of(asked.stream, begin, end, self._stored)
        except OSError as error:
            return unreadable(asked.request, asked.stream.name, error)
        ranges = stored.lines_within(begin, end, asked.date_ranges)
        return await self._in_turn(replace(asked, date_ranges=ranges))

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
        outcome = self._answer(asked, past, ranges)
        if isinstance(outcome, PastRequest):
            return await self._in_turn(outcome)
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
            async with self._reading.held(network_of(asked.request.client)):
                begin, end = asked.bounds.start - LONGEST_SEGMENT, asked.bounds.end
                ranges = await ranges_of(asked.stream, begin, end or _now(asked.stream), self._stored)
                # In the step in which the rest is decided.
                past = await earlier.window(*asked.bounds, may_lack=asked.address.name == MANIFEST)
            return _ReadSpan(past, ranges)

        if asked.address.name != MANIFEST:
            return await read()
        # All who ask for the same span while it is read make their manifests of it.
        return await self._read.do((asked.stream.presentation, asked.bounds), read)

    def _answer(
        self, asked: BoundedSpan, past: PastWindow | None, stored: StoredRanges | None = None
    ) -> Reply | PastRequest:
        """Return the reply, or the request of which a playlist or a manifest is still to be written.

        Args:
            stored: date ranges that the live playlist may have lost.
        """
        request, address, span, stream, bounds = asked
        target_duration = stream.target_duration
        if past is None:
            return _nothing_yet(request, bounds, stream)
        if is_refused(address, span, past):
            return refusal(request, 404, target_duration, kept_from(past))
        # RFC 8216bis §6.2.1: a playlist of type EVENT can't begin with segments that are about to leave.
        is_open = span.start is None or (not past.is_whole and past.is_cut)
        if is_open or is_relative(span):
            return redirection(address, dated(span, bounds, past), max(target_duration // 2, 1))
        if address.name == I_FRAMES and not past.is_whole:
            return refusal(request, 404, target_duration, NOT_OVER)
        found = PastRequest(request, address, stream, past, bounds.end, ())
        if not past.is_whole and address.rendition in stream.renditions:
            # The date ranges of a playlist that grows change with it.
            return found
        begin, end = past.first.program_date_time, past.behind
        ranges = stream.presentation.date_ranges.lines_within(begin, end)
        return replace(found, date_ranges=(stored or StoredRanges()).lines_within(begin, end, ranges))


def _growing_name(asked: BoundedSpan) -> str:
    """Return the rendition whose playlist shows where a span begins, if that may grow; empty for none."""
    address, renditions = asked.address, asked.stream.renditions
    if address.name == MULTIVARIANT:
        return next(iter(renditions))
    return address.rendition if address.name == PLAYLIST and address.rendition in renditions else ""


def _grows(stream: LiveStream, end: Fraction | None) -> bool:
    """Return whether more of a span is to come."""
    leading = variant_renditions(stream.renditions.values())[0].window
    if leading.ended or not leading.listed:
        return False
    newest = leading.listed[-1]
    return end is None or end > newest.program_date_time + newest.duration


def _is_listed(span: GrowingSpan, window: Window) -> bool:
    """Return whether a span begins with a segment that is listed."""
    return bool(window.listed) and span.first.number >= window.listed[0].number


def _is_settled(end: Fraction | None, stream: LiveStream) -> bool:
    """Return whether a span ended so long ago that all players of a manifest that grew know of it."""
    return end is not None and stream.wall_clock() - end >= SETTLED_UPDATES * stream.target_duration


def _with_listed(
    segments: Mapping[str, Sequence[LiveSegment]], renditions: Mapping[str, Rendition]
) -> Mapping[str, Sequence[LiveSegment]]:
    """Return the segments of a span, followed by all that are listed behind them."""
    found = {}
    for name, own in segments.items():
        listed = renditions[name].window.listed
        behind = max(own[-1].number + 1 - listed[0].number, 0) if listed else 0
        found[name] = [*own, *islice(listed, behind, None)]
    return found


def _now(stream: LiveStream) -> Fraction:
    return Fraction(stream.wall_clock())


def _nothing_yet(request: Request, bounds: Bounds, stream: LiveStream) -> Reply:
    """Refuse a span of which nothing is here; its first segment comes soon where it has just begun."""
    later = stream.target_duration
    is_coming = bounds.end is None or bounds.end > stream.wall_clock()
    if is_coming and 0 <= stream.wall_clock() - bounds.start < MOST_LATE_SEGMENTS * later:
        return refusal(request, 503, 0, retry_after=later)
    return refusal(request, 404, later, NOTHING_KEPT)

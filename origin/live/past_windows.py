"""Decides requests for a span of a channel's past: `?start=TIME&end=TIME` of playlists and manifests."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace as replaced
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from media.dash import mpd
from media.hls.date_range import read_date_range
from media.hls.media_playlist import MEDIA_TYPE, MediaPlaylist
from media.hls.precompressed_text import Pieces
from origin.answers import gzip_cache
from origin.answers.refusals import ABSENT_LIVE_SECONDS, refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.representation_replies import text_reply
from origin.answers.request import Request
from origin.answers.single_flight import SingleFlight
from origin.http.client_limits import network_of
from origin.live.addresses import I_FRAMES, MANIFEST, MULTIVARIANT, LiveAddress, Span
from origin.live.dvr_segments import OldestDates, StoredSegments, past_of, ranges_of, unreadable
from origin.live.playlist_requests import IRREGULAR, Reload
from origin.live.spans import (
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
from origin.live.waits import Outcome, not_on_air, wait_until_ready
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.past.date_range_file import StoredRanges
from packager.past.earlier_segments import EarlierSegments
from packager.past.i_frames import i_frame_playlist, i_frame_variants
from packager.past.manifest import manifest
from packager.past.outlined_span import OutlinedSpan
from packager.past.outlines import BLOCK_SEGMENTS, OUTLINE_BYTES, Outline
from packager.past.past_window import PastWindow, growing_playlist, past_window
from packager.past.periods import recorded_periods
from packager.past.programmes import LONGEST_SECONDS
from packager.past.span_playlists import span_playlist, span_totals
from packager.publish.dash import SETTLED_UPDATES
from packager.publish.date_ranges import merged
from packager.publish.hls import RenderingError
from packager.publish.hls_multivariant import multivariant_playlist
from packager.publish.live_stream import LiveStream
from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition, extension_of

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
        edge: a delta update of the live playlist, where the span of a rendition grows with it; else None.
    """

    request: Request
    address: LiveAddress
    stream: LiveStream
    past: PastWindow
    end: Fraction | None
    date_ranges: Sequence[str]
    edge: MediaPlaylist | None = None

    @property
    def key(self) -> Hashable:
        """All that the text depends on: those who ask for the same one get it from one of them."""
        past, suffix = self.past, self.address.directives.suffix
        asked = (self.address.name, self.address.rendition, suffix, self.query, tuple(self.date_ranges))
        coded = self.request.takes_gzip
        numbers = past.first.number, past.last.number, past.is_whole
        reported = [one.window.last_reported for one in self.stream.renditions.values() if self.edge]
        return self.stream, asked, coded, numbers, tuple(reported)

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
        rendition, edge = self.stream.renditions.get(self.address.rendition), self.edge
        if rendition is None:
            return ()
        if edge is not None:
            return self._growing(rendition, edge).pieces()
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

    def delta_reply(self, rendition: Rendition) -> Reply:
        """Return the delta update of a span that grows: it is short, and the same for all who wait for it."""
        presentation, suffix = self.stream.presentation, self.address.directives.suffix

        def render() -> Pieces:
            return self._growing(rendition, presentation.edge(rendition.name, suffix, self.query)).pieces()

        try:
            text = presentation.span_pieces(rendition.name, self.query, render)
        except RenderingError:
            return refusal(self.request, 500, 0)
        return self._text(text, MEDIA_TYPE)

    def _growing(self, rendition: Rendition, edge: MediaPlaylist) -> MediaPlaylist:
        wanted = self.address.directives
        return growing_playlist(
            self.past, rendition, edge, self.end, self.date_ranges, skip=wanted.skip, suffix=wanted.suffix
        )

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
        made = manifest(periods, stream.cadence.frame_rate, date_ranges=ranges)
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
        past = past_window(stream.renditions, *bounds)
        rendition = stream.renditions.get(address.rendition)
        grows = past is not None and not past.is_whole
        past_segments = past_of(stream, stream.renditions, self._stored)
        needs_segments = address.name == MANIFEST and not _is_settled(bounds.end, stream)
        outlined = address.name != I_FRAMES and not needs_segments
        earlier = EarlierSegments(stream.renditions, past_segments, address.rendition, outlined=outlined)
        has_earlier = span.start is not None and earlier.has(bounds.start)
        is_redirected = span.start is None or is_relative(span) or (past is not None and past.is_cut)
        if grows and rendition is not None and (has_earlier or not is_redirected):
            reload = Reload(request, address, stream, rendition)
            if not reload.has_come():
                return reload.wait(
                    lambda holds: self._decide(request, address, span, stream) if holds else reload.refused()
                )
        if has_earlier:
            recent = past if address.name == MANIFEST else None
            return PendingTask(self._with_earlier(asked, earlier, recent))
        outcome = self._answer(asked, past)
        if isinstance(outcome, Reply):
            return outcome
        is_settled = outcome.past.is_whole and address.name != MULTIVARIANT
        return PendingTask(self._with_ranges(outcome) if is_settled else self._in_turn(outcome))

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
        begin, end = past.first.program_date_time, past.behind
        ranges = stream.presentation.date_ranges.lines_within(begin, end)
        ranges = (stored or StoredRanges()).lines_within(begin, end, ranges)
        # RFC 8216bis §6.2.1: a playlist of type EVENT can't begin with segments that are about to leave.
        is_open = span.start is None or (not past.is_whole and past.is_cut)
        if is_open or is_relative(span):
            return redirection(address, dated(span, bounds, past), max(target_duration // 2, 1))
        found = PastRequest(request, address, stream, past, bounds.end, ranges)
        rendition = stream.renditions.get(address.rendition)
        if address.name == I_FRAMES and not past.is_whole:
            return refusal(request, 404, target_duration, NOT_OVER)
        if past.is_whole or rendition is None:
            return found
        if address.directives.skip:
            return found.delta_reply(rendition)
        # In the step in which the segments are listed.
        edge = stream.presentation.edge(rendition.name, address.directives.suffix, found.query)
        return replace(found, edge=edge)


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

"""Playlists of spans that grow: what has passed is found once for all who watch from the same moment on."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable
from fractions import Fraction
from functools import partial
from weakref import WeakKeyDictionary

from origin.answers import gzip_cache
from origin.answers.refusals import refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.single_flight import SingleFlight
from origin.http.client_limits import network_of
from origin.live.past.past_requests import LONGEST_SEGMENT, BoundedSpan, PastRequest
from origin.live.past.span_writer import SpanWriter
from origin.live.past.spans import WRITERS, is_relative
from origin.live.requests.dvr_segments import OldestDates, StoredSegments, past_of, ranges_of, unreadable
from origin.live.requests.waits import Outcome
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.past.earlier_segments import EarlierSegments
from packager.past.growing_span import (
    MOST_FOLLOWED,
    GrowingSpan,
    GrowingSpans,
    SpanRanges,
    settled_segments,
)
from packager.past.stored_ranges import StoredRanges
from packager.publish.date_ranges import MOST_DISTANT_SECONDS
from packager.publish.hls import Presentation
from packager.publish.live_stream import LiveStream
from packager.threads import SHARED_THREADS
from packager.transient_errors import NotReadyError
from packager.window.rendition import Rendition, variant_renditions
from packager.window.window import Window


class StartOver:
    """Replies with playlists that grow, and keeps what has passed of them.

    Args:
        stored: opens segments that have left memory.
        reading: turns of networks, in which is read what has left the playlists.
        oldest: from when on channels can be played.
        writer: writes what doesn't grow.
    """

    def __init__(
        self,
        stored: StoredSegments,
        reading: FairSemaphore,
        oldest: OldestDates,
        writer: SpanWriter,
    ) -> None:
        self._stored = stored
        self._reading = reading
        self._oldest = oldest
        self._writer = writer
        self._growing = WeakKeyDictionary[Presentation, GrowingSpans]()
        self._begun = SingleFlight[Hashable, GrowingSpan | None]()
        self._ranges_read = SingleFlight[Hashable, SpanRanges]()

    def find(self, asked: BoundedSpan, name: str) -> GrowingSpan | None:
        """Return what is known of a rendition's playlist that grows, as long as that can go on.

        Args:
            name: the name of the rendition.
        """
        stream, start = asked.stream, asked.bounds.start
        spans = self._growing.get(stream.presentation)
        # A time that counts from now is another one for each request.
        if spans is None or is_relative(asked.span) or not grows(stream, asked.bounds.end):
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

    def go_on(self, asked: BoundedSpan, known: GrowingSpan) -> Outcome:
        """Reply with a playlist that grows, at once if nothing has to be read for it."""
        stream = asked.stream
        is_current = known.ranges.version == stream.presentation.date_ranges.version
        leading = next(iter(stream.renditions.values())).window
        if is_current and (_is_listed(known, leading) or self._oldest.surely_has(stream, known.first)):
            outcome = self._grown(asked, known)
            return outcome if isinstance(outcome, Reply) else PendingTask(self._writer.reply(outcome))
        return PendingTask(self._looked_after(asked, known))

    def _grown(self, asked: BoundedSpan, known: GrowingSpan) -> Reply | PastRequest:
        request, address, _, stream, (start, end) = asked
        past = known.past(start, end, stream.renditions.values())
        found = PastRequest(request, address, stream, past, end, ())
        rendition = stream.renditions.get(address.rendition)
        return found if rendition is None else found.growing_reply(rendition, known)

    async def _looked_after(self, asked: BoundedSpan, known: GrowingSpan) -> Reply:
        """Reply with a playlist that grows, once it is certain that its beginning is there still."""
        stream, name = asked.stream, asked.growing_name
        presentation = stream.presentation
        if known.ranges.version != presentation.date_ranges.version:
            # While S3 is away, the playlist has those that are known, and those of the live playlist.
            with contextlib.suppress(OSError):
                known.ranges = await self._ranges(asked)
        oldest = await self._oldest.of(stream)
        if oldest is None or oldest > float(known.first.program_date_time):
            self._known(presentation).forget(asked.bounds.start, name)
            return await self.from_past(asked, name)
        if presentation is not stream.presentation:
            return refusal(asked.request, 503, 0, retry_after=stream.target_duration)
        outcome = self._grown(asked, known)
        return outcome if isinstance(outcome, Reply) else await self._writer.reply(outcome)

    async def from_past(self, asked: BoundedSpan, name: str) -> Reply:
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
        outcome = asked.answer(past)
        if isinstance(outcome, Reply):
            return outcome
        rendition = stream.renditions.get(address.rendition)
        if made is None or rendition is None:
            return await self._writer.reply(outcome)
        return outcome.growing_reply(rendition, made)

    async def _begin(self, asked: BoundedSpan, name: str) -> GrowingSpan | None:
        """Read what has left the live playlist of a span that grows, for all who ask for it."""
        stream, start = asked.stream, asked.bounds.start
        presentation = stream.presentation
        past = past_of(stream, stream.renditions, self._stored)
        network = network_of(asked.request.client)
        async with self._reading.held(network):
            ranges = await self._ranges(asked)
            earlier = EarlierSegments(stream.renditions, past, name, client=network)
            made = await earlier.growing(start, partial(presentation.skip_boundary, name))
        if made is not None:
            made.ranges = ranges
            await SHARED_THREADS.of(network).run(gzip_cache.join, made.lasting)
            # The viewers of a later beginning are redirected.
            if made.first.program_date_time <= start and not is_relative(asked.span):
                self._known(presentation).add(start, name, made)
        return made

    def from_list(self, asked: BoundedSpan, found: PastRequest, rendition: Rendition) -> Outcome:
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
            self._known(presentation).add(start, name, made)
            return found.growing_reply(rendition, made)

        async def begin() -> GrowingSpan:
            made, segments = begun(), list(settled_segments(window, first.number, number))
            writers = WRITERS.of(network_of(asked.request.client))
            await writers.run(made.extend, segments)
            await writers.run(gzip_cache.join, made.lasting)
            self._known(presentation).add(start, name, made)
            return made

        async def reply() -> Reply:
            later = refusal(asked.request, 503, 0, retry_after=stream.target_duration)
            try:
                made = await self._begun.do((presentation, start, name), begin)
            except NotReadyError:
                return later
            if made is None or presentation is not stream.presentation:
                return later
            return found.growing_reply(rendition, made)

        return PendingTask(reply())

    def _known(self, presentation: Presentation) -> GrowingSpans:
        return self._growing.setdefault(presentation, GrowingSpans())

    async def _ranges(self, asked: BoundedSpan) -> SpanRanges:
        """Read the date ranges of a span that grows, also those that are announced."""
        stream, begin = asked.stream, asked.bounds.start - LONGEST_SEGMENT
        version = stream.presentation.date_ranges.version
        end = Fraction(stream.wall_clock()) + MOST_DISTANT_SECONDS

        async def read() -> SpanRanges:
            return SpanRanges(
                await ranges_of(stream, begin, end, self._stored, network_of(asked.request.client)), version
            )

        return await self._ranges_read.do((stream.presentation, version, begin), read)


def grows(stream: LiveStream, end: Fraction | None) -> bool:
    """Return whether more of a span is to come."""
    leading = variant_renditions(stream.renditions.values())[0].window
    if leading.ended or not leading.listed:
        return False
    newest = leading.listed[-1]
    return end is None or end > newest.program_date_time + newest.duration


def _is_listed(span: GrowingSpan, window: Window) -> bool:
    """Return whether a span begins with a segment that is listed."""
    return bool(window.listed) and span.first.number >= window.listed[0].number

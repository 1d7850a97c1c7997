"""Small pictures of a channel's past for seek bars: `/live/CHANNEL/thumbnails.vtt`, and of a span."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from media.subtitles.webvtt import MEDIA_TYPE
from origin.answers.refusals import refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.representation_replies import text_reply
from origin.answers.request import Request
from origin.http.client_limits import network_of
from origin.live.past.listed_outlines import ListedOutlines
from origin.live.past.spans import (
    AT_ONCE,
    IMMUTABLE_SECONDS,
    MOST_WAITING,
    REST,
    Bounds,
    dated,
    is_relative,
    is_settled,
    nothing_of,
    query_of,
    read_bounds,
    redirection,
    written,
)
from origin.live.requests.addresses import SNAPSHOT, LiveAddress, Span
from origin.live.requests.dvr_segments import StoredSegments, past_of, unreadable
from origin.live.requests.waits import Outcome, wait_for_past
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.past.earlier_segments import EarlierSegments
from packager.past.past_window import PastWindow, past_window
from packager.past.thumbnails import THUMBNAIL_WIDTH, thumbnail_size, thumbnails_vtt
from packager.publish.live_stream import LiveStream
from packager.threads import SHARED_THREADS
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition, variant_renditions

NO_PICTURES = "this channel has no picture"


class ThumbnailRequest(NamedTuple):
    """A request for the WebVTT of a span, and the dates of its bounds."""

    request: Request
    address: LiveAddress
    stream: LiveStream
    bounds: Bounds


class ThumbnailReplies:
    """Decides requests for the WebVTT that names the small pictures of a span, or of all that is kept.

    Args:
        most_hours: longest span.
        stored: finds segments that have left memory.
        listed: makes spans of segments that are listed.
    """

    def __init__(self, most_hours: float, stored: StoredSegments, listed: ListedOutlines) -> None:
        self._most_hours = most_hours
        self._stored = stored
        self._listed = listed
        self._turns = FairSemaphore(AT_ONCE, 1, MOST_WAITING, REST)

    def decide(self, request: Request, address: LiveAddress, stream: LiveStream) -> Outcome:
        """Decide a request, once the channel has segments."""
        target_duration = stream.target_duration

        if address.error:
            return refusal(request, 400, target_duration, address.error)
        return wait_for_past(request, stream, lambda: self._decide(request, address, stream))

    def _decide(self, request: Request, address: LiveAddress, stream: LiveStream) -> Outcome:
        span, target_duration = address.span or Span(None, None), stream.target_duration
        bounds = read_bounds(request, span, stream, self._most_hours, "limits.window_hours")
        if isinstance(bounds, Reply):
            return bounds
        # The smallest picture takes least time to be decoded.
        pictures = [one for one in variant_renditions(stream.renditions.values()) if one.video][::-1]
        if not pictures:
            return refusal(request, 404, target_duration, NO_PICTURES)
        if span.start is None:
            bounds = self._all_kept(bounds, pictures[0].window.listed)
        return PendingTask(self._in_turn(ThumbnailRequest(request, address, stream, bounds), pictures))

    async def _shown(self, asked: ThumbnailRequest, pictures: Sequence[Rendition]) -> PastWindow | None:
        """Return the span of the first rendition that has its beginning, or else of one that has some of it.

        One that was added since has less of the span than the others, or nothing.
        """
        found: PastWindow | None = None
        for rendition in pictures:
            shown = {rendition.name: rendition}
            past_segments, network = (
                past_of(asked.stream, shown, self._stored),
                network_of(asked.request.client),
            )
            earlier = EarlierSegments(shown, past_segments, outlined=True, client=network)
            has_earlier = earlier.has(asked.bounds.start)
            past = await earlier.window(*asked.bounds) if has_earlier else past_window(shown, *asked.bounds)
            if past is not None and not past.first.gap:
                return past
            found = found or past
        return found

    def _all_kept(self, bounds: Bounds, listed: Sequence[LiveSegment]) -> Bounds:
        """Return the bounds of all that is kept, but no longer than any other span."""
        end = bounds.end
        if listed:
            edge = listed[-1].program_date_time + listed[-1].duration
            end = edge if end is None else min(end, edge)
        if end is None:
            return bounds
        return Bounds(max(end - Fraction(self._most_hours * 3600), Fraction(0)), end)

    async def _in_turn(self, asked: ThumbnailRequest, pictures: Sequence[Rendition]) -> Reply:
        """Write the WebVTT in a thread; of a long span that takes a while."""
        request = asked.request
        try:
            network = network_of(request.client)
            async with self._turns.held(network):
                past = await self._shown(asked, pictures)
                if past is not None:
                    threads = SHARED_THREADS.of(network)
                    return await threads.run(lambda: _reply(asked, self._listed.outlined(past)))
        except TooManyWaitingError:
            return refusal(request, 503, 0, retry_after=asked.stream.target_duration)
        except OSError as error:
            return unreadable(request, asked.stream.name, error)
        return nothing_of(request, asked.bounds, asked.stream)


def _reply(asked: ThumbnailRequest, past: PastWindow) -> Reply:
    request, address, stream, bounds = asked
    span = address.span or Span(None, None)
    if is_relative(span):
        return redirection(address, dated(span, bounds, past), max(stream.target_duration // 2, 1), past)
    columns = past.columns
    ((rendition, track),) = columns.tracks.items()
    timeline = next(one for one in map(track.timeline, range(len(columns.numbers))) if one is not None)
    begin = past.first.program_date_time
    zero = begin if span.start is None else max(bounds.start, begin)

    def picture(date: Fraction) -> str:
        query = {"at": written(date), "width": str(THUMBNAIL_WIDTH), "rendition": rendition}
        return SNAPSHOT + query_of(address, query)

    text = thumbnails_vtt(columns, rendition, zero, thumbnail_size(timeline.entry), picture).encode()
    settled = is_settled(stream, past, bounds.end)
    max_age = IMMUTABLE_SECONDS if settled else max(stream.target_duration // 2, 1)
    coded = request.takes_gzip
    return text_reply(request, (text,), MEDIA_TYPE, max_age, coded=coded, in_thread=True)

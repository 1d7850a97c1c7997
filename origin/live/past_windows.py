"""Decides requests for a span of a channel's past: `?start=TIME&end=TIME` of playlists and manifests."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from urllib.parse import urlencode

from msgspec import Struct

from media.dash import mpd
from media.hls.media_playlist import MEDIA_TYPE
from media.hls.precompressed_text import Pieces
from origin.answers import gzip_cache
from origin.answers.heads import PlainHead
from origin.answers.refusals import refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.representation_replies import text_reply
from origin.answers.request import Request
from origin.http.client_limits import network_of
from origin.live.addresses import MANIFEST, MULTIVARIANT, LiveAddress, Span
from origin.live.waits import Outcome, wait_until_ready
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.past.manifest import manifest
from packager.past.past_window import PastWindow, past_playlist, past_window
from packager.past.periods import recorded_periods
from packager.publish.hls_multivariant import multivariant_playlist
from packager.publish.live_stream import LiveStream

IMMUTABLE_SECONDS = 365 * 86_400
"""For how long caches may keep what doesn't change any more."""

SETTLED_SECONDS = 60
"""A span that ended so long ago doesn't change: what was late has come."""

AVAILABLE_FROM = b"x-available-from"
"""Field with the oldest time that is kept, in seconds since the epoch, where a span began before."""

AT_ONCE, MOST_WAITING = 2, 64
"""Most texts that are written at once, one for each network, and most requests that wait for their turn."""

REST = 1.0
"""For how long a network's next text waits, as a share of the time that the last one took."""

NOTHING_KEPT = "nothing of this time is kept"


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

    def reply(self) -> Reply:
        """Return the playlist or the manifest; of a day that takes a good part of a second."""
        if self.address.name == MULTIVARIANT:
            return self._multivariant()
        if self.address.name == MANIFEST:
            return self._manifest()
        rendition = self.stream.renditions.get(self.address.rendition)
        if rendition is None:
            return refusal(self.request, 404, self.stream.target_duration)
        target_duration, suffix = self.stream.target_duration, self.address.directives.suffix
        made = past_playlist(self.past, rendition, target_duration, self.date_ranges, suffix)
        return self._text(made.pieces(), MEDIA_TYPE)

    def redirection(self) -> Reply:
        """Lead to the address that names the same span by dates, those of its first and last segments."""
        past, end = self.past, self.end
        bounds = {"start": _written(past.first.program_date_time, up=True)}
        if end is not None:
            is_cut = past.last.number > past.first.number and end < past.behind
            bounds["end"] = _written(past.last.program_date_time if is_cut else end)
        # Caches keep one object for all who ask within the same segment. RFC 9110 §15.4.3: relative to the
        # address that was asked for, which may have a prefix.
        location = self.address.name + self._query(bounds)
        max_age = max(self.stream.target_duration // 2, 1)
        fields = (
            (b"location", location.encode("ascii")),
            (b"cache-control", b"public, max-age=%d" % max_age),
            (b"content-length", b"0"),
        )
        return Reply(PlainHead(302, fields))

    def _multivariant(self) -> Reply:
        bounds = {"start": _written(self.past.start)}
        if self.end is not None:
            bounds["end"] = _written(self.end)
        renditions, suffix = list(self.stream.renditions.values()), self._query(bounds)
        text = multivariant_playlist(renditions, self.stream.cadence, suffix=suffix).render()
        return self._text((text.encode(),), MEDIA_TYPE)

    def _manifest(self) -> Reply:
        stream, past = self.stream, self.past
        if not past.is_whole:
            reason = "a manifest is made once all of the span has come: give an end in the past"
            return refusal(self.request, 404, stream.target_duration, reason)
        coded = {name: past.segments[name] for name, one in stream.renditions.items() if one.language is None}
        made = manifest(recorded_periods(coded), stream.cadence.frame_rate)
        if made is None:
            return refusal(self.request, 404, stream.target_duration, NOTHING_KEPT)
        return self._text((made.render(),), mpd.MEDIA_TYPE)

    def _text(self, text: Pieces, media_type: str) -> Reply:
        """Return the reply with a text; caches may keep one that doesn't change for ever."""
        request, stream, past = self.request, self.stream, self.past
        fields = ((AVAILABLE_FROM, _written(past.oldest, up=True).encode("ascii")),) if past.is_cut else ()
        is_settled = self.end is not None and stream.wall_clock() - self.end >= SETTLED_SECONDS
        if past.is_whole and is_settled and not past.is_cut:
            max_age, tag = IMMUTABLE_SECONDS, gzip_cache.tag(text)
        else:
            max_age, tag = max(stream.target_duration // 2, 1), None
        coded = request.takes_gzip
        return text_reply(
            request,
            text,
            media_type,
            max_age,
            coded=coded,
            immutable_tag=tag,
            in_thread=True,
            fields=fields,
        )

    def _query(self, bounds: Mapping[str, str]) -> str:
        """Return a query with these bounds, and what the address carries on."""
        return f"?{urlencode(bounds)}{self.address.directives.suffix.replace('?', '&', 1)}"


class PastWindowReplies:
    """Decides requests for spans of the past.

    Args:
        most_hours: longest span.
    """

    def __init__(self, most_hours: float) -> None:
        self._most_hours = most_hours
        # Anybody may vary the bounds at will, so networks take turns.
        self._turns = FairSemaphore(AT_ONCE, 1, MOST_WAITING, REST)

    def decide(self, request: Request, address: LiveAddress, span: Span, stream: LiveStream) -> Outcome:
        """Decide a request for a playlist or a manifest of a span, once the channel has segments."""

        def when_ready(is_ready: bool) -> Outcome:
            if not is_ready:
                later = stream.target_duration
                return refusal(request, 503, later, retry_after=later)
            return self._decide(request, address, span, stream)

        return wait_until_ready(stream, when_ready)

    async def _in_turn(self, asked: PastRequest) -> Reply:
        """Write a playlist or a manifest in a thread."""
        request, later = asked.request, asked.stream.target_duration
        try:
            async with self._turns.held(network_of(request.client)):
                return await asyncio.to_thread(asked.reply)
        except TooManyWaitingError:
            return refusal(request, 503, 0, retry_after=later)

    def _decide(self, request: Request, address: LiveAddress, span: Span, stream: LiveStream) -> Outcome:
        now, target_duration = Fraction(stream.wall_clock()), stream.target_duration
        start = Fraction(0) if span.start is None else span.start.at(now)
        end = None if span.end is None else span.end.at(now)
        if end is not None and end <= start:
            return refusal(request, 400, target_duration, "end: a time behind start")
        if span.start is not None and (now if end is None else end) - start > self._most_hours * 3600:
            reason = f"start and end: at most {self._most_hours:g} hours between them (limits.window_hours)"
            return refusal(request, 400, target_duration, reason)
        past = past_window(stream.renditions, start, end)
        if past is None:
            return refusal(request, 404, target_duration, NOTHING_KEPT)
        ranges = stream.presentation.date_ranges.lines_within(past.first.program_date_time, past.behind)
        asked = PastRequest(request, address, stream, past, end, ranges)
        # A span that goes on can't begin with segments that are about to leave.
        is_open = span.start is None or (end is None and past.is_cut)
        is_relative = any(moment is not None and moment.is_relative for moment in span)
        return asked.redirection() if is_open or is_relative else PendingTask(self._in_turn(asked))


def _written(date: Fraction, *, up: bool = False) -> str:
    """Write a date in seconds since the epoch, in whole milliseconds, the later or the earlier ones."""
    whole, rest = divmod(math.ceil(date * 1000) if up else math.floor(date * 1000), 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)

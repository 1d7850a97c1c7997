"""Requests for a span of a channel's past, and what their playlists and manifests say."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace as replaced
from fractions import Fraction
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from media.dash import mpd
from media.hls.date_range import read_date_range
from media.hls.media_playlist import MEDIA_TYPE
from media.hls.precompressed_text import Pieces
from origin.answers import gzip_cache
from origin.answers.refusals import refusal
from origin.answers.reply import Reply
from origin.answers.representation_replies import text_reply
from origin.answers.request import Request
from origin.live.past.spans import (
    IMMUTABLE_SECONDS,
    NOTHING_KEPT,
    Bounds,
    available_from,
    dated,
    is_refused,
    is_relative,
    is_settled,
    kept_from,
    nothing_of,
    query_of,
    redirection,
    written,
)
from origin.live.requests.addresses import I_FRAMES, MANIFEST, MULTIVARIANT, PLAYLIST, LiveAddress, Span
from packager.past.growing_span import (
    Edge,
    GrowingSpan,
)
from packager.past.i_frames import i_frame_playlist, i_frame_variants
from packager.past.manifest import live_texts, manifest
from packager.past.past_window import PastWindow
from packager.past.periods import recorded_periods
from packager.past.span_playlists import span_playlist, span_totals
from packager.past.stored_ranges import StoredRanges
from packager.publish.dash import SETTLED_UPDATES
from packager.publish.date_ranges import lines_until, merged
from packager.publish.hls import RenderingError
from packager.publish.hls_multivariant import live_totals, multivariant_playlist
from packager.publish.live_stream import LiveStream
from packager.window.rendition import Rendition

MOST_LATE_SEGMENTS = 4
"""Target durations behind the beginning of a span for which its first segment is awaited."""

LONGEST_SEGMENT = 60
"""Seconds before a span from which on date ranges are read: its first segment begins before."""

NOT_OVER = "a span has an I-frame playlist once it is over"


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
            # A span that is over has the same text on all nodes, behind a restart, and with another ladder.
            renditions = list(self.stream.renditions.values())
            made = multivariant_playlist(
                [one for one in renditions if not is_over or self._has_media(one)],
                self.stream.cadence.frame_rate,
                span_totals(self.past.columns, target_duration) if is_over else live_totals(renditions),
                suffix=self.query,
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
            listed = i_frame_playlist(self.past.columns, rendition.name, suffix)
            return () if listed is None else listed.pieces()
        target_duration, start = self.stream.target_duration, self.past.start
        return span_playlist(
            self.past.columns, rendition.name, start, target_duration, self._told_ranges, suffix
        ).pieces()

    def _has_media(self, rendition: Rendition) -> bool:
        return self.past.columns.has_media(rendition.name)

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

    @property
    def _told_ranges(self) -> Sequence[str]:
        """The tags of the span's ranges; once it is over, those that stay the same whatever comes."""
        return lines_until(self.date_ranges, self.past.behind) if self.past.is_whole else self.date_ranges

    def _manifest(self) -> Pieces:
        stream = self.stream
        coded = [name for name, one in stream.renditions.items() if one.language is None]
        ranges = merged(map(read_date_range, self._told_ranges))
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
        return self.end <= self.stream.wall_clock() and not is_long_over(self.end, self.stream)

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
            fields=available_from(past),
        )


class BoundedSpan(NamedTuple):
    """A request for a span, and the dates of its bounds."""

    request: Request
    address: LiveAddress
    span: Span
    stream: LiveStream
    bounds: Bounds

    @property
    def growing_name(self) -> str:
        """Rendition whose playlist shows where the span begins, if that may grow; empty for none."""
        address, renditions = self.address, self.stream.renditions
        if address.name == MULTIVARIANT:
            return next(iter(renditions))
        return address.rendition if address.name == PLAYLIST and address.rendition in renditions else ""

    def answer(self, past: PastWindow | None, stored: StoredRanges | None = None) -> Reply | PastRequest:
        """Return the reply, or the request of which a playlist or a manifest is still to be written.

        Args:
            stored: date ranges that the live playlist may have lost.
        """
        request, address, span, stream, bounds = self
        target_duration = stream.target_duration
        if past is None:
            return _nothing_yet(request, bounds, stream)
        if is_refused(address, span, past):
            return refusal(request, 404, target_duration, kept_from(past))
        # RFC 8216bis §6.2.1: a playlist of type EVENT can't begin with segments that are about to leave.
        is_open = span.start is None or (not past.is_whole and past.is_cut)
        if is_open or is_relative(span):
            return redirection(address, dated(span, bounds, past), max(target_duration // 2, 1), past)
        if address.name == I_FRAMES and not past.is_whole:
            return refusal(request, 404, target_duration, NOT_OVER)
        found = PastRequest(request, address, stream, past, bounds.end, ())
        if not past.is_whole and address.rendition in stream.renditions:
            # The date ranges of a playlist that grows change with it.
            return found
        begin, end = past.first.program_date_time, past.behind
        ranges = stream.presentation.date_ranges.lines_within(begin, end)
        return replace(found, date_ranges=(stored or StoredRanges()).lines_within(begin, end, ranges))


def is_long_over(end: Fraction | None, stream: LiveStream) -> bool:
    """Return whether a span ended so long ago that all players of a manifest that grew know of it."""
    return end is not None and stream.wall_clock() - end >= SETTLED_UPDATES * stream.target_duration


def _nothing_yet(request: Request, bounds: Bounds, stream: LiveStream) -> Reply:
    """Refuse a span of which nothing is here; its first segment comes soon where it has just begun."""
    later = stream.target_duration
    is_coming = bounds.end is None or bounds.end > stream.wall_clock()
    if is_coming and 0 <= stream.wall_clock() - bounds.start < MOST_LATE_SEGMENTS * later:
        return refusal(request, 503, 0, retry_after=later)
    return nothing_of(request, bounds, stream)

"""Writes the playlists and manifests of spans in threads, once for all who ask for the same one at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from itertools import islice

from msgspec.structs import replace

from media.hls.precompressed_text import Pieces
from origin.answers import gzip_cache
from origin.answers.refusals import ABSENT_LIVE_SECONDS, refusal
from origin.answers.reply import Reply
from origin.answers.single_flight import SingleFlight
from origin.http.client_limits import network_of
from origin.live.past.listed_outlines import ListedOutlines
from origin.live.past.past_requests import PastRequest
from origin.live.past.spans import WRITERS
from origin.live.requests.addresses import MANIFEST
from origin.live.requests.dvr_segments import StoredSegments, ranges_of, unreadable
from origin.live.requests.playlist_requests import IRREGULAR
from packager.transient_errors import NotReadyError
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition


class SpanWriter:
    """Replies to requests for spans with what it writes.

    Args:
        stored: opens segments that have left memory.
        listed: makes spans of segments that are listed.
    """

    def __init__(self, stored: StoredSegments, listed: ListedOutlines) -> None:
        self._stored = stored
        self._listed = listed
        self._found = SingleFlight[Hashable, None]()

    async def reply(self, asked: PastRequest) -> Reply:
        """Reply with a playlist or a manifest, which is written in a thread if the channel's state allows."""
        try:
            if asked.address.name == MANIFEST and asked.is_dynamic:
                return await self._dynamic(asked)
            writers = WRITERS.of(network_of(asked.request.client), asked.key)
            text = await writers.run(self._written, asked)
        except NotReadyError:
            return refusal(asked.request, 503, 0, retry_after=asked.stream.target_duration)
        return asked.reply(text)

    async def _dynamic(self, asked: PastRequest) -> Reply:
        """Reply with the manifest of a span that grows, whose periods are found once for all who watch it."""
        stream, start = asked.stream, asked.past.start
        if not stream.cadence.regular:
            return refusal(asked.request, 404, ABSENT_LIVE_SECONDS, IRREGULAR)
        presentation = stream.presentation

        async def find() -> None:
            network = network_of(asked.request.client)
            segments = _with_listed(asked.past.segments, stream.renditions)
            begin, end = asked.past.first.program_date_time, Fraction(stream.wall_clock())
            stored = await ranges_of(stream, begin, end, self._stored, network)
            writers, ranges = WRITERS.of(network), stored.tags_within(begin, end)
            presentation.spans.add(start, await writers.run(presentation.span, segments, ranges))

        if (reply := asked.dynamic_manifest()) is None:
            try:
                await self._found.do((presentation, start), find)
            except OSError as error:
                return unreadable(asked.request, stream.name, error)
            reply = asked.dynamic_manifest()
        return reply or refusal(asked.request, 503, 0, retry_after=stream.target_duration)

    def _written(self, asked: PastRequest) -> Pieces:
        text = replace(asked, past=self._listed.outlined(asked.past)).text()
        if text:
            # For all who wait, as they are kept.
            gzip_cache.tag(text)
        if text and asked.request.takes_gzip:
            gzip_cache.gzip(text)
        return text


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

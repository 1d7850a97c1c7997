"""Decides requests for a channel as it was a while ago: `?delay=1h` of playlists and manifests.

Segments that have left the live playlist are read from the disk for some minutes at once, which all viewers
of these minutes share, whatever their delays are.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from media.dash import mpd
from media.hls.media_playlist import MEDIA_TYPE
from media.hls.precompressed_text import Pieces
from origin.answers.refusals import ABSENT_LIVE_SECONDS, refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.representation_replies import text_reply
from origin.answers.request import Request
from origin.answers.single_flight import SingleFlight
from origin.http.client_limits import network_of
from origin.live.past.spans import AT_ONCE, MOST_WAITING, NOTHING_KEPT, REST, WRITERS, query_of, written
from origin.live.requests.addresses import MANIFEST, MULTIVARIANT, PLAYLIST, LiveAddress
from origin.live.requests.dvr_segments import StoredSegments, past_of, ranges_of, unreadable
from origin.live.requests.playlist_requests import IRREGULAR
from origin.live.requests.waits import Outcome, wait_for_past
from packager.bounded_dict import BoundedDict
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.past.delayed_playlist import (
    LISTED_TARGET_DURATIONS,
    DelayedSegments,
    PastListing,
    delayed_playlist,
    listed_until,
    past_until,
)
from packager.past.earlier_segments import EarlierSegments
from packager.past.stored_ranges import StoredRanges
from packager.publish.dash_periods import PAST_TARGET_DURATIONS
from packager.publish.dash_spans import DelayedManifest
from packager.publish.hls_multivariant import live_totals, multivariant_playlist
from packager.publish.live_stream import LiveStream
from packager.window.rendition import Rendition, variant_renditions

READ_SECONDS = 120
"""Seconds of the past that are read at once."""

MOST_READ = 64
"""Most such stretches that are kept, of all channels."""

BEFORE_TARGET_DURATIONS, BEHIND_TARGET_DURATIONS = LISTED_TARGET_DURATIONS + 2, 4
"""Target durations that are read before and behind these seconds: what is listed at their beginning, and what
players of a manifest ask for until they have the next one."""


@dataclass(slots=True)
class _ReadMinutes:
    """Some minutes of a channel's past.

    Attributes:
        begun: their beginning in seconds since the epoch.
        newest: the live edge when they were read, in seconds since the epoch; None: they were settled.
        manifest: that of these minutes, once it was asked for.
    """

    listing: PastListing | None
    ranges: StoredRanges
    begun: int
    newest: Fraction | None
    manifest: DelayedManifest | None = None


class _Delayed(NamedTuple):
    """A request for a channel as it was a while ago.

    Attributes:
        delay: seconds.
        until: the live edge of then, in seconds since the epoch.
    """

    request: Request
    address: LiveAddress
    delay: Fraction
    stream: LiveStream
    until: Fraction

    @property
    def max_age(self) -> int:
        """Seconds for which caches may keep the reply."""
        return max(self.stream.target_duration // 2, 1)

    def text(self, text: Pieces, media_type: str) -> Reply:
        """Return the reply with a text."""
        return text_reply(self.request, text, media_type, self.max_age, coded=self.request.takes_gzip)

    def nothing(self) -> Reply:
        """Refuse what the channel doesn't have."""
        return refusal(self.request, 404, self.max_age, NOTHING_KEPT)

    def multivariant(self) -> Reply:
        """Return the reply with the multivariant playlist."""
        suffix = query_of(self.address, {"delay": written(self.delay)})
        renditions = list(self.stream.renditions.values())
        rate, totals = self.stream.cadence.frame_rate, live_totals(renditions)
        text = multivariant_playlist(renditions, rate, totals, suffix=suffix).render().encode()
        return self.text((text,), MEDIA_TYPE)

    def playlist(
        self, rendition: Rendition, shown: DelayedSegments | None, ranges: StoredRanges | None = None
    ) -> Reply:
        """Return the reply with a media playlist.

        Args:
            ranges: date ranges that may have left the live playlist.
        """
        if shown is None:
            return self.nothing()
        listed, stored = self.stream.presentation.date_ranges.lines_within, ranges or StoredRanges()
        made = delayed_playlist(
            shown,
            self.stream.target_duration,
            lambda begin, end: stored.lines_within(begin, end, listed(begin, end)),
            rendition.window.extension,
            self.address.directives.suffix,
        )
        return self.text(made.pieces(), MEDIA_TYPE)

    async def listed_manifest(self) -> Reply:
        """Make the manifest of what is listed, which may take several steps."""
        presentation, clock = self.stream.presentation, self.stream.wall_clock
        for _ in presentation.manifest_in_steps(clock()):
            await asyncio.sleep(0)
        made = presentation.delayed_manifest(clock(), self.delay, self.address.directives.suffix)
        return self.nothing() if made is None else self.text(made, mpd.MEDIA_TYPE)


class DelayedReplies:
    """Decides requests for a channel as it was a while ago.

    Args:
        most_hours: longest delay.
        stored: finds segments that have left the playlists.
    """

    def __init__(self, most_hours: float, stored: StoredSegments) -> None:
        self._most_hours = most_hours
        self._stored = stored
        # Anybody may vary the delay at will, so networks take turns.
        self._reading = FairSemaphore(AT_ONCE, 1, MOST_WAITING, REST)
        self._read = BoundedDict[Hashable, _ReadMinutes](MOST_READ)
        self._being_read = SingleFlight[Hashable, _ReadMinutes]()
        self._being_made = SingleFlight[Hashable, DelayedManifest]()

    def decide(self, request: Request, address: LiveAddress, delay: Fraction, stream: LiveStream) -> Outcome:
        """Decide a request, once the channel has segments.

        Args:
            delay: seconds.
        """
        target_duration = stream.target_duration

        if address.span is not None:
            return refusal(request, 400, target_duration, "delay: not with start and end")
        if not 0 < delay <= self._most_hours * 3600:
            reason = f"delay: above 0, and at most {self._most_hours:g} hours (limits.window_hours)"
            return refusal(request, 400, target_duration, reason)
        return wait_for_past(request, stream, lambda: self._decide(request, address, delay, stream))

    def _decide(self, request: Request, address: LiveAddress, delay: Fraction, stream: LiveStream) -> Outcome:
        if address.name == MANIFEST and not stream.cadence.regular:
            return refusal(request, 404, ABSENT_LIVE_SECONDS, IRREGULAR)
        rendition = stream.renditions.get(address.rendition)
        if address.name not in (MANIFEST, MULTIVARIANT) and (rendition is None or address.name != PLAYLIST):
            return refusal(request, 404, stream.target_duration)
        asked = _Delayed(request, address, delay, stream, Fraction(stream.wall_clock()) - delay)
        past = past_of(stream, stream.renditions, self._stored)
        earlier = EarlierSegments(stream.renditions, past, client=network_of(request.client))
        if earlier.has(asked.until - (LISTED_TARGET_DURATIONS + 1) * stream.target_duration):
            return PendingTask(self._reply_from_past(asked, rendition, earlier))
        if address.name == MANIFEST:
            return PendingTask(asked.listed_manifest())
        leading = variant_renditions(stream.renditions.values())[0].window
        own = leading if rendition is None else rendition.window
        shown = listed_until(leading, own, asked.until)
        if rendition is None:
            # Players give up a channel whose media playlists aren't there, and ask again for this one.
            return asked.nothing() if shown is None else asked.multivariant()
        return asked.playlist(rendition, shown)

    async def _reply_from_past(
        self, asked: _Delayed, rendition: Rendition | None, earlier: EarlierSegments
    ) -> Reply:
        """Reply with what has left the live playlist, or is about to."""
        stream = asked.stream
        number = asked.until // READ_SECONDS
        newest = variant_renditions(stream.renditions.values())[0].window.listed[-1]
        end = (number + 1) * READ_SECONDS + BEHIND_TARGET_DURATIONS * stream.target_duration
        # Nearer to the live edge there is more with each segment.
        is_settled = end <= newest.program_date_time - PAST_TARGET_DURATIONS * stream.target_duration
        key = weakref.ref(stream.presentation), number, None if is_settled else newest.number

        async def read() -> _ReadMinutes:
            start = number * READ_SECONDS - BEFORE_TARGET_DURATIONS * stream.target_duration
            network = network_of(asked.request.client)
            async with self._reading.held(network):
                found = await earlier.listing(Fraction(start), Fraction(end), stream.cadence.segment_duration)
                ranges = await ranges_of(stream, Fraction(start), Fraction(end), self._stored, network)
            edge = None if is_settled else newest.program_date_time + newest.duration
            return _ReadMinutes(found, ranges, number * READ_SECONDS, edge)

        stretch = self._read.use(key)
        if stretch is None:
            try:
                stretch = self._read[key] = await self._being_read.do(key, read)
            except TooManyWaitingError:
                return refusal(asked.request, 503, 0, retry_after=stream.target_duration)
            except OSError as error:
                return unreadable(asked.request, stream.name, error)
        if stretch.listing is None:
            return asked.nothing()
        if asked.address.name == MANIFEST:
            return await self._manifest(asked, stretch, stretch.listing, key)
        if rendition is None:
            return asked.multivariant()
        shown = past_until(stretch.listing, rendition.name, asked.until, stream.target_duration)
        return asked.playlist(rendition, shown, stretch.ranges)

    async def _manifest(
        self, asked: _Delayed, stretch: _ReadMinutes, listing: PastListing, key: Hashable
    ) -> Reply:
        presentation = asked.stream.presentation

        async def make() -> DelayedManifest:
            leading = next(iter(listing.segments.values()))
            ranges = stretch.ranges.tags_within(
                leading[0].program_date_time, leading[-1].program_date_time + leading[-1].duration
            )
            writers = WRITERS.of(network_of(asked.request.client))
            return await writers.run(presentation.delayed, listing.segments, ranges)

        if stretch.manifest is None:
            stretch.manifest = await self._being_made.do(key, make)
        now, depth = asked.stream.wall_clock(), LISTED_TARGET_DURATIONS * asked.stream.target_duration
        # The same on all nodes as long as the manifest is.
        published = stretch.begun + asked.delay if stretch.newest is None else stretch.newest
        suffix = asked.address.directives.suffix
        made = stretch.manifest.pieces(suffix, now, asked.delay, published, depth)
        return asked.text(made, mpd.MEDIA_TYPE) if made else asked.nothing()

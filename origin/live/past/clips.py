"""Spans of a channel's past as one file: `/live/CHANNEL/clip.mp4?start=TIME&end=TIME`, and `clip.m4a`.

The file is a head that is made in memory, and the segments as they are stored: its size, ranges and
validators are known before its first byte, and no media are copied.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor
from typing import NamedTuple

import structlog
from msgspec import Struct

from media.errors import MediaError
from origin.answers.movie_source import MemoryFile, MovieSource, movie_reply
from origin.answers.pieces import TruncatedFileError
from origin.answers.refusals import READING_RETRY_SECONDS, refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.request import Request
from origin.http.client_limits import network_of
from origin.http.representation import RepresentationMetadata
from origin.live.past.spans import (
    AT_ONCE,
    IMMUTABLE_SECONDS,
    MOST_WAITING,
    REST,
    Bounds,
    dated,
    is_refused,
    is_relative,
    is_settled,
    kept_from,
    nothing_of,
    query_of,
    read_bounds,
    redirection,
    written,
)
from origin.live.requests.addresses import SOUND_CLIP, LiveAddress, Span
from origin.live.requests.dvr_segments import SegmentFiles, StoredSegments, past_of, unreadable
from origin.live.requests.moments import EXAMPLES
from origin.live.requests.waits import Outcome, wait_for_past
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.library.local_storage import NotFoundError
from packager.past.earlier_segments import EarlierSegments
from packager.past.past_window import PastWindow, past_window
from packager.past.playlists import without_common_gaps
from packager.past.progressive_mp4 import (
    MovieLayout,
    ShownSpan,
    UniformStretch,
    lay_out,
    make_head,
    split,
)
from packager.publish.live_stream import LiveStream
from packager.reader_guard import ReaderGuard
from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition, variant_renditions

log = structlog.get_logger()

HEADS = CacheLimits(items=256, nbytes=32 << 20)
"""The heads that are kept: an hour of picture and sound has one of a megabyte."""

S3_READS = 8
"""Numbers whose segments are read from S3 at the same time for the head of a file."""

NEEDS_START = f"start: a time is needed, and end; allowed: {EXAMPLES}"
SLATE_ADVICE = "; a slate fits that the publisher's encoder has made with the same settings"
NOT_OVER = "a clip is made once all of the span has come: give an end in the past"


class ClipChangesError(Exception):
    """The codec parameters change within the span.

    Attributes:
        stretches: the stretches in which they stay the same.
    """

    def __init__(self, stretches: Sequence[UniformStretch]) -> None:
        super().__init__(stretches[1].change)
        self.stretches = stretches


@dataclass(frozen=True, slots=True)
class ClipMovie:
    """The MP4 of a span.

    Attributes:
        etag: the entity-tag with its quotes, which is the same on every node.
    """

    head: bytes
    layout: MovieLayout
    etag: str

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return len(self.head) + self.layout.nbytes


class ClipRequest(Struct, frozen=True, gc=False):
    """A request for a span of the past as one file.

    Attributes:
        renditions: the picture and the sound of the file, by name.
        bounds: dates between which it is shown.
    """

    request: Request
    address: LiveAddress
    stream: LiveStream
    renditions: Mapping[str, Rendition]
    past: PastWindow
    bounds: ShownSpan

    @property
    def key(self) -> tuple[object, ...]:
        """The facts that determine the file."""
        # A segment that isn't stored yet may become a gap.
        segments = ((name, one) for name, listed in self.past.segments.items() for one in listed)
        pending = [(name, one.number) for name, one in segments if not one.gap and one.stored is None]
        # Of a span in which the clock was set back, there may be fewer later.
        count = len(next(iter(self.past.segments.values())))
        numbers = self.past.first.number, self.past.last.number, count
        return self.stream.name, tuple(self.renditions), self.bounds, numbers, tuple(pending)

    def make(self, stored: StoredSegments) -> ClipMovie:
        """Make the head of the file. Blocks for a while.

        Raises:
            ClipChangesError: the span can't be one file.
            MediaError: a segment is damaged, or nothing is shown.
            NotFoundError: a segment was removed.
            OSError: a segment can't be read now.
        """
        first, *others = split(without_common_gaps(self.past.segments), "this time")
        if others:
            raise ClipChangesError([first, *others])
        layout = lay_out(first.listed)
        # S3 takes its time for each segment, and a disk takes none.
        at_once = S3_READS if stored.has_bucket else 1
        reading = SegmentFiles(self.renditions, stored, past_of(self.stream, self.renditions, stored)).reading
        head = make_head(first.listed, reading, self.bounds, at_once)
        names = (self.stream.name, *first.listed, *map(_stored_by, first.listed.values()))
        digest = hashlib.sha256(head + layout.numbers.tobytes() + repr(names).encode()).hexdigest()
        size = len(head) + layout.size
        return ClipMovie(head, layout, f'"{digest[:24]}-{size:x}"')

    async def reply(self, movie: ClipMovie, stored: StoredSegments) -> Reply:
        """Return the reply with the file.

        Raises:
            OSError: its first bytes can't be read.
        """
        has_picture = any(self.renditions[name].video for name in movie.layout.names)
        media_type = "video/mp4" if has_picture else "audio/mp4"
        if is_settled(self.stream, self.past, self.bounds.end):
            caching = f"public, max-age={IMMUTABLE_SECONDS}, immutable"
        else:
            caching = f"public, max-age={max(self.stream.target_duration // 2, 1)}"
        size = len(movie.head) + movie.layout.size
        described = RepresentationMetadata(size, media_type, movie.etag, float(floor(self.bounds.end)))
        segments = SegmentFiles(self.renditions, stored, past_of(self.stream, self.renditions, stored))
        threads = stored.threads.of(network_of(self.request.client))
        source = MovieSource((MemoryFile(movie.head), movie.layout), segments.locate, threads=threads)
        return await movie_reply(self.request, source, described, caching, self._file_name)

    @property
    def _file_name(self) -> str:
        """A name that says channel, date and length."""
        start = datetime.fromtimestamp(floor(self.bounds.start), UTC)
        seconds = max(round(self.bounds.end - self.bounds.start), 1)
        ending = self.address.name.rpartition(".")[2]
        return f"{self.stream.name}-{start:%Y%m%dT%H%M%SZ}-{seconds}s.{ending}"

    def changes(self, error: ClipChangesError) -> Reply:
        """Return the refusal of a span that can't be one file, with the addresses of those that can."""
        start, end = self.bounds.start, self.bounds.end
        has_slate = any(map(_begins_with_slate, error.stretches))
        lines = [f"{error}{SLATE_ADVICE * has_slate}; each of these is one file:"]
        # Media that was sent a little early ends, by its date, behind the beginning of the next publication.
        ends = [*(one.start for one in error.stretches[1:]), end]
        for one, begins_next in zip(error.stretches, ends, strict=True):
            bounds = {
                "start": written(max(start, one.start), up=True),
                "end": written(min(end, one.end, begins_next)),
            }
            lines.append(self.address.name + query_of(self.address, {**bounds, **_chosen(self.address)}))
        return refusal(self.request, 409, self.stream.target_duration, "\n".join(lines))


def _begins_with_slate(stretch: UniformStretch) -> bool:
    """Return whether the first segment of any rendition is the channel's slate."""
    firsts = (next((one for one in each if one.timeline), None) for each in stretch.listed.values())
    return any(one is not None and one.timeline is not None and one.timeline.is_slate for one in firsts)


def _stored_by(segments: Sequence[LiveSegment]) -> tuple[int, ...]:
    return tuple(0 if one.stored is None else one.stored.stored_by for one in segments)


def _chosen(address: LiveAddress) -> dict[str, str]:
    """Return the query parameter that chooses the rendition."""
    return {"rendition": address.chosen} if address.chosen else {}


class ClipSpan(NamedTuple):
    """A request for a span as one file, the dates of its bounds, and the renditions of the file."""

    request: Request
    address: LiveAddress
    stream: LiveStream
    bounds: Bounds
    renditions: Mapping[str, Rendition]


class ClipReplies:
    """Decides requests for spans of the past as one file.

    Args:
        stored: opens segments that have left memory.
        most_hours: longest span.
    """

    def __init__(self, stored: StoredSegments, most_hours: float) -> None:
        self._stored = stored
        self._most_hours = most_hours
        self._heads = SingleFlightCache[tuple[object, ...], ClipMovie](HEADS, lambda movie: movie.nbytes)
        # Anybody may vary the bounds at will, so networks take turns.
        self._turns = FairSemaphore(AT_ONCE, 1, MOST_WAITING, REST)
        self._reading = FairSemaphore(AT_ONCE, 1, MOST_WAITING, REST)

    def decide(self, request: Request, address: LiveAddress, stream: LiveStream) -> Outcome:
        """Decide a request, once the channel has segments."""
        if address.error:
            return refusal(request, 400, stream.target_duration, address.error)
        if address.span is None or address.span.start is None:
            return refusal(request, 400, stream.target_duration, NEEDS_START)
        return wait_for_past(request, stream, lambda: self._decide(request, address, stream))

    def _decide(self, request: Request, address: LiveAddress, stream: LiveStream) -> Outcome:
        span, target_duration = address.span or Span(None, None), stream.target_duration
        bounds = read_bounds(request, span, stream, self._most_hours, "limits.clip_hours")
        if isinstance(bounds, Reply):
            return bounds
        choices = _choices(address, stream)
        if not choices:
            offered = ", ".join(one.name for one in stream.renditions.values() if one.language is None)
            reason = f"rendition: there is none of this name; allowed: {offered}"
            return refusal(request, 404, target_duration, reason)
        asked = ClipSpan(request, address, stream, bounds, choices[0])
        if self._earlier(asked).has(bounds.start):
            return PendingTask(self._with_earlier(asked, choices))
        found = ((one, past_window(one, *bounds)) for one in choices)
        renditions, past = next((pair for pair in found if _is_played(*pair)), (choices[0], None))
        outcome = self._answer(asked._replace(renditions=renditions), past)
        return PendingTask(self._reply(outcome)) if isinstance(outcome, ClipRequest) else outcome

    def _earlier(self, asked: ClipSpan) -> EarlierSegments:
        past = past_of(asked.stream, asked.renditions, self._stored)
        return EarlierSegments(asked.renditions, past, client=network_of(asked.request.client))

    async def _with_earlier(self, asked: ClipSpan, choices: Sequence[Mapping[str, Rendition]]) -> Reply:
        """Reply with a span that begins before the playlists do."""
        try:
            async with self._reading.held(network_of(asked.request.client)):
                for renditions in choices:
                    tried = asked._replace(renditions=renditions)
                    past = await self._earlier(tried).window(*asked.bounds)
                    if _is_played(renditions, past):
                        break
                else:
                    past = None
        except TooManyWaitingError:
            return refusal(asked.request, 503, 0, retry_after=asked.stream.target_duration)
        except OSError as error:
            return unreadable(asked.request, asked.stream.name, error)
        outcome = self._answer(tried, past)
        return await self._reply(outcome) if isinstance(outcome, ClipRequest) else outcome

    def _answer(self, asked: ClipSpan, past: PastWindow | None) -> Reply | ClipRequest:
        """Return the reply, or the request of which the file is still to be made."""
        request, address, stream, bounds, renditions = asked
        span, target_duration = address.span or Span(None, None), stream.target_duration
        if past is None:
            return nothing_of(request, bounds, stream)
        if is_refused(address, span, past):
            return refusal(request, 404, target_duration, kept_from(past))
        # A file doesn't change between two ranges: its beginning is one that the channel still has.
        if is_relative(span) or bounds.end is None or past.is_cut:
            query = dated(span, bounds, past)
            if span.end is None or (span.end.is_relative and not past.is_whole):
                query["end"] = written(past.behind)
            return redirection(address, {**query, **_chosen(address)}, max(target_duration // 2, 1), past)
        if not past.is_whole:
            return refusal(request, 404, target_duration, NOT_OVER)
        shown = ShownSpan(bounds.start, bounds.end)
        return ClipRequest(request, address, stream, renditions, past, shown)

    async def _reply(self, asked: ClipRequest) -> Reply:
        request, later = asked.request, asked.stream.target_duration
        try:
            with ReaderGuard(asked.stream.name):
                movie = await self._movie(asked)
            return await asked.reply(movie, self._stored)
        except TooManyWaitingError:
            return refusal(request, 503, 0, retry_after=later)
        except ClipChangesError as error:
            return asked.changes(error)
        except (MediaError, NotFoundError) as error:
            return refusal(request, 404, later, str(error))
        except (OSError, TruncatedFileError) as error:
            log.warning("segments of a clip can't be read", channel=asked.stream.name, reason=str(error))
            return refusal(request, 503, 0, retry_after=READING_RETRY_SECONDS)

    async def _movie(self, asked: ClipRequest) -> ClipMovie:
        """Return the file's head, from the cache or made in a thread."""
        key = asked.key
        movie = self._heads.find(key)
        if movie is None:
            network = network_of(asked.request.client)
            async with self._turns.held(network):
                make = functools.partial(asked.make, self._stored)
                movie = await self._stored.threads.of(network, key).run(self._heads.get, key, make)
        return movie


def _choices(address: LiveAddress, stream: LiveStream) -> list[dict[str, Rendition]]:
    """Return what a clip may show, the best first: a picture and the sound beside it; nothing without any.

    A rendition that was added since has nothing of the span, and then the next one is shown.
    """
    media = [one for one in stream.renditions.values() if one.language is None]
    sound = [one for one in media if not one.video]
    if address.name == SOUND_CLIP:
        media = sound
    named = [one for one in media if one.name == address.chosen]
    pictures = [one for one in variant_renditions(media) if one.video]
    leading = named if address.chosen else pictures or variant_renditions(media)[:1]
    shown = [(one, *sound[:1]) if one.video else (one,) for one in leading]
    return [{one.name: one for one in each} for each in shown]


def _is_played(renditions: Mapping[str, Rendition], past: PastWindow | None) -> bool:
    """Return whether the first rendition has more than gaps in a span."""
    return past is not None and any(not one.gap for one in past.segments[next(iter(renditions))])

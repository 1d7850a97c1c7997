"""Live channels over HTTP: playlists that wait for what is asked of them, init segments, segments, parts."""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from media.dash import mpd
from media.hls.media_playlist import MEDIA_TYPE
from media.hls.precompressed_text import Pieces
from media.mp4 import wvtt
from origin.access.authentication import client_address
from origin.http.client_limits import RETRY_SECONDS, UNLIMITED, ClientLimit, TooManyError
from origin.live.dash_captions import is_dash_captions, render_dash_captions
from origin.live.directives import CARRIED, DirectiveError
from origin.live.dvr_segments import StoredSegments, media_tag
from origin.live.part_waits import (
    OpenSegmentResponse,
    is_due,
    wait_for_bytes,
    wait_for_first_part,
    wait_for_part,
)
from origin.live.playlist_request import (
    Reload,
    has_begun_by_the_clock,
    may_be_elsewhere,
    not_found_max_age,
    read_query,
    refusal_max_age,
)
from origin.live.rendition_file_names import (
    RenditionFile,
    RenditionFileKind,
    cache_control,
    media_type,
    read_name,
)
from origin.responses.media_responses import RequestTraits, media_response, text_response
from origin.responses.refusal import ABSENT_LIVE_SECONDS, OPENING_RETRY_SECONDS, plain_refusal
from origin.responses.representation import RepresentationResponse
from packager.publish.hls import RenderingError
from packager.publish.live_stream import LiveStream
from packager.window.model import MEDIA_EXTENSION, StoredSegment
from packager.window.rendition import Rendition
from packager.window.waiters import TooManyWaitersError
from packager.window.window import Window

log = structlog.get_logger()

Endpoint = Callable[[Request], Awaitable[Response]]

Recorded = Callable[[str, str, str, int], Awaitable[Response | None]]
"""Answers with a file of a recorded event: of a channel, a rendition, a name in its folder, and the media
sequence number which that stands for; None where it is in no recording."""

OVER = "the event is over; /api/live lists its recordings"


async def _never_recorded(_: str, __: str, ___: str, ____: int) -> None:
    """Nothing is recorded."""


MayCome = Callable[[str], bool]
"""Returns whether a channel of this name, which isn't served here, may be soon."""


def _never_comes(_: str) -> bool:
    return False


def routes(
    streams: Mapping[str, LiveStream],
    carried: tuple[str, ...] = CARRIED,
    blocked: ClientLimit = UNLIMITED,
    recorded: Recorded = _never_recorded,
    stored_segments: StoredSegments | None = None,
    may_come: MayCome = _never_comes,
) -> list[BaseRoute]:
    """Make the routes of live playlists, manifests and media.

    Args:
        streams: by name; may change while serving.
        carried: names of the query parameters that go onto the addresses in playlists.
        blocked: how many requests of one client may wait at once.
        recorded: answers for segments that have left the windows.
        stored_segments: reads those that have left memory; None: from this machine's disk.
        may_come: tells whether an unknown channel may be one that other nodes serve already.
    """
    endpoints = _Live(streams, carried, recorded, stored_segments or StoredSegments(), may_come)

    def limited(endpoint: Endpoint) -> Endpoint:
        """Count who may have to wait; who needn't is among them for no longer than a moment."""

        async def answer(request: Request) -> Response:
            try:
                with contextlib.ExitStack() as held:
                    held.enter_context(blocked.held(client_address(request)))
                    response = await endpoint(request)
                    if isinstance(response, OpenSegmentResponse):
                        # It waits for parts while it is sent.
                        response.held = held.pop_all()
                    return response
            except TooManyError:
                return refusal(429, 0, retry_after=RETRY_SECONDS)

        return answer

    return [
        Route("/live/{channel}/master.m3u8", limited(endpoints.multivariant_playlist)),
        Route("/live/{channel}/manifest.mpd", limited(endpoints.manifest)),
        Route("/live/{channel}/{rendition}/media.m3u8", limited(endpoints.media_playlist)),
        Route("/live/{channel}/{rendition}/{name}", limited(endpoints.media)),
        Route("/api/time", time_of_day),
    ]


class _Live:
    def __init__(
        self,
        streams: Mapping[str, LiveStream],
        carried: tuple[str, ...],
        recorded: Recorded,
        stored_segments: StoredSegments,
        may_come: MayCome,
    ) -> None:
        self._streams = streams
        self._may_come = may_come
        self._carried = carried
        self._recorded = recorded
        self._stored_segments = stored_segments

    async def multivariant_playlist(self, request: Request) -> Response:
        async def render(asked: RequestTraits, stream: LiveStream, suffix: str) -> Response:
            data = stream.presentation.multivariant(suffix)
            return _playlist(asked, (data,), stream.target_duration)

        return await self._whole(request, render)

    async def manifest(self, request: Request) -> Response:
        async def render(asked: RequestTraits, stream: LiveStream, suffix: str) -> Response:
            if not stream.cadence.regular:
                # ISO/IEC 23009-1 §5.3.9.5.3: numbers alone tell a segment's time only where all are as long.
                return refusal(404, ABSENT_LIVE_SECONDS, "no DASH: the source's key frames come irregularly")
            for _ in stream.presentation.manifest_in_steps(stream.wall_clock()):
                await asyncio.sleep(0)
            pieces = stream.presentation.manifest_pieces(stream.wall_clock(), suffix)
            return _playlist(asked, pieces, max(stream.target_duration // 2, 1), mpd.MEDIA_TYPE)

        return await self._whole(request, render)

    async def _whole(
        self, request: Request, render: Callable[[RequestTraits, LiveStream, str], Awaitable[Response]]
    ) -> Response:
        """Answer with what describes a whole channel, as soon as there is something to play."""
        stream = self._streams.get(request.path_params["channel"])
        if stream is None:
            return self._answer_unknown(request)
        if stream.is_withdrawn:
            return refusal(404, stream.target_duration, OVER)
        asked = _note_viewer(request, stream)
        target_duration = stream.target_duration
        try:
            wanted = read_query(request.scope["query_string"], self._carried)
            there = await _wait_until_ready(stream)
        except DirectiveError as error:
            return refusal(400, target_duration, str(error))
        except TooManyWaitersError:
            there = False
        if not there:
            return refusal(503, target_duration, retry_after=target_duration)
        try:
            return await render(asked, stream, wanted.suffix)
        except RenderingError:
            return refusal(500, 0)

    async def media_playlist(self, request: Request) -> Response:
        stream, rendition = self._find(request)
        if stream is None:
            return self._answer_unknown(request)
        query, target_duration = request.scope["query_string"], stream.target_duration
        if rendition is None:
            return refusal(404, refusal_max_age(query, target_duration))
        if stream.is_withdrawn:
            return refusal(404, refusal_max_age(query, target_duration), OVER)
        asked = _note_viewer(request, stream)
        try:
            reload = Reload(stream, rendition, read_query(query, self._carried))
        except DirectiveError as error:
            return refusal(400, refusal_max_age(query, target_duration), str(error))
        try:
            if there := await _wait_until_ready(stream):
                # Its windows may have been replaced meanwhile.
                reload = reload._replace(rendition=stream.renditions[rendition.name])
                there = await _wait_for_playlist(reload)
        except DirectiveError as error:
            return refusal(400, reload.too_early_max_age, str(error))
        except TooManyWaitersError:
            there = False
        if not there:
            return refusal(503, reload.error_max_age, retry_after=stream.target_duration)
        try:
            return _playlist(asked, reload.render(), reload.max_age)
        except RenderingError:
            return refusal(500, 0)

    async def media(self, request: Request) -> Response:
        stream, rendition = self._find(request)
        if stream is None:
            return self._answer_unknown(request)
        if rendition is None:
            return refusal(404, stream.target_duration)
        if _is_starting(stream, rendition.window):
            # What a start finds in its folder is listed where players look: it isn't unknown before that.
            with contextlib.suppress(TooManyWaitersError):
                await _wait_until_ready(stream)
            rendition = stream.renditions[rendition.name]
        if not await _has_bytes(stream, rendition.window, read_name(request.path_params["name"])):
            return refusal(503, 0, retry_after=stream.target_duration)
        return await self._answer_file(request, stream, rendition)

    async def _answer_file(self, request: Request, stream: LiveStream, rendition: Rendition) -> Response:
        """Answer with what a name in a rendition's folder stands for."""
        name: str = request.path_params["name"]
        window, target_duration = rendition.window, stream.target_duration
        if is_dash_captions(read_name(name), rendition):
            return await self._answer_dash_captions(name, stream, rendition)
        named, text = read_name(name).of(window), rendition.language is not None
        data = named.in_memory(window)
        try:
            if data is None and named.kind is RenditionFileKind.SEGMENT:
                if stored := window.stored(named.number):
                    return await self._answer_stored(stored, name, rendition, target_duration)
                # A text's segment isn't its parts in a row: it is there when it is complete.
                if not text and await wait_for_first_part(stream, window, named.number):
                    return OpenSegmentResponse(
                        window, named.number, media_type(rendition), cache_control(window)
                    )
            elif data is None and named.kind is RenditionFileKind.PART:
                if stored := window.stored(named.number):
                    # Nor are its parts in it: they are gone with the segment's place in memory.
                    data = None if text else await self._stored_segments.read_part(stored, named.index)
                else:
                    elsewhere = may_be_elsewhere(stream, window, named.number, named.index)
                    data = await wait_for_part(window, named.number, named.index, elsewhere=elsewhere)
            if data is None and (answer := await self._find_recorded(stream, rendition, name)) is not None:
                return answer
        except TooManyWaitersError:
            return refusal(503, target_duration, retry_after=target_duration)
        except OSError as error:
            # RFC 9110 §15.6.4: what is there isn't unknown because it can't be opened now.
            log.debug("a segment can't be opened", stream=stream.name, name=name, reason=error.strerror)
            return refusal(503, 0, retry_after=OPENING_RETRY_SECONDS)
        if data is None:
            return _answer_missing(name, named, stream, rendition)
        tag, kind = media_tag(name, len(data)), media_type(rendition)
        if text:
            coded = RequestTraits.from_headers(request.scope["headers"]).takes_gzip
            return text_response((bytes(data),), kind, int(window.retention), coded=coded, immutable_tag=tag)
        return media_response(data, kind, tag, cache_control(window))

    async def _answer_dash_captions(self, name: str, stream: LiveStream, rendition: Rendition) -> Response:
        """Answer with captions for DASH."""
        named, window, target_duration = read_name(name), rendition.window, stream.target_duration
        try:
            data = await render_dash_captions(named, stream, rendition, self._stored_segments)
        except TooManyWaitersError:
            return refusal(503, target_duration, retry_after=target_duration)
        except OSError:
            return refusal(503, 0, retry_after=OPENING_RETRY_SECONDS)
        if data is None:
            return _answer_missing(name, named, stream, rendition)
        return media_response(data, wvtt.MEDIA_TYPE, media_tag(name, len(data)), cache_control(window))

    async def _answer_stored(
        self, stored: tuple[str, StoredSegment], name: str, rendition: Rendition, target_duration: int
    ) -> Response:
        """Answer with a segment that has left memory, as it was answered from there."""
        representation = await self._stored_segments.open(stored, name, media_type(rendition))
        if representation is None:
            return refusal(404, target_duration)
        return RepresentationResponse(representation, cache_control=cache_control(rendition.window))

    async def _find_recorded(self, stream: LiveStream, rendition: Rendition, name: str) -> Response | None:
        """Answer with a segment of an event that was recorded: its live address stays good (§6.2.2)."""
        named = read_name(name)
        if named.kind not in (RenditionFileKind.INIT, RenditionFileKind.SEGMENT):
            return None
        return await self._recorded(stream.name, rendition.name, name, named.number)

    def _answer_unknown(self, request: Request) -> Response:
        """Answer for a channel that isn't here: there is none, or the node wasn't told of it yet."""
        if self._may_come(request.path_params["channel"]):
            return refusal(503, 0, retry_after=ABSENT_LIVE_SECONDS)
        return refusal(404, ABSENT_LIVE_SECONDS)

    def _find(self, request: Request) -> tuple[LiveStream | None, Rendition | None]:
        stream = self._streams.get(request.path_params["channel"])
        rendition = None if stream is None else stream.renditions.get(request.path_params["rendition"])
        return stream, rendition


def _answer_missing(name: str, named: RenditionFile, stream: LiveStream, rendition: Rendition) -> Response:
    """Answer for what isn't there: it never came, or hasn't come in time, or is none of ours."""
    window, target_duration = rendition.window, stream.target_duration
    if named.kind is not RenditionFileKind.NOTHING and _is_starting(stream, window):
        # Its folder may have it.
        return refusal(503, 0, retry_after=target_duration)
    if named.kind is RenditionFileKind.SEGMENT and named.extension == MEDIA_EXTENSION:
        if is_due(stream, window, named.number) or has_begun_by_the_clock(stream, window, named.number):
            # A period without an end names what is due, however late it is: an unknown one it isn't.
            return refusal(503, 0, retry_after=target_duration)
        now = stream.wall_clock()
        if (nothing := stream.presentation.lost_segment(rendition.name, named.number, now)) is not None:
            # By numbers and a clock players can't see that there is a gap (ISO/IEC 23009-1 §5.3.9.5.3).
            kept = f"public, max-age={target_duration}"
            return media_response(nothing, media_type(rendition), media_tag(name, len(nothing)), kept)
    if named.kind is not RenditionFileKind.NOTHING and may_be_elsewhere(
        stream, window, named.number, named.index
    ):
        # RFC 9110 §15.6.4: it exists, and isn't here yet; who asks another process gets it.
        return refusal(503, 0, retry_after=target_duration)
    return refusal(404, not_found_max_age(named.number, stream, window, target_duration))


def _is_starting(stream: LiveStream, window: Window) -> bool:
    """Return whether a channel still looks what there is in its folder."""
    return stream.restores and not stream.ready and not window.ended and not window.waiters.closed


async def _has_bytes(stream: LiveStream, window: Window, named: RenditionFile) -> bool:
    """Wait for the bytes of a file that is listed without them, here or where the channel is made.

    Returns:
        False where they don't come in time, or too many wait already.
    """
    try:
        if named.kind is RenditionFileKind.INIT and window.init(named.number) is None:
            if may_be_elsewhere(stream, window, named.number):
                # It comes with its first part; who asked another process for the playlist knows its name.
                await wait_for_part(window, named.number, 0, elsewhere=True)
            return True
        is_media = named.kind in (RenditionFileKind.SEGMENT, RenditionFileKind.PART)
        return not (is_media and window.awaits(named.number)) or await wait_for_bytes(window, named.number)
    except TooManyWaitersError:
        return False


async def _wait_until_ready(stream: LiveStream) -> bool:
    """Wait for the first segment of every rendition; False when it doesn't come in time."""
    if not stream.ready and stream.commands.is_postponed():
        return False
    limits = next(iter(stream.renditions.values())).window.waiters.limits
    deadline = time.monotonic() + limits.blocked_target_durations * stream.target_duration
    # A start looks at its source and its folder first, and then goes on with other windows.
    while not stream.ready and (left := deadline - time.monotonic()) > 0:
        windows = (rendition.window for rendition in stream.renditions.values())
        lacking = next(window for window in windows if not window.has_segments())
        if lacking.waiters.closed:
            return False
        await lacking.waiters.wait(lacking.has_segments, left)
    return stream.ready


async def _wait_for_playlist(reload: Reload) -> bool:
    """Wait for what the directives ask for (§6.2.5.2); False when it doesn't come in time."""
    reload.check()
    waiters = reload.rendition.window.waiters
    return await waiters.wait(reload.has_come, reload.longest_wait, reload.key)


async def time_of_day(_: Request) -> Response:
    """Answer with the time of this machine's clock, as ISO 8601 text (ISO/IEC 23009-1 §5.8.5.7)."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return PlainTextResponse(f"{now}Z", headers={"cache-control": "no-store"})


def _note_viewer(request: Request, stream: LiveStream) -> RequestTraits:
    asked, client = RequestTraits.from_headers(request.scope["headers"]), request.scope.get("client")
    stream.viewer_counter.note((client[0] if client else "", zlib.crc32(asked.agent)), time.monotonic())
    return asked


def _playlist(asked: RequestTraits, text: Pieces, max_age: int, media_type: str = MEDIA_TYPE) -> Response:
    return text_response(text, media_type, max_age, coded=asked.takes_gzip)


def refusal(status: int, max_age: int, text: str = "", *, retry_after: int | None = None) -> Response:
    """Make the response that says that there is nothing, or nothing yet, and for how long that is so.

    Args:
        status: 400, 404, 429, 500 or 503.
        max_age: seconds for which caches may keep that; 0: not at all.
        text: the reason; empty for the status's own phrase.
        retry_after: seconds after which asking again is worthwhile.
    """
    headers = {"cache-control": f"public, max-age={max_age}" if max_age else "no-store"}
    if retry_after is not None:
        # RFC 9110 §10.2.3: who comes earlier gets this answer again, from a cache that keeps it.
        headers["retry-after"] = str(max(retry_after, max_age))
    return plain_refusal(status, text, headers)

"""Live channels over HTTP: playlists that wait for what is asked of them, init segments, segments, parts."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from media import mpd
from media.m3u8 import MEDIA_TYPE
from origin import directives
from origin.directives import DirectiveError, Directives
from origin.growing import LONGEST_BLOCK, GrowingSegment, begun, hinted_part
from origin.prepared import Asked, media_response, text_response
from origin.recordings import recorded
from origin.representation import RepresentationResponse
from origin.stored import media_tag, open_segment, read_part
from packager.live import Channel
from packager.presentation import Rendition
from packager.storage import NotFoundError
from packager.waiters import TooManyWaitersError
from packager.window import Stored, Window

NOT_FOUND_SECONDS = 2
"""For how long caches may keep the answer that there is no such channel."""

QUERIES_KEPT = 256
"""How many query strings are kept with what they ask for."""

_NUMBER = r"(0|[1-9][0-9]{0,14})"
_INIT = re.compile(rf"init-{_NUMBER}\.mp4")
_SEGMENT = re.compile(rf"{_NUMBER}\.m4s")
_PART = re.compile(rf"{_NUMBER}\.{_NUMBER}\.m4s")


def routes(channels: Mapping[str, Channel]) -> list[BaseRoute]:
    """The routes of this wing.

    Args:
        channels: by name; may change while serving.
    """
    wing = _Live(channels)
    return [
        Route("/live/{channel}/master.m3u8", wing.multivariant_playlist),
        Route("/live/{channel}/manifest.mpd", wing.manifest),
        Route("/live/{channel}/{rendition}/media.m3u8", wing.media_playlist),
        Route("/live/{channel}/{rendition}/{name}", wing.media),
        Route("/api/time", time_of_day),
    ]


class Front:
    """ASGI middleware that takes the requests of which there are most past the router: playlists and media.

    A part releases a thousand requests at once, and each layer between them and the connection costs time.

    Args:
        app: what answers everything else.
        channels: by name; may change while serving.
    """

    def __init__(self, app: ASGIApp, channels: Mapping[str, Channel]) -> None:
        self._app = app
        self._live = _Live(channels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        path = scope["path"].split("/") if scope["type"] == "http" else []
        if len(path) != 5 or path[1] != "live" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        scope["path_params"] = {"channel": path[2], "rendition": path[3], "name": path[4]}
        endpoint = self._live.media_playlist if path[4] == "media.m3u8" else self._live.media
        response = await endpoint(Request(scope))
        await response(scope, receive, send)


class _Live:
    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = channels

    async def multivariant_playlist(self, request: Request) -> Response:
        def render(asked: Asked, channel: Channel, suffix: str) -> Response:
            data = channel.presentation.multivariant(suffix)
            return _playlist(asked, data, channel.target_duration)

        return await self._whole(request, render)

    async def manifest(self, request: Request) -> Response:
        def render(asked: Asked, channel: Channel, suffix: str) -> Response:
            if not channel.cadence.regular:
                # ISO/IEC 23009-1 §5.3.9.5.3: numbers alone tell a segment's time only where all are as long.
                return _refusal(404, NOT_FOUND_SECONDS, "no DASH: the source's key frames come irregularly")
            data = channel.presentation.manifest(time.time(), suffix)
            return _playlist(asked, data, max(channel.target_duration // 2, 1), mpd.MEDIA_TYPE)

        return await self._whole(request, render)

    async def _whole(self, request: Request, render: Callable[[Asked, Channel, str], Response]) -> Response:
        """Answer with what describes a whole channel, as soon as there is something to play."""
        channel = self._channels.get(request.path_params["channel"])
        if channel is None:
            return _refusal(404, NOT_FOUND_SECONDS)
        asked = _note_viewer(request, channel)
        target_duration = channel.target_duration
        try:
            wanted = _wanted(request.scope["query_string"])
            there = await _until_ready(channel)
        except DirectiveError as error:
            return _refusal(400, target_duration, str(error))
        except TooManyWaitersError:
            there = False
        if not there:
            return _refusal(503, target_duration, retry_after=target_duration)
        return render(asked, channel, wanted.suffix)

    async def media_playlist(self, request: Request) -> Response:
        channel, rendition = self._find(request)
        if channel is None or rendition is None:
            return _refusal(404, NOT_FOUND_SECONDS)
        asked = _note_viewer(request, channel)
        target_duration = channel.target_duration
        try:
            wanted = _wanted(request.scope["query_string"])
        except DirectiveError as error:
            return _refusal(400, target_duration, str(error))
        # Appendix B: with a directive, errors keep for four target durations, playlists for six.
        kept = target_duration if wanted.number is None else 4 * target_duration
        try:
            there = await _until_ready(channel) and await _until_reached(channel, rendition.window, wanted)
        except DirectiveError as error:
            early = (wanted.number or 0) - directives.MAX_AHEAD
            return _refusal(400, _kept_until(early, channel, rendition.window, kept), str(error))
        except TooManyWaitersError:
            there = False
        if not there:
            return _refusal(503, kept, retry_after=target_duration)
        data = channel.presentation.media(
            rendition.name,
            skip=wanted.skip,
            skip_date_ranges=wanted.skip_date_ranges,
            suffix=wanted.suffix,
        )
        max_age = target_duration // 2 if wanted.number is None else 6 * target_duration
        return _playlist(asked, data, max(max_age, 1))

    async def media(self, request: Request) -> Response:
        channel, rendition = self._find(request)
        if channel is None or rendition is None:
            return _refusal(404, NOT_FOUND_SECONDS)
        name: str = request.path_params["name"]
        window, target_duration = rendition.window, channel.target_duration
        media_type = "video/mp4" if rendition.video else "audio/mp4"
        cache_control = f"public, max-age={int(window.retention)}, immutable"
        data: bytes | memoryview | None = None
        number = -1
        try:
            if found := _INIT.fullmatch(name):
                number = int(found[1])
                data = window.init(number)
            elif found := _SEGMENT.fullmatch(name):
                number = int(found[1])
                data = window.segment(number)
                if data is None and (stored := window.stored(number)):
                    return await _from_disk(stored, name, media_type, cache_control, target_duration)
                if data is None and await begun(window, number, target_duration):
                    return GrowingSegment(window, number, media_type, cache_control, target_duration)
            elif found := _PART.fullmatch(name):
                number, index = int(found[1]), int(found[2])
                if (stored := window.stored(number)) and window.part(number, index) is None:
                    data = await read_part(stored, index)
                else:
                    data = await hinted_part(window, number, index, target_duration)
        except TooManyWaitersError:
            return _refusal(503, target_duration, retry_after=target_duration)
        if data is None and (answer := await _recorded(channel, rendition, name, number)) is not None:
            return answer
        if data is None:
            return _refusal(404, _kept_until(number, channel, window, target_duration))
        return media_response(Asked.by(request), data, media_type, media_tag(name, len(data)), cache_control)

    def _find(self, request: Request) -> tuple[Channel | None, Rendition | None]:
        channel = self._channels.get(request.path_params["channel"])
        rendition = None if channel is None else channel.renditions.get(request.path_params["rendition"])
        return channel, rendition


async def _recorded(channel: Channel, rendition: Rendition, name: str, number: int) -> Response | None:
    """Answer with a segment of an event that was recorded: its live address stays good (§6.2.2)."""
    recordings = channel.finale.recordings
    recording = None if recordings is None or number < 0 else recordings.having(number)
    if recording is None or _PART.fullmatch(name):
        return None
    try:
        return await recorded(recording, rendition.name, name)
    except (NotFoundError, OSError):
        return None


def _kept_until(number: int, channel: Channel, window: Window, most: int) -> int:
    """For how many seconds caches may keep that something isn't there: not until it may be.

    Args:
        number: media sequence number whose beginning makes the answer wrong; a past one never does.
        channel: the channel.
        window: the rendition's.
        most: the longest that it's worth keeping.
    """
    ahead = number - window.next_number
    if ahead < 0 or window.ended:
        return most
    # Segments of sources that break off are shorter; half of the time is always too early.
    return min(most, int((ahead - 1) * channel.cadence.segment_duration / 2)) if ahead else 0


async def _from_disk(
    stored: tuple[str, Stored], name: str, media_type: str, cache_control: str, target_duration: int
) -> Response:
    """Answer with a segment that has left memory, as it was answered from there."""
    representation = await open_segment(stored, name, media_type)
    if representation is None:
        return _refusal(404, target_duration)
    return RepresentationResponse(representation, cache_control=cache_control)


async def _until_ready(channel: Channel) -> bool:
    """Wait for the first segment of every rendition; False when it doesn't come in time."""
    if not channel.ready:
        deadline = time.monotonic() + LONGEST_BLOCK * channel.target_duration
        for rendition in channel.renditions.values():
            await rendition.window.waiters.wait(rendition.window.has_segments, deadline - time.monotonic())
    return channel.ready


async def _until_reached(channel: Channel, window: Window, wanted: Directives) -> bool:
    """Wait for what the directives ask for (§6.2.5.2); False when it doesn't come in time."""
    number, part = wanted.number, wanted.part
    if number is None or window.ended:  # §6.2.5.2: with EXT-X-ENDLIST the directives are ignored
        return True
    directives.check(wanted, window.last or (window.next_number - 1, 0), channel.cadence)
    return await window.waiters.wait(
        lambda: window.ended or window.reached(number, part),
        LONGEST_BLOCK * channel.target_duration,
        (number, part),
    )


async def time_of_day(_: Request) -> Response:
    """Tell players this clock's time, as ISO 8601 text (ISO/IEC 23009-1 §5.8.5.7)."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return PlainTextResponse(f"{now}Z", headers={"cache-control": "no-store"})


@functools.lru_cache(maxsize=QUERIES_KEPT)
def _wanted(query: bytes) -> Directives:
    """Read a query string; those of many players are the same."""
    return directives.parse(QueryParams(query).multi_items())


def _note_viewer(request: Request, channel: Channel) -> Asked:
    asked, client = Asked.by(request), request.scope.get("client")
    channel.audience.saw((client[0] if client else "", hash(asked.agent)), time.monotonic())
    return asked


def _playlist(asked: Asked, data: bytes, max_age: int, media_type: str = MEDIA_TYPE) -> Response:
    return text_response(asked, data, media_type, max_age, coded=asked.takes_gzip)


def _refusal(status: int, max_age: int, text: str = "", *, retry_after: int | None = None) -> Response:
    headers = {"cache-control": f"public, max-age={max_age}" if max_age else "no-store"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    known = {400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}
    return PlainTextResponse(f"{text or known[status]}\n", status, headers)

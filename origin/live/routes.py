"""Live channels over HTTP: playlists that wait for what is asked of them, init segments, segments, parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from media import mpd
from media.m3u8 import MEDIA_TYPE
from origin.live.directives import DirectiveError
from origin.live.growing import GrowingSegment, begun, hinted_part
from origin.live.names import Kind, cache_control, media_type, read_name
from origin.live.prepared import Asked, media_response, text_response
from origin.live.recordings import recorded
from origin.live.reload import LONGEST_BLOCK, Reload, kept_until, read_query
from origin.live.stored import media_tag, open_segment, read_part
from origin.representation import RepresentationResponse
from packager.live.channel import Channel
from packager.live.presentation import Rendition
from packager.live.waiters import TooManyWaitersError
from packager.live.window import Stored
from packager.storage import NotFoundError

NOT_FOUND_SECONDS = 2
"""For how long caches may keep the answer that there is no such channel."""


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
                return refusal(404, NOT_FOUND_SECONDS, "no DASH: the source's key frames come irregularly")
            data = channel.presentation.manifest(time.time(), suffix)
            return _playlist(asked, data, max(channel.target_duration // 2, 1), mpd.MEDIA_TYPE)

        return await self._whole(request, render)

    async def _whole(self, request: Request, render: Callable[[Asked, Channel, str], Response]) -> Response:
        """Answer with what describes a whole channel, as soon as there is something to play."""
        channel = self._channels.get(request.path_params["channel"])
        if channel is None:
            return refusal(404, NOT_FOUND_SECONDS)
        asked = _note_viewer(request, channel)
        target_duration = channel.target_duration
        try:
            wanted = read_query(request.scope["query_string"])
            there = await _until_ready(channel)
        except DirectiveError as error:
            return refusal(400, target_duration, str(error))
        except TooManyWaitersError:
            there = False
        if not there:
            return refusal(503, target_duration, retry_after=target_duration)
        return render(asked, channel, wanted.suffix)

    async def media_playlist(self, request: Request) -> Response:
        channel, rendition = self._find(request)
        if channel is None or rendition is None:
            return refusal(404, NOT_FOUND_SECONDS)
        asked = _note_viewer(request, channel)
        target_duration = channel.target_duration
        try:
            reload = Reload(channel, rendition, read_query(request.scope["query_string"]))
        except DirectiveError as error:
            return refusal(400, target_duration, str(error))
        try:
            there = await _until_ready(channel) and await _until_there(reload)
        except DirectiveError as error:
            return refusal(400, reload.too_early_seconds, str(error))
        except TooManyWaitersError:
            there = False
        if not there:
            return refusal(503, reload.error_seconds, retry_after=target_duration)
        return _playlist(asked, reload.render(), reload.max_age)

    async def media(self, request: Request) -> Response:
        channel, rendition = self._find(request)
        if channel is None or rendition is None:
            return refusal(404, NOT_FOUND_SECONDS)
        name: str = request.path_params["name"]
        window, target_duration = rendition.window, channel.target_duration
        named, text = read_name(name).of(window), rendition.language is not None
        data = named.in_memory(window)
        try:
            if data is None and named.kind is Kind.SEGMENT:
                if stored := window.stored(named.number):
                    return await _from_disk(stored, name, rendition, target_duration)
                # A text's segment isn't its parts in a row: it is there when it is complete.
                if not text and await begun(window, named.number):
                    return GrowingSegment(window, named.number, media_type(rendition), cache_control(window))
            elif data is None and named.kind is Kind.PART:
                if stored := window.stored(named.number):
                    data = await read_part(stored, named.index)
                else:
                    data = await hinted_part(window, named.number, named.index)
        except TooManyWaitersError:
            return refusal(503, target_duration, retry_after=target_duration)
        if data is None and (answer := await _recorded(channel, rendition, name)) is not None:
            return answer
        if data is None:
            return refusal(404, kept_until(named.number, channel, window, target_duration))
        tag, kind = media_tag(name, len(data)), media_type(rendition)
        if text:
            coded = Asked.by(request.scope["headers"]).takes_gzip
            return text_response(bytes(data), kind, int(window.retention), coded=coded, immutable_tag=tag)
        return media_response(data, kind, tag, cache_control(window))

    def _find(self, request: Request) -> tuple[Channel | None, Rendition | None]:
        channel = self._channels.get(request.path_params["channel"])
        rendition = None if channel is None else channel.renditions.get(request.path_params["rendition"])
        return channel, rendition


async def _recorded(channel: Channel, rendition: Rendition, name: str) -> Response | None:
    """Answer with a segment of an event that was recorded: its live address stays good (§6.2.2)."""
    recordings, named = channel.finale.recordings, read_name(name)
    recording = None
    if recordings is not None and named.kind in (Kind.INIT, Kind.SEGMENT):
        recording = recordings.having(named.number)
    if recording is None:
        return None
    try:
        return await recorded(recording, rendition.name, name)
    except (NotFoundError, OSError):
        return None


async def _from_disk(
    stored: tuple[str, Stored], name: str, rendition: Rendition, target_duration: int
) -> Response:
    """Answer with a segment that has left memory, as it was answered from there."""
    representation = await open_segment(stored, name, media_type(rendition))
    if representation is None:
        return refusal(404, target_duration)
    return RepresentationResponse(representation, cache_control=cache_control(rendition.window))


async def _until_ready(channel: Channel) -> bool:
    """Wait for the first segment of every rendition; False when it doesn't come in time."""
    if not channel.ready:
        deadline = time.monotonic() + LONGEST_BLOCK * channel.target_duration
        for rendition in channel.renditions.values():
            await rendition.window.waiters.wait(rendition.window.has_segments, deadline - time.monotonic())
    return channel.ready


async def _until_there(reload: Reload) -> bool:
    """Wait for what the directives ask for (§6.2.5.2); False when it doesn't come in time."""
    reload.check()
    waiters = reload.rendition.window.waiters
    return await waiters.wait(reload.has_come, reload.longest_wait, reload.awaited)


async def time_of_day(_: Request) -> Response:
    """Tell players this clock's time, as ISO 8601 text (ISO/IEC 23009-1 §5.8.5.7)."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return PlainTextResponse(f"{now}Z", headers={"cache-control": "no-store"})


def _note_viewer(request: Request, channel: Channel) -> Asked:
    asked, client = Asked.by(request.scope["headers"]), request.scope.get("client")
    channel.audience.saw((client[0] if client else "", hash(asked.agent)), time.monotonic())
    return asked


def _playlist(asked: Asked, data: bytes, max_age: int, media_type: str = MEDIA_TYPE) -> Response:
    return text_response(data, media_type, max_age, coded=asked.takes_gzip)


def refusal(status: int, max_age: int, text: str = "", *, retry_after: int | None = None) -> Response:
    """Answer that there is nothing, or nothing yet.

    Args:
        status: 400, 404 or 503.
        max_age: seconds for which caches may keep that; 0: not at all.
        text: says why.
        retry_after: seconds after which asking again is worthwhile.
    """
    headers = {"cache-control": f"public, max-age={max_age}" if max_age else "no-store"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    known = {400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}
    return PlainTextResponse(f"{text or known[status]}\n", status, headers)

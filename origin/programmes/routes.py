"""Programmes of a channel: ``PUT /live/NAME/programmes``, and ``/api/live/NAME/programmes``, their list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.authentication import client_address
from origin.access.policy import AccessPolicy
from origin.access.visible_items import VisibleItems
from origin.http.client_limits import network_of
from origin.live.limits import DEFAULT_LIMITS, PublishingLimits
from origin.live.requests.moments import MomentError, read_moment
from origin.programmes.bodies import read_guide, read_json
from origin.programmes.channel_programmes import ChannelProgrammes
from origin.responses.channel_route import CHANNEL
from origin.responses.json_response import UNCACHED, as_json
from origin.responses.list_pages import ListPage, is_descending
from origin.responses.refusal import STORAGE_RETRY, RefusalError, plain_refusal
from origin.responses.request_body import media_type_of, receive_body
from packager.past.programmes import LATEST, Programme
from packager.programmes.store import ProgrammeStore, TooManyProgrammesError
from packager.threads import SHARED_THREADS

JSON, GUIDES = "application/json", ("application/xml", "text/xml", "application/xmltv+xml")


def routes(
    programmes: ChannelProgrammes, access: AccessPolicy, limits: PublishingLimits = DEFAULT_LIMITS
) -> list[BaseRoute]:
    """Make the routes of programmes, which the administrator alone changes."""
    endpoint = ProgrammesEndpoint(programmes, access, limits)
    return [
        Route(f"/live/{CHANNEL}/programmes", endpoint.replace, methods=["PUT"]),
        Route(f"/api/live/{CHANNEL}/programmes", endpoint.list),
    ]


class ProgrammesEndpoint:
    """Answers requests for the lists of programmes."""

    def __init__(self, programmes: ChannelProgrammes, access: AccessPolicy, limits: PublishingLimits) -> None:
        self._limits = limits
        self._programmes = programmes
        self._access = access
        # A guide has as much memory as its text, some times over.
        self._reading = asyncio.Semaphore(2)

    async def replace(self, request: Request) -> Response:
        """Replace the programmes of a channel by those of a body, for the administrator."""
        await self._access.require_admin(request)
        channel = request.path_params["channel"]
        store = self._store(channel)
        if self._programmes.waits_for_data():
            raise RefusalError(503, "another server uses the data folder", STORAGE_RETRY)
        media_type = media_type_of(request)
        if media_type != JSON and media_type not in GUIDES:
            raise RefusalError(415, f"the body must be {JSON}, or XMLTV as {GUIDES[0]}")
        async with self._reading:
            data = await receive_body(request, self._limits.programmes_bytes)
            if media_type == JSON:
                found = await SHARED_THREADS.run(read_json, data)
            else:
                wanted = request.query_params.get("channel", channel)
                found = await SHARED_THREADS.run(read_guide, data, wanted, self._limits.guide)
            del data
            kept = self._programmes.recorded(channel)
            try:
                # A change that has begun is finished, though the client has left.
                stayed = await asyncio.shield(store.replace(found, kept))
            except TooManyProgrammesError as error:
                raise RefusalError(400, str(error)) from error
            except OSError as error:
                reason = f"programmes can't be kept: {error.strerror or error}"
                raise RefusalError(503, reason, STORAGE_RETRY) from error
        return as_json({"programmes": len(store.schedule), "unchanged": stayed})

    async def list(self, request: Request) -> Response:
        """List the programmes of a channel, or those that have a part of a span, in pages.

        Query parameters: ``start`` and ``end``, those of the span; ``order``, and those of `ListPage`.
        """
        channel = request.path_params["channel"]
        visible = await self._access.visible_to(request)
        if not visible.shows(f"/live/{channel}"):
            raise self._access.needs_token(request, f"/live/{channel}")
        store = self._store(channel)
        if not store.is_loaded:
            raise RefusalError(503, "the programmes aren't read yet", {"retry-after": "1"})
        try:
            start, end = (_bound(request, name, default) for name, default in (("start", 0), ("end", LATEST)))
        except MomentError as error:
            return plain_refusal(400, str(error), UNCACHED)
        page = ListPage.of(request.query_params, "start", "end", "order")
        listed = store.schedule.touching(start, end)
        if is_descending(request.query_params):
            listed = listed[::-1]
        shown, recorded = page.of_items(listed), self._programmes.recorded(channel)
        threads = SHARED_THREADS.of(network_of(client_address(request)))
        body = await threads.run(_written, shown, channel, recorded, visible)
        fields = page.fields(f"{visible.base}/api/live/{quote(channel)}/programmes", len(shown), len(listed))
        return Response(body, 200, {**UNCACHED, **fields}, "application/json")

    def _store(self, channel: str) -> ProgrammeStore:
        store = self._programmes.store(channel)
        if store is None:
            raise RefusalError(404, "Not Found")
        return store


def _bound(request: Request, name: str, default: int) -> int:
    """Read a bound of a span in milliseconds since the epoch.

    Raises:
        MomentError: it is no time.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return int(read_moment(text).at(Fraction(time.time())) * 1000)
    except MomentError as error:
        raise MomentError(f"{name}: {error}") from None


def _written(
    programmes: Sequence[Programme], channel: str, recorded: Mapping[str, str], visible: VisibleItems
) -> bytes:
    """Describe programmes for scripts and the page; of hundreds that takes a while."""
    now_ms = int(time.time() * 1000)
    may_play = visible.may_clip(f"/live/{channel}")
    described = [
        describe(one, channel, now_ms, recorded.get(one.id), may_play=may_play) for one in programmes
    ]
    return msgspec.json.encode(visible.based(described))


def describe(
    programme: Programme, channel: str, now_ms: int, recording: str | None, *, may_play: bool
) -> dict[str, object]:
    """Describe a programme.

    Args:
        now_ms: milliseconds since the epoch.
        recording: the ID of its recording; None without one.
        may_play: whether the client may fetch programmes, and gets their addresses.
    """
    has_begun, is_over = programme.start_ms <= now_ms, programme.end_ms <= now_ms
    base, query = f"/live/{quote(channel)}", f"?programme={quote(programme.id)}"
    return {
        "id": programme.id,
        "start": programme.start_ms / 1000,
        "end": programme.end_ms / 1000,
        "title": programme.title,
        "subtitle": programme.subtitle,
        "description": programme.description,
        "categories": programme.categories,
        "state": "past" if is_over else "running" if has_begun else "coming",
        "hls": f"{base}/master.m3u8{query}" if has_begun and may_play else None,
        "dash": f"{base}/manifest.mpd{query}" if is_over and may_play else None,
        "mp4": f"{base}/clip.mp4{query}" if is_over and may_play else None,
        "recording": recording,
    }

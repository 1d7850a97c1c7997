"""Routes of radio: ``/radio/NAME`` with ICY metadata, title events, and Icecast's status."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from media.mp3.icy import Interleaver
from origin.access.authentication import client_address
from origin.access.refusal_log import RefusalLog
from origin.events.admission import Admission
from origin.events.reading import EventReading
from origin.http.client_limits import UNLIMITED, ClientLimit, ClientLimits
from origin.http1.body_writer import STREAM, Stream, at_end, may_outlive, outlive, stay
from origin.radio.admin import Admin
from origin.radio.aliases import station_addresses, station_name
from origin.radio.connection_totals import ConnectionCounts
from origin.radio.mounts.broadcast import StationBroadcast
from origin.radio.mounts.limits import RadioLimits
from origin.radio.mounts.listener_media_time import TOKEN
from origin.radio.mounts.listeners import Listener, ListenerClient
from origin.radio.mounts.mount import Mount
from origin.radio.mounts.mount_entries import StationFacts
from origin.radio.playlist_files import DescribedStation, find_station, playlist
from origin.radio.source_clients import SILENT_SECONDS, SourceClients, agent_of
from origin.radio.station_access import NamedStation, StationAccess
from origin.radio.station_factory import Stations
from origin.radio.station_webhooks import StationWebhooks
from origin.radio.status import status, status_page
from origin.responses.base_url import base_url
from origin.responses.json_response import UNCACHED
from origin.responses.refusal import RefusalError, plain_refusal
from packager.radio.ogg_block_reader import MEDIA_TYPE as OGG

SEND_BUFFER_BYTES = 64 * 1024
"""Socket send buffer of a listener (Linux doubles it): four seconds of 128 kbit/s."""

SPAN = ("start", "end", "strict", "token")
"""Query parameters that a station's address hands on to its clip's."""

DEFAULT_LIMITS = RadioLimits()
NO_WEBHOOKS = StationWebhooks()


class ListenedStation(NamedStation, DescribedStation, Protocol):
    """A station to which requests listen, in the process that makes it or in another one."""

    @property
    def is_down(self) -> bool:
        """Whether the station has no audio now."""

    @property
    def full(self) -> bool:
        """Whether the station takes no more listeners."""

    @property
    def listeners(self) -> int:
        """Number of the station's listeners."""

    @property
    def facts(self) -> StationFacts:
        """The station's facts, by which listeners are answered."""

    @property
    def broadcast(self) -> StationBroadcast:
        """The station's audio, and its listeners of this process."""


class EnteringListeners:
    """Listeners who were admitted, and keep their places while the heads of their responses are sent."""

    def __init__(self) -> None:
        self._stations: dict[int, str] = {}

    def __len__(self) -> int:
        """Count the listeners of all stations."""
        return len(self._stations)

    def of(self, station: str) -> int:
        """Return the number of a station's listeners."""
        return sum(one == station for one in self._stations.values())

    def begin(self, number: int, station: str) -> None:
        """Keep a place for a listener."""
        self._stations[number] = station

    def end(self, number: int) -> None:
        """Forget a listener, who is among those of the station now, or has left."""
        self._stations.pop(number, None)


class ListenerEndpoint:
    """Answers GET and HEAD of a station or its playlist file.

    Args:
        counts: of connections, which number the listeners.
        max_listeners: of all mounts together; None for no limit.
        client_listeners: most listeners from one client's address.
        webhooks: are asked who may listen, too.
    """

    def __init__(
        self,
        mounts: Mapping[str, ListenedStation],
        access: StationAccess,
        counts: ConnectionCounts,
        max_listeners: int | None = None,
        client_listeners: ClientLimit = UNLIMITED,
        webhooks: StationWebhooks = NO_WEBHOOKS,
    ) -> None:
        self._mounts = mounts
        self._access = access
        self._webhooks = webhooks
        self._counts = counts
        self._max_listeners = max_listeners
        self._client_listeners = client_listeners
        self._entering = EnteringListeners()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        mount, ending = find_station(self._mounts, scope["path_params"]["name"])
        if mount is None:
            await _unknown()(scope, receive, send)
            return
        await self._access.authorize_listener(Request(scope), mount.name)
        if (past := _past_of(mount, Request(scope))) is not None:
            await past(scope, receive, send)
            return
        if ending:
            await playlist(mount, ending, Request(scope))(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"
        if refused := self._has_no_room(mount, is_head=is_head):
            await refused(scope, receive, send)
            return
        if is_head:
            await self._play(mount, scope, send)
            return
        request = Request(scope, receive)
        client = client_address(request)
        if not self._client_listeners.acquire(client):
            refused = plain_refusal(429, "too many listeners of one address", _retry(mount))
            await refused(scope, receive, send)
            return
        number, admitted = self._counts.add_listener(), 0.0
        if self._webhooks.are_asked(mount.name):
            stay(scope)
        try:
            seconds = await self._webhooks.check_listener(mount.name, request, number)
            admitted = time.monotonic()
            if refused := self._has_no_room(mount):
                await refused(scope, receive, send)
            else:
                self._entering.begin(number, mount.name)
                await self._play(mount, scope, send, number, seconds)
        finally:
            self._entering.end(number)
            at_end(scope, functools.partial(self._client_listeners.give_back, client))
            if admitted:
                seconds = time.monotonic() - admitted
                await self._webhooks.report_listener(mount.name, request, number, seconds)

    def _has_no_room(self, mount: ListenedStation, *, is_head: bool = False) -> Response | None:
        if not mount.is_down and (is_head or not self._is_full(mount)):
            return None
        reason = "the station is silent" if mount.is_down else "too many listeners"
        return plain_refusal(503, reason, _retry(mount))

    async def _play(
        self, mount: ListenedStation, scope: Scope, send: Send, number: int = 0, seconds: float = 0.0
    ) -> None:
        """Send a station's audio until its listener leaves, or has listened for so many seconds, if not 0."""
        # In Ogg the titles are in the audio itself, and Icecast sends no ICY metadata there either.
        with_titles = wants_titles(scope["headers"]) and mount.facts.media_type != OGG
        # A Range makes no sense on what has no end: RFC 9110 §14.2 lets a server ignore it.
        # Nothing here keeps the header fields for as long as somebody listens.
        # Radios send this field, and some can't read chunks: the body ends with the connection, as Icecast's.
        is_radio = any(name == b"icy-metadata" for name, _ in scope["headers"])
        start = {"type": "http.response.start", "status": 200, "close_delimited": is_radio}
        await send({**start, "headers": mount.broadcast.headers(mount.facts, with_titles=with_titles)})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        interleaver = Interleaver(mount.options.metaint) if with_titles else None
        request = Request(scope)
        client = ListenerClient(client_address(request), agent_of(request))
        listener = Listener(interleaver, token_of(request), client, number)

        def enter(stream: Stream) -> None:
            self._entering.end(number)
            mount.broadcast.enter(listener, stream)

        await send({"type": STREAM, "take": enter, "buffer": SEND_BUFFER_BYTES})
        # The stream was not taken if the client has disconnected already.
        if not listener.begun:
            return
        if may_outlive(scope):
            outlive(scope)
        else:
            await asyncio.wait((listener.done,), timeout=seconds or None)
            if not listener.done.done():
                listener.group.dismiss(listener)
            await listener.done

    def _is_full(self, mount: ListenedStation) -> bool:
        if mount.full or mount.listeners + self._entering.of(mount.name) >= mount.options.max_listeners:
            return True
        total = sum(mount.listeners for mount in self._mounts.values()) + len(self._entering)
        return self._max_listeners is not None and total >= self._max_listeners


class MountEndpoint:
    """The ASGI endpoint of ``/radio/NAME``, for listeners and source clients."""

    def __init__(self, listeners: ListenerEndpoint, source_clients: SourceClients) -> None:
        self._listening = listeners
        self._publishing = source_clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        listens = scope["method"] in ("GET", "HEAD")
        await (self._listening if listens else self._publishing)(scope, receive, send)


class TitleEvents:
    """The ASGI endpoint of ``/events/radio/NAME``: a station's titles with their media times, as events.

    Args:
        client_readers: most readers from one client's address.
    """

    def __init__(
        self,
        mounts: Mapping[str, Mount],
        access: StationAccess,
        client_readers: ClientLimit = UNLIMITED,
    ) -> None:
        self._mounts = mounts
        self._access = access
        self._reading = EventReading(Admission(client_readers=client_readers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        mount = self._mounts.get(scope["path_params"]["name"])
        if mount is None:
            raise RefusalError(404, "no such station")
        await self._access.authorize_listener(request, mount.name)
        token = token_of(request)
        if "listener" in request.query_params and token is None:
            line = "listener: 8 to 64 letters, digits, '-' and '_'"
            raise RefusalError(400, line)
        now = mount.now
        await self._reading.answer(now.channel, scope, receive, send, token=token, enter=now.enter)


def _retry(mount: ListenedStation) -> dict[str, str]:
    return {"retry-after": str(mount.options.limits.retry_seconds), "cache-control": "no-store"}


def _past_of(mount: ListenedStation, request: Request) -> Response | None:
    """Lead to the file of a span of a station's past; None where none is wanted."""
    wanted = [(name, value) for name, value in request.query_params.multi_items() if name in SPAN]
    # Where a backend is asked, all parameters are for that.
    if "start" not in dict(wanted) or mount.options.has_listener_webhook:
        return None
    if not mount.options.is_in_hls:
        return plain_refusal(404, "nothing of this station is kept: it isn't in HLS", UNCACHED)
    location = f"../live/{quote(mount.name)}/clip.m4a?{urlencode(wanted)}"
    return Response(status_code=302, headers={"location": location, **UNCACHED})


def _unknown() -> Response:
    return plain_refusal(404, "no such station")


def token_of(request: Request) -> str | None:
    """Return the token by which a listener or reader named itself; None for none, or an invalid one."""
    token = request.query_params.get("listener", "")
    return token if TOKEN.fullmatch(token) else None


def wants_titles(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a request asks for metadata: ``Icy-MetaData``, once, with the number 1.

    Args:
        headers: as in ASGI, names in lower case.
    """
    values = [value.strip() for name, value in headers if name == b"icy-metadata"]
    return len(values) == 1 and values[0].endswith(b"1") and not values[0][:-1].strip(b"0")


def routes(
    stations: Stations,
    access: StationAccess,
    *,
    max_listeners: int | None = None,
    silent_seconds: float = SILENT_SECONDS,
    client_limits: ClientLimits | None = None,
    limits: RadioLimits = DEFAULT_LIMITS,
    webhooks: StationWebhooks = NO_WEBHOOKS,
) -> list[BaseRoute]:
    """Make the routes of all stations.

    Args:
        stations: the stations; read at each request, so they may change.
        access: decides who may listen and publish.
        silent_seconds: how long a source client may send nothing.
        client_limits: of one client; None for no limits.
        webhooks: are asked about listeners and source clients, too.
    """
    mounts, client_limits, counts = stations.mounts, client_limits or ClientLimits(), ConnectionCounts()
    listeners = ListenerEndpoint(mounts, access, counts, max_listeners, client_limits.listeners, webhooks)
    refusals = RefusalLog("source refused", limits.refusal_log)
    source_clients = SourceClients(
        stations, access.authorization, counts, refusals, silent_seconds, webhooks.check_source
    )
    title_events = TitleEvents(mounts, access, client_limits.event_readers)
    return [
        # RFC 9110 §15.5.6: one route for all methods, so that Allow lists all of them.
        Route(
            "/radio/{name}",
            MountEndpoint(listeners, source_clients),
            methods=["GET", "HEAD", "PUT", "SOURCE"],
        ),
        Route("/events/radio/{name}", title_events, methods=["GET", "HEAD"]),
        *Admin(stations, access, counts).routes(),
        *_status_routes(stations, access),
    ]


def _status_routes(stations: Stations, access: StationAccess) -> list[BaseRoute]:
    """Make the routes of Icecast's status pages, which list the stations that a request may listen to."""

    async def accessible(request: Request) -> dict[str, Mount]:
        names = await access.accessible(request, stations.mounts.values())
        shown = ((name, mount) for name, mount in stations.mounts.items() if name in names)
        return {name: mount for name, mount in shown if not mount.options.is_hidden}

    async def show_status(request: Request) -> Response:
        mounts = await accessible(request)
        shown = {
            address: mounts[name] for address, name in station_addresses(mounts, stations.aliases).items()
        }
        if (only := request.query_params.get("mount")) is not None:
            name = station_name(only, stations.aliases)
            address = only if only in shown else f"/radio/{name}"
            shown = {address: shown[address]} if address in shown else {}
        text = status(shown, base_url(request))
        return Response(text, media_type="application/json", headers={"cache-control": "no-store"})

    async def show_status_page(request: Request) -> Response:
        text = status_page(await accessible(request))
        return Response(text, media_type="text/html", headers={"cache-control": "no-store"})

    return [
        Route("/status-json.xsl", show_status, methods=["GET", "HEAD"]),
        Route("/status.xsl", show_status_page, methods=["GET", "HEAD"]),
    ]

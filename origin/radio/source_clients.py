"""Receives Icecast's source clients: ``PUT`` and ``SOURCE /radio/NAME``.

Used by ffmpeg's ``icecast://``, libshout (liquidsoap, ezstream, darkice, mpd) and butt. Icecast's manual is
the only specification; clients of the older ``SOURCE`` method wait for the response before they send the
body.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from media.errors import MediaError
from origin.access.authentication import Unauthorized, client_address, key_reason
from origin.access.authorization import Action, Authorization, NamedResource, ResourceKind
from origin.access.refusal_log import RefusalLog
from origin.http1.application_exchange import take_slowly
from origin.http1.shared_turns import budget_of
from origin.radio.connection_totals import ConnectionCounts
from origin.radio.mounts.icy_headers import SOURCE_TYPES, announced_bitrate, station_info_of
from origin.radio.mounts.mount import Mount, SourceClient
from origin.radio.station_factory import Stations
from origin.responses.refusal import RefusalError, plain_refusal
from origin.responses.request_body import media_type_of
from packager.concurrency import expire
from packager.radio.source_client_station import InUseError, SourceClientSession
from packager.reader_guard import ReaderGuard

SILENT_SECONDS = 10.0
"""Longest silence of a source client before it is disconnected."""

AGENT_CHARS = 200
"""Longest User-Agent that is kept and logged."""

_CLOSING = {"connection": "close", "cache-control": "no-store"}

log = structlog.get_logger()


async def _allow(_station: str, _request: Request) -> None:
    """The default check."""


class SourceClients:
    """The ASGI endpoint of source clients.

    Args:
        stations: the stations, and the passwords of those that accept a source client.
        silent_seconds: how long a source client may send nothing.
        check: further checks a client with the right password; raises ``RefusalError``.
    """

    def __init__(
        self,
        stations: Stations,
        authorization: Authorization,
        counts: ConnectionCounts,
        refusals: RefusalLog,
        silent_seconds: float = SILENT_SECONDS,
        check: Callable[[str, Request], Awaitable[None]] = _allow,
    ) -> None:
        self._mounts = stations.mounts
        self._passwords = stations.passwords
        self._authorization = authorization
        self._counts = counts
        self._refusals = refusals
        self._silent_seconds = silent_seconds
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive one source client's audio to its end, or refuse it."""
        request = Request(scope)
        name = scope["path_params"]["name"]
        refusal = await self._refuse(name, request)
        mount = self._mounts.get(name)
        station = None if mount is None else mount.source_station
        if refusal is not None or mount is None or station is None:
            refusal = refusal or RefusalError(403, "sources connect to a packager of this cluster")
            await self._send_refusal(refusal, request)(scope, receive, send)
            return
        # Exempt from the limit for slow bodies: _feed has its own, for frames instead of bytes.
        take_slowly(scope, math.inf)
        legacy = scope["method"] == "SOURCE"
        media_type = SOURCE_TYPES.get(media_type_of(request))
        try:
            session = station.connect(
                media_type or "audio/mpeg",
                announced_bitrate(request.headers),
                station_info_of(request.headers),
            )
        except InUseError:
            # Icecast says 403; its newer protocol 409 (RFC 9110 §15.5.10).
            refusal = RefusalError(403 if legacy else 409, "a source is there already")
            await self._send_refusal(refusal, request)(scope, receive, send)
            return
        session.budget = budget_of(scope)
        client = SourceClient(client_address(request), agent_of(request))
        source_log = log.bind(mount=name, client=client.address)
        source_log.info("source connected", method=scope["method"], agent=client.agent, type=media_type)
        self._counts.sources += 1
        if legacy:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            status, reason = await self._carry(mount, client, session, receive)
        finally:
            session.close()
        source_log.info("source gone", reason=reason or "its end")
        if legacy:
            await send({"type": "http.response.body", "body": b""})
        elif reason:
            await plain_refusal(status, reason, _CLOSING)(scope, receive, send)
        else:
            await Response(status_code=200, headers=_CLOSING)(scope, receive, send)

    async def _carry(
        self, mount: Mount, client: SourceClient, session: SourceClientSession, receive: Receive
    ) -> tuple[int, str]:
        """Feed the session until the source client ends; return the status, and why it was disconnected."""
        try:
            # Two limits: received audio renews the one, perhaps just after the other was made to expire.
            async with asyncio.timeout(None) as dismissal, asyncio.timeout(None) as silence:
                with mount.sourced(client, partial(expire, dismissal)), ReaderGuard(mount.name):
                    await self._feed(mount, session, receive, silence)
        except TimeoutError:
            if mount.has_ended():
                return 503, "the station ends"
            if dismissal.expired():
                return 403, "the administrator has disconnected it"
            return 408, f"no audio was sent for {self._silent_seconds:g} s"
        except MediaError as error:
            return 415, f"not audio that a station carries: {error}"
        return 200, ""

    async def _feed(
        self, mount: Mount, session: SourceClientSession, receive: Receive, silence: asyncio.Timeout
    ) -> None:
        """Feed the session while audio frames arrive: single bytes now and then don't reset the timeout."""
        loop = asyncio.get_running_loop()
        frames, heard = 0, loop.time()
        while not mount.has_ended():
            silence.reschedule(heard + self._silent_seconds)
            message = await receive()
            if mount.has_ended():
                return
            # Time for which the throttle makes it wait doesn't count as its silence.
            silence.reschedule(None)
            if data := message.get("body", b""):
                await session.feed(data)
            if not message.get("more_body", False):
                await session.finish()
                return
            if session.reader.frames > frames:
                frames, heard = session.reader.frames, loop.time()

    def _send_refusal(self, refusal: RefusalError, request: Request) -> Response:
        """Make the answer to a source client that is refused, and log it."""
        # libshout asks without a password at first, and at once again with it: that is no refusal.
        if refusal.status != 401 or "authorization" in request.headers:
            mount = request.path_params["name"]
            reason = key_reason(request, str(refusal)) if refusal.status == 401 else str(refusal)
            self._refusals.write(client_address(request), mount=mount, reason=reason, agent=agent_of(request))
        if refusal.status == 401:
            return Unauthorized(str(refusal), _CLOSING)
        return plain_refusal(refusal.status, str(refusal), {**_CLOSING, **refusal.headers})

    async def _refuse(self, name: str, request: Request) -> RefusalError | None:
        if name not in self._mounts:
            return RefusalError(404, "no such station")
        if name not in self._passwords:
            return RefusalError(403, "this station takes no source")
        try:
            await self._authorization.authorize(
                request, Action.PUBLISH, NamedResource(ResourceKind.RADIO, name)
            )
        except RefusalError as refusal:
            return refusal
        # RFC 9110 §8.3, §15.5.16: the old protocol's clients may leave it out; then it is MP3.
        declared = media_type_of(request)
        if declared not in SOURCE_TYPES and (declared or request.method != "SOURCE"):
            return RefusalError(415, f"Content-Type must be one of {', '.join(sorted(SOURCE_TYPES))}")
        try:
            await self._check(name, request)
        except RefusalError as refusal:
            return refusal
        return None


def is_source(request: Request) -> bool:
    """Return whether a request is that of a source client, whatever its address is."""
    return request.method == "SOURCE" or (request.method == "PUT" and media_type_of(request) in SOURCE_TYPES)


def agent_of(request: Request) -> str:
    """Return the name of a client's program, as much of it as is kept and logged."""
    return request.headers.get("user-agent", "")[:AGENT_CHARS]

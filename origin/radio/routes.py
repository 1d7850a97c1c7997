"""Radio over HTTP: ``/radio/NAME`` with ICY metadata, its events, and the status that Icecast's have."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from media.mp3.icy import Interleaver
from origin.access.credentials import client_address
from origin.http.client_limits import UNLIMITED, ClientLimit, ClientLimits, TooManyError
from origin.http1.stream import STREAM
from origin.radio.authorization import Admission, refusal
from origin.radio.listeners import Listener
from origin.radio.mount import Mount
from origin.radio.playlist_files import find, playlist
from origin.radio.source_clients import SILENT_SECONDS, MetadataUpdates, SourceClients
from origin.radio.status import status
from origin.radio.title_events import TitleEvents, token_of

SEND_BUFFER_BYTES = 64 * 1024
"""What the kernel keeps for one listener (twice that, on Linux): four seconds of 128 kbit/s."""

RETRY_SECONDS = 10
"""What a listener that found no room is told to wait."""


class Listening:
    """Answers those who want to hear a station, or its playlist.

    Args:
        mounts: by name.
        admission: knows who may listen.
        max_listeners: of all mounts together; None for no limit but each mount's own.
        client_listeners: how many one client may be.
    """

    def __init__(
        self,
        mounts: Mapping[str, Mount],
        admission: Admission,
        max_listeners: int | None = None,
        client_listeners: ClientLimit = UNLIMITED,
    ) -> None:
        self._mounts = mounts
        self._admission = admission
        self._max_listeners = max_listeners
        self._client_listeners = client_listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        mount, ending = find(self._mounts, scope["path_params"]["name"])
        if mount is None:
            await _unknown()(scope, receive, send)
            return
        if not await self._admission.may_listen(Request(scope), mount):
            await refusal()(scope, receive, send)
            return
        if ending:
            await playlist(mount, ending, Request(scope))(scope, receive, send)
            return
        heading = scope["method"] == "HEAD"
        if mount.state == "down" or (not heading and (mount.full or self._full())):
            reason = "the station is silent\n" if mount.state == "down" else "too many listeners\n"
            headers = {"retry-after": str(RETRY_SECONDS), "cache-control": "no-store"}
            await PlainTextResponse(reason, 503, headers)(scope, receive, send)
            return
        if heading:
            await self._play(mount, scope, send)
            return
        try:
            with self._client_listeners.held(client_address(Request(scope))):
                await self._play(mount, scope, send)
        except TooManyError:
            headers = {"retry-after": str(RETRY_SECONDS), "cache-control": "no-store"}
            await PlainTextResponse("too many listeners of one address\n", 429, headers)(scope, receive, send)

    async def _play(self, mount: Mount, scope: Scope, send: Send) -> None:
        with_titles = wants_titles(scope["headers"]) and not mount.has_own_titles
        # A Range makes no sense on what has no end: RFC 9110 §14.2 lets a server ignore it.
        headers_out = mount.headers(with_titles=with_titles)
        await send({"type": "http.response.start", "status": 200, "headers": headers_out})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        interleaver = Interleaver(mount.options.metaint) if with_titles else None
        listener = Listener(interleaver, token_of(Request(scope)))
        take = functools.partial(mount.enter, listener)
        await send({"type": STREAM, "take": take, "buffer": SEND_BUFFER_BYTES})
        # Nothing is awaited where the client was gone already, for then nobody took the stream.
        if listener.begun:
            await listener.done

    def _full(self) -> bool:
        total = sum(mount.listeners for mount in self._mounts.values())
        return self._max_listeners is not None and total >= self._max_listeners


class Endpoint:
    """The ASGI endpoint of ``/radio/NAME``: whoever asks listens, or sends.

    Args:
        listening: answers GET and HEAD.
        publishing: answers PUT and SOURCE.
    """

    def __init__(self, listening: Listening, publishing: SourceClients) -> None:
        self._listening = listening
        self._publishing = publishing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        listens = scope["method"] in ("GET", "HEAD")
        await (self._listening if listens else self._publishing)(scope, receive, send)


def _unknown() -> Response:
    return PlainTextResponse("no such station\n", 404)


def wants_titles(headers: list[tuple[bytes, bytes]]) -> bool:
    """Tell whether a request asks for metadata: exactly ``Icy-MetaData: 1``, once.

    Args:
        headers: as ASGI gives them, names in lower case.
    """
    return [value for name, value in headers if name == b"icy-metadata"] == [b"1"]


def routes(
    mounts: Mapping[str, Mount],
    admission: Admission,
    *,
    passwords: Mapping[str, str] | None = None,
    max_listeners: int | None = None,
    silent_seconds: float = SILENT_SECONDS,
    of_clients: ClientLimits | None = None,
) -> list[BaseRoute]:
    """Make the routes of all mounts.

    Args:
        mounts: by name; read at each request, so it may change.
        admission: knows who may listen and send.
        passwords: of the mounts that take a source, by name.
        max_listeners: of all mounts together.
        silent_seconds: how long a source may send nothing.
        of_clients: what one client may have at once; None: there is no limit.
    """
    passwords, of_clients = passwords or {}, of_clients or ClientLimits()
    listening = Listening(mounts, admission, max_listeners, of_clients.listeners)
    endpoint = Endpoint(listening, SourceClients(mounts, passwords, admission, silent_seconds))

    following = TitleEvents(mounts, admission, of_clients.event_readers)

    async def show_status(request: Request) -> Response:
        heard = await admission.opened(request, mounts.values())
        told = {name: mount for name, mount in mounts.items() if name in heard}
        text = status(told, str(request.base_url).rstrip("/"), request.query_params.get("mount"))
        return Response(text, media_type="application/json", headers={"cache-control": "no-store"})

    return [
        # One route for all, so that Allow names all: RFC 9110 §15.5.6.
        Route("/radio/{name}", endpoint, methods=["GET", "HEAD", "PUT", "SOURCE"]),
        Route("/events/radio/{name}", following, methods=["GET", "HEAD"]),
        Route("/admin/metadata", MetadataUpdates(mounts, passwords, admission).update, methods=["GET"]),
        Route("/status-json.xsl", show_status, methods=["GET", "HEAD"]),
    ]

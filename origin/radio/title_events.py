"""``/events/radio/NAME``: a station's titles with their media times, as server-sent events."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from origin.access.credentials import client_address
from origin.events import sse
from origin.events.channel import Reader
from origin.http.client_limits import UNLIMITED, ClientLimit, TooManyError
from origin.http.refusal import plain_refusal
from origin.http1.stream import STREAM
from origin.radio.authorization import StationAuthorization, refusal
from origin.radio.listener_time import TOKEN
from origin.radio.mount import Mount

NOT_KEPT = {"cache-control": "no-store"}

HEADERS = [
    (b"content-type", sse.MEDIA_TYPE.encode()),
    (b"cache-control", b"no-cache, no-store"),
    (b"x-accel-buffering", b"no"),
    (b"connection", b"close"),
]


class TitleEvents:
    """The ASGI endpoint of a station's event channel.

    Args:
        client_readers: limit of one client.
    """

    def __init__(
        self,
        mounts: Mapping[str, Mount],
        authorization: StationAuthorization,
        client_readers: ClientLimit = UNLIMITED,
    ) -> None:
        self._client_readers = client_readers
        self._mounts = mounts
        self._authorization = authorization

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        mount = self._mounts.get(scope["path_params"]["name"])
        token = token_of(request)
        answer = _refuse(mount, request, token)
        if mount is not None and not await self._authorization.may_listen(request, mount):
            answer = refusal()
        if mount is None or answer is not None:
            await (answer or Response())(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        try:
            with self._client_readers.held(client_address(request)):
                await self._tell(request, mount, token, send)
        except TooManyError:
            many = plain_refusal(429, "too many readers of one address", _retry(mount))
            await many(scope, receive, send)

    async def _tell(self, request: Request, mount: Mount, token: str | None, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        # EventSource sends the header only when it reconnects by itself; a script may use the query.
        last = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
        reader = Reader(last, token)
        take = functools.partial(mount.now.enter, reader)
        await send({"type": STREAM, "take": take, "buffer": mount.options.events.send_buffer_bytes})
        # The stream was not taken if the client has disconnected already.
        if reader.stream is not None:
            await reader.done


def token_of(request: Request) -> str | None:
    """Return the token by which a listener or reader named itself; None for none, or an invalid one."""
    token = request.query_params.get("listener", "")
    return token if TOKEN.fullmatch(token) else None


def _retry(mount: Mount) -> dict[str, str]:
    return {**NOT_KEPT, "retry-after": str(mount.options.limits.retry_seconds)}


def _refuse(mount: Mount | None, request: Request, token: str | None) -> Response | None:
    if mount is None:
        return plain_refusal(404, "no such station", NOT_KEPT)
    if "listener" in request.query_params and token is None:
        return plain_refusal(400, "listener: 8 to 64 letters, digits, '-' and '_'", NOT_KEPT)
    if mount.now.channel.closed:
        # WHATWG HTML §9.2.3: 204 tells an EventSource not to reconnect.
        return Response(status_code=204, headers={"cache-control": "no-store"})
    if mount.now.channel.full and request.method != "HEAD":
        return plain_refusal(503, "too many readers", _retry(mount))
    return None

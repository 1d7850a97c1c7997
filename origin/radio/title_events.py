"""``/events/radio/NAME``: a station's titles with their media times, read as event channels are."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from origin.events.admission import Admission
from origin.events.reading import EventReading
from origin.http.client_limits import UNLIMITED, ClientLimit
from origin.radio.authorization import StationAuthorization, refusal
from origin.radio.listener_time import TOKEN
from origin.radio.mount import Mount
from origin.responses.refusal import RefusalError


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
        self._mounts = mounts
        self._authorization = authorization
        self._reading = EventReading(Admission(client_readers=client_readers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        mount = self._mounts.get(scope["path_params"]["name"])
        if mount is None:
            await RefusalError(404, "no such station").response()(scope, receive, send)
            return
        if not await self._authorization.may_listen(request, mount):
            await refusal()(scope, receive, send)
            return
        token = token_of(request)
        if "listener" in request.query_params and token is None:
            line = "listener: 8 to 64 letters, digits, '-' and '_'"
            await RefusalError(400, line).response()(scope, receive, send)
            return
        now = mount.now
        await self._reading.answer(now.channel, scope, receive, send, token=token, enter=now.enter)


def token_of(request: Request) -> str | None:
    """Return the token by which a listener or reader named itself; None for none, or an invalid one."""
    token = request.query_params.get("listener", "")
    return token if TOKEN.fullmatch(token) else None

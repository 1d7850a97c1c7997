"""The address ``/events/NAME`` of each event channel, for readers and publishers."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from origin.access.authentication import UnauthorizedError
from origin.events.admission import Admission
from origin.events.authorization import EventAuthorization
from origin.events.channel import EventChannel
from origin.events.limits import EventLimits
from origin.events.publishing import EventPublisher
from origin.events.reading import EventReading
from origin.events.websocket_endpoint import EventSocket
from origin.http1 import websocket
from origin.responses.refusal import RefusalError


class EventsEndpoint:
    """The ASGI endpoint of all event channels.

    Args:
        authorization: decides who may read and publish.
        admission: has room for readers, or not.
    """

    def __init__(
        self,
        channels: Mapping[str, EventChannel],
        authorization: EventAuthorization,
        limits: EventLimits,
        admission: Admission,
    ) -> None:
        self._channels = channels
        self._authorization = authorization
        self._limits = limits
        self._admission = admission
        self._reading = EventReading(admission)
        self._publishers = {
            name: EventPublisher(channel, limits.publish) for name, channel in channels.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        name = request.path_params["name"]
        channel = self._channels.get(name)
        if channel is None:
            raise RefusalError(404, "no such event channel")
        if request.method == "POST":
            if not await self._authorization.may_publish(request, name):
                raise UnauthorizedError("the channel's publish_token or server.admin_token is needed")
            answer = await self._publishers[name].answer(request)
            await answer(scope, receive, send)
        elif websocket.is_upgrade(request.method, scope["headers"]):
            await self._open_socket(channel, request, send)
        else:
            if not await self._authorization.may_read(request, name):
                raise UnauthorizedError("the channel's read_key is needed")
            await self._reading.answer(channel, scope, receive, send)

    async def _open_socket(self, channel: EventChannel, request: Request, send: Send) -> None:
        """Answer a handshake; a publisher is one who presents the token in it."""
        if not self._authorization.admits_page(request, channel.name):
            raise RefusalError(403, "pages of this origin may not read the channel: see allow_origin")
        may_read, may_publish = await self._authorization.rights(request, channel.name)
        if not may_read:
            raise UnauthorizedError("the channel's read_key is needed")
        publisher = self._publishers[channel.name] if may_publish else None
        socket = EventSocket(channel, publisher, self._limits.sockets)
        try:
            with self._admission.held(channel, request):
                await socket.run(request.scope, request.receive, send)
        except websocket.HandshakeError as error:
            version = {"sec-websocket-version": "13", "upgrade": "websocket"} if error.status == 426 else {}
            raise RefusalError(error.status, str(error), version) from None


def routes(
    channels: Mapping[str, EventChannel],
    authorization: EventAuthorization,
    limits: EventLimits | None = None,
    admission: Admission | None = None,
) -> list[BaseRoute]:
    """Make the routes of all event channels.

    Args:
        authorization: decides who may read and publish.
        admission: has room for readers, or not.
    """
    endpoint = EventsEndpoint(
        channels, authorization, limits or EventLimits(), admission or Admission(channels.values())
    )
    return [Route("/events/{name}", endpoint, methods=["GET", "HEAD", "POST"])]

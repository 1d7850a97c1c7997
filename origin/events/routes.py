"""The address ``/events/NAME`` of each event channel, for readers and publishers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from origin.access.authentication import key_reason
from origin.access.authorization import Action, Authorization, NamedResource, ResourceKind
from origin.access.token_middleware import EndingStreams
from origin.events.admission import Admission
from origin.events.channel import EventChannel
from origin.events.channel_keys import ReadingPages, is_foreign
from origin.events.limits import EventLimits
from origin.events.publishing import EventPublisher
from origin.events.reading import EventReading
from origin.events.websocket_endpoint import EventSocket
from origin.http1 import websocket
from origin.http1.body_writer import stay
from origin.responses.refusal import RefusalError

PUBLISHING = "publishing needs the channel's publish_token"
NO_CHANNEL = "no such event channel"


class EventAnswers:
    """Answers requests for event channels, given the channel: those of readers, publishers and WebSockets.

    Args:
        authorization: decides who may read and publish.
        pages: decides which pages of other origins may open a WebSocket.
        admission: has room for readers, or not.
    """

    def __init__(
        self, authorization: Authorization, pages: ReadingPages, limits: EventLimits, admission: Admission
    ) -> None:
        self.authorization = authorization
        self._pages = pages
        self._limits = limits
        self._admission = admission
        self._reading = EventReading(admission)

    async def answer(
        self, channel: EventChannel, publisher: EventPublisher | None, request: Request, send: Send
    ) -> None:
        """Answer one request.

        Args:
            publisher: of the channel, for requests that may publish; None where another process publishes.
        """
        scope, resource = request.scope, NamedResource(ResourceKind.EVENTS, channel.name)
        if request.method == "POST":
            await self.authorization.authorize(request, Action.PUBLISH, resource)
            if publisher is None:
                raise RefusalError(405, "another process publishes")
            answer = await publisher.answer(request)
            await answer(scope, request.receive, send)
        elif websocket.is_upgrade(request.method, scope["headers"]):
            await self._open_socket(channel, publisher, request, send)
        else:
            until = (await self.authorization.authorize(request, Action.READ, resource)).until
            if not math.isinf(until):
                stay(request.scope)
            with sending_until(until, send) as sending:
                await self._reading.answer(channel, scope, request.receive, sending)

    async def _open_socket(
        self, channel: EventChannel, publisher: EventPublisher | None, request: Request, send: Send
    ) -> None:
        """Answer a handshake; a publisher is one who presents the token in it."""
        if not self._pages.admit(request, channel.name):
            raise RefusalError(403, "pages of this origin may not read the channel: see allow_origin")
        authorization, resource = self.authorization, NamedResource(ResourceKind.EVENTS, channel.name)
        with_basic = not is_foreign(request)
        reading = await authorization.authorize(request, Action.READ, resource, with_basic=with_basic)
        allowed = await authorization.permission(request, Action.PUBLISH, resource, with_basic=with_basic)
        until = reading.until if allowed is None else min(reading.until, allowed.until)
        publishing = publisher if allowed and publisher else key_reason(request, PUBLISHING)
        socket = EventSocket(channel, publishing, self._limits.sockets)
        try:
            with self._admission.held(channel, request), sending_until(until, send) as sending:
                await socket.run(request.scope, request.receive, sending)
        except websocket.HandshakeError as error:
            raise refused_handshake(error) from None


def refused_handshake(error: websocket.HandshakeError) -> RefusalError:
    """Return the refusal of a request that isn't WebSocket's handshake."""
    version = {"sec-websocket-version": "13", "upgrade": "websocket"} if error.status == 426 else {}
    return RefusalError(error.status, str(error), version)


@contextlib.contextmanager
def sending_until(ends: float, send: Send) -> Iterator[Send]:
    """End the streams that are sent while the context is open at a time.

    Args:
        ends: seconds since the epoch; infinite for never.
    """
    streams = EndingStreams(ends)

    async def sending(message: Message) -> None:
        await send(message)
        streams.add(message)

    try:
        yield send if math.isinf(ends) else sending
    finally:
        streams.close()


class EventsEndpoint:
    """The ASGI endpoint of the event channels of a configuration.

    Args:
        limits: limits of publishers; None where another process publishes.
    """

    def __init__(
        self, channels: Mapping[str, EventChannel], answers: EventAnswers, limits: EventLimits | None
    ) -> None:
        self._channels = channels
        self._answers = answers
        self._limits = limits
        self._publishers: dict[str, EventPublisher] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        name = request.path_params["name"]
        channel = self._channels.get(name)
        if channel is None:
            raise RefusalError(404, NO_CHANNEL)
        await self._answers.answer(channel, self._publisher_of(channel), request, send)

    def _publisher_of(self, channel: EventChannel) -> EventPublisher | None:
        """Return what publishes to a channel, which is made for the channel's first request."""
        if self._limits is None:
            return None
        found = self._publishers.get(channel.name)
        if found is None:
            found = self._publishers[channel.name] = EventPublisher(channel, self._limits)
        return found


def routes(
    channels: Mapping[str, EventChannel],
    authorization: Authorization,
    pages: ReadingPages,
    limits: EventLimits | None = None,
    admission: Admission | None = None,
    *,
    publishes: bool = True,
) -> list[BaseRoute]:
    """Make the routes of all event channels.

    Args:
        authorization: decides who may read and publish.
        pages: see `EventAnswers`.
        admission: has room for readers, or not.
        publishes: whether this process publishes, and no other one.
    """
    limits, admission = limits or EventLimits(), admission or Admission(channels.values())
    answers = EventAnswers(authorization, pages, limits, admission)
    endpoint = EventsEndpoint(channels, answers, limits if publishes else None)
    return [Route("/events/{name}", endpoint, methods=["GET", "HEAD", "POST"])]

"""``GET /events?channel=A&channel=B``, for server-sent events, NDJSON, polls and WebSocket."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from origin.events.channel_keys import ReadingPages
from origin.events.multiplexing.reading import MultiplexedReading
from origin.events.multiplexing.websocket_endpoint import MultiplexedSocket
from origin.events.routes import refused_handshake
from origin.http1 import websocket
from origin.responses.refusal import RefusalError


class MultiplexingEndpoint:
    """The ASGI endpoint that reads several event channels."""

    def __init__(
        self, reading: MultiplexedReading, pages: ReadingPages, sockets: websocket.WebSocketLimits
    ) -> None:
        self._reading = reading
        self._pages = pages
        self._sockets = sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        if not websocket.is_upgrade(request.method, scope["headers"]):
            await self._reading.answer(request, send)
            return
        if not self._pages.admit(request, ""):
            raise RefusalError(403, "pages of this origin may not read the channels: see allow_origin")
        try:
            await MultiplexedSocket(self._reading, self._sockets).run(request, send)
        except websocket.HandshakeError as error:
            raise refused_handshake(error) from None


def routes(endpoint: MultiplexingEndpoint) -> list[BaseRoute]:
    """Make the route of several event channels."""
    return [Route("/events", endpoint, methods=["GET", "HEAD"])]

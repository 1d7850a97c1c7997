"""Publishing over HTTP: admits the publisher before its body is read, and refuses it with the reason."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from origin.access.authentication import Unauthorized, UnauthorizedError, client_address
from origin.access.authorization import Action, Authorization, NamedResource, ResourceKind
from origin.ingest.admission import AGENT_CHARACTERS, IngestAdmission, RefusalReason, RefusedError
from origin.ingest.limits import IngestLimits
from origin.responses.refusal import RefusalError, plain_refusal
from origin.responses.request_body import require_plain
from packager.sources.publication import Publisher

STATUS = {
    RefusalReason.UNKNOWN_CHANNEL: 404,
    RefusalReason.OTHER_SOURCE: 403,
    RefusalReason.WRONG_KEY: 401,
    RefusalReason.DENIED: 403,
    RefusalReason.UNANSWERED: 503,
    RefusalReason.TAKEN: 409,
    RefusalReason.TOO_MANY: 503,
    RefusalReason.CLOSED: 503,
}
"""The status with which HTTP says why somebody may not publish."""

STREAM_REFUSALS = frozenset((408, 409, 412, 413, 415))
"""Statuses of answers that may come in the middle of a stream."""

CLOSING = {"connection": "close", "cache-control": "no-store"}
"""A body with an unread rest, behind which the connection can't carry another request."""


def refusal(status: int, reason: str, limits: IngestLimits) -> Response:
    """Make the answer with the reason, and where it makes sense the time of the next attempt."""
    later = {"retry-after": str(limits.retry_seconds)} if status == 503 else {}
    return plain_refusal(status, reason, {**CLOSING, **later})


class PublishedBody:
    """Receives a request's body, and knows whether it was received to its end.

    Attributes:
        has_ended: whether nothing more of it comes.
        is_whole: whether it came to its end; else the client may have gone.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.has_ended = self.is_whole = False

    async def __call__(self) -> Message:
        """Receive the next message."""
        message = await self._receive()
        self.has_ended = not message.get("more_body", False)
        self.is_whole = self.has_ended and message["type"] == "http.request"
        return message

    async def read(self) -> bytes | None:
        """Receive the next bytes, which may be none; None behind the last ones."""
        if self.has_ended:
            return None
        data: bytes = (await self()).get("body", b"")
        return data


class PublishingEndpoint(ABC):
    """An ASGI endpoint that takes streams for live channels.

    Args:
        authorization: checks the keys of requests: each needs one.
    """

    def __init__(self, admission: IngestAdmission, authorization: Authorization) -> None:
        self._admission = admission
        self._authorization = authorization
        self._limits = admission.limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it before its body is read."""
        body = PublishedBody(receive)
        answer = await self._answer(Request(scope), body)
        await _send_in_stream(answer, scope, body, send, self._limits)

    async def _answer(self, request: Request, body: PublishedBody) -> Response:
        channel: str = request.path_params["channel"]
        try:
            self._admission.find(channel, client_address(request))
            resource = NamedResource(ResourceKind.LIVE, channel, request.url.path)
            await self._authorization.authorize(request, Action.PUBLISH, resource)
            require_plain(request)
            return await self._handle_body(channel, request, body)
        except UnauthorizedError as error:
            return Unauthorized(str(error), CLOSING).to(request)
        except RefusalError as error:
            return plain_refusal(error.status, str(error), {**CLOSING, **error.headers})
        except RefusedError as error:
            return refusal(STATUS[error.reason], str(error), self._limits)

    @abstractmethod
    async def _handle_body(self, channel: str, request: Request, body: PublishedBody) -> Response:
        """Handle the body of a request that has the channel's key.

        Raises:
            RefusedError: there is no room for it.
        """

    def _publisher_of(self, request: Request) -> Publisher:
        """Return the sender of a request."""
        agent = request.headers.get("user-agent", "")[:AGENT_CHARACTERS]
        return Publisher("http", client_address(request), agent)


async def _send_in_stream(
    answer: Response, scope: Scope, body: PublishedBody, send: Send, limits: IngestLimits
) -> None:
    """Send an answer; where it may come in the middle of a stream, read on until it has arrived."""
    if answer.status_code not in STREAM_REFUSALS or body.has_ended:
        await answer(scope, body, send)
        return
    start = {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
    await send(start)
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    # A publisher in the middle of a stream would get a reset in place of the reason if nobody read on.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limits.linger_seconds):
            while not body.has_ended:
                await body()
    await send({"type": "http.response.body", "body": b""})

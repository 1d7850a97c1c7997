"""How HTTP tells a publisher that it may not publish, or go on."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from origin.ingest.admission import RefusalReason
from origin.ingest.limits import IngestLimits
from origin.responses.refusal import plain_refusal

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
"""What is left of a body isn't read: the connection can't be used for another request."""


def refusal(status: int, reason: str, limits: IngestLimits) -> Response:
    """Make the answer that tells why, and where it makes sense when to come again."""
    later = {"retry-after": str(limits.retry_seconds)} if status == 503 else {}
    return plain_refusal(status, reason, {**CLOSING, **later})


class Body:
    """Receives a request's body, and knows whether it was received to its end.

    Args:
        receive: of the ASGI application.

    Attributes:
        has_ended: whether nothing more of it comes.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.has_ended = False

    async def __call__(self) -> Message:
        """Receive the next message."""
        message = await self._receive()
        self.has_ended = not message.get("more_body", False)
        return message


async def send_in_stream(
    answer: Response, scope: Scope, body: Body, send: Send, limits: IngestLimits
) -> None:
    """Send an answer; where it may come in the middle of a stream, read on until it has arrived."""
    if answer.status_code not in STREAM_REFUSALS or body.has_ended:
        await answer(scope, body, send)
        return
    start = {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
    await send(start)
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    # Who is in the middle of a stream would be sent a reset in place of the reason if nobody read it.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limits.linger_seconds):
            while not body.has_ended:
                await body()
    await send({"type": "http.response.body", "body": b""})

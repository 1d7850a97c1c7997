"""Receives the body of a request as a whole, or refuses it for its type or its size."""

from __future__ import annotations

from starlette.requests import Request

from origin.responses.refusal import RefusalError


def media_type_of(request: Request) -> str:
    """Return the media type of a request's body, without its parameters; empty where none is told."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_type(request: Request, media_type: str) -> None:
    """Insist on a body's type: a form of another site can't send it without being asked first (Fetch, CORS).

    Raises:
        RefusalError: 415.
    """
    if media_type_of(request) != media_type:
        raise RefusalError(415, f"the body must be {media_type}")


async def receive_body(request: Request, most: int, too_large: str = "") -> bytes:
    """Receive a body.

    Args:
        request: whose body it is.
        most: bytes that it may have; what says that it has more isn't read.
        too_large: the line that refuses a larger one; empty for the usual one.

    Raises:
        RefusalError: 413.
        ClientDisconnect: the client left before its end.
    """
    refusal = RefusalError(413, too_large or f"the body has more than {most} bytes")
    length = request.headers.get("content-length", "0")
    if len(length) > len(str(most)) or int(length) > most:
        raise refusal
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise refusal
    return bytes(data)

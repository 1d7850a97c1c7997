"""Receives the body of a request as a whole, or refuses it, or waits until its client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from origin.http.media_types import media_type_in
from origin.responses.refusal import RefusalError

Result = TypeVar("Result")


def media_type_of(request: Request) -> str:
    """Return the media type of a request's body, without its parameters; empty without one."""
    return media_type_in(request.headers.get("content-type", ""))


def require_type(request: Request, media_type: str) -> None:
    """Insist on a body's type: a form of another site can't send it without being asked first (Fetch, CORS).

    Raises:
        RefusalError: 415; also as `require_plain`.
    """
    require_plain(request)
    if media_type_of(request) != media_type:
        raise RefusalError(415, f"the body must be {media_type}")


def require_plain(request: Request) -> None:
    """Refuse a body with a content coding: nothing here decodes one, and its bytes mean nothing else.

    Raises:
        RefusalError: 415.
    """
    codings = request.headers.get("content-encoding", "").replace(",", " ").lower().split()
    if any(coding != "identity" for coding in codings):
        # RFC 9110 §15.5.16: Accept-Encoding says that the coding is the reason.
        raise RefusalError(415, "the body must have no Content-Encoding", {"accept-encoding": "identity"})


async def receive_body(request: Request, most: int, too_large: str = "") -> bytes:
    """Receive a body.

    Args:
        most: bytes that it may have; what says that it has more isn't read.
        too_large: the line that refuses a larger one; empty for the usual one.

    Raises:
        RefusalError: 413; 415, as `require_plain`.
        ClientDisconnect: the client left before its end.
    """
    require_plain(request)
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


async def client_left(request: Request) -> None:
    """Wait until the client has closed its side, even if only half: it has no use for later data."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await a coroutine for a request without a body, as long as its client is connected.

    Raises:
        ClientDisconnect: the client left before the end, and the coroutine was cancelled.
    """
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(client_left(request))
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        doing.cancel()
        leaving.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)

"""The adapter that makes ASGI of handlers: their replies are sent by any ASGI server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from origin.answers.byte_sources import COPY_STEP
from origin.answers.pieces import LazyPieces, Piece, TruncatedFileError
from origin.answers.reply import ByteSource, Handler, Pending, Reply
from origin.answers.request import Request, request_from_headers
from origin.answers.vectored_read import FileRuns
from origin.http.answer import Headers
from origin.http.byte_ranges import SelectedRange
from packager.threads import SHARED_THREADS

ZERO_COPY = "http.response.zerocopysend"
"""ASGI extension by which the application lets the server send a file's bytes."""

GONE = "headwater.gone"
"""ASGI extension with a weak reference to the request's exchange, which knows when its client has gone."""


def handler_routes(handler: Handler, patterns: Sequence[str]) -> list[Route]:
    """Make Starlette's routes of a handler, for GET and HEAD; what it doesn't serve, it refuses.

    Args:
        patterns: Starlette's patterns of the paths.
    """
    endpoint = HandlerEndpoint(handler)
    return [Route(pattern, endpoint, methods=["GET"]) for pattern in patterns]


class HandlerEndpoint:
    """The ASGI application that answers requests by a handler.

    Args:
        allow: the methods that OPTIONS lists, where no other method is routed to another application.
    """

    def __init__(self, handler: Handler, allow: str = "GET, HEAD") -> None:
        self._handler = handler
        self._allow = {"allow": allow}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["method"] not in ("GET", "HEAD"):
            # RFC 9110 §15.5.6: Allow lists the methods that the resource supports.
            other = Response(None, 204, self._allow)
            if scope["method"] != "OPTIONS":
                other = PlainTextResponse("Method Not Allowed\n", 405, self._allow)
            await other(scope, receive, send)
            return
        request = request_of(scope)
        reply = self._handler.handle(request)
        if isinstance(reply, Pending):
            reply = await _Awaited(reply).reply_of()
        await send_reply(reply or self._handler.absent(request), scope, send)


class ReplyResponse(Response):
    """A Starlette response that is the reply to a GET or HEAD.

    Args:
        make: decides the reply to the request.
    """

    def __init__(self, make: Callable[[Request], Reply]) -> None:
        self._make = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the reply."""
        del receive
        await send_reply(self._make(request_of(scope)), scope, send)


def request_of(scope: Scope) -> Request:
    """Make the request of an ASGI scope."""
    query: bytes = scope["query_string"]
    target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
    client = scope["client"][0] if scope.get("client") else ""
    return request_from_headers(scope["method"], target, scope["headers"], client)


class _Awaited:
    """A task that waits for a reply that comes later."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending
        self._made: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    async def reply_of(self) -> Reply:
        """Wait for the reply."""
        self._pending.start(self)
        try:
            return await self._made
        except asyncio.CancelledError:
            if self._made.done() and not self._made.cancelled() and self._made.exception() is None:
                self._made.result().release()
            self._pending.cancel()
            raise

    def reply(self, reply: Reply) -> None:
        """Hand the reply to the task, or release it where nobody waits any more."""
        if self._made.done():
            reply.release()
        else:
            self._made.set_result(reply)

    def fail(self, error: BaseException) -> None:
        """Raise the error in the task."""
        if not self._made.done():
            self._made.set_exception(error)


async def send_reply(reply: Reply, scope: Scope, send: Send, common: Headers = ()) -> None:
    """Send a reply, and release what it holds, whatever happens.

    Args:
        scope: of the request: its method, and whether the server sends files (`ZERO_COPY`).
        common: header fields that the server adds to every reply.

    Raises:
        TruncatedFileError: a file is shorter than the reply has said.
    """
    try:
        headers = [*reply.head.fields, *common]
        await send({"type": "http.response.start", "status": reply.head.status, "headers": headers})
        if reply.stream is not None:
            async for chunk in reply.stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                if _has_gone(scope):
                    return
        elif reply.body:
            async for message in _body(reply, scope):
                await send({**message, "more_body": True})
                if _has_gone(scope):
                    return
        await send({"type": "http.response.body", "body": b""})
    finally:
        if reply.stream is not None and hasattr(reply.stream, "aclose"):
            await reply.stream.aclose()
        reply.release()


def _has_gone(scope: Scope) -> bool:
    """Return whether the client has gone, for whom nothing more is read: sending to it does nothing."""
    extension = scope.get("extensions", {}).get(GONE)
    exchange = None if extension is None else extension["exchange"]()
    return exchange is not None and exchange.has_gone


async def _body(reply: Reply, scope: Scope) -> AsyncIterator[dict[str, Any]]:
    descriptor = None
    if reply.source is not None and ZERO_COPY in scope.get("extensions", ()):
        descriptor = reply.source.descriptor()
    for piece in _flat(reply.body):
        if isinstance(piece, bytes | memoryview):
            yield {"type": "http.response.body", "body": piece}
        elif reply.source is None:
            raise ValueError("a range needs a source")
        elif isinstance(piece, SelectedRange) and descriptor is not None:
            yield {"type": ZERO_COPY, "file": descriptor, "offset": piece.first, "count": piece.length}
        else:
            async for data in _copied(piece, reply.source):
                yield {"type": "http.response.body", "body": data}


def _flat(body: Sequence[Piece]) -> Iterator[bytes | memoryview | SelectedRange | FileRuns]:
    """Yield the pieces of a body, those that are made while they are sent among them."""
    for piece in body:
        if isinstance(piece, LazyPieces):
            while made := piece.make():
                yield from made
        else:
            yield piece


async def _copied(piece: SelectedRange | FileRuns, source: ByteSource) -> AsyncIterator[bytes | memoryview]:
    """Read a piece of a file in steps, so that a slow client costs no more memory than one."""
    if isinstance(piece, FileRuns):
        descriptor = source.descriptor()
        if descriptor is None:
            raise ValueError("runs need a descriptor")
        while len(piece) > 0:
            data: bytes | memoryview = await SHARED_THREADS.run(_gathered, piece, descriptor)
            if not data:
                raise TruncatedFileError(f"the file ends before the last {len(piece)} bytes to send")
            piece.skip(len(data))
            yield data
        return
    position = piece.first
    while position <= piece.last:
        try:
            data = await source.read(position, min(COPY_STEP, piece.last + 1 - position))
        except OSError as error:
            raise TruncatedFileError(f"{position} of {piece.last + 1}: {error}") from None
        if not data:
            raise TruncatedFileError(f"no bytes at {position} of {piece.last + 1}")
        position += len(data)
        yield data


def _gathered(runs: FileRuns, descriptor: int) -> bytes:
    return bytes(runs.read(descriptor, COPY_STEP))

"""The library's files as they are, byte for byte: `/media/PATH`."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from origin.mediatypes import media_type
from origin.representation import FileRepresentation, RepresentationResponse
from packager.storage import Library, LocalFile, NotFoundError

NOT_FOUND_MAX_AGE = 5
"""Seconds for which a cache may keep the answer that there is no such file."""

_ALLOWED = "GET, HEAD, OPTIONS"
_NO_SNIFFING = {"x-content-type-options": "nosniff"}


def routes(
    library: Library, *, max_age: int = 3600, not_found_max_age: int = NOT_FOUND_MAX_AGE
) -> list[BaseRoute]:
    """The routes of this wing.

    Args:
        library: The files.
        max_age: Seconds for which caches may keep a file.
        not_found_max_age: Seconds for which they may keep a 404.
    """
    return [Route("/media/{path:path}", _Files(library, max_age, not_found_max_age))]


class _Files:
    """The ASGI application behind the route: it sees every method, and answers each itself."""

    def __init__(self, library: Library, max_age: int, not_found_max_age: int) -> None:
        self._library = library
        self._cache_control = f"public, max-age={max_age}"
        self._absent_cache_control = f"public, max-age={not_found_max_age}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(scope["method"], scope["path_params"]["path"])
        await response(scope, receive, send)

    async def _respond(self, method: str, path: str) -> Response:
        if method == "OPTIONS":
            return Response(status_code=204, headers={"allow": _ALLOWED})
        if method not in ("GET", "HEAD"):
            # RFC 9110 §15.5.6: with the methods that the resource does have.
            return _refusal("Method Not Allowed\n", 405, {"allow": _ALLOWED})
        try:
            file = await open_file(self._library, path)
        except NotFoundError:
            # One answer for everything that isn't there or isn't to be seen.
            return _refusal("Not Found\n", 404, {"cache-control": self._absent_cache_control})
        return RepresentationResponse(
            FileRepresentation(file, media_type(path)),
            cache_control=self._cache_control,
            headers=_NO_SNIFFING,
        )


async def open_file(library: Library, name: str) -> LocalFile:
    """Open a file of the library without blocking the loop.

    Args:
        library: Where it lies.
        name: As an address names it.

    Returns:
        The open file, which the caller closes; nothing stays open when the caller is cancelled meanwhile.

    Raises:
        NotFoundError: There is no such file.
        OSError: The system can't open it now.
    """
    opening = asyncio.get_running_loop().run_in_executor(None, library.open, name)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(opening: asyncio.Future[LocalFile]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _refusal(text: str, status: int, headers: dict[str, str]) -> Response:
    return Response(text, status, {**headers, **_NO_SNIFFING}, "text/plain; charset=utf-8")

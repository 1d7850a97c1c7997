"""The library's files as they are, byte for byte: `/media/PATH`."""

from __future__ import annotations

import asyncio
import errno

import structlog
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from origin.mediatypes import media_type
from origin.openfiles import OpenFiles
from origin.representation import RepresentationResponse
from packager.storage import Library, LocalFile, NotFoundError

log = structlog.get_logger()

NOT_FOUND_MAX_AGE = 5
"""Seconds for which a cache may keep the answer that there is no such file."""

_ALLOWED = "GET, HEAD, OPTIONS"
_NO_SNIFFING = {"x-content-type-options": "nosniff"}

RETRY_SECONDS = 1
"""When a client may ask again for a file that the system could not open."""


def routes(
    library: Library,
    *,
    max_age: int = 3600,
    not_found_max_age: int = NOT_FOUND_MAX_AGE,
    open_files: OpenFiles | None = None,
) -> list[BaseRoute]:
    """The routes of this wing.

    Args:
        library: The files.
        max_age: Seconds for which caches may keep a file.
        not_found_max_age: Seconds for which they may keep a 404.
        open_files: Where files are kept for the requests that follow; None keeps none.
    """
    kept = OpenFiles(0) if open_files is None else open_files
    return [Route("/media/{path:path}", _Files(library, max_age, not_found_max_age, kept))]


class _Files:
    """The ASGI application behind the route: it sees every method, and answers each itself."""

    def __init__(self, library: Library, max_age: int, not_found_max_age: int, open_files: OpenFiles) -> None:
        self._library = library
        self._headers = {"cache-control": f"public, max-age={max_age}", **_NO_SNIFFING}
        self._raw_headers = tuple((name.encode(), value.encode()) for name, value in self._headers.items())
        self._absent_cache_control = f"public, max-age={not_found_max_age}"
        self._open_files = open_files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query: bytes = scope["query_string"]
        target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        response = await self._respond(scope["method"], scope["path_params"]["path"], target)
        await response(scope, receive, send)

    async def _respond(self, method: str, path: str, target: bytes) -> Response:
        if method == "OPTIONS":
            return Response(status_code=204, headers={"allow": _ALLOWED})
        if method not in ("GET", "HEAD"):
            # RFC 9110 §15.5.6: with the methods that the resource does have.
            return _refusal("Method Not Allowed\n", 405, {"allow": _ALLOWED})
        try:
            representation = await self._open_files.get(
                target, lambda: open_file(self._library, path), media_type(path), self._raw_headers
            )
        except NotFoundError:
            # One answer for everything that isn't there or isn't to be seen.
            return _refusal("Not Found\n", 404, {"cache-control": self._absent_cache_control})
        except OSError as error:
            # RFC 9110 §15.6.4: the asker isn't to blame, and it may be better soon.
            level = log.debug if error.errno in (errno.EMFILE, errno.ENFILE) else log.warning
            level("a file can't be opened", path=path, reason=error.strerror)
            return _refusal("Service Unavailable\n", 503, {"retry-after": str(RETRY_SECONDS)})
        headers = self._headers
        if (representation.etag or "").startswith("W/"):
            # A cache that kept a weak tag would renew it for ever, and never join it with the strong one that
            # the file has two seconds later.
            headers = {**headers, "cache-control": "no-cache"}
        return RepresentationResponse(representation, headers=headers)


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

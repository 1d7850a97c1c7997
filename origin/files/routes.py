"""The library's files as they are, byte for byte: `/media/PATH`."""

from __future__ import annotations

import errno

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from origin.files.open_files import OpenFileCache
from origin.http.media_types import media_type
from origin.http.refusal import plain_refusal
from origin.responses.common_headers import NO_SNIFFING
from origin.responses.representation import RepresentationResponse
from packager.concurrency import opened_in_thread
from packager.library.storage import Library, LocalFile, NotFoundError

log = structlog.get_logger()

NOT_FOUND_MAX_AGE = 5
"""Seconds for which a cache may keep the answer that there is no such file."""

ABSENT = {"cache-control": f"public, max-age={NOT_FOUND_MAX_AGE}"}
"""What answers of 404 say to caches."""

_ALLOWED = "GET, HEAD, OPTIONS"

PREFIX = "/media/"
"""Where the files are."""

RETRY_SECONDS = 1
"""When a client may ask again for a file that the system could not open."""


class Files:
    """The ASGI application of the library: it sees every method, and answers each itself.

    Args:
        library: The files.
        max_age: Seconds for which caches may keep a file.
        open_files: Where files are kept for the requests that follow; None keeps none.
        app: What answers for all other addresses; None: nobody does.
    """

    def __init__(
        self,
        library: Library,
        *,
        max_age: int = 3600,
        open_files: OpenFileCache | None = None,
        app: ASGIApp | None = None,
    ) -> None:
        self._library = library
        self._headers = ((b"cache-control", b"public, max-age=%d" % max_age), NO_SNIFFING)
        self._open_files = OpenFileCache(0) if open_files is None else open_files
        self._app = app or Response("Not Found\n", 404)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. A router would cost more than most answers."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        query: bytes = scope["query_string"]
        target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        response = await self._respond(scope["method"], scope["path"][len(PREFIX) :], target)
        await response(scope, receive, send)

    async def _respond(self, method: str, path: str, target: bytes) -> Response:
        if method == "OPTIONS":
            return Response(status_code=204, headers={"allow": _ALLOWED})
        if method not in ("GET", "HEAD"):
            # RFC 9110 §15.5.6: with the methods that the resource does have.
            return plain_refusal(405, "Method Not Allowed", {"allow": _ALLOWED})
        try:
            representation = await self._open_files.get(
                target, lambda: open_file(self._library, path), media_type(path), self._headers
            )
        except NotFoundError:
            # One answer for everything that isn't there or isn't to be seen.
            return plain_refusal(404, "Not Found", ABSENT)
        except OSError as error:
            # RFC 9110 §15.6.4: the client isn't to blame, and it may be better soon.
            level = log.debug if error.errno in (errno.EMFILE, errno.ENFILE) else log.warning
            level("a file can't be opened", path=path, reason=error.strerror)
            return plain_refusal(503, "Service Unavailable", {"retry-after": str(RETRY_SECONDS)})
        headers = self._headers
        if (representation.etag or "").startswith("W/"):
            # A cache that kept a weak tag would renew it for ever, and never join it with the strong one that
            # the file has two seconds later.
            headers = ((b"cache-control", b"no-cache"), NO_SNIFFING)
        return RepresentationResponse(representation, raw_headers=headers)


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
    return await opened_in_thread(library.open, name)

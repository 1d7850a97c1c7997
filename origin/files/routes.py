"""The endpoint of the library's files: `/media/PATH`."""

from __future__ import annotations

import errno
import functools

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from origin.files.open_files import OpenFileCache
from origin.http.media_types import media_type
from origin.responses.refusal import (
    ABSENT_FILE_SECONDS,
    OPENING_RETRY_SECONDS,
    absent,
    plain_refusal,
    unavailable,
)
from origin.responses.representation import RepresentationResponse
from origin.responses.response_middleware import NO_SNIFFING
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import LibraryFile, Storage

log = structlog.get_logger()

_ALLOWED = "GET, HEAD, OPTIONS"

PREFIX = "/media/"
"""Path prefix of the files."""


class Files:
    """The ASGI application of the library's files, in front of the application for other paths.

    Args:
        max_age: seconds for which caches may keep a file.
        open_files: the cache of open files; None for no cache.
        app: answers all other paths; None to answer 404.
    """

    def __init__(
        self,
        library: Storage,
        *,
        max_age: int = 3600,
        open_files: OpenFileCache | None = None,
        app: ASGIApp | None = None,
    ) -> None:
        self._library = library
        self._headers = ((b"cache-control", b"public, max-age=%d" % max_age), NO_SNIFFING)
        self._open_files = OpenFileCache(0) if open_files is None else open_files
        self._app = app or plain_refusal(404)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, without a router, which would cost more than most responses."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        response: Response
        if method in ("GET", "HEAD"):
            query: bytes = scope["query_string"]
            target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
            cached = self._open_files.borrow(target)
            if cached is None:
                response = await self._open(scope["path"][len(PREFIX) :], target)
            else:
                response = RepresentationResponse(cached, raw_headers=self._headers)
        elif method == "OPTIONS":
            response = Response(status_code=204, headers={"allow": _ALLOWED})
        else:
            # RFC 9110 §15.5.6: Allow lists the methods that the resource supports.
            response = plain_refusal(405, headers={"allow": _ALLOWED})
        await response(scope, receive, send)

    async def _open(self, path: str, target: bytes, *, is_second: bool = False) -> Response:
        """Open a file that isn't cached, or wait until another request has opened it.

        Args:
            is_second: whether it was opened before, and then turned out to be replaced.
        """
        try:
            representation = await self._open_files.get(
                target, lambda: open_file(self._library, path), media_type(path), self._headers
            )
        except NotFoundError:
            # Hidden and missing files get the same response.
            return absent(ABSENT_FILE_SECONDS)
        except OSError as error:
            level = log.debug if error.errno in (errno.EMFILE, errno.ENFILE) else log.warning
            level("a file can't be opened", path=path, reason=error.strerror)
            return unavailable(OPENING_RETRY_SECONDS)
        headers = self._headers
        if (representation.etag or "").startswith("W/"):
            # The entity-tag becomes a strong one in two seconds; caches must not keep the weak one.
            headers = ((b"cache-control", b"no-cache"), NO_SNIFFING)
        again = None if is_second else functools.partial(self._open, path, target, is_second=True)
        return RepresentationResponse(representation, raw_headers=headers, again=again)


async def open_file(library: Storage, name: str) -> LibraryFile:
    """Open a file of the library in a thread; it is closed again if the caller is cancelled.

    Raises:
        NotFoundError: there is no such file.
        OSError: the system can't open it now.
    """
    return await library.threads.opened(library.open, name)

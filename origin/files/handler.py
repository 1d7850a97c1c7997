"""The handler of the library's files: `/media/PATH`."""

from __future__ import annotations

import errno
import urllib.parse

import structlog
from starlette.routing import Route

from origin.answers.asgi import HandlerEndpoint
from origin.answers.refusals import (
    ABSENT_FILE_SECONDS,
    FOLDER_GONE,
    FOLDER_RETRY_SECONDS,
    OPENING_RETRY_SECONDS,
    READING_RETRY_SECONDS,
    refusal,
)
from origin.answers.reply import Pending, PendingTask, Reply
from origin.answers.representation_replies import with_first_bytes
from origin.answers.request import Request
from origin.files.open_files import OpenFileCache
from origin.http.client_limits import network_of
from origin.http.media_types import media_type
from packager.library.folder_state import FolderGoneError
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import FileChangedError, LibraryFile, Storage

log = structlog.get_logger()

PREFIX = b"/media/"
"""Path prefix of the files."""


def file_path(target: bytes) -> bytes:
    """Return the decoded path of a request's target, which is the same however its client spells it."""
    if b"?" not in target and b"%" not in target:
        return target
    return urllib.parse.unquote(target.partition(b"?")[0].decode("ascii")).encode()


class FileHandler:
    """Answers requests for files of the library.

    Args:
        max_age: seconds for which caches may keep a file.
        open_files: the cache of open files; None for no cache.
    """

    def __init__(
        self, library: Storage, max_age: int = 3600, open_files: OpenFileCache | None = None
    ) -> None:
        self._library = library
        self._headers = ((b"cache-control", b"public, max-age=%d" % max_age),)
        self._open_files = OpenFileCache(0) if open_files is None else open_files

    def handle(self, request: Request) -> Reply | Pending | None:
        """Return the reply with a file that is open, or open the file in a thread; see `Handler`."""
        path = file_path(request.target)
        cached = self._open_files.find(path, request.target.partition(b"?")[2])
        if cached is not None:
            return cached.reply(request)
        if not path.startswith(PREFIX):
            return None
        return PendingTask(self._open(request, path.removeprefix(PREFIX).decode()))

    def absent(self, request: Request) -> Reply:
        """Return the refusal of a request for what is no file."""
        return refusal(request, 404, ABSENT_FILE_SECONDS)

    async def _open(self, request: Request, name: str, *, is_second: bool = False) -> Reply:
        """Open a file that isn't cached, or wait until another request has opened it.

        Args:
            is_second: whether it was opened before, and then turned out to be replaced.
        """
        network = network_of(request.client)
        try:
            opened = await self._open_files.get(
                PREFIX + name.encode(),
                lambda: open_file(self._library, name, network),
                media_type(name),
                self._headers,
                request.target.partition(b"?")[2],
            )
        except NotFoundError:
            # Hidden and missing files get the same reply.
            return self.absent(request)
        except OSError as error:
            is_told = error.errno in (errno.EMFILE, errno.ENFILE) or isinstance(error, FolderGoneError)
            level = log.debug if is_told else log.warning
            level("a file can't be opened", path=name, reason=error.strerror)
            if isinstance(error, FolderGoneError):
                return refusal(request, 503, 0, FOLDER_GONE, retry_after=FOLDER_RETRY_SECONDS)
            return refusal(request, 503, 0, retry_after=OPENING_RETRY_SECONDS)
        try:
            return await with_first_bytes(opened.reply(request))
        except FileChangedError:
            if not is_second:
                return await self._open(request, name, is_second=True)
            return refusal(request, 503, 0, retry_after=READING_RETRY_SECONDS)
        except OSError as error:
            log.warning("a file can't be read", path=name, reason=str(error))
            return refusal(request, 503, 0, retry_after=READING_RETRY_SECONDS)


def file_routes(handler: FileHandler) -> list[Route]:
    """Make Starlette's routes of the files, OPTIONS among them."""
    return [Route(PREFIX.decode() + "{path:path}", HandlerEndpoint(handler, "GET, HEAD, OPTIONS"))]


async def open_file(library: Storage, name: str, network: str) -> LibraryFile:
    """Open a file of the library in a thread; it is closed again if the caller is cancelled.

    Args:
        network: the client's, which takes turns with others.

    Raises:
        NotFoundError: there is no such file.
        OSError: the system can't open it now.
    """
    return await library.threads.of(network).opened(library.open, name)

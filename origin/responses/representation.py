"""Representations of files and bytes, and the response that sends a representation or ranges of it.

Status, header fields and ranges are decided in `origin/http/answer.py`. Files are sent by sendfile where
possible, otherwise (TLS) copied in steps.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog
from starlette.responses import Response

from media.hls.precompressed_text import Pieces, rendered, size_of
from origin.http.answer import Headers, answer
from origin.http.byte_ranges import SelectedRange
from origin.http1.sendfile import ZERO_COPY, TruncatedFileError
from origin.responses.refusal import READING_RETRY_SECONDS, unavailable
from packager.concurrency import SHARED_THREADS, Threads
from packager.library.storage_interface import FileChangedError, LibraryFile

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send
from origin.http.representation import SelectedRepresentation

log = structlog.get_logger()

COPY_STEP = 256 * 1024
"""Bytes of one step of a copy, which is the memory that a slow client costs."""


class ThreadReader:
    """Reads ranges with a blocking function in a thread, and closes only after the last read.

    Unlike aiofiles, it reads at given positions, as several requests share one file.

    Args:
        read: returns up to a number of bytes from a position; other users may call it.
    """

    __slots__ = ("_read", "_reading", "_release", "_threads")

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        release: Callable[[], None],
        threads: Threads = SHARED_THREADS,
    ) -> None:
        self._read = read
        self._threads = threads
        self._release = release
        self._reading: asyncio.Future[bytes] | None = None

    async def read(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset` in a thread; b"" beyond the current end."""
        self._reading = self._threads.submit(self._read, offset, length)
        # The thread continues when the request is cancelled; `close` waits for it.
        return await asyncio.shield(self._reading)

    async def close(self) -> None:
        """Wait for the last read, then release."""
        try:
            if self._reading is not None:
                await asyncio.wait((self._reading,))
        finally:
            self._release()


class FileRepresentation(ThreadReader):
    """An open file of the library.

    Args:
        media_type: Content-Type.
        now: seconds since the epoch; a file that changed shortly before gets a weak entity-tag.
        release: called at the end instead of closing the file.
        etag: the entity-tag, if it is known.
    """

    __slots__ = ("_file", "etag", "last_modified", "media_type", "size")

    def __init__(
        self,
        file: LibraryFile,
        media_type: str,
        now: float | None = None,
        release: Callable[[], None] | None = None,
        etag: str | None = None,
    ) -> None:
        super().__init__(file.pread, release or file.close, file.threads)
        self.size = file.size
        self.etag = etag or file.validator(time.time() if now is None else now)
        self.last_modified: float | None = file.modified
        self.media_type = media_type
        self._file = file

    def descriptor(self) -> int | None:
        """Return the file's descriptor, if it has one."""
        return self._file.descriptor()


class BytesRepresentation:
    """A representation in memory.

    Args:
        data: the bytes, which must not change.
        media_type: Content-Type.
        etag: the entity-tag with its quotes.
        last_modified: seconds since the epoch.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        media_type: str,
        etag: str | None = None,
        last_modified: float | None = None,
    ) -> None:
        self.size = len(data)
        self.etag = etag
        self.last_modified = last_modified
        self.media_type = media_type
        self._data = data

    def descriptor(self) -> int | None:
        """None: there is no file."""
        return None

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """Return up to `length` bytes from `offset`, without copying them."""
        if offset == 0 and length >= self.size:
            return self._data
        return memoryview(self._data)[offset : offset + length]

    async def close(self) -> None:
        """Nothing to release."""


class PiecesRepresentation:
    """A representation of pieces in memory, some of which are rendered when they are read.

    Args:
        pieces: the pieces, which must not change.
        media_type: Content-Type.
        etag: the entity-tag with its quotes.
    """

    last_modified = None

    def __init__(self, pieces: Pieces, media_type: str, etag: str | None = None) -> None:
        self._begins = [0, *itertools.accumulate(size_of((piece,)) for piece in pieces)]
        self.size = self._begins.pop()
        self.etag = etag
        self.media_type = media_type
        self._pieces = pieces
        # Index and bytes of the piece that was rendered last, since the next read may begin within it.
        self._latest: tuple[int, bytes] = (-1, b"")

    def descriptor(self) -> int | None:
        """None: there is no file."""
        return None

    async def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, after yielding to other tasks."""
        await asyncio.sleep(0)
        first = bisect_right(self._begins, offset) - 1
        behind = bisect_right(self._begins, offset + length - 1)
        begin = offset - self._begins[first]
        return b"".join(map(self._bytes_of, range(first, behind)))[begin : begin + length]

    def _bytes_of(self, number: int) -> bytes:
        if self._latest[0] != number:
            self._latest = number, b"".join(rendered(self._pieces[number : number + 1]))
        return self._latest[1]

    async def close(self) -> None:
        """Nothing to release."""


class RepresentationResponse(Response):
    """The response to a GET or HEAD for a representation, with preconditions and ranges.

    Args:
        representation: the representation, which is closed at the end in any case.
        cache_control: Cache-Control.
        headers: further header fields, for every status.
        raw_headers: encoded header fields, names in lower case.
        again: makes the response anew where the file was replaced before anything of it was read; None: the
            client has to ask again.
    """

    def __init__(
        self,
        representation: SelectedRepresentation,
        *,
        cache_control: str | None = None,
        headers: Mapping[str, str] | None = None,
        raw_headers: Headers = (),
        again: Callable[[], Awaitable[Response]] | None = None,
    ) -> None:
        self.background = None
        self._again = again
        self.representation = representation
        self.raw_headers = [*raw_headers]
        if headers:
            self.raw_headers[:0] = [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
            ]
        if cache_control is not None:
            self.raw_headers.insert(0, (b"cache-control", cache_control.encode("latin-1")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        # A disconnected client is noticed on sending.
        try:
            reply = answer(
                scope["method"], scope["headers"], self.representation, time.time(), self.raw_headers
            )
            descriptor = None
            if ZERO_COPY in scope.get("extensions", ()):
                descriptor = self.representation.descriptor()
            try:
                ahead = b"" if descriptor is not None else await self._first_bytes(reply.body)
            except OSError as error:
                response = await self._instead(scope["path"], error)
                await response(scope, receive, send)
                return
            self.status_code = reply.status
            await send(
                {"type": "http.response.start", "status": reply.status, "headers": list(reply.headers)}
            )
            left = len(reply.body)
            for piece in reply.body or (b"",):
                left -= 1
                if isinstance(piece, bytes):
                    await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
                elif descriptor is None:
                    await self._copy(piece, left > 0, send, ahead)
                    ahead = b""
                else:
                    await send(_zero_copy(descriptor, piece, left > 0))
        finally:
            await self.representation.close()
        if self.background is not None:
            await self.background()

    async def _instead(self, path: str, error: OSError) -> Response:
        """Make the response where the representation can't be read, and nothing of it was sent yet."""
        if isinstance(error, FileChangedError) and self._again is not None:
            return await self._again()
        log.warning("file_unreadable", path=path, reason=str(error))
        return unavailable(READING_RETRY_SECONDS)

    async def _first_bytes(self, body: Sequence[bytes | SelectedRange]) -> bytes | memoryview:
        """Read what the first range begins with, before the response has begun."""
        part = next((piece for piece in body if not isinstance(piece, bytes)), None)
        if part is None:
            return b""
        return await self.representation.read(part.first, min(COPY_STEP, part.length))

    async def _copy(self, part: SelectedRange, more: bool, send: Send, ahead: bytes | memoryview) -> None:
        position = part.first
        while position <= part.last:
            length = min(COPY_STEP, part.last + 1 - position)
            try:
                data = ahead or await self.representation.read(position, length)
            except OSError as error:
                raise TruncatedFileError(f"{position} of {self.representation.size}: {error}") from None
            ahead = b""
            if not data:
                raise TruncatedFileError(f"no bytes at {position} of {self.representation.size}")
            position += len(data)
            await send(
                {"type": "http.response.body", "body": data, "more_body": more or position <= part.last}
            )


def _zero_copy(descriptor: int, part: SelectedRange, more: bool) -> Message:
    """Make the message that has the server send a range of a file."""
    first, last = part
    count = last + 1 - first
    return {"type": ZERO_COPY, "file": descriptor, "offset": first, "count": count, "more_body": more}

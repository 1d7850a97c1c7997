"""Files of the library that were resolved once and stay open for a moment, for the requests that follow.

A file is looked up again after a short validity; until then it is served as it was found: opened, its
validators known, the header fields of its answers encoded. Only files that anybody may read are kept here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from origin.http.byte_ranges import ByteRange, Span, select_span
from origin.http.select import Answer, Headers, answer, shared_headers
from origin.http1.fast_path import Reply, ResponseTemplate, encoded
from origin.http1.request_head import PlainFields
from origin.http1.response_head import STATUS_LINE
from origin.responses.representation import FileRepresentation
from packager.library.storage import SETTLED_AFTER, LocalFile

MAXIMUM_FILES = 256
"""Files that are kept open at most, beyond those that are being sent."""

VALID_SECONDS = 0.5
"""Time for which a file is served as it was found. The longest that a replaced file goes unnoticed."""


class SharedFile:
    """An open file with several users, closed by the last of them.

    Args:
        file: The file, of which its maker is the first user.
    """

    __slots__ = ("_users", "file")

    def __init__(self, file: LocalFile) -> None:
        self.file = file
        self._users = 1

    def acquire(self) -> None:
        """Be a user."""
        self._users += 1

    def release(self) -> None:
        """Be a user no longer."""
        self._users -= 1
        if not self._users:
            self.file.close()


class Resolved:
    """A file as an address led to it, with what its answers have in common.

    Args:
        shared: The open file, which this is a user of.
        media_type: Its Content-Type.
        headers: Raw header fields of every answer (Cache-Control and the like).
        common_headers: Those that the server adds to answers of the application.
        now: Seconds since the epoch.
        valid_until: When it must have been looked up again, by the monotonic clock.
        renewed_from: From when one request may look it up again.

    Attributes:
        is_fresh: Whether anybody may be answered without a look at the clock.
        is_claimed: Whether somebody was told to look it up again.
    """

    __slots__ = (
        "_headers",
        "is_claimed",
        "is_fresh",
        "media_type",
        "renewed_from",
        "representation",
        "shared",
        "size",
        "template",
        "valid_until",
    )

    def __init__(
        self,
        shared: SharedFile,
        media_type: str,
        headers: Headers,
        common_headers: Headers,
        now: float,
        valid_until: float,
        renewed_from: float,
    ) -> None:
        self.shared = shared
        self.media_type = media_type
        self.valid_until = valid_until
        self.renewed_from = renewed_from
        self.representation = FileRepresentation(shared.file, media_type, now)
        self.size = self.representation.size
        self._headers = (*headers, *common_headers)
        lines = encoded((*shared_headers(self.representation, headers, now), *common_headers))
        self.template = ResponseTemplate(self.size, lines)
        self.is_fresh = True
        self.is_claimed = False

    def age(self) -> None:
        """Be fresh no longer."""
        self.is_fresh = False

    def borrow(self) -> FileRepresentation:
        """The file for one more answer, whose end gives it back."""
        self.shared.acquire()
        shared, etag = self.shared, self.representation.etag
        return FileRepresentation(shared.file, self.media_type, release=shared.release, etag=etag)

    def reply(self, method: str, request: PlainFields, span: Span | None, common: bytes) -> Reply:
        """Decide the answer to a request, as `origin/http/select.py` does for every other.

        Args:
            method: GET or HEAD.
            request: The request's header fields.
            span: What its Range says, if that isn't among them.
            common: Encoded header fields that every answer of the server has.

        Returns:
            The answer.
        """
        size, file = self.size, self.shared.file.fd
        if method == "GET" and not request.is_conditional and not request.has_range:
            part = ByteRange(0, size - 1) if span is None else select_span(span, size)
            if part is not None and size:
                length = part.length
                if span is None:
                    return Reply(200, (self.template.whole(common), part), length, length, file)
                head = self.template.part(b"%d-%d" % part, length, common)
                return Reply(206, (head, part), length, length, file)
        fields = request.fields
        if span is not None:
            last = b"" if span[1] is None else b"%d" % span[1]
            fields = (*fields, (b"range", b"bytes=%d-%b" % (span[0], last)))
        general = answer(method, fields, self.representation, time.time(), self._headers)
        return _general(general, common, file)


class OpenFiles:
    """The files that are kept open, by the target as requests say it: a query names a version of its own.

    Args:
        maximum: How many; 0 keeps none.
        valid_seconds: For how long each is served without being looked up again.
        headers: Raw header fields that the server gives every answer to a request for a file.
    """

    def __init__(
        self, maximum: int = MAXIMUM_FILES, valid_seconds: float = VALID_SECONDS, headers: Headers = ()
    ) -> None:
        self._maximum = maximum
        self._valid_seconds = valid_seconds
        self._headers = tuple(headers)
        self._files: dict[bytes, Resolved] = {}
        self._lookups: dict[bytes, asyncio.Future[None]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def find(self, target: bytes) -> Resolved | None:
        """The file that a target led to a moment ago, for an answer on the connection.

        Returns:
            None when it has to be looked up, by `get`. While it is valid, one client of many hears so.
        """
        found = self._files.get(target)
        if found is None or (now := time.monotonic()) < found.renewed_from:
            return found
        if now >= found.valid_until:
            return None
        if found.is_claimed or target in self._lookups:
            return found
        found.is_claimed = True
        return None

    def fresh(self, target: bytes) -> Resolved | None:
        """The same for one who comes again and seldom needs to look at the clock; None: ask `find`."""
        found = self._files.get(target)
        if found is None or found.is_fresh:
            return found
        # While somebody looks it up, a thousand connections aren't to find each other's way anew.
        is_looked_up = found.is_claimed or target in self._lookups
        return found if is_looked_up and time.monotonic() < found.valid_until else None

    def valid(self, target: bytes) -> Resolved | None:
        """The file that a target led to, unless it is due to be looked up and nobody does so yet."""
        found = self._files.get(target)
        if found is None:
            return None
        until = found.valid_until if target in self._lookups else found.renewed_from
        return found if time.monotonic() < until else None

    async def get(
        self, target: bytes, open_file: Callable[[], Awaitable[LocalFile]], media_type: str, headers: Headers
    ) -> FileRepresentation:
        """The file that a target leads to: as it was found a moment ago, or looked up now.

        Args:
            target: The address's path and query, as the request says them.
            open_file: Looks it up; what it raises is raised.
            media_type: Its Content-Type.
            headers: Raw header fields of every answer.
        """
        if (kept := self.valid(target)) is not None:
            return kept.borrow()
        if (lookup := self._lookups.get(target)) is not None:
            # One of a crowd that comes at once looks it up for all, unless it is nothing to keep.
            await asyncio.wait((lookup,))
            if (kept := self.valid(target)) is not None:
                return kept.borrow()
        own = asyncio.get_running_loop().create_future()
        self._lookups.setdefault(target, own)
        looked_up = time.monotonic()
        try:
            file = await open_file()
            release = self._keep(target, file, media_type, headers, looked_up)
        finally:
            if self._lookups.get(target) is own:
                del self._lookups[target]
            own.set_result(None)
        return FileRepresentation(file, media_type, release=release)

    def _keep(
        self, target: bytes, file: LocalFile, media_type: str, headers: Headers, looked_up: float
    ) -> Callable[[], None]:
        """Keep a file that a target has just led to. Gives what its user calls when its use has ended."""
        now = time.time()
        if not self._maximum or file.modified > now - SETTLED_AFTER:
            # Its validators are about to change, without the file's changing.
            return file.close
        shared = SharedFile(file)
        shared.acquire()
        if target in self._files:
            self._drop(target)
        elif len(self._files) >= self._maximum:
            self._drop(next(iter(self._files)))
        kept = self._files[target] = Resolved(
            shared,
            media_type,
            headers,
            self._headers,
            now,
            valid_until=looked_up + self._valid_seconds,
            renewed_from=looked_up + self._valid_seconds / 2,
        )
        asyncio.get_running_loop().call_later(self._valid_seconds / 2, kept.age)
        self._schedule()
        return shared.release

    def _drop(self, target: bytes) -> None:
        dropped = self._files.pop(target)
        dropped.age()
        dropped.shared.release()

    def close(self) -> None:
        """Keep nothing any more: the server has ended."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for target in list(self._files):
            self._drop(target)

    def _schedule(self) -> None:
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._valid_seconds, self._drop_outdated)

    def _drop_outdated(self) -> None:
        """A file that nobody asks for isn't kept from being deleted for good."""
        self._sweep = None
        now = time.monotonic()
        for target in [target for target, file in self._files.items() if now >= file.valid_until]:
            self._drop(target)
        if self._files:
            self._schedule()


def _general(reply: Answer, common: bytes, file: int) -> Reply:
    head = b"%b%b%b\r\n" % (STATUS_LINE[reply.status], common, encoded(reply.headers))
    file_bytes = sum(piece.length for piece in reply.body if isinstance(piece, ByteRange))
    text_bytes = sum(len(piece) for piece in reply.body if not isinstance(piece, ByteRange))
    return Reply(reply.status, (head, *reply.body), file_bytes + text_bytes, file_bytes, file)

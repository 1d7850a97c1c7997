"""A cache of open files, like nginx's open_file_cache: descriptors, validators and encoded header fields.

An entry is valid for a short time, after which the file is looked up again. Only public files are cached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from origin.http.answer import Headers
from origin.http.byte_ranges import Span
from origin.http1.fast_path import Reply
from origin.http1.request_head import PlainFields
from origin.responses.prebuilt_headers import TemplatedRepresentation
from origin.responses.representation import FileRepresentation
from packager.library.local_storage import LocalFile
from packager.library.storage_interface import SETTLED_AFTER, LibraryFile

MAXIMUM_FILES = 256
"""Most cached files; files that are being sent stay open beyond that."""

VALID_SECONDS = 0.5
"""Validity of an entry: the longest time for which a replaced file goes unnoticed."""


class SharedFile:
    """An open file with a reference count, closed at zero.

    Args:
        file: the file; the creator holds the first reference.
    """

    __slots__ = ("_users", "file")

    def __init__(self, file: LocalFile) -> None:
        self.file = file
        self._users = 1

    def acquire(self) -> None:
        """Add a reference."""
        self._users += 1

    def release(self) -> None:
        """Drop a reference."""
        self._users -= 1
        if not self._users:
            self.file.close()


class Validity(NamedTuple):
    """The times at which a file was opened and must be looked up again.

    Attributes:
        opened: seconds since the epoch.
        renewed_from: from when one request may look it up again, by the monotonic clock.
        valid_until: when it must have been looked up again, by the monotonic clock.
    """

    opened: float
    renewed_from: float
    valid_until: float


class CachedFile:
    """An entry of the cache: an open file, and the encoded header fields of its responses.

    Args:
        shared: the open file, of which the entry holds a reference.
        media_type: Content-Type.
        headers: raw header fields of every response, such as Cache-Control.
        common_headers: raw header fields that the server adds to every response of the application.
        validity: until when the entry may be used.

    Attributes:
        is_fresh: whether the entry may be used without a look at the clock.
        is_being_renewed: whether a request was sent to look the file up again.
    """

    __slots__ = (
        "_templated",
        "is_being_renewed",
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
        validity: Validity,
    ) -> None:
        self.shared = shared
        self.media_type = media_type
        self.valid_until = validity.valid_until
        self.renewed_from = validity.renewed_from
        self.representation = FileRepresentation(shared.file, media_type, validity.opened)
        self.size = self.representation.size
        self._templated = TemplatedRepresentation(
            self.representation, headers, common_headers, validity.opened
        )
        self.template = self._templated.template
        self.is_fresh = True
        self.is_being_renewed = False

    def expire(self) -> None:
        """End the time for which the entry may be used without a look at the clock."""
        self.is_fresh = False

    def borrow(self) -> FileRepresentation:
        """Make a representation with a reference of its own, which its end releases."""
        self.shared.acquire()
        shared, etag = self.shared, self.representation.etag
        return FileRepresentation(shared.file, self.media_type, release=shared.release, etag=etag)

    def reply(self, method: str, request: PlainFields, span: Span | None, common: bytes) -> Reply:
        """Decide the response to a request.

        Args:
            method: GET or HEAD.
            span: the parsed Range field, if it isn't among them.
            common: encoded header fields of every response of the server.
        """
        return self._templated.reply(method, request, span, common, self.shared.file.fd)


class OpenFileCache:
    """The cache of open files, by request target with its query.

    Args:
        maximum: most entries; 0 disables the cache.
        valid_seconds: how long an entry is valid.
        headers: raw header fields of every response for a file.
    """

    def __init__(
        self, maximum: int = MAXIMUM_FILES, valid_seconds: float = VALID_SECONDS, headers: Headers = ()
    ) -> None:
        self._maximum = maximum
        self._valid_seconds = valid_seconds
        self._headers = tuple(headers)
        self._files: dict[bytes, CachedFile] = {}
        self._lookups: dict[bytes, asyncio.Future[None]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def is_enabled(self) -> bool:
        """Whether any file is cached."""
        return self._maximum > 0

    def find(self, target: bytes) -> CachedFile | None:
        """Find the entry of a target, for the fast path.

        Returns:
            None if `get` must look the file up; while the entry is still valid, for one request only.
        """
        found = self._files.get(target)
        if found is None or (now := time.monotonic()) < found.renewed_from:
            return found
        if now >= found.valid_until:
            return None
        if found.is_being_renewed or target in self._lookups:
            return found
        found.is_being_renewed = True
        return None

    def fresh(self, target: bytes) -> CachedFile | None:
        """Find a fresh entry of a target, mostly without a look at the clock; None to call `find`."""
        found = self._files.get(target)
        if found is None or found.is_fresh:
            return found
        # While one request looks it up, the others go on using the entry.
        is_looked_up = found.is_being_renewed or target in self._lookups
        return found if is_looked_up and time.monotonic() < found.valid_until else None

    def borrow(self, target: bytes) -> FileRepresentation | None:
        """Return a cached file; None if it is due for a lookup that nobody has begun."""
        found = self._files.get(target)
        if found is None:
            return None
        until = found.valid_until if target in self._lookups else found.renewed_from
        return found.borrow() if time.monotonic() < until else None

    async def get(
        self,
        target: bytes,
        open_file: Callable[[], Awaitable[LibraryFile]],
        media_type: str,
        headers: Headers,
    ) -> FileRepresentation:
        """Return the file of a target from the cache, or open it.

        Args:
            target: path and query of the request.
            open_file: opens the file; its exceptions are raised.
            media_type: Content-Type.
            headers: raw header fields of every response.
        """
        if (kept := self.borrow(target)) is not None:
            return kept
        if (lookup := self._lookups.get(target)) is not None:
            # One of several simultaneous requests opens the file for all, unless it can't be cached.
            await asyncio.wait((lookup,))
            if (kept := self.borrow(target)) is not None:
                return kept
        own = asyncio.get_running_loop().create_future()
        self._lookups.setdefault(target, own)
        looked_up = time.monotonic()
        try:
            file = await open_file()
            release = self.keep(target, file, media_type, headers, looked_up)
        finally:
            if self._lookups.get(target) is own:
                del self._lookups[target]
            own.set_result(None)
        return FileRepresentation(file, media_type, release=release)

    def keep(
        self, target: bytes, file: LibraryFile, media_type: str, headers: Headers, looked_up: float
    ) -> Callable[[], None]:
        """Cache a file that was just opened; return the function that releases it; see `share`."""
        shared = self.share(target, file, media_type, headers, looked_up)
        return file.close if shared is None else shared.release

    def share(
        self, target: bytes, file: LibraryFile, media_type: str, headers: Headers, looked_up: float
    ) -> SharedFile | None:
        """Cache a file that was just opened; return it with a reference that the caller releases.

        Args:
            target: what it is found by: path and query of requests for it, or what is made of it.
            file: the file, which is the cache's from here on.
            media_type: Content-Type.
            headers: raw header fields of every response.
            looked_up: from when on it was opened, by the monotonic clock.

        Returns:
            None, and the file is the caller's, if it can't be cached.
        """
        now = time.time()
        if not self._maximum or not isinstance(file, LocalFile) or file.modified > now - SETTLED_AFTER:
            # Only a descriptor is worth keeping; and a file that changed just now has a weak entity-tag,
            # which becomes a strong one soon.
            return None
        shared = SharedFile(file)
        shared.acquire()
        if target in self._files:
            self._drop(target)
        elif len(self._files) >= self._maximum:
            self._drop(next(iter(self._files)))
        kept = self._files[target] = CachedFile(
            shared,
            media_type,
            headers,
            self._headers,
            Validity(now, looked_up + self._valid_seconds / 2, looked_up + self._valid_seconds),
        )
        asyncio.get_running_loop().call_later(self._valid_seconds / 2, kept.expire)
        self._schedule()
        return shared

    def _drop(self, target: bytes) -> None:
        dropped = self._files.pop(target)
        dropped.expire()
        dropped.shared.release()

    def close(self) -> None:
        """Close all cached files at the server's end."""
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
        """Close files that aren't requested any more, so that deleting them frees the disk space."""
        self._sweep = None
        now = time.monotonic()
        for target in [target for target, file in self._files.items() if now >= file.valid_until]:
            self._drop(target)
        if self._files:
            self._schedule()

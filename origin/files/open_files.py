"""A cache of open files, like nginx's open_file_cache: descriptors, validators and encoded header fields.

An entry is valid for a short time behind its look-up, and then one request looks the file up again. Only
public files are cached.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from origin.answers.byte_sources import ThreadSource
from origin.answers.heads import RepresentationHead
from origin.answers.reply import ByteSource, Repeatable, Reply
from origin.answers.representation_replies import RepresentationReplies
from origin.answers.request import Request
from origin.answers.single_flight import SingleFlight
from origin.http.answer import Headers
from origin.http.representation import RepresentationMetadata
from packager.library.local_storage import LocalFile, NotFoundError
from packager.library.storage_interface import LibraryFile, is_settled

MAXIMUM_FILES = 256
"""Most cached files; files that are being sent stay open beyond that."""

MOST_QUERIES = 16
"""Most queries of an address that are known to have been asked for since a file was opened."""

VALID_SECONDS = 0.5
"""Validity of an entry: the longest time behind a look-up for which a replaced file goes unnoticed."""


class SharedFile:
    """An open file with a reference count, closed at zero; the source of replies with its bytes.

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

    def descriptor(self) -> int:
        """Return the file's descriptor."""
        return self.file.fd

    async def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, read in a thread that keeps the file open."""
        self.acquire()
        reading = self.file.threads.submit(self.file.pread, offset, length)
        reading.add_done_callback(lambda _: self.release())
        return await asyncio.shield(reading)


class Validity(NamedTuple):
    """The times at which a file must be looked up again.

    Attributes:
        renewed_from: from when one request may look it up again, by the monotonic clock.
        valid_until: when it must have been looked up again, by the monotonic clock.
    """

    renewed_from: float
    valid_until: float


class OpenedFile(NamedTuple):
    """An open file and the replies with it.

    Attributes:
        source: a reference of its own, which the reply that is made of it releases.
        repeat: answers the same request again, while the file is cached.
    """

    replies: RepresentationReplies
    source: ByteSource
    repeat: Repeatable | None = None

    def reply(self, request: Request) -> Reply:
        """Decide the reply to a request."""
        return self.replies.reply(request, self.source, self.repeat)


class CachedFile:
    """An entry of the cache: an open file, and the encoded heads of the replies with it.

    Args:
        shared: the open file, of which the entry holds a reference.
        repeat: answers requests again that the cache has answered.
        validity: until when the entry may be used.

    Attributes:
        is_fresh: whether the entry may be used without a look at the clock.
        is_being_renewed: whether a request was sent to look the file up again.
        queries: queries of the requests for which the file was looked up.
    """

    __slots__ = (
        "is_being_renewed",
        "is_fresh",
        "queries",
        "renewed_from",
        "repeat",
        "replies",
        "shared",
        "valid_until",
    )

    def __init__(
        self, shared: SharedFile, replies: RepresentationReplies, repeat: Repeatable, validity: Validity
    ) -> None:
        self.shared = shared
        self.replies = replies
        self.repeat = repeat
        self.valid_until = validity.valid_until
        self.renewed_from = validity.renewed_from
        self.is_fresh = True
        self.is_being_renewed = False
        self.queries = set[bytes]()

    def expire(self) -> None:
        """End the time for which the entry may be used without a look at the clock."""
        self.is_fresh = False

    def is_for(self, query: bytes) -> bool:
        """Return whether the file was looked up for a query: another one may name a newer version."""
        return not query or query in self.queries

    def borrow(self) -> OpenedFile:
        """Return the file with a reference of its own, which the reply releases."""
        self.shared.acquire()
        return OpenedFile(self.replies, self.shared, self.repeat)

    def reply(self, request: Request) -> Reply:
        """Decide the reply to a request."""
        self.shared.acquire()
        return self.replies.reply(request, self.shared, self.repeat)


class RepeatedFile:
    """Answers further requests for a file from the cache, whichever version of the file that holds.

    Args:
        target: names the file; the same for all spellings of its address.
    """

    __slots__ = ("_files", "_latest", "_target")

    def __init__(self, files: OpenFileCache, target: bytes) -> None:
        self._files = files
        self._target = target
        self._latest: CachedFile | None = None

    def current(self) -> tuple[RepresentationHead, SharedFile] | None:
        """Return the heads and the file, as long as the cache may answer; see `Repeatable`."""
        latest = self._latest
        if latest is None or not latest.is_fresh:
            latest = self._latest = self._files.fresh(self._target)
            if latest is None:
                return None
        return latest.replies.head, latest.shared


class OpenFileCache:
    """The cache of open files, by decoded paths of requests.

    Args:
        maximum: most entries; 0 disables the cache.
        valid_seconds: how long an entry is valid.
    """

    def __init__(self, maximum: int = MAXIMUM_FILES, valid_seconds: float = VALID_SECONDS) -> None:
        self._maximum = maximum
        self._valid_seconds = valid_seconds
        self._files: dict[bytes, CachedFile] = {}
        self._lookups = SingleFlight[bytes, OpenedFile | None](lend, take_back)
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def is_enabled(self) -> bool:
        """Whether any file is cached."""
        return self._maximum > 0

    def find(self, target: bytes, query: bytes = b"") -> CachedFile | None:
        """Find the entry of a target, for the fast path.

        Args:
            query: of the request, whose address may be that of another version of the file.

        Returns:
            None if `get` must look the file up; while the entry is still valid, for one request only.
        """
        found = self._files.get(target)
        if found is not None and not found.is_for(query):
            return None
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

    def _borrow(self, target: bytes, query: bytes) -> OpenedFile | None:
        """Return a cached file; None if it is due for a lookup that nobody has begun."""
        found = self._files.get(target)
        if found is None or not found.is_for(query):
            return None
        until = found.valid_until if target in self._lookups else found.renewed_from
        return found.borrow() if time.monotonic() < until else None

    async def get(
        self,
        target: bytes,
        open_file: Callable[[], Awaitable[LibraryFile]],
        media_type: str,
        headers: Headers,
        query: bytes = b"",
    ) -> OpenedFile:
        """Return the file of a target from the cache, or open it.

        Args:
            target: names the file; the same for all spellings of its address.
            open_file: opens the file; its exceptions are raised.
            headers: raw header fields of every response.
            query: see `find`.
        """
        if (kept := self._borrow(target, query)) is not None:
            return kept
        own: list[OpenedFile] = []

        async def look_up() -> OpenedFile | None:
            file = await open_file()
            if (shared := self._shared(target, file, media_type, headers)) is None:
                own.append(opened_once(file, media_type, headers))
            return shared

        if query and target in self._lookups:
            # This look-up began before the request came, perhaps before the file was replaced. All requests
            # that wait for its end share the next one, so that queries which vary don't each open the file.
            with contextlib.suppress(NotFoundError, OSError):
                take_back(await self._lookups.do(target, _nothing))
        opened = await self._lookups.do(target, look_up)
        if query and (cached := self._files.get(target)) is not None:
            if len(cached.queries) >= MOST_QUERIES:
                cached.queries.clear()
            cached.queries.add(query)
        if opened is not None:
            return opened
        # Each request opens a file by itself that can't be shared.
        return own.pop() if own else opened_once(await open_file(), media_type, headers)

    def _shared(
        self, target: bytes, file: LibraryFile, media_type: str, headers: Headers
    ) -> OpenedFile | None:
        """Return a file for all who have asked for it; None if it can't be shared."""
        shared = self.share(target, file, media_type, headers)
        if shared is not None:
            cached = self._files[target]
            return OpenedFile(cached.replies, shared, cached.repeat)
        # One that changed just now isn't cached.
        return opened_once(file, media_type, headers) if isinstance(file, LocalFile) else None

    def share(self, target: bytes, file: LibraryFile, media_type: str, headers: Headers) -> SharedFile | None:
        """Cache a file that was just opened; return it with a reference that the caller releases.

        Args:
            target: the file's address, the same for all spellings of it, and of what is made of the file.
            file: the file, which is the cache's from here on.
            headers: raw header fields of every response.

        Returns:
            None, and the file is the caller's, if it can't be cached.
        """
        # The time of the look-up doesn't count: on a busy event loop it could be longer than the validity.
        now, opened = time.time(), time.monotonic()
        if (
            not self._maximum
            or not isinstance(file, LocalFile)
            or not is_settled(file.modified, file.changed, now)
        ):
            # Only a descriptor is worth keeping; and a file that changed just now has a weak entity-tag,
            # which becomes a strong one soon.
            return None
        shared = SharedFile(file)
        shared.acquire()
        former = self._files.get(target)
        if former is not None:
            self._drop(target)
        elif len(self._files) >= self._maximum:
            self._drop(next(iter(self._files)))
        kept = self._files[target] = CachedFile(
            shared,
            RepresentationReplies(metadata_of(file, media_type, now), headers, now),
            RepeatedFile(self, target),
            Validity(opened + self._valid_seconds / 2, opened + self._valid_seconds),
        )
        if former is not None and _version(former.shared.file) == _version(file):
            kept.queries = former.queries
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


async def _nothing() -> OpenedFile | None:
    """Return no file, in the place of a look-up that was cancelled."""
    return None


def _version(file: LocalFile) -> tuple[object, ...]:
    return file.size, file.modified, file.changed


def lend(opened: OpenedFile | None) -> None:
    """Add a reference to an opened file for a further request."""
    if opened is not None and isinstance(opened.source, SharedFile):
        opened.source.acquire()


def take_back(opened: OpenedFile | None) -> None:
    """Drop the reference of a request that doesn't need the file any more."""
    if opened is not None and isinstance(opened.source, SharedFile):
        opened.source.release()


def opened_once(file: LibraryFile, media_type: str, headers: Headers) -> OpenedFile:
    """Return a file that isn't cached."""
    now = time.time()
    metadata = metadata_of(file, media_type, now)
    if (metadata.etag or "").startswith("W/"):
        # The entity-tag becomes a strong one in two seconds; caches must not keep the weak one.
        headers = ((b"cache-control", b"no-cache"),)
    source: ByteSource
    if isinstance(file, LocalFile):
        source = SharedFile(file)
    else:
        source = ThreadSource(file.pread, file.close, file.threads, file.descriptor())
    return OpenedFile(RepresentationReplies(metadata, headers, now), source)


def metadata_of(file: LibraryFile, media_type: str, now: float) -> RepresentationMetadata:
    """Describe an open file for its replies; one that changed shortly before `now` gets a weak entity-tag."""
    return RepresentationMetadata(file.size, media_type, file.validator(now), file.modified)

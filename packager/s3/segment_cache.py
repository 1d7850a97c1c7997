"""Encoded segments of films in the bucket of their library, where all nodes find them.

An object consists of a line with its name and the segment's size and hash, and of the segment. Other objects
aren't served or removed.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import nsmallest

import structlog

from packager.hashed_file_cache import Place
from packager.library.local_storage import NotFoundError
from packager.s3.client import AccessRefusedError, ListedObject, S3Client
from packager.s3.limits import MAX_IN_FLIGHT, S3Limits
from packager.threads import ThreadLimits, Threads

log = structlog.get_logger()

ENCODED_FOLDER = ".encoded"
"""Folder of the objects below the library's prefix. Its name is hidden: no address of a library has it."""

STORED_AT_ONCE = 4
"""Most segments that are stored at the same time."""

SLOW_SECONDS = 60.0
"""How long no segment is looked for after one that S3 took too long for."""

MAX_LISTED = 1_000_000
"""Most keys of a listing; behind more of them nothing is stored."""

MAX_REMOVED = 5000
"""Most objects that are removed after a listing."""

MAX_HEADER_BYTES = 256
"""Longest first line of an object, with some room."""

_NAME = re.compile(r"[0-9a-f]{32}-[0-9]{1,5}\.segment")
_HEADER = re.compile(rb"headwater encoded segment (\S+) ([0-9]{1,15}) [0-9a-f]{64}\n")
_MEDIA_TYPE = "application/octet-stream"


@dataclass(slots=True)
class _ListedSegments:
    """The segments of a listing: their totals, and the oldest ones, oldest first."""

    names: int = 0
    objects: int = 0
    total_bytes: int = 0
    oldest: list[tuple[int, str, int]] = field(default_factory=list)

    def add(self, page: list[ListedObject]) -> None:
        """Add a page of the listing."""
        found = [(one.modified, one.key, one.size) for one in page if _NAME.fullmatch(one.key)]
        self.names += len(page)
        self.objects += len(found)
        self.total_bytes += sum(size for _, _, size in found)
        self.oldest = nsmallest(MAX_REMOVED, self.oldest + found)


class BucketSegmentCache:
    """A cache of encoded segments in S3, which the servers of one library share; where it fails, they encode.

    Args:
        address: ``s3://bucket/prefix`` of the library.

    Raises:
        ValueError: the address isn't possible.
    """

    def __init__(self, address: str, limits: S3Limits) -> None:
        folder = f"{address.rstrip('/')}/{ENCODED_FOLDER}"
        # A bucket that refuses to store segments goes on being read, and the refusal is logged once.
        limits = replace(limits, pauses=limits.encoded_pauses)
        self._reading = S3Client(folder, limits)
        self._storing = S3Client(folder, limits)
        self._limits = limits
        self._threads = Threads(ThreadLimits(threads=MAX_IN_FLIGHT), "encoded")
        self._queue = asyncio.Queue[tuple[str, bytes]](limits.waiting_segments)
        self._waiting_bytes = 0
        # Whether the objects must be listed, since some were stored, or can't be stored.
        self._changed = asyncio.Event()
        self._is_stopped = False
        self._told = ""
        self._slow_until = 0.0

    async def find(self, place: Place) -> bytes | None:
        """Return a segment; None where there is none, or S3 fails or takes too long."""
        if time.monotonic() < self._slow_until:
            return None
        try:
            async with asyncio.timeout(self._limits.find_seconds):
                found = await self._threads.run(self._read, _name_of(place))
        except TimeoutError:
            self._slow_until = time.monotonic() + SLOW_SECONDS
            return None
        except (NotFoundError, OSError):
            return None
        if found is None:
            return None
        data, age = found
        if age > self._limits.stale_seconds:
            self.keep(place, data)
        return data

    def keep(self, place: Place, data: bytes) -> None:
        """Store a segment in the background, unless many others wait or S3 refuses."""
        waiting_bytes = self._waiting_bytes + len(data)
        if self._is_stopped or self._queue.full() or waiting_bytes > self._limits.waiting_segment_bytes:
            return
        self._waiting_bytes = waiting_bytes
        self._queue.put_nowait((_name_of(place), data))

    async def run(self) -> None:
        """Store segments and remove the oldest, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(STORED_AT_ONCE):
                group.create_task(self._store())
            group.create_task(self._trim())

    async def _store(self) -> None:
        while True:
            name, data = await self._queue.get()
            try:
                if not self._is_stopped:
                    await self._threads.run(self._put, name, data)
                    self._told = ""
                    self._changed.set()
            except AccessRefusedError as error:
                self._stop(str(error))
            except OSError:  # the client logs it; the segment is stored when it is encoded the next time
                pass
            finally:
                self._waiting_bytes -= len(data)

    async def _trim(self) -> None:
        """Remove the oldest segments some time after others were stored."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._limits.trim_seconds)
            self._changed.clear()
            try:
                is_bounded = await self._remove_oldest()
            except OSError as error:
                self._stop(str(error))
            else:
                self._is_stopped = False
                if not is_bounded:
                    self._stop("the oldest segments can't be removed")

    def _stop(self, reason: str) -> None:
        """Store nothing until the next listing is done."""
        self._is_stopped = True
        self._changed.set()
        if reason != self._told:
            self._told = reason
            log.warning(
                "encoded segments aren't stored in S3",
                bucket=self._storing.bucket,
                prefix=self._storing.prefix,
                reason=reason,
            )

    async def _remove_oldest(self) -> bool:
        """Remove the oldest segments; return whether the rest is within the limits.

        Raises:
            OSError: S3 can't do it now, or refuses.
        """
        pages, listing = self._reading.objects(), _ListedSegments()
        while await self._threads.run(_list_page, pages, listing):
            if listing.names > MAX_LISTED:
                return False
        limits = self._limits
        for _, name, size in listing.oldest:
            if listing.total_bytes <= limits.encoded_bytes and listing.objects <= limits.encoded_objects:
                break
            await self._threads.run(self._remove, name, size)
            listing.total_bytes -= size
            listing.objects -= 1
        return listing.total_bytes <= limits.encoded_bytes and listing.objects <= limits.encoded_objects

    def _read(self, name: str) -> tuple[bytes, float] | None:
        """Return a segment and its age in seconds; None where the object is damaged."""
        version, stored = self._reading.read_first(
            name, self._limits.waiting_segment_bytes + MAX_HEADER_BYTES
        )
        header, _, data = stored.partition(b"\n")
        if header + b"\n" != _header_of(name, data):
            log.warning("an encoded segment in S3 is damaged", key=name, prefix=self._reading.prefix)
            return None
        return data, time.time() - version.modified / 1e9

    def _put(self, name: str, data: bytes) -> None:
        self._storing.put(name, _header_of(name, data) + data, _MEDIA_TYPE)

    def _remove(self, name: str, size: int) -> None:
        """Remove an object, if its first line shows that it was stored as a segment."""
        try:
            version, begin = self._reading.read_first(name, MAX_HEADER_BYTES)
        except NotFoundError:  # another node was faster
            return
        found = _HEADER.match(begin)
        if found is None or found[1] != name.encode():
            return
        if found.end() + int(found[2]) == size == version.size:
            self._storing.delete(name)


def _list_page(pages: Iterator[list[ListedObject]], listing: _ListedSegments) -> bool:
    """Add the next page to a listing; return whether there was one."""
    page = next(pages, None)
    if page is not None:
        listing.add(page)
    return page is not None


def _name_of(place: Place) -> str:
    return f"{place[0]}-{place[1]}.segment"


def _header_of(name: str, data: bytes) -> bytes:
    """Return the first line of the object of a segment."""
    return f"headwater encoded segment {name} {len(data)} {hashlib.sha256(data).hexdigest()}\n".encode()

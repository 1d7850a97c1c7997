"""Reads objects by blocks: each is taken from the cache, or fetched once for all who want it at the time."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future

from packager.library.storage_interface import Identity
from packager.s3.block_cache import BlockCache, BlockKey
from packager.s3.client import ObjectVersion, S3Client
from packager.s3.limits import S3Limits


def identity_of(version: ObjectVersion) -> Identity:
    """Return numbers that are equal only for the same version of an object."""
    return _number(version.key), _number(version.etag), version.size, version.modified


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


class ObjectReader:
    """Reads ranges of objects. Methods block, and several threads may call them at once.

    Args:
        client: the client of the bucket.
    """

    def __init__(self, client: S3Client, cache: BlockCache, limits: S3Limits) -> None:
        self._client = client
        self._cache = cache
        self._limits = limits
        self._lock = threading.Lock()
        self._fetched: dict[BlockKey, Future[bytes]] = {}

    def read_first(self, key: str) -> ObjectVersion:
        """Open an object of which nothing is known by reading its first block; raises as `S3Client`."""
        version, data = self._client.read_first(key, self._limits.cache.block_bytes)
        if data:
            self._cache.keep((identity_of(version), 0), data)
        return version

    def read(self, version: ObjectVersion, offset: int, length: int) -> bytes:
        """Read a range: fewer bytes only where the object ends.

        Args:
            offset: position of the first byte.

        Raises:
            FileChangedError: the object was replaced, and some of these bytes were never fetched.
            NotFoundError: the object was removed, and some of these bytes were never fetched.
            OSError: S3 can't be reached.
        """
        stop = min(offset + length, version.size)
        if offset >= stop:
            return b""
        size = self._limits.cache.block_bytes
        identity = identity_of(version)
        ranges = {
            number: (max(offset - number * size, 0), min(stop - number * size, size))
            for number in range(offset // size, (stop - 1) // size + 1)
        }
        pieces = {
            number: piece
            for number, (first, behind) in ranges.items()
            if (piece := self._cache.read((identity, number), first, behind)) is not None
        }
        lacking = [number for number in ranges if number not in pieces]
        self._client.counters.looked_up(len(pieces), len(lacking))
        for number, block in self._blocks(version, identity, lacking):
            first, behind = ranges[number]
            pieces[number] = block[first:behind]
        return pieces[offset // size] if len(pieces) == 1 else b"".join(pieces[number] for number in ranges)

    def _blocks(
        self, version: ObjectVersion, identity: Identity, numbers: Sequence[int]
    ) -> Iterator[tuple[int, bytes]]:
        """Fetch blocks, or wait for those who fetch them."""
        own: dict[int, Future[bytes]] = {}
        others: dict[int, Future[bytes]] = {}
        size = self._limits.cache.block_bytes
        with self._lock:
            for number in numbers:
                key = identity, number
                if (fetched := self._fetched.get(key)) is not None:
                    others[number] = fetched
                else:
                    own[number] = self._fetched[key] = Future()
        try:
            # Somebody may have fetched it since it was looked for.
            for number, fetched in own.items():
                if (block := self._cache.read((identity, number), 0, size)) is not None:
                    fetched.set_result(block)
            for run in _runs(
                [number for number, fetched in own.items() if not fetched.done()],
                max(1, self._limits.requests.request_bytes // size),
            ):
                self._fetch(version, identity, run, own)
        except BaseException as error:
            for fetched in own.values():
                if not fetched.done():
                    fetched.set_exception(error)
            raise
        finally:
            with self._lock:
                for number in own:
                    del self._fetched[identity, number]
        for number, fetched in (own | others).items():
            yield number, fetched.result(self._limits.wait_seconds)

    def _fetch(
        self, version: ObjectVersion, identity: Identity, run: range, own: dict[int, Future[bytes]]
    ) -> None:
        size = self._limits.cache.block_bytes
        start = run.start * size
        data = self._client.read(version, start, min(run.stop * size, version.size))
        for number in run:
            block = data[number * size - start : (number + 1) * size - start]
            self._cache.keep((identity, number), block)
            own[number].set_result(block)


def _runs(numbers: Iterable[int], most: int) -> Iterator[range]:
    """Join numbers that follow each other, but no more than so many."""
    run = range(0)
    for number in numbers:
        if run and number == run.stop and len(run) < most:
            run = range(run.start, number + 1)
            continue
        if run:
            yield run
        run = range(number, number + 1)
    if run:
        yield run

"""Reads objects by blocks: each is taken from the cache, or fetched once for all who want it at the time."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence

from packager.blocking_calls import ThreadFlights
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
        self._fetches = ThreadFlights[BlockKey, bytes]()

    def read_first(self, key: str) -> ObjectVersion:
        """Open an object of which nothing is known by reading its first block; raises as `S3Client`."""
        version, data = self._client.read_first(key, self._limits.block_bytes)
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
        size = self._limits.block_bytes
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
        keys = [(identity, number) for number in lacking]
        for (_, number), block in self._fetches.do_all(keys, functools.partial(self._fetch, version)):
            first, behind = ranges[number]
            pieces[number] = block[first:behind]
        return pieces[offset // size] if len(pieces) == 1 else b"".join(pieces[number] for number in ranges)

    def _fetch(self, version: ObjectVersion, keys: Sequence[BlockKey]) -> Iterator[tuple[BlockKey, bytes]]:
        """Fetch blocks, those together that follow each other."""
        size, lacking = self._limits.block_bytes, list[BlockKey]()
        for key in keys:
            # Another call may have fetched it since it was looked for.
            if (block := self._cache.read(key, 0, size)) is not None:
                yield key, block
            else:
                lacking.append(key)
        identity, runs = identity_of(version), max(1, self._limits.request_bytes // size)
        for run in _runs([number for _, number in lacking], runs):
            start = run.start * size
            data = self._client.read(version, start, min(run.stop * size, version.size))
            for number in run:
                block = data[number * size - start : (number + 1) * size - start]
                self._cache.keep((identity, number), block)
                yield (identity, number), block


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

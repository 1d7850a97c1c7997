"""Objects of a bucket that are never replaced, read by ranges through a cache of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from packager.s3.block_cache import BlockCache
from packager.s3.client import S3Client
from packager.s3.limits import S3Limits
from packager.s3.object_files import S3File, S3Objects
from packager.s3.object_reader import ObjectReader

KNOWN_SECONDS = 600.0
"""How long a known entity-tag of an object is assumed to be unchanged."""


class BucketFiles:
    """Objects below one address, which nothing replaces. Methods block; several threads may call them.

    Args:
        address: ``s3://bucket/prefix``.
        folder: the folder of the cache.

    Attributes:
        address: the address, without a slash at its end.
        client: the client of the bucket.
        storing: asks S3 for who stores: viewers who read a lot aren't before it.
        threads: the threads for blocking calls.

    Raises:
        ValueError: the address isn't possible.
    """

    def __init__(self, address: str, folder: Path, limits: S3Limits) -> None:
        self.client = S3Client(address, limits)
        self.storing = S3Client(address, limits)
        self.address = "/".join(filter(None, (f"s3://{self.client.bucket}", self.client.prefix)))
        self.cache = BlockCache(folder, limits)
        limits = replace(limits, known_seconds=KNOWN_SECONDS)
        reader = ObjectReader(self.client, self.cache, limits)
        # Callers know the keys of their objects: a channel may have a name that no file is served by.
        self._objects = S3Objects(self.client, reader, limits, is_part=bool)
        self.threads = self._objects.threads

    @property
    def trouble(self) -> str:
        """Why S3 can't be reached, or refuses; empty where all is well."""
        return self.client.reachability.trouble

    def open(self, key: str) -> S3File:
        """Open an object.

        Raises:
            NotFoundError: there is none.
            OSError: S3 can't be reached now, or refuses.
        """
        return self._objects.open(key)

    def close(self) -> None:
        """Free the disk space."""
        self.cache.close()

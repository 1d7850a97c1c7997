"""A rendition's place in a bucket, in which several processes may store and read."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

from packager.dvr.bucket.bucket_rendition import BucketFolder, NewestNumbers
from packager.dvr.bucket.dvr_bucket import DvrBucket
from packager.dvr.bucket.past_pieces import PastPieces
from packager.dvr.limits import DvrLimits
from packager.s3.client import S3Client, UnavailableError
from packager.s3.limits import S3Limits
from packager.window.cadence import cadence
from tests.s3_server import BUCKET, S3Server

S3 = S3Limits(retries=4, retry_seconds=30.0)
TIMES = cadence(Fraction(30), 1.0, 0.25)
KEY = "live/one/dvr/240p"


class RenditionInBucket:
    """The place of a rendition in a bucket, which several processes may use.

    Args:
        name: of the place.
        folder: of the caches.
        limits: of whoever stores and reads there.
    """

    def __init__(self, server: S3Server, name: str, folder: Path, limits: DvrLimits) -> None:
        self.store = server.store(name)
        self.limits = limits
        self._folder = folder
        self._opened: list[DvrBucket] = []
        self._storers = itertools.count(1)
        self.bucket = self.open(f"s3://{BUCKET}/{name}")

    def open(self, address: str) -> DvrBucket:
        """Open the place as another process does."""
        self._opened.append(DvrBucket(address, self._folder, S3))
        return self._opened[-1]

    def close(self) -> None:
        for one in self._opened:
            one.close()

    def writer(self) -> BucketFolder:
        """Begin as a process does that stores from now on."""
        folder = BucketFolder(self.bucket.storing, KEY, next(self._storers), self.limits)
        folder.load(TIMES, NewestNumbers(0, self.limits.piece_lines))
        return folder

    def past(self, limits: DvrLimits | None = None) -> PastPieces:
        found = self.open(self.bucket.address).past(
            f"{self.bucket.address}/{KEY}", TIMES, limits or self.limits
        )
        assert found is not None
        return found

    def names(self, folder: str = "", of: str = KEY) -> list[str]:
        """Give the keys below the rendition's, or below a folder of it.

        Args:
            of: the key of what has the folder.
        """
        prefix = f"{of}/{folder}"
        found = sorted(one["path"] for one in self.store.list().collect())
        return [key.removeprefix(prefix) for key in found if key.startswith(prefix)]


class MortalClient(S3Client):
    """A client of a process that dies before one of its changes."""

    changes = 0

    def put(self, key: str, data: bytes, media_type: str, note: str = "") -> None:
        self._live()
        super().put(key, data, media_type, note)

    def delete(self, key: str) -> None:
        self._live()
        super().delete(key)

    def _live(self) -> None:
        self.changes -= 1
        if self.changes < 0:
            raise UnavailableError("killed")

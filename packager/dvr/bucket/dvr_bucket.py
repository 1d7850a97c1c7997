"""The S3 bucket in which live channels' DVRs are, and what this process reads of them through a cache."""

from __future__ import annotations

import re
from pathlib import Path

from packager.bounded_dict import BoundedDict
from packager.dvr.bucket.past_pieces import PastPieces
from packager.dvr.date_ranges.date_range_objects import DateRangeObjects
from packager.dvr.limits import DEFAULT_LIMITS, DvrLimits
from packager.library.local_storage import NotFoundError
from packager.s3.immutable_objects import BucketFiles
from packager.s3.limits import MAX_IN_FLIGHT, S3Limits
from packager.s3.object_files import S3File
from packager.threads import ThreadLimits, Threads
from packager.window.cadence import Cadence

_RENDITION = r"(?:live|radio)/[A-Za-z0-9._-]{1,64}/dvr/[A-Za-z0-9-]{1,80}"
_FOLDER = re.compile(_RENDITION)
_SEGMENT = re.compile(rf"{_RENDITION}/(?:0|[1-9][0-9]{{0,14}})-[1-9][0-9]{{0,9}}\.(?:m4s|vtt)")

MOST_READ_CHANNELS = 16
"""Most channels of whose date ranges something may be in memory."""

MOST_READ_RENDITIONS = 256
"""Most renditions of whose past something may be in memory."""


class DvrBucket(BucketFiles):
    """A place for the DVRs of live channels and stations in S3; see `BucketFiles`.

    Attributes:
        storing_threads: where to call ``storing``.
    """

    def __init__(self, address: str, folder: Path, limits: S3Limits) -> None:
        super().__init__(address, folder, limits)
        self.storing_threads = Threads(ThreadLimits(threads=MAX_IN_FLIGHT), "dvr")
        self._past = BoundedDict[tuple[str, Cadence], PastPieces](MOST_READ_RENDITIONS)
        self._date_ranges = BoundedDict[str, DateRangeObjects](MOST_READ_CHANNELS)

    def past(self, folder: str, cadence: Cadence, limits: DvrLimits = DEFAULT_LIMITS) -> PastPieces | None:
        """Return what finds segments of a rendition that have left its playlist; in the event loop.

        Args:
            folder: the address of the rendition, as a channel's log has it.
            cadence: the channel's, which its other segments have.

        Returns:
            None where the address isn't in this place.
        """
        key = folder.removeprefix(f"{self.address}/")
        if key == folder or _FOLDER.fullmatch(key) is None:
            return None
        found = self._past.use((key, cadence))
        if found is None:
            found = self._past[key, cadence] = PastPieces(self, key, cadence, limits)
        return found

    def date_ranges(self, folder: str) -> DateRangeObjects | None:
        """Return the date ranges of a channel's DVR; in the event loop.

        Args:
            folder: the address of a rendition, as the channel's log has it.

        Returns:
            None where the address isn't in this place.
        """
        key = folder.removeprefix(f"{self.address}/")
        if key == folder or _FOLDER.fullmatch(key) is None:
            return None
        key = key.rpartition("/")[0]
        found = self._date_ranges.use(key)
        if found is None:
            found = self._date_ranges[key] = DateRangeObjects.in_bucket(self.storing, key)
        return found

    def open_segment(self, path: str) -> S3File:
        """Open a segment. Blocks.

        Args:
            path: its address, as a channel's log has it.

        Raises:
            NotFoundError: there is none, or the address isn't that of a segment in this place.
            OSError: S3 can't be reached now, or refuses.
        """
        key = path.removeprefix(f"{self.address}/")
        if key == path or _SEGMENT.fullmatch(key) is None:
            raise NotFoundError(path)
        return self.open(key)

"""A channel's recordings in an S3 bucket, where they were copied to: any node lists and serves them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Never

import structlog

from packager.library.local_storage import NotFoundError
from packager.recordings import metadata as metadata_files
from packager.recordings.disk_recordings import RecordingReader, StretchMovie
from packager.recordings.limits import DEFAULT_LIMITS, RecordingsLimits
from packager.recordings.metadata import RecordingMetadata
from packager.recordings.recording_writer import METADATA
from packager.s3.immutable_objects import BucketFiles
from packager.s3.object_files import S3File

log = structlog.get_logger()

BUCKET_LOOK_SECONDS = 10.0
"""Seconds between two listings of the recordings in S3."""

MAX_BUCKET_RECORDINGS = 1000
"""Most recordings of a channel that are served from S3, the newest."""


class BucketRecording:
    """A recorded event in S3; see `Recording`.

    Args:
        folder: the prefix of its keys, without a slash at the end.

    Attributes:
        obstacle: why the recording has no MP4.
        stretches: nothing, as its stretches have none either.
        threads: the threads that open and read its files.
    """

    obstacle = "its MP4 is where it was recorded"
    stretches: tuple[StretchMovie, ...] = ()

    def __init__(self, metadata: RecordingMetadata, folder: str, bucket: BucketFiles) -> None:
        self.metadata = metadata
        self.path = f"{bucket.address}/{folder}"
        self.threads = bucket.threads
        self._folder = folder
        self._bucket = bucket

    def reading(self) -> AbstractContextManager[RecordingReader]:
        """Keep nothing, as this server removes no recordings in S3."""
        return contextlib.nullcontext(RecordingReader())

    def open(self, name: str) -> S3File:
        """Open one of its files. Blocks.

        Raises:
            NotFoundError: there is no such file.
            OSError: S3 can't be reached now.
        """
        return self._bucket.open(f"{self._folder}/{name}")

    def movie(self, stretch: int = 0) -> Never:
        """Raise: a recording in S3 has no MP4."""
        del stretch
        raise NotFoundError(self.obstacle)


class BucketRecordings:
    """The recordings of one channel in S3.

    Args:
        bucket: the bucket, in which a folder of the channel's name has the recordings.
        limits: how often the bucket is searched for new ones.

    Attributes:
        trouble: why the recordings can't be listed; empty where they can.
    """

    def __init__(self, channel: str, bucket: BucketFiles, limits: RecordingsLimits = DEFAULT_LIMITS) -> None:
        self.name = f"recordings of {channel} in S3"
        self.trouble = ""
        self._channel = channel
        self._bucket = bucket
        self._limits = limits
        self._known: dict[str, BucketRecording] = {}

    def __iter__(self) -> Iterator[BucketRecording]:
        """Iterate over them, the latest first."""
        return iter(sorted(self._known.values(), key=lambda one: one.metadata.age))

    def get(self, name: str) -> BucketRecording | None:
        """Find a recording by its name."""
        return self._known.get(name)

    def of_programme(self, name: str) -> BucketRecording | None:
        """Find the recording of a programme."""
        return next((one for one in self._known.values() if one.metadata.programme == name), None)

    def having(self, number: int) -> BucketRecording | None:
        """Find the recording that has a segment."""
        found = (one for one in self._known.values() if one.metadata.first <= number <= one.metadata.last)
        return next(found, None)

    async def run(self) -> None:
        """List the recordings at intervals until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(BUCKET_LOOK_SECONDS)

    async def look(self) -> None:
        """List the recordings; while S3 can't be reached, the known ones stay."""
        try:
            self._known = await self._bucket.threads.run(self._find)
        except OSError as error:
            if self.trouble != str(error):
                log.warning("recordings in S3 can't be listed", channel=self._channel, reason=str(error))
            self.trouble = str(error)
        else:
            self.trouble = ""

    def close(self) -> None:
        """Do nothing, as no request waits here."""

    def _find(self) -> dict[str, BucketRecording]:
        found = {}
        for name in self._names():
            recording = self._known.get(name) or self._read(name)
            if recording is not None:
                found[name] = recording
        return found

    def _names(self) -> Sequence[str]:
        """Return the names of the newest recordings."""
        names = filter(metadata_files.ID.fullmatch, self._bucket.client.folders(self._channel))
        return sorted(names)[-MAX_BUCKET_RECORDINGS:]

    def _read(self, name: str) -> BucketRecording | None:
        """Read a recording's metadata, which are the last file to be copied."""
        folder = f"{self._channel}/{name}"
        try:
            version, data = self._bucket.client.read_first(
                f"{folder}/{METADATA}", self._limits.metadata_bytes
            )
        except NotFoundError:
            return None
        metadata = metadata_files.decode_metadata(data) if version.size == len(data) else None
        if metadata is None or metadata.id != name:
            log.warning("a folder in S3 isn't a recording", place=f"{self._bucket.address}/{folder}")
            return None
        return BucketRecording(metadata, folder, self._bucket)

"""The recordings of a cluster's station: made on the disk of one node, and kept in S3 for all nodes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import AsyncIterator, Callable

import structlog

from packager.concurrency import background_task
from packager.recordings.bucket_recordings import BucketRecording, BucketRecordings
from packager.recordings.bucket_upload import UPLOADS, copying
from packager.recordings.disk_recordings import (
    FOR_EVER,
    RETENTION_LOOK_SECONDS,
    Recording,
    Recordings,
    Retention,
    excess_of,
    expired,
)
from packager.recordings.limits import RecordingsLimits
from packager.recordings.metadata import RecordingMetadata
from packager.safe_files import DataFolder

log = structlog.get_logger()


class StagedRecordings:
    """The recordings of a station, while this node makes further ones.

    A recording counts once it is in S3 with its metadata. Until then its span waits, and whichever node makes
    the station's recordings by then makes it.

    Args:
        place: the folder in which recordings are made.
        bucket: the finished recordings of the station.
        retention: how long they are kept.

    Attributes:
        may_add: returns whether this node, and no other one, makes recordings now.
        announce: called with the name of a recording that was added or removed, for other nodes.
    """

    def __init__(
        self,
        channel: str,
        place: DataFolder,
        bucket: BucketRecordings,
        retention: Retention,
        limits: RecordingsLimits,
    ) -> None:
        self.place = place
        self.may_add: Callable[[], bool] = lambda: True
        self.announce: Callable[[str], None] = lambda _: None
        self._channel = channel
        self._bucket = bucket
        self._retention = retention
        self._limits = limits
        self._staged = Recordings(place, channel, FOR_EVER, limits)

    @property
    def metadata(self) -> list[RecordingMetadata]:
        """The metadata of all recordings, those too that are on their way to S3."""
        return [*self._bucket.metadata, *self._staged.metadata]

    @property
    def excess(self) -> int:
        """Bytes that recordings which are never removed by themselves have above the most of all."""
        return excess_of(self._bucket, self._retention)

    def get(self, name: str) -> BucketRecording | None:
        """Find a recording by its name."""
        return self._bucket.get(name)

    def of_span(self, name: str) -> BucketRecording | None:
        """Find the recording of a span that was to be kept."""
        return self._bucket.of_span(name)

    async def add(self, metadata: RecordingMetadata) -> None:
        """Put a recording that was made into S3.

        Raises:
            OSError: S3 can't be reached, or refuses, or a file can't be read.
        """
        if (known := self._bucket.get(metadata.id)) is not None and known.metadata == metadata:
            return
        await self._staged.add(metadata)
        if (made := self._staged.get(metadata.id)) is not None:
            with made.held():
                await UPLOADS.run(self._copy, made)
        await self._bucket.look()
        if (listed := self._bucket.get(metadata.id)) is None:
            raise OSError(errno.EAGAIN, self._bucket.trouble or "S3 doesn't list a recording")
        self.announce(metadata.id)
        await self._staged.remove(metadata.id)
        if listed.metadata.span != metadata.span:
            raise OSError(errno.EAGAIN, "another recording of the same second has come before")
        await self._expire()

    def _copy(self, made: Recording) -> None:
        for _ in copying(self._bucket.bucket.storing, self._channel, made):
            if not self.may_add():
                raise OSError(errno.EAGAIN, "another node may own the station now")

    async def remove(self, name: str) -> bool:
        """Remove a recording for the administrator; return False where there is none of the name.

        Raises:
            OSError: S3 can't be reached, or refuses.
        """
        is_removed = await self._bucket.remove(name)
        if is_removed:
            self.announce(name)
        return is_removed

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make recordings, and keep to their retention, while the context is open; S3 is waited for."""
        # A recording that an earlier process left here is made once more, of the collected segments.
        await self._staged.load()
        for one in [*self._staged]:
            await self._staged.remove(one.metadata.id)
        await self._bucket.look()
        while self._bucket.trouble:
            await asyncio.sleep(self._limits.copy_look_seconds)
            await self._bucket.look()
        async with background_task(self._keep()):
            yield

    async def _keep(self) -> None:
        while True:
            try:
                await self._expire()
            except OSError as error:
                log.warning("recordings can't be removed", channel=self._channel, reason=str(error))
            await asyncio.sleep(RETENTION_LOOK_SECONDS)

    async def _expire(self) -> None:
        for one in expired(self._bucket, self._retention, time.time()):
            await self.remove(one.metadata.id)

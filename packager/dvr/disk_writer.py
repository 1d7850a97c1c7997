"""Writes a channel's queued segments to disk, off the event loop.

The channel never waits for the disk. A segment stays in memory until it is stored, since what was published
is never taken back (RFC 8216bis §6.2.1); it becomes a gap in the DVR only if too many wait.
"""

from __future__ import annotations

import asyncio

from packager.dvr.index import IndexLine, stored_of
from packager.dvr.limits import DvrLimits
from packager.dvr.segment_removal import NO_ROOM, ROOM_FOR_LINES, SegmentRemover
from packager.dvr.write_queue import DiskHealth, PendingWrite, Removal, WriteQueue
from packager.threads import SHARED_THREADS
from packager.window.model import LiveSegment

WRITE_ATTEMPTS = 3
"""Most attempts to write a segment while the removal of older ones may make room for it."""


class Writer:
    """Carries out the queued writes and removals of one channel.

    Args:
        health: notes successes and failures of the disk.
    """

    def __init__(
        self,
        queue: WriteQueue,
        removal: SegmentRemover,
        health: DiskHealth,
        limits: DvrLimits,
    ) -> None:
        self._limits = limits
        self._queue = queue
        self._removal = removal
        self._health = health
        self._is_full = False

    async def run(self) -> None:
        """Write and remove for ever."""
        while True:
            self._queue.look()
            await self._removal.archive_queued()
            if not self._queue.has_archivals:
                await self._removal.remove_queued()
            put = self._queue.take_put()
            if put is not None:
                await self._store(put)
            elif self._health.reason or not self._queue.has_archivals:
                await self._rest()

    async def _rest(self) -> None:
        """Wait for work; a disk that has failed is tried meanwhile, as an idle channel stores nothing."""
        while self._health.reason:
            try:
                async with asyncio.timeout(self._limits.look_seconds):
                    await self._queue.work()
                return
            except TimeoutError:
                if await SHARED_THREADS.run(self._removal.has_room):
                    self._health.recovered()
        await self._queue.work()

    async def _store(self, put: PendingWrite) -> None:
        writer = put.segment_store.writer
        segment = None if writer is None else writer.window.at(put.number)
        if writer is None or segment is None:
            return
        line = await self._write(put, segment)
        if line is None:
            # A listed segment must be stored: try again, the disk may have recovered.
            self._queue.put_back(put, is_next=self._is_full)
            await asyncio.sleep(self._limits.retry_seconds)
            return
        if not line.parts:
            return
        self._removal.used += line.size
        if not writer.confirm(put.number, stored_of(line)):
            # Too late: it has become a gap in the playlist, and stays one.
            self._queue.remove(Removal(put.segment_store, put.number, line.size, (), oldest=False))
            if writer.window.at(put.number) is not None:
                self._queue.put(put)
            return
        self._health.succeeded()
        await self._removal.make_room()

    async def _write(self, put: PendingWrite, segment: LiveSegment) -> IndexLine | None:
        """Write a segment, or note a gap; None if the disk fails."""
        for _ in range(WRITE_ATTEMPTS):
            try:
                return await SHARED_THREADS.run(put.segment_store.folder.store, segment, put.left)
            except OSError as error:
                self._health.failed(error.strerror or str(error))
                self._is_full = error.errno in NO_ROOM
                if not self._is_full:
                    break
                if await self._removal.free(len(segment.data) + ROOM_FOR_LINES):
                    continue
                if not self._removal.forget_oldest():
                    break
                await self._removal.remove_queued()
        return None

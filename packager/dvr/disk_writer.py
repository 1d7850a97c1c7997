"""Writes a channel's queued segments to disk, off the event loop; removes the oldest when the disk is full.

The channel never waits for the disk. A segment stays in memory until it is stored, since what was published
is never taken back (RFC 8216bis §6.2.1); it becomes a gap in the DVR only if too many wait.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import IndexLine, stored_of
from packager.dvr.limits import DvrLimits
from packager.dvr.write_queue import DiskHealth, PendingWrite, Removal, RenditionStore, WriteQueue
from packager.window.model import LiveSegment
from packager.window.rendition_log_writer import RenditionWriter

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))


class Writer:
    """Writes and removes what is in one channel's queue.

    Args:
        segment_stores: those of the renditions that are published now.
        health: is told how the disk does.
        max_bytes: most bytes of segments that are kept; 0: as many as the window's time asks for. Half of
            them are listed, for what has left the list stays fetchable as long again (§6.2.2).

    Attributes:
        used: bytes of the stored segments.
    """

    def __init__(
        self,
        queue: WriteQueue,
        segment_stores: Mapping[str, RenditionStore],
        health: DiskHealth,
        max_bytes: int,
        limits: DvrLimits,
    ) -> None:
        self._limits = limits
        self._queue = queue
        self._segment_stores = segment_stores
        self._health = health
        self._max_bytes = max_bytes
        self.used = 0

    async def run(self) -> None:
        """Write and remove for ever."""
        while True:
            self._queue.look()
            await self._remove_all()
            put = self._queue.take_put()
            if put is None:
                await self._queue.work()
            else:
                await self._store(put)

    async def _store(self, put: PendingWrite) -> None:
        writer = put.segment_store.writer
        segment = None if writer is None else writer.window.at(put.number)
        if writer is None or segment is None:
            return
        line = await self._write(put, segment)
        if line is None:
            # What is listed must be stored: try again, the disk may have recovered.
            self._queue.put_back(put)
            await asyncio.sleep(self._limits.retry_seconds)
            return
        if not line.parts:
            return
        self.used += line.size
        if not writer.confirm(put.number, stored_of(line)):
            # Too late: it has become a gap in the playlist, and stays one.
            self._queue.remove(Removal(put.segment_store, put.number, line.size, (), oldest=False))
            if writer.window.at(put.number) is not None:
                self._queue.put(put)
            return
        self._health.succeeded()
        while self._max_bytes and 2 * self._listed_bytes > self._max_bytes and retire_oldest(self._writers):
            pass
        while self._max_bytes and self.used > self._max_bytes and self._shorten():
            if not await self._remove_all():
                # Forgetting more segments makes no room as long as the disk removes none.
                break

    async def _write(self, put: PendingWrite, segment: LiveSegment) -> IndexLine | None:
        """Write a segment, or note a gap; None if the disk fails."""
        for _ in range(self._limits.attempts):
            try:
                return await asyncio.to_thread(put.segment_store.folder.store, segment, put.left)
            except OSError as error:
                self._health.failed(error.strerror or str(error))
                if error.errno not in _NO_ROOM or not self._shorten():
                    break
                await self._remove_all()
        return None

    async def _remove_all(self) -> bool:
        """Remove all that is to go; what the disk refuses is tried again later. Tell whether it all went."""
        removals = self._queue.take_removals()
        if not removals:
            return True
        outcome = await asyncio.to_thread(_remove, removals)
        self.used -= outcome.bytes
        self._queue.put_back_removals(outcome.refused[-self._limits.failed_removals :])
        if outcome.reason:
            self._health.failed(outcome.reason)
        return not outcome.refused

    @property
    def _writers(self) -> list[RenditionWriter]:
        return [one.writer for one in self._segment_stores.values() if one.writer is not None]

    @property
    def _listed_bytes(self) -> int:
        return sum(writer.window.totals.size for writer in self._writers)

    def _shorten(self) -> bool:
        """Let all renditions forget the oldest number; False if nothing is left to forget."""
        writers = self._writers
        oldest = min(writer.window.oldest_number for writer in writers)
        shortened = [writer.forget() for writer in writers if writer.window.oldest_number == oldest]
        return any(shortened)


def retire_oldest(writers: Iterable[RenditionWriter]) -> bool:
    """Remove the oldest number from the lists of all renditions; False if none is to go."""
    listing = [writer for writer in writers if writer.window.listed]
    oldest = min(writer.window.listed[0].number for writer in listing)
    retired = [writer.retire() for writer in listing if writer.window.listed[0].number == oldest]
    return any(retired)


@dataclass(slots=True)
class _RemovalOutcome:
    """The outcome of some removals.

    Attributes:
        bytes: of the segments that are gone.
        refused: those whose segment the disk didn't remove.
        reason: why something couldn't be done, the last time; empty where all was.
    """

    bytes: int = 0
    refused: list[Removal] = field(default_factory=list)
    reason: str = ""


def _remove(removals: Sequence[Removal]) -> _RemovalOutcome:
    """Remove segments one by one, then what else their folders don't need any more; it blocks."""
    outcome = _RemovalOutcome()
    unneeded: dict[DvrFolder, set[int]] = {}
    for one in removals:
        folder = one.segment_store.folder
        try:
            outcome.bytes += folder.remove(one.number, one.size, oldest=one.oldest)
        except OSError as error:
            outcome.refused.append(one)
            outcome.reason = str(error)
        else:
            unneeded.setdefault(folder, set()).update(one.timelines)
    for folder, timelines in unneeded.items():
        try:
            folder.tidy(timelines)
        except OSError as error:
            outcome.reason = str(error)
    return outcome

"""The removal of a DVR's segments from disk: those whose time is over, and the oldest where room is short."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.write_queue import DiskHealth, Removal, RenditionStore, WriteQueue
from packager.window.rendition_log_writer import RenditionWriter

MAX_FAILED_REMOVALS = 4096
"""Most segments that wait for another attempt to remove them; more stay on disk until the next start."""


class SegmentRemover:
    """Removes the queued segments of one channel from disk, and the oldest ones where room is short.

    Args:
        segment_stores: the stores of the renditions that are published now.
        health: notes what the disk refuses.
        max_bytes: most bytes of segments that are kept; 0: as many as the window's time asks for. Half of
            them are listed, as segments stay fetchable as long again once they have left the list (§6.2.2).

    Attributes:
        used: bytes of the stored segments.
    """

    def __init__(
        self,
        queue: WriteQueue,
        segment_stores: Mapping[str, RenditionStore],
        health: DiskHealth,
        max_bytes: int,
    ) -> None:
        self._queue = queue
        self._segment_stores = segment_stores
        self._health = health
        self._max_bytes = max_bytes
        self.used = 0

    async def remove_queued(self) -> bool:
        """Carry out the queued removals; return whether all succeeded. Failed ones are queued again."""
        removals = self._queue.take_removals()
        if not removals:
            return True
        outcome = await asyncio.to_thread(_remove, removals)
        self.used -= outcome.bytes
        self._queue.put_back_removals(outcome.refused[-MAX_FAILED_REMOVALS:])
        if outcome.reason:
            self._health.failed(outcome.reason)
        return not outcome.refused

    async def make_room(self) -> None:
        """Take the oldest segments off the lists, and remove the oldest stored ones, beyond ``max_bytes``."""
        while self._max_bytes and 2 * self._listed_bytes > self._max_bytes and retire_oldest(self._writers):
            pass
        while self._max_bytes and self.used > self._max_bytes and self.forget_oldest():
            if not await self.remove_queued():
                # Forgetting more segments makes no room as long as the disk removes none.
                break

    def has_room(self) -> bool:
        """Return whether the disk takes a file in each rendition's folder. Blocks: call it in a thread."""
        try:
            for one in self._segment_stores.values():
                if not one.refused:
                    one.folder.try_write()
        except OSError:
            return False
        return True

    def forget_oldest(self) -> bool:
        """Forget the oldest number in all renditions; return False if there is none left."""
        writers = self._writers
        oldest = min(writer.window.finished.oldest_number for writer in writers)
        shortened = [writer.forget() for writer in writers if writer.window.finished.oldest_number == oldest]
        return any(shortened)

    @property
    def _writers(self) -> list[RenditionWriter]:
        return [one.writer for one in self._segment_stores.values() if one.writer is not None]

    @property
    def _listed_bytes(self) -> int:
        return sum(writer.window.finished.totals.size for writer in self._writers)


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
        refused: the removals that the disk refused.
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

"""The queue of segments to store and to remove between the windows and the disk; does no I/O."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import IndexLine, archived_line_of
from packager.window.model import LiveSegment, StoredSegment
from packager.window.rendition_log_writer import RenditionWriter

log = structlog.get_logger()

_Key = tuple["RenditionStore", int]


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """A segment to store, or a gap to note, by number: what the window has when it is written.

    Attributes:
        left: discontinuities before it.
    """

    segment_store: RenditionStore
    number: int
    left: int

    @property
    def key(self) -> _Key:
        """Identifies the write in the queue."""
        return self.segment_store, self.number


@dataclass(frozen=True, slots=True)
class Removal:
    """A segment and init segments to remove.

    Attributes:
        size: its bytes on disk, 0 if it isn't stored; a file of another size is not removed.
        oldest: whether it is the oldest segment.
    """

    segment_store: RenditionStore
    number: int
    size: int
    timelines: Sequence[int]
    oldest: bool = True


@dataclass(frozen=True, slots=True)
class Archival:
    """A segment or gap that has left the playlist, to be put into the blocks of the past."""

    segment_store: RenditionStore
    line: IndexLine


_NO_ROOM = frozenset(map(os.strerror, (errno.ENOSPC, errno.EDQUOT)))
_ROOM_ADVICE = "free space where server.data is, or set a shorter dvr or a smaller dvr_size"


class DiskHealth:
    """Whether one channel's DVR can be stored; changes are logged.

    Args:
        calm_writes: successful writes in a row after which the disk counts as healthy again.
        slow: the reason that is logged where segments are lost since too many wait.

    Attributes:
        reason: why segments aren't stored properly; empty if they are.
    """

    def __init__(self, channel: str, calm_writes: int, slow: str = "the disk is too slow") -> None:
        self._channel = channel
        self._slow = slow
        self._calm_writes = calm_writes
        self.reason = ""
        self._calm = self._lost = 0

    def failed(self, reason: str) -> None:
        """Note an error of the disk."""
        if not self.reason:
            advice = {"advice": _ROOM_ADVICE} if reason in _NO_ROOM else {}
            log.warning("DVR isn't kept", channel=self._channel, reason=reason, **advice)
        self.reason, self._calm = reason, 0

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Note an error of the disk that comes up in the context, and go on behind it."""
        try:
            yield
        except OSError as error:
            self.failed(error.strerror or str(error))

    def lost(self, waiting: int) -> None:
        """Note that a segment was lost, since so many bytes waited for the disk."""
        self.failed(self._slow)
        if not self._lost:
            log.warning("DVR loses segments", channel=self._channel, waiting_bytes=waiting)
        self._lost += 1

    def succeeded(self) -> None:
        """Note that a segment was stored."""
        self._calm += 1
        if self._calm >= self._calm_writes:
            self.recovered()

    def recovered(self) -> None:
        """Note that the disk takes files again, without waiting for more segments."""
        if self.reason:
            log.info("DVR is kept again", channel=self._channel, lost=self._lost)
            self.reason, self._lost = "", 0


class WriteQueue:
    """Segments and deletions that wait for a channel's disk.

    Args:
        health: notes segments that are lost.
        max_waiting: most bytes that wait in memory although they have left the live window.
        max_leaving: most segments that wait to be put into the past, and most that wait to be removed, beyond
            those that a start has found.

    Attributes:
        waiting: bytes that wait so now.
    """

    def __init__(self, health: DiskHealth, max_waiting: int, max_leaving: int) -> None:
        self._health = health
        self._max_waiting = max_waiting
        self._max_archivals = self._max_removals = max_leaving
        self.waiting = 0
        # Bounded by the windows: what a window forgets is taken out.
        self._puts: OrderedDict[_Key, PendingWrite] = OrderedDict()
        self._removals: deque[Removal] = deque()
        self._archivals: deque[Archival] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()

    def put(self, put: PendingWrite) -> None:
        """Queue a segment, replacing what is queued under its number."""
        self._puts[put.key] = put
        self._wake()

    def put_back(self, put: PendingWrite, *, is_next: bool = False) -> None:
        """Queue a segment again whose write failed; the queue stays busy.

        Args:
            is_next: whether it comes before all others, as where there is no room for any: what is older than
                the first that waits may be removed to make some.
        """
        self._puts.setdefault(put.key, put)
        if is_next:
            self._puts.move_to_end(put.key, last=False)

    def remove(self, removal: Removal, *, is_found: bool = False) -> None:
        """Queue a removal; where too many wait, the oldest is left to the next start.

        Args:
            is_found: whether a start has found the segment, of which its index had no more than may be read.
        """
        self._puts.pop((removal.segment_store, removal.number), None)
        self._max_removals += is_found
        if len(self._removals) >= self._max_removals:
            self._removals.popleft()
        self._removals.append(removal)
        self._wake()

    def archive(self, archival: Archival, *, is_found: bool = False) -> None:
        """Queue a segment that is to stay although it has left the playlist.

        Where too many wait, the oldest one becomes a hole in the past.

        Args:
            is_found: as for ``remove``.
        """
        self._max_archivals += is_found
        if len(self._archivals) >= self._max_archivals:
            self._archivals.popleft()
            self._health.lost(self.waiting)
        self._archivals.append(archival)
        self._wake()

    @property
    def has_archivals(self) -> bool:
        """Whether segments are to be put into the past, which comes before their removal."""
        return bool(self._archivals)

    def take_archivals(self, most: int) -> Sequence[Archival]:
        """Remove and return the oldest segments that are to be put into the past."""
        return [self._archivals.popleft() for _ in range(min(most, len(self._archivals)))]

    def put_back_archivals(self, archivals: Sequence[Archival]) -> None:
        """Queue segments again that can't be put into the past now, before all others."""
        self._archivals.extendleft(reversed(archivals))

    def hold(self, size: int) -> bool:
        """Reserve memory for a segment that isn't stored yet; False if there is none."""
        if self.waiting + size > self._max_waiting:
            self._health.lost(self.waiting)
            return False
        self.waiting += size
        return True

    def release(self, size: int) -> None:
        """Release reserved memory."""
        self.waiting -= size

    def take_put(self) -> PendingWrite | None:
        """Remove and return the oldest pending write; None without any."""
        return self._puts.popitem(last=False)[1] if self._puts else None

    def take_removals(self) -> Sequence[Removal]:
        """Remove and return all pending removals."""
        removals = list(self._removals)
        self._removals.clear()
        return removals

    def put_back_removals(self, removals: Sequence[Removal]) -> None:
        """Queue removals again that failed, before all others; they are tried when there is other work."""
        self._removals.extendleft(reversed(removals))

    def look(self) -> None:
        """Begin a round of work: anything queued from now on ends ``work``."""
        self._work.clear()

    async def work(self) -> None:
        """Wait for work that was queued since ``look``."""
        if not self._work.is_set():
            self._idle.set()
            await self._work.wait()

    async def idle(self) -> None:
        """Wait until everything is done."""
        await self._idle.wait()

    def _wake(self) -> None:
        self._idle.clear()
        self._work.set()


class RenditionStore:
    """Takes the finished segments of one rendition, to be written to disk.

    Attributes:
        left: discontinuities before the next segment.
        refused: why nothing is stored here; empty where it is.
    """

    def __init__(self, queue: WriteQueue, folder: DvrFolder) -> None:
        self._queue = queue
        self.folder = folder
        self.refused = ""
        self.writer: RenditionWriter | None = None
        self.left = 0

    def put(self, segment: LiveSegment) -> None:
        """Queue a segment or gap."""
        left, self.left = self.left, self.left + segment.discontinuity
        if not self.refused:
            self._queue.put(PendingWrite(self, segment.number, left))

    def hold(self, size: int) -> bool:
        """Reserve memory for a segment that isn't stored yet; False if there is none."""
        return not self.refused and self._queue.hold(size)

    def release(self, size: int) -> None:
        """Release reserved memory."""
        self._queue.release(size)

    def remove(self, number: int, size: int, timelines: Sequence[int]) -> None:
        """Queue the removal of a segment or gap, and of init segments."""
        if not self.refused:
            self._queue.remove(Removal(self, number, size, timelines))

    def archive(self, segment: LiveSegment, left: int) -> None:
        """Queue a segment that leaves the playlist for the past; one that isn't stored is a hole there.

        Args:
            left: discontinuities before it.
        """
        if not self.refused and (segment.gap or segment.stored is not None):
            self._queue.archive(Archival(self, archived_line_of(segment, left)))

    def path(self, number: int, stored: StoredSegment) -> str:
        """Return the path of a stored segment."""
        del stored
        return self.folder.place_of(number)

"""What windows hand over to the disk, and what of it waits: no I/O happens here."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from packager.dvr.folder import Folder
from packager.dvr.trouble import Trouble
from packager.window.model import LiveSegment
from packager.window.writer import RenditionWriter

MAX_WAITING_BYTES = 64 << 20
"""Most bytes of a channel's segments that wait for the disk in memory, behind the live edge."""

_Key = tuple["RenditionStore", int]


@dataclass(frozen=True, slots=True)
class Put:
    """A segment to store, or a gap to note: whatever the window has of this number by then.

    Attributes:
        segment_store: the rendition's.
        number: the segment's.
        left: discontinuities before it.
    """

    segment_store: RenditionStore
    number: int
    left: int

    @property
    def key(self) -> _Key:
        """What it is found by."""
        return self.segment_store, self.number


@dataclass(frozen=True, slots=True)
class Removal:
    """A segment to remove, with init segments.

    Attributes:
        segment_store: the rendition's.
        number: the segment's.
        size: its bytes on disk, 0 of one that isn't there: no other file is removed.
        timelines: the init segments'.
        oldest: whether there is none before it.
    """

    segment_store: RenditionStore
    number: int
    size: int
    timelines: Sequence[int]
    oldest: bool = True


class WriteQueue:
    """What waits for a channel's disk.

    Args:
        trouble: is told where there is no room.
        max_waiting: most bytes of segments that wait in memory, behind the live edge.

    Attributes:
        waiting: how many do.
    """

    def __init__(self, trouble: Trouble, max_waiting: int = MAX_WAITING_BYTES) -> None:
        self._trouble = trouble
        self._max_waiting = max_waiting
        self.waiting = 0
        # Never more than the windows have: what one forgets is taken out.
        self._puts: OrderedDict[_Key, Put] = OrderedDict()
        self._removals: deque[Removal] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()

    def put(self, put: Put) -> None:
        """WriteQueue a segment for the disk, instead of what is queued of it."""
        self._puts[put.key] = put
        self._wake()

    def put_back(self, put: Put) -> None:
        """WriteQueue a segment again that the disk didn't take; the queue isn't idle meanwhile."""
        self._puts.setdefault(put.key, put)

    def remove(self, removal: Removal) -> None:
        """WriteQueue a segment for removal; there are never more than were stored."""
        self._puts.pop((removal.segment_store, removal.number), None)
        self._removals.append(removal)
        self._wake()

    def hold(self, size: int) -> bool:
        """Reserve memory for a segment that the disk hasn't taken yet; False where there is no room."""
        if self.waiting + size > self._max_waiting:
            self._trouble.lost(self.waiting)
            return False
        self.waiting += size
        return True

    def release(self, size: int) -> None:
        """Give so many bytes of that memory back."""
        self.waiting -= size

    def take_put(self) -> Put | None:
        """Take the segment out that was queued first; None where there is none."""
        return self._puts.popitem(last=False)[1] if self._puts else None

    def take_removals(self) -> Sequence[Removal]:
        """Take all removals out."""
        removals = list(self._removals)
        self._removals.clear()
        return removals

    def look(self) -> None:
        """Begin to take out what there is; what comes from now on ends ``work``."""
        self._work.clear()

    async def work(self) -> None:
        """Wait for something to do, after all that there was when ``look`` was called is done."""
        if not self._work.is_set():
            self._idle.set()
            await self._work.wait()

    async def idle(self) -> None:
        """Wait until all of it is done."""
        await self._idle.wait()

    def _wake(self) -> None:
        self._idle.clear()
        self._work.set()


class RenditionStore:
    """Where the window of one rendition leaves its finished segments for the disk.

    Args:
        queue: the channel's.
        folder: the rendition's.

    Attributes:
        folder: its files.
        writer: the rendition's.
        left: discontinuities before the next segment.
        refused: why nothing is stored here; empty where it is.
    """

    def __init__(self, queue: WriteQueue, folder: Folder) -> None:
        self._queue = queue
        self.folder = folder
        self.refused = ""
        self.writer: RenditionWriter | None = None
        self.left = 0

    def put(self, segment: LiveSegment) -> None:
        """Begin to store a segment, or note a gap."""
        left, self.left = self.left, self.left + segment.discontinuity
        if not self.refused:
            self._queue.put(Put(self, segment.number, left))

    def hold(self, size: int) -> bool:
        """Reserve memory for what the disk hasn't taken yet; False where there is no room."""
        return not self.refused and self._queue.hold(size)

    def release(self, size: int) -> None:
        """Give so many bytes of it back."""
        self._queue.release(size)

    def remove(self, number: int, size: int, timelines: Sequence[int]) -> None:
        """Begin to remove a segment, or the note of a gap, and the init segments of these timelines."""
        if not self.refused:
            self._queue.remove(Removal(self, number, size, timelines))

    def path(self, number: int) -> str:
        """Tell where a stored segment is."""
        return self.folder.place_of(number)

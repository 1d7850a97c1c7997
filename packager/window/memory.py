"""Where the bytes of a window's finished segments are: in memory, or on disk.

Where there is a disk, the bytes leave memory behind the live edge, and only what the playlist says
of them stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from msgspec.structs import replace

from packager.window.model import LiveSegment, SegmentStore, StoredSegment
from packager.window.segments import FinishedSegments

MAX_BYTES = 1 << 30
"""Most bytes of one rendition in memory; the oldest segments go first. Half of it is listed: what has left
the list stays fetchable as long again."""

MEMORY_TARGET_DURATIONS = 6
"""How many target durations behind the end segments stay in memory where there is a disk, and longer as
long as they aren't on it and there is room for them.

Where there is none, a gap stands for them: now or never, for what is behind the skip boundary never changes
any more (RFC 8216bis §6.2.5.1).
"""


class SegmentMemory:
    """The bytes of one window's segments.

    Args:
        finished: the segments.
        target_duration: seconds.
        segment_store: where they go; None keeps them in memory.
        on_lost: called with the number of each segment that leaves memory and isn't on disk.
        texts: whether they are texts, which aren't their parts in a row.
    """

    def __init__(
        self,
        finished: FinishedSegments,
        target_duration: int,
        segment_store: SegmentStore | None,
        on_lost: Callable[[int], None],
        *,
        texts: bool,
    ) -> None:
        self._finished = finished
        self._on_lost = on_lost
        self._segment_store = segment_store
        self._texts = texts
        self._boundary = MEMORY_TARGET_DURATIONS * target_duration
        self._size = 0
        # The live edge, if there is a disk: its first number, and its seconds.
        self._edge = finished.next_number
        self._duration = Fraction(0)
        # Those behind it that are in memory still, each with the moment before which it stays.
        self._held: dict[int, float] = {}
        self._waiting: set[int] = set()

    def has_edge_at(self, number: int) -> bool:
        """Tell whether a segment is of the live edge, which is in memory whatever there is room for."""
        return self._segment_store is not None and number >= self._edge

    def is_short(self) -> bool:
        """Tell whether less should be listed, so that there is room for what has left the list."""
        # What has left the list takes as many bytes again.
        return self._segment_store is None and 2 * self._finished.totals.size > MAX_BYTES

    def is_full(self) -> bool:
        """Tell whether the oldest bytes must go."""
        return self._size > MAX_BYTES

    def stored(self, number: int) -> tuple[str, StoredSegment] | None:
        """Tell where the bytes of a segment are that are on disk."""
        found = self._finished.find(number)
        if self._segment_store is None or found is None or found.stored is None:
            return None
        return self._segment_store.path(number), found.stored

    def restore(self) -> None:
        """Begin behind segments that are on disk already, or gaps."""
        self._edge = self._finished.next_number

    def append(self, segment: LiveSegment, now: float) -> None:
        """Take up the bytes of the newest segment.

        Args:
            segment: it, listed already.
            now: seconds of the clock.
        """
        self._size += len(segment.data)
        if self._segment_store is not None:
            self._duration += segment.duration
            self._segment_store.put(segment)
            self._release(self._segment_store, now)
            self._let_go(now)

    def confirm(self, number: int, stored: StoredSegment, now: float) -> None:
        """Learn that a segment, whose bytes are in memory, is on disk."""
        found = self._finished.find(number)
        if found is not None:
            self._wait_no_more(found)
            self._finished.exchange(replace(found, stored=stored))
            self._let_go(now)

    def lose(self, number: int) -> None:
        """Learn that a segment, whose bytes are in memory, won't be on disk."""
        found = self._finished.find(number)
        if found is not None:
            self._wait_no_more(found)
            self._held.pop(number, None)
            self._drop(found)

    def forget(self, segment: LiveSegment, timelines: Sequence[int]) -> None:
        """Let the bytes of a segment go that is fetchable no more.

        Args:
            segment: the oldest one.
            timelines: whose init segments go with it.
        """
        self._wait_no_more(segment)
        self._held.pop(segment.number, None)
        self._size -= len(segment.data)
        if self._segment_store is not None:
            self._segment_store.remove(
                segment.number, segment.stored.size if segment.stored else 0, timelines
            )

    def _release(self, segment_store: SegmentStore, now: float) -> None:
        """Decide what becomes of the bytes that are behind the live edge."""
        while True:
            segment = self._finished.listed[self._edge - self._finished.next_number]
            if self._duration - segment.duration < self._boundary:
                return
            self._edge += 1
            self._duration -= segment.duration
            # A text isn't its parts in a row: only memory has those, and they must stay fetchable for a time.
            stays = self._texts and not segment.gap
            waits = segment.stored is None and not segment.gap and segment_store.hold(len(segment.data))
            if waits:
                self._waiting.add(segment.number)
            if waits or (stays and segment.stored is not None):
                self._held[segment.number] = now + self._boundary if stays else 0.0
            else:
                self._drop(segment)

    def _let_go(self, now: float) -> None:
        """Let bytes leave memory that had to wait for the disk, or for their time."""
        for number in [number for number, until in self._held.items() if until <= now]:
            segment = self._finished.find(number)
            if segment is not None and segment.stored is not None:
                del self._held[number]
                self._drop(segment)

    def _wait_no_more(self, segment: LiveSegment) -> None:
        """Give back the memory in which a segment waited for the disk, if it did."""
        if self._segment_store is not None and segment.number in self._waiting:
            self._waiting.remove(segment.number)
            self._segment_store.release(len(segment.data))

    def _drop(self, segment: LiveSegment) -> None:
        """Let a segment's bytes leave memory; what isn't on disk is a gap from now on (§4.4.4.7)."""
        self._size -= len(segment.data)
        lost = segment.stored is None and not segment.gap
        self._finished.exchange(replace(segment, data=b"", parts=(), gap=segment.stored is None))
        if lost:
            self._on_lost(segment.number)

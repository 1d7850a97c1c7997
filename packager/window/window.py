"""The live window of one rendition: media sequence numbers, part indexes, and who waits for the next.

Nothing else counts them. What is finished is in ``finished``, its bytes in ``memory``, its init segments in
``timelines``; ``eviction`` says what leaves.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from fractions import Fraction

from msgspec.structs import replace

from media.mp4.codecs import SampleEntry
from packager.window.memory import SegmentMemory
from packager.window.model import (
    MEDIA_EXTENSION,
    TEXT_EXTENSION,
    LivePart,
    LiveSegment,
    SegmentStore,
    StoredSegment,
    Timeline,
    joined,
)
from packager.window.segments import FinishedSegments, SegmentTotals
from packager.window.timelines import Timelines
from packager.window.waiters import MAX_WAITERS, Waiters


class Eviction:
    """Decides what leaves a window, and when.

    Args:
        finished: its segments.
        memory: their bytes.
        timelines: their init segments.
    """

    def __init__(self, finished: FinishedSegments, memory: SegmentMemory, timelines: Timelines) -> None:
        self._finished = finished
        self._memory = memory
        self._timelines = timelines

    def evict(self, now: float) -> None:
        """Let everything leave that has to, at a moment of the clock."""
        finished, memory = self._finished, self._memory
        while finished.has_surplus():
            finished.retire(now)
        while memory.is_short() and self._may_retire():
            finished.retire(now)
        finished.settle()
        while finished.is_over(now):
            self._forget()
        while memory.is_full() and finished.have_left:
            self._forget()

    def retire(self, now: float) -> bool:
        """Take the oldest segment off the list before its time; False when no more than must be is listed."""
        if not self._may_retire():
            return False
        self._finished.retire(now)
        return True

    def shorten(self, now: float) -> bool:
        """Forget the oldest segment before its time; False when only what is in memory is left."""
        if self._memory.has_edge_at(self._finished.oldest_number):
            return False
        if not (self._finished.have_left or self.retire(now)):
            return False
        self._forget()
        return True

    def _may_retire(self) -> bool:
        return self._finished.is_long() and not self._memory.has_edge_at(self._finished.listed[0].number)

    def _forget(self) -> None:
        oldest = self._finished.forget()
        following = self._finished.find(oldest.number + 1)
        self._memory.forget(oldest, self._timelines.forget(oldest, following))


class Window:
    """The live window of one rendition: its segments and parts, their numbers, and who waits for more.

    Args:
        target_duration: seconds.
        first_number: the first media sequence number.
        dvr_window: seconds that stay listed beyond the live window.
        max_waiters: how many requests may wait at once.
        segment_store: where finished segments go; None keeps them in memory.
        compose: gives a finished segment's bytes where they aren't those of its parts in a row.
        discontinuity_sequence: of the first segment.
        clock: gives seconds that pass evenly.

    Attributes:
        open: the segment that isn't finished, with the parts it has.
        version: changes with all that playlists say.
        ended: whether nothing comes any more.
        waiters: who waits for what comes.
        on_listed: called behind each segment that is listed.
    """

    def __init__(
        self,
        target_duration: int,
        first_number: int,
        dvr_window: float = 0,
        max_waiters: int = MAX_WAITERS,
        segment_store: SegmentStore | None = None,
        compose: Callable[[LiveSegment], bytes] | None = None,
        discontinuity_sequence: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target_duration = target_duration
        self.open: LiveSegment | None = None
        self.version = 0
        self.ended = False
        self.waiters = Waiters(max_waiters)
        self.clock = clock
        self.on_listed: Callable[[], None] = lambda: None
        self._finished = FinishedSegments(target_duration, first_number, dvr_window, discontinuity_sequence)
        self._memory = SegmentMemory(
            self._finished, target_duration, segment_store, texts=compose is not None
        )
        self._timelines = Timelines()
        self._eviction = Eviction(self._finished, self._memory, self._timelines)
        self._compose = compose
        self._begins = False

    @property
    def extension(self) -> str:
        """How the names of its segments and parts end."""
        return MEDIA_EXTENSION if self._compose is None else TEXT_EXTENSION

    @property
    def listed(self) -> deque[LiveSegment]:
        """The finished segments of the playlist."""
        return self._finished.listed

    @property
    def next_number(self) -> int:
        """Media sequence number of the segment to come, or of the open one."""
        return self._finished.next_number

    @property
    def discontinuity_sequence(self) -> int:
        """Discontinuity sequence number of the first listed segment."""
        return self._finished.discontinuity_sequence

    @property
    def timeline(self) -> Timeline | None:
        """What is being published now, or was last."""
        return self._timelines.newest

    @property
    def newest(self) -> LiveSegment | None:
        """The segment that is being made, else the last one that was finished; None before any."""
        return self.open or (self.listed[-1] if self.listed else None)

    @property
    def last(self) -> tuple[int, int] | None:
        """Media sequence number and part index of the newest part (LAST-MSN, LAST-PART); None before any."""
        newest = self.newest
        return None if newest is None else (newest.number, max(newest.part_count - 1, 0))

    @property
    def next_part(self) -> tuple[int, int]:
        """Media sequence number and part index of the part to come."""
        return (self.next_number, 0 if self.open is None else len(self.open.parts))

    @property
    def newest_discontinuity_sequence(self) -> int:
        """Discontinuity sequence number of the newest segment, the open one too (§6.2.1)."""
        begun = self.open is not None and self.open.discontinuity
        return self.discontinuity_sequence + self.totals.discontinuities + begun

    @property
    def totals(self) -> SegmentTotals:
        """What the listed segments amount to: their bytes and bandwidths."""
        return self._finished.totals

    @property
    def kept(self) -> Fraction:
        """Seconds that stay listed."""
        return self._finished.kept

    @property
    def retention(self) -> Fraction:
        """For how many seconds a segment stays fetchable at least, from its publication on."""
        return self._finished.retention

    @property
    def oldest_number(self) -> int:
        """Media sequence number of the oldest segment that is fetchable."""
        return self._finished.oldest_number

    def begin(self, init: bytes, entry: SampleEntry) -> None:
        """Start a timeline: what is appended from now on is decoded with this init segment."""
        self.interrupt()
        self._begins = bool(self.listed)
        self._timelines.begin(self.next_number, init, entry)
        self.version += 1

    def restore(
        self, segments: Iterable[LiveSegment], next_number: int, discontinuity_sequence: int = 0
    ) -> None:
        """Take up what an earlier process left on disk; only before anything is published.

        Args:
            segments: with numbers that have no holes, stored ones or gaps.
            next_number: the number behind theirs.
            discontinuity_sequence: EXT-X-DISCONTINUITY-SEQUENCE of a playlist that begins with the first one.
        """
        self._finished.restore(segments, next_number, discontinuity_sequence)
        self._timelines.restore(self.listed)
        self._memory.restore()
        self._eviction.evict(self.clock())

    def confirm(self, number: int, stored: StoredSegment) -> bool:
        """Learn that a segment is on disk; False when its bytes are wanted no more."""
        return self._memory.confirm(number, stored, self.clock())

    def retire(self) -> bool:
        """Take the oldest segment off the list, for want of room; it stays fetchable for its time.

        Returns:
            False when no more than what must be listed is.
        """
        retired = self._eviction.retire(self.clock())
        self.version += retired
        return retired

    def shorten(self) -> bool:
        """Forget the oldest segment, for want of room; False when only what is in memory is left."""
        listed = len(self.listed)
        shortened = self._eviction.shorten(self.clock())
        self.version += listed - len(self.listed)
        return shortened

    def append(self, part: LivePart, program_date_time: Fraction, *, ends_segment: bool) -> None:
        """Publish a part.

        Args:
            part: it.
            program_date_time: seconds since the epoch of its first sample.
            ends_segment: whether the next part begins a segment.
        """
        if self.open is None:
            self.open = LiveSegment(
                self.next_number, self.timeline, program_date_time, discontinuity=self._begins
            )
            self._begins = False
        self.open = replace(
            self.open, parts=(*self.open.parts, part), duration=self.open.duration + part.duration
        )
        if ends_segment:
            self._finish(self.open)
        self._notify()

    def interrupt(self) -> None:
        """Finish the open segment with the parts it has: its source is gone."""
        if self.open is not None:
            self._finish(self.open)
            self._notify()

    def gap(self, like: LiveSegment) -> None:
        """Let a gap stand for the next segment, which another rendition has and this one lacks.

        Args:
            like: the other's, whose duration, date and discontinuity the gap shares (§6.2.4).
        """
        self.interrupt()
        self._begins = self._begins and not like.discontinuity
        self._list(
            LiveSegment(
                self.next_number,
                self.timeline,
                like.program_date_time,
                discontinuity=like.discontinuity,
                gap=True,
                duration=like.duration,
            )
        )
        self._notify()

    def end(self) -> None:
        """Finish the open segment as the last one of all: nothing comes any more (EXT-X-ENDLIST)."""
        self.interrupt()
        self.ended = True
        self._notify()
        self.waiters.close()

    def close(self) -> None:
        """Release all who wait; nobody will wait again."""
        self.waiters.close()

    def segment(self, number: int) -> bytes | None:
        """Give the bytes of a finished segment, listed or not long gone from the list."""
        found = self._finished.find(number)
        return None if found is None or found.gap else found.data or None

    def stored(self, number: int) -> tuple[str, StoredSegment] | None:
        """Tell where the bytes of a finished segment are that have left memory."""
        return self._memory.stored(number)

    def at(self, number: int) -> LiveSegment | None:
        """Give what is known of a finished segment, listed or not long gone from the list."""
        return self._finished.find(number)

    def part(self, number: int, index: int) -> bytes | memoryview | None:
        """Give the bytes of a published part."""
        found = (
            self.open if self.open is not None and self.open.number == number else self._finished.find(number)
        )
        return None if found is None or index >= len(found.parts) else found.parts[index].data

    def init(self, number: int) -> bytes | None:
        """Give the init segment of the timeline that begins with a number."""
        return self._timelines.init(number)

    def has_segments(self) -> bool:
        """Tell whether a segment has been finished that can be played, or a gap behind one."""
        return bool(self.listed) and self.timeline is not None

    def reached(self, number: int, part: int | None = None) -> bool:
        """Tell whether the playlist contains a segment or a part, or has contained it (§6.2.5.2).

        Args:
            number: media sequence number.
            part: index; None asks for the whole segment.
        """
        if number < self.next_number:
            found = None if part is None else self._finished.find(number)
            # §6.2.5.2: a part index past a finished segment's last means part 0 of the next segment.
            past = found is not None and not found.gap and part is not None and part >= found.part_count
            return not past or self.reached(number + 1, 0)
        if part is None or number > self.next_number or self.open is None:
            return False
        return part < len(self.open.parts)

    def _notify(self) -> None:
        self.version += 1
        self.waiters.notify()

    def _finish(self, segment: LiveSegment) -> None:
        self.open = None
        finished = joined(segment) if self._compose is None else replace(segment, data=self._compose(segment))
        self.totals.measure(finished)
        self._list(finished)

    def _list(self, segment: LiveSegment) -> None:
        self._finished.append(segment)
        self._memory.append(segment, self.clock())
        self._eviction.evict(self.clock())
        self.on_listed()

"""The finished segments of one window: which are listed, which are fetchable, and where their bytes are.

Their numbers have no holes. Where there is a disk, a segment's bytes leave memory behind the live edge, and
only what playlists say of it stays.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from msgspec.structs import replace

from media.mp4.codecs.sample_entry import SampleEntry
from packager.window.clock_steps import (
    MOST_STEPS,
    OVERLAP_SECONDS,
    DatedStretch,
    begin_of,
    end_of,
    found_by_date,
    is_set_back,
    is_step,
)
from packager.window.model import LiveSegment, SegmentStore, StoredSegment, Timeline, WindowOptions
from packager.window.segment_totals import SegmentTotals
from packager.window.snapshot import HeldSegmentsEntry, SegmentsState, Unlisted, in_pieces

MEMORY_TARGET_DURATIONS = 6
"""How many target durations behind the end segments stay in memory where there is a disk, and longer as
long as they aren't on it and there is room for them.

Where there is no room, a gap stands for them: now or never, for what is behind the skip boundary never
changes any more (RFC 8216bis §6.2.5.1).
"""

LISTED_SEGMENTS = 7
"""Fewest segments that a playlist keeps once it has had so many."""

LISTED_TARGET_DURATIONS = 10
"""How many target durations a playlist keeps at least (RFC 8216bis §6.2.2 wants three), if there is room."""

LEAST_TARGET_DURATIONS = 3
"""How many target durations a playlist keeps where there is no room."""


class _UnlistedSegment(NamedTuple):
    """A segment that has left the playlist but stays fetchable.

    Attributes:
        published: seconds of media that had been published when it left.
        moment: clock time in seconds when it left.
    """

    segment: LiveSegment
    published: Fraction
    moment: float


class FinishedSegments:
    """The finished segments of a window, listed and unlisted, with their bytes and init segments.

    Args:
        segment_store: where bytes are kept outside of memory; None keeps all of them in memory.
        on_lost: called with the number of each segment whose bytes leave memory without being on disk.

    Attributes:
        on_retired: called with each segment that leaves the playlist, and the discontinuities before it, once
            the segment is stored or lost.
        beside: the channel's other renditions, whose segments of a number are forgotten together.
        listed: the segments in the playlist.
        next_number: media sequence number of the segment to come.
        discontinuity_sequence: discontinuity sequence number of the first listed segment.
        kept: seconds that stay listed.
        retention: for how many seconds a segment stays fetchable at least, from its publication on.
        totals: sums over the listed segments.
        timeline: the timeline of the newest segment; None before any.
    """

    def __init__(
        self,
        options: WindowOptions,
        segment_store: SegmentStore | None,
        on_lost: Callable[[int], None],
        most_bytes: int,
    ) -> None:
        target_duration = options.target_duration
        self.on_retired: Callable[[LiveSegment, int], None] = lambda _, __: None
        self.beside: Sequence[FinishedSegments] = ()
        # Numbers of fetchable segments before which the clock was set, and whether it was set back.
        self._steps: deque[tuple[int, bool]] = deque(maxlen=MOST_STEPS)
        self._newest: LiveSegment | None = None
        self.listed: deque[LiveSegment] = deque()
        self.next_number = options.first_number
        self.discontinuity_sequence = options.discontinuity_sequence
        self.kept = Fraction(options.dvr_window).limit_denominator(1000)
        self.kept += LISTED_TARGET_DURATIONS * target_duration
        self.retention = self.kept
        self.totals = SegmentTotals(target_duration)
        self.timeline: Timeline | None = None
        self._timelines: dict[int, Timeline] = {}
        self._text = options.text
        # Where segments stay on disk, requests find them there once they have left the playlist.
        self._unlisted_seconds = LISTED_TARGET_DURATIONS * target_duration if options.has_past else None
        self._segment_store = segment_store
        self._on_lost = on_lost
        self._least = LEAST_TARGET_DURATIONS * target_duration
        self._unlisted: deque[_UnlistedSegment] = deque()
        # Numbers of those for which ``on_retired`` wasn't called yet, with the discontinuities before each.
        self._retired: deque[tuple[int, int]] = deque()
        self._published = Fraction(0)
        self._memory_bytes = 0
        self._most_bytes = most_bytes
        # The live edge, where there is a disk: its first number, its most seconds, and those that it has.
        self._edge_number = self.next_number
        self._edge_limit = MEMORY_TARGET_DURATIONS * target_duration
        self._edge_duration = Fraction(0)
        # Segments behind the live edge whose bytes are still in memory, each with the time until which they
        # stay.
        self._leaving: dict[int, float] = {}
        # Segments among these for whose bytes the store has reserved memory until they are on disk.
        self._reserved: set[int] = set()
        # Segments of a snapshot whose bytes haven't come yet.
        self._awaited: set[int] = set()

    @property
    def oldest_number(self) -> int:
        """Media sequence number of the oldest fetchable segment."""
        return self.next_number - len(self.listed) - len(self._unlisted)

    @property
    def is_stepped(self) -> bool:
        """Whether the clock was set back between two fetchable segments, or before the first of them."""
        return any(is_back for _, is_back in self._steps)

    def dated(self, start: Fraction, end: Fraction | None, first: int | None = None) -> Sequence[LiveSegment]:
        """Return the segments among which a span is, whose dates rise: all, unless the clock was set back.

        Args:
            start: of the span, in seconds since the epoch.
            end: likewise; None: it goes on as long as the channel does.
            first: number of a fetchable segment, with which they begin; None: they are those of the playlist.
        """
        if not self.is_stepped and first is None:
            return self.listed
        edge = self.listed[-1].program_date_time + self.listed[-1].duration if self.listed else Fraction(0)
        if end is not None and start < edge <= end:
            # The span goes on.
            end = None
        first = self.next_number - len(self.listed) if first is None else first
        oldest, fetchable = self.oldest_number, [*self.unlisted, *self.listed]
        found: list[LiveSegment] = []
        for one in found_by_date(self._stretches, start, end):
            own = fetchable[max(one.numbers.start, first) - oldest : max(one.numbers.stop - oldest, 0)]
            found += own[: bisect_right(own, one.end + OVERLAP_SECONDS, key=end_of)]
        return found

    @property
    def _stretches(self) -> Sequence[DatedStretch]:
        """The fetchable segments, divided where the clock was set."""
        oldest = self.oldest_number
        steps = (number for number, _ in self._steps if number > oldest)
        edges = itertools.pairwise([oldest, *steps, self.next_number])
        ends = ((range(*edge), self.find(edge[0]), self.find(edge[1] - 1)) for edge in edges)
        return [DatedStretch(own, begin_of(one), end_of(last)) for own, one, last in ends if one and last]

    def _note_steps(self, segments: Iterable[LiveSegment]) -> None:
        """Note where the clock was set before some of the next segments; of a week there are very many."""
        before, end, duration, seconds = self._newest, 0.0, Fraction(0), 0.0
        if before is not None:
            end = end_of(before)
        for segment in segments:
            begin = begin_of(segment)
            is_usual = begin - OVERLAP_SECONDS <= end <= begin + OVERLAP_SECONDS
            if not is_usual and before is not None and is_step(before, segment):
                self._steps.append((segment.number, is_set_back(before, segment)))
            if segment.duration is not duration:
                duration, seconds = segment.duration, float(segment.duration)
            before, end = segment, begin + seconds
        self._newest = before

    @property
    def unlisted(self) -> list[LiveSegment]:
        """The segments that have left the playlist but stay fetchable, in ascending order."""
        return [one.segment for one in self._unlisted]

    @property
    def waiting(self) -> Mapping[int, int]:
        """Bytes of the segments behind the live edge that stay in memory until they are stored, by number."""
        found = {number: self.find(number) for number in self._reserved}
        return {number: one.memory_size for number, one in found.items() if one is not None}

    @property
    def awaits_media(self) -> bool:
        """Whether the snapshot had segments whose bytes haven't come yet."""
        return bool(self._awaited)

    @property
    def may_retire(self) -> bool:
        """Whether the oldest listed segment may leave the list before its time."""
        # §6.2.2: no removal leaves less than three target durations.
        enough = len(self.listed) > LISTED_SEGMENTS and self._duration_without_oldest() >= self._least
        return enough and not self._is_at_live_edge(self.listed[0].number)

    @property
    def may_forget(self) -> bool:
        """Whether the oldest fetchable segment may be removed before its time: it isn't in memory alone."""
        on_disk = not self._is_at_live_edge(self.oldest_number) and not self._waits(self.oldest_number)
        return on_disk and (bool(self._unlisted) or self.may_retire)

    def find(self, number: int) -> LiveSegment | None:
        """Find a fetchable segment by its number."""
        back = self.next_number - 1 - number
        if back < 0 or back >= len(self.listed) + len(self._unlisted):
            return None
        if back < len(self.listed):
            return self.listed[-1 - back]
        return self._unlisted[len(self.listed) - 1 - back].segment

    def stored(self, number: int) -> tuple[str, StoredSegment] | None:
        """Return the place of the bytes of a segment on disk."""
        found = self.find(number)
        return None if found is None else self.place(found)

    def place(self, segment: LiveSegment) -> tuple[str, StoredSegment] | None:
        """Return the place of the bytes of a segment, if it is on disk; other threads may call this."""
        if self._segment_store is None or segment.stored is None:
            return None
        return self._segment_store.path(segment.number, segment.stored), segment.stored

    def is_settled(self, segment: LiveSegment) -> bool:
        """Return whether a finished segment behind the live edge doesn't become a gap any more."""
        return segment.gap or segment.stored is not None or self._segment_store is None

    def init(self, number: int) -> bytes | None:
        """Return the init segment of the timeline that begins with a number."""
        found = self._timelines.get(number)
        return None if found is None else found.init

    def begin_timeline(self, init: bytes, entry: SampleEntry, frame_rate: Fraction | None = None) -> None:
        """Begin a timeline with the segment to come."""
        number = self.next_number
        if number in self._timelines and self._timelines[number].init != init:
            # Nothing followed the one before; but its init segment may have been hinted at under this name.
            number = max(self._timelines) + 1
        self.timeline = self._timelines[number] = Timeline(number, init, entry, frame_rate)

    def restore(self, segments: Iterable[LiveSegment], next_number: int, discontinuity_sequence: int) -> None:
        """List the segments of an earlier process; see ``Window.restore``."""
        segments = list(segments)
        self._note_steps(segments)
        self.listed.extend(segments)
        self.next_number = self._edge_number = next_number
        self.discontinuity_sequence = discontinuity_sequence
        self.totals.add_all(self.listed)
        self._published = self.totals.duration
        for segment in self.listed:
            timeline = segment.timeline
            if timeline is not None and timeline is not self.timeline:
                self.timeline = self._timelines[timeline.number] = timeline

    def state(self, now: float) -> SegmentsState:
        """Return a snapshot without the segments, from which another process continues; see ``held``."""
        return SegmentsState(
            next_number=self.oldest_number,
            discontinuity_sequence=self.discontinuity_sequence,
            timelines=tuple(self._timelines.values()),
            timeline=-1 if self.timeline is None else self.timeline.number,
            published=self._published,
            peak_bandwidth=self.totals.peak_bandwidth,
            longest=self.totals.longest,
            edge_number=self._edge_number,
            leaving=tuple((number, max(until - now, 0.0)) for number, until in self._leaving.items()),
        )

    def held(self, rendition: str, now: float, *, has_media: bool) -> Iterator[HeldSegmentsEntry]:
        """Return a snapshot of the segments, in pieces; later changes follow in the log."""
        return self._told(rendition, tuple(self._unlisted), tuple(self.listed), now, has_media=has_media)

    def fetchable(self) -> Iterator[LiveSegment]:
        """Return the segments, the newest first."""
        return itertools.chain(reversed(self.listed), (one.segment for one in reversed(self._unlisted)))

    def _told(
        self,
        rendition: str,
        unlisted: Sequence[_UnlistedSegment],
        listed: Sequence[LiveSegment],
        now: float,
        *,
        has_media: bool,
    ) -> Iterator[HeldSegmentsEntry]:
        left = ((one.segment, Unlisted(one.published, now - one.moment)) for one in unlisted)
        rows = itertools.chain(left, ((segment, None) for segment in listed))
        return in_pieces(rendition, rows, text=self._text, has_media=has_media)

    def begin_from(self, state: SegmentsState, now: float) -> None:
        """Continue from another process's state; its segments follow."""
        self._timelines = {one.number: one for one in state.timelines}
        self.timeline = self._timelines.get(state.timeline)
        self.next_number = state.next_number
        self.discontinuity_sequence = state.discontinuity_sequence
        self._published = state.published
        self.totals.peak_bandwidth, self.totals.longest = state.peak_bandwidth, state.longest
        if state.longest:
            self.retention = self.kept + state.longest
        self._edge_number = state.edge_number
        self._leaving = {number: now + seconds for number, seconds in state.leaving}

    def hold(self, entry: HeldSegmentsEntry, now: float) -> None:
        """Append some segments of another process's snapshot behind those before them."""
        segments = [one.segment(self._timelines, finished=True, text=self._text) for one in entry.segments]
        left = len(entry.unlisted)
        self._note_steps(segments)
        self._unlisted.extend(
            _UnlistedSegment(segment, when.published, now - when.age)
            for segment, when in zip(segments[:left], entry.unlisted, strict=True)
        )
        self.listed.extend(segments[left:])
        self.totals.add_all(segments[left:])
        self._memory_bytes += sum(one.memory_size for one in segments)
        self._awaited.update(one.number for one in segments if one.awaited)
        if self._segment_store is not None:
            at_edge = (one.duration for one in segments if one.number >= self._edge_number)
            self._edge_duration += sum(at_edge, Fraction(0))
        self.next_number = segments[-1].number + 1

    def append(self, segment: LiveSegment) -> None:
        """List the next segment, and begin to store it; ``evict`` is due afterwards."""
        self._note_steps((segment,))
        self.listed.append(segment)
        self.next_number = segment.number + 1
        self._published += segment.duration
        self.totals.add(segment)
        self._memory_bytes += segment.memory_size
        if segment.awaited:
            self._awaited.add(segment.number)
        if self._segment_store is not None:
            self._edge_duration += segment.duration
            self._segment_store.put(segment)

    def fill(self, segment: LiveSegment) -> None:
        """Replace a segment that lacked bytes by the same one with its bytes."""
        self._awaited.discard(segment.number)
        self._exchange(segment)

    def confirm(self, number: int, stored: StoredSegment, now: float) -> None:
        """Note that a segment whose bytes are in memory is on disk."""
        if (found := self.find(number)) is not None:
            self._release_reserved(found)
            self._exchange(replace(found, stored=stored))
            self._hand_on_retired()
            self._drop_stored(now)

    def lose(self, number: int) -> None:
        """Note that a segment whose bytes are in memory won't be on disk."""
        if (found := self.find(number)) is not None:
            self._release_reserved(found)
            self._leaving.pop(number, None)
            self._drop(found)
            self._hand_on_retired()

    def retire(self, now: float) -> None:
        """Remove the oldest segment from the list; it stays fetchable."""
        oldest = self.listed.popleft()
        self._retired.append((oldest.number, self.discontinuity_sequence))
        self.totals.remove(oldest)
        self.discontinuity_sequence += oldest.discontinuity
        self._unlisted.append(_UnlistedSegment(oldest, self._published, now))
        self._hand_on_retired()

    def _hand_on_retired(self) -> None:
        """Hand on, in their order, segments that have left the list and wait for the disk no more."""
        while self._retired:
            number, left = self._retired[0]
            segment = self.find(number)
            if segment is not None and not self.is_settled(segment):
                return
            self._retired.popleft()
            if segment is not None:
                self.on_retired(segment, left)

    def forget(self, now: float) -> None:
        """Remove the oldest fetchable segment and its bytes, from the list too if it is listed."""
        if not self._unlisted:
            self.retire(now)
        if not self.is_settled(self._unlisted[0].segment):
            self.lose(self.oldest_number)
        oldest = self._unlisted.popleft().segment
        while self._steps and self._steps[0][0] < self.oldest_number:
            self._steps.popleft()
        timelines = self._forget_timelines(oldest)
        self._release_reserved(oldest)
        self._leaving.pop(oldest.number, None)
        self._awaited.discard(oldest.number)
        self._memory_bytes -= oldest.memory_size
        if self._segment_store is not None:
            self._segment_store.remove(oldest.number, oldest.stored.size if oldest.stored else 0, timelines)

    def evict(self, now: float) -> None:
        """Drop bytes from memory, and segments from the list and the window, whose time is over."""
        if self._segment_store is not None:
            self._shorten_live_edge(self._segment_store, now)
            self._drop_stored(now)
        while len(self.listed) > LISTED_SEGMENTS and self._duration_without_oldest() >= self.kept:
            self.retire(now)
        # Segments that have left the list take as many bytes again.
        while self._segment_store is None and 2 * self.totals.size > self._most_bytes and self.may_retire:
            self.retire(now)
        if self.totals.settle():
            self.retention = self.kept + self.totals.longest
        while (
            self._unlisted and self._is_over(self._unlisted[0], now) and not self._waits(self.oldest_number)
        ):
            self.forget(now)
        while self._unlisted and self._memory_bytes > self._most_bytes:
            self.forget(now)

    def _duration_without_oldest(self) -> Fraction:
        return self.totals.duration - self.listed[0].duration

    def _is_over(self, oldest: _UnlistedSegment, now: float) -> bool:
        """Return whether the oldest unlisted segment needn't be fetchable any more."""
        # RFC 8216bis §6.2.2: for its own duration and that of the longest playlist that had it.
        longest = self.totals.longest if self._unlisted_seconds is None else self._unlisted_seconds
        needed = oldest.segment.duration + longest
        # Both conditions: media that was held up comes faster than its time, and a machine that stood still
        # finds the requests of that time when it continues.
        return self._published - oldest.published >= needed and now - oldest.moment >= needed

    def _waits(self, number: int) -> bool:
        """Return whether any rendition's segment up to a number still waits to be stored.

        Then that of no rendition is forgotten: those who read the past expect either all of a number or none.
        """
        return any(one.has_unsettled(number) for one in (self, *self.beside))

    def has_unsettled(self, last: int) -> bool:
        """Return whether a segment up to a number waits to be stored."""
        found = map(self.find, range(self.oldest_number, last + 1))
        return any(one is not None and not self.is_settled(one) for one in found)

    def _is_at_live_edge(self, number: int) -> bool:
        """Return whether a segment is so new that its bytes are in memory although there is a disk."""
        return self._segment_store is not None and number >= self._edge_number

    def _exchange(self, segment: LiveSegment) -> None:
        """Replace the segment of the same number, perhaps by a gap."""
        back = self.next_number - 1 - segment.number
        if back < len(self.listed):
            if segment.gap and not self.listed[-1 - back].gap:
                self.totals.lose(self.listed[-1 - back])
            self.listed[-1 - back] = segment
        else:
            index = len(self.listed) - 1 - back
            self._unlisted[index] = self._unlisted[index]._replace(segment=segment)

    def _forget_timelines(self, oldest: LiveSegment) -> list[int]:
        """Remove timelines that end with a segment that isn't fetchable any more; return their numbers."""
        following = self.find(oldest.number + 1)
        if following is None or following.timeline == oldest.timeline:
            return []
        kept = following.number if following.timeline is None else following.timeline.number
        gone = [number for number in self._timelines if number < kept]
        for number in gone:
            del self._timelines[number]
        return gone

    def _shorten_live_edge(self, segment_store: SegmentStore, now: float) -> None:
        """Decide of each segment that is behind the live edge now whether its bytes still stay in memory."""
        while self._edge_number < self.next_number:
            segment = self.listed[self._edge_number - self.next_number]
            if self._edge_duration - segment.duration < self._edge_limit:
                return
            self._edge_number += 1
            self._edge_duration -= segment.duration
            # A text isn't its parts in a row: only memory has those, and they must stay fetchable for a time.
            stays = self._text and not segment.gap
            waits = segment.stored is None and not segment.gap and segment_store.hold(segment.memory_size)
            if waits:
                self._reserved.add(segment.number)
            if waits or (stays and segment.stored is not None):
                self._leaving[segment.number] = now + self._edge_limit if stays else 0.0
            else:
                self._drop(segment)

    def _drop_stored(self, now: float) -> None:
        """Drop bytes from memory that had to wait for the disk, or for their time."""
        for number in [number for number, until in self._leaving.items() if until <= now]:
            segment = self.find(number)
            if segment is not None and segment.stored is not None:
                del self._leaving[number]
                self._drop(segment)

    def _release_reserved(self, segment: LiveSegment) -> None:
        """Free the memory in which a segment waited for the disk, if there is any."""
        if self._segment_store is not None and segment.number in self._reserved:
            self._reserved.remove(segment.number)
            self._segment_store.release(segment.memory_size)

    def _drop(self, segment: LiveSegment) -> None:
        """Drop a segment's bytes from memory; if it isn't on disk, it is a gap from now on (§4.4.4.7)."""
        self._memory_bytes -= segment.memory_size
        self._awaited.discard(segment.number)
        lost = segment.stored is None and not segment.gap
        self._exchange(replace(segment, data=b"", parts=(), gap=segment.stored is None, awaited=()))
        if lost:
            self._on_lost(segment.number)

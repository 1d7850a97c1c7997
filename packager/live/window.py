"""The live window of one rendition: media sequence numbers, part indexes, eviction.

Nothing else counts them. The bytes are kept once: a finished segment's parts are views of it. Where there is
a shelf (a disk), the bytes leave memory behind the live edge, and only what the playlist says of them stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from fractions import Fraction

from msgspec.structs import replace

from media.codecs import SampleEntry
from packager.live.livesegment import (
    MEDIA_EXTENSION,
    TEXT_EXTENSION,
    LivePart,
    LiveSegment,
    Shelf,
    Stored,
    Timeline,
)
from packager.live.waiters import MAX_WAITERS, Waiters

__all__ = ["LivePart", "LiveSegment", "Shelf", "Stored", "Timeline", "Window"]

LISTED_SEGMENTS = 7
"""Fewest segments that a playlist keeps once it has had so many."""

LISTED_TARGET_DURATIONS = 10
"""How many target durations a playlist keeps at least (RFC 8216bis §6.2.2 wants three)."""

MAX_BYTES = 1 << 30
"""Most bytes of one rendition in memory; the oldest segments go first."""

MEMORY_TARGET_DURATIONS = 6
"""How many target durations behind the end segments stay in memory where there is a shelf.

Not more than the skip boundary: what delta updates skip never changes any more (RFC 8216bis §6.2.5.1).
"""


class Window:
    """One rendition's segments.

    Args:
        target_duration: seconds.
        first_number: the first media sequence number.
        dvr_window: seconds that stay listed beyond the live window.
        max_waiters: how many requests may wait at once.
        shelf: where finished segments go; None keeps them in memory.
        compose: gives a finished segment's bytes where they aren't those of its parts in a row.

    Attributes:
        retention: for how many seconds a segment stays fetchable at least, from its publication on.
    """

    def __init__(
        self,
        target_duration: int,
        first_number: int,
        dvr_window: float = 0,
        max_waiters: int = MAX_WAITERS,
        shelf: Shelf | None = None,
        compose: Callable[[LiveSegment], bytes] | None = None,
    ) -> None:
        self.target_duration = target_duration
        self.listed: deque[LiveSegment] = deque()
        self.open: LiveSegment | None = None
        self.next_number = first_number
        self.discontinuity_sequence = 0
        self.peak_bandwidth = 0
        self.version = 0
        self.ended = False
        self.waiters = Waiters(max_waiters)
        self._keep = Fraction(dvr_window).limit_denominator(1000) + LISTED_TARGET_DURATIONS * target_duration
        self._retired: deque[tuple[Fraction, LiveSegment]] = deque()
        self._timeline: Timeline | None = None
        self._begins = False
        self._published = Fraction(0)
        self._listed_duration = Fraction(0)
        self._longest_playlist = Fraction(0)
        self.retention = self._keep
        self._bytes = 0
        self._listed_bytes = 0
        self._gap_duration = Fraction(0)
        self._timelines: dict[int, Timeline] = {}
        self._shelf = shelf
        self._compose = compose
        self._released = first_number
        self._memory_duration = Fraction(0)

    @property
    def extension(self) -> str:
        """How the names of its segments and parts end."""
        return MEDIA_EXTENSION if self._compose is None else TEXT_EXTENSION

    @property
    def timeline(self) -> Timeline | None:
        """What is being published now, or was last."""
        return self._timeline

    @property
    def last(self) -> tuple[int, int] | None:
        """Media sequence number and part index of the newest part (LAST-MSN, LAST-PART); None before any."""
        newest = self.open or (self.listed[-1] if self.listed else None)
        return None if newest is None else (newest.number, max(newest.part_count - 1, 0))

    @property
    def next_part(self) -> tuple[int, int]:
        """Media sequence number and part index of the part to come."""
        return (self.next_number, 0 if self.open is None else len(self.open.parts))

    @property
    def average_bandwidth(self) -> int:
        """Bits per second over the listed segments."""
        seconds = self._listed_duration - self._gap_duration
        return 0 if not seconds else round(8 * self._listed_bytes / seconds)

    @property
    def kept(self) -> Fraction:
        """Seconds that stay listed."""
        return self._keep

    @property
    def oldest_number(self) -> int:
        """Media sequence number of the oldest segment that is fetchable."""
        return self.next_number - len(self.listed) - len(self._retired)

    def begin(self, init: bytes, entry: SampleEntry) -> None:
        """Start a timeline: what is appended from now on is decoded with this init segment."""
        self.interrupt()
        self._begins = bool(self.listed)
        self._timeline = self._timelines[self.next_number] = Timeline(self.next_number, init, entry)

    def restore(
        self, segments: Iterable[LiveSegment], next_number: int, discontinuity_sequence: int = 0
    ) -> None:
        """Take up what an earlier process left on the shelf; only before anything is published.

        Args:
            segments: with numbers that have no holes, stored ones or gaps.
            next_number: the number behind theirs.
            discontinuity_sequence: EXT-X-DISCONTINUITY-SEQUENCE of a playlist that begins with the first one.
        """
        self.discontinuity_sequence = discontinuity_sequence
        # By duration, of which there are few: sums of fractions are slow, and a day has many segments.
        alike: dict[int, list[LiveSegment]] = {}
        for segment in segments:
            timeline = segment.timeline
            if timeline is not None and timeline is not self._timeline:
                self._timeline = self._timelines[timeline.number] = timeline
            alike.setdefault(id(segment.duration), []).append(segment)
            self.listed.append(segment)
        for group in alike.values():
            duration, sizes = group[0].duration, [segment.size for segment in group]
            self._measure(group[sizes.index(max(sizes))])
            self._listed_bytes += sum(sizes)
            self._listed_duration += len(group) * duration
            self._gap_duration += sum(segment.gap for segment in group) * duration
        self._published = self._listed_duration
        self.next_number = self._released = next_number
        self._evict()

    def confirm(self, number: int, stored: Stored) -> bool:
        """Learn that a segment is on the shelf; False when its bytes are wanted no more."""
        if not self._released <= number < self.next_number:
            return False
        at = number - self.next_number
        self.listed[at] = replace(self.listed[at], stored=stored)
        return True

    def shorten(self) -> bool:
        """Forget the oldest segment, for want of room; False when only what is in memory is left."""
        if self.oldest_number >= self._released or self.next_number - self.oldest_number <= LISTED_SEGMENTS:
            return False
        if not self._retired:
            self._retire()
            self.version += 1
        self._forget()
        return True

    def append(self, part: LivePart, program_date_time: Fraction, *, ends_segment: bool) -> None:
        """Publish a part.

        Args:
            part: it.
            program_date_time: seconds since the epoch of its first sample.
            ends_segment: whether the next part begins a segment.
        """
        if self.open is None:
            self.open = LiveSegment(
                self.next_number, self._timeline, program_date_time, discontinuity=self._begins
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
                self._timeline,
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
        found = self._find(number)
        return None if found is None or found.gap else found.data or None

    def stored(self, number: int) -> tuple[str, Stored] | None:
        """Tell where the bytes of a finished segment are that have left memory."""
        found = self._find(number)
        if self._shelf is None or found is None or found.stored is None:
            return None
        return self._shelf.path(number), found.stored

    def at(self, number: int) -> LiveSegment | None:
        """Give what is known of a finished segment, listed or not long gone from the list."""
        return self._find(number)

    def part(self, number: int, index: int) -> bytes | memoryview | None:
        """Give the bytes of a published part."""
        found = self.open if self.open is not None and self.open.number == number else self._find(number)
        return None if found is None or index >= len(found.parts) else found.parts[index].data

    def init(self, number: int) -> bytes | None:
        """Give the init segment of the timeline that begins with a number."""
        found = self._timelines.get(number)
        return None if found is None else found.init

    def has_segments(self) -> bool:
        """Tell whether a segment has been finished."""
        return bool(self.listed)

    def reached(self, number: int, part: int | None = None) -> bool:
        """Tell whether the playlist contains a segment or a part, or has contained it (§6.2.5.2).

        Args:
            number: media sequence number.
            part: index; None asks for the whole segment.
        """
        if number < self.next_number:
            found = None if part is None else self._find(number)
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
        finished = (
            _joined(segment) if self._compose is None else replace(segment, data=self._compose(segment))
        )
        self._measure(finished)
        self._list(finished)

    def _measure(self, segment: LiveSegment) -> None:
        # RFC 8216bis §4.4.6.2: the peak counts over at least half a target duration.
        if 2 * segment.duration >= self.target_duration:
            self.peak_bandwidth = max(self.peak_bandwidth, round(8 * segment.size / segment.duration))

    def _list(self, segment: LiveSegment) -> None:
        self._append(segment)
        if self._shelf is not None:
            self._memory_duration += segment.duration
            self._shelf.put(segment)
            self._release()
        self._evict()

    def _append(self, segment: LiveSegment) -> None:
        self.listed.append(segment)
        self.next_number = segment.number + 1
        self._published += segment.duration
        self._listed_duration += segment.duration
        self._bytes += len(segment.data)
        self._listed_bytes += segment.size
        self._gap_duration += segment.duration * segment.gap

    def _release(self) -> None:
        """Let bytes leave memory; those that aren't on the shelf by then are a gap (§4.4.4.7)."""
        boundary = MEMORY_TARGET_DURATIONS * self.target_duration
        while True:
            at = self._released - self.next_number
            segment = self.listed[at]
            if self._memory_duration - segment.duration < boundary:
                return
            self._released += 1
            self._memory_duration -= segment.duration
            self._bytes -= len(segment.data)
            if segment.stored is None and not segment.gap:
                self._listed_bytes -= segment.size
                self._gap_duration += segment.duration
            self.listed[at] = replace(segment, data=b"", parts=(), gap=segment.stored is None)

    def _evict(self) -> None:
        while (
            len(self.listed) > LISTED_SEGMENTS
            and self._listed_duration - self.listed[0].duration >= self._keep
        ):
            self._retire()
        if self._listed_duration > self._longest_playlist:
            self._longest_playlist = self._listed_duration
            self.retention = self._keep + self._longest_playlist
        # §6.2.2: fetchable for its own duration and that of the longest playlist that had it.
        while self._retired and (
            self._published - self._retired[0][0] >= self._retired[0][1].duration + self._longest_playlist
        ):
            self._forget()
        while self._bytes > MAX_BYTES and len(self.listed) > LISTED_SEGMENTS:
            if not self._retired:
                self._retire()
            self._forget()

    def _retire(self) -> None:
        oldest = self.listed.popleft()
        self._listed_duration -= oldest.duration
        self._listed_bytes -= oldest.size
        self._gap_duration -= oldest.duration * oldest.gap
        self.discontinuity_sequence += oldest.discontinuity
        self._retired.append((self._published, oldest))

    def _forget(self) -> None:
        _, oldest = self._retired.popleft()
        self._bytes -= len(oldest.data)
        gone: list[int] = []
        following = self._find(oldest.number + 1) or self.open
        if following is not None and following.timeline is not oldest.timeline:
            kept = following.number if following.timeline is None else following.timeline.number
            gone = [number for number in self._timelines if number < kept]
        for number in gone:
            del self._timelines[number]
        if self._shelf is not None:
            self._shelf.remove(oldest.number, gone)

    def _find(self, number: int) -> LiveSegment | None:
        """Find a finished segment; numbers have no holes."""
        back = self.next_number - 1 - number
        if back < 0 or back >= len(self.listed) + len(self._retired):
            return None
        if back < len(self.listed):
            return self.listed[-1 - back]
        return self._retired[len(self.listed) - 1 - back][1]


def _joined(segment: LiveSegment) -> LiveSegment:
    """Give a segment its bytes, once: those of its parts, which become views of them."""
    data = b"".join(part.data for part in segment.parts)
    view, start, parts = memoryview(data), 0, []
    for part in segment.parts:
        parts.append(LivePart(view[start : start + len(part.data)], part.duration, part.independent))
        start += len(part.data)
    return replace(segment, data=data, parts=tuple(parts))

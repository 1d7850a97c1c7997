"""The live window of one rendition: media sequence numbers, part indexes and waiting requests.

Nothing else counts numbers and indexes. Finished segments, with their bytes and init segments, are in
``segments``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

from msgspec.structs import replace

from media.errors import MalformedError
from media.mp4.codecs.closed_captions import services_within
from media.mp4.codecs.sample_entry import SampleEntry
from packager.window.limits import DEFAULT_LIMITS, PublishLimits
from packager.window.log import (
    DiscontinuityEntry,
    EndEntry,
    ForgottenEntry,
    GapEntry,
    InitEntry,
    LostEntry,
    PartEntry,
    RenditionEntry,
    RestoredEntry,
    RetiredEntry,
    SegmentDoneEntry,
    StoredEntry,
)
from packager.window.model import (
    MEDIA_EXTENSION,
    TEXT_EXTENSION,
    LivePart,
    LiveSegment,
    SegmentStore,
    StoredSegment,
    Timeline,
    WindowOptions,
    join_parts,
)
from packager.window.segments import FinishedSegments
from packager.window.snapshot import (
    HeldSegment,
    HeldSegmentsEntry,
    SegmentMediaEntry,
    WindowStateEntry,
    is_told_later,
)
from packager.window.waiters import Waiters


class Window:
    """The live window of one rendition: its segments and parts, their numbers, and waiting requests.

    Args:
        options: its durations and first numbers.
        segment_store: where finished segments go; None keeps them in memory.
        limits: how much the window may hold in memory, and how many requests may wait at once.
        clock: returns monotonic seconds.

    Attributes:
        target_duration: seconds.
        open: the unfinished segment, with its parts so far.
        finished: the segments that are no longer open, with their totals and how long they are kept.
        version: a number that changes whenever playlists do.
        ended: whether nothing comes any more.
        closed_captions: the captions in the picture that were in any part so far, by their INSTREAM-IDs.
        waiters: the requests that wait for segments and parts to come.
        on_listed: called behind each segment that is listed.
        on_lost: called with the number of each segment that leaves memory and isn't on disk.
    """

    def __init__(
        self,
        options: WindowOptions,
        segment_store: SegmentStore | None = None,
        limits: PublishLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target_duration = options.target_duration
        self.open: LiveSegment | None = None
        self.version = 0
        self.ended = False
        self.closed_captions: frozenset[str] = frozenset()
        self.waiters = Waiters(limits)
        self.clock = clock
        self.on_listed: Callable[[], None] = lambda: None
        self.on_lost: Callable[[int], None] = lambda _: None
        self.finished = FinishedSegments(
            options, segment_store, lambda number: self.on_lost(number), limits.memory_bytes
        )
        self._text = options.text
        self._begins = False

    @property
    def extension(self) -> str:
        """How the names of its segments and parts end."""
        return TEXT_EXTENSION if self._text else MEDIA_EXTENSION

    @property
    def listed(self) -> deque[LiveSegment]:
        """The finished segments of the playlist."""
        return self.finished.listed

    @property
    def unlisted(self) -> list[LiveSegment]:
        """The finished segments that have left the playlist lately; perhaps not all are in the past yet."""
        return self.finished.unlisted

    @property
    def next_number(self) -> int:
        """Media sequence number of the segment to come, or of the open one."""
        return self.finished.next_number

    @property
    def discontinuity_sequence(self) -> int:
        """Discontinuity sequence number of the first listed segment."""
        return self.finished.discontinuity_sequence

    @property
    def timeline(self) -> Timeline | None:
        """The timeline of what is being published now, or was last."""
        return self.finished.timeline

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
    def last_reported(self) -> tuple[int, int | None] | None:
        """LAST-MSN and LAST-PART as other renditions report them; None before any segment.

        The part is None of a segment whose parts aren't known, as of captions behind a restart (§4.4.5.4).
        """
        newest = self.newest
        return (
            None if newest is None else (newest.number, newest.part_count - 1 if newest.part_count else None)
        )

    @property
    def next_part(self) -> tuple[int, int]:
        """Media sequence number and part index of the part to come."""
        return (self.next_number, 0 if self.open is None else len(self.open.parts))

    @property
    def newest_discontinuity_sequence(self) -> int:
        """Discontinuity sequence number of the newest segment, the open one too (§6.2.1)."""
        begun = self.open is not None and self.open.discontinuity
        return self.discontinuity_sequence + self.finished.totals.discontinuities + begun

    def begin(self, init: bytes, entry: SampleEntry, frame_rate: Fraction | None = None) -> None:
        """Start a timeline: what is appended from now on is decoded with this init segment."""
        self.interrupt()
        self._begins = bool(self.listed)
        self.finished.begin_timeline(init, entry, frame_rate)
        self.version += 1

    def break_off(self) -> None:
        """Start a timeline with the same init segment as before."""
        if self.timeline is not None:
            self.begin(self.timeline.init, self.timeline.entry, self.timeline.frame_rate)

    def restore(
        self, segments: Iterable[LiveSegment], next_number: int, discontinuity_sequence: int = 0
    ) -> None:
        """Restore segments that an earlier process left on disk; only before anything is published.

        Args:
            segments: with numbers that have no holes, stored ones or gaps.
            next_number: the number behind theirs.
            discontinuity_sequence: EXT-X-DISCONTINUITY-SEQUENCE of a playlist that begins with the first one.
        """
        self.finished.restore(segments, next_number, discontinuity_sequence)
        self.finished.evict(self.clock())

    def needs_storing(self, number: int) -> bool:
        """Return whether a segment's bytes still have to be stored on disk."""
        found = self.finished.find(number)
        return found is not None and not found.gap and found.stored is None

    def confirm(self, number: int, stored: StoredSegment) -> bool:
        """Note that a segment is on disk; return False if its bytes aren't needed any more."""
        wanted = self.needs_storing(number)
        if wanted:
            self.finished.confirm(number, stored, self.clock())
        return wanted

    def lose(self, number: int) -> None:
        """Note that a segment won't be on disk: its bytes leave memory, and it becomes a gap."""
        if self.needs_storing(number):
            self.finished.lose(number)

    def retire(self) -> bool:
        """Remove the oldest segment from the list to save room; it stays fetchable for its time.

        Returns:
            False when no more than what must be listed is.
        """
        may = self.finished.may_retire
        if may:
            self.finished.retire(self.clock())
            self.version += 1
        return may

    def forget(self) -> bool:
        """Remove the oldest fetchable segment, for want of room; False while it is in memory alone."""
        may = self.finished.may_forget
        if may:
            listed = len(self.listed)
            self.finished.forget(self.clock())
            self.version += len(self.listed) < listed
        return may

    def fold(self, entry: RenditionEntry) -> None:  # a case for each kind
        """Apply an entry of the log of this window's rendition."""
        match entry:
            case PartEntry():
                self.append(entry.part, entry.program_date_time, ends_segment=entry.ends_segment)
            case SegmentDoneEntry():
                self.interrupt(entry.text)
            case InitEntry():
                self.begin(entry.init, entry.sample_entry, entry.frame_rate)
            case DiscontinuityEntry():
                self.break_off()
            case GapEntry():
                self.gap(entry.segment(self.next_number))
            case StoredEntry():
                self.confirm(entry.number, entry.stored)
            case LostEntry():
                self.lose(entry.number)
            case RetiredEntry():
                self.retire()
            case ForgottenEntry():
                self.forget()
            case RestoredEntry():
                self.restore(entry.segments, entry.next_number, entry.discontinuity_sequence)
            case EndEntry():
                self.end()

    def state(
        self, rendition: str, *, has_media: bool = True
    ) -> tuple[WindowStateEntry, Iterator[HeldSegmentsEntry]]:
        """Return a snapshot of a rendition, from which another process continues; later changes follow.

        Args:
            has_media: whether to include the segments' bytes; else the entries of ``media`` have them.

        Returns:
            The state, and entries of some finished segments each.
        """
        now = self.clock()
        entry = WindowStateEntry(
            rendition,
            self.finished.state(now),
            None if self.open is None else HeldSegment.of(self.open, text=self._text, has_media=has_media),
            self._begins,
            self.ended,
            self.closed_captions,
        )
        return entry, self.finished.held(rendition, now, has_media=has_media)

    def media(self, rendition: str) -> list[SegmentMediaEntry]:
        """Return the bytes of all segments whose snapshot lacks them, those of the newest first."""
        finished = (one for one in self.finished.fetchable() if is_told_later(one, text=self._text))
        entries = [SegmentMediaEntry(rendition, one.number, one.data) for one in finished]
        if self.open is not None and is_told_later(self.open, text=self._text):
            data = b"".join(part.data for part in self.open.parts)
            entries.insert(0, SegmentMediaEntry(rendition, self.open.number, data))
        return entries

    def begin_from(self, entry: WindowStateEntry) -> None:
        """Begin from another process's snapshot; its finished segments follow."""
        self.finished.begin_from(entry.segments, self.clock())
        if entry.open is not None:
            timelines = {one.number: one for one in entry.segments.timelines}
            self.open = entry.open.segment(timelines, finished=False, text=self._text)
        self._begins, self.ended = entry.begins, entry.ended
        self.closed_captions = entry.closed_captions
        if self.ended:
            self.waiters.close()

    def hold(self, entry: HeldSegmentsEntry) -> None:
        """Add some of the finished segments of another process's snapshot."""
        self.finished.hold(entry, self.clock())

    @property
    def awaits_media(self) -> bool:
        """Whether the snapshot had segments whose bytes haven't come yet."""
        return self.finished.awaits_media or (self.open is not None and bool(self.open.awaited))

    def awaits(self, number: int) -> bool:
        """Return whether a segment of the snapshot lacks bytes that haven't come yet."""
        found = self._told(number)
        return found is not None and bool(found.awaited)

    def fill(self, number: int, data: bytes) -> None:
        """Add the awaited bytes of a segment of the snapshot; those of other segments are ignored.

        Raises:
            MalformedError: the length isn't that of the snapshot.
        """
        found = self._told(number)
        if found is None or not found.awaited:
            return
        if len(data) != sum(found.awaited):
            raise MalformedError(f"{len(data)} bytes of a segment that has {sum(found.awaited)}")
        filled = found.filled(data)
        if found is self.open:
            self.open = filled
        elif len(found.awaited) == len(found.parts):
            self.finished.fill(replace(filled, data=data))
        else:
            self.finished.fill(join_parts(filled))
        self.waiters.notify()

    def _told(self, number: int) -> LiveSegment | None:
        """Return a segment that is open, or fetchable."""
        return self.open if self.open is not None and self.open.number == number else self.at(number)

    def take_over(self, newer: Window) -> None:
        """Replace the contents by those of another window, and wake the requests that wait here.

        Args:
            newer: of the same rendition, with later contents.
        """
        self.finished, self.open = newer.finished, newer.open
        self._begins, self.ended = newer._begins, newer.ended
        self.closed_captions |= newer.closed_captions
        self._notify()
        if self.ended:
            self.waiters.close()

    def append(self, part: LivePart, program_date_time: Fraction, *, ends_segment: bool) -> None:
        """Publish a part.

        Args:
            program_date_time: seconds since the epoch of its first sample.
            ends_segment: whether the next part begins a segment.
        """
        if not self._text:
            self.closed_captions |= services_within(part.data)
        if self.open is None:
            self.open = LiveSegment(
                self.next_number,
                self.timeline,
                program_date_time.as_integer_ratio(),
                (part,),
                discontinuity=self._begins,
                duration=part.duration,
            )
            self._begins = False
        else:
            self.open = replace(
                self.open, parts=(*self.open.parts, part), duration=self.open.duration + part.duration
            )
        if ends_segment:
            self._finish(self.open)
        self._notify()

    def interrupt(self, text: bytes = b"") -> None:
        """Finish the open segment with the parts it has: its source is gone.

        Args:
            text: all of the segment, where it isn't its parts in a row.
        """
        if self.open is not None:
            self._finish(self.open, text)
            self._notify()

    def gap(self, like: LiveSegment) -> None:
        """Publish a gap for the next segment, which another rendition has and this one lacks.

        Args:
            like: the other's, whose duration, date and discontinuity the gap shares (§6.2.4).
        """
        self.interrupt()
        self._begins = self._begins and not like.discontinuity
        self._list(
            LiveSegment(
                self.next_number,
                self.timeline,
                like.date_ratio,
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
        """Release all waiters; none can be added any more."""
        self.waiters.close()

    def segment(self, number: int) -> bytes | None:
        """Return the bytes of a finished segment that is listed or has left the list lately."""
        found = self.finished.find(number)
        return None if found is None or found.gap else found.data or None

    def stored(self, number: int) -> tuple[str, StoredSegment] | None:
        """Return the place of the bytes of a finished segment that have left memory."""
        return self.finished.stored(number)

    def place(self, segment: LiveSegment) -> tuple[str, StoredSegment] | None:
        """Return the place of the bytes of a segment, if it is on disk; other threads may call this."""
        return self.finished.place(segment)

    def at(self, number: int) -> LiveSegment | None:
        """Return a finished segment that is listed or has left the list lately."""
        return self.finished.find(number)

    def part(self, number: int, index: int) -> bytes | memoryview | None:
        """Return the bytes of a published part."""
        found = self._told(number)
        is_here = found is not None and len(found.awaited) <= index < len(found.parts)
        return found.parts[index].data if found is not None and is_here else None

    def init(self, number: int) -> bytes | None:
        """Return the init segment of the timeline that begins with a number."""
        return self.finished.init(number)

    def has_segments(self) -> bool:
        """Return whether a segment has been finished that can be played, or a gap behind one."""
        return bool(self.listed) and self.timeline is not None

    def reached(self, number: int, part: int | None = None) -> bool:
        """Return whether the playlist contains a segment or a part, or has contained it (§6.2.5.2).

        Args:
            number: media sequence number.
            part: index; None asks for the whole segment.
        """
        if number < self.next_number:
            found = None if part is None else self.finished.find(number)
            # §6.2.5.2: a part index past a finished segment's last means part 0 of the next segment.
            past = found is not None and not found.gap and part is not None and part >= found.part_count
            return not past or self.reached(number + 1, 0)
        if part is None or number > self.next_number or self.open is None:
            return False
        return part < len(self.open.parts)

    def _notify(self) -> None:
        self.version += 1
        self.waiters.notify()

    def _finish(self, segment: LiveSegment, text: bytes = b"") -> None:
        self.open = None
        if self._text:
            segment = replace(segment, data=text)
        elif not segment.awaited:
            segment = join_parts(segment)
        self._list(segment)

    def _list(self, segment: LiveSegment) -> None:
        self.finished.append(segment)
        self.finished.evict(self.clock())
        self.on_listed()

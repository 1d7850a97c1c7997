"""The periods of a live channel's DASH manifest (ISO/IEC 23009-1 §5.3.2): stretches without a discontinuity.

The renditions of a stretch differ in length by a part and more where an encoder died. A period ends with the
shortest one, so that none has a hole; the last period ends with the longest one, but not beyond its segments.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import zip_longest
from typing import NamedTuple, Protocol

from media.dash.durations import SHORTEST_LAST, rounded_down, rounded_up
from media.dash.mpd import EventStream
from media.mp4.fragments.fragments import FragmentReader, InitSegment
from packager.window.model import LiveSegment, Timeline
from packager.window.segments import MEMORY_TARGET_DURATIONS
from packager.window.snapshot import PIECE_STRETCHES, HeldStretch, PeriodsEntry
from packager.window.window import Window

MOST_DRIFT = Fraction(3, 10)
"""Seconds by which a segment's date may differ from where its period puts it; then a new period begins."""

PAST_TARGET_DURATIONS = 2 * MEMORY_TARGET_DURATIONS
"""So many target durations behind the end nothing changes any more: long before that, segments are on a disk,
or gaps."""

READ_KEPT = 32
"""How many init segments' track IDs and timescales are kept."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Segments that follow each other without a break.

    Attributes:
        number: media sequence number of the first one.
        start: its date in seconds since the epoch.
        media_time: when its first picture is shown, in seconds of media time.
    """

    number: int
    start: Fraction
    media_time: Fraction


@dataclass(frozen=True, slots=True)
class LivePeriod:
    """A period of a live manifest.

    Attributes:
        stretch: the segments between two discontinuities that the period presents.
        first: media sequence number of its first segment.
        last: media sequence number of the last segment that all renditions have; None while more come.
        start: seconds in whole milliseconds, since the epoch; if ``static``, since the first period's start.
        length: seconds in whole milliseconds; None while more comes.
        media_time: the beginning of the period, in seconds of media time.
        static: whether the channel has ended, and all players know that.
        events: the date ranges of its time.
    """

    stretch: Stretch
    first: int
    last: int | None
    start: Fraction
    length: Fraction | None
    media_time: Fraction
    static: bool = False
    events: Sequence[EventStream] = ()

    @property
    def date(self) -> Fraction:
        """The date of its beginning in seconds since the epoch."""
        return self.stretch.start + self.media_time - self.stretch.media_time

    def until(self, last: int, step: Fraction) -> LivePeriod | None:
        """Return what of it is up to a segment; None where nothing is.

        Args:
            step: seconds of a segment.
        """
        if self.last is not None and self.last <= last:
            return self
        if last < self.first:
            return None
        return replace(self, last=last, length=rounded_down((last - self.first + 1) * step))

    def from_timeline(self, number: int, step: Fraction) -> LivePeriod:
        """Return the period with all of the timeline that its first segment goes on with.

        Args:
            number: of the timeline: the media sequence number of its first segment.
            step: seconds of a segment.
        """
        before = (self.first - number) * step
        if not 0 < before <= self.media_time:
            return self
        begun = Stretch(number, self.stretch.start - before, self.stretch.media_time - before)
        return replace(
            self,
            stretch=begun,
            first=number,
            start=rounded_down(begun.start),
            length=None if self.length is None else self.length + before,
            media_time=begun.media_time,
        )


class FollowedSegments(Protocol):
    """The segments of a rendition from which periods are made: those of a window, or stored ones."""

    @property
    def listed(self) -> Sequence[LiveSegment]:
        """Finished segments, in the order of their numbers."""

    @property
    def open(self) -> LiveSegment | None:
        """The segment that is being made."""

    @property
    def target_duration(self) -> int:
        """EXT-X-TARGETDURATION in seconds."""

    def at(self, number: int) -> LiveSegment | None:
        """Return a finished segment by its number."""


@dataclass(frozen=True, slots=True)
class FinishedRow:
    """Finished segments of a rendition, behind the last of which nothing is known yet."""

    listed: Sequence[LiveSegment]
    target_duration: int

    @property
    def open(self) -> LiveSegment | None:
        """None: all of them are finished."""
        return None

    def at(self, number: int) -> LiveSegment | None:
        """Return a segment by its number."""
        index = bisect_left(self.listed, number, key=lambda one: one.number)
        found = self.listed[index] if index < len(self.listed) else None
        return found if found is not None and found.number == number else None

    def timeline_at(self, number: int) -> Timeline | None:
        """Return the timeline of a segment, or of the next one that isn't a gap; None without any."""
        index = bisect_left(self.listed, number, key=lambda one: one.number)
        return next((one.timeline for one in self.listed[index:] if not one.gap), None)


class _StretchEnd(NamedTuple):
    """The end of a stretch.

    Attributes:
        last: media sequence number of the last segment that all renditions have.
        seconds: where each rendition ends, since the beginning of the stretch.
    """

    last: int
    seconds: Sequence[Fraction]


class PeriodTracker:
    """Follows a channel's first rendition and divides it into periods.

    Args:
        windows: the renditions' but for captions.
        step: seconds of a segment.
        forgets: whether stretches are forgotten that have left the window.
        has_gaps: whether a stretch goes on behind gaps, if its times do.
    """

    def __init__(
        self,
        windows: Sequence[FollowedSegments],
        step: Fraction,
        *,
        forgets: bool = True,
        has_gaps: bool = False,
    ) -> None:
        self._windows = windows
        self._step = step
        self._forgets = forgets
        self._has_gaps = has_gaps
        self._known: deque[Stretch] = deque()
        self._lasts: dict[int, int] = {}
        self.seen = -1
        self._previous: LiveSegment | None = None
        # By their stretches' numbers, those that don't change any more.
        self._over: dict[int, LivePeriod] = {}
        self._ends: dict[int, _StretchEnd] = {}

    @property
    def known(self) -> Sequence[Stretch]:
        """The listed stretches, in order."""
        return self._known

    def follow(self) -> None:
        """Read the segments since the last call, and forget stretches that have left the window."""
        window = self._windows[0]
        new = []
        for segment in reversed(window.listed):
            if segment.number <= self.seen:
                break
            new.append(segment)
        for segment in reversed(new):
            # First: one that can't be read is in no stretch, and the others behind it are nevertheless.
            self.seen = segment.number
            self._admit(segment)
        if window.open is not None and window.open.timeline is not None and self._breaks(window.open):
            self._begin(window.open)
        while self._forgets and len(self._known) > 1 and self._known[1].number <= window.listed[0].number:
            gone = self._known.popleft().number
            self._lasts.pop(gone, None)
            self._ends.pop(gone, None)
            self._over.pop(gone, None)

    def go_on(self, windows: Sequence[FollowedSegments]) -> None:
        """Follow other windows of the same renditions, which go on behind what was followed until now."""
        self._windows = windows

    @property
    def needed(self) -> int:
        """Number of the oldest segment of which something may still be asked, to end a period."""
        done = self._over.keys() | self._ends.keys()
        pending = (one.number for one in self._known if one.number not in done)
        begun = next(pending, self.seen)
        return min(self._lasts.get(begun, begun), self.seen)

    def state(self) -> Iterator[PeriodsEntry]:
        """Return a snapshot of the stretches, in pieces, from which another process continues."""
        previous = -1 if self._previous is None else self._previous.number
        return _in_pieces(tuple(self._known), dict(self._lasts), self.seen, previous)

    def begin_from(self, entry: PeriodsEntry) -> None:
        """Append stretches of another process's state behind those before them."""
        self._known.extend(Stretch(one.number, one.start, one.media_time) for one in entry.stretches)
        self._lasts.update((one.number, one.last) for one in entry.stretches if one.last is not None)
        self.seen, self._previous = entry.seen, self._windows[0].at(entry.previous)

    def take_over(self, newer: PeriodTracker) -> None:
        """Take the stretches of another tracker of the same renditions, which is given up."""
        self._known, self._lasts = newer._known, newer._lasts
        self.seen, self._previous = newer.seen, newer._previous
        self._over.clear()

    def _admit(self, segment: LiveSegment) -> None:
        if segment.gap or segment.timeline is None:
            self._previous = self._previous if self._has_gaps else None
            return
        if self._breaks(segment):
            self._previous = None
            self._begin(segment)
        self._previous = segment
        self._lasts[self._known[-1].number] = segment.number

    def _breaks(self, segment: LiveSegment) -> bool:
        """Return whether a segment can't be in the stretch of those before it."""
        if self._known and self._known[-1].number == segment.number:
            return False
        previous = self._previous
        if previous is None or not _goes_on(previous, segment):
            return True
        if previous.number + 1 < segment.number and not self._is_in_time(segment):
            return True
        if _follows_at_once(previous, segment, self._step):
            # The segment is as far from its place as the one before; fractions are slow.
            return False
        stretch = self._known[-1]
        expected = stretch.start + (segment.number - stretch.number) * self._step
        return abs(segment.program_date_time - expected) > MOST_DRIFT

    def _is_in_time(self, segment: LiveSegment) -> bool:
        """Return whether a segment behind a gap has the media time that its number has in the stretch."""
        expected, time = self.media_time(segment.number), _first_time(segment)
        if not self._has_gaps or expected is None or time is None:
            return False
        return abs(time - expected) <= MOST_DRIFT

    def _begin(self, segment: LiveSegment) -> None:
        start = _first_time(segment)
        if start is not None:
            self._known.append(Stretch(segment.number, segment.program_date_time, start))

    def periods(self, *, ended: bool, settled: bool) -> list[LivePeriod]:
        """Return the periods.

        Args:
            ended: whether nothing comes any more.
            settled: whether all players know of the end; then times count from the beginning of what is left,
                without the time between two stretches, as in a recording.
        """
        found, begin = list[LivePeriod](), Fraction(0)
        # Gaps stand after the last stretch: players that wait in one for segments of it would wait for ever.
        is_interrupted = bool(self._known) and self._previous is None
        if is_interrupted:
            self._note_end(self._known[-1])
        oldest = self._windows[0].listed[0].number if settled else 0
        for stretch, following in zip_longest(self._known, list(self._known)[1:]):
            over = self._over.get(stretch.number)
            if over is not None and not settled:
                found.append(over)
                continue
            last = None
            if ended or is_interrupted or following is not None:
                last = self._last(stretch) if over is None else over.last
                if last is None or last < oldest:
                    continue  # no segment was in all renditions at the same time
            first = max(stretch.number, oldest)
            gone = (first - stretch.number) * self._step
            length = None
            if last is not None:
                whole = over.length or 0 if over else self._length(stretch, last, following, settled=settled)
                length = whole - gone
            start = begin if settled else rounded_down(stretch.start)
            period = LivePeriod(stretch, first, last, start, length, stretch.media_time + gone, settled)
            found.append(period)
            begin += length or 0
            if not settled and following is not None and self._is_past(following.number):
                self._over[stretch.number] = period
        return found

    def is_over(self, period: LivePeriod) -> bool:
        """Return whether a period that isn't in the settled text doesn't change any more."""
        return period.stretch.number in self._over

    def _is_past(self, number: int) -> bool:
        """Return whether a segment is so old that those before it don't become gaps any more."""
        newest = min(
            (window.listed[-1] for window in self._windows if window.listed), key=lambda one: one.number
        )
        old = self._windows[0].at(number)
        age = 0 if old is None else newest.program_date_time - old.program_date_time
        return age > PAST_TARGET_DURATIONS * self._windows[0].target_duration

    def _last(self, stretch: Stretch) -> int | None:
        """Return the number of the last segment that all renditions have in a stretch; None without one."""
        number = self._lasts.get(stretch.number, -1)
        if self._windows[0].at(number) is None and stretch.number in self._ends:
            return self._ends[stretch.number].last
        while number >= stretch.number:
            row = [window.at(number) for window in self._windows]
            # A segment that isn't finished yet in one rendition will come; a gap will not.
            if not any(one is not None and one.gap for one in row):
                return number
            number -= 1
        return None

    def _length(self, stretch: Stretch, last: int, following: Stretch | None, *, settled: bool) -> Fraction:
        """Return the seconds of a stretch that is over, in whole milliseconds."""
        step = (last - stretch.number) * self._step
        ends = self._find_ends(stretch, last)
        if following is None:
            # Players consider media beyond the period's end as played, and may stop before they reach it.
            end = rounded_up(max(ends))
            if not settled:
                # Without a timeline they ask for a segment for each step that has begun: sound behind the
                # last one isn't one.
                end = min(end, rounded_down(step + self._step))
            return max(end, SHORTEST_LAST)
        begins = rounded_down(following.start) - rounded_down(stretch.start)
        return rounded_down(min([*ends, begins]))

    def _find_ends(self, stretch: Stretch, last: int) -> Sequence[Fraction]:
        """Return where the renditions end with a segment, in seconds since the beginning of its stretch."""
        step = (last - stretch.number) * self._step
        row = [one for window in self._windows if (one := window.at(last)) is not None]
        if not row:
            return self._ends[stretch.number].seconds if stretch.number in self._ends else [step + self._step]
        # Video segments are regular; the dates of segments of one number show how far audio is from them.
        return [step + one.program_date_time - row[0].program_date_time + one.duration for one in row]

    def _note_end(self, stretch: Stretch) -> None:
        """Note where a stretch ends behind which are gaps, since its segments may leave the windows."""
        last = self._last(stretch)
        if last is not None and self._windows[0].at(last) is not None:
            self._ends[stretch.number] = _StretchEnd(last, self._find_ends(stretch, last))

    def media_time(self, number: int) -> Fraction | None:
        """Return the media time in seconds at which a segment begins; None before any was published.

        Args:
            number: number of a listed segment, or the next one.
        """
        stretch = next((one for one in reversed(self._known) if one.number <= number), None)
        if stretch is None:
            return None
        return stretch.media_time + (number - stretch.number) * self._step


def _first_time(segment: LiveSegment) -> Fraction | None:
    """Return when the first picture of a segment is shown, in seconds of media time."""
    if segment.timeline is None:
        return None
    if segment.stored is not None:
        return segment.stored.presentation_time
    return Fraction(*parse_time(segment.timeline.init, bytes(segment.parts[0].data), shown=True))


def _goes_on(previous: LiveSegment, segment: LiveSegment) -> bool:
    """Return whether two segments have the same init segment; its frame rate isn't noted on a disk."""
    before, now = previous.timeline, segment.timeline
    if before is now:
        return True
    return before is not None and now is not None and (before.number, before.init) == (now.number, now.init)


def _follows_at_once(previous: LiveSegment, segment: LiveSegment, step: Fraction) -> bool:
    """Return whether a segment's date is exactly a step behind that of the one before."""
    (before, per_second), (date, ticks) = previous.date_ratio, segment.date_ratio
    return (date * per_second - before * ticks) * step.denominator == step.numerator * ticks * per_second


def _in_pieces(
    known: Sequence[Stretch], lasts: Mapping[int, int], seen: int, previous: int
) -> Iterator[PeriodsEntry]:
    for begin in range(0, max(len(known), 1), PIECE_STRETCHES):
        rows = (
            HeldStretch(one.number, one.start, one.media_time, lasts.get(one.number))
            for one in known[begin : begin + PIECE_STRETCHES]
        )
        yield PeriodsEntry(tuple(rows), seen, previous)


def parse_time(init: bytes, fragment: bytes = b"", *, shown: bool = False) -> tuple[int, int]:
    """Read when a fragment begins.

    Args:
        init: the init segment of its one track.
        fragment: one fragment, or nothing.
        shown: whether to return the time at which the first sample is shown, not that at which it is decoded.

    Returns:
        The fragment's time in ticks, 0 without a fragment; the ticks per second.
    """
    reader = FragmentReader()
    reader.receive_data(init + fragment)
    time, timescale = 0, 1
    for event in reader.events():
        if isinstance(event, InitSegment):
            timescale = event.tracks[0].timescale
        else:
            time = event.base_media_decode_time + shown * event.samples[0].composition_offset
    return time, timescale


@functools.lru_cache(maxsize=READ_KEPT)
def timeline_at(window: Window, number: int) -> Timeline | None:
    """Return the timeline of a segment, or of the first one behind it that isn't a gap; None without any."""
    # From the segment on, not from the end: a window of hours has many periods' worth of segments.
    for one in range(max(number, window.finished.oldest_number), window.next_number):
        segment = window.at(one)
        if segment is not None and not segment.gap:
            return segment.timeline
    return window.timeline if window.open is None else window.open.timeline

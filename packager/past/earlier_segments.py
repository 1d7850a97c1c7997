"""Spans of a live channel's past with the segments that have left its playlists, but not its DVR."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from packager.past.delayed_playlist import PastListing
from packager.past.growing_span import GrowingSpan, settled_segments
from packager.past.outlined_span import OutlinedSpan
from packager.past.outlines import BLOCK_SEGMENTS, Outline, outlines_of
from packager.past.past_segments import PastSegments, oldest_of
from packager.past.past_window import PastWindow, has_media, past_window
from packager.window.clock_steps import LEAP_SECONDS, OVERLAP_SECONDS
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition, extension_of, variant_renditions
from packager.window.window import Window

READ_ATTEMPTS = 3
"""How often the DVR is read where a segment has left the playlist meanwhile."""


MOST_MISSING = 1000
"""Most numbers in a row that gaps stand for where nothing was on the disk."""


class _SpanToRead(NamedTuple):
    """The bounds of a span.

    Attributes:
        start: in seconds since the epoch.
        end: in seconds since the epoch; None: it goes on as long as the channel does.
        until: the date up to which segments of the DVR may last, as the windows have all others; None: any.
    """

    start: Fraction
    end: Fraction | None
    until: Fraction | None

    @classmethod
    def of(cls, start: Fraction, end: Fraction | None, begun: LiveSegment | None) -> _SpanToRead:
        """Return the bounds of a span of which the windows have a first segment; perhaps none."""
        until = None if begun is None else begun.program_date_time + Fraction(OVERLAP_SECONDS)
        return cls(start, end, until)

    @property
    def read(self) -> Fraction | None:
        """The end of what is read of the DVR: the windows' segments of a date are newer."""
        ends = [one for one in (self.end, self.until) if one is not None]
        return min(ends, default=None)

    def has(self, segment: LiveSegment) -> bool:
        """Return whether a segment of the DVR ends in time."""
        is_within = self.end is None or segment.program_date_time < self.end
        return is_within and (self.until is None or _end(segment) <= self.until)


class _Earlier(NamedTuple):
    """The segments of a span before those of the playlists.

    Attributes:
        segments: by rendition, of the same numbers.
        oldest: date of the oldest segment in the DVR; None where it doesn't matter, or there is none.
    """

    segments: Mapping[str, Sequence[LiveSegment]]
    oldest: Fraction | None


class EarlierSegments:
    """Finds the segments of some renditions of a channel that are in its DVR alone.

    Args:
        renditions: by name.
        past: finds their past, by rendition; empty where none is kept.
        wanted: the only rendition whose segments matter; of the others, gaps and discontinuities do. Empty:
            all do.
        outlined: whether columns will do for spans that are over.
        client: for whom they are read, such as a network.
    """

    def __init__(
        self,
        renditions: Mapping[str, Rendition],
        past: Mapping[str, PastSegments],
        wanted: str = "",
        *,
        outlined: bool = False,
        client: str = "",
    ) -> None:
        self._renditions = renditions
        self._client = client
        self._past = past
        self._wanted = wanted
        self._outlined = outlined

    def has(self, start: Fraction) -> bool:
        """Return whether a date isn't in the playlists, and there may be something of it in the DVR."""
        if not self._past or len(self._past) < len(self._renditions):
            return False
        window = self._leading
        if not window.listed:
            return False
        # A moment that is still to come may have been before the clock was set back.
        listed = window.finished.dated(start, None)
        return not listed or not listed[0].program_date_time <= start < _end(listed[-1])

    def is_ahead(self, start: Fraction) -> bool:
        """Return whether a date is still to come: what was at it came before the clock was set back."""
        return start >= _end(self._leading.listed[-1])

    async def window(
        self, start: Fraction, end: Fraction | None, *, may_lack: bool = False
    ) -> PastWindow | None:
        """Return a span with its segments from the DVR, followed by those of the playlists.

        Args:
            start: in seconds since the epoch.
            end: likewise; None: it goes on as long as the channel does.
            may_lack: whether numbers may be missing in a span that grows.

        Raises:
            OSError: S3 can't be reached now.
        """
        threads = next(iter(self._past.values())).threads.of(self._client)
        for _ in range(READ_ATTEMPTS):
            before = self._before
            recent = self._recent(start, end)
            bounds = _SpanToRead.of(start, end, None if recent is None else recent.first)
            is_whole = self._is_whole(recent, start, end)
            if self._outlined and is_whole and not self._leading.finished.is_stepped:
                return await threads.run(self._read_outlined, bounds, before, recent)
            earlier = await threads.run(self._read, bounds, before, is_whole=may_lack or is_whole)
            if before == self._before:
                break
        # In the step in which the rest of the request is decided: more may have come.
        return self._joined(earlier, self._recent(start, end), start, end)

    async def growing(self, start: Fraction, first_recent: Callable[[], int]) -> GrowingSpan | None:
        """Return the wanted rendition's playlist of a span that grows, and begins before the playlists do.

        Args:
            start: in seconds since the epoch.
            first_recent: returns the number of the first segment that no delta update skips.

        Returns:
            None where the channel has none of it.

        Raises:
            OSError: S3 can't be reached now, or the DVR is read more slowly than segments leave the windows.
        """
        window, threads = (
            self._renditions[self._wanted].window,
            next(iter(self._past.values())).threads.of(self._client),
        )
        for _ in range(READ_ATTEMPTS):
            before = self._before
            begun, recent = self._begun(start, before), list(settled_segments(window, before, first_recent()))
            is_played = any(_has_listed(one.window, begun.number) for one in self._renditions.values())
            made = await threads.run(self._read_growing, start, before, begun, recent)
            if made.may_follow(window):
                return made if is_played or made.has_media else None
        raise TimeoutError("segments leave the playlist before the DVR is read")

    def _begun(self, start: Fraction, before: int) -> LiveSegment:
        """Return the segment in which a span begins if that is in the windows; else the oldest listed one."""
        leading = next(iter(self._renditions.values())).window
        if leading.finished.is_stepped:
            held = leading.finished.dated(start, None, before)
            return held[max(bisect_right(held, start, key=_date) - 1, 0)] if held else leading.listed[0]

        def date(number: int) -> Fraction:
            segment = leading.at(number)
            return start if segment is None else segment.program_date_time

        index = bisect_right(range(before, leading.next_number), start, key=date)
        found = leading.at(before + index - 1) if index else None
        return found or leading.listed[0]

    def _read_growing(
        self, start: Fraction, before: int, begun: LiveSegment, recent: Sequence[LiveSegment]
    ) -> GrowingSpan:
        """Read what the windows don't have of a span, and add segments of a window."""
        until = _SpanToRead.of(start, None, begun).read
        span = None if begun.program_date_time <= start else self._unbroken_span(start, until, before)
        if span is None:
            made = GrowingSpan(self._wanted, begun)
            made.extend(one for one in recent if one.number >= begun.number)
            return made
        made = GrowingSpan(self._wanted, span.first, span)
        made.extend(recent)
        return made

    def _outlines(self, start: Fraction, end: Fraction | None, before: int) -> dict[str, list[Outline]]:
        # All renditions wait for S3 at once.
        coming = {name: self._past[name].outlines(start, end, before) for name in self._renditions}
        return {name: list(own) for name, own in coming.items()}

    def _unbroken_span(self, start: Fraction, until: Fraction | None, before: int) -> OutlinedSpan | None:
        """Read the columns of a span up to a number, behind the last number that is missing."""
        found = self._outlines(start, until, before)
        edges = [edge for own in found.values() for edge in _edges(own, start, None, before)]
        if not edges or max(edges) != before - 1:
            return None
        span = _without_earlier(OutlinedSpan(range(min(edges), before), found), start)
        missing = np.flatnonzero(~span.there)
        if len(missing):
            span = span.behind(int(missing[-1]))
        return span if span.numbers else None

    async def listing(self, start: Fraction, end: Fraction, segment_duration: Fraction) -> PastListing | None:
        """Return all segments of a span, and gaps where there is none, as live playlists had them.

        Args:
            start: in seconds since the epoch.
            end: in seconds since the epoch.
            segment_duration: seconds for which a gap stands whose segment isn't known.

        Raises:
            OSError: S3 can't be reached now.
        """
        before, threads = self._before, next(iter(self._past.values())).threads.of(self._client)
        held = next(iter(self._held_from(before, start, end).values()))
        bounds = _SpanToRead.of(start, end, held[0] if held else None)
        earlier = await threads.run(self._read, bounds, before, is_whole=True)
        later = self._held_from(before, start, end)
        rows = {name: [*earlier.segments.get(name, ()), *later[name]] for name in self._renditions}
        if not any(rows.values()):
            return None
        segments = _without_holes(rows, segment_duration)
        numbers = {name: own[0].number for name, own in segments.items()}
        return PastListing(segments, await threads.run(self._discontinuities, numbers))

    def _held_from(self, first: int, start: Fraction, end: Fraction) -> dict[str, list[LiveSegment]]:
        """Return the segments of a span from a number on that all windows have, listed or not."""
        found: dict[str, list[LiveSegment]] = {name: [] for name in self._renditions}
        numbers: Iterable[int] = range(
            first, max(one.window.next_number for one in self._renditions.values())
        )
        if (finished := self._leading.finished).is_stepped:
            numbers = [one.number for one in finished.dated(start, end, first)]
        for number in numbers:
            row = {name: one.window.at(number) for name, one in self._renditions.items()}
            own = [one for one in row.values() if one is not None]
            if len(own) < len(row) or own[0].program_date_time >= end:
                break
            for name, segment in zip(found, own, strict=True):
                found[name].append(segment)
        return found

    def _discontinuities(self, numbers: Mapping[str, int]) -> dict[str, int]:
        return {name: self._past[name].discontinuities_before(number) for name, number in numbers.items()}

    @property
    def _leading(self) -> Window:
        return variant_renditions(list(self._renditions.values()))[0].window

    @property
    def _before(self) -> int:
        """The media sequence number from which on all windows have segments.

        Segments that have left the playlists stay in the windows until they surely are in the past.
        """
        windows = (one.window for one in self._renditions.values())
        return max(one.finished.oldest_number for one in windows if one.listed)

    def _recent(self, start: Fraction, end: Fraction | None) -> PastWindow | None:
        """Return the segments of a span that the windows have, listed or not; None without any."""
        listed = past_window(self._renditions, start, end)
        windows = {name: one.window for name, one in self._renditions.items()}
        leading = self._leading
        behind = max(one.listed[0].number for one in windows.values() if one.listed)
        if listed is not None:
            behind = listed.first.number
        held: Iterable[LiveSegment | None] = map(leading.at, range(self._before, behind))
        if leading.finished.is_stepped:
            dated = leading.finished.dated(start, end, self._before)
            held = (one for one in dated if one.number < behind)
        # Sound may begin a little earlier or later than the pictures of its number.
        numbers = [
            one.number
            for one in held
            if one is not None and _end(one) > start and (end is None or one.program_date_time < end)
        ]
        rows = {name: [one for at in numbers if (one := own.at(at))] for name, own in windows.items()}
        if not numbers or any(len(own) < len(numbers) for own in rows.values()):
            return listed
        oldest = next(iter(rows.values()))[0].program_date_time
        if listed is None:
            return PastWindow(start, rows, oldest, self._is_whole(None, start, end))
        joined = {name: [*own, *listed.segments[name]] for name, own in rows.items()}
        return PastWindow(start, joined, oldest, listed.is_whole)

    def _read(self, bounds: _SpanToRead, before: int, *, is_whole: bool) -> _Earlier:
        """Read the segments of a span, and put gaps where a rendition lacks a number that another one has."""
        start, end = bounds.start, bounds.read
        own = self._past[self._wanted].read(start, end, before) if self._wanted in self._past else ()
        found = {
            name: own if name == self._wanted else past.read(start, end, before, own)
            for name, past in self._past.items()
        }
        # Where several renditions have a number, the first one's segment counts.
        known = {one.number: one for segments in reversed(found.values()) for one in segments}
        numbers = sorted(known)
        # The segment before the span is read as well, which may have ended long before.
        while numbers and known[numbers[0]].program_date_time < start and _end(known[numbers[0]]) <= start:
            del numbers[0]
        # Sound may begin a little earlier than the pictures of its number, as in the playlists.
        while numbers and not bounds.has(known[numbers[-1]]):
            numbers.pop()
        if not is_whole:
            numbers = _unbroken(numbers, before)
        aligned = {name: _aligned(segments, numbers, known) for name, segments in found.items()}
        oldest = None
        if is_whole and not (numbers and known[numbers[0]].program_date_time <= start):
            # Either the channel began later, or nothing ran then.
            oldest = oldest_of(self._past.values())
        return _Earlier(aligned if numbers else {}, oldest)

    def _read_outlined(
        self, bounds: _SpanToRead, before: int, recent: PastWindow | None
    ) -> PastWindow | None:
        """Read a span that is over as columns, with its segments from the playlists."""
        start, end, until = bounds.start, bounds.end, bounds.read
        found = self._outlines(start, until, before)
        edges = [edge for own in found.values() for edge in _edges(own, start, until, before)]
        if recent is not None:
            edges += [recent.first.number, recent.last.number]
            found = {name: self._with_recent(name, own, until, before, recent) for name, own in found.items()}
        if not edges:
            return None
        numbers = range(min(edges), max(edges) + 1)
        if end is not None:
            leading = next((own for own in found.values() if any(len(one.there) for one in own)), ())
            behind = _first_at(leading, end, numbers.stop)
            numbers = range(numbers.start, max(numbers.start, behind))
        span = _without_earlier(OutlinedSpan(numbers, found), start)
        if not any(map(span.has_media, found)):
            return None
        oldest = span.first.program_date_time
        if oldest > start:
            # Either the channel began later, or nothing ran then.
            oldest = min(oldest, oldest_of(self._past.values()) or oldest)
        return PastWindow(start, {}, oldest, is_whole=True, outlined=span)

    def _with_recent(
        self, name: str, outlines: Sequence[Outline], until: Fraction | None, before: int, recent: PastWindow
    ) -> list[Outline]:
        """Return a rendition's outlines, of which a block may go on with segments of the playlist."""
        segments = recent.segments[name]
        first = segments[0].number - segments[0].number % BLOCK_SEGMENTS
        begun = [one for one in outlines if one.first == first]
        if begun and len(begun[0].there):
            date = begun[0].date(int(begun[0].there[0]))
            segments = [*self._past[name].read(date, until, before), *segments]
        made = outlines_of(segments, extension_of(name))
        return [*(one for one in outlines if one.first < first), *made]

    def _joined(
        self, earlier: _Earlier, recent: PastWindow | None, start: Fraction, end: Fraction | None
    ) -> PastWindow | None:
        later = {} if recent is None else recent.segments
        if not earlier.segments and recent is None:
            return None
        segments = {
            name: [*earlier.segments.get(name, ()), *later.get(name, ())] for name in self._renditions
        }
        if not has_media(segments):
            return None
        oldest = next(iter(segments.values()))[0].program_date_time
        if earlier.oldest is not None:
            oldest = min(oldest, earlier.oldest)
        return PastWindow(start, segments, oldest, self._is_whole(recent, start, end))

    def _is_whole(self, recent: PastWindow | None, start: Fraction, end: Fraction | None) -> bool:
        if recent is not None:
            return recent.is_whole
        window = self._leading
        has_passed = end is not None and end <= _end(window.listed[-1])
        return window.ended or has_passed or self.is_ahead(start)


def _has_listed(window: Window, number: int) -> bool:
    """Return whether a window lists media of a number or of later ones."""
    later = itertools.takewhile(lambda one: one.number >= number, reversed(window.listed))
    return any(not one.gap for one in later)


def _without_earlier(span: OutlinedSpan, start: Fraction) -> OutlinedSpan:
    """Return a span without the segment before it, which is read as well, and may have ended long before."""
    while span.numbers and (first := span.first).program_date_time < start and _end(first) <= start:
        span = span.behind(first.number - span.numbers.start)
    return span


def _first_at(outlines: Sequence[Outline], end: Fraction, behind: int) -> int:
    """Return the first number before another one that begins at the end of a span, or later; else that one.

    Sound may begin a little earlier than the pictures of its number: the first rendition counts.
    """
    for one in reversed(outlines):
        begun = one.begun(end, before=True)
        if begun < len(one.there):
            behind = min(behind, one.first + int(one.there[begun]))
        if begun:
            break
    return behind


def _edges(outlines: Sequence[Outline], start: Fraction, end: Fraction | None, before: int) -> list[int]:
    """Return the numbers of a rendition's first and last segments of a span; nothing where it has none.

    The first one is the last that doesn't begin behind the start.
    """
    first = next((one for one in outlines if len(one.there)), None)
    if first is None:
        return []
    least = first.first + int(first.there[max(first.begun(start) - 1, 0)])
    for one in reversed(outlines):
        there = one.there
        behind = int(np.searchsorted(there, before - one.first))
        if end is not None:
            behind = min(behind, one.begun(end, before=True))
        if behind:
            last = one.first + int(there[behind - 1])
            return [least, last] if least <= last else []
    return []


def _without_holes(
    rows: Mapping[str, list[LiveSegment]], segment_duration: Fraction
) -> dict[str, list[LiveSegment]]:
    """Put gaps where no rendition has a number; behind more of them than can be meant, the rest is all."""
    leading = next(iter(rows.values()))
    begin = 0
    gaps: list[LiveSegment] = []
    for index, (one, following) in enumerate(itertools.pairwise(leading), 1):
        missing = following.number - one.number - 1
        seconds = following.program_date_time - _end(one)
        # Where the clock was set back, there was no time for them.
        if missing > MOST_MISSING or missing * segment_duration > seconds + Fraction(LEAP_SECONDS):
            begin, gaps = index, []
            continue
        gaps += (
            replace(
                _gap(one),
                number=one.number + behind,
                date_ratio=(_end(one) + (behind - 1) * segment_duration).as_integer_ratio(),
                discontinuity=False,
                duration=segment_duration,
            )
            for behind in range(1, missing + 1)
        )
    if not gaps:
        return {name: own[begin:] for name, own in rows.items()}
    return {name: sorted([*own[begin:], *gaps], key=lambda one: one.number) for name, own in rows.items()}


def _aligned(
    segments: Sequence[LiveSegment], numbers: Sequence[int], known: Mapping[int, LiveSegment]
) -> list[LiveSegment]:
    if [one.number for one in segments] == numbers:
        return list(segments)
    own = {one.number: one for one in segments}
    return [own.get(number) or _gap(known[number]) for number in numbers]


def _unbroken(numbers: Sequence[int], before: int) -> list[int]:
    """Return the last numbers without a hole before another one: a growing playlist can't have any."""
    kept: list[int] = []
    for number in reversed(numbers):
        if number != before - len(kept) - 1:
            break
        kept.append(number)
    return kept[::-1]


def _date(segment: LiveSegment) -> Fraction:
    return segment.program_date_time


def _gap(like: LiveSegment) -> LiveSegment:
    return replace(like, timeline=None, gap=True, stored=None)


def _end(segment: LiveSegment) -> Fraction:
    return segment.program_date_time + segment.duration

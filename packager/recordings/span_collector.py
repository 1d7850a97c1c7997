"""Collects the segments of a channel's spans as they come, from its playlists and from its DVR's past."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from operator import attrgetter

from packager.dvr.segment_sources import SegmentSource
from packager.past.past_segments import PastSegments, oldest_of
from packager.recordings.kept_spans import KeptSpan
from packager.recordings.limits import RecordingsLimits
from packager.recordings.metadata import EventEnd
from packager.recordings.pending_segments import PendingSegments
from packager.recordings.playlist_facts import PlaylistFacts
from packager.safe_files import DataFolder
from packager.threads import SHARED_THREADS, ThreadLimits, Threads
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition, variant_renditions

EARLIER_SECONDS = 3600
"""Of how much time the segments that have left the playlists are collected at once."""

COLLECTING = Threads(ThreadLimits(threads=8), "spans")
"""The threads in which segments are collected, which wait for S3: other work of the program never does."""

_date = attrgetter("program_date_time")

_Renditions = Mapping[str, Rendition]
_Segments = Mapping[str, Sequence[LiveSegment]]
"""By rendition."""


@dataclass(slots=True)
class _Progress:
    """How far the segments of a span are collected.

    Attributes:
        earlier: date before which it is collected of what has left the playlists, in seconds since the epoch.
        has_earlier: whether all of that is collected.
        next_numbers: the next media sequence number, by rendition.
        is_complete: whether all of the span is collected.
        is_cut: whether more of it can be collected at once.
        has_waiting: whether a segment of it is in memory, and waits to be stored.
    """

    earlier: Fraction = Fraction(0)
    has_earlier: bool = False
    next_numbers: dict[str, int] = field(default_factory=dict)
    is_complete: bool = False
    is_cut: bool = False
    has_waiting: bool = False


class SpanCollector:
    """Collects the segments of one channel's spans.

    Args:
        place: the channel's folder on disk.
        dvr: the place of the segments of its DVR.

    Attributes:
        pending: the segments that were collected.
        ending: the newest facts that playlists of the segments need; None where they were never known.
    """

    def __init__(self, place: DataFolder, dvr: SegmentSource, limits: RecordingsLimits) -> None:
        self.pending = PendingSegments(place)
        self._dvr = dvr
        self._limits = limits
        self.ending: EventEnd | None = None
        # The facts that are in the folder of pending segments.
        self._written: EventEnd | None = None
        self._progress: dict[str, _Progress] = {}
        # Where the earliest span began at the last look, in milliseconds since the epoch.
        self._needed_from: int | None = None
        # Date of the oldest segment that an earlier process collected, in milliseconds since the epoch.
        self._pending_from: int | None = None
        # Date of the oldest segment that has left the playlists but not the disk, in seconds since the epoch.
        self._past_from: Fraction | None = None

    async def load(self) -> None:
        """Find out what an earlier process has collected.

        Raises:
            OSError: it can't be read.
        """
        self.ending = await SHARED_THREADS.run(self.pending.ending)
        self._pending_from = await SHARED_THREADS.run(self.pending.oldest)

    async def begin(self, spans: Sequence[KeptSpan], facts: PlaylistFacts, *, follows: bool) -> None:
        """Collect the segments of some spans from now on, and of no others.

        Args:
            follows: whether another process makes the recordings of those spans that are over.

        Raises:
            OSError: a file of a segment that no span needs can't be removed.
        """
        if facts.ending.master and facts.ending != self.ending:
            self.ending = facts.ending
        self._progress = {one.id: self._progress.get(one.id) or _Progress() for one in spans}
        needed_from = min((one.start_ms for one in spans), default=None)
        has_collected = self._written is not None or self._pending_from is not None
        is_unneeded = not spans or (follows and needed_from != self._needed_from)
        if has_collected and is_unneeded and self._listed(facts.renditions):
            await self.forget_before(needed_from)
        self._needed_from = needed_from

    def collects(self, name: str) -> bool:
        """Return whether the segments of a span are collected."""
        return name in self._progress

    async def collect(self, span: KeptSpan, renditions: _Renditions) -> bool:
        """Collect new segments of a span; return whether more of it can be collected at once.

        Raises:
            OSError: the disk or S3 fails.
        """
        progress = self._progress[span.id]
        earlier = await self._earlier(span, progress, renditions)
        found = earlier[0] if earlier is not None else self._find(span, progress, renditions)
        if any(found.values()) and self.ending is not None:
            ending = None if self._written is self.ending else self.ending
            await COLLECTING.run(self.pending.collect, self._dvr, found, ending)
            self._written = self.ending
            for name, segments in found.items():
                if segments:
                    progress.next_numbers[name] = segments[-1].number + 1
        if earlier is not None:
            progress.earlier, progress.is_cut = earlier[1], True
        return progress.is_cut

    def is_over(self, span: KeptSpan, now: float) -> bool:
        """Return whether nothing more of a span comes.

        Args:
            now: seconds since the epoch.
        """
        if span.end_ms is None:
            return False
        progress, late = self._progress[span.id], now - span.end_ms / 1000
        # While a disk or S3 fails, segments wait in memory.
        seconds = self._limits.waiting_seconds if progress.has_waiting else self._limits.late_seconds
        return late >= 0 and (progress.is_complete or late >= seconds)

    def earliest_ms(self, renditions: _Renditions, now: float) -> int:
        """Return from which date on there is anything, in milliseconds since the epoch; without any, now.

        Args:
            now: seconds since the epoch.
        """
        dates = [one.program_date_time for one in islice(self._listed(renditions), 1)]
        if dates and self._past_from is not None:
            dates.append(self._past_from)
        begin_ms = int(min([now, *map(float, dates)]) * 1000)
        return begin_ms if self._pending_from is None else min(begin_ms, self._pending_from)

    async def look_at_past(self, renditions: _Renditions) -> None:
        """Find out which segment is the oldest that has left the playlists."""
        past = [*self._past(renditions).values()]
        with contextlib.suppress(OSError):
            # While S3 is away, what was known stays.
            self._past_from = await past[0].threads.run(oldest_of, past) if past else None

    async def has_any(self, span: KeptSpan, renditions: _Renditions) -> bool:
        """Return whether the playlists have anything of a span, or the DVR's past.

        Raises:
            OSError: S3 can't be asked, or is slow.
        """
        progress = _Progress()
        if _has_media(self._find(span, progress, renditions)):
            return True
        try:
            async with asyncio.timeout(self._limits.keep_seconds):
                while (found := await self._earlier(span, progress, renditions)) is not None:
                    segments, progress.earlier = found
                    if _has_media(segments):
                        return True
        except TimeoutError:
            raise OSError(errno.EAGAIN, "what is kept of this time can't be found out soon") from None
        return False

    async def forget_before(self, start_ms: int | None) -> None:
        """Remove the collected segments before the earliest span that is left.

        Args:
            start_ms: its beginning in milliseconds since the epoch; None: there is none.

        Raises:
            OSError: a file can't be removed.
        """
        if start_ms is None:
            self._written = self._pending_from = None
        await SHARED_THREADS.run(self.pending.forget_before, start_ms)

    async def forget_from(self, start: Fraction) -> None:
        """Remove the collected segments from a date on, in seconds since the epoch, to collect them again.

        Raises:
            OSError: a file can't be removed.
        """
        await SHARED_THREADS.run(self.pending.forget_from, start)
        self._progress.clear()

    def _past(self, renditions: _Renditions) -> dict[str, PastSegments]:
        return {name: past for name in renditions if (past := self._dvr.past(name)) is not None}

    def _listed(self, renditions: _Renditions) -> Sequence[LiveSegment]:
        leading = variant_renditions(list(renditions.values()))
        return self._fetchable(leading[0]) if leading else ()

    def _fetchable(self, rendition: Rendition) -> Sequence[LiveSegment]:
        """Return the listed segments, behind those that may not be in the past yet."""
        window = rendition.window
        if self._dvr.past(rendition.name) is None or not window.listed:
            return window.listed
        return [*window.unlisted, *window.listed]

    async def _earlier(
        self, span: KeptSpan, progress: _Progress, renditions: _Renditions
    ) -> tuple[_Segments, Fraction] | None:
        """Read some of the segments of a span that have left the playlists; None once all are collected.

        Returns:
            These segments, and the date before which they are all that come.
        """
        past, (start, end) = self._past(renditions), span.bounds
        while past and not progress.has_earlier and (listed := self._listed(renditions)):
            begin, limit = max(start, progress.earlier), min(end, _date(listed[0]))
            if begin >= limit:
                progress.has_earlier = True
                break
            behind = min(limit, begin + EARLIER_SECONDS)
            threads = next(iter(past.values())).threads
            segments = await threads.run(_read_past, past, (begin, behind), listed[0].number)
            if any(segments.values()):
                return segments, behind
            progress.earlier = behind
        return None

    def _find(self, span: KeptSpan, progress: _Progress, renditions: _Renditions) -> _Segments:
        """Find the segments of a span that weren't collected yet, as far as they are stored."""
        listed = self._listed(renditions)
        progress.is_complete = progress.is_cut = progress.has_waiting = False
        if not listed:
            return {}
        start, end = span.bounds
        first = max(bisect_right(listed, start, key=_date) - 1, 0)
        if listed[first].program_date_time + listed[first].duration <= start:
            first += 1
        behind = bisect_left(listed, end, key=_date)
        if first >= behind:
            progress.is_complete = behind < len(listed)
            return {}
        newest, numbers = listed[-1], range(listed[first].number, listed[behind - 1].number + 1)
        found: dict[str, Sequence[LiveSegment]] = {}
        is_level = True
        for name, rendition in renditions.items():
            begin = max(numbers.start, progress.next_numbers.get(name, 0))
            found[name] = self._of(rendition, range(begin, numbers.stop), progress)
            is_level = is_level and (found[name][-1].number + 1 if found[name] else begin) >= numbers.stop
        progress.is_cut = any(len(one) == self._limits.collected_segments for one in found.values())
        progress.is_complete = is_level and newest.program_date_time + newest.duration >= end
        return found

    def _of(self, rendition: Rendition, numbers: range, progress: _Progress) -> list[LiveSegment]:
        """Return the segments of a rendition up to the first one that isn't stored yet."""
        window, found = rendition.window, list[LiveSegment]()
        listed = self._fetchable(rendition)
        if not listed or not numbers:
            return found
        skipped = max(numbers.start - listed[0].number, 0)
        for segment in _slice(listed, skipped, min(len(numbers), self._limits.collected_segments)):
            if segment.number >= numbers.stop:
                break
            is_awaited = window.next_number - segment.number < self._limits.awaited_segments
            is_missing = not segment.gap and segment.stored is None
            if is_missing and (is_awaited or segment.data):
                progress.has_waiting = progress.has_waiting or bool(segment.data)
                break
            found.append(segment)
        return found


def _has_media(found: _Segments) -> bool:
    return any(not one.gap for segments in found.values() for one in segments)


def _read_past(
    past: Mapping[str, PastSegments], bounds: tuple[Fraction, Fraction], before: int
) -> dict[str, list[LiveSegment]]:
    """Read the segments of a span that have left the playlists, by rendition. Blocks."""
    begin, end = bounds
    return {
        name: [one for one in found.read(begin, end, before) if one.program_date_time + one.duration > begin]
        for name, found in past.items()
    }


def _slice(listed: Sequence[LiveSegment], skipped: int, count: int) -> list[LiveSegment]:
    """Return so many segments behind the first ones, from the nearer end of a list that may be long."""
    if skipped <= len(listed) // 2:
        return list(islice(listed, skipped, skipped + count))
    found = list(islice(reversed(listed), max(len(listed) - skipped, 0)))
    found.reverse()
    return found[:count]

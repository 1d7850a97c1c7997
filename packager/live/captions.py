"""Captions of a live channel: cues with dates become WebVTT renditions, part by part.

Each language is a rendition with the same parts and segments as the channel's first one (RFC 8216bis §6.2.4).
A part has the cues of its time and those that came too late for the part before; a segment has all cues of
its time. A cue that spans several segments is in each of them, with the same times.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter

from media.subtitles import webvtt
from media.subtitles.webvtt import Cue
from packager.live.limits import DEFAULT_LIMITS, LiveLimits
from packager.publish.channel_commands import TooManyCuesError, TooManyFeedsError
from packager.publish.date_ranges import ImplausibleDateError
from packager.window.model import WEBVTT_ENTRY, LivePart, LiveSegment
from packager.window.rendition_log_writer import RenditionWriter
from packager.window.window import Window

CUE_COST = 64
"""Bytes that a cue counts beside its text."""

ORIGIN_STEP = 43_200
"""Seconds: cue times count from a multiple of it, which is the same for all segments of half a day."""

LATE_TARGET_DURATIONS = 3
"""Target durations after whose end a cue is dropped: no player is further behind."""

MAX_CUE_SECONDS = 86_400
"""Longest time for which a cue may be shown; it is in each segment of that time."""

MAX_CUES = 8192
"""Most cues of one language that aren't over, however short: each part looks at all of them."""

AHEAD_SECONDS = 86_400
"""Seconds by which a cue may begin ahead of what is on air; it is kept until then."""


@dataclass(slots=True)
class _PendingCue:
    """A cue that isn't over.

    Attributes:
        start: milliseconds since the epoch.
        first_segment: media sequence number of the first segment that has it; None before.
        timeline: number of the timeline in which ``shift`` holds.
        shift: milliseconds from media time to dates. It never changes, so that a cue has the same times in
            all segments, although dates are corrected now and then.
    """

    start: int
    end: int
    cue: Cue
    first_segment: int | None = None
    timeline: int = -1
    shift: int = 0


class CaptionTrack:
    """The captions of one language.

    Args:
        limits: how many cues may wait or be on.
    """

    def __init__(self, limits: LiveLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._kept: list[_PendingCue] = []
        self._bytes = 0
        self._edge = 0
        self._shift = 0
        self._since = 0

    def add(self, cues: Sequence[Cue], zero: Fraction) -> int:
        """Add cues, all or none.

        Args:
            cues: their times count from ``zero``.
            zero: seconds since the epoch.

        Returns:
            How many are too late to be shown.

        Raises:
            ImplausibleDateError: one of them begins too far ahead, or is shown for too long.
            TooManyCuesError: they don't fit.
        """
        base, limits = _milliseconds(zero), self._limits
        latest = (self._edge or base) + 1000 * AHEAD_SECONDS
        if any(base + cue.start > latest for cue in cues):
            raise ImplausibleDateError(f"a cue begins more than {AHEAD_SECONDS} seconds ahead")
        if any(cue.end - cue.start > 1000 * MAX_CUE_SECONDS for cue in cues):
            raise ImplausibleDateError(f"a cue is shown for more than {MAX_CUE_SECONDS} seconds")
        timely = [cue for cue in cues if base + cue.end > self._since]
        if len(self._kept) + len(timely) > MAX_CUES:
            raise TooManyCuesError(f"more than {MAX_CUES} captions that aren't over")
        cost = CUE_COST * len(timely) + sum(map(_text_cost, timely))
        if self._bytes + cost > limits.caption_bytes:
            raise TooManyCuesError(f"more than {limits.caption_bytes} bytes of captions that aren't over")
        self._bytes += cost
        self._kept += [_PendingCue(base + cue.start, base + cue.end, cue) for cue in timely]
        self._kept.sort(key=attrgetter("start"))
        return len(cues) - len(timely)

    def follow(
        self, reference: LiveSegment, writer: RenditionWriter, offset: Fraction, *, ended: bool
    ) -> None:
        """Publish the part that goes with the newest one of another rendition.

        Args:
            reference: the segment that has that part.
            writer: where this one goes; its segments have the same numbers.
            offset: seconds to add to a media time for its date, in this segment.
            ended: whether the part is the segment's last one.
        """
        window = writer.window
        if window.open is None and (reference.discontinuity or window.timeline is None):
            writer.begin(webvtt.HEADER, WEBVTT_ENTRY)
        duration = reference.parts[-1].duration
        end = reference.program_date_time + reference.duration
        self._edge, self._shift = _milliseconds(end), _milliseconds(offset)
        self._since = self._edge - 1000 * LATE_TARGET_DURATIONS * window.target_duration
        begin = _milliseconds(end - duration)
        timeline = 0 if window.timeline is None else window.timeline.number
        chosen = [
            kept
            for kept in self._begun(self._edge)
            if kept.end > begin or (kept.first_segment is None and kept.end > self._since)
        ][-self._limits.cues_at_once :]
        for kept in chosen:
            kept.first_segment = reference.number if kept.first_segment is None else kept.first_segment
            if kept.timeline != timeline:
                kept.timeline, kept.shift = timeline, self._shift
        data = self._render(chosen, reference.program_date_time)
        writer.append(LivePart(data, duration, independent=True), end - duration, ends_segment=ended)
        if ended:
            self._forget()

    def document(self, segment: LiveSegment) -> bytes:
        """Write a segment that is complete, or was cut short."""
        begin = _milliseconds(segment.program_date_time)
        end = _milliseconds(segment.program_date_time + segment.duration)
        kept = (one for one in self._begun(end) if one.end > begin or one.first_segment == segment.number)
        chosen = [one for one in kept if one.first_segment is not None]
        return self._render(chosen[-self._limits.cues_at_once :], segment.program_date_time)

    def _begun(self, end: int) -> Iterator[_PendingCue]:
        for kept in self._kept:
            if kept.start >= end:
                return
            yield kept

    def _render(self, chosen: Iterable[_PendingCue], date: Fraction) -> bytes:
        """Write cues.

        Args:
            chosen: the cues, each with the shift of the timeline.
            date: of the segment's first sample, in seconds since the epoch.
        """
        media_time = (_milliseconds(date) - self._shift) // 1000
        origin = max(media_time // ORIGIN_STEP - 1, 0) * ORIGIN_STEP
        return webvtt.segment((_local(kept, origin) for kept in chosen), origin)

    def _forget(self) -> None:
        """Remove the cues that no segment to come has."""
        self._kept = [kept for kept in self._kept if kept.end > self._edge]
        self._bytes = CUE_COST * len(self._kept) + sum(_text_cost(kept.cue) for kept in self._kept)


class Captions:
    """All languages of a channel.

    Args:
        languages: BCP 47 tags.
        limits: how many cues of each may wait or be on, and how many may bring them.

    Attributes:
        tracks: by language.
        on_cues: called with the language, the cues that were taken, and the date from which they count.
    """

    def __init__(self, languages: Iterable[str], limits: LiveLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self.tracks = {language: CaptionTrack(limits) for language in languages}
        self._writers: Mapping[str, RenditionWriter] = {}
        self._feeds: set[asyncio.Timeout] = set()
        self._closed = False
        self.on_cues: Callable[[str, Sequence[Cue], Fraction], None] | None = None

    @contextlib.asynccontextmanager
    async def feeding(self) -> AsyncIterator[None]:
        """Count as a source of captions while the context is open, until ``close`` at the latest.

        Raises:
            TooManyFeedsError: the channel has as many sources of captions as it may.
            TimeoutError: the channel is closed.
        """
        if len(self._feeds) >= self._limits.caption_feeds:
            raise TooManyFeedsError(f"{self._limits.caption_feeds} feeds of captions are there already")
        async with asyncio.timeout(0 if self._closed else None) as feed:
            self._feeds.add(feed)
            try:
                yield
            finally:
                self._feeds.discard(feed)

    def close(self) -> None:
        """End all sources of captions."""
        self._closed = True
        for feed in self._feeds:
            feed.reschedule(0)

    def add(self, language: str, cues: Sequence[Cue], zero: Fraction) -> int:
        """Add cues to the track of a language; return how many are too late to be shown."""
        late = self.tracks[language].add(cues, zero)
        if self.on_cues is not None:
            self.on_cues(language, cues, zero)
        return late

    def adopt(self, writers: Mapping[str, RenditionWriter]) -> None:
        """Publish with these writers, by language, from now on."""
        self._writers = writers

    def follow(self, reference: Window, offset: Fraction) -> None:
        """Publish the parts that go with the newest part of the reference.

        Args:
            reference: the window of the channel's first rendition.
            offset: seconds to add to a media time for its date.
        """
        segment = reference.open or reference.listed[-1]
        for language, writer in self._writers.items():
            self.tracks[language].follow(segment, writer, offset, ended=reference.open is None)


Follower = Callable[[Window, Fraction], None]
"""A function that is called after each part of a channel's first rendition; see ``Captions.follow``."""


def _local(kept: _PendingCue, origin: int) -> Cue:
    """Publish a cue whose times count from an origin in seconds of media time."""
    base = kept.shift + 1000 * origin
    start, end = max(kept.start - base, 0), max(kept.end - base, 1)
    return Cue(start, end, kept.cue.text, kept.cue.settings)


def _text_cost(cue: Cue) -> int:
    return len(cue.text if cue.text.isascii() else cue.text.encode()) + len(cue.settings)


def _milliseconds(seconds: Fraction) -> int:
    return round(seconds * 1000)

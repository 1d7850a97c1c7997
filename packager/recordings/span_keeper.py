"""Makes recordings of spans of a channel's time: of programmes, of publications, and of what is asked for.

A span may be longer than the DVR: its segments are put into a folder of their own as they come, and are a
recording once all of it has come. Spans that were asked for are on disk, so that a restart loses none.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import structlog
from msgspec.structs import replace

from packager.concurrency import Threads, background_task
from packager.dvr.segment_sources import SegmentSource
from packager.past.date_range_file import StoredRanges
from packager.past.past_segments import PastSegments
from packager.past.programmes import LATEST, LONGEST_SECONDS, Programme, Schedule
from packager.publish.live_stream import LiveStream
from packager.recordings.limits import RecordingsLimits
from packager.recordings.merged_recordings import AnyRecording
from packager.recordings.metadata import EventEnd, RecordingMetadata
from packager.recordings.span_files import (
    KeptSpan,
    SpansState,
    collect,
    forget_before,
    forget_from,
    oldest_pending,
    read_ending,
    read_state,
    record_span,
    write_state,
)
from packager.safe_files import DataFolder
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition, variant_renditions

log = structlog.get_logger()

RULES = ("none", "publications", "programmes", "all")
"""Names of the rules by which spans become recordings."""


EARLIER_SECONDS = 3600
"""Of how much time the segments that have left the playlists are collected at once."""

COLLECTING = Threads(4, "spans")
"""The threads in which segments are collected, which wait for S3: other work of the program never does."""


class NothingKeptError(Exception):
    """Nothing of a span is kept."""


class NoRoomError(Exception):
    """There is no room for another recording that is never removed by itself."""


@dataclass(frozen=True, slots=True)
class PlaylistFacts:
    """The facts of a channel that the playlists of a recording need.

    Attributes:
        renditions: by name, as they are now.
        ending: the facts for the recording of an event; without a master playlist nothing can be recorded.
        date_ranges: returns the EXT-X-DATERANGE tags of a span, in seconds since the epoch.
        stored_ranges: reads those of a span that the live playlist may have lost; None: it lists all.
    """

    renditions: Mapping[str, Rendition]
    ending: EventEnd
    date_ranges: Callable[[Fraction, Fraction], Sequence[str]]
    stored_ranges: Callable[[Fraction, Fraction], Awaitable[StoredRanges]] | None = None


def facts_of(
    stream: LiveStream, stored_ranges: Callable[[Fraction, Fraction], Awaitable[StoredRanges]] | None
) -> PlaylistFacts:
    """Return what recordings of spans need to know of a channel.

    Args:
        stored_ranges: as in `PlaylistFacts`.
    """
    return PlaylistFacts(
        stream.renditions, ending_of(stream), stream.presentation.date_ranges.lines_within, stored_ranges
    )


def ending_of(stream: LiveStream) -> EventEnd:
    """Return the metadata for a recording of what a channel has published until now."""
    first = {one.video: name for name, one in reversed(list(stream.renditions.items()))}
    presentation, cadence = stream.presentation, stream.cadence
    return EventEnd(
        frame_rate=cadence.frame_rate.as_integer_ratio(),
        segment_duration=cadence.segment_duration.as_integer_ratio(),
        target_duration=cadence.target_duration,
        master=presentation.multivariant().decode() if stream.ready else "",
        date_ranges=tuple(presentation.date_ranges.lines()),
        video=first.get(True),
        audio=first.get(False),
    )


class SpanStore(Protocol):
    """The spans that are to be kept, where they outlive this process."""

    async def load(self) -> SpansState:
        """Read the spans of an earlier process, or of another one.

        Raises:
            OSError: they can't be read.
        """

    async def save(self, state: SpansState) -> None:
        """Write the spans.

        Raises:
            OSError: they can't be written.
        """


class DiskSpans:
    """The spans of a channel on this machine's disk."""

    def __init__(self, channel: str, place: DataFolder) -> None:
        self._channel = channel
        self._place = place

    async def load(self) -> SpansState:
        """Read the spans of an earlier process; see `SpanStore`."""
        state, aside = await asyncio.to_thread(read_state, self._place)
        if aside:
            log.warning(
                "a file of spans can't be read, and was set aside", channel=self._channel, aside=aside
            )
        return state

    async def save(self, state: SpansState) -> None:
        """Write the spans; see `SpanStore`."""
        await asyncio.to_thread(write_state, self._place, state)


class MadeRecordings(Protocol):
    """The recordings of one channel, to which further ones are added."""

    @property
    def place(self) -> DataFolder:
        """The folder in which they are made."""

    @property
    def metadata(self) -> list[RecordingMetadata]:
        """The metadata of all recordings."""

    @property
    def excess(self) -> int:
        """Bytes that recordings which are never removed by themselves have above the most of all."""

    def get(self, name: str) -> AnyRecording | None:
        """Find a recording by its name."""

    def of_span(self, name: str) -> AnyRecording | None:
        """Find the recording of a span that was to be kept."""

    async def add(self, metadata: RecordingMetadata) -> None:
        """List a recording that was made.

        Raises:
            OSError: it can't be kept.
        """

    async def remove(self, name: str) -> bool:
        """Remove a recording for the administrator; return False where there is none of the name.

        Raises:
            OSError: it can't be removed.
        """


class PublicationOnAir(Protocol):
    """A publication that is on air."""

    began: float


class PublisherWatch(Protocol):
    """The publishers of a channel."""

    @property
    def live(self) -> PublicationOnAir | None:
        """The publication on air; None while there is none."""

    @property
    def has_publisher(self) -> bool:
        """Whether somebody publishes what is on air."""

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until something else is on air, or nothing, but no longer than for some time."""


@dataclass(frozen=True, slots=True)
class KeepingRule:
    """The rule by which spans become recordings.

    Attributes:
        programmes: whether each programme becomes one when it is over.
        publications: whether each publication becomes one when its publisher has gone.
    """

    programmes: bool = False
    publications: bool = False

    @classmethod
    def of(cls, name: str) -> KeepingRule:
        """Return the rule of a name of ``RULES``."""
        return cls(name in ("programmes", "all"), name in ("publications", "all"))


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


class _ReadSegments(NamedTuple):
    """Some of the segments of a span that have left the playlists.

    Attributes:
        segments: by rendition.
        behind: date before which these are all that come, in seconds since the epoch.
    """

    segments: Mapping[str, Sequence[LiveSegment]]
    behind: Fraction


class _Adding(NamedTuple):
    """A recording that was made, and is being added.

    Attributes:
        name: identifier of the recording, which is also its folder's name.
        task: adds it, which takes long where it goes to S3.
        is_forgotten: whether the span was to be kept no more meanwhile.
    """

    span: KeptSpan
    name: str
    task: asyncio.Task[None]
    is_forgotten: bool = False


class SpanKeeper:
    """Keeps spans of one channel.

    Args:
        channel: the channel's name, for the log.
        places: the channel's folder on disk, and the place of the segments of its DVR.
        facts: returns what playlists need now.
        rule: decides which spans nobody needs to ask for.
        limits: how often it is looked for segments, and how many spans may wait.

    Attributes:
        schedule: returns the programmes of the channel as they are now.
        store: keeps the spans over restarts.
        may_record: returns whether recordings may be made now, which otherwise wait.
        follows: returns whether another process changes the spans, while this one only collects segments.
        trouble: why a span can't be kept, or soon couldn't be; or empty.
    """

    def __init__(
        self,
        channel: str,
        places: tuple[DataFolder, SegmentSource],
        recordings: MadeRecordings,
        facts: Callable[[], PlaylistFacts],
        rule: KeepingRule,
        limits: RecordingsLimits,
    ) -> None:
        self._channel = channel
        self._place, self._dvr = places
        self._recordings = recordings
        self._facts = facts
        self._rule = rule
        self._limits = limits
        self.schedule: Callable[[], Schedule] = Schedule
        self.store: SpanStore = DiskSpans(channel, self._place)
        self.may_record: Callable[[], bool] = lambda: True
        self.follows: Callable[[], bool] = lambda: False
        self._state = SpansState()
        self._loaded = asyncio.Event()
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._progress: dict[str, _Progress] = {}
        self._ending: EventEnd | None = None
        # The facts for playlists that are in the folder of pending segments.
        self._written: EventEnd | None = None
        # Date of the oldest segment that an earlier process collected, in milliseconds since the epoch.
        self._pending_from: int | None = None
        # Date of the oldest segment that has left the playlists but not the disk, in seconds since the epoch.
        self._past_from: Fraction | None = None
        # Date from which on segments were collected that aren't the channel's, in seconds since the epoch.
        self._doubted_from: Fraction | None = None
        # Where the earliest span began at the last look, in milliseconds since the epoch.
        self._needed_from: int | None = None
        self._results: dict[str, asyncio.Future[AnyRecording | KeptSpan | None]] = {}
        # While a recording is added, segments of other spans are collected.
        self._adding: _Adding | None = None
        # The span whose recording couldn't be added at the last attempt, and why.
        self._refusal: tuple[str, OSError] | None = None
        self._fault = ""
        self._disk_trouble = ""
        self._looked_at_disk = float("-inf")

    @property
    def trouble(self) -> str:
        """Why a span can't be kept, or soon couldn't be; or empty."""
        return self._fault or self._disk_trouble

    @property
    def waiting(self) -> Sequence[KeptSpan]:
        """The spans that aren't recordings yet, without those of programmes."""
        return self._state.spans

    async def keep(self, start_ms: int, end_ms: int, title: str) -> AnyRecording | KeptSpan:
        """Have a span kept, before or after it comes.

        Returns:
            Its recording, or the span itself while that isn't made.

        Raises:
            NothingKeptError: it is over, and nothing of it is kept.
            NoRoomError: as many wait as may, or recordings have all the room that they may.
            OSError: the disk fails.
        """
        await self._wait_until_loaded()
        # The same request again means the same recording.
        title_hash = hashlib.blake2b(title.encode(), digest_size=8).hexdigest()
        span = KeptSpan(f"{start_ms}-{end_ms}-{title_hash}", start_ms, end_ms, title, pinned=True)
        if (made := self._recordings.of_span(span.id)) is not None:
            return made
        is_over = end_ms <= time.time() * 1000
        if is_over and not self._has_any(span) and not await self._is_there_earlier(span):
            raise NothingKeptError
        if self._recordings.excess:
            raise NoRoomError("recordings_size is used up by recordings that are kept")
        if len(self._state.spans) >= self._limits.waiting_spans:
            raise NoRoomError(f"{self._limits.waiting_spans} spans wait already")
        if span not in self._state.spans:
            await self._change(lambda state: SpansState((*state.spans, span), state.done))
        self._wake.set()
        if not is_over:
            return span
        result = self._results.setdefault(span.id, asyncio.get_running_loop().create_future())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.keep_seconds):
                found = await asyncio.shield(result)
                if found is None:
                    raise NothingKeptError
                return found
        return span

    async def _wait_until_loaded(self) -> None:
        """Wait until the spans of an earlier process are known.

        Raises:
            OSError: the channel doesn't run.
        """
        try:
            async with asyncio.timeout(self._limits.keep_seconds):
                await self._loaded.wait()
        except TimeoutError:
            raise OSError(errno.EAGAIN, "the channel doesn't run") from None

    async def forget(self, name: str) -> bool:
        """Keep a span no more that isn't a recording yet; return False where there is none of the name.

        Raises:
            OSError: the disk fails, or the channel doesn't run.
        """
        await self._wait_until_loaded()
        if all(one.id != name for one in self._state.spans):
            return False
        await self._change(
            lambda state: SpansState(tuple(one for one in state.spans if one.id != name), state.done)
        )
        if self._adding is not None and self._adding.span.id == name:
            self._adding = self._adding._replace(is_forgotten=True)
        return True

    @contextlib.asynccontextmanager
    async def running(self, publishers: PublisherWatch | None) -> AsyncIterator[None]:
        """Keep spans while the context is open.

        Args:
            publishers: the publishers of the channel; None where the source is another one.
        """
        async with background_task(self._run()), self.keeping_publications(publishers):
            try:
                yield
            finally:
                waiting = {one.id: one for one in self._state.spans}
                for name, result in self._results.items():
                    if not result.done():
                        result.set_result(waiting.get(name))

    @contextlib.asynccontextmanager
    async def keeping_publications(self, publishers: PublisherWatch | None) -> AsyncIterator[None]:
        """Keep each publication while the context is open, if that is the rule.

        Args:
            publishers: as for ``running``, whose context is open.
        """
        async with contextlib.AsyncExitStack() as stack:
            if publishers is not None and self._rule.publications:
                await stack.enter_async_context(background_task(self._follow(publishers)))
            yield

    async def reload(self) -> None:
        """Read the spans once more, which another process may have changed.

        Raises:
            OSError: they can't be read.
        """
        async with self._lock:
            self._state = await self.store.load()

    def collect_again(self, start: Fraction) -> None:
        """Forget what was collected from a date on, in seconds since the epoch, and collect it once more."""
        self._doubted_from = start if self._doubted_from is None else min(start, self._doubted_from)
        self._wake.set()

    async def _run(self) -> None:
        try:
            self._state = await self.store.load()
            self._ending = await asyncio.to_thread(read_ending, self._place)
            self._pending_from = await asyncio.to_thread(oldest_pending, self._place)
        except OSError as error:
            self._note(error.strerror or str(error))
        self._loaded.set()
        try:
            await self._go_on()
        finally:
            if self._adding is not None:
                self._adding.task.cancel()
                await asyncio.gather(self._adding.task, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._step()
            except OSError as error:
                self._note(error.strerror or str(error))
            except Exception as error:  # the channel goes on, and the next step tries again
                if not self._fault:
                    log.exception("a fault of the program keeps spans from being kept", channel=self._channel)
                self._note(f"a fault of the program: {type(error).__name__}")
            else:
                self._note("")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.span_look_seconds):
                    await self._wake.wait()

    def _note(self, fault: str) -> None:
        if fault and fault != self._fault:
            log.warning("spans can't be kept", channel=self._channel, reason=fault)
        self._fault = fault

    async def _change(self, change: Callable[[SpansState], SpansState]) -> None:
        """Change the state where it is stored, and then here."""
        async with self._lock:
            state = change(self._state)
            if state != self._state:
                await self.store.save(state)
                self._state = state

    async def _step(self) -> None:
        """Collect new segments, and record the spans that have come."""
        if self.follows():
            await self.reload()
            self._refusal = None
        if (doubted := self._doubted_from) is not None:
            await asyncio.to_thread(forget_from, self._place, doubted)
            self._progress.clear()
            self._doubted_from = None
        failure = await self._end_adding()
        refused = "" if failure is None or self._refusal is None else self._refusal[0]
        now = time.time()
        await self._look_at_disk()
        facts = self._facts()
        if facts.ending.master and facts.ending != self._ending:
            self._ending = facts.ending
        begun = [one for one in self._spans(now) if one.start_ms <= now * 1000]
        self._progress = {one.id: self._progress.get(one.id) or _Progress() for one in begun}
        await self._forget_unneeded(begun)
        for span in begun:
            try:
                # Behind a refusal it is another one's turn.
                await self._advance(span, facts, now, may_record=span.id != refused)
            except OSError as error:  # the others go on
                failure = error
            await asyncio.sleep(0)  # many spans may have begun
        if self._refusal is not None and self._refusal[0] in self._progress:
            failure = failure or self._refusal[1]
        if failure is not None:
            raise failure

    async def _forget_unneeded(self, begun: Sequence[KeptSpan]) -> None:
        """Remove collected segments before all spans that have begun."""
        needed_from = min((one.start_ms for one in begun), default=None)
        is_new = self.follows() and needed_from != self._needed_from
        if self._has_collected and self._oldest() is not None and (not begun or is_new):
            await self._forget_before(needed_from)
        self._needed_from = needed_from

    async def _end_adding(self) -> OSError | None:
        """Be done with a span whose recording was added meanwhile; return why that failed."""
        adding = self._adding
        if adding is None or not adding.task.done():
            return None
        self._adding = None
        try:
            adding.task.result()
            self._refusal = None
            made = self._recordings.get(adding.name)
            if not adding.is_forgotten:
                await self._end_span(adding.span, made)
            elif made is not None and made.metadata.span == adding.span.id:
                await self._recordings.remove(adding.name)
        except OSError as error:
            self._refusal = adding.span.id, error
            return error
        return None

    @property
    def _has_collected(self) -> bool:
        """Whether segments were collected, by an earlier process or here."""
        return self._written is not None or self._pending_from is not None

    async def _advance(self, span: KeptSpan, facts: PlaylistFacts, now: float, *, may_record: bool) -> None:
        """Collect new segments of a span, and record the span once it has come.

        Raises:
            OSError: the disk fails.
        """
        progress = self._progress[span.id]
        earlier = await self._earlier(span, progress, facts.renditions)
        found = self._find(span, progress, facts.renditions) if earlier is None else earlier.segments
        if any(found.values()) and self._ending is not None:
            ending = None if self._written is self._ending else self._ending
            await COLLECTING.run(collect, self._dvr, self._place, found, ending)
            self._written = self._ending
            for name, segments in found.items():
                if segments:
                    progress.next_numbers[name] = segments[-1].number + 1
        if earlier is not None:
            progress.earlier, progress.is_cut = earlier.behind, True
        if progress.is_cut:
            self._wake.set()
        elif self._adding is None and may_record and self._is_over(span, progress, now) and self.may_record():
            await self._record(span, facts)

    def _spans(self, now: float) -> Iterator[KeptSpan]:
        """Yield the spans that are to be kept, those of programmes by rule, too."""
        yield from self._state.spans
        if not self._rule.programmes:
            return
        done = set(self._state.done)
        oldest = self._oldest()
        begin_ms = int((now if oldest is None else min(float(oldest), now)) * 1000)
        if self._pending_from is not None:
            begin_ms = min(begin_ms, self._pending_from)
        if self.follows():
            # Nobody may ever record them.
            begin_ms = max(begin_ms, int((now - self._limits.followed_seconds) * 1000))
        spans = map(span_of, self.schedule().touching(begin_ms, int(now * 1000)))
        yield from islice((one for one in spans if one.id not in done), self._limits.programmes_at_once)

    def _listed(self, renditions: Mapping[str, Rendition]) -> Sequence[LiveSegment]:
        leading = variant_renditions(list(renditions.values()))
        return self._fetchable(leading[0]) if leading else ()

    def _fetchable(self, rendition: Rendition) -> Sequence[LiveSegment]:
        """Return the listed segments, behind those that may not be in the past yet."""
        window = rendition.window
        if self._dvr.past(rendition.name) is None or not window.listed:
            return window.listed
        return [*window.unlisted, *window.listed]

    def _oldest(self) -> Fraction | None:
        listed = self._listed(self._facts().renditions)
        if not listed:
            return None
        date = listed[0].program_date_time
        return date if self._past_from is None else min(date, self._past_from)

    async def _earlier(
        self, span: KeptSpan, progress: _Progress, renditions: Mapping[str, Rendition]
    ) -> _ReadSegments | None:
        """Read some of the segments of a span that have left the playlists; None once all are collected."""
        past = {name: found for name in renditions if (found := self._dvr.past(name)) is not None}
        start, end = Fraction(span.start_ms, 1000), Fraction(span.end_ms or LATEST, 1000)
        while past and not progress.has_earlier and (listed := self._listed(renditions)):
            begin, limit = max(start, progress.earlier), min(end, listed[0].program_date_time)
            if begin >= limit:
                progress.has_earlier = True
                break
            behind = min(limit, begin + EARLIER_SECONDS)
            threads = next(iter(past.values())).threads
            segments = await threads.run(_read_past, past, (begin, behind), listed[0].number)
            if any(segments.values()):
                return _ReadSegments(segments, behind)
            progress.earlier = behind
        return None

    async def _is_there_earlier(self, span: KeptSpan) -> bool:
        """Find out in time whether anything of a span is kept that has left the playlists.

        Raises:
            OSError: S3 can't be asked, or is slow.
        """
        try:
            async with asyncio.timeout(self._limits.keep_seconds):
                return await self._has_earlier(span)
        except TimeoutError:
            raise OSError(errno.EAGAIN, "what is kept of this time can't be found out soon") from None

    async def _has_earlier(self, span: KeptSpan) -> bool:
        """Return whether anything of a span is kept that has left the playlists."""
        progress, renditions = _Progress(), self._facts().renditions
        while (found := await self._earlier(span, progress, renditions)) is not None:
            if any(not one.gap for segments in found.segments.values() for one in segments):
                return True
            progress.earlier = found.behind
        return False

    def _has_any(self, span: KeptSpan) -> bool:
        """Return whether anything of a span is kept."""
        found = self._find(span, _Progress(), self._facts().renditions)
        has_new = any(not one.gap for segments in found.values() for one in segments)
        collected = (one for one in self._spans(time.time()) if one.id in self._progress)
        end_ms = span.end_ms or LATEST
        return has_new or any(
            one.start_ms < end_ms and (one.end_ms or LATEST) > span.start_ms for one in collected
        )

    def _find(
        self, span: KeptSpan, progress: _Progress, renditions: Mapping[str, Rendition]
    ) -> dict[str, Sequence[LiveSegment]]:
        """Find the segments of a span that weren't collected yet, as far as they are stored."""
        listed = self._listed(renditions)
        progress.is_complete = progress.is_cut = progress.has_waiting = False
        if not listed:
            return {}
        start, end = Fraction(span.start_ms, 1000), Fraction(span.end_ms or LATEST, 1000)
        first = max(bisect_right(listed, start, key=_date) - 1, 0)
        if listed[first].program_date_time + listed[first].duration <= start:
            first += 1
        behind = bisect_left(listed, end, key=_date)
        if first >= behind:
            progress.is_complete = behind < len(listed)
            return {}
        numbers = range(listed[first].number, listed[behind - 1].number + 1)
        newest = listed[-1]
        found: dict[str, Sequence[LiveSegment]] = {}
        is_level = True
        for name, rendition in renditions.items():
            begin = max(numbers.start, progress.next_numbers.get(name, 0))
            found[name] = self._of(rendition, range(begin, numbers.stop), progress)
            last = found[name][-1].number if found[name] else begin - 1
            is_level = is_level and last >= numbers[-1]
        progress.is_cut = any(len(one) == self._limits.collected_segments for one in found.values())
        reached = newest.program_date_time + newest.duration >= end
        progress.is_complete = is_level and reached
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

    def _is_over(self, span: KeptSpan, progress: _Progress, now: float) -> bool:
        """Return whether nothing more of a span comes."""
        if span.end_ms is None:
            return False
        late = now - span.end_ms / 1000
        # While a disk or S3 fails, segments wait in memory.
        seconds = self._limits.waiting_seconds if progress.has_waiting else self._limits.late_seconds
        return late >= 0 and (progress.is_complete or late >= seconds)

    async def _record(self, span: KeptSpan, facts: PlaylistFacts) -> None:
        made = self._recordings.of_span(span.id)
        if made is None and self._ending is not None and not (span.pinned and self._recordings.excess):
            end = span.end_ms or 0
            bounds = Fraction(span.start_ms, 1000), Fraction(end, 1000)
            lines = facts.date_ranges(*bounds)
            if facts.stored_ranges is not None:
                stored = await facts.stored_ranges(*bounds)
                lines = stored.lines_within(*bounds, lines)
            ending = replaced(self._ending, lines)
            metadata = await asyncio.to_thread(
                record_span, self._place, self._recordings.place, ending, span, self._recordings.metadata
            )
            if metadata is not None:
                task = asyncio.ensure_future(self._recordings.add(metadata))
                task.add_done_callback(self._note_added)
                self._adding = _Adding(span, metadata.id, task)
                return
            log.info("nothing of a span came", channel=self._channel, span=span.id)
        elif made is None and span.pinned and self._recordings.excess:
            log.warning("a span isn't kept: recordings_size is used up", channel=self._channel, span=span.id)
        await self._end_span(span, made)

    def _note_added(self, task: asyncio.Task[None]) -> None:
        # A recording that couldn't be added is tried again at the next step, which comes by itself.
        if not task.cancelled() and task.exception() is None:
            self._wake.set()

    async def _end_span(self, span: KeptSpan, made: AnyRecording | None) -> None:
        """Keep a span no more, of which there is a recording, or nothing."""
        await self._change(lambda state: self._without(state, span))
        if (result := self._results.pop(span.id, None)) is not None and not result.done():
            result.set_result(made)
        now = time.time()
        left = [one.start_ms for one in self._spans(now) if one.start_ms <= now * 1000 and one.id != span.id]
        await self._forget_before(min(left, default=None))

    async def _forget_before(self, start_ms: int | None) -> None:
        """Remove the collected segments before the earliest span that is left; None: there is none."""
        if start_ms is None:
            self._written = self._pending_from = None
        await asyncio.to_thread(forget_before, self._place, start_ms)

    def _without(self, state: SpansState, span: KeptSpan) -> SpansState:
        """Return the state without a span that is done."""
        if not span.programme:
            return SpansState(tuple(one for one in state.spans if one.id != span.id), state.done)
        # Of programmes that are no longer in the schedule nothing needs to be known.
        listed = {span_of(one).id for one in self.schedule()} | {span.id}
        return SpansState(state.spans, tuple(one for one in (*state.done, span.id) if one in listed))

    async def _look_at_disk(self) -> None:
        """Find out whether the disk has room."""
        if time.monotonic() - self._looked_at_disk < self._limits.disk_look_seconds:
            return
        self._looked_at_disk = time.monotonic()
        self._disk_trouble = await asyncio.to_thread(self._lack_of_room)
        past = [one for name in self._facts().renditions if (one := self._dvr.past(name)) is not None]
        with contextlib.suppress(OSError):
            # While S3 is away, what was known stays.
            self._past_from = await past[0].threads.run(_oldest_of, past) if past else None
        if not self._disk_trouble and self._recordings.excess:
            self._disk_trouble = (
                "recordings that are kept use up recordings_size: raise it, or delete some of them"
            )

    def _lack_of_room(self) -> str:
        try:
            disk = os.statvfs(str(self._place))
        except OSError:
            return ""
        free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        least = min(size * self._limits.free_share, self._limits.free_bytes)
        if free >= least:
            return ""
        return f"the disk has {free >> 20} MiB left: free space, or delete recordings"

    async def _follow(self, publishers: PublisherWatch) -> None:
        """Keep each publication as a span."""
        await self._loaded.wait()
        left = [one for one in self._state.spans if one.end_ms is None]
        while True:
            span = left[0] if left else None
            if span is None:
                if not publishers.has_publisher or publishers.live is None:
                    await publishers.wait_for_change(self._limits.publication_look_seconds)
                    continue
                began = int(publishers.live.began * 1000)
                span = KeptSpan(f"publication-{began}", began)
                await self._insist(partial(_with_span, span))
            # A publisher who comes back soon goes on with the publication, also over a restart.
            gone = None if publishers.has_publisher else time.time()
            while gone is None or time.time() - gone < self._limits.publication_pause_seconds:
                await publishers.wait_for_change(self._limits.publication_look_seconds)
                gone = None if publishers.has_publisher else gone or time.time()
                if gone is None and time.time() - span.start_ms / 1000 > LONGEST_SECONDS:
                    gone = time.time()
                    break
            await self._end(span, int((gone or time.time()) * 1000))
            left = left[1:]

    async def _end(self, span: KeptSpan, end_ms: int) -> None:
        ended = KeptSpan(span.id, span.start_ms, max(end_ms, span.start_ms + 1))
        # A span that was to be forgotten meanwhile stays so.
        await self._insist(partial(replace_span, span=ended))
        self._wake.set()

    async def _insist(self, change: Callable[[SpansState], SpansState]) -> None:
        """Change the state as soon as it can be stored."""
        while True:
            try:
                await self._change(change)
            except OSError as error:
                self._note(error.strerror or str(error))
                await asyncio.sleep(self._limits.publication_look_seconds)
            else:
                return


def _with_span(span: KeptSpan, state: SpansState) -> SpansState:
    return SpansState((*state.spans, span), state.done)


def replace_span(state: SpansState, span: KeptSpan) -> SpansState:
    """Return the state with a span in the place of the one of its name, if that is there."""
    return SpansState(tuple(span if one.id == span.id else one for one in state.spans), state.done)


def span_of(programme: Programme) -> KeptSpan:
    """Return the span of a programme that is kept by rule."""
    name = f"programme-{programme.id}-{programme.start_ms}"
    return KeptSpan(name, programme.start_ms, programme.end_ms, programme.title, programme.id, pinned=True)


def replaced(ending: EventEnd, date_ranges: Sequence[str]) -> EventEnd:
    """Return what playlists need, with the date ranges of a span."""
    return replace(ending, date_ranges=tuple(date_ranges))


def _date(segment: LiveSegment) -> Fraction:
    return segment.program_date_time


def _oldest_of(past: Sequence[PastSegments]) -> Fraction | None:
    """Return the date of the oldest segment that has left the playlists; None without any. Blocks."""
    return min((date for one in past if (date := one.oldest()) is not None), default=None)


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

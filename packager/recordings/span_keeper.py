"""Makes recordings of spans of a channel's time: of programmes, of publications, and of what is asked for.

A span may be longer than the DVR: its segments are collected as they come, and are a recording once all of it
has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import structlog

from packager.concurrency import background_task, wait_within
from packager.dvr.segment_sources import SegmentSource
from packager.past.programmes import Programme, Schedule
from packager.recordings.kept_recordings import AnyRecording
from packager.recordings.kept_spans import DiskSpans, KeptSpan, KeptSpans, SpansState
from packager.recordings.limits import RecordingsLimits
from packager.recordings.playlist_facts import PlaylistFacts
from packager.recordings.publications import PublicationSpans, PublisherWatch
from packager.recordings.span_collector import SpanCollector
from packager.safe_files import DataFolder
from packager.threads import SHARED_THREADS

if TYPE_CHECKING:
    from packager.recordings.disk_recordings import Recordings
    from packager.recordings.staged_recordings import StagedRecordings

log = structlog.get_logger()


class NothingKeptError(Exception):
    """Nothing of a span is kept."""


class NoRoomError(Exception):
    """There is no room for another recording that is never removed by itself."""


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
        spans: the spans that aren't recordings yet, without those of programmes.
        schedule: returns the programmes of the channel as they are now.
        may_record: returns whether recordings may be made now, which otherwise wait.
        follows: returns whether another process changes the spans, while this one only collects segments.
    """

    def __init__(
        self,
        channel: str,
        places: tuple[DataFolder, SegmentSource],
        recordings: Recordings | StagedRecordings,
        facts: Callable[[], PlaylistFacts],
        rule: KeepingRule,
        limits: RecordingsLimits,
    ) -> None:
        self._channel = channel
        self._place, dvr = places
        self._recordings = recordings
        self._facts = facts
        self._rule = rule
        self._limits = limits
        self.schedule: Callable[[], Schedule] = Schedule
        self.spans = KeptSpans(DiskSpans(channel, self._place))
        self.may_record: Callable[[], bool] = lambda: True
        self.follows: Callable[[], bool] = lambda: False
        self._collector = SpanCollector(self._place, dvr, limits)
        self._wake, self._rule_changed = asyncio.Event(), asyncio.Event()
        # Date from which on segments were collected that aren't the channel's, in seconds since the epoch.
        self._doubted_from: Fraction | None = None
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
        return self.spans.state.spans

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
        if is_over and not await self._is_kept(span):
            raise NothingKeptError
        if self._recordings.excess:
            raise NoRoomError("recordings_size is used up by recordings that are kept")
        if len(self.waiting) >= self._limits.waiting_spans:
            raise NoRoomError(f"{self._limits.waiting_spans} spans wait already")
        if span not in self.waiting:
            await self.spans.change(lambda state: state.added(span))
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
        """Wait until the spans of an earlier process are known."""
        try:
            async with asyncio.timeout(self._limits.keep_seconds):
                await self.spans.loaded.wait()
        except TimeoutError:
            raise OSError(errno.EAGAIN, "the channel doesn't run") from None

    async def forget(self, name: str) -> bool:
        """Keep a span no more that isn't a recording yet; return False where there is none of the name.

        Raises:
            OSError: the disk fails, or the channel doesn't run.
        """
        await self._wait_until_loaded()
        if all(one.id != name for one in self.waiting):
            return False
        await self.spans.change(lambda state: state.without(name))
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
                waiting = {one.id: one for one in self.waiting}
                for name, result in self._results.items():
                    if not result.done():
                        result.set_result(waiting.get(name))

    @contextlib.asynccontextmanager
    async def keeping_publications(self, publishers: PublisherWatch | None) -> AsyncIterator[None]:
        """Keep each publication while the context is open, if that is the rule.

        Args:
            publishers: as for ``running``, whose context is open.
        """
        if publishers is None:
            yield
            return
        async with background_task(self._keep_publications(publishers)):
            yield

    async def _keep_publications(self, publishers: PublisherWatch) -> None:
        """Keep each publication while that is the rule; what is on air when it begins to be, from then on."""
        since = 0.0
        while True:
            changed = self._rule_changed
            kept = PublicationSpans(publishers, self.spans, self._limits, self._note, self._wake.set, since)
            if self._rule.publications:
                async with background_task(kept.run()):
                    await changed.wait()
            else:
                await kept.end_all()
                await changed.wait()
            since = time.time()

    def change_rule(self, rule: KeepingRule) -> None:
        """Decide by another rule from now on."""
        if rule.publications != self._rule.publications:
            self._rule_changed.set()
            self._rule_changed = asyncio.Event()
        self._rule = rule
        self._wake.set()

    def collect_again(self, start: Fraction) -> None:
        """Forget what was collected from a date on, in seconds since the epoch, and collect it once more."""
        self._doubted_from = start if self._doubted_from is None else min(start, self._doubted_from)
        self._wake.set()

    async def _run(self) -> None:
        try:
            await self.spans.load()
            await self._collector.load()
        except OSError as error:
            self._note(error.strerror or str(error))
        self.spans.loaded.set()
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
            await wait_within(self._limits.span_look_seconds, self._wake.wait())

    def _note(self, fault: str) -> None:
        if fault and fault != self._fault:
            log.warning("spans can't be kept", channel=self._channel, reason=fault)
        self._fault = fault

    async def _step(self) -> None:
        """Collect new segments, and record the spans that have come."""
        if self.follows():
            await self.spans.load()
            self._refusal = None
        if (doubted := self._doubted_from) is not None:
            await self._collector.forget_from(doubted)
            self._doubted_from = None
        failure = await self._end_adding()
        refused = "" if failure is None or self._refusal is None else self._refusal[0]
        now = time.time()
        await self._look_at_disk()
        facts = self._facts()
        begun = self._begun(now)
        await self._collector.begin(begun, facts, follows=self.follows())
        for span in begun:
            try:
                if await self._collector.collect(span, facts.renditions):
                    self._wake.set()
                # Behind a refusal it is another one's turn.
                elif span.id != refused and self._may_record(span, now):
                    await self._record(span, facts)
            except OSError as error:  # the others go on
                failure = error
            await asyncio.sleep(0)  # many spans may have begun
        if self._refusal is not None and self._collector.collects(self._refusal[0]):
            failure = failure or self._refusal[1]
        if failure is not None:
            raise failure

    def _may_record(self, span: KeptSpan, now: float) -> bool:
        return self._adding is None and self._collector.is_over(span, now) and self.may_record()

    def _begun(self, now: float) -> list[KeptSpan]:
        """Return the spans that are to be kept of what has come."""
        return [one for one in self._spans(now) if one.start_ms <= now * 1000]

    def _spans(self, now: float) -> Iterator[KeptSpan]:
        """Yield the spans that are to be kept, those of programmes by rule, too."""
        yield from self.waiting
        if not self._rule.programmes:
            return
        done = set(self.spans.state.done)
        begin_ms = self._collector.earliest_ms(self._facts().renditions, now)
        if self.follows():
            # Nobody may ever record them.
            begin_ms = max(begin_ms, int((now - self._limits.followed_seconds) * 1000))
        spans = map(span_of, self.schedule().touching(begin_ms, int(now * 1000)))
        yield from islice((one for one in spans if one.id not in done), self._limits.programmes_at_once)

    async def _is_kept(self, span: KeptSpan) -> bool:
        """Return whether anything of a span is kept, or of one that overlaps with it."""
        start, end = span.bounds
        collected = (one.bounds for one in self._spans(time.time()) if self._collector.collects(one.id))
        if any(begin < end and behind > start for begin, behind in collected):
            return True
        return await self._collector.has_any(span, self._facts().renditions)

    async def _record(self, span: KeptSpan, facts: PlaylistFacts) -> None:
        made, ending = self._recordings.of_span(span.id), self._collector.ending
        if made is None and ending is not None and not (span.pinned and self._recordings.excess):
            ending = await facts.ending_of_span(ending, span.bounds)
            place, known = self._recordings.place, self._recordings.metadata
            metadata = await SHARED_THREADS.run(self._collector.pending.record, place, ending, span, known)
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
        await self.spans.change(lambda state: self._without(state, span))
        if (result := self._results.pop(span.id, None)) is not None and not result.done():
            result.set_result(made)
        left = [one.start_ms for one in self._begun(time.time())]
        await self._collector.forget_before(min(left, default=None))

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

    def _without(self, state: SpansState, span: KeptSpan) -> SpansState:
        """Return the state without a span that is done."""
        if not span.programme:
            return state.without(span.id)
        # Of programmes that are no longer in the schedule nothing needs to be known.
        listed = {span_of(one).id for one in self.schedule()} | {span.id}
        return SpansState(state.spans, tuple(one for one in (*state.done, span.id) if one in listed))

    async def _look_at_disk(self) -> None:
        """Find out whether the disk has room."""
        if time.monotonic() - self._looked_at_disk < self._limits.disk_look_seconds:
            return
        self._looked_at_disk = time.monotonic()
        self._disk_trouble = await SHARED_THREADS.run(self._lack_of_room)
        await self._collector.look_at_past(self._facts().renditions)
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


def span_of(programme: Programme) -> KeptSpan:
    """Return the span of a programme that is kept by rule."""
    name = f"programme-{programme.id}-{programme.start_ms}"
    return KeptSpan(name, programme.start_ms, programme.end_ms, programme.title, programme.id, pinned=True)

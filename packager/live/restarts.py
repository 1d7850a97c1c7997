"""Restarts of a live channel's source: one run after the other, each from the next segment on."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from fractions import Fraction

import structlog

from packager.ffmpeg.live import encoder_arguments
from packager.live.copy_run import CopyRun
from packager.live.encoder_run import EncoderRun
from packager.live.limits import DEFAULT_LIMITS
from packager.live.picture_output import PictureFeed
from packager.live.pulled_slate import SlateFallback
from packager.live.rendition_output import Feed, RunContext, RunStart
from packager.live.run import ChannelRun
from packager.live.sound_output import SoundFeed
from packager.live.start_plan import ChannelContext, Plan
from packager.retry_policy import FailureCount, RetryPolicy
from packager.segment.keyframe_segmenter import segmenter_factories
from packager.sources.demuxing import EventListener, ignore_event
from packager.sources.limits import SourceLimits
from packager.sources.publication import Publication
from packager.sources.published_source import NO_PICTURE, NO_SOUND, PublishedSource, keys_too_far_apart
from packager.sources.source import Source
from packager.threads import SHARED_THREADS
from packager.window.aligned_windows import AlignedWindows
from packager.window.cadence import Cadence
from packager.window.program_date_time import LONGEST_OVERLAP, Instant, WallClock

log = structlog.get_logger()

START_SECONDS = 0.2
"""How long an ffmpeg takes from its start to its first picture."""

NUMBER_LOOK_SECONDS = 0.25
"""Most seconds between two checks whether the next number may be used."""

MAX_SKIPPED_NUMBERS = 100
"""Most numbers for which gaps stand at once, where breaks left them behind the clock."""


class Backoff:
    """Counts the attempts to play one source.

    Args:
        channel: the channel's name, for the log.
        policy: says when the next one is made.
    """

    def __init__(self, channel: str, policy: RetryPolicy = DEFAULT_LIMITS.encoder_retry) -> None:
        self._channel = channel
        self._policy = policy
        self._count = FailureCount(policy)
        # In a row without a segment, however long each lasted.
        self._fruitless = 0

    def ended(
        self,
        reason: str,
        seconds: float,
        *,
        published: bool,
        is_steady: bool = False,
        is_orderly: bool = False,
    ) -> float:
        """Note and log the end of a run.

        Args:
            seconds: for how long it ran.
            published: whether the run published a segment.
            is_steady: whether the next run may begin soon, however short this one was: it costs nothing, or
                waits for another stream anyway.
            is_orderly: whether the stream ended, and not a failure of the run: nobody needs to look at it.

        Returns:
            The seconds until the next start.
        """
        if published and self._fruitless > self._policy.quiet_after:
            log.info("source was back", channel=self._channel, failures=self._fruitless)
        self._fruitless = 0 if published else self._fruitless + 1
        self._count.succeeded(self._policy.steady_seconds if is_steady else seconds)
        pause = self._count.failed()
        if is_orderly:
            log.info("source ended", channel=self._channel, reason="its stream ended")
        elif self._fruitless <= self._policy.quiet_after:
            log.warning("source ended", channel=self._channel, reason=reason, again_in=pause)
        return pause


class Restarts:
    """Runs the source of one channel, by an ffmpeg or without one, again and again.

    Args:
        context: the channel's options, limits and folders.
        on_part: called for each part with the seconds from its last frame's end to its being published.

    Attributes:
        restarts: how often a run ended and another one began, but for publishers who left in order.
        closed: whether none is begun any more.
        start: media time in seconds at which the newest begins.
        picture_seconds: for how long its source shows each picture, if that isn't encoded.
        on_event: called with each timed event of a published stream, and its date in seconds since the epoch.
    """

    def __init__(self, context: ChannelContext, on_part: Callable[[float], None]) -> None:
        self._context = context
        self._on_part = on_part
        self._limits = context.options.limits
        self.restarts = 0
        self.closed = False
        self.start, self.clock = Fraction(0), WallClock(self._limits.clock_bucket_seconds)
        self.picture_seconds = 0.0
        self.on_event: EventListener = ignore_event
        self._end_reason = ""
        self._labelled = "drawtext" in context.tools.filters
        self._run: ChannelRun | None = None
        # Whose key frames have decided how long the segments are; None where the source isn't published.
        self._first: Publication | None = None
        # The publication that the newest run plays, and the last one whose run has ended or stopped.
        self._played: Publication | None = None
        self._stopped: Publication | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the ffmpeg that runs."""
        return None if self._run is None else self._run.pid

    @property
    def flowing(self) -> bool:
        """Whether parts come."""
        return self._run is not None and self._run.flowing

    @property
    def trouble(self) -> str:
        """Why the last run ended; empty once the next one publishes parts."""
        return "" if self.flowing else self._end_reason

    @property
    def _has_errors(self) -> bool:
        """Whether the newest run was of an ffmpeg that reported errors."""
        return isinstance(self._run, EncoderRun) and bool(self._run.errors)

    @property
    def is_playing(self) -> bool:
        """Whether a run of a publication has begun that hasn't ended."""
        return self._played is not self._stopped

    def awaits(self, publication: Publication | None) -> bool:
        """Return whether a publication on air has given no part yet, and no run of it has ended."""
        return publication is not None and publication is not self._stopped and not self.flowing

    def suspend(self) -> None:
        """Suspend the run, as gaps stand for segments that come too late."""
        if self._run is None:
            return
        if self.flowing:
            self._stopped = self._played
        self._run.suspend()

    async def run(
        self,
        source: Source,
        plan: Plan,
        aligned: AlignedWindows,
        over: asyncio.Event,
        renewed: Callable[[Source], Awaitable[Source]],
    ) -> None:
        """Start one run after the other until the event is over, or the runs are closed.

        Args:
            source: the source that the first run plays.
            over: set once the event is over.
            renewed: looks at the source again before each start.
        """
        backoff = Backoff(self._context.options.name, self._limits.encoder_retry)
        self._first = _publication_of(source)
        while not self.closed and not over.is_set():
            if wait := self._context.numbers.wait(aligned.next_number, plan.cadence.segment_duration):
                # A number that is far ahead of the clock may be used as soon as it is reserved.
                await asyncio.sleep(min(wait, NUMBER_LOOK_SECONDS))
                continue
            source = await renewed(source)
            self._skip_to_the_clock(source, plan, aligned)
            started, before = time.monotonic(), aligned.next_number
            self._played = _publication_of(source)
            await self._reserve_kept(plan, aligned)
            reason = await self._run_once(source, plan, aligned, over)
            self._stopped = self._played
            if over.is_set():
                return
            # Gaps that stand for a missing source don't count as media that the run published.
            published, seconds = aligned.has_media_since(before), time.monotonic() - started
            supply_ended = self._run is not None and self._run.supply_ended
            # The supplier of the stream reports why it ended.
            self._end_reason = "" if supply_ended else reason
            # A copied stream costs nothing to start again.
            is_steady = supply_ended or (published and source.copied is not None)
            # Behind media that it has encoded, ffmpeg reports the place where the stream was cut off.
            is_orderly = supply_ended and (published or not self._has_errors)
            # Publishers come and go.
            if not (is_orderly and self._played is not None):
                self.restarts += 1
            pause = backoff.ended(
                reason, seconds, published=published, is_steady=is_steady, is_orderly=is_orderly
            )
            await asyncio.sleep(pause)

    def _skip_to_the_clock(self, source: Source, plan: Plan, aligned: AlignedWindows) -> None:
        """Publish gaps for the time of breaks, so that a number still corresponds to its segment's time.

        ISO/IEC 23009-1 §5.3.9.5.3: players of DASH count segments by a clock, and some of them from the
        epoch on, whenever a segment's period begins.
        """
        moment, duration, now = _begin_of(source), plan.cadence.segment_duration, Instant.now()
        if moment is None or not plan.cadence.regular or not aligned.ready:
            return
        behind = self._context.numbers.behind(aligned.next_number, duration, moment)
        if count := min(behind, MAX_SKIPPED_NUMBERS):
            aligned.skip(count, duration, Fraction(now.wall + min(moment - now.monotonic, 0.0)))

    async def _reserve_kept(self, plan: Plan, aligned: AlignedWindows) -> None:
        """Reserve numbers for what was kept of a stream while it was inspected: its segments come at once."""
        played, duration = self._played, plan.cadence.segment_duration
        if played is None or played is self._stopped or played.playable_since is None:
            return
        kept = math.ceil((time.monotonic() - played.playable_since) / duration)
        number = aligned.next_number + min(kept, MAX_SKIPPED_NUMBERS)
        with contextlib.suppress(OSError):  # `GapSchedule` logs it
            reserve = self._context.numbers.reserve
            await SHARED_THREADS.run(reserve, number, aligned.discontinuity_sequence)

    async def _run_once(
        self, source: Source, plan: Plan, aligned: AlignedWindows, over: asyncio.Event
    ) -> str:
        """Run the source once to its end; return the reason of the end."""
        number, duration, limits = aligned.next_number, plan.cadence.segment_duration, self._limits
        self.start = number * duration
        self.clock = WallClock(limits.clock_bucket_seconds)
        if (end := aligned.end_date) is not None:
            # RFC 8216bis §6.2.1: a publisher who comes back at once begins where the last one ended, or by
            # less than the last segment's duration before that.
            most_overlap = min(LONGEST_OVERLAP, aligned.least_newest_duration / 2)
            self.clock.begin(self.start, end, LONGEST_OVERLAP, most_overlap)
        start = RunStart(duration, self.start)
        oldest = self._context.numbers.usable_since(number, duration)
        # Then the next number is used before its time.
        has_lead = source.began is not None and oldest + duration <= source.began
        begins_early = not aligned.ready and (oldest == -math.inf or has_lead)
        feeds = self._feeds(source, plan, start, begins_early=begins_early)
        self.picture_seconds = float(_longest_picture(source)) / 2
        # Only the first run of a stream plays what was kept of it while it was inspected. Of one that ffmpeg
        # reads in real time, that would delay all that follows.
        is_first = self._played is not None and self._played is not self._stopped
        since = oldest if source.copied or (is_first and source.input.is_paced) else None
        self._observe_begin(source, since)
        self._date_events(source)
        if source.copied is not None:
            copying = self._run = CopyRun(source, feeds, start, aligned, over, limits)
            part_target = plan.cadence.part_target
            return await copying.play(source.copied, self.start, self.clock, oldest, part_target)
        encoding = self._run = EncoderRun(source, feeds, start, aligned, over, limits)
        return await self._encode(encoding, source, plan, aligned, since)

    def _observe_begin(self, source: Source, since: float | None) -> None:
        """Date a run by the arrival of the pictures that were kept: they are played faster than they came.

        Silence, and a picture, that is made here keeps the rest as far behind; further tracks begin later.
        """
        pump = source.pump
        if not isinstance(pump, PublishedSource) or not (source.has_video and source.has_audio):
            return
        soonest = pump.soonest_begin(since)
        if soonest is not None and not source.further and (source.copied or source.input.is_paced):
            self.clock.observe(float(self.start), Instant(soonest, 0.0))

    def _date_events(self, source: Source) -> None:
        """Have timed events of a published stream dated as its pictures are."""
        start, clock, on_event = self.start, self.clock, self.on_event
        if isinstance(source.pump, PublishedSource):
            source.pump.on_event = lambda event, seconds: on_event(
                event, clock.date(start + seconds, Instant.now())
            )

    async def _encode(
        self,
        run: EncoderRun,
        source: Source,
        plan: Plan,
        aligned: AlignedWindows,
        oldest: float | None,
    ) -> str:
        """Play a source by an ffmpeg."""
        context = self._context
        words = encoder_arguments(
            source.input,
            context.options.name,
            context.ladder,
            context.audio_ladder,
            plan.cadence,
            self.start,
            captions=self._labelled,
        )
        reason = await run.play([context.tools.ffmpeg, *words], oldest)
        if "font" in run.errors.lower() and not aligned.ready:
            self._labelled = False
        return reason

    def _feeds(self, source: Source, plan: Plan, start: RunStart, *, begins_early: bool) -> list[Feed]:
        """Make what brings one run into the windows."""
        made = [plan.writers[name] for name, one in plan.renditions.items() if one.language is None]

        def note_late_key(has_timely_key: bool) -> None:
            if not isinstance(source.pump, PublishedSource):
                return
            reason = keys_too_far_apart(plan.cadence.target_duration)
            if has_timely_key or source.pump.live is self._first:
                source.pump.warn(reason)
            else:
                source.pump.reject(reason)

        cuts = segmenter_factories(
            plan.cadence,
            self.start,
            len(made),
            self._limits.segment,
            begins_early=begins_early,
            on_late_key=note_late_key,
            longest_picture=_longest_picture(source),
        )
        context = self._context
        run = RunContext(
            self.clock,
            start,
            plan.cadence.segment_duration,
            context.numbers,
            context.timed_metadata,
            self._on_part,
            self._limits,
            _own_frame_rate(source, plan.cadence, self._limits.source),
            lambda: isinstance(source.pump, PublishedSource | SlateFallback) and source.pump.feeds_slate,
        )

        def note(fault: str) -> Callable[[bool], None]:
            def note_fault(is_missing: bool) -> None:
                if isinstance(source.pump, PublishedSource):
                    source.pump.note_fault(fault, is_over=not is_missing)

            return note_fault

        # A picture or sound that is made here never fails.
        has_both = source.has_video and source.has_audio and not source.made
        feeds = list[Feed]()
        for index, (writer, cut) in enumerate(zip(made, cuts, strict=True)):
            # Captions follow the first one alone.
            follow = None if index else context.captions.follow
            if index and not plan.renditions[writer.name].video:
                silence, on_silence = (
                    self._limits,
                    note(NO_SOUND) if source.has_audio else _note_nothing,
                )
                feeds.append(SoundFeed(run, writer, cut, follow, limits=silence, on_silence=on_silence))
            elif has_both and not source.further and plan.renditions[writer.name].video:
                grid, on_still = (self.start, plan.cadence), note(NO_PICTURE)
                feeds.append(PictureFeed(run, writer, cut, follow, grid=grid, on_still=on_still))
            else:
                feeds.append(Feed(run, writer, cut, follow))
        return feeds


def _note_nothing(_: bool) -> None:
    """Note no fault: nobody said that there would be sound."""


def _begin_of(source: Source) -> float | None:
    """Return when a run's first picture was made, by the monotonic clock; None where that isn't known.

    The kept group of pictures of a stream, from before the run, is played first.
    """
    if source.pump is None:
        return time.monotonic() + START_SECONDS
    if source.copied is not None or not isinstance(source.pump, PublishedSource) or source.pump.live is None:
        return None
    return source.pump.live.playable_since


def _own_frame_rate(source: Source, times: Cadence, limits: SourceLimits) -> Fraction | None:
    """Return how many pictures a second come at most; None where that is the rate of a channel's cadence.

    Encoded pictures have the cadence's. A picture that stands still for seconds is repeated.
    """
    if source.seen is None:
        return None
    if source.seen.picture_frame >= limits.slow_seconds:
        seconds = limits.still_seconds if source.copied is None else limits.copied_still_seconds
        return 1 / Fraction(seconds).limit_denominator(1000)
    return None if source.frame_rate == times.frame_rate else source.frame_rate


def _longest_picture(source: Source) -> Fraction:
    """Return the seconds for which a picture of a source may be shown; 0 where it is encoded."""
    if source.seen is None:
        return Fraction(0)
    usual = max(source.seen.picture_frame, 1 / source.frame_rate)
    return 2 * usual


def _publication_of(source: Source) -> Publication | None:
    return source.pump.live if isinstance(source.pump, PublishedSource) else None

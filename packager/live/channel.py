"""A live channel: its windows, its source, and the restarts of its encoder from event to event."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import structlog

from media.hls.date_range import DateRange
from media.subtitles.webvtt import Cue
from packager.concurrency import background_task, running_tasks
from packager.dvr.disk_archive import DiskArchive
from packager.dvr.segment_archive import SegmentArchive
from packager.dvr.segment_removal import DvrBounds
from packager.ffmpeg.ladder import AUDIO, Rung, audio_rungs, rungs
from packager.forwarding.forwarder import Forwarder
from packager.forwarding.forwarding import Forwarding
from packager.live.captions import Captions
from packager.live.event_lifecycle import DVR, LiveEvent, read_date_ranges
from packager.live.gaps import GapSchedule
from packager.live.options import NO_HOOKS, ChannelHooks, ChannelOptions
from packager.live.published_slate import Slate
from packager.live.restarts import Restarts
from packager.live.source_finder import SourceFinder, SourceOptions
from packager.live.start_plan import ChannelContext, Plan, Planner
from packager.live.stream_events import StreamEvents
from packager.live.timed_metadata import TimedMetadata
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.programmes.announcer import ProgrammeAnnouncer
from packager.programmes.store import ProgrammeStore
from packager.publish.channel_commands import RecordingState
from packager.publish.date_ranges import DateRangeError
from packager.publish.hls import Presentation
from packager.publish.live_stream import LiveStream
from packager.recordings.disk_recordings import Recordings
from packager.recordings.metadata import EventEnd
from packager.recordings.playlist_facts import PlaylistFacts, ending_of
from packager.recordings.span_keeper import KeepingRule, SpanKeeper
from packager.safe_files import DataFolder
from packager.segment.keyframe_cadence import can_be_cut
from packager.sources.published_source import PUBLISH, PublishedSource, keys_too_far_apart
from packager.sources.pullers.udp import PacketLosses
from packager.sources.pump import Supply
from packager.sources.source import Source
from packager.step_budget import StepBudget
from packager.threads import SHARED_THREADS
from packager.window.aligned_windows import AlignedWindows
from packager.window.cadence import Cadence
from packager.window.log import DateRangeEntry, Entry
from packager.window.program_date_time import Timing
from packager.window.rendition import Rendition
from packager.window.rendition_log_writer import RenditionWriter
from packager.window.sequence_numbers import SequenceNumbers

log = structlog.get_logger()


class Channel:
    """A live channel: ``run`` keeps it publishing, and requests are answered from ``stream``.

    Args:
        tools: the ffmpeg that the channel uses.
        hooks: called when parts and viewers come.
        pump: delivers the source's stream; None: the options name the source.
        followers: called with each entry of the channel's log.
        clock: returns monotonic seconds for the windows.

    Attributes:
        stream: the windows and playlists that requests are answered from.
        timed_metadata: events on their way into the media.
        captions: cues on their way into their renditions.
        published: the streams of its publishers; None for a channel with another source.
        forwarding: pushes the published stream on to other servers; None for a channel with another source.
        archive: its DVR on disk or in S3; None where it has none.
        live_event: the state of its event, and its recordings.
        programmes: named spans of its time.
        span_keeper: makes recordings of spans; None where nothing is recorded.
    """

    def __init__(
        self,
        options: ChannelOptions,
        tools: Tools,
        hooks: ChannelHooks = NO_HOOKS,
        *,
        pump: Supply | None = None,
        followers: Sequence[Callable[[Entry], None]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = options.limits
        self.options = options
        self.name = options.name
        self._tools = tools
        self._failure = ""
        self._followers = followers
        self._publishers = hooks.publishers
        ladder = () if options.bitrates else rungs(options.ladder)
        audio_ladder = audio_rungs(options.bitrates) or (AUDIO,)
        self._encoders = ("libx264", "aac") if ladder else ("aac",)
        self._take_source(pump, ladder)
        self.timed_metadata = TimedMetadata(
            [rung.name for rung in ladder or audio_ladder], round(time.time() * 1000), limits
        )
        self.captions = Captions(options.captions, limits)
        self._data = None if options.data is None else DataFolder.at(options.data)
        self._numbers = SequenceNumbers(self._data)
        context = ChannelContext(
            options, tools, ladder, audio_ladder, self._numbers, self.timed_metadata, self.captions
        )
        self._runs = Restarts(context, hooks.on_part)
        self._runs.on_event = StreamEvents(self.name, self.add_date_range, self.timed_metadata).push
        self._gap_schedule = GapSchedule(
            options.name, self._numbers, self._runs.suspend, lambda: self._runs.picture_seconds, limits
        )
        self.archive = self._new_archive()
        self._date_ranges = None if self.archive is None else self.archive.date_range_log()
        retention = None if self.archive is None else options.retention
        # The recording of an event is its DVR in the data folder.
        seals = isinstance(self.archive, DiskArchive)
        self.live_event = LiveEvent(options.name, self._data, retention, limits, seals=seals)
        self.programmes = ProgrammeStore(options.name, self._data)
        self.span_keeper = self._new_span_keeper()
        if self.published is not None:
            self.published.event, self.published.after_end = self.live_event, options.after_end
        self.stream = LiveStream(
            self.name,
            ChannelCommands(self, hooks.on_viewer, hooks.is_postponed),
            limits.publish,
            restores=self.archive is not None,
        )
        self._planner = Planner(context, clock)
        self._adopt(self._planner.plan_empty(self._planner.cadence(Source())))

    def _take_source(self, pump: Supply | None, ladder: Sequence[Rung]) -> None:
        """Make what brings the channel its source, and what sends that on to other servers."""
        options, limits, tools = self.options, self.options.limits, self._tools
        keep = any(rung.copied for rung in ladder)
        self.published = None
        if options.source == PUBLISH:
            # Pictures that come while a stream is inspected are played, too.
            seconds, takeover = (
                limits.source.seen_seconds + limits.source.seen_grace_seconds,
                options.takeover,
            )
            self.published = PublishedSource(
                options.name, takeover, limits.source, seconds, has_further_video_tracks=keep
            )
        published = self.published
        self.forwarding = (
            None
            if published is None
            else Forwarding(lambda url: Forwarder(published, url, tools, limits.forward), options.forward)
        )
        self._finder = SourceFinder(
            SourceOptions(options.source, options.name, ladder if keep else (), options.slate),
            tools,
            pump or self.published,
            limits.source,
        )

    def _new_archive(self) -> SegmentArchive | None:
        options = self.options
        if options.dvr_window and options.dvr_bucket is not None:
            # Here and not above: it needs an extra, which most servers don't have.
            from packager.dvr.bucket.bucket_archive import BucketArchive

            bounds = DvrBounds(options.dvr_bytes, options.past_seconds, options.dvr_window)
            return BucketArchive(
                options.dvr_bucket, options.name, bounds, options.limits.dvr, area=options.dvr_area
            )
        if self._data is None or not options.dvr_window:
            return None
        past, listed = options.past_seconds, 0.0 if options.event else options.dvr_window
        place, nbytes, limits = self._data / DVR, options.dvr_bytes, options.limits.dvr
        return DiskArchive(place, options.name, nbytes, limits, past, listed)

    def _new_span_keeper(self) -> SpanKeeper | None:
        options, recordings = self.options, self.live_event.recordings
        if recordings is None or self._data is None or self.archive is None:
            return None
        limits, rule = options.limits.recordings, KeepingRule.of(options.record)
        places = self._data, self.archive.segment_source()
        stored_ranges = None if self._date_ranges is None else self._date_ranges.within
        keeper = SpanKeeper(
            options.name,
            places,
            recordings,
            lambda: PlaylistFacts.of(self.stream, stored_ranges),
            rule,
            limits,
        )
        keeper.schedule = lambda: self.programmes.schedule
        return keeper

    def _keeping_spans(self) -> contextlib.AbstractAsyncContextManager[None]:
        keeper = self.span_keeper
        if keeper is None:
            return contextlib.nullcontext()
        return keeper.running(self.published or self._publishers())

    def _adopt(self, plan: Plan) -> None:
        """Replace the windows; requests that wait at the former ones are released."""
        self._plan = plan
        self._aligned = AlignedWindows(list(plan.writers.values()))
        self.captions.adopt(
            {
                one.language: plan.writers[name]
                for name, one in plan.renditions.items()
                if one.language is not None
            }
        )
        self.stream.adopt(plan.folded)
        plan.log.follow(*self._followers)

    def change(self, options: ChannelOptions) -> None:
        """Apply options that change while it is on air: of publishers, ``record`` and ``forward``."""
        self.options = replace(
            self.options,
            record=options.record,
            forward=options.forward,
            takeover=options.takeover,
            after_end=options.after_end,
        )
        if self.published is not None:
            self.published.takeover, self.published.after_end = options.takeover, options.after_end
        if self.forwarding is not None:
            self.forwarding.change(options.forward)
        if self.span_keeper is not None:
            self.span_keeper.change_rule(KeepingRule.of(options.record))

    def add_follower(self, follower: Callable[[Entry], None]) -> None:
        """Hand all entries of its log to come to one more function, those of later windows too."""
        self._followers = (*self._followers, follower)
        self._plan.log.add_follower(follower)

    @property
    def writers(self) -> Mapping[str, RenditionWriter]:
        """The writers that append to the log, by rendition."""
        return self._plan.writers

    def add_date_range(self, tag: DateRange) -> None:
        """Append a new date range to the channel's log, or the end of a planned one.

        Raises:
            ImplausibleDateError: it can't be written, or never is over.
            DateRangeError: its ID was used for another one, or there are too many.
        """
        now = Fraction(self.stream.wall_clock())
        self.continue_date_range(self.presentation.date_ranges.arrived(tag, now))

    def continue_date_range(self, tag: DateRange) -> None:
        """Append a date range that another log has, as it is; raises as ``add_date_range``."""
        self._plan.log.append(DateRangeEntry(tag))
        if self._date_ranges is not None:
            self._date_ranges.note(tag)

    def _noting_date_ranges(self) -> contextlib.AbstractAsyncContextManager[None]:
        if self._date_ranges is None:
            return contextlib.nullcontext()
        self._date_ranges.take_over(Fraction(self.stream.wall_clock()))
        return self._date_ranges.running()

    async def _list_former_ranges(self) -> None:
        """List the date ranges of restored segments as before, so that spans of them say the same."""
        windows = [one.window for one in self.renditions.values()]
        dates = [window.listed[0].program_date_time for window in windows if window.listed]
        if self._date_ranges is None or not dates:
            return
        tags = await self._date_ranges.tags_within(min(dates), Fraction(self.stream.wall_clock()))
        budget = StepBudget()
        for tag in self.presentation.date_ranges.new_of(tags):
            self.stream.commands.continue_date_ranges((tag,))
            await budget.spend()

    @property
    def forwarders(self) -> tuple[Forwarder, ...]:
        """Those who push the published stream on to other servers."""
        return () if self.forwarding is None else self.forwarding.forwarders

    @property
    def records(self) -> bool:
        """Whether spans of it may be kept."""
        return self.span_keeper is not None

    @property
    def recordings(self) -> Recordings | None:
        """The recordings of its events and spans; None where nothing is recorded."""
        return self.live_event.recordings

    @property
    def cadence(self) -> Cadence:
        """The times that its renditions share."""
        return self.stream.cadence

    @property
    def renditions(self) -> Mapping[str, Rendition]:
        """The published renditions by name: video from large to small, then sound from the best on."""
        return self.stream.renditions

    @property
    def presentation(self) -> Presentation:
        """Its playlists."""
        return self.stream.presentation

    @property
    def state(self) -> str:
        """``starting`` until every rendition has a segment; then ``live``.

        ``starting`` is also the time from a publisher's coming on air to its first part. ``down`` when
        nothing comes, from the start on if that is known, also while a slate is shown in the place of a
        pulled source; see ``trouble``. ``ended`` once its event is over, ``idle`` while nobody publishes.
        """
        if self.live_event.over.is_set():
            return "ended"
        if self._failure:
            return "down"
        if self.published is not None and self.published.live is None:
            return "idle"
        if self.published is not None and self._runs.awaits(self.published.live):
            return "down" if self._finder.trouble else "starting"
        if not self.ready:
            return "down" if self._cause else "starting"
        return "live" if self._runs.flowing and not self._finder.shows_slate else "down"

    def note_earlier_use(self) -> None:
        """Note that a server that was here before, or another node, may have used the numbers until now.

        A channel whose source is there before it begins may use the numbers since then.
        """
        self._numbers.note_use()

    @property
    def trouble(self) -> str:
        """Why the channel is ``down``, in one line without the source's URL; empty in any other state."""
        return (self._cause or "nothing comes from its source") if self.state == "down" else ""

    @property
    def _cause(self) -> str:
        return self._failure or self._finder.trouble or self._runs.trouble

    @property
    def pid(self) -> int | None:
        """Process id of its ffmpeg while it runs."""
        return self._runs.pid

    @property
    def restarts(self) -> int:
        """How often ffmpeg ended and was started again."""
        return self._runs.restarts

    @property
    def ready(self) -> bool:
        """Whether every rendition has a finished segment, so that playlists can be played."""
        return self.stream.ready

    @property
    def timing(self) -> Timing:
        """When what the ffmpeg that was started last is given is heard."""
        slack = self._numbers.slack(self._aligned.next_number, self.cadence.segment_duration)
        end, now = self._aligned.end_date, time.time()
        if end is None or end > now:
            return Timing(self._runs.start, self._runs.clock, slack)
        # RFC 8216bis §6.2.1: no segment's date lies in another one.
        return Timing(self._runs.start, self._runs.clock, min(slack, now - float(end)), end)

    @property
    def part_target(self) -> Fraction:
        """PART-TARGET in seconds."""
        return self.cadence.part_target

    @property
    def target_duration(self) -> int:
        """EXT-X-TARGETDURATION in seconds."""
        return self.cadence.target_duration

    @property
    def source(self) -> Source | None:
        """The properties of the channel's source; None before its inspection."""
        return self._finder.found

    @property
    def losses(self) -> PacketLosses:
        """Counts of packets that were lost of a source in UDP."""
        return self._finder.losses

    async def run(self) -> None:
        """Run the channel, event after event, until cancelled or closed.

        Raises:
            ToolsError: this ffmpeg or this source can't make the channel.
        """
        self._failure = ""
        try:
            self._tools.require(f"live channel {self.name!r}", encoders=self._encoders)
            # A server that was here before may have served until now; see `note_earlier_use`.
            if not self.options.lead_seconds:
                self._numbers.note_use()
            await self._gap_schedule.load_numbers()
            await self.programmes.load()
            announcer = ProgrammeAnnouncer(self.name, lambda: self.programmes.schedule, self.stream)
            async with (
                self.live_event.running(),
                self._keeping_spans(),
                self._noting_date_ranges(),
                background_task(announcer.run()),
            ):
                if (ending := await self.live_event.load_ending()) is not None:
                    await self._serve_ended_event(ending)
                    await self._wait_for_next_event()
                while not self._runs.closed:
                    await self._broadcast()
                    if self.live_event.over.is_set():
                        if self.published is not None:
                            self.published.end_event()
                        await self.live_event.record(self._ending())
                        await self._wait_for_next_event()
        except asyncio.CancelledError:
            self.close()
            raise
        except ToolsError as error:
            self._failure = str(error)
            raise

    async def _broadcast(self) -> None:
        """Broadcast until the event is over, or the channel is closed."""
        async with self._finder.running(), self._showing_slate(), contextlib.AsyncExitStack() as stack:
            if self.forwarding is not None:
                await stack.enter_async_context(background_task(self.forwarding.run()))
            await self._transmit()

    def _showing_slate(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Show the slate while the context is open and nobody publishes, if there is one."""
        options, published = self.options, self.published
        if published is None or not options.slate:
            return contextlib.nullcontext()
        return background_task(Slate(options.slate, published, self._tools, options.limits.source).run())

    async def _transmit(self) -> None:
        source = await self._find()
        async with self._archiving():
            if source is not None:
                await self._play(source)
            if self.live_event.over.is_set():
                # If this event published nothing, the windows of the last one may still be served.
                if not self._aligned.ended:
                    self._aligned.end()
                if self.archive is not None:
                    await self.archive.settle()

    async def _play(self, source: Source) -> None:
        """Play the source into the windows until the event is over, or the channel is closed."""
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(one)
                for one in (
                    self._runs.run(source, self._plan, self._aligned, self.live_event.over, self._find_again),
                    self.live_event.over.wait(),
                    self._gap_schedule.run(self._aligned, self.cadence),
                )
            ]
            await asyncio.wait(work[:2], return_when=asyncio.FIRST_COMPLETED)
            if self._is_finishing:
                await asyncio.wait(work[:1], timeout=self.options.limits.last_seconds)
            for task in work:
                task.cancel()
            await asyncio.wait(work)

    @property
    def _is_finishing(self) -> bool:
        """Whether the end of a published stream is still to come, though its publisher has gone."""
        published = self.published
        return published is not None and self._runs.is_playing and not published.hurries

    async def _find(self) -> Source | None:
        """Find the source, and begin windows whose durations suit it.

        Segments that earlier processes left on disk are served meanwhile, and gaps for the time since.

        Returns:
            None where the event is over before the source is there.
        """
        used = self._aligned.used
        past = None if self.archive is None else await self._planner.plan_from_disk(self.archive, used)
        if past is None:
            source, noted = await self._find_unless_over(), None
        else:
            self._adopt(past)
            await self._list_former_ranges()
            source, noted = await self._find_meanwhile(), past.cadence
        if source is None:
            return None
        times, used = self._planner.cadence(source, noted), self._aligned.used
        self._log_cadence(times)
        if self.archive is not None:
            if times != noted:
                self._adopt(await self._planner.plan_restored(times, self.archive, used))
                await self._list_former_ranges()
        elif self._aligned.ended or times != self.cadence or (used < 0 and self._has_waited):
            self._adopt(self._planner.plan_empty(times, used, source))
        return replace(source, once=self._is_once(source))

    async def _find_again(self, source: Source) -> Source:
        """Examine the source again, and reject publishers whose video can't be cut as the channel's is."""
        found = await self._finder.find_again(source)
        while found is not source and self.published is not None:
            times = self._planner.cadence(found, self.cadence)
            if found.seen is None or times.target_duration <= self.target_duration:
                break
            if can_be_cut(found.seen, self.cadence):
                # Of irregular key frames, a channel of its own has longer segments than they need.
                break
            # RFC 8216bis §4.4.3.1: the target duration doesn't change.
            self.published.reject(keys_too_far_apart(self.target_duration))
            found = await self._finder.find()
        return found

    @property
    def _has_waited(self) -> bool:
        """Whether the next number may be used already: its time has passed, or numbers are reserved."""
        beyond = self._numbers.first_number(self.cadence.segment_duration) > self._aligned.next_number + 1
        return beyond or self._numbers.reserved >= 0

    async def _find_meanwhile(self) -> Source | None:
        """Find the source while the windows go on with gaps; None where the event is over before."""
        async with self._archiving(), background_task(self._gap_schedule.run(self._aligned, self.cadence)):
            return await self._find_unless_over()

    async def _find_unless_over(self) -> Source | None:
        """Wait for the source; return None if the event is over before.

        Raises:
            ToolsError: the source can never be played.
        """
        async with running_tasks(self._finder.find(), self._wait_until_over()) as tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task.result() for task in tasks if task.done())

    async def _wait_until_over(self) -> None:
        await self.live_event.over.wait()

    def _archiving(self) -> contextlib.AbstractAsyncContextManager[None]:
        return self.archive.running() if self.archive else contextlib.nullcontext()

    def _log_cadence(self, times: Cadence) -> None:
        log.info(
            "a channel's cadence is known",
            channel=self.name,
            frame_rate=f"{float(times.frame_rate):.5g}",
            segment=f"{float(times.segment_duration):.5g}",
            part_target=f"{float(times.part_target):.4g}",
            target_duration=times.target_duration,
        )

    def _is_once(self, source: Source) -> bool:
        """Return whether a source is played once: a file that is an event, of known length."""
        return self.options.event and source.path is not None and source.duration is not None

    def _ending(self) -> EventEnd:
        """Return the metadata for a recording of the event that is over."""
        return ending_of(self.stream)

    async def _serve_ended_event(self, ending: EventEnd) -> None:
        """Serve an event that had ended before this process began, as far as its segments are stored."""
        if self.archive is not None:
            tags = await SHARED_THREADS.run(read_date_ranges, ending)
            self._adopt(await self._planner.plan_ended_event(ending, self.archive))
            for tag in tags:
                # One that isn't possible beside the others wasn't listed.
                with contextlib.suppress(DateRangeError):
                    self.continue_date_range(tag)
        self._aligned.end()

    async def _wait_for_next_event(self) -> None:
        """Wait until another event is to begin; it has a DVR of its own."""
        async with background_task(self._withdraw_event()):
            await self.live_event.wait_for_next()
        if self.archive is not None:
            self.archive = self.archive.next_event(self._aligned.next_number)

    async def _withdraw_event(self) -> None:
        """Serve the event that is over for as long as is configured, and then nothing but its recordings."""
        if not self.options.vod_seconds:
            return
        newest = [one.window.newest for one in self.renditions.values()]
        ends = [float(one.program_date_time + one.duration) for one in newest if one is not None]
        await asyncio.sleep(max(max(ends, default=0.0) + self.options.vod_seconds - time.time(), 0.0))
        log.info("an event that is over is served only as its recording now", channel=self.name)
        self._adopt(self._planner.plan_empty(self.cadence, self._aligned.used))
        self._aligned.end()

    def follow(self, former: Channel) -> None:
        """Continue the discontinuity sequence of a channel that this one replaces (RFC 8216bis §6.2.2).

        Args:
            former: with the same renditions; it ran before this one was made, so its numbers are lower.
        """
        for name, writer in self.writers.items():
            past = former.renditions[name].window
            if past.listed:
                sequence = past.newest_discontinuity_sequence + 1
                writer.restore((), writer.window.next_number, sequence)
                # Its start makes other windows, where that is long after this.
                self._numbers.discontinuity_sequence = max(self._numbers.discontinuity_sequence, sequence)

    def close(self) -> None:
        """Release all waiters."""
        self._runs.closed = True
        if self.published is not None:
            self.published.close()
        self.captions.close()
        self.stream.close()
        self.live_event.close()


class ChannelCommands:
    """Carries out the commands of requests at a channel of this process; see ``Commands`` of ``publish``.

    Args:
        on_viewer: called at each request for a playlist.
        is_postponed: returns whether the channel doesn't begin now although it has viewers.
    """

    def __init__(
        self, channel: Channel, on_viewer: Callable[[], None], is_postponed: Callable[[], bool]
    ) -> None:
        self._channel = channel
        self.note_viewer = on_viewer
        self.is_postponed = is_postponed

    async def end_event(self) -> RecordingState:
        """End the event, and wait for its recording, but not for longer than anybody waits."""
        return await self._channel.live_event.end()

    def begin_event(self) -> bool:
        """Begin another event once the last one is over; return False while the last one isn't to end."""
        return self._channel.live_event.begin()

    def publish_metadata(self, tag: DateRange, id3: bytes) -> None:
        """Publish an event in playlists and media; the end of a planned one only in playlists."""
        channel, timed_metadata = self._channel, self._channel.timed_metadata
        if channel.presentation.date_ranges.start_of(tag.id) is not None:
            channel.add_date_range(tag)
            return
        timed_metadata.check(len(id3))
        channel.add_date_range(tag)
        duration = tag.planned_duration if tag.duration is None else tag.duration
        timed_metadata.add(tag.start_date, duration or None, id3)

    def continue_date_ranges(self, tags: Sequence[DateRange]) -> None:
        """List the date ranges of another packager, as far as there is room."""
        for tag in tags:
            with contextlib.suppress(DateRangeError):
                self._channel.continue_date_range(tag)

    def feeding_captions(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Count as a source of captions while the context is open."""
        return self._channel.captions.feeding()

    def add_captions(self, language: str, cues: Sequence[Cue], zero: Fraction) -> int:
        """Add cues, all or none; return how many are too late to be shown."""
        return self._channel.captions.add(language, cues, zero)

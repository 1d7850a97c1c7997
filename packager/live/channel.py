"""A live channel: one ffmpeg whose pipes become renditions, and that is started again when it dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import structlog

from media.errors import MediaError
from packager.dvr.archive import Archive
from packager.ffmpeg import Process, last_error
from packager.live import encoder
from packager.live.audience import Audience
from packager.live.captions import MAX_CAPTION_BYTES, Captions
from packager.live.cutting import cutters
from packager.live.feed import Feed, Resumption
from packager.live.finale import DVR, Finale
from packager.live.inband import Inband
from packager.live.ladder import (
    AUDIO,
    AUDIO_FRAME_RATE,
    AudioRung,
    Cadence,
    Rung,
    audio_rungs,
    cadence,
    rungs,
)
from packager.live.lineup import Lineup
from packager.live.numbers import Numbers
from packager.live.presentation import Presentation, Rendition
from packager.live.punctuality import Punctuality
from packager.live.rendition import CAPTIONS_PREFIX
from packager.live.segmenter import CadenceError
from packager.live.waiters import MAX_WAITERS
from packager.live.wallclock import Instant, WallClock
from packager.live.window import Window
from packager.radio.blocksupply import Timing
from packager.recordings.collection import FOR_EVER, Retention
from packager.recordings.note import Ending
from packager.sources import source as sources
from packager.sources.finder import Finder
from packager.sources.keyframes import kept_cadence
from packager.sources.pump import Supply
from packager.tools import Tools, ToolsError

log = structlog.get_logger()

START_SECONDS = 20.0
"""How long a started ffmpeg may take to its first output."""

STALL_SECONDS = 4.0
"""How long any output of a running ffmpeg may pause before it counts as stalled."""

FIRST_BACKOFF = 0.2
LONGEST_BACKOFF = 5.0
"""Seconds from an ffmpeg's end to the next one's start: doubled each time, up to the longest."""

STEADY_SECONDS = 10.0
"""An ffmpeg that ran so long starts the backoff anew."""

QUIET_AFTER = 3
"""Attempts in a row without a segment that are told; those behind them aren't news."""

LONGEST_NAP = 0.25
"""Seconds between two looks at a channel's punctuality, at most."""

VIEWER_TARGET_DURATIONS = 3
"""A viewer counts for so many target durations after a playlist."""


class SourceEndedError(Exception):
    """ffmpeg closed a pipe, or gives nothing any more; the text says which."""


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What a channel is.

    Attributes:
        name: as in its addresses.
        source: ``testsrc``, the path of a file (played in a loop, but for an event), or a URL that is pulled.
        ladder: names of :data:`packager.live.ladder.RUNGS`.
        bitrates: of a channel that has only sound, and no ladder then: bits per second of its renditions.
        part_duration: wanted seconds of a part.
        segment_duration: wanted seconds of a segment.
        dvr_window: seconds that stay in the playlists beyond the live window.
        max_waiters: requests that may wait for one rendition at once.
        data: the channel's folder on disk, where its numbers and its DVR outlive the process; None for none.
        dvr_bytes: most bytes of the DVR on disk; 0: as many as its time asks for.
        event: whether it ends with its file, which is played once.
        retention: for how long its events' recordings stay.
        captions: languages, as BCP 47 tags.
        caption_bytes: most bytes of one language's captions that aren't over.
    """

    name: str
    source: str = sources.TEST_SOURCE
    ladder: tuple[str, ...] = ("720p", "360p")
    bitrates: tuple[int, ...] = ()
    part_duration: float = 0.333
    segment_duration: float = 2.0
    dvr_window: float = 0.0
    max_waiters: int = MAX_WAITERS
    data: Path | None = None
    dvr_bytes: int = 0
    event: bool = False
    retention: Retention = FOR_EVER
    captions: tuple[str, ...] = ()
    caption_bytes: int = MAX_CAPTION_BYTES


class Channel:
    """One channel: ``run`` keeps it going; its renditions' windows and its presentation are there to read.

    Args:
        options: what it is.
        tools: the ffmpeg that it uses.
        pump: brings what is played; None: it is what the options say.
        on_part: called for each part with its delay in seconds: from its last frame's end to its being there.
        on_viewer: called whenever somebody asks for a playlist.

    Attributes:
        name: the channel's.
        cadence: the times that its renditions share.
        renditions: by name, video from large to small, then the sound; sound from the best on.
        presentation: its playlists.
        inband: events on their way into the media.
        captions: cues on their way into their renditions.
        restarts: how often ffmpeg ended and was started again.
        archive: its DVR on disk; None where it has none.
        finale: whether its event is over, and its recordings.
    """

    def __init__(
        self,
        options: ChannelOptions,
        tools: Tools,
        *,
        pump: Supply | None = None,
        on_part: Callable[[float], None] = lambda _: None,
        on_viewer: Callable[[], None] = lambda: None,
    ) -> None:
        self.options = options
        self.name = options.name
        self.restarts = 0
        self.pid: int | None = None
        self._tools = tools
        self._on_part = on_part
        self._on_viewer = on_viewer
        self._clock, self._start = WallClock(), Fraction(0)
        self._ladder = () if options.bitrates else rungs(options.ladder)
        keep = any(rung.copied for rung in self._ladder)
        self._finder = Finder(options.source, tools, options.name, pump, keep=keep)
        self._sounds = audio_rungs(options.bitrates) or (AUDIO,)
        self.inband = Inband([rung.name for rung in self._ladder or self._sounds], round(time.time() * 1000))
        self.captions = Captions(options.captions, options.caption_bytes)
        self._flowing = False
        self._closed = False
        self._labelled = "drawtext" in tools.filters
        self._numbers = Numbers(None if options.data is None else options.data / "number")
        self._feeds: list[Feed] = []
        self._disk_failed = False
        self._resumption = Resumption()
        self.archive = self._new_archive()
        self.finale = Finale(options.name, options.data, options.retention if self.archive else None)
        self.cadence: Cadence
        self.renditions: dict[str, Rendition]
        self.presentation: Presentation
        self._adopt(*self._plan(self._cadence_for(sources.Source())))

    def _cadence_for(self, source: sources.Source) -> Cadence:
        wanted = self.options.segment_duration, self.options.part_duration
        if self.options.bitrates:
            return cadence(AUDIO_FRAME_RATE, *wanted)
        if source.seen is not None:
            return kept_cadence(source.seen, source.frame_rate, *wanted)
        return cadence(source.frame_rate, *wanted)

    def _new_archive(self) -> Archive | None:
        options = self.options
        if options.data is None or not options.dvr_window:
            return None
        return Archive(options.data / DVR, options.name, options.dvr_bytes)

    def _plan(
        self,
        times: Cadence,
        used: int = -1,
        archive: Archive | None = None,
        *,
        goes_on: bool = True,
    ) -> tuple[Cadence, dict[str, Rendition], Presentation]:
        """Make windows, empty or of an archive; then it takes seconds for a window of a day.

        Args:
            times: of the channel.
            used: number up to which the archive has used them.
            archive: what the windows take up and go on with.
            goes_on: whether more is to come, behind gaps for the time in between.

        Returns:
            What ``_adopt`` takes.
        """
        number = max(self._numbers.first(times.segment_duration) if goes_on else 0, used + 1)
        lineup: list[Rung | AudioRung] = [*self._ladder, *self._sounds]
        renditions = {
            rung.name: Rendition(
                rung.name,
                Window(
                    times.target_duration,
                    number,
                    self.options.dvr_window,
                    self.options.max_waiters,
                    None if archive is None else archive.shelf(rung.name),
                ),
                video=rung in self._ladder,
                bitrate=rung.bitrate,
            )
            for rung in lineup
        }
        for language, track in self.captions.tracks.items():
            name = CAPTIONS_PREFIX + language
            window = Window(
                times.target_duration,
                number,
                self.options.dvr_window,
                self.options.max_waiters,
                None if archive is None else archive.shelf(name),
                track.document,
            )
            renditions[name] = Rendition(name, window, video=False, bitrate=0, language=language)
        presentation = Presentation(renditions, times)
        if archive is not None:
            windows = {name: rendition.window for name, rendition in renditions.items()}
            archive.restore(windows, number, times.segment_duration)
            # The first playlist makes the lines of all that is listed; nobody waits for it here.
            for name in renditions:
                presentation.media(name)
        return times, renditions, presentation

    def _adopt(self, times: Cadence, renditions: dict[str, Rendition], presentation: Presentation) -> None:
        """Go on with these windows; only before anything was published."""
        self.cadence, self.renditions, self.presentation = times, renditions, presentation
        self._ready = False
        self._punctuality = Punctuality(times.target_duration, float(times.segment_duration))
        self._lineup = Lineup([rendition.window for rendition in renditions.values()])
        self.captions.adopt(
            {one.language: one.window for one in renditions.values() if one.language is not None}
        )
        self.audience = Audience(VIEWER_TARGET_DURATIONS * times.target_duration, self._on_viewer)

    @property
    def state(self) -> str:
        """``starting`` until every rendition has a segment; then ``live``, or ``down`` when nothing comes.

        ``ended`` once its event is over.
        """
        if self.finale.over.is_set():
            return "ended"
        if not self.ready:
            return "starting"
        return "live" if self._flowing else "down"

    @property
    def ready(self) -> bool:
        """Whether every rendition has a finished segment, so that playlists can be played."""
        # Once they have one they always do: looking again at each request would be in vain.
        self._ready = self._ready or all(
            rendition.window.listed and rendition.window.timeline for rendition in self.renditions.values()
        )
        return self._ready

    @property
    def timing(self) -> Timing:
        """When what the ffmpeg that was started last is given is heard."""
        slack = self._numbers.slack(self._lineup.next_number, self.cadence.segment_duration)
        return Timing(self._start, self._clock, slack)

    @property
    def part_target(self) -> Fraction:
        """PART-TARGET in seconds."""
        return self.cadence.part_target

    @property
    def target_duration(self) -> int:
        """EXT-X-TARGETDURATION in seconds."""
        return self.cadence.target_duration

    @property
    def viewers(self) -> int:
        """How many clients fetched a playlist lately."""
        return self.audience.count(time.monotonic())

    @property
    def blocked(self) -> int:
        """How many requests wait for a part or a segment."""
        return self._lineup.waiting

    async def run(self) -> None:
        """Keep the channel going until cancelled or closed.

        Raises:
            ToolsError: this ffmpeg or this source can't make the channel.
        """
        encoders = ("libx264", "aac") if self._ladder else ("aac",)
        self._tools.require(f"live channel {self.name!r}", encoders=encoders)
        await self._recall()
        try:
            async with self.finale.running():
                if (ending := await self.finale.recall()) is not None:
                    await self._show_again(ending)
                    await self._rest()
                while not self._closed:
                    await self._broadcast()
                    if self.finale.over.is_set():
                        await self.finale.seal(self._ending())
                        await self._rest()
        except asyncio.CancelledError:
            self.close()
            raise

    async def _broadcast(self) -> None:
        """Be on air until the event is over, or the channel is closed."""
        async with self._finder.running():
            await self._transmit()

    async def _transmit(self) -> None:
        source = await self._finder.find()
        source = replace(source, once=self._is_once(source))
        times, former = self._cadence_for(source), self._lineup
        self._tell(times)
        if self.archive is not None:
            self._adopt(*await self._take_up(times, self.archive))
        elif former.ended or times != self.cadence or self._numbers.reserved >= 0:
            self._adopt(*self._plan(times, former.next_number - 1 if former.ended else -1))
        if self._lineup is not former:
            former.close()
        async with (
            self.archive.running() if self.archive else nullcontext(),
            asyncio.TaskGroup() as group,
        ):
            work = [
                group.create_task(one)
                for one in (self._keep_running(source), self.finale.over.wait(), self._keep_pace())
            ]
            await asyncio.wait(work[:2], return_when=asyncio.FIRST_COMPLETED)
            for task in work:
                task.cancel()
            await asyncio.wait(work)
            if self.finale.over.is_set():
                self._lineup.end()
                if self.archive is not None:
                    await self.archive.settle()

    def _tell(self, times: Cadence) -> None:
        log.info(
            "cadence",
            channel=self.name,
            frame_rate=f"{float(times.frame_rate):.5g}",
            segment=f"{float(times.segment_duration):.5g}",
            part_target=f"{float(times.part_target):.4g}",
            target_duration=times.target_duration,
        )

    def _is_once(self, source: sources.Source) -> bool:
        """Tell whether a source is played once: a file that is an event, of known length."""
        return self.options.event and source.path is not None and source.duration is not None

    def _ending(self) -> Ending:
        """Tell what is needed to record the event that is over."""
        first = {one.video: name for name, one in reversed(self.renditions.items())}
        return Ending(
            frame_rate=self.cadence.frame_rate.as_integer_ratio(),
            segment_duration=self.cadence.segment_duration.as_integer_ratio(),
            target_duration=self.target_duration,
            master=self.presentation.multivariant().decode() if self.ready else "",
            date_ranges=tuple(str(tag) for tag in self.presentation.date_ranges.tags()),
            video=first.get(True),
            audio=first.get(False),
        )

    async def _show_again(self, ending: Ending) -> None:
        """Go on to serve an event that was over when an earlier process ended."""
        if self.archive is not None:
            times = replace(
                self._cadence_for(sources.Source(frame_rate=Fraction(*ending.frame_rate))),
                segment_duration=Fraction(*ending.segment_duration),
                target_duration=ending.target_duration,
            )
            self._adopt(*await self._take_up(times, self.archive, goes_on=False))
            self._lineup.end()

    async def _rest(self) -> None:
        """Wait until another event is to begin; it has a DVR of its own."""
        await self.finale.rest()
        if self.archive is not None:
            self.archive = self._new_archive()

    async def _keep_running(self, source: sources.Source) -> None:
        backoff, failures = FIRST_BACKOFF, 0
        while not self._closed and not self.finale.over.is_set():
            wait = self._numbers.wait(self._lineup.next_number, self.cadence.segment_duration)
            await asyncio.sleep(wait)
            source = await self._finder.renewed(source)
            started, before = time.monotonic(), self._lineup.next_number
            reason = await self._run_once(source)
            if self.finale.over.is_set():
                return
            if self._lineup.next_number != before and failures > QUIET_AFTER:
                log.info("source was back", channel=self.name, failures=failures)
            failures = failures + 1 if self._lineup.next_number == before else 0
            if time.monotonic() - started >= STEADY_SECONDS:
                backoff = FIRST_BACKOFF
            self.restarts += 1
            if failures <= QUIET_AFTER:
                log.warning("source ended", channel=self.name, reason=reason, again_in=backoff)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF)

    async def _recall(self) -> None:
        """Read the numbers that an earlier process reserved."""
        try:
            await asyncio.to_thread(self._numbers.load)
        except OSError as error:
            log.warning("numbers can't be read", channel=self.name, reason=str(error))

    async def _take_up(
        self, times: Cadence, archive: Archive, *, goes_on: bool = True
    ) -> tuple[Cadence, dict[str, Rendition], Presentation]:
        """Make windows of what is on disk, while everybody else goes on."""
        used = await archive.load(times, self.renditions)
        if goes_on and self._lineup.ended:
            used = max(used, self._lineup.next_number - 1)
        return await asyncio.to_thread(self._plan, times, used, archive, goes_on=goes_on)

    async def _keep_pace(self) -> None:
        """Reserve numbers, and put gaps where segments don't come in time."""
        least, version = -1, -1
        while True:
            lineup, now = self._lineup, time.monotonic()
            if lineup.version != version:
                self._punctuality.flowed(now)
            if self.ready and least != (least := lineup.least_number):
                self._punctuality.published(now)
            if self._punctuality.wait(now) == 0:
                self._fill()
                self._punctuality.filled(now)
                least = lineup.least_number
            version = lineup.version
            if self._numbers.wants(lineup.next_number):
                await self._reserve()
            await asyncio.sleep(min(max(self._punctuality.wait(time.monotonic()), 0.01), LONGEST_NAP))

    async def _reserve(self) -> None:
        try:
            await asyncio.to_thread(self._numbers.reserve, self._lineup.next_number)
        except OSError as error:
            if not self._disk_failed:
                log.warning("numbers can't be kept", channel=self.name, reason=str(error))
            self._disk_failed = True
        else:
            self._disk_failed = False

    def _fill(self) -> None:
        self._flowing = False
        self._resumption.segment = max((feed.segment for feed in self._feeds), default=-1) + 1
        for feed in self._feeds:
            feed.suspend()
        self._lineup.fill(self.cadence.segment_duration)

    def follow(self, former: Channel) -> None:
        """Go on with the discontinuity sequence of a channel whose place this one takes (RFC 8216bis §6.2.2).

        Args:
            former: with the same renditions; it ran before this one was made, so its numbers are lower.
        """
        for name, rendition in self.renditions.items():
            past, window = former.renditions[name].window, rendition.window
            if past.listed:
                left = past.discontinuity_sequence + sum(segment.discontinuity for segment in past.listed)
                window.restore((), window.next_number, left + 1)

    def close(self) -> None:
        """Release everyone who waits."""
        self._closed = True
        self.captions.close()
        self._lineup.close()
        self.finale.close()

    async def _run_once(self, source: sources.Source) -> str:
        """Run one ffmpeg to its end; give the reason of the end."""
        start = self._start = self._lineup.next_number * self.cadence.segment_duration
        clock = self._clock = WallClock()
        self._resumption = Resumption()
        made = [rendition for rendition in self.renditions.values() if rendition.language is None]
        cuts = cutters(self.cadence, start, len(made))
        step = self.cadence.segment_duration
        feeds = self._feeds = [
            Feed(
                rendition,
                clock,
                self._resumption,
                step,
                self._numbers,
                self.inband,
                cut,
                # Captions follow the first one alone.
                None if index else self.captions.follow,
                self._on_part,
            )
            for index, (rendition, cut) in enumerate(zip(made, cuts, strict=True))
        ]
        words = encoder.arguments(
            source, self.name, self._ladder, self._sounds, self.cadence, start, captions=self._labelled
        )
        try:
            process = await Process.start(
                [self._tools.ffmpeg, *words],
                outputs=len(feeds),
                stdin=source.feed is not None,
                cage=source.cage,
            )
        except ToolsError as error:
            return str(error)
        self.pid = process.pid
        reason = ""
        try:
            async with asyncio.TaskGroup() as group:
                if source.feed is not None:
                    group.create_task(source.feed(process))
                for index, feed in enumerate(feeds):
                    group.create_task(self._drain(process, index, feed, once=source.once))
            if source.once and await process.ended_well():
                self.finale.over.set()
        except* (SourceEndedError, MediaError, CadenceError) as errors:
            reason = str(errors.exceptions[0])
        finally:
            self._flowing = False
            self._feeds = []
            self.pid = None
            if self.finale.over.is_set():
                self._finish(feeds)
            await process.stop()
            self._lineup.align()
        if "font" in process.errors.lower() and not self.ready:
            self._labelled = False
        if source.pump is not None and source.pump.stream != source.stream:
            return "another stream follows"
        reason = last_error(process.errors) or reason
        return reason.replace(source.url, "") if source.url else reason

    def _finish(self, feeds: Sequence[Feed]) -> None:
        """Publish the last frames of all renditions, in the segments that one of them has begun."""
        last, now = self._lineup.last_number, Instant.now()
        for feed in feeds:
            feed.finish(last, now)

    async def _drain(self, process: Process, index: int, feed: Feed, *, once: bool) -> None:
        """Feed a rendition until its output ends, or gives nothing for too long."""
        loop = asyncio.get_running_loop()
        patience, heard = START_SECONDS, loop.time()

        def receive(data: bytes) -> None:
            nonlocal patience, heard
            patience, heard = STALL_SECONDS, loop.time()
            self._flowing |= feed.receive(data, Instant.now())

        draining = asyncio.ensure_future(process.drain(index, receive))
        try:
            while not draining.done():
                if loop.time() >= heard + patience:
                    raise SourceEndedError(f"output {index} gave nothing for {patience:.0f} s")
                await asyncio.wait((draining,), timeout=heard + patience - loop.time())
        finally:
            draining.cancel()
        draining.result()
        if not once:
            raise SourceEndedError(f"output {index} ended")

"""A live channel: what it publishes, and what keeps it going from one event to the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction

import structlog

from packager.dvr.archive import Archive
from packager.live import encoder
from packager.live.audience import Audience
from packager.live.backoff import Backoff
from packager.live.captions import Captions
from packager.live.cutting import cutters
from packager.live.feed import Feed, Resumption
from packager.live.finale import DVR, Finale
from packager.live.inband import Inband
from packager.live.ladder import AUDIO, Cadence, audio_rungs, rungs
from packager.live.lineup import Lineup
from packager.live.numbers import Numbers
from packager.live.options import ChannelOptions
from packager.live.pace import Pace
from packager.live.plan import Plan, Planner
from packager.live.presentation import Presentation, Rendition
from packager.live.run import Run
from packager.live.wallclock import WallClock
from packager.radio.blocksupply import Timing
from packager.recordings.note import Ending
from packager.sources.finder import Finder
from packager.sources.pump import Supply
from packager.sources.source import Source
from packager.tools import Tools

__all__ = ["Channel", "ChannelOptions"]

log = structlog.get_logger()

VIEWER_TARGET_DURATIONS = 3
"""A viewer counts for so many target durations after a playlist."""


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
        self._run: Run | None = None
        self._closed = False
        self._labelled = "drawtext" in tools.filters
        self._numbers = Numbers(None if options.data is None else options.data / "number")
        self._pace = Pace(options.name, self._numbers, self._suspend)
        self.archive = self._new_archive()
        self.finale = Finale(options.name, options.data, options.retention if self.archive else None)
        self.cadence: Cadence
        self.renditions: dict[str, Rendition]
        self.presentation: Presentation
        self._planner = Planner(options, self._ladder, self._sounds, self.captions, self._numbers)
        self._adopt(self._planner.afresh(self._planner.cadence(Source())))

    def _new_archive(self) -> Archive | None:
        options = self.options
        if options.data is None or not options.dvr_window:
            return None
        return Archive(options.data / DVR, options.name, options.dvr_bytes)

    def _adopt(self, plan: Plan) -> None:
        """Go on with these windows; only before anything was published."""
        times, renditions = plan.cadence, plan.renditions
        self.cadence, self.renditions, self.presentation = times, renditions, plan.presentation
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
        return "live" if self._run is not None and self._run.flowing else "down"

    @property
    def pid(self) -> int | None:
        """Process id of its ffmpeg while it runs."""
        return None if self._run is None else self._run.pid

    @property
    def ready(self) -> bool:
        """Whether every rendition has a finished segment, so that playlists can be played."""
        return self._lineup.ready

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
        await self._pace.recall()
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
        times, former = self._planner.cadence(source), self._lineup
        used = former.next_number - 1 if former.ended else -1
        self._tell(times)
        if self.archive is not None:
            self._adopt(await self._planner.take_up(times, self.archive, used))
        elif former.ended or times != self.cadence or self._numbers.reserved >= 0:
            self._adopt(self._planner.afresh(times, used))
        if self._lineup is not former:
            former.close()
        async with (
            self.archive.running() if self.archive else nullcontext(),
            asyncio.TaskGroup() as group,
        ):
            work = [
                group.create_task(one)
                for one in (
                    self._keep_running(source),
                    self.finale.over.wait(),
                    self._pace.keep(self._lineup, self.cadence),
                )
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

    def _is_once(self, source: Source) -> bool:
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
            self._adopt(await self._planner.recall(ending, self.archive))
            self._lineup.end()

    async def _rest(self) -> None:
        """Wait until another event is to begin; it has a DVR of its own."""
        await self.finale.rest()
        if self.archive is not None:
            self.archive = self._new_archive()

    async def _keep_running(self, source: Source) -> None:
        backoff = Backoff(self.name)
        while not self._closed and not self.finale.over.is_set():
            wait = self._numbers.wait(self._lineup.next_number, self.cadence.segment_duration)
            await asyncio.sleep(wait)
            source = await self._finder.renewed(source)
            started, before = time.monotonic(), self._lineup.next_number
            reason = await self._run_once(source)
            if self.finale.over.is_set():
                return
            self.restarts += 1
            # Gaps are published in its place while a source is gone: they are no success of it.
            published = self._lineup.has_media_since(before)
            await asyncio.sleep(backoff.ended(reason, time.monotonic() - started, published=published))

    async def _run_once(self, source: Source) -> str:
        """Run one ffmpeg to its end; give the reason of the end."""
        self._start = self._lineup.next_number * self.cadence.segment_duration
        self._clock, resumption = WallClock(), Resumption()
        run = self._run = Run(source, self._feeds(resumption), resumption, self._lineup, self.finale.over)
        words = encoder.arguments(
            source, self.name, self._ladder, self._sounds, self.cadence, self._start, captions=self._labelled
        )
        reason = await run.play([self._tools.ffmpeg, *words])
        if "font" in run.errors.lower() and not self.ready:
            self._labelled = False
        return reason

    def _feeds(self, resumption: Resumption) -> list[Feed]:
        """Make what brings one run into the windows."""
        made = [rendition for rendition in self.renditions.values() if rendition.language is None]
        cuts = cutters(self.cadence, self._start, len(made))
        return [
            Feed(
                rendition,
                self._clock,
                resumption,
                self.cadence.segment_duration,
                self._numbers,
                self.inband,
                cut,
                # Captions follow the first one alone.
                None if index else self.captions.follow,
                self._on_part,
            )
            for index, (rendition, cut) in enumerate(zip(made, cuts, strict=True))
        ]

    def _suspend(self) -> None:
        """Publish nothing of what comes too late: gaps stand for it."""
        if self._run is not None:
            self._run.suspend()

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

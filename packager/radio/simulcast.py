"""A station as a live channel too: the audio that its listeners hear, in AAC, with its titles as date ranges.

The channel comes with its first viewer and goes some time after its last one. It begins with what the station
sent just before, so that nobody waits for the first segments; and each time it is a new one, whose numbers
are higher than those before, since they come from the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction

import structlog

from media.mp3.id3 import write_id3v2
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.tools import Tools, ToolsError
from packager.publish.commands import TooManyEventsError
from packager.publish.date_ranges import DateRangeError
from packager.radio.block_queue import BlockQueue
from packager.radio.block_supply import BlockSupply
from packager.radio.limits import SimulcastLimits
from packager.radio.title_date_ranges import TitleRanges, frames_of, quotable
from packager.window.waiters import MAX_WAITERS
from packager.window.wallclock import Instant

LEAD_SECONDS = 12.0
"""What a channel begins with of what was sent before: three segments, which players want to begin with."""

log = structlog.get_logger()

Tap = Callable[[], AbstractContextManager[BlockQueue]]
"""Opens a station: a queue with what was sent in the last ``LEAD_SECONDS``, and then all that is."""


@dataclass(frozen=True, slots=True)
class SimulcastOptions:
    """How a station is a channel.

    Attributes:
        name: of both.
        bitrates: bits per second of the renditions.
        on_demand: whether it only runs while somebody follows it.
        idle_seconds: how long it then goes on behind the last one.
        max_waiters: requests that may wait for one rendition at once.
        segment_duration: seconds; longer than two blocks, so that one that is a little late isn't taken for
            silence.
        part_duration: seconds: stations give their audio in blocks of about a second.
        limits: how the channel begins and ends.
    """

    name: str
    bitrates: tuple[int, ...] = (64_000, 128_000)
    on_demand: bool = True
    idle_seconds: float = 90.0
    max_waiters: int = MAX_WAITERS
    segment_duration: float = 4.0
    part_duration: float = 1.0
    limits: SimulcastLimits = field(default_factory=SimulcastLimits)


class Starts:
    """Counts the channels that begin, which is more work than going on: whoever asks can cause it.

    Args:
        limits: how many may begin at once, and how long each counts.
        clock: monotonic seconds.
    """

    def __init__(self, limits: SimulcastLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._begun: dict[Callable[[], bool], float] = {}

    def may_begin(self, is_beginning: Callable[[], bool]) -> bool:
        """Count a channel among those that begin; False where that are too many already.

        Args:
            is_beginning: tells for how long it does; asked again whenever another one wants to.
        """
        now = self._clock()
        start_seconds = self._limits.start_seconds
        self._begun = {
            one: since for one, since in self._begun.items() if one() and now < since + start_seconds
        }
        if len(self._begun) >= self._limits.starts:
            return False
        self._begun[is_beginning] = now
        return True


class Simulcast:
    """Keeps a station's channel.

    Args:
        options: what it is.
        tap: gives the station's audio.
        tools: the ffmpeg that it uses.
        on_part: as for :class:`packager.live.channel.Channel`.
        on_channel: told the channel, whenever another one takes the place of the last.
        starts: those of all stations that begin; None: this one has nobody to wait for.

    Attributes:
        channel: the one that runs now, or will run.
    """

    def __init__(
        self,
        options: SimulcastOptions,
        tap: Tap,
        tools: Tools,
        *,
        on_part: Callable[[float], None] = lambda _: None,
        on_channel: Callable[[Channel], None] = lambda _: None,
        starts: Starts | None = None,
    ) -> None:
        self.options = options
        self.name = options.name
        self._tap = tap
        self._tools = tools
        self._on_part = on_part
        self._on_channel = on_channel
        self._starts = starts or Starts(options.limits)
        self._wanted = asyncio.Event()
        self._asked = 0.0
        self._supply: BlockSupply
        self._titles: TitleRanges
        self.channel: Channel
        self._renew()
        if not options.on_demand:
            self._wanted.set()

    @property
    def state(self) -> str:
        """That of the channel; ``idle`` while nobody asks for it."""
        return self.channel.state if self._wanted.is_set() else "idle"

    async def run(self) -> None:
        """Run the channel whenever somebody wants it, until cancelled.

        Raises:
            ToolsError: this ffmpeg can't make it.
        """
        while True:
            await self._wanted.wait()
            log.info("channel begins", station=self.name)
            try:
                await self._run_once()
            except* ToolsError as errors:
                raise errors.exceptions[0] from None
            log.info("channel ends, nobody follows it", station=self.name)
            self._renew(self.channel)

    def close(self) -> None:
        """Release everyone who waits."""
        self.channel.close()

    async def _run_once(self) -> None:
        with self._tap() as queue:
            self._supply.queue = queue
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self.channel.run())
                await self._until_idle()
                running.cancel()

    async def _until_idle(self) -> None:
        while True:
            left = self._asked + self.options.idle_seconds - time.monotonic()
            if left <= 0 and self.options.on_demand and not self._is_waited_for():
                break
            await asyncio.sleep(max(left, self.options.limits.idle_look_seconds))
        # Who asks from now on wants the next one.
        self._wanted.clear()

    def _is_waited_for(self) -> bool:
        """Tell whether somebody who asked long ago still has no answer: a start may take its time."""
        return any(one.window.waiters.count for one in self.channel.renditions.values())

    def _note_viewer(self) -> None:
        self._asked = time.monotonic()
        if self._wanted.is_set() or self._starts.may_begin(self._is_beginning):
            self._wanted.set()

    def _is_beginning(self) -> bool:
        return self._wanted.is_set() and not self.channel.ready

    def _renew(self, former: Channel | None = None) -> None:
        """Make a channel that nobody has seen yet; it goes on counting where the former one was."""
        options = self.options
        self._supply = BlockSupply(BlockQueue(0), lambda: self.channel.timing, self._announce)
        self.channel = Channel(
            ChannelOptions(
                options.name,
                bitrates=options.bitrates,
                segment_duration=options.segment_duration,
                part_duration=options.part_duration,
                max_waiters=options.max_waiters,
            ),
            self._tools,
            pump=self._supply,
            on_part=self._on_part,
            on_viewer=self._note_viewer,
            is_postponed=lambda: not self._wanted.is_set(),
        )
        self._titles = TitleRanges(lambda tag: self.channel.add_date_range(tag))
        if former is not None:
            self.channel.follow(former)
        self._on_channel(self.channel)

    def _announce(self, title: str, media_time: Fraction) -> None:
        date = self.channel.timing.clock.date(media_time, Instant.now())
        try:
            if self._titles.change(title, date):
                self.channel.timed_metadata.add(date, None, write_id3v2(frames_of(quotable(title))))
        except (DateRangeError, TooManyEventsError) as error:
            log.debug("title isn't told", station=self.name, reason=str(error))

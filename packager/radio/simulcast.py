"""Publishes a station as a live channel, too: AAC in HLS and DASH, with titles as date ranges.

The channel starts with its first viewer and stops some time after its last. It begins with the audio that the
station sent just before, so the first segments are there at once. Each run is a new channel, whose numbers
continue to grow since they come from the clock. A channel with a DVR runs always, and stays the same one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import structlog

from media.hls.date_range import DateRange
from media.mp3.id3 import write_id3v2
from packager.concurrency import background_task
from packager.ffmpeg.ladder import audio_rungs
from packager.live.channel import Channel
from packager.live.options import ChannelHooks, ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.publish.channel_commands import TooManyEventsError
from packager.publish.date_ranges import DateRangeError
from packager.radio.encoder_supply import BlockSupply
from packager.radio.limits import StationLimits
from packager.radio.live_encoder_queue import BlockQueue
from packager.radio.title_date_ranges import TitleDateRanges, as_quoted_string, id3_frames_of
from packager.recordings.disk_recordings import FOR_EVER, Retention
from packager.safe_files import DataFolder
from packager.window.cadence import AUDIO_FRAME_RATE, cadence
from packager.window.log import CadenceEntry, RenditionFormat
from packager.window.program_date_time import Instant
from packager.window.sequence_numbers import SequenceNumbers

if TYPE_CHECKING:
    from packager.dvr.bucket.dvr_bucket import DvrBucket
    from packager.recordings.publications import PublisherWatch

log = structlog.get_logger()

Subscribe = Callable[[], AbstractContextManager[BlockQueue]]
"""Opens a queue that begins with the station's last ``lead_seconds`` and receives every further block."""

IDLE_LOOK_SECONDS = 0.5
"""Least seconds between two checks for viewers."""


@dataclass(frozen=True, slots=True)
class StationDvr:
    """The past of a station's live channel; see :class:`packager.live.options.ChannelOptions`.

    Attributes:
        window: seconds that stay in the playlists beyond the live window.
        data: the folder on disk of its numbers and its DVR; None for none.
        max_bytes: most bytes of the DVR on disk; 0: as many as its time asks for.
        bucket: where the DVR is, if that is in S3.
        past_seconds: seconds for which segments stay stored, where that is longer than the window; else 0.
        record: the rule by which spans become recordings, a name of ``RULES``.
        retention: for how long recordings stay that aren't pinned.
    """

    window: float = 0.0
    data: DataFolder | None = None
    max_bytes: int = 0
    bucket: DvrBucket | None = None
    past_seconds: float = 0.0
    record: str = "none"
    retention: Retention = FOR_EVER


NO_DVR = StationDvr()


@dataclass(frozen=True, slots=True)
class SimulcastOptions:
    """How a station is published as a live channel.

    Attributes:
        name: of the station and the channel.
        bitrates: of the renditions, in bits per second.
        on_demand: whether it runs only while it has viewers.
        idle_seconds: how long it then runs on after the last request.
        segment_duration: seconds; longer than two blocks, so that a block that is a little late isn't taken
            for silence.
        part_duration: seconds; a station's blocks have about one.
        lead_seconds: seconds of audio that are there when it begins.
        dvr: its past; it has no holes if the channel doesn't run on demand.
        limits: how the channel begins and ends.
    """

    name: str
    bitrates: tuple[int, ...] = (64_000, 128_000)
    on_demand: bool = True
    idle_seconds: float = 90.0
    segment_duration: float = 4.0
    part_duration: float = 1.0
    lead_seconds: float = 0.0
    dvr: StationDvr = NO_DVR
    limits: StationLimits = field(default_factory=StationLimits)


def empty_windows(options: SimulcastOptions) -> CadenceEntry:
    """Describe the windows with which a station's live channel begins, as the next channel would."""
    times = cadence(AUDIO_FRAME_RATE, options.segment_duration, options.part_duration)
    made = (RenditionFormat(one.name, False, one.bitrate) for one in audio_rungs(options.bitrates))
    return CadenceEntry(times, tuple(made), SequenceNumbers().first_number(times.segment_duration))


class StartLimit:
    """Limits how many channels start at once: starting is expensive, and any request can cause it.

    Args:
        limits: how many may start at once, and how long each counts as starting.
    """

    def __init__(self, limits: StationLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._begun: dict[Callable[[], bool], float] = {}

    def may_begin(self, is_beginning: Callable[[], bool]) -> bool:
        """Count a channel as starting; return False if too many are.

        Args:
            is_beginning: returns whether the channel is still starting; called whenever another one wants to
                start.
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
    """Runs a station's live channel while it has viewers.

    Args:
        on_part: passed on to :class:`packager.live.channel.Channel`.
        on_channel: called with each new channel object.
        starts: the limit that all stations share; None for no other stations.

    Attributes:
        channel: the one that runs now, or runs next.
        publishers: the source clients of the station; None where it takes none.
    """

    def __init__(
        self,
        options: SimulcastOptions,
        subscribe: Subscribe,
        tools: Tools,
        *,
        on_part: Callable[[float], None] = lambda _: None,
        on_channel: Callable[[Channel], None] = lambda _: None,
        starts: StartLimit | None = None,
    ) -> None:
        self.options = options
        self.name = options.name
        self._subscribe = subscribe
        self._tools = tools
        self._on_part = on_part
        self._on_channel = on_channel
        self._starts = starts or StartLimit(options.limits)
        self.publishers: PublisherWatch | None = None
        self._wanted = asyncio.Event()
        self._asked = 0.0
        self._supply: BlockSupply
        self._titles: TitleDateRanges
        self.channel: Channel
        self._renew()
        if not options.on_demand:
            self._wanted.set()

    @property
    def state(self) -> str:
        """State of the channel; ``idle`` while it has no viewers."""
        return "idle" if self.is_idle else self.channel.state

    @property
    def is_idle(self) -> bool:
        """Whether the channel has no viewers, or has to wait until others have begun."""
        return not self._wanted.is_set()

    def note_viewer(self) -> None:
        """Begin or continue the channel, as a viewer asks for it."""
        self._asked = time.monotonic()
        if self._wanted.is_set() or self._starts.may_begin(self._is_beginning):
            self._wanted.set()

    def note_unknown_viewers(self) -> None:
        """Continue the channel if it runs, as it may have viewers at other nodes."""
        self._asked = time.monotonic()

    def ranges_behind(self, tags: Sequence[DateRange]) -> list[DateRange]:
        """Return the date ranges that continue another packager's titles; see `TitleDateRanges.behind`."""
        return self._titles.behind(tags)

    async def run(self) -> None:
        """Run the channel whenever it has viewers, until cancelled.

        Raises:
            ToolsError: ffmpeg lacks something it needs.
        """
        self.channel.note_earlier_use()
        while True:
            await self._wanted.wait()
            log.info("the live channel of a station begins", station=self.name)
            with self._subscribe() as queue:
                self._supply.queue = queue
                async with background_task(self.channel.run()):
                    await self._until_idle()
            log.info("the live channel of a station ends, as nobody follows it", station=self.name)
            self._renew(self.channel)

    def close(self) -> None:
        """Release all waiting requests."""
        self.channel.close()

    async def _until_idle(self) -> None:
        while True:
            left = self._asked + self.options.idle_seconds - time.monotonic()
            if left <= 0 and self.options.on_demand and not self._is_waited_for():
                break
            await asyncio.sleep(max(left, IDLE_LOOK_SECONDS))
        # Requests from now on are for the next channel.
        self._wanted.clear()

    def _is_waited_for(self) -> bool:
        """Return whether a request still waits for an answer: a start may take long."""
        return self.channel.stream.blocked > 0

    def _is_beginning(self) -> bool:
        return self._wanted.is_set() and not self.channel.ready

    def _renew(self, former: Channel | None = None) -> None:
        """Make the next channel; it continues the numbers of the former one."""
        options = self.options
        self._supply = BlockSupply(BlockQueue(0), lambda: self.channel.timing, self._announce)
        self.channel = Channel(
            ChannelOptions(
                options.name,
                bitrates=options.bitrates,
                segment_duration=options.segment_duration,
                part_duration=options.part_duration,
                lead_seconds=options.lead_seconds,
                dvr_window=options.dvr.window,
                past_seconds=options.dvr.past_seconds,
                data=options.dvr.data,
                dvr_bytes=options.dvr.max_bytes,
                dvr_bucket=options.dvr.bucket,
                dvr_area="radio",
                record=options.dvr.record,
                retention=options.dvr.retention,
                limits=options.limits.channel,
            ),
            self._tools,
            ChannelHooks(self._on_part, self.note_viewer, lambda: self.is_idle, lambda: self.publishers),
            pump=self._supply,
        )
        self._titles = TitleDateRanges(lambda tag: self.channel.add_date_range(tag))
        if former is not None:
            self.channel.follow(former)
        self._on_channel(self.channel)

    def _announce(self, title: str, media_time: Fraction) -> None:
        date = self.channel.timing.clock.date(media_time, Instant.now())
        try:
            is_new = self._titles.change(title, date)
        except DateRangeError as error:
            # The playlists of a long DVR have room for some hundred titles, and the media for all.
            is_new = True
            self._note_unpublished(error)
        try:
            if is_new:
                self.channel.timed_metadata.add(
                    date, None, write_id3v2(id3_frames_of(as_quoted_string(title)))
                )
        except TooManyEventsError as error:
            self._note_unpublished(error)

    def _note_unpublished(self, error: Exception) -> None:
        log.debug(
            "a title isn't published to the live channel of a station", station=self.name, reason=str(error)
        )

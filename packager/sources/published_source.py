"""The source of a live channel that publishers push a stream to, and what happens when a second one comes."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from media.errors import MediaError
from media.packets import StreamTrack
from packager.concurrency import running_tasks, wait_within
from packager.reader_guard import ReaderGuard
from packager.sources.containers import CONTAINERS, demuxer_of, may_be_demuxed
from packager.sources.demuxing import DemuxedChunks, EventListener, ignore_event
from packager.sources.further_video_tracks import FurtherVideoTrack
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.publication import (
    SLATE,
    LinkStatistics,
    Publication,
    PublicationEndedError,
    Publisher,
)
from packager.sources.pump import ChunkTaker, Pump, StreamTaker
from packager.sources.still_picture import StillPicture
from packager.sources.tee_branch import TeeBranch

TAKEN_OVER = "another publisher took over"
"""The reason that a publisher gets whose stream was ended."""

EVENT_ENDED = "the channel's event has ended; POST /live/{channel}/start begins the next one"
"""The reason that a publisher gets whose stream was ended or refused."""

TAKEN = "the channel has a publisher"
"""The reason that a refused publisher gets."""

NO_SOUND = "its sound doesn't come: silence stands in for it"
"""The error of a stream of which only the picture comes."""

NO_PICTURE = "its picture doesn't come: its last key frame stands in for it"
"""The error of a stream of which only the sound comes."""

PUBLISH = "publish"
"""The ``source`` of a channel that is published to."""

log = structlog.get_logger()


class Takeover(enum.StrEnum):
    """The policy for a second publisher of a channel."""

    REPLACE = "replace"
    """The newer one takes its place: it is usually the same encoder, which has lost its connection."""
    REFUSE = "refuse"
    """The newer one is refused."""
    BACKUP = "backup"
    """The newer one is kept, and takes over when the older one goes."""


class AfterEnd(enum.StrEnum):
    """The policy for a publisher of a channel whose event has ended."""

    REFUSE = "refuse"
    """The publisher is refused until the next event is begun by a command."""
    START = "start"
    """The publisher begins the next event."""


class ChannelEvent(Protocol):
    """The event of a channel: whether it has ended, and what begins the next one."""

    @property
    def has_ended(self) -> bool:
        """Whether the event has ended, and the next one isn't to begin yet."""

    def begin(self) -> bool:
        """Begin another event, once the last one is over."""


def keys_too_far_apart(target_duration: int) -> str:
    """The reason that a publisher gets whose stream can't be cut at the channel's segments."""
    keys = f"its key frames are too far apart for segments of {target_duration} s"
    return f"{keys}, with which the channel began; send one every second or two"


class TakenError(Exception):
    """The channel has a publisher, and doesn't take another one."""


class EventEndedError(TakenError):
    """The channel's event has ended, and a publisher doesn't begin the next one."""


class TooManyPublishersError(Exception):
    """The channel has as many publishers as it may, spare ones included."""


class PublishedSource:
    """The publications of one channel; the publication on air supplies the channel.

    Args:
        takeover: policy for a second publisher.
        limits: how many publishers there may be, and how much of each is kept.
        kept_seconds: seconds of each stream that are kept for readers that begin with its beginning.
        has_further_video_tracks: whether the video tracks beside a stream's main one are kept, too.

    Attributes:
        live: the publication that the channel plays; None while there is none.
        received_container: ffmpeg's name of the container of the stream on air, or of the last one.
        event: the channel's event; None where events have no end.
        after_end: policy for a publisher after the end of the channel's event.
        is_closed: whether nobody is taken any more.
        elsewhere: the node of a cluster that has the channel's publisher, if that is another one; else empty.
        needed_at: when the reader of the stream on air needs more data, by the monotonic clock; None if
            unknown.
        feeds_slate: whether the stream that was given to a reader last is the channel's slate.
        on_event: called with each timed event of the stream that is played, and the seconds from the first
            picture of the run to it.
    """

    def __init__(
        self,
        channel: str,
        takeover: Takeover = Takeover.REPLACE,
        limits: SourceLimits = DEFAULT_LIMITS,
        kept_seconds: float = 0.0,
        *,
        has_further_video_tracks: bool = True,
    ) -> None:
        self.has_further_video_tracks = has_further_video_tracks
        self.kept_seconds = kept_seconds
        self.channel = channel
        self.limits = limits
        self.takeover = takeover
        self.live: Publication | None = None
        self.event: ChannelEvent | None = None
        self.after_end = AfterEnd.REFUSE
        # The last error, and the publication on air that it is about; None where it has ended one.
        self._error = ""
        self._faulty: Publication | None = None
        self._on_air_since = 0.0
        self.is_closed = False
        self.elsewhere = ""
        self.needed_at: float | None = None
        self._publications: list[Publication] = []
        self._past_link = LinkStatistics()
        self._past_lost_packets = 0
        self._changed = asyncio.Event()
        self._given: Publication | None = None
        self.on_event: EventListener = ignore_event
        self.feeds_slate = False
        self._last_stream: object = None
        self._last_burst: float | None = None
        # The format of a stream that turned out to be one that ffmpeg must demux.
        self._undemuxable: object = None
        self.received_container = ""
        self._last_container = ""

    @property
    def publications(self) -> tuple[Publication, ...]:
        """All that there are, in the order in which they came: the live one, spare ones, and new ones."""
        return tuple(self._publications)

    @property
    def last_error(self) -> str:
        """Why a publication was refused or ended from this side, or what is wrong with the one on air.

        Empty once the publisher of a faulty stream has gone, or another publisher's stream is on air for
        ``well_seconds``.
        """
        if self._faulty is None and self.has_publisher:
            is_well = time.monotonic() - self._on_air_since >= self.limits.well_seconds
            return "" if is_well else self._error
        return self._error

    @property
    def link(self) -> LinkStatistics:
        """Sums of the statistics of all publishers' protocols, of publishers that have gone, too."""
        return sum((one.link for one in self._publications if one.link is not None), self._past_link)

    @property
    def lost_packets(self) -> int:
        """How many packets of MPEG-TS didn't come of all publishers."""
        return sum((one.lost_packets or 0 for one in self._publications), self._past_lost_packets)

    def begin(
        self, publisher: Publisher, container: str = "", on_end: Callable[[str], None] | None = None
    ) -> Publication:
        """Begin a publication of somebody who was let in; it is on air once it is known to be a stream.

        Args:
            container: ffmpeg's name of the container; empty to detect it by the first bytes.
            on_end: called with the reason when it is ended from this side.

        Raises:
            TakenError: the channel has a publisher, and keeps it.
            EventEndedError: its event has ended, and publishers don't begin the next one.
            TooManyPublishersError: it has as many as it may.
            PublicationEndedError: the channel is closed.
        """
        self.check_room()
        if self.event is not None and self.event.has_ended:
            log.info("a publisher begins the next event", channel=self.channel, protocol=publisher.protocol)
            self.event.begin()
        publication = Publication(self, publisher, container, on_end)
        self._publications.append(publication)
        return publication

    def check_room(self) -> None:
        """Check that one more may publish; any thread may ask.

        Raises:
            TakenError, EventEndedError, TooManyPublishersError, PublicationEndedError: as ``begin`` raises
                them.
        """
        if self.is_closed:
            raise PublicationEndedError("the channel ends")
        if self.after_end is AfterEnd.REFUSE and self.event is not None and self.event.has_ended:
            raise EventEndedError(EVENT_ENDED.format(channel=self.channel))
        if self.takeover is Takeover.REFUSE and self.is_taken:
            raise TakenError(TAKEN)
        count = sum(not one.is_slate for one in self.publications)
        if count >= self.limits.publications:
            raise TooManyPublishersError(f"the channel has {count} publishers")

    def begin_slate(self) -> Publication:
        """Begin to show the channel's slate; a publisher takes its place, whatever the policy is."""
        publication = Publication(self, Publisher(SLATE, ""), "mpegts", None)
        self._publications.append(publication)
        return publication

    @property
    def has_publisher(self) -> bool:
        """Whether somebody publishes what is on air."""
        live = self.live
        return live is not None and not live.is_slate

    @property
    def is_taken(self) -> bool:
        """Whether somebody publishes what is on air, here or at another node of a cluster."""
        return self.has_publisher or self.elsewhere != ""

    @property
    def is_on_air(self) -> bool:
        """Whether what this node's publisher sends is what all nodes of a cluster serve."""
        return self.has_publisher and self.elsewhere == ""

    def note_elsewhere(self, node: str) -> None:
        """Go by the policy where another node of a cluster has the channel's publisher.

        Args:
            node: its name; empty where this one may have the publisher.
        """
        self.elsewhere = node
        if node and self.has_publisher and self.live is not None and self.takeover is not Takeover.BACKUP:
            self.live.dismiss(TAKEN if self.takeover is Takeover.REFUSE else TAKEN_OVER)

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until something else is on air, or nothing, but no longer than for some time."""
        await wait_within(seconds, self._changed.wait())

    async def wait_until_vacant(self, seconds: float) -> None:
        """Wait until nothing has been on air for some time."""
        while True:
            changed = self._changed
            if self.live is not None:
                await changed.wait()
                continue
            try:
                async with asyncio.timeout(seconds):
                    await changed.wait()
            except TimeoutError:
                return

    def offer(self, publication: Publication) -> None:
        """Put a publication on air, or keep it as a spare one; called once enough of it has come."""
        live = self.live
        if live is None:
            self._put_on_air(publication)
        elif publication.is_slate:
            publication.dismiss("somebody publishes")
        elif live.is_slate:
            self._replace(live, publication)
        elif not publication.is_valid or self.takeover is Takeover.BACKUP:
            return
        elif self.takeover is Takeover.REFUSE:
            publication.dismiss(TAKEN)
        else:
            self._replace(live, publication)

    def _replace(self, live: Publication, publication: Publication) -> None:
        self._take_off_air()
        live.dismiss(TAKEN_OVER)
        self._put_on_air(publication)

    def left(self, publication: Publication, reason: str) -> None:
        """Remove a publication, and put a spare one on air if the removed one was."""
        self._publications.remove(publication)
        if self._given is publication:
            self._given = None
        self._past_link += publication.link or LinkStatistics()
        self._past_lost_packets += publication.lost_packets or 0
        if reason and not publication.is_slate:
            self._error, self._faulty = reason, None
        elif self._faulty is publication:
            self._error, self._faulty = "", None
        log.info(
            "publisher has gone",
            channel=self.channel,
            protocol=publication.publisher.protocol,
            client=publication.publisher.address,
            reason=reason or "its end",
        )
        if self.live is publication:
            self._take_off_air()
            spare = next((one for one in self._publications if one.is_playable), None)
            if spare is not None:
                self._put_on_air(spare)
        self._notify()

    def _put_on_air(self, publication: Publication) -> None:
        self.live = publication
        self._on_air_since = time.monotonic()
        if publication.pump is not None:
            self.received_container = publication.pump.received_container
        publisher = publication.publisher
        log.info(
            "publisher is on air",
            channel=self.channel,
            protocol=publisher.protocol,
            client=publisher.address,
            agent=publisher.agent,
        )
        self._notify()

    def close(self, reason: str = "the server ends") -> None:
        """End all publications, and refuse new ones from now on."""
        self.is_closed = True
        self.end_all(reason)

    def end_event(self) -> None:
        """End all publications, as the channel's event has ended; ``after_end`` decides about later ones."""
        self.end_all(EVENT_ENDED.format(channel=self.channel))

    def end_all(self, reason: str) -> None:
        """End all publications; new ones are still accepted."""
        # Spare ones first, so that none of them takes over.
        for publication in reversed(self.publications):
            publication.dismiss(reason)

    @property
    def _pump(self) -> Pump | None:
        return None if self.live is None else self.live.pump

    @property
    def stream(self) -> object:
        """Identifies the format of the stream on air, or of the last one; see ``Supply``."""
        pump = self._pump
        if pump is None:
            return self._last_stream
        further = [(track, one.signature) for track, one in sorted(self.further_video_tracks.items())]
        # ffmpeg doesn't go on with bytes behind packets.
        stream = pump.stream if pump.stream != self._undemuxable else (pump.stream, "as it comes")
        return (stream, further) if further else stream

    @property
    def container(self) -> str:
        """Name the container in which ffmpeg gets the stream on air, or the last one; see ``Supply``."""
        return self._last_container if self._pump is None else self._pump.container

    def _take_off_air(self) -> None:
        """Have nothing on air, and keep in mind how the last stream was, whose end is perhaps read later."""
        self._last_stream, self._last_container = self.stream, self.container
        self._last_burst = self.burst_seconds
        self.live = None

    @property
    def further_video_tracks(self) -> Mapping[int, FurtherVideoTrack]:
        """The video tracks beside the main one of the stream on air, by the numbers of their tracks."""
        return {} if self.live is None else self.live.further_video_tracks

    def leave_further_video_tracks(self, reason: str) -> None:
        """Drop all but the main video track of the stream on air, and log the reason."""
        if self.live is not None and self.live.further_video_tracks:
            tracks = sorted(self.live.further_video_tracks)
            log.warning(
                "further video tracks aren't used", channel=self.channel, tracks=tracks, reason=reason
            )
            self._error, self._faulty = reason, self.live
            self.live.leave_further_video_tracks()

    def warn(self, reason: str, publication: Publication | None = None) -> None:
        """Set the error of the stream on air for the list of channels and its publisher; the stream goes on.

        Args:
            publication: the publication with the error, which counts while the channel has none on air.
        """
        faulty = self.live or publication
        if self._error != reason or self._faulty is not faulty:
            log.warning("a publisher's stream isn't whole", channel=self.channel, reason=reason)
            self._error, self._faulty = reason, faulty
            if faulty is not None:
                faulty.add_fault(reason)

    def note_fault(self, reason: str, *, is_over: bool, publication: Publication | None = None) -> None:
        """Set an error of the stream on air, as ``warn`` does, or clear it where it is over."""
        if not is_over:
            self.warn(reason, publication)
        elif self._error == reason and self._faulty is (self.live or publication):
            log.info("a publisher's stream is whole again", channel=self.channel, reason=reason)
            self._error, self._faulty = "", None

    @property
    def burst_seconds(self) -> float | None:
        """Seconds of media that come at once of the stream on air, or the last one; see ``Pump``."""
        return self._last_burst if self._pump is None else self._pump.burst_seconds

    @property
    def has_stream(self) -> bool:
        """Whether somebody publishes, or the slate is shown; see ``Supply``."""
        return self.live is not None

    @property
    def hurries(self) -> bool:
        """Whether the end of the last stream isn't to be held back: another follows, or nothing may."""
        return self.has_publisher or self.is_closed

    async def wait_until_flowing(self) -> None:
        """Wait until somebody publishes, and data comes with which ffmpeg can begin."""
        while True:
            pump, changed = self._pump, self._changed
            if pump is None:
                await changed.wait()
                continue
            async with running_tasks(pump.wait_until_flowing(), changed.wait()) as waits:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if self._pump is pump:
                return

    def reject(self, reason: str) -> None:
        """End the publication that an ffprobe was given last, since it can't be played."""
        if self._given is not None:
            self._given.dismiss(f"it can't be played: {reason}")

    def _pump_to_read(self) -> Pump | None:
        """Return the stream on air, which ffmpeg or ffprobe is about to get."""
        self._given, self.feeds_slate = self.live, self.live is not None and self.live.is_slate
        return self._pump

    async def feed(
        self, process: StreamTaker, tracks: Sequence[StreamTrack] = (), oldest: float | None = None
    ) -> None:
        """Write the stream on air to an ffmpeg; see ``Pump.feed``.

        Args:
            tracks: of a stream that is demuxed here; none if ffmpeg gets the stream as it comes.
        """
        pump = self._pump_to_read()
        if pump is None or (tracks and not self.may_demux):
            process.close_stdin()
        elif not tracks and not self.has_packets:
            await pump.feed(process, oldest=oldest)
        else:
            limits = self.limits
            demuxer = demuxer_of(pump.received_container, limits, needs_sound=False) if tracks else None
            demuxed = DemuxedChunks(
                demuxer, tracks, limits.ahead_bytes, self.warn, lambda: self.hurries, self.on_event
            )
            try:
                with ReaderGuard(self.channel):
                    await pump.feed(process, demuxed, oldest)
            except MediaError as error:
                log.info("a stream is left to ffmpeg", channel=self.channel, reason=str(error))
                self._undemuxable = pump.stream
                process.close_stdin()

    def begins_at(self, oldest: float | None) -> float | None:
        """Return when the first access point came with which ``feed`` begins, by the monotonic clock.

        None where nothing is kept, or where it goes out later, as the stream comes in bursts.
        """
        return None if self._pump is None or self.burst_seconds else self._pump.begins_at(oldest)

    def soonest_begin(self, oldest: float | None) -> float | None:
        """Return when the first access point came, at the soonest if the stream comes evenly.

        The first picture of a burst is played when it comes, and the others later.
        """
        if self._pump is None:
            return None
        return self._pump.soonest_begin(oldest) if self.paced else self._pump.begins_at(oldest)

    @property
    def paced(self) -> bool:
        """Whether the stream on air comes evenly, so that ffmpeg takes it as it comes.

        Then what was kept of it at the start of an ffmpeg delays nothing that follows.
        """
        return self.burst_seconds == 0

    @property
    def has_packets(self) -> bool:
        """Whether the stream on air has packets, which come to ffmpeg at their own pace."""
        pump = self._pump
        return pump is not None and CONTAINERS[pump.received_container].has_packets

    @property
    def may_demux(self) -> bool:
        """Whether the stream on air may be demuxed here for ffmpeg, as far as it is known."""
        pump = self._pump
        return (
            pump is not None and may_be_demuxed(pump.received_container) and pump.stream != self._undemuxable
        )

    async def feed_chunks(self, taker: ChunkTaker, oldest: float) -> None:
        """Push the chunks of the stream on air; see ``Pump.feed_chunks``."""
        pump = self._pump_to_read()
        if pump is None:
            taker.close_stdin()
        else:
            limits = self.limits
            still = StillPicture(limits.slow_seconds, limits.copied_still_seconds)
            await pump.feed_chunks(taker, oldest, still)

    async def feed_only(
        self,
        publication: Publication | None,
        taker: StreamTaker,
        *,
        tracks: Sequence[StreamTrack] = (),
    ) -> None:
        """Push the stream on air to ffmpeg until another publication takes over, or close ffmpeg's input."""
        if self.live is publication:
            await self.feed(taker, tracks)
        else:
            taker.close_stdin()

    def branch(self, most_bytes: int, oldest: float) -> TeeBranch | None:
        """Let the stream on air go another way, too; None where there is none. See ``Pump.branch``."""
        pump = self._pump_to_read()
        return None if pump is None else pump.branch(most_bytes, oldest)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

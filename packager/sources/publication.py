"""The stream of one publisher of a live channel: taken, measured, and kept until the channel plays it.

Each publication has a pump of its own, which keeps the stream's newest group of pictures. So a stream is
known to be one before it takes the place of another, a spare one takes over at once, and nothing of two
streams is ever mixed. The protocols (HTTP, RTMP, SRT) bring bytes, and know nothing of each other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from media.errors import MalformedError, UnsupportedError
from media.flv.stream_reader import FlvReader, PacketDivider
from media.matroska.stream_reader import MatroskaStreamReader
from media.mp4.fragments.stream_reader import FragmentedStreamReader
from media.packets import Packet, StreamEvent
from media.stream_reader import StreamChunk, StreamFormat, StreamReader
from media.ts.stream_reader import TransportReader
from packager.sources.containers import CONTAINERS, HEAD_BYTES, detect_published_container
from packager.sources.further_video_tracks import FurtherVideoTrack
from packager.sources.limits import SourceLimits
from packager.sources.pump import Pump, PumpOptions
from packager.sources.stream_meter import StreamMeter
from packager.step_budget import StepBudget

log = structlog.get_logger()

SLATE = "slate"
"""The protocol of the publisher that a channel's slate is."""

_JUDGING = (FlvReader, TransportReader, MatroskaStreamReader, FragmentedStreamReader)
"""Readers that find faults of the streams that they divide."""

PACKETS_AT_ONCE = 256
"""Most packets that are processed before the task yields, if its time is used up."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """An encoder that publishes to a channel: by which protocol, from where, and its name.

    Attributes:
        protocol: ``http``, ``rtmp`` or ``srt``; ``slate`` for a channel's own.
        address: of the connection's other end.
        agent: the encoder's name, as the encoder sends it.
    """

    protocol: str
    address: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """Statistics of a publisher's protocol about the network path of its packets.

    Attributes:
        round_trip_seconds: as measured last.
        lost: packets that didn't come when they should have.
        retransmitted: packets that came when they were sent again.
        dropped: packets that didn't come in time at all.
    """

    round_trip_seconds: float = 0.0
    lost: int = 0
    retransmitted: int = 0
    dropped: int = 0

    def __add__(self, other: LinkStatistics) -> LinkStatistics:
        """Count both together; the round trip is the other's."""
        return LinkStatistics(
            other.round_trip_seconds,
            self.lost + other.lost,
            self.retransmitted + other.retransmitted,
            self.dropped + other.dropped,
        )


class PublicationEndedError(Exception):
    """A publication was ended from this side; the text tells the publisher why."""


class PublicationOwner(Protocol):
    """The owner of one channel's publications, which decides which of them is on air.

    Attributes:
        limits: how much of each is kept.
        kept_seconds: seconds of each stream that are kept for readers that begin with its beginning.
        has_further_video_tracks: whether the video tracks beside a stream's main one are kept, too.
        live: the publication that the channel plays; None while there is none.
        needed_at: when the reader of the live one needs more data, by the monotonic clock; None if unknown.
    """

    channel: str
    limits: SourceLimits
    kept_seconds: float
    has_further_video_tracks: bool
    live: Publication | None
    needed_at: float | None

    def offer(self, publication: Publication) -> None:
        """Put a publication on air, or keep it as a spare one; called once enough of it has come."""

    def left(self, publication: Publication, reason: str) -> None:
        """Remove a publication, which has ended."""

    def note_fault(self, reason: str, *, is_over: bool, publication: Publication | None = None) -> None:
        """Set an error of the stream on air, which goes on, or clear it where it is over.

        Args:
            publication: the publication with the error, which counts while the channel has none on air.
        """


class Publication:
    """One publisher's stream; made by ``PublishedSource.begin``; its protocol calls ``end``.

    Attributes:
        began: when, in seconds since the epoch.
        pump: buffers the stream for its readers; None until its container is known.
        link: the protocol's statistics of the network path; None for a protocol without any.
        faults: the errors of the stream, which goes on, in the order in which they were found.
        further_video_tracks: the video tracks beside the main one, by number.
        playable_since: when the first access point came, by the monotonic clock; None before.
        budget: computing time of the protocol's task between two waits.
    """

    def __init__(
        self,
        owner: PublicationOwner,
        publisher: Publisher,
        container: str,
        on_end: Callable[[str], None] | None,
    ) -> None:
        self._owner = owner
        self._on_end = on_end
        self._head = b""
        self.budget = StepBudget()
        self.playable_since: float | None = None
        self._ended: str | None = None
        self._fault = ""
        self.faults: tuple[str, ...] = ()
        # Lost packets and bytes of no packet that were logged, and when more are logged at the soonest.
        self._logged_damage, self._log_losses_at = (0, 0), -math.inf
        self.publisher = publisher
        self.began = time.time()
        self._meter = StreamMeter(owner.limits)
        self.pump: Pump | None = None
        self.link: LinkStatistics | None = None
        self.further_video_tracks: dict[int, FurtherVideoTrack] = {}
        # Where nothing is copied, nobody takes them.
        self._leaves_further_video_tracks = not owner.has_further_video_tracks
        # One of them: the reader of a stream's bytes, or the divider of packets that were demuxed elsewhere.
        self._reader: StreamReader | None = None
        self._divider: PacketDivider | None = None
        if container:
            self._set_container(container)

    def _set_container(self, container: str) -> None:
        self._reader = CONTAINERS[container].reader(self._owner.limits)
        self._portion_bytes = CONTAINERS[container].portion_bytes
        self._begin_pump(container, self._reader)

    def _begin_pump(self, container: str, stream_format: StreamFormat) -> None:
        owner = self._owner
        self.pump = Pump(
            container,
            stream_format,
            PumpOptions(kept_seconds=owner.kept_seconds, held_seconds=owner.limits.held_seconds),
            limits=owner.limits,
            channel=owner.channel,
        )
        self.pump.budget = self.budget

    @property
    def received(self) -> int:
        """How many bytes have come."""
        return self._meter.received

    @property
    def bitrate(self) -> int:
        """Bits per second of the last seconds."""
        return self._meter.bitrate(time.monotonic())

    @property
    def keyframe_interval(self) -> float | None:
        """Seconds of media between the last two key frames; None before the second."""
        return self._meter.keyframe_interval

    @property
    def lost_packets(self) -> int | None:
        """How many packets of MPEG-TS didn't come, by their counters; None for another container."""
        return self._reader.lost if isinstance(self._reader, TransportReader) else None

    @property
    def is_on_air(self) -> bool:
        """Whether the channel plays it."""
        return self._owner.live is self

    def rest(self, most_bytes: int) -> float | None:
        """Return the seconds for which no reader needs more of the stream; None if unknown.

        Args:
            most_bytes: about how much may come meanwhile.
        """
        needed_at = self._owner.needed_at
        if needed_at is None or not self.is_on_air or self.pump is None or self.pump.has_branches:
            return None
        longest = 8 * most_bytes / max(self.bitrate, 1)
        return min(max(needed_at - time.monotonic(), 0.0), longest)

    @property
    def is_slate(self) -> bool:
        """Whether the stream is the channel's slate, which is shown only while nobody publishes."""
        return self.publisher.protocol == SLATE

    @property
    def is_valid(self) -> bool:
        """Whether enough has come to know that it is a stream that can be decoded."""
        return self.playable_since is not None

    @property
    def is_playable(self) -> bool:
        """Whether ffmpeg may try to play it; some streams don't mark where decoding can begin."""
        return self.is_valid or self.received > self._owner.limits.headless_bytes

    @property
    def end_reason(self) -> str:
        """The reason of an end from this side; empty if the stream goes on, or the publisher ended it."""
        return self._ended or ""

    async def receive_data(self, data: bytes) -> None:
        """Take the stream's next bytes; wait while they are ahead of time, or ffmpeg is slow.

        Raises:
            MediaError: they are no such stream; the text tells the publisher what is wrong.
            PublicationEndedError: another publisher took over, or the channel is closed.
        """
        self._check()
        if self.pump is None:
            self._head += data
            container = detect_published_container(self._head[:HEAD_BYTES])
            if container is None:
                if len(self._head) >= HEAD_BYTES:
                    raise UnsupportedError("it is none of MPEG-TS, FLV, Matroska and fragmented MP4")
                return
            self._set_container(container)
            data, self._head = self._head, b""
        reader = self._reader
        if reader is None:
            raise MalformedError("bytes of a container behind packets")
        async for portion in self.budget.portions(data, self._portion_bytes):
            # A publication that took this one's place meanwhile keeps it.
            self._check()
            await self._push(reader.receive_data(portion))
            self._check()
            if isinstance(reader, _JUDGING):
                self._note_fault(reader.fault)
            if isinstance(reader, TransportReader):
                self._log_losses(reader)

    async def receive_packets(
        self, packets: Sequence[Packet], fault: str = "", events: Sequence[StreamEvent] = ()
    ) -> None:
        """Take the next packets of a stream that its protocol has demuxed; see ``receive_data``.

        Args:
            fault: why a track is left out of the stream; empty where none is.
            events: that have come with the packets.
        """
        self._check()
        if self.pump is None:
            self._divider = PacketDivider()
            self._begin_pump("flv", self._divider)
        if self._divider is None:
            raise MalformedError("packets behind bytes of a container")
        divider = self._divider
        for begin in range(0, len(packets), PACKETS_AT_ONCE):
            await self.budget.spend()
            self._check()
            await self._push(divider.push(packets[begin : begin + PACKETS_AT_ONCE]))
            self._check()
        if events:
            await self._push((StreamChunk.of_events(events),))
        self._note_fault(fault or divider.fault)

    def _log_losses(self, reader: TransportReader) -> None:
        """Log what was lost of a transport stream, at most once in ``loss_log_seconds``."""
        damage, now = (reader.lost, reader.skipped), time.monotonic()
        if damage == self._logged_damage or now < self._log_losses_at:
            return
        self._logged_damage, self._log_losses_at = damage, now + self._owner.limits.loss_log_seconds
        log.warning(
            "a publisher's stream is damaged",
            channel=self._owner.channel,
            lost_packets=reader.lost,
            other_bytes=reader.skipped,
        )

    def _note_fault(self, reason: str) -> None:
        """Show an error of the stream in the list of channels; empty: the error is over."""
        if reason:
            self.add_fault(reason)
        if reason == self._fault or (self._owner.live is not None and not self.is_on_air):
            return
        former, self._fault = self._fault, reason
        self._owner.note_fault(reason or former, is_over=not reason, publication=self)

    def add_fault(self, reason: str) -> None:
        """Add an error to those that the publisher is sent."""
        if reason not in self.faults and len(self.faults) < self._owner.limits.told_faults:
            self.faults = (*self.faults, reason)

    async def receive_further_video_track(self, track: int, packets: Sequence[Packet]) -> None:
        """Take the next packets of a video track beside the main one.

        Raises:
            PublicationEndedError: another publisher took over, or the channel is closed.
        """
        self._check()
        if self._leaves_further_video_tracks:
            return
        if track not in self.further_video_tracks:
            limits, kept_seconds = self._owner.limits, self._owner.kept_seconds
            self.further_video_tracks[track] = FurtherVideoTrack(limits, kept_seconds)
        self._meter.count(sum(len(packet.data) for packet in packets))
        await self.budget.spend()
        # The tracks may have been left meanwhile.
        if (kept := self.further_video_tracks.get(track)) is not None:
            kept.push(packets, time.monotonic())
        self._check()

    def leave_further_video_tracks(self) -> None:
        """Take nothing but the main video track from now on."""
        self._leaves_further_video_tracks = True
        self._end_further_video_tracks()

    def _end_further_video_tracks(self) -> None:
        for one in self.further_video_tracks.values():
            one.end()
        self.further_video_tracks = {}

    async def _push(self, chunks: Sequence[StreamChunk]) -> None:
        if self.pump is None:
            return
        now = time.monotonic()
        for chunk in chunks:
            self._meter.push(chunk, now)
            if chunk.access and self.playable_since is None:
                self.playable_since = now
        if not self.is_on_air and self.is_playable:
            self._owner.offer(self)
            self._check()
        await self.pump.push(chunks)

    def check_complete(self) -> None:
        """Check at the end of a body that there was a stream in it.

        Raises:
            MalformedError: there was none.
        """
        if not self.is_playable:
            raise MalformedError("it ended before its first key frame" if self.pump else "it has no stream")

    def _check(self) -> None:
        if self._ended is not None:
            raise PublicationEndedError(self._ended)

    def end(self, reason: str = "") -> None:
        """End the publication: its publisher has gone, or its stream can't be used. Later calls do nothing.

        Args:
            reason: one line for the publisher; empty if the publisher ended the stream.
        """
        if self._ended is not None:
            return
        self._ended = reason
        if self.pump is not None:
            self.pump.receive_eof()
        # The owner reads the format of the stream then, its further video tracks included.
        self._owner.left(self, reason)
        self._end_further_video_tracks()

    def dismiss(self, reason: str) -> None:
        """End the publication from this side, and call ``on_end``, which sends the publisher the reason.

        Args:
            reason: one line for the publisher.
        """
        if self._ended is None:
            self.end(reason)
            if self._on_end is not None:
                self._on_end(reason)

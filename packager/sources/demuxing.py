"""Demuxing of published containers: packets with steady times, in the order in which they are played.

A channel copies these packets, or gives them to ffmpeg in a container of their codecs, as it does with those
of RTMP. So a stream with a clock of its own for the sound, with fragments that have all pictures before the
sound, or with a picture in some seconds plays alike in every container. Streams that can't be demuxed here go
to ffmpeg as the bytes that they are.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from media.flv.audio_video_tags import has_legacy_tags
from media.packets import EVENTS_KEPT, Packet, StreamEvent, StreamTrack, TrackKind
from media.steady_times import SteadyTimes
from media.stream_reader import CLOCK_RATE, StreamChunk
from media.ts.demuxer import TransportDemuxer
from packager.sources.bursts import LONGEST_BURST_SECONDS, SHORTEST_SILENCE_SECONDS, PacketPacer
from packager.sources.containers import Demuxer
from packager.step_budget import PORTION_BYTES

BURSTS_AWAITED = 1.5
"""Bursts for which a track's packets wait for those of the other one, which may come with the next burst."""

FIRST_AWAITED_SECONDS = 0.5
"""Seconds for which they wait where it isn't known yet whether a stream comes in bursts."""


EventListener = Callable[[StreamEvent, Fraction], None]
"""Called with a timed event of a stream, and its time in seconds."""


def ignore_event(_event: StreamEvent, _seconds: Fraction) -> None:
    """Ignore a timed event of a stream."""


class ChunkDemuxer:
    """Demuxes the chunks of a stream into packets with steady times, without I/O.

    Args:
        demuxer: of a stream whose chunks are bytes; None where they have packets.
    """

    def __init__(self, demuxer: Demuxer | None = None) -> None:
        self._demuxer = demuxer
        self._times = SteadyTimes(awaits_picture=True)
        self._events = deque[StreamEvent](maxlen=EVENTS_KEPT)

    @property
    def fault(self) -> str:
        """The error of the times of a stream that is demuxed here; empty while they are right."""
        return self._times.fault

    @property
    def has_begun_picture(self) -> bool:
        """Whether a picture has begun to come, which isn't whole before the next one begins."""
        return isinstance(self._demuxer, TransportDemuxer) and self._demuxer.has_begun_picture

    @property
    def may_have_sound(self) -> bool:
        """Whether sound may come with a picture that has come."""
        return self._demuxer is None or self._demuxer.has_sound

    @property
    def has_other_sound(self) -> bool:
        """Whether the stream has sound, but none that can be copied."""
        return isinstance(self._demuxer, TransportDemuxer) and self._demuxer.has_other_sound

    @property
    def has_fields(self) -> bool:
        """Whether pictures have come whose two fields ffmpeg would copy as two pictures."""
        return isinstance(self._demuxer, TransportDemuxer) and self._demuxer.has_fields

    @property
    def has_other_samples(self) -> bool:
        """Whether ffmpeg can't copy the stream's own bytes into MP4, such as AAC in LATM."""
        return isinstance(self._demuxer, TransportDemuxer) and self._demuxer.has_other_samples

    def take_events(self) -> Sequence[StreamEvent]:
        """Return the timed events that have come, once."""
        events = tuple(self._events)
        self._events.clear()
        return events

    def packets(self, chunks: Sequence[StreamChunk]) -> Iterator[Sequence[Packet]]:
        """Demux the next chunks; yield the packets of each step.

        Raises:
            MediaError: the stream can't be demuxed.
        """
        for chunk in chunks:
            self._events.extend(chunk.events)
        if self._demuxer is None:
            parts = [chunk.packets for chunk in chunks]
            yield parts[0] if len(parts) == 1 else list(itertools.chain.from_iterable(parts))
            return
        data = b"".join([chunk.data for chunk in chunks])
        for begin in range(0, len(data), PORTION_BYTES):
            packets = self._demuxer.receive_data(data[begin : begin + PORTION_BYTES])
            if isinstance(self._demuxer, TransportDemuxer):
                self._events.extend(self._demuxer.take_events())
            yield [one for packet in packets for one in self._times.push(packet)]

    def finish(self) -> Sequence[Packet]:
        """Return the packets that wait at the end of the stream.

        Raises:
            MediaError: the stream can't be demuxed.
        """
        last = self._demuxer.finish() if isinstance(self._demuxer, TransportDemuxer) else []
        return [one for packet in last for one in self._times.push(packet)]


class PacketSorter:
    """Sorts the packets of a stream that comes in bursts by their decode times, without I/O.

    A fragment of some seconds has all its pictures before its sound: a decoder that reads in real time would
    get the sound of each moment as much later.

    Attributes:
        held_bytes: bytes of the packets that wait for those of the other track.
    """

    def __init__(self) -> None:
        self._held: list[tuple[Packet, float]] = []
        self._newest: dict[TrackKind, int] = {}
        self._patience = 0.0
        # Whether one track is waited for in vain.
        self._lacks_track = False
        self.held_bytes = 0

    def push(self, packets: Sequence[Packet], now: float, burst: float | None) -> list[Packet]:
        """Add packets that came at this moment of the monotonic clock; return those that can be played.

        Args:
            burst: seconds of media that a burst has; 0 if there are none, None if that isn't known yet.
        """
        self._patience = FIRST_AWAITED_SECONDS if burst is None else BURSTS_AWAITED * burst
        for packet in packets:
            kind = packet.track.kind
            before = self._newest.get(kind)
            if before is None or (before < packet.dts and before <= min(self._newest.values())):
                self._lacks_track = False
            self._newest[kind] = packet.dts if before is None else max(packet.dts, before)
        if not self._patience and not self._held:
            return list(packets)
        # Packets of a track stay in their order.
        self._held = sorted([*self._held, *((one, now) for one in packets)], key=_dts)
        self.held_bytes += sum([len(packet.data) for packet in packets])
        return self.due(now)

    def due(self, now: float) -> list[Packet]:
        """Return the packets that wait for no other one any more, in the order of their decode times."""
        together = min(self._newest.values()) if len(self._newest) > 1 else -math.inf
        oldest, count = now - (0.0 if self._lacks_track else self._patience), 0
        for index, (packet, came) in enumerate(self._held, 1):
            if packet.dts <= together:
                count = index
            elif came <= oldest:
                count, self._lacks_track = index, True
        found, self._held = [one for one, _ in self._held[:count]], self._held[count:]
        self.held_bytes -= sum([len(packet.data) for packet in found])
        return found

    def flush(self) -> list[Packet]:
        """Return all packets that wait."""
        found, self._held, self.held_bytes = [one for one, _ in self._held], [], 0
        return found

    def wait(self, now: float) -> float | None:
        """Return the seconds for which the oldest packet still waits; None if none does."""
        if not self._held:
            return None
        patience = 0.0 if self._lacks_track else self._patience
        return max(min(came for _, came in self._held) + patience - now, 0.0)


class DemuxedChunks:
    """Makes chunks of packets of a stream's chunks, in the order and at the times at which they are played.

    Attributes:
        container: ffmpeg's name of the container into which the packets go; empty for the stream's own.
        hurries: returns whether the end of the stream is flushed at once.

    Args:
        demuxer: of a stream whose chunks are bytes; None where they have packets, in their order.
        tracks: all that the stream has, which are announced first; none of a stream of packets.
        most_bytes: most bytes of packets that wait for those of the other track, or for their time.
        warn: called with each error of the stream's times.
        hurries: called at the end of the stream, again and again while some of it is held back.
        on_event: called with each timed event, and the seconds from the first picture to it.
    """

    def __init__(
        self,
        demuxer: Demuxer | None,
        tracks: Sequence[StreamTrack],
        most_bytes: int,
        warn: Callable[[str], None],
        hurries: Callable[[], bool] = bool,
        on_event: EventListener = ignore_event,
    ) -> None:
        self.container = "" if demuxer is None else container_for(tracks)
        self._is_sorted = demuxer is None
        self._unannounced = tracks
        self._warn = warn
        self.hurries = hurries
        self._on_event = on_event
        # When the first picture is shown.
        self._shown: int | None = None
        self._reader = ChunkDemuxer(demuxer)
        self._sorter = PacketSorter()
        self._pacer = PacketPacer()
        self._most_bytes = most_bytes
        self._burst = 0.0
        # Decode time of the first packet, and seconds that came before it was known what a burst has.
        self._first: int | None = None
        self._span = 0.0
        # Decode time of the first picture.
        self._begin: int | None = None

    def steps(
        self, chunks: Sequence[StreamChunk], now: float, burst: float | None, came: float | None = None
    ) -> Iterator[Sequence[StreamChunk]]:
        """Demux the next chunks; yield the chunks of each step.

        Args:
            now: this moment of the monotonic clock.
            burst: as in ``PacketSorter.push``.
            came: when the first chunks came; None where that isn't known.

        Raises:
            MediaError: the stream can't be demuxed.
        """
        for packets in self._reader.packets(chunks):
            if self._reader.fault:
                self._warn(self._reader.fault)
            self._tell_events(packets)
            if self._is_sorted:
                found = list(packets)
            else:
                found = self._sorter.push(self._from_picture(packets), now, burst)
            if found and self._unannounced:
                time = found[0].dts
                found[:0] = (Packet(one, time, time, is_key=False, data=b"") for one in self._unannounced)
                self._unannounced = ()
            # The first burst may be longer than the others, which then go on behind it.
            held = max(burst, self._span) if burst is not None and burst > 0 else 0.0
            yield self._paced(found, now, self._ahead(found, now, came) if burst is None else held)
            if self._sorter.held_bytes + self._pacer.held_bytes > self._most_bytes:
                yield self.flush()

    def _tell_events(self, packets: Sequence[Packet]) -> None:
        """Call what is called with events, once a picture has come from which their times count."""
        if self._shown is None:
            pictures = (one.pts for one in packets if one.track.kind is TrackKind.VIDEO and one.data)
            self._shown = next(pictures, None)
        if self._shown is not None:
            for event in self._reader.take_events():
                self._on_event(event, Fraction(event.time - self._shown, CLOCK_RATE))

    def _ahead(self, packets: Sequence[Packet], now: float, came: float | None) -> float:
        """Return the seconds by which packets are ahead of real time: they may be a stream's first burst."""
        times = [one.dts for one in packets if one.data]
        if came is None or not times:
            return self._burst
        self._first = min(times) if self._first is None else self._first
        span = (max(times) - self._first) / CLOCK_RATE
        self._span = max(self._span, min(span, LONGEST_BURST_SECONDS))
        ahead = self._span - (now - came)
        return ahead if ahead >= SHORTEST_SILENCE_SECONDS else 0.0

    def _paced(self, packets: Sequence[Packet], now: float, burst: float) -> Sequence[StreamChunk]:
        """Return the packets to be played now: those of a burst are held back until their time."""
        if not burst and not self._pacer.is_holding:
            return _chunks_of(packets)
        self._burst = burst
        self._pacer.push(packets, now, burst)
        return _chunks_of(self._pacer.due(now))

    def _from_picture(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        """Leave out sound before the first picture, of which a late track may have seconds."""
        if self._begin is None:
            pictures = (one.dts for one in packets if one.track.kind is TrackKind.VIDEO and one.data)
            self._begin = next(pictures, None)
            # A picture in MPEG-TS is whole seconds behind its sound, where the next one comes so late.
            packets = sorted(packets, key=_decode_time)
        begin = self._begin
        if begin is None:
            return [one for one in packets if not one.data]
        return [one for one in packets if one.dts >= begin or one.track.kind is not TrackKind.AUDIO]

    def due(self, now: float) -> Sequence[StreamChunk]:
        """Return the packets that have waited long enough for the other track's, and for their time."""
        return self._paced(self._sorter.due(now), now, self._burst)

    def receive_eof(self, now: float) -> Sequence[StreamChunk]:
        """Return the packets to be played now, as no others come for which any would wait.

        Raises:
            MediaError: the stream can't be demuxed.
        """
        last = self._reader.finish()
        found = list(last) if self._is_sorted else self._sorter.push(self._from_picture(last), now, None)
        return self._paced([*found, *self._sorter.flush()], now, self._burst)

    def flush(self) -> Sequence[StreamChunk]:
        """Return all packets that wait."""
        return _chunks_of([*self._pacer.flush(), *self._sorter.flush()])

    def wait(self, now: float) -> float | None:
        """Return the seconds for which the oldest packet still waits; None if none does."""
        waits = [wait for one in (self._sorter, self._pacer) if (wait := one.wait(now)) is not None]
        return min(waits, default=None)


def _chunks_of(packets: Sequence[Packet]) -> Sequence[StreamChunk]:
    return (StreamChunk.of_packets(packets),) if packets else ()


def _decode_time(packet: Packet) -> int:
    return packet.dts


def _dts(one: tuple[Packet, float]) -> int:
    return one[0].dts


def container_for(tracks: Sequence[StreamTrack]) -> str:
    """Return ffmpeg's name of the container in which it gets these tracks.

    Empty if it must get the stream's own bytes, since only these say how the picture is to be shown.
    """
    if any(one.matrix or one.pixel_aspect is not None for one in tracks):
        return ""
    return "flv" if all(map(has_legacy_tags, tracks)) else "matroska"

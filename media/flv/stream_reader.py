"""Divides FLV into chunks of packets for restarts of a decoder, without I/O.

Finds key frames, and changes that a decoder can't follow: of codecs, of configurations, or jumps in time.
"""

from __future__ import annotations

from collections.abc import Sequence

from media.flv.audio_video_tags import has_legacy_tags
from media.flv.demuxer import FlvDemuxer
from media.flv.tags import TAG_BYTES
from media.packets import Packet, StreamTrack, TrackKind
from media.steady_times import LONGEST_STEP, SteadyTimes
from media.stream_reader import CLOCK_RATE, StreamChunk

LATE = CLOCK_RATE
"""Clock ticks from the stream's beginning after which the first packet of a track is a change of tracks."""

_ORDER = (TrackKind.METADATA, TrackKind.VIDEO, TrackKind.AUDIO)


class PacketDivider:
    """Divides a stream's packets at its key frames; without video each audio packet is an access point."""

    def __init__(self) -> None:
        self._times = SteadyTimes()
        self._tracks: dict[TrackKind, StreamTrack] = {}
        self._seen_video = False
        self._time: int | None = None
        self._elapsed = 0
        self._jumped = False

    @property
    def signature(self) -> bytes:
        """The codecs and configurations of the tracks."""
        tracks = [self._tracks[kind] for kind in _ORDER[1:] if kind in self._tracks]
        return b"".join(track.codec.encode("latin-1") + (track.configuration or b"") for track in tracks)

    @property
    def fault(self) -> str:
        """The error of the stream's times, and how they are moved; empty while they are right."""
        return self._times.fault

    @property
    def muxed_container(self) -> str:
        """FLV, or Matroska for codecs of Enhanced RTMP, which old versions of ffmpeg don't read in FLV."""
        return "matroska" if self._is_enhanced else "flv"

    @property
    def _is_enhanced(self) -> bool:
        return not all(map(has_legacy_tags, self._tracks.values()))

    def push(self, packets: Sequence[Packet]) -> list[StreamChunk]:
        """Divide the next packets of a video and an audio track.

        Returns:
            Chunks of them, in order; packets between a jump in time and the next key frame are dropped.
        """
        found: list[StreamChunk] = []
        begin = 0
        video, audio, last = self._continuing()
        for index, packet in enumerate(packets):
            track, dts = packet.track, packet.dts
            goes_on = track is audio or (track is video and not packet.is_key)
            if goes_on and -LONGEST_STEP <= dts - last <= LONGEST_STEP:
                # Neither access point nor change, as most are.
                last = dts
                continue
            self._join(packets[begin:index], found)
            begin = index + 1
            for one in self._times.push(packet):
                self._push(one, found)
            video, audio, last = self._continuing()
        self._join(packets[begin:], found)
        return found

    def _continuing(self) -> tuple[StreamTrack | None, StreamTrack | None, int]:
        """Return the tracks whose packets may be no access points, and the newest packet's time."""
        if self._jumped or not self._seen_video or self._time is None or self._times.is_moving:
            return None, None, 0
        return self._tracks.get(TrackKind.VIDEO), self._tracks.get(TrackKind.AUDIO), self._time

    def _join(self, packets: Sequence[Packet], found: list[StreamChunk]) -> None:
        """Emit packets that aren't access points as one chunk: a chunk costs as much as ten of them."""
        if packets:
            time = packets[-1].dts
            self._times.note(packets)
            self._elapsed += 0 if self._time is None else time - self._time
            self._time = time
            found.append(StreamChunk.of_packets(packets, clock=self._elapsed))

    def _push(self, packet: Packet, found: list[StreamChunk]) -> None:
        track = packet.track
        former = self._tracks.get(track.kind)
        if track is not former:
            found.append(self._begin(former, packet))
        if not packet.data:
            return
        is_video = track.kind is TrackKind.VIDEO
        time = packet.dts
        if self._time is not None:
            if self._times.has_jumped:
                # With the first of the packets that were held until then.
                self._jumped, self._times.has_jumped = True, False
            else:
                self._elapsed += time - self._time
        self._time = time
        self._seen_video |= is_video
        access = packet.is_key if is_video else not self._seen_video
        if self._jumped:
            if not access:
                return
            self._jumped = False
            found.append(self._anew())
        found.append(StreamChunk.of_packets((packet,), access=access, clock=self._elapsed))

    def _begin(self, former: StreamTrack | None, packet: Packet) -> StreamChunk:
        """Begin a track, or continue one with another configuration."""
        track, was_enhanced = packet.track, self._is_enhanced
        self._tracks[track.kind] = track
        if former is not None and former.configuration is None and former.codec == track.codec:
            former = None
        announcement = _announcing([track], packet.dts, header=former is None)
        if track.kind is TrackKind.METADATA:
            return announcement
        # A running decoder doesn't know of audio that begins late, nor one of legacy tags of newer codecs.
        is_early = self._elapsed < LATE and (was_enhanced or self._time is None or not self._is_enhanced)
        return announcement if former is None and is_early else self._anew()

    def _anew(self) -> StreamChunk:
        """Return what a new decoder needs first: the announcements of all tracks."""
        tracks = [self._tracks[kind] for kind in _ORDER if kind in self._tracks]
        return _announcing(tracks, self._time or 0, header=True, changes=True)


def _announcing(
    tracks: Sequence[StreamTrack], time: int, *, header: bool, changes: bool = False
) -> StreamChunk:
    """Announce tracks; their configurations, which may be as large as metadata, count as media."""
    packets = [Packet(track, time, time, is_key=False, data=b"") for track in tracks]
    size = sum(len(track.configuration or b"") for track in tracks)
    return StreamChunk(header=header, changes=changes, packets=packets, packet_bytes=size)


class FlvReader:
    """Divides a stream in FLV at its key frames, without I/O."""

    def __init__(self, tag_bytes: int = TAG_BYTES) -> None:
        self._demuxer = FlvDemuxer(tag_bytes)
        self._divider = PacketDivider()

    @property
    def signature(self) -> bytes:
        """The codecs and configurations of the tracks."""
        return self._divider.signature

    @property
    def fault(self) -> str:
        """The part of the stream that is left out or moved, and why; empty where nothing is."""
        return self._demuxer.fault or self._divider.fault

    @property
    def muxed_container(self) -> str:
        """The container in which ffmpeg reads the stream; see ``PacketDivider``."""
        return self._divider.muxed_container

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Parse the next bytes; see ``FlvDemuxer`` and ``PacketDivider``.

        Raises:
            MalformedError: it isn't FLV.
            TooLargeError: a tag is too large.
        """
        chunks, events = self._divider.push(self._demuxer.receive_data(data)), self._demuxer.take_events()
        return [*chunks, StreamChunk.of_events(events)] if events else chunks

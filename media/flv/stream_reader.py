"""Divides FLV into chunks of packets for restarts of a decoder, without I/O.

Finds key frames, and changes that a decoder can't follow: of codecs, of configurations, or jumps in time.
"""

from __future__ import annotations

from collections.abc import Sequence

from media.flv.audio_video_tags import has_legacy_tags
from media.flv.demuxer import FlvDemuxer
from media.flv.tags import DEFAULT_LIMITS, FlvLimits
from media.packets import Packet, StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE, StreamChunk

LATE = CLOCK_RATE
"""Clock ticks from the stream's beginning after which the first packet of a track is a change of tracks."""

LONGEST_STEP = 3 * CLOCK_RATE
"""Ticks by which timestamps may advance, or go back due to interleaving, between packets."""

_ORDER = (TrackKind.METADATA, TrackKind.VIDEO, TrackKind.AUDIO)


ALIKE = 4
"""A step of a track's times that differs from the one before it by less than this share of it is none that
jumps: some cameras send a picture in some seconds.
"""

STRAY = "single pictures have times far from those before and behind them: they follow the one before"
"""The fault of a stream some of whose times are moved."""


def _apart(ticks: int) -> str:
    where = "ahead of" if ticks > 0 else "behind"
    return (
        f"its sound's times are {abs(ticks) / CLOCK_RATE:.1f} s {where} its picture's: it plays as it comes"
    )


class PacketDivider:
    """Divides a stream's packets at its key frames; without video each audio packet is an access point.

    Attributes:
        fault: the error of the stream's times, and how they are moved; empty while they are right.
    """

    def __init__(self) -> None:
        self.fault = ""
        # By kind: the newest packet's time and its step from the one before, as the publisher sent them; a
        # picture whose time strays; and what is added to the sound's times.
        self._newest: dict[TrackKind, int] = {}
        self._steps: dict[TrackKind, int] = {}
        self._held: Packet | None = None
        self._offset = 0
        # Whether the newest picture came as long behind the one before as that behind its own.
        self._is_usual = False
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
            for one in self._steadied(packet):
                self._push(one, found)
            video, audio, last = self._continuing()
        self._join(packets[begin:], found)
        return found

    def _continuing(self) -> tuple[StreamTrack | None, StreamTrack | None, int]:
        """Return the tracks whose packets may be no access points, and the newest packet's time."""
        if self._jumped or not self._seen_video or self._time is None or self._offset or self._held:
            return None, None, 0
        return self._tracks.get(TrackKind.VIDEO), self._tracks.get(TrackKind.AUDIO), self._time

    def _join(self, packets: Sequence[Packet], found: list[StreamChunk]) -> None:
        """Emit packets that aren't access points as one chunk: a chunk costs as much as ten of them."""
        if packets:
            time = packets[-1].dts
            for packet in packets:
                self._note(packet.track.kind, packet.dts)
            self._elapsed += 0 if self._time is None else time - self._time
            self._time = time
            found.append(StreamChunk.of_packets(packets, clock=self._elapsed))

    def _note(self, kind: TrackKind, time: int) -> None:
        """Note the time of a track's packet."""
        if (before := self._newest.get(kind)) is not None and time != before:
            self._steps[kind] = time - before
        self._is_usual = before is not None and abs(time - before) > LONGEST_STEP
        self._newest[kind] = time

    def _steadied(self, packet: Packet) -> Sequence[Packet]:
        """Return the packets that can go on, with the times at which they are played.

        A picture that strays is held until the next one shows whether the clock has jumped.
        """
        kind, own = packet.track.kind, self._newest.get(packet.track.kind)
        if not packet.data:
            return (packet,)
        held: tuple[Packet, ...] = ()
        if self._held is not None and (kind is TrackKind.VIDEO or not self._goes_on(packet)):
            held, self._held = (self._held,), None
        if self._goes_on(packet):
            if held and own is not None:
                time = own + (packet.dts - own) // 2
                held = (held[0]._replace(dts=time, pts=time + held[0].pts - held[0].dts),)
                self.fault = STRAY
            elif own is None:
                self._join_clocks(kind, packet.dts)
            self._note(kind, packet.dts)
            return (*held, self._moved(packet))
        if kind is TrackKind.VIDEO and not packet.is_key and not held:
            self._held = packet
            return ()
        # The stream's clock has jumped, with all of its tracks.
        if own is not None:
            self._steps[kind] = packet.dts - own
        self._newest, self._is_usual = {kind: packet.dts}, False
        self._offset = 0
        return (*held, packet)

    def _goes_on(self, packet: Packet) -> bool:
        """Return whether the time of a track's packet follows the one before."""
        own, usual = self._newest.get(packet.track.kind), self._steps.get(packet.track.kind, 0)
        if own is None or _is_near(packet.dts - own):
            return True
        return abs(packet.dts - own - usual) * ALIKE < usual

    def _join_clocks(self, kind: TrackKind, time: int) -> None:
        """Move the sound to the picture where one of them begins with a time that is far from the other's."""
        other = TrackKind.AUDIO if kind is TrackKind.VIDEO else TrackKind.VIDEO
        if (known := self._newest.get(other)) is None or _is_near(time - known):
            return
        apart = time - known if kind is TrackKind.AUDIO else known - time
        self._offset, self.fault = -apart, _apart(apart)

    def _moved(self, packet: Packet) -> Packet:
        if not self._offset or packet.track.kind is not TrackKind.AUDIO:
            return packet
        return packet._replace(dts=packet.dts + self._offset, pts=packet.pts + self._offset)

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
            step = time - self._time
            if _is_near(step) or (is_video and self._is_usual):
                self._elapsed += step
            else:
                self._jumped = True
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


def _is_near(step: int) -> bool:
    return -LONGEST_STEP <= step <= LONGEST_STEP


def _announcing(
    tracks: Sequence[StreamTrack], time: int, *, header: bool, changes: bool = False
) -> StreamChunk:
    """Announce tracks; their configurations, which may be as large as metadata, count as media."""
    packets = [Packet(track, time, time, is_key=False, data=b"") for track in tracks]
    size = sum(len(track.configuration or b"") for track in tracks)
    return StreamChunk(header=header, changes=changes, packets=packets, packet_bytes=size)


class FlvReader:
    """Divides a stream in FLV at its key frames, without I/O."""

    def __init__(self, limits: FlvLimits = DEFAULT_LIMITS) -> None:
        self._demuxer = FlvDemuxer(limits)
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
        return self._divider.push(self._demuxer.receive_data(data))

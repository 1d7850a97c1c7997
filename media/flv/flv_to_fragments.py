"""Rewrites FLV as fragmented MP4: an init segment and fragments for each of the two tracks.

H.264, HEVC, AV1 or VP9, and AAC, Opus, FLAC, AC-3 or E-AC-3, in legacy tags and in those of Enhanced RTMP; of
several tracks the first. Nothing is decoded: frames and timestamps stay as the publisher sent them. Sync
samples are the publisher's key frames; frames of HEVC, AV1 and VP9 are checked for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from media.errors import MalformedError, UnsupportedError
from media.flv.audio_video_tags import Packet, PacketKind, has_enhanced_header, read_packets
from media.flv.mp4_tracks import (
    WITHOUT_CONFIGURATION,
    PictureCoder,
    SoundCoder,
    begin_picture,
    begin_sound,
    check_copied,
    picture_facts,
    picture_track,
    sound_track,
)
from media.flv.tags import (
    AAC,
    AUDIO,
    AVC,
    CODED,
    DEFAULT_LIMITS,
    FILE_HEADER,
    KEY_FRAME,
    SEQUENCE_HEADER,
    SIZE_BEHIND,
    TICKS,
    VIDEO,
    FlvLimits,
    Tag,
    complete_tags,
)
from media.matroska.sample_entries import codec_facts
from media.mp4.audio_specific_config import core_frames
from media.mp4.fragments import Fragment, InitSegment
from media.mp4.sequence_parameters import avc_parameters
from media.mp4.track_fragmenter import FragmentTrack
from media.stream_reader import CLOCK_RATE, without_front

_COMMAND = 5
_HALF = 1 << 31
"""Half the range of timestamps, which wrap at 2^32."""

_AVC_HEADER, _AAC_HEADER = 5, 2
"""Bytes in front of a frame (§E.4.3.1, §E.4.2.1)."""

_SECOND = 10**9
"""Nanoseconds of a second."""


class FlvToFragments:
    """Rewrites one FLV stream as fragmented MP4, without I/O.

    Attributes:
        frame_samples: audio samples in each frame of AAC; 0 before its configuration.
        told_frame_rate: pictures per second by the video's configuration; None if it doesn't say.
    """

    def __init__(self, limits: FlvLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._is_at_start = True
        # By the kind of tag: all tracks that have begun, and those of H.264 and AAC, which have legacy tags.
        self._tracks: dict[int, FragmentTrack] = {}
        self._older: dict[int, FragmentTrack] = {}
        # Conversion of the other codecs' frames to samples.
        self._picture_coder: PictureCoder | None = None
        self._sound_coder: SoundCoder | None = None
        # By the kind of tag.
        self._configurations: dict[int, Packet] = {}
        # Output before the tracks' newest samples: init segments, and the last samples of replaced tracks.
        self._begun: list[InitSegment | Fragment] = []
        self._last: int | None = None
        self._time = 0
        self.frame_samples = 0
        self.told_frame_rate: Fraction | None = None

    def receive_data(self, data: bytes) -> list[InitSegment | Fragment]:
        """Parse the next bytes.

        Returns:
            What they complete: init segments, and a fragment for each track that has new samples. Times count
            from the stream's own zero, and may be below it.

        Raises:
            MalformedError: it isn't FLV, its times go back, or its configurations say something impossible.
            UnsupportedError: it has another codec.
        """
        self._buffer += data
        # Tags of megabytes are copied once.
        with memoryview(self._buffer) as view:
            position = self._tags(view)
        self._buffer = without_front(self._buffer, position)
        return self._pull_fragments()

    def receive_tags(self, tags: Iterable[Tag]) -> list[InitSegment | Fragment]:
        """Parse the next tags, as ``receive_data`` does; they follow the file's header and complete tags."""
        for kind, time, body in tags:
            if body and kind == VIDEO:
                self._advance(time)
                self._picture(body, 0, len(body))
            elif body and kind == AUDIO:
                self._advance(time)
                self._sound(body, 0, len(body))
        return self._pull_fragments()

    def _pull_fragments(self) -> list[InitSegment | Fragment]:
        begun, self._begun = self._begun, []
        fragments = [track.pull() for track in self._tracks.values()]
        return [*begun, *filter(None, fragments)]

    def _tags(self, view: memoryview) -> int:
        """Parse the complete tags; return the offset behind them."""
        position = 0
        if self._is_at_start:
            if len(view) < FILE_HEADER:
                return 0
            if bytes(view[:3]) != b"FLV":
                raise MalformedError("no FLV header")
            self._is_at_start, position = False, FILE_HEADER
        for kind, time, body, end in complete_tags(view, position, self._limits):
            position = end + SIZE_BEHIND
            if end > body and kind == VIDEO:
                self._advance(time)
                self._picture(view, body, end)
            elif end > body and kind == AUDIO:
                self._advance(time)
                self._sound(view, body, end)
        return position

    def _advance(self, timestamp: int) -> None:
        """Unwrap the stream's time in milliseconds, which is written modulo 2^32."""
        if self._last is None:
            self._time = self._last = timestamp
        step = timestamp - self._last
        if not -_HALF <= step < _HALF:
            step = (step + _HALF) % (2 * _HALF) - _HALF
        self._time += step
        self._last = timestamp

    def _picture(self, view: bytes | memoryview, body: int, end: int) -> None:
        """Push the packet of a video tag, whose body is at these offsets."""
        first, data = view[body], body + _AVC_HEADER
        if first >> 4 == _COMMAND:
            return
        if first & 0x8F != AVC:
            if not has_enhanced_header(VIDEO, first):
                raise UnsupportedError("legacy FLV video that isn't H.264")
            self._enhanced(VIDEO, bytes(view[body:end]))
            return
        if end < data:
            raise MalformedError("an FLV tag that is cut off")
        kind = view[body + 1]
        if kind == SEQUENCE_HEADER:
            self._configure(VIDEO, Packet(PacketKind.CONFIGURATION, "avc1", bytes(view[data:end])))
        track = self._older.get(VIDEO)
        if kind != CODED or track is None or end == data:
            return
        time = TICKS * self._time
        # Of three bytes, the first one signed.
        composition = ((view[body + 2] ^ 0x80) - 0x80) << 16 | view[body + 3] << 8 | view[body + 4]
        shown = time + TICKS * composition
        track.add_picture(time, shown, bytes(view[data:end]), is_sync=first >> 4 == KEY_FRAME)

    def _sound(self, view: bytes | memoryview, body: int, end: int) -> None:
        """Push the packet of an audio tag, whose body is at these offsets."""
        data = body + _AAC_HEADER
        if view[body] >> 4 != AAC:
            if not has_enhanced_header(AUDIO, view[body]):
                raise UnsupportedError("legacy FLV audio that isn't AAC")
            self._enhanced(AUDIO, bytes(view[body:end]))
            return
        if end < data:
            raise MalformedError("an FLV tag that is cut off")
        kind = view[body + 1]
        if kind == SEQUENCE_HEADER:
            self._configure(AUDIO, Packet(PacketKind.CONFIGURATION, "mp4a", bytes(view[data:end])))
        track = self._older.get(AUDIO)
        if kind != CODED or track is None or end == data:
            return
        time = self._time * track.timescale // 1000
        track.add_sound(time, self.frame_samples, bytes(view[data:end]))

    def _enhanced(self, kind: int, body: bytes) -> None:
        """Push the packets of a tag whose header is that of Enhanced RTMP."""
        for packet in read_packets(kind, body):
            if packet.track or packet.kind is PacketKind.OTHER:
                continue
            check_copied(kind, packet.codec)
            if packet.kind is PacketKind.CONFIGURATION:
                self._configure(kind, packet)
            elif packet.data and self._is_configured(kind, packet.codec):
                if kind == VIDEO:
                    self._enhanced_picture(packet)
                else:
                    self._enhanced_sound(packet)

    def _is_configured(self, kind: int, codec: str) -> bool:
        """Return whether a track is configured for a codec; frames before their configuration are dropped."""
        configuration = self._configurations.get(kind)
        if configuration is not None and configuration.codec == codec:
            return True
        if codec in WITHOUT_CONFIGURATION:
            self._configure(kind, Packet(PacketKind.CONFIGURATION, codec))
        return codec in WITHOUT_CONFIGURATION

    def _enhanced_picture(self, packet: Packet) -> None:
        time = TICKS * self._time + packet.nanoseconds * CLOCK_RATE // _SECOND
        shown = time + TICKS * packet.composition_time
        track, data, is_sync = self._older.get(VIDEO), packet.data, packet.is_key
        if track is None:
            coder = self._picture_coder
            if coder is None:
                if not is_sync:
                    return
                coder = self._picture_coder = begin_picture(self._configurations[VIDEO], data)
            is_sync = is_sync and coder.can_begin(data)
            if VIDEO not in self._tracks:
                if not is_sync:
                    return
                self._begin(VIDEO, coder.track)
            track, data = coder.track, coder.as_sample(data)
        if data:
            track.add_picture(time, shown, data, is_sync=is_sync)

    def _enhanced_sound(self, packet: Packet) -> None:
        track, lasts = self._older.get(AUDIO), self.frame_samples
        if track is None:
            coder = self._sound_coder
            if coder is None:
                coder = self._sound_coder = begin_sound(self._configurations[AUDIO], packet.data)
                self._begin(AUDIO, coder.track)
            track, lasts = coder.track, coder.samples(packet.data)
        time = (self._time * (_SECOND // 1000) + packet.nanoseconds) * track.timescale // _SECOND
        track.add_sound(time, lasts, packet.data)

    def _configure(self, kind: int, configuration: Packet) -> None:
        """Apply a decoder configuration; repeated ones are ignored."""
        known = self._configurations.get(kind)
        if known is not None and known.told == configuration.told:
            return
        self._configurations[kind] = configuration
        former = self._tracks.pop(kind, None)
        self._older.pop(kind, None)
        if former is not None and (rest := former.pull()) is not None:
            self._begun.append(rest)
        if kind == VIDEO:
            self._picture_coder = self.told_frame_rate = None
        else:
            self._sound_coder = None
        if configuration.codec == "avc1":
            self._older[kind] = self._begin(kind, self._avc(configuration.data))
        elif configuration.codec == "mp4a":
            self._older[kind] = self._begin(kind, self._aac(configuration.data))

    def _begin(self, kind: int, track: FragmentTrack) -> FragmentTrack:
        self._tracks[kind] = track
        self._begun.append(track.init)
        return track

    def _avc(self, configuration: bytes) -> FragmentTrack:
        # ISO/IEC 14496-15 §5.3.3.1: the first sequence parameter set, behind its length.
        size = int.from_bytes(configuration[6:8], "big")
        if len(configuration) < 8 + size or size < 4 or not configuration[5] & 31:
            raise MalformedError("avcC without a sequence parameter set")
        told = avc_parameters(configuration[8 : 8 + size])
        self.told_frame_rate = told.frame_rate
        facts = picture_facts("V_MPEG4/ISO/AVC", configuration, told.size, told.pixel_aspect)
        return picture_track(codec_facts(facts, b"", 0.0).sample_entry, told.size, told.pixel_aspect)

    def _aac(self, configuration: bytes) -> FragmentTrack:
        rate, self.frame_samples = core_frames(configuration)
        if not configuration or not 0 < rate < 1 << 24:
            raise MalformedError("AAC without a sample rate")
        return sound_track("A_AAC", configuration, b"", rate, 2)

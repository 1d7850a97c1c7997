"""Writes packets as fragmented MP4: an init segment and fragments for each of the two tracks.

H.264, HEVC, AV1 or VP9, and AAC, Opus, FLAC, AC-3 or E-AC-3. Nothing is decoded: frames and timestamps stay
as the publisher sent them. Sync samples are the publisher's key frames; frames of HEVC, AV1 and VP9 are
checked for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

from media.errors import MalformedError
from media.matroska.sample_entries import codec_facts
from media.mp4.codecs.audio_specific_config import core_frames
from media.mp4.codecs.sequence_parameters import avc_parameters
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.mp4.fragments.track_fragmenter import FragmentTrack
from media.muxers.fragment_tracks import (
    PictureCoder,
    SoundCoder,
    begin_picture,
    begin_sound,
    check_copied,
    picture_facts,
    picture_track,
    sound_track,
)
from media.packets import Packet, StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE


class FragmentMuxer:
    """Writes one stream as fragmented MP4, without I/O."""

    def __init__(self) -> None:
        self._picture: _PictureWriter | None = None
        self._sound: _SoundWriter | None = None
        # The written tracks that have begun, by kind.
        self._tracks: dict[TrackKind, FragmentTrack] = {}
        # Output before the tracks' newest samples: init segments, and the last samples of replaced tracks.
        self._begun: list[InitSegment | Fragment] = []

    @property
    def told_frame_rate(self) -> Fraction | None:
        """Pictures per second by the video's configuration; None if it doesn't say."""
        return None if self._picture is None else self._picture.told_frame_rate

    @property
    def has_picture(self) -> bool:
        """Whether a picture has come, which is written once the next one shows how long it lasts."""
        return self._picture is not None and self._picture.has_frame

    @property
    def sources(self) -> tuple[StreamTrack, ...]:
        """The tracks of the stream that are written, as far as they have come."""
        return tuple(one.source for one in (self._picture, self._sound) if one is not None)

    def push(self, packets: Iterable[Packet]) -> list[InitSegment | Fragment]:
        """Write the next packets.

        Returns:
            What they complete: init segments, and a fragment for each track that has new samples. Times count
            from the stream's own zero, and may be below it.

        Raises:
            MalformedError: the times go back, or the configurations say something impossible.
            UnsupportedError: the codec can't be copied.
        """
        picture, sound = self._picture, self._sound
        for packet in packets:
            track = packet[0]
            if picture is not None and track is picture.source:
                picture.add(packet)
            elif sound is not None and track is sound.source:
                sound.add(packet)
            elif track.kind is not TrackKind.METADATA:
                self._configure(track).add(packet)
                picture, sound = self._picture, self._sound
        begun, self._begun = self._begun, []
        fragments = [track.pull() for track in self._tracks.values()]
        return [*begun, *filter(None, fragments)]

    def finish(self) -> list[InitSegment | Fragment]:
        """Write the last sample of each track, at the end of the stream."""
        return [*self.push(()), *filter(None, (track.finish() for track in self._tracks.values()))]

    def _configure(self, source: StreamTrack) -> _PictureWriter | _SoundWriter:
        """Begin to write a track, which may take the place of another one."""
        check_copied(source)
        former = self._tracks.pop(source.kind, None)
        if former is not None and (rest := former.pull()) is not None:
            self._begun.append(rest)
        if source.kind is TrackKind.VIDEO:
            self._picture = _PictureWriter(source, self._begin)
            return self._picture
        self._sound = _SoundWriter(source, self._begin)
        return self._sound

    def _begin(self, kind: TrackKind, track: FragmentTrack) -> FragmentTrack:
        self._tracks[kind] = track
        self._begun.append(track.init)
        return track


_Begin = Callable[[TrackKind, FragmentTrack], FragmentTrack]


class _PictureWriter:
    """Writes a video track of the stream, ``source``."""

    def __init__(self, source: StreamTrack, begin: _Begin) -> None:
        self.source = source
        self.told_frame_rate: Fraction | None = None
        self.has_frame = False
        self._begin = begin
        self._track: FragmentTrack | None = None
        # Converts the frames of other codecs than H.264.
        self._coder: PictureCoder | None = None
        self._is_avc = source.codec == "avc1"
        if self._is_avc and source.configuration is not None:
            self._track = begin(source.kind, self._avc(source.configuration))

    def add(self, packet: Packet) -> None:
        """Add a frame; frames before the first key frame and the configuration are dropped."""
        _, time, shown, is_key, data = packet
        if data and not self._is_avc:
            is_key, data = self._converted(data, is_key=is_key)
        if self._track is not None and data:
            self.has_frame = True
            self._track.add_picture(time, shown, data, is_sync=is_key)

    def _converted(self, data: bytes, *, is_key: bool) -> tuple[bool, bytes]:
        coder = self._coder
        if coder is None:
            if not is_key or self.source.configuration is None:
                return False, b""
            coder = self._coder = begin_picture(self.source, data)
        is_key = is_key and coder.can_begin(data)
        if self._track is None:
            if not is_key:
                return False, b""
            self._track = self._begin(self.source.kind, coder.track)
        return is_key, coder.as_sample(data)

    def _avc(self, configuration: bytes) -> FragmentTrack:
        # ISO/IEC 14496-15 §5.3.3.1: the first sequence parameter set, behind its length.
        size = int.from_bytes(configuration[6:8], "big")
        if len(configuration) < 8 + size or size < 4 or not configuration[5] & 31:
            raise MalformedError("avcC without a sequence parameter set")
        told = avc_parameters(configuration[8 : 8 + size])
        self.told_frame_rate = told.frame_rate
        aspect = self.source.pixel_aspect or told.pixel_aspect
        facts = picture_facts("V_MPEG4/ISO/AVC", configuration, told.size, aspect)
        entry = codec_facts(facts, b"", 0.0).sample_entry
        return picture_track(entry, told.size, aspect, self.source.matrix)


class _SoundWriter:
    """Writes an audio track of the stream, ``source``."""

    def __init__(self, source: StreamTrack, begin: _Begin) -> None:
        self.source = source
        self._begin = begin
        self._track: FragmentTrack | None = None
        # Ticks of each frame of AAC, and what counts those of other codecs.
        self._lasts = 0
        self._coder: SoundCoder | None = None
        if source.codec == "mp4a" and source.configuration is not None:
            self._track = begin(source.kind, self._aac(source.configuration))

    def add(self, packet: Packet) -> None:
        """Add a frame; frames before their configuration are dropped."""
        track, data = self._track, packet[4]
        if track is None:
            if self.source.configuration is None or not data:
                return
            self._coder = begin_sound(self.source, data)
            track = self._track = self._begin(self.source.kind, self._coder.track)
        if data:
            lasts = self._lasts if self._coder is None else self._coder.samples(data)
            track.add_sound(packet[1] * track.timescale // CLOCK_RATE, lasts, data)

    def _aac(self, configuration: bytes) -> FragmentTrack:
        rate, self._lasts = core_frames(configuration)
        if not configuration or not 0 < rate < 1 << 24:
            raise MalformedError("AAC without a sample rate")
        return sound_track("A_AAC", configuration, b"", rate, self.source.channels)

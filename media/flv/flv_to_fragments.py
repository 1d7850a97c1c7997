"""Rewrites FLV's H.264 and AAC as fragmented MP4: an init segment and fragments for each of the two tracks.

Nothing is decoded: the frames go out byte for byte, with the times that the publisher gave them.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from media.errors import MalformedError, UnsupportedError
from media.flv.tags import (
    AAC,
    AUDIO,
    AVC,
    CODED,
    FILE_HEADER,
    KEY_FRAME,
    MAX_TAG,
    SEQUENCE_HEADER,
    SIZE_BEHIND,
    TAG_HEADER,
    TICKS,
    VIDEO,
    Tag,
    read_tag_header,
)
from media.matroska.sample_entries import codec_facts
from media.matroska.tracks import AUDIO as SOUND_TRACK
from media.matroska.tracks import VIDEO as PICTURE_TRACK
from media.matroska.tracks import MatroskaTrack
from media.mp4.fragment_track import FragmentTrack, begin_track
from media.mp4.fragments import Fragment, InitSegment
from media.mp4.sequence_parameters import avc_parameters
from media.stream_reader import CLOCK_RATE, without_front

TRACKS = {VIDEO: 1, AUDIO: 2}
"""Track IDs, by the kind of tag."""

_COMMAND = 5
_HALF = 1 << 31
"""Timestamps are written modulo twice that."""

_AVC_HEADER, _AAC_HEADER = 5, 2
"""Bytes in front of a frame (§E.4.3.1, §E.4.2.1)."""


class FlvToFragments:
    """Rewrites one FLV stream as fragmented MP4, without I/O.

    Attributes:
        frame_samples: how many samples of sound each frame of AAC has; 0 before its configuration.
        told_frame_rate: pictures per second, as their configuration tells it; None where it doesn't.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_at_start = True
        self._tracks: dict[int, FragmentTrack] = {}
        self._configurations: dict[int, bytes] = {}
        # What comes before the tracks' newest samples: their init segments, and the end of what they replace.
        self._begun: list[InitSegment | Fragment] = []
        self._last: int | None = None
        self._time = 0
        self.frame_samples = 0
        self.told_frame_rate: Fraction | None = None

    def receive_data(self, data: bytes) -> list[InitSegment | Fragment]:
        """Take the next bytes.

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
        return self._take()

    def receive_tags(self, tags: Iterable[Tag]) -> list[InitSegment | Fragment]:
        """Take the next tags, behind the file's header and between two others; the rest is the same."""
        for kind, time, body in tags:
            if body and kind == VIDEO:
                self._advance(time)
                self._picture(body, 0, len(body))
            elif body and kind == AUDIO:
                self._advance(time)
                self._sound(body, 0, len(body))
        return self._take()

    def _take(self) -> list[InitSegment | Fragment]:
        begun, self._begun = self._begun, []
        fragments = [track.take() for track in self._tracks.values()]
        return [*begun, *filter(None, fragments)]

    def _tags(self, view: memoryview) -> int:
        """Take the complete tags; return the offset behind them."""
        position = 0
        if self._is_at_start:
            if len(view) < FILE_HEADER:
                return 0
            if bytes(view[:3]) != b"FLV":
                raise MalformedError("no FLV header")
            self._is_at_start, position = False, FILE_HEADER
        while len(view) - position >= TAG_HEADER:
            kind, size, time = read_tag_header(view, position)
            if size > MAX_TAG:
                raise MalformedError(f"a tag of {size} bytes")
            body = position + TAG_HEADER
            position = body + size + SIZE_BEHIND
            if len(view) < position:
                return body - TAG_HEADER
            if size and kind == VIDEO:
                self._advance(time)
                self._picture(view, body, body + size)
            elif size and kind == AUDIO:
                self._advance(time)
                self._sound(view, body, body + size)
        return position

    def _advance(self, timestamp: int) -> None:
        """Follow the stream's time in milliseconds, which is written modulo 2^32."""
        if self._last is None:
            self._time = self._last = timestamp
        step = timestamp - self._last
        if not -_HALF <= step < _HALF:
            step = (step + _HALF) % (2 * _HALF) - _HALF
        self._time += step
        self._last = timestamp

    def _picture(self, view: bytes | memoryview, body: int, end: int) -> None:
        """Take the body of a tag, which is at these offsets."""
        first, data = view[body], body + _AVC_HEADER
        if first >> 4 == _COMMAND:
            return
        if first & 0x8F != AVC:
            raise UnsupportedError("video that isn't H.264")
        if end < data:
            raise MalformedError("an FLV tag that ends too early")
        kind = view[body + 1]
        if kind == SEQUENCE_HEADER:
            self._configure(VIDEO, bytes(view[data:end]))
        track = self._tracks.get(VIDEO)
        if kind != CODED or track is None or end == data:
            return
        time = TICKS * self._time
        # Of three bytes, the first one signed.
        composition = ((view[body + 2] ^ 0x80) - 0x80) << 16 | view[body + 3] << 8 | view[body + 4]
        shown = time + TICKS * composition
        track.add_picture(time, shown, bytes(view[data:end]), is_sync=first >> 4 == KEY_FRAME)

    def _sound(self, view: bytes | memoryview, body: int, end: int) -> None:
        """Take the body of a tag, which is at these offsets."""
        data = body + _AAC_HEADER
        if view[body] >> 4 != AAC:
            raise UnsupportedError("sound that isn't AAC")
        if end < data:
            raise MalformedError("an FLV tag that ends too early")
        kind = view[body + 1]
        if kind == SEQUENCE_HEADER:
            self._configure(AUDIO, bytes(view[data:end]))
        track = self._tracks.get(AUDIO)
        if kind != CODED or track is None or end == data:
            return
        time = self._time * track.timescale // 1000
        track.add_sound(time, self.frame_samples, bytes(view[data:end]))

    def _configure(self, kind: int, configuration: bytes) -> None:
        """Take a decoder's configuration; one that is repeated says nothing."""
        if self._configurations.get(kind) == configuration:
            return
        self._configurations[kind] = configuration
        former = self._tracks.get(kind)
        if former is not None and (rest := former.take()) is not None:
            self._begun.append(rest)
        track = self._tracks[kind] = (self._video if kind == VIDEO else self._audio)(configuration)
        self._begun.append(track.init)

    def _video(self, configuration: bytes) -> FragmentTrack:
        # ISO/IEC 14496-15 §5.3.3.1: the first sequence parameter set, behind its length.
        size = int.from_bytes(configuration[6:8], "big")
        if len(configuration) < 8 + size or size < 4 or not configuration[5] & 31:
            raise MalformedError("avcC without a sequence parameter set")
        told = avc_parameters(configuration[8 : 8 + size])
        self.told_frame_rate = told.frame_rate
        (width, height), (across, down) = told.size, told.pixel_aspect
        entry = codec_facts(
            MatroskaTrack(
                TRACKS[VIDEO],
                PICTURE_TRACK,
                "V_MPEG4/ISO/AVC",
                configuration,
                pixels=told.size,
                display=(width * across, height * down),
            ),
            b"",
            0.0,
        ).sample_entry
        shown = Fraction(width * across, down), Fraction(height)
        return begin_track(TRACKS[VIDEO], b"vide", CLOCK_RATE, entry, shown)

    def _audio(self, configuration: bytes) -> FragmentTrack:
        track = MatroskaTrack(TRACKS[AUDIO], SOUND_TRACK, "A_AAC", configuration, channels=2)
        facts = codec_facts(track, b"", 0.0)
        if not configuration or not 0 < facts.rate < 1 << 24:
            raise MalformedError("AAC of no rate")
        self.frame_samples = facts.frame_samples
        return begin_track(TRACKS[AUDIO], b"soun", facts.rate, facts.sample_entry)

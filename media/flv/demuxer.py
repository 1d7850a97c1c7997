"""Demuxes FLV (Adobe's FLV file format, version 10.1, and Enhanced RTMP v2) into packets, without I/O.

The tags of RTMP are those of FLV. OBS's multitrack video and ffmpeg send the first video and audio track in
tags without a number, and each further track in tags with its number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from media.errors import MalformedError, MediaError, TooLargeError
from media.flv.amf0 import read_values
from media.flv.audio_video_tags import FlvPacket, PacketKind, has_enhanced_header, read_packets
from media.flv.tags import (
    AAC,
    AUDIO,
    AVC,
    CODED,
    CUES,
    FILE_HEADER,
    KEY_FRAME,
    ON_METADATA,
    SCRIPT,
    SIZE_BEHIND,
    TAG_BYTES,
    TICKS,
    VIDEO,
    Tag,
    complete_tags,
)
from media.packets import (
    EVENT_BYTES,
    EVENTS_KEPT,
    EventKind,
    Packet,
    StreamEvent,
    StreamTrack,
    TrackKind,
    packet_of,
)
from media.stream_reader import CLOCK_RATE, without_front

FURTHER_CODECS = frozenset({"avc1", "hvc1", "av01", "vp09"})
"""Codecs of video tracks beside the main one; others are dropped."""

_CONFIGURED = FURTHER_CODECS | {"vvc1", "mp4a", "Opus", "fLaC"}
"""Codecs whose frames can't be decoded without their configuration."""

NO_CONFIGURATION = "its sound comes without the sequence header that decoders need: it is left out"
"""The fault of a stream whose sound can't be decoded (FLV 10.1 §E.4.2.1)."""

_KINDS = {VIDEO: TrackKind.VIDEO, AUDIO: TrackKind.AUDIO}
_AAC_FRAME = bytes((AAC << 4 | 0x0F, CODED))
_AVC_KEY_FRAME = KEY_FRAME << 4 | AVC
_AVC_FRAMES = frozenset({_AVC_KEY_FRAME, 2 << 4 | AVC})
"""First bytes of legacy tags with a key frame, or another frame, of H.264 (§E.4.3.1)."""

_AVC_HEADER, _AAC_HEADER = 5, 2
"""Bytes in front of a frame (§E.4.3.1, §E.4.2.1)."""

_HALF = 1 << 31
"""Half the range of timestamps in milliseconds (FLV 10.1 §E.4.1)."""

_WRAPPED = 2 * _HALF
"""Milliseconds from one wrap to the next."""

_SECOND = 10**9
"""Nanoseconds of a second."""


def accept_all(_track: StreamTrack) -> None:
    """Accept any track of a stream."""


class FlvDemuxer:
    """Demuxes one stream: its main video and audio track, its metadata, and further video tracks.

    Args:
        check_track: raises MediaError for a main track that isn't taken.
        further_video_tracks: most video tracks beside the main one; others are dropped.

    Attributes:
        fault: why a track is left out; empty where none is.
    """

    def __init__(
        self,
        tag_bytes: int = TAG_BYTES,
        *,
        check_track: Callable[[StreamTrack], None] = accept_all,
        further_video_tracks: int = 0,
    ) -> None:
        self._tag_bytes = tag_bytes
        self._check_track = check_track
        self._most_further = further_video_tracks
        self._buffer = bytearray()
        self._is_at_start = True
        self.fault = ""
        self._tracks: dict[tuple[int, int], StreamTrack] = {}
        # The decoder-relevant part of each track's configuration, and the main tracks of legacy tags.
        self._told: dict[tuple[int, int], bytes] = {}
        self._avc: StreamTrack | None = None
        self._aac: StreamTrack | None = None
        self._metadata: tuple[tuple[int, int], float] = (0, 0), 0.0
        self._further: dict[int, list[Packet]] = {}
        self._events = deque[StreamEvent](maxlen=EVENTS_KEPT)
        # The newest timestamp, and its time in ticks.
        self._clock: tuple[int, int] | None = None

    def receive_data(self, data: bytes) -> list[Packet]:
        """Parse the next bytes, which begin with FLV's header; return the packets of main tracks.

        Raises:
            MalformedError: it isn't FLV.
            TooLargeError: a tag is too large, or has too many tracks.
            MediaError: a track isn't taken.
        """
        self._buffer += data
        tags, position = list[Tag](), 0
        # Tags of megabytes are copied once.
        with memoryview(self._buffer) as view:
            if self._is_at_start and len(view) >= FILE_HEADER:
                if bytes(view[:3]) != b"FLV":
                    raise MalformedError("no FLV header")
                self._is_at_start, position = False, FILE_HEADER
            complete = () if self._is_at_start else complete_tags(view, position, self._tag_bytes)
            try:
                for kind, time, body, end in complete:
                    tags.append((kind, time, bytes(view[body:end])))
                    position = end + SIZE_BEHIND
            except TooLargeError:
                # An error in an earlier tag comes first, however the bytes are cut.
                self.receive_tags(tags)
                raise
        self._buffer = without_front(self._buffer, position)
        return self.receive_tags(tags)

    def receive_tags(self, tags: Sequence[Tag]) -> list[Packet]:
        """Parse the next tags, as ``receive_data`` does the bytes of tags."""
        found = list[Packet]()
        if not tags:
            return found
        append = found.append
        # Time is written in milliseconds modulo 2^32.
        last, time = self._clock or (tags[0][1], TICKS * tags[0][1])
        avc, aac = self._avc, self._aac
        for kind, timestamp, body in tags:
            step = timestamp - last
            if not -_HALF <= step < _HALF:
                step += _WRAPPED if step < 0 else -_WRAPPED
            time += TICKS * step
            last = timestamp
            # Most tags are frames of H.264 and AAC.
            if kind == VIDEO:
                if avc and len(body) > _AVC_HEADER and body[0] in _AVC_FRAMES and body[1] == CODED:
                    # Of three bytes, the first one signed.
                    composition = ((body[2] ^ 0x80) - 0x80) << 16 | body[3] << 8 | body[4]
                    shown = time + TICKS * composition
                    append(packet_of((avc, time, shown, body[0] == _AVC_KEY_FRAME, body[_AVC_HEADER:])))
                    continue
            elif aac and kind == AUDIO and body[:_AAC_HEADER] == _AAC_FRAME and len(body) > _AAC_HEADER:
                append(packet_of((aac, time, time, True, body[_AAC_HEADER:])))
                continue
            self._tag(kind, time, body, found)
            avc, aac = self._avc, self._aac
        self._clock = last, time
        return found

    def take_further_video_tracks(self) -> dict[int, list[Packet]]:
        """Return the new packets of further video tracks by track number, once."""
        further, self._further = self._further, {}
        return further

    def take_events(self) -> Sequence[StreamEvent]:
        """Return the cue points that have come, once."""
        events = tuple(self._events)
        self._events.clear()
        return events

    def _tag(self, kind: int, time: int, body: bytes, found: list[Packet]) -> None:
        """Parse a tag of any kind, and append the packets of main tracks."""
        if kind == SCRIPT:
            if body.startswith(ON_METADATA):
                self._metadata = _video_metadata(body)
                track = StreamTrack(TrackKind.METADATA, "onMetaData", body)
                found.append(Packet(track, time, time, is_key=False, data=b""))
            elif body.startswith(CUES) and len(body) <= EVENT_BYTES:
                self._events.append(StreamEvent(EventKind.CUE, time, body))
            return
        if kind not in _KINDS:
            return
        for part in read_packets(kind, body):
            if part.kind is PacketKind.OTHER or (part.track and not self._is_taken(kind, part)):
                continue
            packet = self._packet(kind, time, part, body)
            if packet is not None and part.track:
                self._further.setdefault(part.track, []).append(packet)
            elif packet is not None:
                found.append(packet)

    def _is_taken(self, kind: int, part: FlvPacket) -> bool:
        """Return whether a packet of another track than the first is taken."""
        if kind != VIDEO or part.codec not in FURTHER_CODECS:
            return False
        known = (kind, part.track) in self._tracks
        return known or sum(number > 0 for _, number in self._tracks) < self._most_further

    def _packet(self, kind: int, time: int, part: FlvPacket, body: bytes) -> Packet | None:
        """Return a frame or the announcement of a track; None if it says nothing new or can't be decoded."""
        place = kind, part.track
        track = self._tracks.get(place)
        if part.kind is PacketKind.CONFIGURATION:
            if not part.data and part.codec in _CONFIGURED:
                # Encoders send an empty one in front of the first, or again in mid-stream.
                return None
            if kind == AUDIO and not part.track:
                self.fault = ""
            if track is not None and self._told.get(place) == part.told:
                return None
            self._told[place] = part.told
            track = self._begin(place, part.codec, part.data)
            return Packet(track, time, time, is_key=False, data=b"")
        configuration = None if part.codec in _CONFIGURED else b""
        if configuration is not None and not has_enhanced_header(kind, body[0]):
            # Legacy tags of older codecs say more of them in their first byte.
            configuration = bytes((body[0] & 0x0F if kind == VIDEO else body[0],))
        if not part.data:
            return None
        if kind == AUDIO and configuration is None and (track is None or track.codec != part.codec):
            self.fault = NO_CONFIGURATION
            return None
        if (
            track is None
            or track.codec != part.codec
            or (configuration and track.configuration != configuration)
        ):
            if track is not None and track.configuration is not None and configuration is None:
                return None
            self._told.pop(place, None)
            track = self._begin(place, part.codec, configuration)
        dts = time + part.nanoseconds * CLOCK_RATE // _SECOND
        return Packet(track, dts, dts + TICKS * part.composition_time, part.is_key, part.data)

    def _begin(self, place: tuple[int, int], codec: str, configuration: bytes | None) -> StreamTrack:
        kind, number = place
        pixels, frame_rate = self._metadata if kind == VIDEO and not number else ((0, 0), 0.0)
        track = StreamTrack(_KINDS[kind], codec, configuration, number, pixels=pixels, frame_rate=frame_rate)
        if not number:
            self._check_track(track)
            if kind == VIDEO:
                self._avc = track if codec == "avc1" and configuration else None
            else:
                self._aac = track if codec == "mp4a" and configuration else None
        self._tracks[place] = track
        return track


def _video_metadata(body: bytes) -> tuple[tuple[int, int], float]:
    """Read size and frame rate of the video in ``onMetaData``; zero if it doesn't say them."""
    try:
        values = read_values(body)
    except MediaError:
        # Metadata are only a hint.
        return (0, 0), 0.0
    told = values[1] if len(values) > 1 else None
    if not isinstance(told, dict):
        return (0, 0), 0.0
    width, height, rate = (
        value if isinstance(value := told.get(name), float) and 0 < value < most else 0.0
        for name, most in (("width", 1 << 16), ("height", 1 << 16), ("framerate", 1001))
    )
    pixels = int(width), int(height)
    return pixels if all(pixels) else (0, 0), rate if rate >= 1 else 0.0

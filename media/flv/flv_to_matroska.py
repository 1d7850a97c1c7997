"""Rewrites FLV of Enhanced RTMP as Matroska, for versions of ffmpeg that can't read it as FLV.

HEVC, AV1, VP9, Opus, FLAC, AC-3 and Enhanced AC-3, beside H.264, AAC and MP3; the first video and the first
audio track.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from media.errors import MalformedError, MediaError, UnsupportedError
from media.flv.amf0 import AmfLimits, read_values
from media.flv.audio_video_tags import Packet, PacketKind, read_packets
from media.flv.tags import AUDIO, FILE_HEADER, SCRIPT, SIZE_BEHIND, VIDEO, FlvLimits, complete_tags
from media.flv.tags import DEFAULT_LIMITS as FLV_LIMITS
from media.matroska.live_writer import LiveBlockWriter, LiveTrack, write_head
from media.mp4.audio_specific_config import audio_specific_config
from media.stream_reader import without_front

VIDEO_CODECS = {
    "avc1": "V_MPEG4/ISO/AVC",
    "hvc1": "V_MPEGH/ISO/HEVC",
    "av01": "V_AV1",
    "vp09": "V_VP9",
}
_TRACKS = {VIDEO: 1, AUDIO: 2}
_WRAP = 1 << 32
_EARLIEST = 10_000
"""Milliseconds that are added to all times, so that none is negative if audio and video begin apart."""

_JUMP = 60_000
"""Milliseconds by which times advance instead of a larger jump back: readers notice it as a jump."""


HELD_MESSAGES, HELD_MILLISECONDS = 128, 1000
"""Messages and milliseconds of the stream that are held until all tracks are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemuxLimits:
    """Limits of the messages that are held until all tracks are known."""

    held_bytes: int = 8 << 20
    values: AmfLimits = field(default_factory=AmfLimits)


DEFAULT_LIMITS = RemuxLimits()


class FlvToMatroska:
    """Rewrites one FLV stream as Matroska, without I/O.

    Args:
        limits: of messages that are held back.
    """

    def __init__(self, limits: RemuxLimits = DEFAULT_LIMITS, tag_limits: FlvLimits = FLV_LIMITS) -> None:
        self._limits, self._tag_limits = limits, tag_limits
        self._buffer = bytearray()
        self._is_at_start = True
        self._metadata = _Metadata()
        self._configurations = dict[int, Packet]()
        self._tracks = dict[int, LiveTrack]()
        self._held: list[tuple[int, int, Packet]] | None = []
        self._held_bytes = 0
        self._described = dict[int, tuple[str, bytes, _Metadata]]()
        self._written: tuple[LiveTrack, ...] = ()
        self._blocks = LiveBlockWriter()
        self._times: tuple[int, int] | None = None

    def receive_data(self, data: bytes) -> bytes:
        """Rewrite the next bytes of the stream, which begin with FLV's header.

        Raises:
            MediaError: as for ``push``; or a track appears after the head was written.
        """
        self._buffer += data
        found, position = list[bytes](), 0
        with memoryview(self._buffer) as view:
            if self._is_at_start and len(view) >= FILE_HEADER:
                self._is_at_start, position = False, FILE_HEADER
            tags = () if self._is_at_start else complete_tags(view, position, self._tag_limits)
            for kind, time, body, end in tags:
                before = self._written
                found.append(self.push(kind, time, bytes(view[body:end])))
                if before and before != self._written:
                    raise UnsupportedError("its tracks change")
                position = end + SIZE_BEHIND
        self._buffer = without_front(self._buffer, position)
        return b"".join(found)

    def push(self, kind: int, timestamp: int, body: bytes) -> bytes:
        """Rewrite a tag.

        Args:
            timestamp: milliseconds, modulo 2^32.

        Returns:
            Bytes of Matroska; none while the tracks aren't known.

        Raises:
            MediaError: the codec isn't supported, or the tag is malformed.
        """
        if kind == SCRIPT:
            self._metadata = _read_metadata(body, self._limits.values) or self._metadata
        if kind not in _TRACKS:
            return b""
        time, found = self._unwrapped(timestamp), b""
        for packet in read_packets(kind, body):
            if packet.track == 0:
                found += self._packet(kind, time, packet)
        return found

    def _unwrapped(self, timestamp: int) -> int:
        """Return the unwrapped time since the first tag."""
        if self._times is None:
            self._times = timestamp, _EARLIEST
        last, time = self._times
        step = (timestamp - last + _WRAP // 2) % _WRAP - _WRAP // 2
        # If a publisher's clock starts again, times would stay below 0 for as long as it had published.
        self._times = timestamp, time + (step if time + step >= 0 else _JUMP)
        return self._times[1]

    def _packet(self, kind: int, time: int, packet: Packet) -> bytes:
        if packet.kind is PacketKind.CONFIGURATION:
            former = self._configurations.get(kind)
            if former is None or former.told != packet.told:
                self._configurations[kind] = packet
            return b""
        if packet.kind is PacketKind.OTHER or not packet.data:
            return b""
        track = self._track(kind, packet)
        if track is None:
            return b""
        self._tracks[kind] = track
        if self._held is None:
            return self._write(kind, time, packet)
        self._held.append((kind, time, packet))
        since = time - self._held[0][1]
        self._held_bytes += len(packet.data)
        limits = self._limits
        is_over = len(self._held) >= HELD_MESSAGES or since >= HELD_MILLISECONDS
        if len(self._tracks) < len(_TRACKS) and not is_over and self._held_bytes < limits.held_bytes:
            return b""
        held, self._held = self._held, None
        return b"".join(self._write(*one) for one in held)

    def _write(self, kind: int, time: int, packet: Packet) -> bytes:
        tracks, head = tuple(self._tracks[one] for one in _TRACKS if one in self._tracks), b""
        if tracks != self._written:
            self._written = tracks
            self._blocks.restart()
            head = write_head(tracks)
        moment = max(time + packet.composition_time, 0)
        return head + self._blocks.write(_TRACKS[kind], moment, packet.data, is_key=packet.is_key)

    def _track(self, kind: int, packet: Packet) -> LiveTrack | None:
        """Describe a packet's track; return None before its configuration."""
        configuration = self._configurations.get(kind)
        own = b""
        if configuration is not None and configuration.codec == packet.codec:
            own = configuration.data
        if kind in self._tracks and self._described[kind] == (packet.codec, own, self._metadata):
            return self._tracks[kind]
        self._described[kind] = packet.codec, own, self._metadata
        if kind == VIDEO:
            check_taken(kind, packet.codec)
            name = VIDEO_CODECS[packet.codec]
            if not own:
                return None
            # Matroska has no configuration of VP9.
            private, told = b"" if name == "V_VP9" else own, self._metadata
            return LiveTrack(_TRACKS[kind], name, private, told.pixels, told.frame_rate)
        check_taken(kind, packet.codec)
        return _AUDIO_CODECS[packet.codec](own, packet.data)


def check_taken(kind: int, codec: str, configuration: bytes = b"") -> None:
    """Check that a codec can be rewritten.

    Args:
        codec: FourCC, or a name if it has none.
        configuration: of the decoder; may be empty.

    Raises:
        UnsupportedError: the codec can't be rewritten.
        MalformedError: the configuration is invalid.
    """
    if kind == VIDEO:
        if codec not in VIDEO_CODECS:
            raise UnsupportedError(f"unsupported video codec {codec!r}")
    elif codec not in _AUDIO_CODECS:
        raise UnsupportedError(f"unsupported audio codec {codec!r}")
    elif configuration:
        _AUDIO_CODECS[codec](configuration, b"")


@dataclass(frozen=True, slots=True)
class _Metadata:
    """Video facts from a stream's metadata; zero if unknown."""

    pixels: tuple[int, int] = (0, 0)
    frame_rate: float = 0.0


def _read_metadata(body: bytes, limits: AmfLimits) -> _Metadata | None:
    """Read ``onMetaData``; None for other script data."""
    try:
        values = read_values(body, limits)
    except MediaError:
        # Metadata are only a hint.
        return None
    told = values[1] if len(values) > 1 and values[0] == "onMetaData" else None
    if not isinstance(told, dict):
        return None
    width, height, rate = (
        value if isinstance(value := told.get(name), float) and 0 < value < most else 0.0
        for name, most in (("width", 1 << 16), ("height", 1 << 16), ("framerate", 1001))
    )
    pixels = int(width), int(height)
    return _Metadata(pixels if all(pixels) else (0, 0), rate if rate >= 1 else 0.0)


def _aac(configuration: bytes, _frame: bytes) -> LiveTrack | None:
    if not configuration:
        return None
    told = audio_specific_config(configuration)
    rate, channels = told.sample_rate or 48_000, told.channels or 2
    return LiveTrack(2, "A_AAC", configuration, sample_rate=rate, channels=channels)


def _opus(configuration: bytes, _frame: bytes) -> LiveTrack | None:
    if not configuration:
        return None
    # RFC 7845 §5.1.
    if configuration[:8] != b"OpusHead" or len(configuration) < 19:
        raise MalformedError("Opus without its header")
    return LiveTrack(2, "A_OPUS", configuration, sample_rate=48_000, channels=configuration[9] or 2)


def _flac(configuration: bytes, _frame: bytes) -> LiveTrack | None:
    if not configuration:
        return None
    whole, rate, channels = flac_facts(configuration)
    return LiveTrack(2, "A_FLAC", whole, sample_rate=rate, channels=channels)


def flac_facts(configuration: bytes) -> tuple[bytes, int, int]:
    """Return FLAC's configuration as at the beginning of files, the sampling rate and the channels.

    Raises:
        MalformedError: the configuration has no valid STREAMINFO.
    """
    # RFC 9639 §8.2: STREAMINFO has 34 bytes, which ffmpeg sends alone.
    if len(configuration) == 34:
        configuration = b"fLaC\x80\0\0\x22" + configuration
    if configuration[:4] != b"fLaC" or len(configuration) < 42:
        raise MalformedError("FLAC without STREAMINFO")
    (packed,) = struct.unpack_from(">I", configuration, 18)
    rate, channels = packed >> 12, (packed >> 9 & 7) + 1
    if not rate:
        raise MalformedError("FLAC without a sample rate")
    return configuration, rate, channels


def _dolby(codec: str) -> Callable[[bytes, bytes], LiveTrack | None]:
    def describe(_configuration: bytes, frame: bytes) -> LiveTrack | None:
        # ETSI TS 102 366 §4.4.1.3, §E.1.3.1.4: both have the rate's code in the same place.
        code = frame[4] >> 6 if len(frame) > 4 else 0
        rate = (48_000, 44_100, 32_000, 48_000)[code]
        # The decoder finds the channels.
        return LiveTrack(2, codec, sample_rate=rate, channels=2)

    return describe


def _mp3(_configuration: bytes, frame: bytes) -> LiveTrack | None:
    rate = (44_100, 48_000, 32_000, 44_100)[frame[2] >> 2 & 3] if len(frame) > 2 else 44_100
    return LiveTrack(2, "A_MPEG/L3", sample_rate=rate, channels=2)


_AUDIO_CODECS: Mapping[str, Callable[[bytes, bytes], LiveTrack | None]] = {
    "mp4a": _aac,
    "Opus": _opus,
    "fLaC": _flac,
    "ac-3": _dolby("A_AC3"),
    "ec-3": _dolby("A_EAC3"),
    ".mp3": _mp3,
}

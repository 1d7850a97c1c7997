"""Writes packets as Matroska, for versions of ffmpeg that can't read their codecs in FLV.

HEVC, AV1, VP9, Opus, FLAC, AC-3 and Enhanced AC-3, beside H.264, AAC and MP3; the first video and the first
audio track.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping

from media.errors import MalformedError, UnsupportedError
from media.matroska.live_writer import LiveBlockWriter, LiveTrack, write_head
from media.matroska.tracks import FOUR_CCS
from media.mp4.codecs.audio_specific_config import audio_specific_config
from media.packets import Packet, StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE

VIDEO_CODECS = {four_cc: codec for codec, four_cc in FOUR_CCS.items() if codec.startswith("V_")}
_TRACKS = {TrackKind.VIDEO: 1, TrackKind.AUDIO: 2}
TICKS = CLOCK_RATE // 1000
"""Ticks of a millisecond."""

_EARLIEST = 10_000
"""Milliseconds that are added to all times, so that none is negative if audio and video begin apart."""

_JUMP = 60_000
"""Milliseconds by which times advance instead of a larger jump back: readers notice it as a jump."""


HELD_PACKETS, HELD_BYTES, HELD_MILLISECONDS = 128, 8 << 20, 1000
"""Packets, bytes and milliseconds of the stream that are held until all tracks are known."""


class MatroskaMuxer:
    """Writes one stream as Matroska, without I/O."""

    def __init__(self) -> None:
        # By kind: the track whose packets came last, and its description.
        self._tracks = dict[TrackKind, tuple[StreamTrack, LiveTrack]]()
        self._held: list[tuple[int, Packet]] | None = []
        self._held_bytes = 0
        self._written: tuple[LiveTrack, ...] = ()
        self._blocks = LiveBlockWriter()
        self._times: tuple[int, int] | None = None

    def push(self, packets: Iterable[Packet]) -> bytes:
        """Write the next packets.

        Returns:
            Bytes of Matroska; none while the tracks aren't known.

        Raises:
            MediaError: the codec isn't supported, a configuration is malformed, or a track appears or changes
                after the head was written.
        """
        return b"".join([self._push(packet) for packet in packets])

    def _push(self, packet: Packet) -> bytes:
        if not packet.data:
            # Of most codecs the announcement says all.
            if packet.track.kind is not TrackKind.METADATA:
                self._describe(packet)
            return b""
        time = self._elapsed(packet)
        if not self._describe(packet):
            return b""
        if self._held is None:
            return self._write(time, packet)
        self._held.append((time, packet))
        since = time - self._held[0][0]
        self._held_bytes += len(packet.data)
        is_over = len(self._held) >= HELD_PACKETS or since >= HELD_MILLISECONDS
        if len(self._tracks) < len(_TRACKS) and not is_over and self._held_bytes < HELD_BYTES:
            return b""
        held, self._held = self._held, None
        return b"".join(self._write(*one) for one in held)

    def _elapsed(self, packet: Packet) -> int:
        """Return the milliseconds since the first packet, which rise whatever the publisher's clock does."""
        told = packet.dts // TICKS
        if self._times is None:
            self._times = told, _EARLIEST
        last, time = self._times
        # If a publisher's clock starts again, times would stay below 0 for as long as it had published.
        self._times = told, time + (told - last if time + told - last >= 0 else _JUMP)
        return self._times[1]

    def _describe(self, packet: Packet) -> bool:
        """Describe a packet's track if it is new; return False if its configuration isn't known."""
        track = packet.track
        known = self._tracks.get(track.kind)
        if known is not None and known[0] is track:
            return True
        made = _live_track(track, packet.data)
        if made is not None:
            self._tracks[track.kind] = track, made
        return made is not None

    def _write(self, time: int, packet: Packet) -> bytes:
        tracks, head = tuple(self._tracks[one][1] for one in _TRACKS if one in self._tracks), b""
        if tracks != self._written:
            if self._written:
                raise UnsupportedError("its tracks change")
            self._written = tracks
            head = write_head(tracks)
        moment = max(time + (packet.pts - packet.dts) // TICKS, 0)
        number = _TRACKS[packet.track.kind]
        return head + self._blocks.write(number, moment, packet.data, is_key=packet.is_key)


def _live_track(track: StreamTrack, frame: bytes) -> LiveTrack | None:
    """Describe a track; return None before its configuration."""
    check_track(track)
    if track.kind is TrackKind.AUDIO:
        return _AUDIO_CODECS[track.codec](track.configuration or b"", frame)
    if not track.configuration:
        return None
    name = VIDEO_CODECS[track.codec]
    # Matroska has no configuration of VP9.
    private = b"" if name == "V_VP9" else track.configuration
    return LiveTrack(_TRACKS[track.kind], name, private, track.pixels, track.frame_rate)


def check_track(track: StreamTrack) -> None:
    """Check that a track can be written.

    Raises:
        UnsupportedError: the codec can't be written.
        MalformedError: the configuration is invalid.
    """
    if track.kind is TrackKind.VIDEO:
        if track.codec not in VIDEO_CODECS:
            raise UnsupportedError(f"unsupported video codec {track.codec!r}")
    elif track.codec not in _AUDIO_CODECS:
        raise UnsupportedError(f"unsupported audio codec {track.codec!r}")
    elif track.configuration:
        _AUDIO_CODECS[track.codec](track.configuration, b"")


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
        if not frame:
            return None
        # ETSI TS 102 366 §4.4.1.3, §E.1.3.1.4: both have the rate's code in the same place.
        code = frame[4] >> 6 if len(frame) > 4 else 0
        rate = (48_000, 44_100, 32_000, 48_000)[code]
        # The decoder finds the channels.
        return LiveTrack(2, codec, sample_rate=rate, channels=2)

    return describe


def _mpeg_audio(codec: str) -> Callable[[bytes, bytes], LiveTrack | None]:
    def describe(_configuration: bytes, frame: bytes) -> LiveTrack | None:
        if not frame:
            return None
        rate = (44_100, 48_000, 32_000, 44_100)[frame[2] >> 2 & 3] if len(frame) > 2 else 44_100
        # The decoder finds the channels.
        return LiveTrack(2, codec, sample_rate=rate, channels=2)

    return describe


_AUDIO_CODECS: Mapping[str, Callable[[bytes, bytes], LiveTrack | None]] = {
    "mp4a": _aac,
    "Opus": _opus,
    "fLaC": _flac,
    "ac-3": _dolby("A_AC3"),
    "ec-3": _dolby("A_EAC3"),
    ".mp3": _mpeg_audio("A_MPEG/L3"),
    **{codec: _mpeg_audio(codec) for codec in ("A_MPEG/L1", "A_MPEG/L2", "A_MPEG/L3")},
}

"""Reads the packets in FLV audio and video tags, both legacy (FLV 10.1) and Enhanced RTMP v2."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from media.errors import MalformedError, TooLargeError
from media.flv.tags import AUDIO, KEY_FRAME, VIDEO
from media.packets import StreamTrack, TrackKind

_VIDEO_CODECS = {2: "H.263", 3: "Screen Video", 4: "VP6", 5: "VP6", 6: "Screen Video", 7: "avc1"}
_AUDIO_CODECS = {
    0: "PCM", 1: "ADPCM", 2: ".mp3", 3: "PCM", 4: "Nellymoser", 5: "Nellymoser",
    6: "Nellymoser", 7: "G.711", 8: "G.711", 10: "mp4a", 11: "Speex", 14: ".mp3",
}  # fmt: skip
"""FLV 10.1 §E.4.2.1, §E.4.3.1; where Enhanced RTMP has a FourCC of the same codec, by that."""

_ENHANCED_VIDEO, _ENHANCED_AUDIO = 0x80, 9
_COMMAND = 5
_SEQUENCE_START, _CODED_FRAMES, _CODED_FRAMES_X, _METADATA = 0, 1, 3, 4
_MULTITRACK = {VIDEO: 6, AUDIO: 5}
_MODEX = 7
_NANOSECONDS = 0
_ONE_TRACK, _MANY_CODECS = 0, 2
_MOST_TRACKS = 32
_MOST_EXTENSIONS = 16
_STREAMINFO = 34
_LEGACY = frozenset({"avc1", "mp4a"})
_FOUR_CC = frozenset({"hvc1", "vvc1", "av01", "vp09", "Opus", "fLaC", "ac-3", "ec-3"})
_WITH_COMPOSITION_TIME = frozenset({"avc1", "hvc1", "vvc1"})


class PacketKind(enum.Enum):
    """The kinds of FLV packets."""

    CONFIGURATION = enum.auto()
    FRAMES = enum.auto()
    OTHER = enum.auto()
    """The end of a sequence, metadata, or a command to the player."""


@dataclass(frozen=True, slots=True)
class FlvPacket:
    """The part of an FLV audio or video tag for one track.

    Attributes:
        codec: FourCC, as Enhanced RTMP has it, or the name of an older codec.
        data: the configuration, or the frames.
        is_key: whether decoding can begin with it.
        composition_time: milliseconds from decoding to presentation.
        track: number of the track, 0 for the only one.
        nanoseconds: to be added to the time of the tag.
    """

    kind: PacketKind
    codec: str
    data: bytes = b""
    is_key: bool = False
    composition_time: int = 0
    track: int = 0
    nanoseconds: int = 0

    @property
    def told(self) -> bytes:
        """The decoder-relevant part of a configuration: a decoder continues while it is equal."""
        data = self.data
        if self.codec == "fLaC" and len(data) in (_STREAMINFO, 8 + _STREAMINFO):
            # RFC 9639 §8.2: number and digest of samples are filled in when ffmpeg sends it again at the end.
            info = data[0 if len(data) == _STREAMINFO else 8 :]
            data = info[:4] + info[10:13] + bytes((info[13] & 0xF0,))
        return self.codec.encode("latin-1") + data


def is_older(track: StreamTrack) -> bool:
    """Return whether a codec is older than FourCCs: its configuration is of legacy tags' first byte."""
    return len(track.configuration or b"") == 1 and track.codec not in _LEGACY | _FOUR_CC


def has_legacy_tags(track: StreamTrack) -> bool:
    """Return whether old readers of FLV know the codec of a track, or what its metadata are."""
    return track.kind is TrackKind.METADATA or track.codec in _LEGACY or is_older(track)


def has_enhanced_header(kind: int, first: int) -> bool:
    """Return whether a tag's header is that of Enhanced RTMP, by its first byte."""
    return bool(first & _ENHANCED_VIDEO) if kind == VIDEO else first >> 4 == _ENHANCED_AUDIO


def read_packets(kind: int, body: bytes) -> list[FlvPacket]:
    """Read a tag's body.

    Args:
        kind: ``AUDIO`` or ``VIDEO``.
        body: may be empty; it then has no packets.

    Raises:
        MalformedError: the body is cut off.
        TooLargeError: the tag has too many tracks or extensions.
    """
    if not body:
        return []
    reader = _BodyReader(body)
    first = reader.number(1)
    if kind == VIDEO:
        if has_enhanced_header(VIDEO, first):
            frame_type = first >> 4 & 7
            return list(_enhanced(reader, VIDEO, first & 0x0F, frame_type))
        return [_older_video(reader, first)]
    if has_enhanced_header(AUDIO, first):
        return list(_enhanced(reader, AUDIO, first & 0x0F, KEY_FRAME))
    return [_older_audio(reader, first)]


def _older_video(reader: _BodyReader, first: int) -> FlvPacket:
    codec, is_key = _VIDEO_CODECS.get(first & 0x0F, f"video {first & 0x0F}"), first >> 4 == KEY_FRAME
    if first >> 4 == _COMMAND:
        return FlvPacket(PacketKind.OTHER, codec)
    if codec != "avc1":
        return FlvPacket(PacketKind.FRAMES, codec, reader.rest(), is_key)
    kind, composition = reader.number(1), reader.signed()
    kinds = {0: PacketKind.CONFIGURATION, 1: PacketKind.FRAMES}
    return FlvPacket(kinds.get(kind, PacketKind.OTHER), codec, reader.rest(), is_key, composition)


def _older_audio(reader: _BodyReader, first: int) -> FlvPacket:
    codec = _AUDIO_CODECS.get(first >> 4, f"audio {first >> 4}")
    if codec != "mp4a":
        return FlvPacket(PacketKind.FRAMES, codec, reader.rest(), is_key=True)
    kind = PacketKind.FRAMES if reader.number(1) else PacketKind.CONFIGURATION
    return FlvPacket(kind, codec, reader.rest(), is_key=True)


def _enhanced(reader: _BodyReader, media: int, packet_type: int, frame_type: int) -> Iterator[FlvPacket]:
    """Yield the packets of a tag whose header is that of Enhanced RTMP."""
    nanoseconds = extensions = 0
    while packet_type == _MODEX:
        extensions += 1
        if extensions > _MOST_EXTENSIONS:
            raise TooLargeError(f"more than {_MOST_EXTENSIONS} extensions of a header")
        size = reader.number(1) + 1
        data = reader.read(reader.number(2) + 1 if size == 256 else size)
        following = reader.number(1)
        if following >> 4 == _NANOSECONDS and len(data) >= 3:
            nanoseconds = int.from_bytes(data[:3], "big")
        packet_type = following & 0x0F
    if media == VIDEO and frame_type == _COMMAND and packet_type != _METADATA:
        return
    tracks, codec = _ONE_TRACK, ""
    is_multitrack = packet_type == _MULTITRACK[media]
    if is_multitrack:
        types = reader.number(1)
        tracks, packet_type = types >> 4, types & 0x0F
    if tracks != _MANY_CODECS:
        codec = reader.codec()
    for _ in range(_MOST_TRACKS):
        track = 0
        own = reader
        if is_multitrack:
            codec = reader.codec() if tracks == _MANY_CODECS else codec
            track = reader.number(1)
            if tracks != _ONE_TRACK:
                own = _BodyReader(reader.read(reader.number(3)))
        yield _enhanced_packet(own, media, packet_type, codec, track, nanoseconds, frame_type == KEY_FRAME)
        if tracks == _ONE_TRACK or not reader.left:
            return
    raise TooLargeError(f"more than {_MOST_TRACKS} tracks")


def _enhanced_packet(
    reader: _BodyReader, media: int, packet_type: int, codec: str, track: int, nanoseconds: int, is_key: bool
) -> FlvPacket:
    kind, composition = PacketKind.OTHER, 0
    if packet_type == _SEQUENCE_START:
        kind = PacketKind.CONFIGURATION
    elif packet_type == _CODED_FRAMES or (media == VIDEO and packet_type == _CODED_FRAMES_X):
        kind = PacketKind.FRAMES
        if packet_type == _CODED_FRAMES and codec in _WITH_COMPOSITION_TIME:
            composition = reader.signed()
    return FlvPacket(kind, codec, reader.rest(), is_key, composition, track, nanoseconds)


class _BodyReader:
    """Reads fields one behind the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._place

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise MalformedError("an FLV tag that is cut off")
        start, self._place = self._place, self._place + size
        return self._data[start : self._place]

    def number(self, size: int) -> int:
        return int.from_bytes(self.read(size), "big")

    def signed(self) -> int:
        return int.from_bytes(self.read(3), "big", signed=True)

    def codec(self) -> str:
        return self.read(4).decode("latin-1")

    def rest(self) -> bytes:
        return self.read(self.left)

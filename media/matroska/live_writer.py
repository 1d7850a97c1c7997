"""Writes live Matroska (RFC 9559): a head, and clusters of unknown size with one block behind the other."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from media.matroska import element_ids as ids
from media.matroska.blocks import DEFAULT_SCALE
from media.matroska.ebml import UNKNOWN_SIZE_BYTES
from media.matroska.tracks import AUDIO, SUBTITLES, VIDEO

_CLUSTER_HEAD = ids.CLUSTER.to_bytes(4, "big") + UNKNOWN_SIZE_BYTES
_FARTHEST = 30_000
"""Milliseconds from a cluster's time to a block's; it has 16 bits with a sign."""

_KEY_FRAME = 0x80


@dataclass(frozen=True, slots=True)
class LiveTrack:
    """A track that is written.

    Attributes:
        number: from 1 to 126.
        private: the codec's configuration; empty for none.
        pixels: width and height of video; zero where they aren't known.
        frame_rate: frames per second of video; 0 where it isn't known.
        sample_rate: of sound, in hertz; 0 for video.
    """

    number: int
    codec: str
    private: bytes = b""
    pixels: tuple[int, int] = (0, 0)
    frame_rate: float = 0.0
    sample_rate: int = 0
    channels: int = 0


def write_head(tracks: Sequence[LiveTrack]) -> bytes:
    """Write the header before the first cluster; times are in milliseconds."""
    ebml = _elements(
        (ids.EBML_VERSION, b"\1"),
        (ids.EBML_READ_VERSION, b"\1"),
        (ids.EBML_MAX_ID_LENGTH, b"\4"),
        (ids.EBML_MAX_SIZE_LENGTH, b"\x08"),
        (ids.DOC_TYPE, b"matroska"),
        (ids.DOC_TYPE_VERSION, b"\4"),
        (ids.DOC_TYPE_READ_VERSION, b"\2"),
    )
    info = _elements(
        (ids.TIMESTAMP_SCALE, DEFAULT_SCALE.to_bytes(4, "big")),
        (ids.MUXING_APP, b"Headwater"),
        (ids.WRITING_APP, b"Headwater"),
    )
    segment = ids.SEGMENT.to_bytes(4, "big") + UNKNOWN_SIZE_BYTES
    described = _elements((ids.INFO, info), (ids.TRACKS, b"".join(map(_track, tracks))))
    return element(ids.EBML, ebml) + segment + described


def element(kind: int, payload: bytes) -> bytes:
    """Write an element with a size of eight bytes (RFC 8794 §4.4)."""
    name = kind.to_bytes((kind.bit_length() + 7) // 8, "big")
    return name + (1 << 56 | len(payload)).to_bytes(8, "big") + payload


def _elements(*parts: tuple[int, bytes]) -> bytes:
    """Write elements of these IDs and payloads, one behind the other."""
    return b"".join([element(kind, payload) for kind, payload in parts])


def _track(track: LiveTrack) -> bytes:
    number, video_or_sound = bytes((track.number,)), AUDIO if track.sample_rate else VIDEO
    kind = SUBTITLES if track.codec.startswith("S_") else video_or_sound
    body = _elements(
        (ids.TRACK_NUMBER, number),
        (ids.TRACK_UID, number),
        (ids.TRACK_TYPE, bytes((kind,))),
        # §5.1.4.1.12: no frame refers to those of another block, as laced ones would.
        (ids.FLAG_LACING, b"\0"),
        (ids.CODEC_ID, track.codec.encode()),
    )
    if track.private:
        body += element(ids.CODEC_PRIVATE, track.private)
    if kind == SUBTITLES:
        return element(ids.TRACK_ENTRY, body)
    if track.sample_rate:
        rate = struct.pack(">d", track.sample_rate)
        sound = _elements((ids.SAMPLING_FREQUENCY, rate), (ids.CHANNELS, bytes((track.channels,))))
        return element(ids.TRACK_ENTRY, body + element(ids.AUDIO, sound))
    if track.frame_rate:
        body += element(ids.DEFAULT_DURATION, round(1e9 / track.frame_rate).to_bytes(8, "big"))
    width, height = (length.to_bytes(4, "big") for length in track.pixels)
    video = _elements((ids.PIXEL_WIDTH, width), (ids.PIXEL_HEIGHT, height))
    return element(ids.TRACK_ENTRY, body + element(ids.VIDEO, video))


class LiveBlockWriter:
    """Writes blocks, and starts clusters where they are needed."""

    def __init__(self) -> None:
        self._cluster: int | None = None

    def write(self, track: int, time: int, data: bytes, *, is_key: bool) -> bytes:
        """Write a frame.

        Args:
            time: milliseconds at which it is presented, not negative.
            is_key: whether decoding can begin with it.
        """
        begin = b""
        if self._cluster is None or abs(time - self._cluster) > _FARTHEST:
            self._cluster = time
            begin = _CLUSTER_HEAD + element(ids.TIMESTAMP, time.to_bytes(8, "big"))
        head = bytes((0x80 | track,)) + (time - self._cluster).to_bytes(2, "big", signed=True)
        return begin + element(ids.SIMPLE_BLOCK, head + bytes((_KEY_FRAME * is_key,)) + data)

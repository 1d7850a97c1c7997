"""Writes live Matroska (RFC 9559): a head, and clusters of unknown size with one block behind the other."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from media.matroska.blocks import CLUSTER, EBML, INFO, SEGMENT, TRACKS
from media.matroska.stream import SIMPLE_BLOCK, TIMESTAMP

_UNKNOWN = b"\x01" + b"\xff" * 7
_FARTHEST = 30_000
"""Milliseconds from a cluster's time to a block's; it has 16 bits with a sign."""

_KEY_FRAME = 0x80


@dataclass(frozen=True, slots=True)
class LiveTrack:
    """A track that is written.

    Attributes:
        number: from 1 to 126.
        codec: its codec ID.
        private: the codec's configuration; empty for none.
        pixels: width and height of video; zero where they aren't known.
        frame_rate: frames per second of video; 0 where it isn't known.
        sample_rate: of sound, in hertz; 0 for video.
        channels: of sound.
    """

    number: int
    codec: str
    private: bytes = b""
    pixels: tuple[int, int] = (0, 0)
    frame_rate: float = 0.0
    sample_rate: int = 0
    channels: int = 0


def write_head(tracks: Sequence[LiveTrack]) -> bytes:
    """Write what stands before the first cluster; times are in milliseconds."""
    ebml = element(0x4286, b"\1") + element(0x42F7, b"\1") + element(0x42F2, b"\4") + element(0x42F3, b"\x08")
    ebml += element(0x4282, b"matroska") + element(0x4287, b"\4") + element(0x4285, b"\2")
    info = element(0x2AD7B1, (1_000_000).to_bytes(4, "big"))
    info += element(0x4D80, b"Headwater") + element(0x5741, b"Headwater")
    segment = SEGMENT.to_bytes(4, "big") + _UNKNOWN
    return (
        element(EBML, ebml) + segment + element(INFO, info) + element(TRACKS, b"".join(map(_track, tracks)))
    )


def element(kind: int, payload: bytes) -> bytes:
    """Write an element with a size of eight bytes (RFC 8794 §4.4)."""
    name = kind.to_bytes((kind.bit_length() + 7) // 8, "big")
    return name + (1 << 56 | len(payload)).to_bytes(8, "big") + payload


def _track(track: LiveTrack) -> bytes:
    number = bytes((track.number,))
    body = (
        element(0xD7, number) + element(0x73C5, number) + element(0x83, b"\2" if track.sample_rate else b"\1")
    )
    # §5.1.4.1.12: no frame refers to those of another block, as laced ones would.
    body += element(0x9C, b"\0") + element(0x86, track.codec.encode())
    if track.private:
        body += element(0x63A2, track.private)
    if track.sample_rate:
        sound = element(0xB5, struct.pack(">d", track.sample_rate)) + element(0x9F, bytes((track.channels,)))
        return element(0xAE, body + element(0xE1, sound))
    if track.frame_rate:
        body += element(0x23E383, round(1e9 / track.frame_rate).to_bytes(8, "big"))
    width, height = (length.to_bytes(4, "big") for length in track.pixels)
    return element(0xAE, body + element(0xE0, element(0xB0, width) + element(0xBA, height)))


class LiveBlockWriter:
    """Writes blocks, and begins clusters where they are needed."""

    def __init__(self) -> None:
        self._cluster: int | None = None

    def restart(self) -> None:
        """Begin a cluster with the next block, as a head stands before it."""
        self._cluster = None

    def write(self, track: int, time: int, data: bytes, *, is_key: bool) -> bytes:
        """Write a frame.

        Args:
            track: number of its track.
            time: milliseconds at which it is presented, not negative.
            data: the frame.
            is_key: whether decoding can begin with it.
        """
        begin = b""
        if self._cluster is None or abs(time - self._cluster) > _FARTHEST:
            self._cluster = time
            begin = CLUSTER.to_bytes(4, "big") + _UNKNOWN + element(TIMESTAMP, time.to_bytes(8, "big"))
        head = bytes((0x80 | track,)) + (time - self._cluster).to_bytes(2, "big", signed=True)
        return begin + element(SIMPLE_BLOCK, head + bytes((_KEY_FRAME * is_key,)) + data)

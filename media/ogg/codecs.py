"""Codecs in Ogg films: which track their headers describe, and how long each packet lasts.

Theora I §6.2 and §A.2.3, Vorbis I §4.2 and §A.2, RFC 7845 (Opus), RFC 9639 §10.1 (FLAC), and VP8 as ffmpeg
and libvpx write it. Of old OGM files it is the picture, beside Vorbis.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError, UnsupportedError
from media.matroska.frame_headers import flac_samples, opus_samples
from media.matroska.tracks import AUDIO, VIDEO, MatroskaTrack
from media.mp4.codecs.decodable_entry import codec_of_fourcc
from media.ogg.vorbis_blocks import read_blocks

OPUS_RATE = 48_000
HIGHEST_RATE = 1 << 24
"""Bound of sampling rates in Hz."""

HIGHEST_FRAME_RATE = 1000
"""Most frames a second."""

OGM_TICKS = 10_000_000
"""OGM's units of time in a second."""


@dataclass(frozen=True, slots=True)
class OggCodec:
    """The codec of a stream, by its headers.

    Attributes:
        track: without its number.
        rate: positions in a second.
        duration: returns how many positions a packet lasts, by its first bytes; MalformedError if they are
            no packet of the codec.
        position: returns the position behind the last packet of a page, by its granule position.
        is_key: returns whether decoding can begin with a packet, by its first bytes.
        skipped: returns the number of bytes before a packet's media, by its first bytes.
        begin: position at which the presentation begins.
    """

    track: MatroskaTrack
    rate: Fraction
    duration: Callable[[bytes], int]
    position: Callable[[int], int] = lambda granule: granule
    is_key: Callable[[bytes], bool] = lambda _: True
    skipped: Callable[[bytes], int] = lambda _: 0
    begin: int = 0


@dataclass(frozen=True, slots=True)
class OggMapping:
    """The way in which a codec's streams begin.

    Attributes:
        magic: first bytes of the stream.
        kind: the type of its track, as in Matroska.
        is_header: returns whether a packet is a header, by its number in the stream and its first byte.
        read: reads the headers; MediaError where they are damaged or the codec isn't known to be decoded.
    """

    magic: bytes
    kind: int
    is_header: Callable[[int, int], bool]
    read: Callable[[Sequence[bytes]], OggCodec]


def _theora(headers: Sequence[bytes]) -> OggCodec:
    first = _checked(headers, 3, 42)[0]
    rate = _frame_rate(*struct.unpack_from(">II", first, 22))
    width, height, across, down = (int.from_bytes(first[at : at + 3], "big") for at in (14, 17, 30, 33))
    shift = int.from_bytes(first[40:42], "big") >> 5 & 31
    # §A.2.3: up to version 3.2.0 the first frame has the number 0.
    before = int(first[7:10] < b"\x03\x02\x01")

    def position(granule: int) -> int:
        return (granule >> shift) + (granule & ((1 << shift) - 1)) + before

    track = MatroskaTrack(
        *(0, VIDEO, "V_THEORA", xiph_laced(headers[:3])),
        pixels=(width, height),
        display=(width * across, height * down),
    )
    return OggCodec(track, rate, lambda _: 1, position, lambda head: not head[0] & 0x40)


def _vp8(headers: Sequence[bytes]) -> OggCodec:
    first = _checked(headers, 1, 26)[0]
    rate = _frame_rate(*struct.unpack_from(">II", first, 18))
    width, height = struct.unpack_from(">HH", first, 8)
    display = width * int.from_bytes(first[12:15], "big"), height * int.from_bytes(first[15:18], "big")
    track = MatroskaTrack(0, VIDEO, "V_VP8", pixels=(width, height), display=display)
    # RFC 6386 §9.1: a frame may not be shown, and then has no number.
    return OggCodec(
        *(track, rate, lambda head: head[0] >> 4 & 1),
        lambda granule: granule >> 32,
        lambda head: not head[0] & 1,
    )


def _vorbis(headers: Sequence[bytes]) -> OggCodec:
    first = _checked(headers, 3, 30)[0]
    blocks = read_blocks(first, headers[2])
    channels, rate = struct.unpack_from("<BI", first, 11)
    before = 0

    def duration(head: bytes) -> int:
        # §4.3.8: half of a block and half of the former one overlap; nothing is heard of the first.
        nonlocal before
        former, before = before, blocks.size(head[0])
        return (former + before) // 4 if former else 0

    track = _sound("A_VORBIS", xiph_laced(headers[:3]), rate, channels)
    return OggCodec(track, Fraction(rate), duration)


def _opus(headers: Sequence[bytes]) -> OggCodec:
    head = _checked(headers, 1, 19)[0]
    track = _sound("A_OPUS", head, OPUS_RATE, head[9])
    return OggCodec(track, Fraction(OPUS_RATE), opus_samples, begin=int.from_bytes(head[10:12], "little"))


def _flac(headers: Sequence[bytes]) -> OggCodec:
    described = _checked(headers, 1, 51)[0][9:51]
    info = described[8:]
    rate = int.from_bytes(info[10:13], "big") >> 4
    track = _sound("A_FLAC", described, rate, (info[12] >> 1 & 7) + 1)
    return OggCodec(track, Fraction(rate), flac_samples)


def _ogm_picture(headers: Sequence[bytes]) -> OggCodec:
    """Read the header of an OGM picture, whose packets have a byte of flags and bytes of their duration."""
    first = _checked(headers, 1, 53)[0]
    fourcc, (unit,), size = (
        first[9:13],
        struct.unpack_from("<q", first, 17),
        struct.unpack_from("<II", first, 45),
    )
    if codec_of_fourcc(fourcc) is None:
        raise UnsupportedError(f"codec {fourcc.decode('latin-1')!r} isn't one that can be packaged")
    if max(size) >= 1 << 16:
        raise MalformedError(f"a picture of {size[0]} by {size[1]} pixels")

    def skipped(head: bytes) -> int:
        return 1 + (head[0] >> 6 | (head[0] & 2) << 1)

    def duration(head: bytes) -> int:
        return int.from_bytes(head[1 : skipped(head)], "little") or 1

    private = struct.pack("<IIIHH4s20x", 40, *size, 1, 24, fourcc)
    track = MatroskaTrack(0, VIDEO, "V_MS/VFW/FOURCC", private, pixels=size)
    rate = _frame_rate(OGM_TICKS, unit)
    return OggCodec(
        *(track, rate, duration, lambda granule: granule + 1, lambda head: bool(head[0] & 8), skipped)
    )


MAPPINGS = (
    OggMapping(b"\x80theora", VIDEO, lambda _, first: first >= 0x80, _theora),
    OggMapping(b"\x01vorbis", AUDIO, lambda _, first: bool(first & 1), _vorbis),
    OggMapping(b"OpusHead", AUDIO, lambda number, _: number < 2, _opus),
    OggMapping(b"\x7fFLAC", AUDIO, lambda _, first: first != 0xFF, _flac),
    OggMapping(b"OVP80\x01", VIDEO, lambda number, _: number < 2, _vp8),
    OggMapping(b"\x01video\0\0\0", VIDEO, lambda _, first: bool(first & 1), _ogm_picture),
)


def xiph_laced(packets: Sequence[bytes]) -> bytes:
    """Join header packets as Matroska has them: their number, and all sizes but the last one's."""
    sizes = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets[:-1])
    return bytes([len(packets) - 1]) + sizes + b"".join(packets)


def _checked(headers: Sequence[bytes], count: int, length: int) -> Sequence[bytes]:
    if len(headers) < count or len(headers[0]) < length:
        raise MalformedError("headers that are missing or cut off")
    return headers


def _sound(codec: str, private: bytes, rate: int, channels: int) -> MatroskaTrack:
    if not 0 < rate < HIGHEST_RATE or not channels:
        raise MalformedError(f"sound of {rate} Hz with {channels} channels")
    return MatroskaTrack(0, AUDIO, codec, private, sample_rate=float(rate), channels=channels)


def _frame_rate(frames: int, ticks: int) -> Fraction:
    if not frames or ticks <= 0 or frames > HIGHEST_FRAME_RATE * ticks:
        raise MalformedError(f"{frames} pictures in {ticks} seconds")
    return Fraction(frames, ticks)

"""Sample entries of codecs that aren't packaged, but that ffmpeg decodes when it reads them from MP4.

Such an entry is written into an init segment as it is, which only an encoder's input has.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.boxes import header, walk
from media.mp4.codecs.colour import colour_of_box
from media.mp4.codecs.sample_entry import (
    OTHER_CODECS,
    QUICKTIME_EXTRA,
    SOUND_HEADER,
    VIDEO_HEADER,
    SampleEntry,
    payload_of,
    version_2_format,
)

_BITS = {b"raw ": 0, b"twos": 0, b"sowt": 0, b"in24": 24, b"in32": 32, b"fl32": 32, b"fl64": 64}
_BITS |= {b"alaw": 8, b"ulaw": 8}
"""Bits of a PCM sample by the type of the sample entry; 0 where the entry has a field for them."""

RIFF_KINDS = (b"ms", b"TS")
"""The first two bytes of types of sound whose other two are a format tag of RIFF (QuickTime File Format)."""

WAVPACK_ENTRY = b"msWV"
"""The type of WavPack's sample entry, by WAVE's format tag, which ffmpeg doesn't know in MP4."""

FOURCCS: Mapping[str, str] = {
    "MPEG-4 Part 2 video": "XVID DIVX DX50 MP4V FMP4 3IV2 3IVX M4S2 MP4S RMP4 SEDG UMP4 WV1F XVIX DXGM BLZ0",
    "MPEG-4 of Microsoft": "DIV3 DIV4 DIV5 DIV6 MP43 MPG3 AP41 COL0 COL1 DVX3 MP42 DIV2 MPG4 MP41 DIV1",
    "Windows Media Video": "WMV1 WMV2 WMV3 WMVA WVC1 WMVP",
    "H.264": "H264 X264 AVC1 DAVC VSSH",
    "JPEG pictures": "MJPG AVRN JPGL DMB1 AVDJ",
    "MPEG-2 video": "MPG2 MPEG HDV1 HDV2 EM2V DVR ",
    "MPEG-1 video": "MPG1 PIM1",
    "VP6": "VP60 VP61 VP62 VP6F",
    "VP8": "VP80",
    "Sorenson Spark": "FLV1",
    "H.263": "H263 U263 S263",
    "Indeo": "IV31 IV32 IV41 IV50",
    "Cinepak": "CVID",
    "DV": "DVSD DV25 DV50 DVIS",
    "Huffyuv": "HFYU FFVH",
    "FFV1": "FFV1",
    "Theora": "THEO",
}
"""FourCCs in capital letters that ffmpeg decodes, by the names of their codecs."""

_CODEC_OF = {code.encode().ljust(4): name for name, codes in FOURCCS.items() for code in codes.split()}


def codec_of_fourcc(fourcc: bytes) -> str | None:
    """Return the name of a FourCC's codec; None if it isn't known to be decoded."""
    return _CODEC_OF.get(fourcc.upper())


@dataclass(frozen=True, slots=True)
class FixedPacking:
    """Sound of which so many bytes always hold so many samples per channel.

    Attributes:
        samples: per channel.
        nbytes: bytes of these samples, all channels together.
    """

    samples: int
    nbytes: int


def decodable_entry(entry: bytes) -> SampleEntry:
    """Keep a sample entry of a file for a decoder; its ``codec`` is empty.

    Raises:
        UnsupportedError: ffmpeg isn't known to decode it from MP4, or its media are encrypted.
        MalformedError: it is cut off.
    """
    outer = header(entry, 0, len(entry))
    kind, body = outer.kind, entry[outer.payload : outer.end]
    if (
        kind not in (*OTHER_CODECS, b"mp4v", b"mp4a")
        and kind[:2] not in RIFF_KINDS
        and not codec_of_fourcc(kind)
    ):
        raise UnsupportedError(f"codec {kind.decode('latin-1')!r} isn't one that is decoded")
    return SampleEntry(kind, "", body, ())


def decodable_picture(entry: bytes) -> SampleEntry:
    """Keep a sample entry of video for a decoder; raises as :func:`decodable_entry`."""
    kept = decodable_entry(entry)
    body = kept.fixed
    if len(body) < VIDEO_HEADER:
        raise MalformedError(f"{kept.kind!r}: sample entry cut off")
    width, height = struct.unpack_from(">HH", body, 24)
    boxes = _whole_boxes(body, VIDEO_HEADER)
    colour = next((colour_of_box(payload_of(one)) for one in boxes if one[4:8] == b"colr"), None)
    return SampleEntry(kept.kind, "", body[:VIDEO_HEADER], boxes, width, height, colour=colour)


def decodable_sound(entry: bytes) -> SampleEntry:
    """Keep a sample entry of sound for a decoder; raises as :func:`decodable_entry`."""
    kept = decodable_entry(entry)
    body = kept.fixed
    if len(body) < SOUND_HEADER:
        raise MalformedError(f"{kept.kind!r}: sample entry cut off")
    version, channels, rate = struct.unpack_from(">8xH6xH6xI", body)
    if version not in QUICKTIME_EXTRA:
        raise UnsupportedError(f"sound description of version {version}")
    sample_rate = rate >> 16 or rate  # of TrueHD the field has 32 bits before the point
    if version == 2:
        sample_rate, channels = version_2_format(body)
    start = min(SOUND_HEADER + QUICKTIME_EXTRA[version], len(body))
    boxes = _whole_boxes(body, start)
    return SampleEntry(kept.kind, "", body[:start], boxes, channels=channels, sample_rate=sample_rate)


def fixed_packing(entry: SampleEntry) -> FixedPacking | None:
    """Return how uncompressed sound, or ADPCM, is packed; None for sound in frames of other sizes."""
    fixed = entry.fixed
    (version,) = struct.unpack_from(">8xH", fixed)
    if version == 2 and len(fixed) >= SOUND_HEADER + QUICKTIME_EXTRA[2]:
        nbytes, samples = struct.unpack_from(">II", fixed, 56)
    elif version == 1 and len(fixed) >= SOUND_HEADER + QUICKTIME_EXTRA[1] and entry.kind not in _BITS:
        samples, nbytes = struct.unpack_from(">I4xI", fixed, 28)
    elif entry.kind in _BITS:
        (bits,) = struct.unpack_from(">18xH", fixed)
        samples, nbytes = 1, (_BITS.get(entry.kind) or bits) // 8 * entry.channels
    else:
        return None
    return FixedPacking(samples, nbytes) if samples and nbytes else None


def _whole_boxes(body: bytes, start: int) -> tuple[bytes, ...]:
    """Cut the boxes out of a sample entry, up to what isn't a box: QuickTime ends them with zeros."""
    boxes: list[bytes] = []
    with contextlib.suppress(MalformedError, TooLargeError):
        boxes.extend(body[found.start : found.end] for found in walk(body, min(start, len(body))))
    return tuple(boxes)

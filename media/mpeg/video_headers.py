"""Headers of MPEG-1, MPEG-2 and MPEG-4 Part 2 video, and of VC-1, by their start codes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError
from media.mp4.codecs.bits import BitReader
from media.mp4.codecs.colour import Colour

START_CODE = b"\0\0\1"

PICTURE, SEQUENCE, EXTENSION, SEQUENCE_END, GROUP = 0x00, 0xB3, 0xB5, 0xB7, 0xB8
"""Start codes of MPEG-1 and MPEG-2 video (ISO/IEC 13818-2 table 6-1)."""

OBJECT_LAYERS = range(0x20, 0x30)
VISUAL_SEQUENCE, USER_DATA, GROUP_OF_PLANES, PLANE = 0xB0, 0xB2, 0xB3, 0xB6
"""Start codes of MPEG-4 Part 2 video (ISO/IEC 14496-2 table 6-3)."""

INTRA, PREDICTED, BIDIRECTIONAL = 1, 2, 3
"""Coding types of pictures (ISO/IEC 13818-2 table 6-12)."""

FRAME_RATES = {
    1: Fraction(24000, 1001),
    2: Fraction(24),
    3: Fraction(25),
    4: Fraction(30000, 1001),
    5: Fraction(30),
    6: Fraction(50),
    7: Fraction(60000, 1001),
    8: Fraction(60),
}
"""ISO/IEC 13818-2 table 6-4."""

_SHAPES = {2: Fraction(4, 3), 3: Fraction(16, 9), 4: Fraction(221, 100)}
"""Proportions of the whole picture (ISO/IEC 13818-2 table 6-3)."""

_PIXEL_HEIGHTS = (10000, 6735, 7031, 7615, 8055, 8437, 8935, 9157, 9815, 10255, 10695, 10950, 11575, 12015)
"""Heights of a pixel of MPEG-1, in parts of 10,000 of its width (ISO/IEC 11172-2 §2.4.3.2)."""

_PIXEL_SHAPES = {1: (1, 1), 2: (12, 11), 3: (10, 11), 4: (16, 11), 5: (40, 33)}
"""ISO/IEC 14496-2 table 6-12."""


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """The properties of a video stream by its first header.

    Attributes:
        size: width and height in pixels.
        display: width and height of which only the ratio matters: that of the picture as shown.
        frame_rate: pictures per second; None if unknown.
        has_bidirectional: whether there may be B pictures.
    """

    size: tuple[int, int]
    display: tuple[int, int]
    frame_rate: Fraction | None = None
    colour: Colour | None = None
    is_progressive: bool = False
    is_mpeg1: bool = False
    has_bidirectional: bool = True


def sequence_header(data: bytes) -> VideoHeader:
    """Read a sequence header of MPEG-1 or MPEG-2, with the extensions behind it.

    Args:
        data: from the start code of the header up to that of a group or a picture.

    Raises:
        MalformedError: it is cut off, or has an impossible value.
    """
    bits = BitReader(data[4:12], "sequence header")
    width, height = bits.read(12), bits.read(12)
    shape, rate = bits.read(4), bits.read(4)
    extension = _extension(data, 1)
    frame_rate, colour, is_progressive = FRAME_RATES.get(rate), None, False
    if extension is not None:
        more = BitReader(extension[:6], "sequence extension")
        more.read(4 + 8)
        is_progressive = bool(more.read(1))
        more.read(2)
        width, height = more.read(2) << 12 | width, more.read(2) << 12 | height
        more.read(12 + 1 + 8 + 1)
        times, parts = more.read(2), more.read(5)
        frame_rate = None if frame_rate is None else frame_rate * Fraction(times + 1, parts + 1)
        colour = _colour(_extension(data, 2))
    if not width or not height:
        raise MalformedError(f"video of {width} by {height} pixels")
    display = width, height
    if extension is None:
        tall = _PIXEL_HEIGHTS[shape - 1] if 0 < shape <= len(_PIXEL_HEIGHTS) else 10000
        display = width * 10000, height * tall
    elif shape in _SHAPES:
        display = _SHAPES[shape].as_integer_ratio()
    return VideoHeader(
        (width, height), display, frame_rate, colour, is_progressive, is_mpeg1=extension is None
    )


def _extension(data: bytes, kind: int) -> bytes | None:
    """Find an extension by its number, and return it from the number on."""
    at = data.find(b"\0\0\1\xb5")
    while at >= 0:
        if at + 4 < len(data) and data[at + 4] >> 4 == kind:
            return data[at + 4 :]
        at = data.find(b"\0\0\1\xb5", at + 4)
    return None


def _colour(display: bytes | None) -> Colour | None:
    """Read the colours of a sequence display extension (ISO/IEC 13818-2 §6.2.2.4)."""
    if display is None or len(display) < 4 or not display[0] & 1:
        return None
    return Colour(display[1], display[2], display[3])


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """The header of a picture.

    Attributes:
        kind: ``INTRA``, ``PREDICTED`` or ``BIDIRECTIONAL``; 0 if unknown.
        is_field: whether it is one field of a frame.
        fields: for how many fields the frame is shown.
    """

    kind: int
    is_field: bool = False
    fields: int = 2


def picture_kind(data: bytes) -> int:
    """Read the coding type of a picture of MPEG-1 or MPEG-2 from its header, start code included."""
    return data[5] >> 3 & 7 if len(data) > 5 else 0


def picture_extension(data: bytes, is_progressive: bool) -> tuple[bool, int]:
    """Read a picture coding extension (ISO/IEC 13818-2 §6.3.10).

    Args:
        data: from the start code on, nine bytes at least.
        is_progressive: whether the sequence has only whole frames.

    Returns:
        Whether the picture is a field, and for how many fields the frame is shown.
    """
    structure, top_first, repeated = data[6] & 3, data[7] >> 7, data[7] >> 1 & 1
    if structure != 3:
        return True, 2
    if is_progressive and repeated:
        return False, 6 if top_first else 4
    return False, 3 if repeated and data[8] >> 7 else 2


def object_layer(data: bytes) -> VideoHeader:
    """Read a video object layer of MPEG-4 Part 2 (ISO/IEC 14496-2 §6.2.3).

    Args:
        data: from its start code on.

    Raises:
        MalformedError: it is cut off, or has an impossible value.
        UnsupportedError: its objects have a shape.
    """
    bits = BitReader(data[4:64], "video object layer")
    bits.read(1 + 8)
    version = 1
    if bits.read(1):
        version = bits.read(4)
        bits.read(3)
    shape = bits.read(4)
    aspect = (bits.read(8), bits.read(8)) if shape == 15 else _PIXEL_SHAPES.get(shape, (1, 1))
    has_bidirectional = True
    if bits.read(1):  # vol_control_parameters
        bits.read(2)
        has_bidirectional = not bits.read(1)
        if bits.read(1):
            bits.read(79)
    outline = bits.read(2)
    if outline == 3 and version != 1:
        bits.read(4)
    bits.read(1)
    resolution = bits.read(16)
    bits.read(1)
    if not resolution:
        raise MalformedError("a video object layer without a clock")
    increment = bits.read(max((resolution - 1).bit_length(), 1)) if bits.read(1) else 0
    width = height = 0
    if outline == 0:
        bits.read(1)
        width = bits.read(13)
        bits.read(1)
        height = bits.read(13)
    if not width or not height:
        raise MalformedError(f"video of {width} by {height} pixels")
    across, down = aspect if all(aspect) else (1, 1)
    frame_rate = Fraction(resolution, increment) if increment else None
    display = width * across, height * down
    return VideoHeader((width, height), display, frame_rate, has_bidirectional=has_bidirectional)


def plane_kind(data: bytes) -> int:
    """Read the coding type of a video object plane, start code included; S planes count as predicted ones."""
    return (INTRA, PREDICTED, BIDIRECTIONAL, PREDICTED)[data[4] >> 6] if len(data) > 4 else 0

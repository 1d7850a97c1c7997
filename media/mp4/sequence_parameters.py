"""Sequence parameter sets of H.264 and H.265: a picture's size and shape, its samples, and its colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError
from media.mp4.bits import BitReader

_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Profiles of H.264 whose sequence parameter sets have the chroma format (ISO/IEC 14496-10 §7.3.2.1.1)."""

_SUBSAMPLING = {1: (2, 2), 2: (2, 1)}
"""Pixels to a sample of chroma, across and down (table 6-1), by the chroma format; (1, 1) for others."""

_ASPECTS = dict(
    enumerate(
        (
            *((1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33)),
            *((18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1)),
        ),
        1,
    )
)
"""Shapes of a pixel by aspect_ratio_idc (table E-1)."""

_MAX_LOOPS = 256
"""Bound of counts in parameter sets, whose syntax allows less."""


MAX_ARRAY_UNITS = 256
"""Most NAL units of one type in a configuration; there are 64 picture parameter sets at most."""


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """A parsed sequence parameter set.

    Attributes:
        size: width and height in pixels, cropped.
        chroma_format: 0 for monochrome, 1 to 3 for 4:2:0, 4:2:2 and 4:4:4.
        depths: bits of a sample of luma, and of chroma.
        pixel_aspect: proportion of a pixel's width to its height.
        colour: primaries, transfer and matrix, as ITU-T H.273 numbers them; None if unknown.
        frame_rate: pictures per second; None if unknown, and for H.265.
    """

    size: tuple[int, int]
    chroma_format: int
    depths: tuple[int, int]
    pixel_aspect: tuple[int, int] = (1, 1)
    colour: tuple[int, int, int] | None = None
    frame_rate: Fraction | None = None


def _payload(unit: bytes, header: int) -> BitReader:
    # ISO/IEC 14496-10 §7.4.1.1: a 3 behind two zeros only prevents a start code
    return BitReader(unit[header:].replace(b"\0\0\3", b"\0\0"), "sequence parameter set")


def _times(count: int) -> range:
    if count > _MAX_LOOPS:
        raise MalformedError("a sequence parameter set with an impossible count")
    return range(count)


def avc_parameters(unit: bytes) -> SequenceParameters:
    """Read a sequence parameter set of H.264 up to its VUI (ISO/IEC 14496-10 §7.3.2.1.1).

    Raises:
        MalformedError: the unit is cut off, or has an impossible value.
    """
    bits = _payload(unit, 1)
    profile = bits.read(24) >> 16
    bits.golomb()
    chroma, separate, depths = 1, 0, (8, 8)
    if profile in _HIGH_PROFILES:
        chroma = bits.golomb()
        separate = bits.read(1 if chroma == 3 else 0)
        depths = 8 + bits.golomb(), 8 + bits.golomb()
        bits.read(1)
        if bits.read(1):  # seq_scaling_matrix_present_flag
            for number in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _scaling_list(bits, 16 if number < 6 else 64)
    bits.golomb()
    order = bits.golomb()  # pic_order_cnt_type
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.read(1)
        bits.golomb()
        bits.golomb()
        for _ in _times(bits.golomb()):
            bits.golomb()
    bits.golomb()
    bits.read(1)
    across, down = 16 * (bits.golomb() + 1), 16 * (bits.golomb() + 1)
    frames_only = bits.read(1)  # frame_mbs_only_flag
    if not frames_only:
        bits.read(1)
    bits.read(1)
    rows = 2 - frames_only
    unit_size = _SUBSAMPLING.get(0 if chroma == 3 and separate else chroma, (1, 1))
    size = _cropped(bits, (across, down * rows), (unit_size[0], unit_size[1] * rows))
    return SequenceParameters(size, chroma, depths, *_vui(bits, has_timing=True))


def _scaling_list(bits: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb() + 256) % 256
        last = following or last


def hevc_parameters(unit: bytes) -> SequenceParameters:
    """Read a sequence parameter set of H.265 up to its VUI (ISO/IEC 23008-2 §7.3.2.2).

    Raises:
        MalformedError: the unit is cut off, or has an impossible value.
    """
    bits = _payload(unit, 2)
    bits.read(4)
    layers = bits.read(3)  # sps_max_sub_layers_minus1
    bits.read(1 + 96)
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    bits.read(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.read(88 * profile + 8 * level)
    bits.golomb()
    chroma = bits.golomb()
    separate = bits.read(1 if chroma == 3 else 0)
    coded = bits.golomb(), bits.golomb()
    size = _cropped(bits, coded, _SUBSAMPLING.get(0 if separate else chroma, (1, 1)))
    depths = 8 + bits.golomb(), 8 + bits.golomb()
    order = bits.golomb() + 4  # bits of a picture's order
    for _ in range(layers + 1 if bits.read(1) else 1):
        for _ in range(3):
            bits.golomb()
    for _ in range(6):
        bits.golomb()
    if bits.read(1) and bits.read(1):  # scaling_list_enabled_flag, sps_scaling_list_data_present_flag
        _hevc_scaling_lists(bits)
    bits.read(2)
    if bits.read(1):  # pcm_enabled_flag
        bits.read(8)
        bits.golomb()
        bits.golomb()
        bits.read(1)
    _reference_picture_sets(bits)
    if bits.read(1):  # long_term_ref_pics_present_flag
        for _ in _times(bits.golomb()):
            bits.read(order + 1)
    bits.read(2)
    return SequenceParameters(size, chroma, depths, *_vui(bits, has_timing=False))


def hevc_arrays(hvcc: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the arrays of NAL units in an ``hvcC`` (ISO/IEC 14496-15 §8.3.3.1).

    Yields:
        The offset of each array, where the lower six bits are the units' type, and the units.

    Raises:
        MalformedError: the ``hvcC`` is cut off, after its complete units were yielded; or an array has more
            units than ``MAX_ARRAY_UNITS``.
    """
    position, size = 23, len(hvcc)
    for _ in range(hvcc[22] if size > 22 else 0):
        begin, position = position, position + 3
        units: list[bytes] = []
        if position <= size:
            count = int.from_bytes(hvcc[begin + 1 : position], "big")
            if count > MAX_ARRAY_UNITS:
                raise MalformedError(f"hvcC with {count} NAL units of one type")
            for _ in range(count):
                unit = position + 2
                position = unit + int.from_bytes(hvcc[position:unit], "big")
                units.append(hvcc[unit:position])
                if position > size:
                    break
            yield begin, units
        if position > size:
            raise MalformedError("hvcC that is cut off")


def hevc_parameter_sets(hvcc: bytes) -> list[tuple[int, bytes]]:
    """Return types and NAL units of an ``hvcC``, as far as it is complete."""
    found: list[tuple[int, bytes]] = []
    try:
        for begin, units in hevc_arrays(hvcc):
            found += [(hvcc[begin] & 63, unit) for unit in units]
    except MalformedError:
        pass
    return found


def _hevc_scaling_lists(bits: BitReader) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.read(1):
                bits.golomb()
                continue
            if size > 1:
                bits.golomb()
            for _ in range(min(64, 1 << (4 + 2 * size))):
                bits.golomb()


def _reference_picture_sets(bits: BitReader) -> None:
    """Skip short-term reference picture sets (§7.3.7), each of which may build on the one before."""
    pictures = 0
    for number in _times(bits.golomb()):
        if number and bits.read(1):  # inter_ref_pic_set_prediction_flag
            bits.read(1)
            bits.golomb()
            pictures = sum(bits.read(1) or bits.read(1) for _ in range(pictures + 1))
        else:
            pictures = bits.golomb() + bits.golomb()
            for _ in _times(pictures):
                bits.golomb()
                bits.read(1)


def _cropped(bits: BitReader, coded: tuple[int, int], unit: tuple[int, int]) -> tuple[int, int]:
    """Read the cropping window, and return the cropped size."""
    left, right, top, bottom = (bits.golomb() for _ in range(4)) if bits.read(1) else (0, 0, 0, 0)
    width, height = coded[0] - unit[0] * (left + right), coded[1] - unit[1] * (top + bottom)
    if not 0 < width < 1 << 16 or not 0 < height < 1 << 16:
        raise MalformedError(f"a picture of {width} by {height} pixels")
    return width, height


def _vui(
    bits: BitReader, *, has_timing: bool
) -> tuple[tuple[int, int], tuple[int, int, int] | None, Fraction | None]:
    """Read the first fields of video usability information, which are the same in H.264 and H.265 (Annex E).

    Args:
        has_timing: whether the frame rate follows these fields, as in H.264.
    """
    aspect, colour = (1, 1), None
    if not bits.read(1):  # vui_parameters_present_flag
        return aspect, colour, None
    if bits.read(1):
        number = bits.read(8)
        # aspect_ratio_idc 255: Extended_SAR
        aspect = (bits.read(16), bits.read(16)) if number == 255 else _ASPECTS.get(number, (1, 1))
    if bits.read(1):  # overscan_info_present_flag
        bits.read(1)
    if bits.read(1):  # video_signal_type_present_flag
        bits.read(4)
        colour = (bits.read(8), bits.read(8), bits.read(8)) if bits.read(1) else None
    return aspect if all(aspect) else (1, 1), colour, _frame_rate(bits) if has_timing else None


def _frame_rate(bits: BitReader) -> Fraction | None:
    """Read the frame rate of H.264; return None if it is unknown (ISO/IEC 14496-10 §E.1.1)."""
    try:
        if bits.read(1):  # chroma_loc_info_present_flag
            bits.golomb()
            bits.golomb()
        if not bits.read(1):  # timing_info_present_flag
            return None
        units, time_scale = bits.read(32), bits.read(32)
    except MalformedError:
        # The frame rate is only a hint, and all other fields have been read.
        return None
    # §E.2.1: a tick is that of a field.
    return Fraction(time_scale, 2 * units) if units and time_scale else None

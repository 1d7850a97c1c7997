"""Sequence parameter sets of H.264 and H.265: a picture's size and shape, its samples, and its colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError
from media.mp4.codecs.bits import BitReader

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


MOST_REORDERED = 16
"""Most pictures that may wait to be shown (ISO/IEC 14496-10 §A.3.1, ISO/IEC 23008-2 §A.4.2)."""

MAX_ARRAY_UNITS = 256
"""Most NAL units of one type in a configuration; there are 64 picture parameter sets at most."""


@dataclass(frozen=True, slots=True)
class OrderParameters:
    """The fields of a sequence parameter set of H.264 that precede a picture's order count in a slice header.

    Attributes:
        frame_number_bits: bits of ``frame_num``.
        count_bits: bits of ``pic_order_cnt_lsb``; 0 where the order count isn't in slice headers.
        is_coded_order: whether pictures are presented in the order of decoding (type 2).
        frames_only: whether there are no fields.
        separate_planes: whether each colour is coded by itself.
    """

    frame_number_bits: int
    count_bits: int
    is_coded_order: bool
    frames_only: bool
    separate_planes: bool


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
        reordering: most pictures that are decoded before a picture, and shown after it; None if unknown.
        order: of H.264, what the order count of a picture is read by.
    """

    size: tuple[int, int]
    chroma_format: int
    depths: tuple[int, int]
    pixel_aspect: tuple[int, int] = (1, 1)
    colour: tuple[int, int, int] | None = None
    frame_rate: Fraction | None = None
    reordering: int | None = None
    order: OrderParameters | None = None


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
    number_bits, count_bits = bits.golomb() + 4, 0
    order = bits.golomb()  # pic_order_cnt_type
    # §8.2.1.3: with type 2 pictures are shown in the order of decoding.
    reordering = 0 if order == 2 else None
    if order == 0:
        count_bits = bits.golomb() + 4
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
    aspect, colour, has_vui = _vui(bits)
    frame_rate, told = _timing(bits) if has_vui else (None, None)
    counted = OrderParameters(number_bits, count_bits, order == 2, bool(frames_only), bool(separate))
    reordering = told if reordering is None else reordering
    return SequenceParameters(size, chroma, depths, aspect, colour, frame_rate, reordering, counted)


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
    reordering = 0
    for _ in range(layers + 1 if bits.read(1) else 1):
        # sps_max_num_reorder_pics of the highest layer counts (§7.4.3.2.1)
        _, reordering, _ = bits.golomb(), bits.golomb(), bits.golomb()
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
    aspect, colour, _ = _vui(bits)
    return SequenceParameters(
        size, chroma, depths, aspect, colour, reordering=reordering if reordering <= MOST_REORDERED else None
    )


def avc_parameter_sets(avcc: bytes) -> list[bytes]:
    """Return the NAL units in an ``avcC`` (ISO/IEC 14496-15 §5.3.3.1): of sequences, then of pictures.

    Raises:
        MalformedError: the ``avcC`` is cut off, or has no sequence parameter set.
    """
    units, position = list[bytes](), 5
    for mask in (31, 255):
        count = avcc[position] & mask if position < len(avcc) else 0
        position += 1
        for _ in range(count):
            begin = position + 2
            position = begin + int.from_bytes(avcc[position:begin], "big")
            units.append(avcc[begin:position])
        if position > len(avcc) or not units:
            raise MalformedError("avcC that is cut off, or without a sequence parameter set")
    return units


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


def _vui(bits: BitReader) -> tuple[tuple[int, int], tuple[int, int, int] | None, bool]:
    """Read the first fields of video usability information, which are the same in H.264 and H.265 (Annex E).

    Returns:
        The pixels' aspect, the colours, and whether more fields follow.
    """
    aspect, colour = (1, 1), None
    if not bits.read(1):  # vui_parameters_present_flag
        return aspect, colour, False
    if bits.read(1):
        number = bits.read(8)
        # aspect_ratio_idc 255: Extended_SAR
        aspect = (bits.read(16), bits.read(16)) if number == 255 else _ASPECTS.get(number, (1, 1))
    if bits.read(1):  # overscan_info_present_flag
        bits.read(1)
    if bits.read(1):  # video_signal_type_present_flag
        bits.read(4)
        colour = (bits.read(8), bits.read(8), bits.read(8)) if bits.read(1) else None
    return aspect if all(aspect) else (1, 1), colour, True


def _timing(bits: BitReader) -> tuple[Fraction | None, int | None]:
    """Read the frame rate of H.264, and how far pictures are reordered; None for what is unknown (§E.1.1)."""
    frame_rate = None
    try:
        if bits.read(1):  # chroma_loc_info_present_flag
            bits.golomb()
            bits.golomb()
        if bits.read(1):  # timing_info_present_flag
            units, time_scale = bits.read(32), bits.read(32)
            # §E.2.1: a tick is that of a field.
            frame_rate = Fraction(time_scale, 2 * units) if units and time_scale else None
            bits.read(1)
        return frame_rate, _reordering(bits)
    except MalformedError:
        # Both are only hints, and all other fields have been read.
        return frame_rate, None


def _reordering(bits: BitReader) -> int | None:
    """Read max_num_reorder_frames (§E.2.1)."""
    has_buffer_parameters = False
    for _ in range(2):
        if bits.read(1):  # nal_hrd_parameters_present_flag, vcl_hrd_parameters_present_flag
            has_buffer_parameters = True
            count = bits.golomb() + 1
            bits.read(8)
            for _ in _times(count):
                bits.golomb()
                bits.golomb()
                bits.read(1)
            bits.read(20)
    bits.read(1 if has_buffer_parameters else 0)
    bits.read(1)
    if not bits.read(1):  # bitstream_restriction_flag
        return None
    bits.read(1)
    for _ in range(4):
        bits.golomb()
    reordering = bits.golomb()
    return reordering if reordering <= MOST_REORDERED else None

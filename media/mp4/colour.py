"""A picture's colours by the numbers of ISO/IEC 23091-2, read from ``colr`` or from the coded stream."""

from __future__ import annotations

from dataclasses import dataclass

from media.errors import MalformedError
from media.mp4.bits import BitReader

UNSPECIFIED = 2
PQ = 16
HLG = 18

_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Profiles of H.264 whose sequence parameter sets have the chroma format (ISO/IEC 14496-10 §7.3.2.1.1)."""

_MAX_LOOPS = 256
"""Bound of counts in parameter sets, whose syntax allows less."""


@dataclass(frozen=True, slots=True)
class Colour:
    """How numbers of a picture become light.

    Attributes:
        primaries: ColourPrimaries.
        transfer: TransferCharacteristics.
        matrix: MatrixCoefficients.
    """

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED

    @property
    def video_range(self) -> str:
        """SDR, HLG or PQ, as RFC 8216bis §4.4.6.2 has it; what says nothing is SDR."""
        return {PQ: "PQ", HLG: "HLG"}.get(self.transfer, "SDR")


def colour_of_box(colr: bytes) -> Colour | None:
    """Read the payload of a ``colr`` box (ISO/IEC 14496-12 §12.1.5): nclx, or QuickTime's nclc."""
    if colr[:4] not in (b"nclx", b"nclc") or len(colr) < 10:
        return None
    return Colour(*(int.from_bytes(colr[at : at + 2], "big") for at in (4, 6, 8)))


def colour_of_configuration(kind: bytes, configuration: bytes) -> Colour | None:
    """Read what a decoder's configuration says of colours; None where it says nothing, or can't be read.

    Args:
        kind: ``avcC``, ``hvcC`` or ``vpcC``.
        configuration: the box's payload.
    """
    try:
        if kind == b"avcC":
            length = int.from_bytes(configuration[6:8], "big")
            return _avc(configuration[8 : 8 + length]) if configuration[5] & 31 else None
        if kind == b"hvcC":
            unit = next((unit for kind, unit in hevc_parameter_sets(configuration) if kind == 33), b"")
            return _hevc(unit) if unit else None
        if kind == b"vpcC" and len(configuration) >= 10:
            return Colour(*configuration[7:10])
    except (MalformedError, IndexError):
        pass  # it is the decoder's to judge; here nothing more is said
    return None


def hevc_parameter_sets(hvcc: bytes) -> list[tuple[int, bytes]]:
    """List the NAL units of an ``hvcC`` (ISO/IEC 14496-15 §8.3.3.1) by their types, as far as it goes."""
    found: list[tuple[int, bytes]] = []
    position = 23
    for _ in range(hvcc[22] if len(hvcc) > 22 else 0):
        if position + 3 > len(hvcc):
            break
        kind, count = hvcc[position] & 63, int.from_bytes(hvcc[position + 1 : position + 3], "big")
        position += 3
        for _ in range(min(count, _MAX_LOOPS)):
            length = int.from_bytes(hvcc[position : position + 2], "big")
            found.append((kind, hvcc[position + 2 : position + 2 + length]))
            position += 2 + length
    return found


def _payload(unit: bytes, header: int) -> BitReader:
    # ISO/IEC 14496-10 §7.4.1.1: a 3 behind two zeros only prevents a start code
    return BitReader(unit[header:].replace(b"\0\0\3", b"\0\0"), "sequence parameter set")


def _times(count: int) -> range:
    if count > _MAX_LOOPS:
        raise MalformedError("a sequence parameter set of too many of something")
    return range(count)


def _avc(unit: bytes) -> Colour | None:
    """Read a sequence parameter set of H.264 up to its VUI (ISO/IEC 14496-10 §7.3.2.1.1)."""
    bits = _payload(unit, 1)
    profile = bits.take(24) >> 16
    bits.golomb()
    if profile in _HIGH_PROFILES:
        chroma = bits.golomb()
        bits.take(1 if chroma == 3 else 0)
        bits.golomb()
        bits.golomb()
        bits.take(1)
        if bits.take(1):  # seq_scaling_matrix_present_flag
            for number in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _scaling_list(bits, 16 if number < 6 else 64)
    bits.golomb()
    order = bits.golomb()  # pic_order_cnt_type
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in _times(bits.golomb()):
            bits.golomb()
    bits.golomb()
    bits.take(1)
    bits.golomb()
    bits.golomb()
    if not bits.take(1):  # frame_mbs_only_flag
        bits.take(1)
    bits.take(1)
    if bits.take(1):  # frame_cropping_flag
        for _ in range(4):
            bits.golomb()
    return _vui(bits)


def _scaling_list(bits: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb() + 256) % 256
        last = following or last


def _hevc(unit: bytes) -> Colour | None:
    """Read a sequence parameter set of H.265 up to its VUI (ISO/IEC 23008-2 §7.3.2.2)."""
    bits = _payload(unit, 2)
    bits.take(4)
    layers = bits.take(3)  # sps_max_sub_layers_minus1
    bits.take(1 + 96)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.golomb()
    bits.take(1 if bits.golomb() == 3 else 0)
    bits.golomb()
    bits.golomb()
    if bits.take(1):  # conformance_window_flag
        for _ in range(4):
            bits.golomb()
    bits.golomb()
    bits.golomb()
    order = bits.golomb() + 4  # bits of a picture's order
    for _ in range(layers + 1 if bits.take(1) else 1):
        for _ in range(3):
            bits.golomb()
    for _ in range(6):
        bits.golomb()
    if bits.take(1) and bits.take(1):  # scaling_list_enabled_flag, sps_scaling_list_data_present_flag
        _hevc_scaling_lists(bits)
    bits.take(2)
    if bits.take(1):  # pcm_enabled_flag
        bits.take(8)
        bits.golomb()
        bits.golomb()
        bits.take(1)
    _reference_picture_sets(bits)
    if bits.take(1):  # long_term_ref_pics_present_flag
        for _ in _times(bits.golomb()):
            bits.take(order + 1)
    bits.take(2)
    return _vui(bits)


def _hevc_scaling_lists(bits: BitReader) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.take(1):
                bits.golomb()
                continue
            if size > 1:
                bits.golomb()
            for _ in range(min(64, 1 << (4 + 2 * size))):
                bits.golomb()


def _reference_picture_sets(bits: BitReader) -> None:
    """Read past short-term reference picture sets (§7.3.7), of which each may build on the one before."""
    pictures = 0
    for number in _times(bits.golomb()):
        if number and bits.take(1):  # inter_ref_pic_set_prediction_flag
            bits.take(1)
            bits.golomb()
            pictures = sum(bits.take(1) or bits.take(1) for _ in range(pictures + 1))
        else:
            pictures = bits.golomb() + bits.golomb()
            for _ in _times(pictures):
                bits.golomb()
                bits.take(1)


def _vui(bits: BitReader) -> Colour | None:
    """Read the first fields of video usability information, alike in both (Annex E)."""
    if not bits.take(1):  # vui_parameters_present_flag
        return None
    if bits.take(1) and bits.take(8) == 255:  # aspect_ratio_idc: Extended_SAR
        bits.take(32)
    if bits.take(1):  # overscan_info_present_flag
        bits.take(1)
    if not bits.take(1):  # video_signal_type_present_flag
        return None
    bits.take(4)
    return Colour(bits.take(8), bits.take(8), bits.take(8)) if bits.take(1) else None

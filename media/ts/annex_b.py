"""Conversion of H.264 and HEVC pictures from byte streams (Annex B) to MP4 samples.

In a byte stream a start code is before each NAL unit (ISO/IEC 14496-10 and 23008-2, Annex B); in a sample of
MP4 it is the unit's length (ISO/IEC 14496-15 §4.3.3).
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.codecs.sequence_parameters import SequenceParameters, avc_parameters, hevc_parameters
from media.ts.tables import StreamType

START_CODE = b"\0\0\1"
LENGTH_BYTES = 4

MAX_UNITS = 4096
"""Most NAL units of a picture."""

MAX_PARAMETER_SETS = 16
"""Most parameter sets of a kind in a configuration."""

_RECOVERY_POINT = 6
"""Type of the SEI message that says that decoding can begin (ISO/IEC 14496-10 §D.1.1)."""


@dataclass(frozen=True, slots=True)
class VideoCoding:
    """The NAL unit types of a video coding (ISO/IEC 14496-10 table 7-1, ISO/IEC 23008-2 table 7-1).

    Attributes:
        codec: its codec ID in Matroska.
        is_hevc: whether it is HEVC, whose units have a header of two bytes.
        parameter_sets: types of units of parameter sets, in the order of the configuration.
        sequence: the type of sequence parameter sets among them.
        delimiter: the type of unit that a picture begins with.
        random_access: types of slices with which decoding can begin.
    """

    codec: str
    is_hevc: bool
    parameter_sets: tuple[int, ...]
    sequence: int
    delimiter: int
    random_access: range
    slices: range

    def kind(self, unit: bytes) -> int:
        """Return the type of a NAL unit."""
        return unit[0] >> 1 & 63 if self.is_hevc else unit[0] & 31


H264 = VideoCoding("V_MPEG4/ISO/AVC", False, (7, 8), 7, 9, range(5, 6), range(1, 6))
HEVC = VideoCoding("V_MPEGH/ISO/HEVC", True, (32, 33, 34), 33, 35, range(16, 22), range(32))

VIDEO_CODINGS: Mapping[int, VideoCoding] = {StreamType.H264: H264, StreamType.HEVC: HEVC}
"""By stream type."""


def nal_units(data: bytes, starts: Sequence[int] | None = None) -> Iterator[bytes]:
    """Yield the NAL units of a byte stream (Annex B), without the zeros around them.

    Args:
        starts: where start codes are, one of them at the beginning; None if they are to be searched.

    Raises:
        UnsupportedError: it doesn't begin with one.
        TooLargeError: there are more than ``MAX_UNITS``.
    """
    if starts is not None:
        if len(starts) > MAX_UNITS:
            raise TooLargeError(f"pictures of more than {MAX_UNITS} NAL units")
        for start, following in pairwise([*starts, len(data)]):
            if unit := data[start + 3 : following].rstrip(b"\0"):
                yield unit
        return
    begin = data.find(START_CODE)
    if begin < 0 or data[:begin].strip(b"\0"):
        raise UnsupportedError("pictures that don't begin where their PES packets do")
    for _ in range(MAX_UNITS):
        following = data.find(START_CODE, begin + 3)
        unit = data[begin + 3 : following if following >= 0 else len(data)].rstrip(b"\0")
        if unit:
            yield unit
        if following < 0:
            return
        begin = following
    raise TooLargeError(f"pictures of more than {MAX_UNITS} NAL units")


def sample_units(data: bytes, coding: VideoCoding, starts: Sequence[int] | None = None) -> Iterator[bytes]:
    """Yield the NAL units of a sample: of a picture's second field without its delimiter.

    Args:
        starts: as of ``nal_units``.

    Raises:
        UnsupportedError, TooLargeError: as ``nal_units`` does.
    """
    delimited = False
    for unit in nal_units(data, starts):
        if coding.kind(unit) != coding.delimiter:
            yield unit
        elif not delimited:
            delimited = True
            yield unit


def as_sample(data: bytes, coding: VideoCoding, dropped: Collection[bytes]) -> bytes:
    """Write a picture as MP4 has it.

    Args:
        data: the picture in a byte stream.
        dropped: NAL units that are left out: the parameter sets that the sample entry has.
    """
    units = [unit for unit in sample_units(data, coding) if unit not in dropped]
    return b"".join([part for unit in units for part in (struct.pack(">I", len(unit)), unit)])


@dataclass(frozen=True, slots=True)
class Picture:
    """The properties of a picture, found in its NAL units.

    Attributes:
        size: bytes as MP4 has it, with all its units.
        parameter_sets: the parameter sets among its NAL units.
        can_begin: whether decoding can begin with it.
        has_slices: whether there is a coded slice.
        delimiter_size: bytes of the delimiter among them.
    """

    size: int
    parameter_sets: tuple[bytes, ...]
    can_begin: bool
    has_slices: bool
    delimiter_size: int = 0


def look_at(data: bytes, coding: VideoCoding, starts: Sequence[int] | None = None) -> Picture:
    """Read the properties of a picture in a byte stream.

    Args:
        starts: as of ``nal_units``.

    Raises:
        UnsupportedError: it doesn't begin with a NAL unit.
        TooLargeError: it has more than ``MAX_UNITS``.
    """
    size = delimiter_size = 0
    sets: list[bytes] = []
    can_begin = has_slices = False
    for unit in sample_units(data, coding, starts):
        kind = coding.kind(unit)
        size += LENGTH_BYTES + len(unit)
        delimiter_size += LENGTH_BYTES + len(unit) if kind == coding.delimiter else 0
        if kind in coding.parameter_sets:
            sets.append(unit)
        elif kind in coding.slices:
            has_slices = True
            can_begin = can_begin or kind in coding.random_access
        elif kind == 6 and not coding.is_hevc:
            can_begin = can_begin or _has_recovery_point(unit)
    return Picture(size, tuple(sets), can_begin, has_slices, delimiter_size)


def _has_recovery_point(unit: bytes) -> bool:
    """Return whether an SEI unit of H.264 has a recovery point (ISO/IEC 14496-10 §7.3.2.3)."""
    position = 1
    while position + 2 < len(unit):
        numbers = []
        for _ in range(2):
            number = 0
            while position < len(unit) and unit[position] == 255:
                number, position = number + 255, position + 1
            if position >= len(unit):
                return False
            numbers.append(number + unit[position])
            position += 1
        if numbers[0] == _RECOVERY_POINT:
            return True
        position += numbers[1]
    return False


def configuration(coding: VideoCoding, sets: Sequence[bytes]) -> tuple[bytes, SequenceParameters]:
    """Write the payload of ``avcC`` or ``hvcC`` (ISO/IEC 14496-15 §5.3.3.1, §8.3.3.1).

    Returns:
        The payload, and what the first sequence parameter set says.

    Raises:
        MalformedError: one is cut off or impossible, or one of a kind is missing.
        TooLargeError: more than ``MAX_PARAMETER_SETS`` of a kind.
    """
    kinds = [[unit for unit in sets if coding.kind(unit) == kind] for kind in coding.parameter_sets]
    if not all(kinds):
        raise MalformedError("no picture brings all parameter sets")
    if max(map(len, kinds)) > MAX_PARAMETER_SETS or max(map(len, sets)) >= 1 << 16:
        raise TooLargeError("too many parameter sets")
    first = next(unit for unit in sets if coding.kind(unit) == coding.sequence)
    parameters = hevc_parameters(first) if coding.is_hevc else avc_parameters(first)
    if parameters.chroma_format > 3 or max(parameters.depths) > 15:
        raise MalformedError("a sequence parameter set with impossible bit depths")
    if coding.is_hevc:
        return _hevc_configuration(coding, kinds, first, parameters), parameters
    counts = 0xE0 | len(kinds[0]), len(kinds[1])
    written = b"\1" + first[1:4] + b"\xff"
    for count, units in zip(counts, kinds, strict=True):
        written += bytes((count,)) + b"".join(struct.pack(">H", len(unit)) + unit for unit in units)
    if first[1] not in (66, 77, 88):  # the higher profiles have the sample format in the configuration, too
        luma, chroma = parameters.depths
        written += bytes((0xFC | parameters.chroma_format, 0xF8 | luma - 8, 0xF8 | chroma - 8, 0))
    return written, parameters


def _hevc_configuration(
    coding: VideoCoding, kinds: Sequence[Sequence[bytes]], first: bytes, parameters: SequenceParameters
) -> bytes:
    payload = first[2:].replace(b"\0\0\3", b"\0\0")
    layers = payload[0] >> 1 & 7
    luma, chroma = parameters.depths
    written = b"\1" + payload[1:13] + b"\xf0\0\xfc"
    written += bytes((0xFC | parameters.chroma_format, 0xF8 | luma - 8, 0xF8 | chroma - 8, 0, 0))
    written += bytes(((layers + 1) << 3 | (payload[0] & 1) << 2 | LENGTH_BYTES - 1, len(kinds)))
    for kind, units in zip(coding.parameter_sets, kinds, strict=True):
        written += struct.pack(">BH", kind, len(units))
        written += b"".join(struct.pack(">H", len(unit)) + unit for unit in units)
    return written

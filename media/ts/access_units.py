"""Access units of H.264 and HEVC in a byte stream (Annex B), independent of PES packets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from media.errors import MalformedError, UnsupportedError
from media.mp4.codecs.bits import BitReader
from media.mp4.codecs.sequence_parameters import OrderParameters, avc_parameters
from media.ts.annex_b import H264, MAX_UNITS, START_CODE, VideoCoding, nal_units

_HEADER_BYTES = 3
"""Bytes behind a start code which show whether an access unit begins there."""

_SLICE_BYTES = 24
"""Bytes of a slice in which its fields up to ``bottom_field_flag`` are (ISO/IEC 14496-10 §7.3.3)."""


class AccessUnit(NamedTuple):
    """An access unit: one picture, or one of its two fields.

    Attributes:
        offset: where in the elementary stream its first start code is.
        starts: where in the data start codes are; None if that isn't known.
    """

    offset: int
    data: bytes
    starts: Sequence[int] | None = None


class AccessUnitReader:
    """Divides a byte stream into access units, without I/O (ISO/IEC 14496-10 §7.4.1.2.3, 23008-2 §7.4.2.4.4).

    Args:
        most: most bytes of an access unit.
    """

    def __init__(self, coding: VideoCoding, most: int) -> None:
        self._coding, self._most = coding, most
        self._data = bytearray()
        self._position = 0
        self._searched = 0
        self._starts: list[int] = []
        self._has_begun = self._has_slices = False

    def push(self, data: bytes) -> list[AccessUnit]:
        """Push bytes; return the access units before the last one that begins in them.

        Raises:
            UnsupportedError: an access unit is too long.
        """
        buffer, found, coding = self._data, list[AccessUnit](), self._coding
        buffer += data
        last, slices = len(buffer) - len(START_CODE) - _HEADER_BYTES, coding.slices
        while 0 <= (start := buffer.find(START_CODE, self._searched)) <= last:
            begin = start + len(START_CODE)
            header = bytes(buffer[begin : begin + _HEADER_BYTES])
            is_slice = coding.kind(header) in slices
            if not self._has_begun:
                self._drop(start)
                begin, self._has_begun, last = len(START_CODE), True, last - start
            elif self._has_slices and begins_access_unit(header, coding, is_slice=is_slice):
                with memoryview(buffer) as view:
                    unit = bytes(view[:start])
                found.append(AccessUnit(self._position, unit, self._starts))
                self._drop(start)
                begin, self._has_slices, last = len(START_CODE), False, last - start
            elif len(self._starts) <= MAX_UNITS:
                self._starts.append(start)
            self._has_slices = self._has_slices or is_slice
            self._searched = begin
        # Searched bytes aren't searched again, except for a part of a start code at their end.
        self._searched = start if start >= 0 else max(len(self._data) - len(START_CODE) + 1, self._searched)
        if not self._has_begun and start < 0:
            self._drop(self._searched)
        if len(self._data) > self._most:
            raise UnsupportedError("a picture is too large")
        return found

    def finish(self) -> list[AccessUnit]:
        """Return the last access unit, at the end of the stream or where another one must begin."""
        data, self._data = bytes(self._data), bytearray()
        unit = AccessUnit(self._position, data)
        has_begun, self._has_begun, self._has_slices = self._has_begun, False, False
        self._position, self._searched = self._position + len(data), 0
        return [unit] if has_begun else []

    def _drop(self, count: int) -> None:
        del self._data[:count]
        self._position += count
        self._searched = 0
        self._starts = [0]


def begins_access_unit(header: bytes, coding: VideoCoding, *, is_slice: bool) -> bool:
    """Return whether an access unit begins with a NAL unit, behind the slices of another.

    Args:
        header: the first bytes of the NAL unit.
    """
    kind = coding.kind(header)
    if coding.is_hevc:
        if (header[0] & 1) << 5 | header[1] >> 3:  # another layer's, which belongs to the same picture
            return False
        # first_slice_segment_in_pic_flag
        return bool(header[2] & 0x80) if is_slice else kind in _HEVC_BEGINS
    # first_mb_in_slice is 0; slices in another order than the picture's are of no profile that plays
    return bool(header[1] & 0x80) if is_slice else kind in _H264_BEGINS


_H264_BEGINS = frozenset((6, 7, 8, 9, 14, 15, 16, 17, 18))
_HEVC_BEGINS = frozenset((32, 33, 34, 35, 39, *range(41, 45), *range(48, 56)))


class Field(NamedTuple):
    """One of the two fields of a picture.

    Attributes:
        frame_number: ``frame_num``, which both have.
        is_instantaneous: whether it is of an IDR picture, which needs none of the pictures before it.
    """

    frame_number: int
    is_bottom: bool
    is_instantaneous: bool

    def completes(self, first: Field | None) -> bool:
        """Return whether the field is the second one of a picture (ISO/IEC 14496-10 §3.30, §7.4.1.2.4)."""
        return (
            first is not None
            and self.is_bottom != first.is_bottom
            and self.frame_number == first.frame_number
            and not self.is_instantaneous
        )


class FieldReader:
    """Reads which field of a picture an access unit is, by the last sequence parameter set."""

    def __init__(self, coding: VideoCoding) -> None:
        self._coding = coding
        self._set = b""
        self._order: OrderParameters | None = None

    def field(self, data: bytes, sets: tuple[bytes, ...]) -> Field | None:
        """Return the field that an access unit of H.264 is; None if it is a whole picture, or damaged.

        Args:
            sets: the access unit's parameter sets.
        """
        if self._coding is not H264:
            return None
        for unit in sets:
            if unit != self._set and self._coding.kind(unit) == self._coding.sequence:
                self._set = unit
                try:
                    self._order = avc_parameters(unit).order
                except MalformedError:
                    self._order = None
        if self._order is None or self._order.frames_only:
            return None
        unit = next((one for one in nal_units(data) if self._coding.kind(one) in self._coding.slices), b"")
        try:
            return _field(unit, self._order)
        except MalformedError:
            return None


def _field(unit: bytes, order: OrderParameters) -> Field | None:
    """Read the field that a slice is of (ISO/IEC 14496-10 §7.3.3)."""
    bits = BitReader(unit[1:_SLICE_BYTES].replace(b"\0\0\3", b"\0\0"), "slice")
    bits.golomb()
    bits.golomb()
    bits.golomb()
    bits.read(2 if order.separate_planes else 0)
    number = bits.read(order.frame_number_bits)
    if not bits.read(1):  # field_pic_flag
        return None
    return Field(number, bool(bits.read(1)), H264.kind(unit) in H264.random_access)

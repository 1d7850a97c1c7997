"""The order in which pictures of H.264 are presented, by the order counts in their slice headers."""

from __future__ import annotations

from array import array

import numpy as np

from media.errors import MalformedError, UnsupportedError
from media.mp4.codecs.bits import BitReader
from media.mp4.codecs.sequence_parameters import OrderParameters
from media.mp4.movie.box_arrays import Int64

SLICE_HEADER_BYTES = 32
"""Bytes of a slice that hold its order count."""

IDR_SLICE, SLICE = 5, 1
"""Types of NAL units (ISO/IEC 14496-10 table 7-1)."""

MAX_BITS = 16
"""Most bits of ``frame_num`` and of ``pic_order_cnt_lsb`` (§7.4.2.1.1)."""


class PictureOrder:
    """Collects the order counts of pictures, in the order of decoding (ISO/IEC 14496-10 §8.2.1.1).

    Raises:
        UnsupportedError: the slice headers don't have the order counts.
    """

    def __init__(self, parameters: OrderParameters) -> None:
        if not parameters.count_bits and not parameters.is_coded_order:
            raise UnsupportedError("H.264 whose order of pictures isn't in its slice headers")
        if max(parameters.frame_number_bits, parameters.count_bits) > MAX_BITS:
            raise MalformedError("a sequence parameter set with impossible counts")
        self._parameters = parameters
        self._high = self._low = 0
        self._sequence = 0
        self._sequences, self._counts = array("I"), array("q")

    def push(self, unit: bytes) -> None:
        """Add a picture by its first slice.

        Raises:
            MalformedError: the slice header is cut off.
        """
        if unit[0] & 31 == IDR_SLICE:
            self._sequence += 1
            self._high = self._low = 0
        count = len(self._counts) if self._parameters.is_coded_order else self._count(unit)
        self._sequences.append(self._sequence)
        self._counts.append(count)

    def push_unknown(self) -> None:
        """Add a picture without a slice, which is presented behind the one before it."""
        self._sequences.append(self._sequence)
        self._counts.append(self._counts[-1] if self._counts else 0)

    def _count(self, unit: bytes) -> int:
        parameters = self._parameters
        payload = unit[1 : SLICE_HEADER_BYTES + 1].replace(b"\0\0\3", b"\0\0")
        bits = BitReader(payload, "slice header")
        for _ in range(3):
            bits.golomb()
        bits.read(2 * parameters.separate_planes)
        bits.read(parameters.frame_number_bits)
        if not parameters.frames_only and bits.read(1):
            bits.read(1)
        if unit[0] & 31 == IDR_SLICE:
            bits.golomb()
        low, wrap = bits.read(parameters.count_bits), 1 << parameters.count_bits
        high = self._high
        if low < self._low and self._low - low >= wrap // 2:
            high += wrap
        elif low > self._low and low - self._low > wrap // 2:
            high -= wrap
        if unit[0] >> 5 & 3:  # only reference pictures count for the next one
            self._high, self._low = high, low
        return high + low

    def places(self) -> Int64:
        """Return the place of each picture in the order of presentation."""
        shown = np.lexsort((np.asarray(self._counts), np.asarray(self._sequences)))
        places = np.empty(len(shown), np.int64)
        places[shown] = np.arange(len(shown))
        return places

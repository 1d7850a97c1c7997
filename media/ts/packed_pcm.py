"""PCM of discs, whose bytes lie in another order than in other files: of DVD-Video, and of Blu-ray (HDMV)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

HIGH_BYTES = 2
"""Bytes of a sample of a DVD that lie together with those of others; the rest of them follows."""

GROUP, GROUP_OF_ONE = 4, 2
"""Samples of a group of a DVD, of all channels, and where there is one channel."""

BLU_RAY_ORDERS = {
    1: (0,),
    3: (0, 1),
    4: (0, 1, 2),
    5: (0, 1, 2),
    6: (0, 1, 2, 3),
    7: (0, 1, 2, 3),
    8: (0, 1, 2, 3, 4),
    9: (0, 1, 2, 5, 3, 4),
    10: (0, 1, 2, 4, 5, 3, 6),
    11: (0, 1, 2, 7, 4, 5, 3, 6),
}
"""Places of the channels on the disc by its number of their layout, in the order of WAVE."""


@dataclass(frozen=True, slots=True)
class PcmPacking:
    """The order of bytes of PCM.

    Attributes:
        ratio: bytes of the disc for each byte of a sample.
        unpack: puts the bytes of a frame into the usual order, the highest one of each sample first.
    """

    ratio: Fraction
    unpack: Callable[[bytes], bytes]


def disc_packing(bits: int, channels: int) -> PcmPacking:
    """Return the order of PCM of 20 or 24 bits on a DVD, as samples of 24 bits.

    Two bytes of each sample of a group are first, and then the other four or eight bits of all of them.
    """
    group = GROUP_OF_ONE if channels == 1 else GROUP
    size = group * bits // 8

    def unpack(data: bytes) -> bytes:
        rows = np.frombuffer(data[: len(data) // size * size], np.uint8).reshape(-1, size)
        high = rows[:, : HIGH_BYTES * group].reshape(-1, group, HIGH_BYTES)
        low = rows[:, HIGH_BYTES * group :]
        if bits == 20:
            low = np.stack((low & 0xF0, low << 4), axis=2).reshape(-1, group)
        return np.concatenate((high, low[:, :, None]), axis=2).tobytes()

    return PcmPacking(Fraction(bits, 24), unpack)


def blu_ray_packing(layout: int, width: int) -> PcmPacking:
    """Return the order of PCM on a Blu-ray, which has an even number of channels.

    Args:
        layout: number of the channels' layout, one of `BLU_RAY_ORDERS`.
        width: bytes of a sample.
    """
    order = BLU_RAY_ORDERS[layout]
    stored = len(order) + len(order) % 2

    def unpack(data: bytes) -> bytes:
        size = stored * width
        rows = np.frombuffer(data[: len(data) // size * size], np.uint8).reshape(-1, stored, width)
        return rows[:, order].tobytes()

    return PcmPacking(Fraction(stored, len(order)), unpack)

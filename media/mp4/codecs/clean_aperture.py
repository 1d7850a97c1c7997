"""The part of a coded picture that is shown (ISO/IEC 14496-12 §12.1.4, ``clap``)."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import NamedTuple

from media.mp4.boxes import box

PAYLOAD_BYTES = 32


class Aperture(NamedTuple):
    """A rectangle of a picture in pixels."""

    left: int
    top: int
    width: int
    height: int

    def turned(self, rotation: int, size: tuple[int, int]) -> Aperture:
        """Return the rectangle in the picture that is turned.

        Args:
            rotation: degrees clockwise: 0, 90, 180 or 270.
            size: width and height of the picture before.
        """
        left, top, width, height = self
        right, bottom = size[0] - left - width, size[1] - top - height
        if rotation == 90:
            return Aperture(bottom, left, height, width)
        if rotation == 180:
            return Aperture(right, bottom, width, height)
        return Aperture(top, right, height, width) if rotation == 270 else self


def clean_aperture_box(size: tuple[int, int], crop: tuple[int, int, int, int]) -> bytes:
    """Write the box.

    Args:
        size: width and height of the coded picture.
        crop: pixels that aren't shown at the left, the right, the top and the bottom.
    """
    left, right, top, bottom = crop
    width, height = size[0] - left - right, size[1] - top - bottom
    # The offsets are those of the centers, in halves of pixels.
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, left - right, 2, top - bottom, 2))


def read_clean_aperture(payload: bytes, size: tuple[int, int]) -> Aperture | None:
    """Read the box's payload, rounded to pixels; None if it is impossible, or shows the whole picture.

    Args:
        size: width and height of the coded picture.
    """
    if len(payload) < PAYLOAD_BYTES:
        return None
    numbers = struct.unpack_from(">IIIIiIiI", payload)
    if not all(numbers[1::2]):
        return None
    width, height, right, down = (Fraction(numbers[at], numbers[at + 1]) for at in range(0, 8, 2))
    left, top = (size[0] - width) / 2 + right, (size[1] - height) / 2 + down
    found = Aperture(round(left), round(top), round(width), round(height))
    fits = found.left + found.width <= size[0] and found.top + found.height <= size[1]
    if min(found.left, found.top) < 0 or min(found.width, found.height) < 1 or not fits:
        return None
    return None if (found.width, found.height) == size else found

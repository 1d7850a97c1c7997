"""CRCs of the polynomial 0x04c11db7 that take the highest bit first: Ogg's and MPEG-2's."""

from __future__ import annotations

import zlib

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc32(data: bytes, initial: int) -> int:
    """Compute the sum, with no final change.

    zlib's has the same polynomial, but the lowest bit first: so the bits are turned around, of each byte on
    the way in and of the sum on the way out.

    Args:
        data: the bytes.
        initial: what the sum is before them: 0, or all ones.
    """
    reflected = zlib.crc32(data.translate(_REVERSED), initial ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")

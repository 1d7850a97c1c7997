"""CRC-32 with polynomial 0x04c11db7, most significant bit first, as in Ogg and MPEG-2."""

from __future__ import annotations

import zlib

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc32(data: bytes, initial: int) -> int:
    """Compute the CRC without a final XOR.

    zlib's CRC has the same polynomial but the least significant bit first, so bits are reversed before and
    after.

    Args:
        initial: value before them: 0, or all ones.
    """
    reflected = zlib.crc32(data.translate(_REVERSED), initial ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")

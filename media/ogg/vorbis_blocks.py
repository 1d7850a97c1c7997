"""Sizes of Vorbis's blocks, by which packets have their lengths (Vorbis I §4.2.2, §4.2.4, §4.3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from media.errors import MalformedError

MODE_BITS = 41
"""Bits of a mode: the block's size, 16 each of window and transform, which are 0, and 8 of the mapping."""

MOST_MODES = 64


@dataclass(frozen=True, slots=True)
class VorbisBlocks:
    """The sizes of blocks by the first byte of a packet.

    Attributes:
        sizes: samples of each mode's block.
        mask: bits of the first byte that are the mode.
    """

    sizes: tuple[int, ...]
    mask: int

    def size(self, first: int) -> int:
        """Return the samples of the block in a packet with a first byte; 0 if there is no such mode."""
        mode = first >> 1 & self.mask
        return self.sizes[mode] if mode < len(self.sizes) else 0


def read_blocks(identification: bytes, setup: bytes) -> VorbisBlocks:
    """Read the sizes of blocks from the headers.

    The modes are the last part of the set-up header. The parts before take long to parse, so the modes are
    looked for from the end.

    Raises:
        MalformedError: there are no modes.
    """
    if len(identification) < 30:
        raise MalformedError("no identification header of Vorbis I")
    exponents = identification[28] & 15, identification[28] >> 4
    bits = int.from_bytes(setup[-(MODE_BITS * MOST_MODES // 8 + 8) :], "little")
    at = bits.bit_length() - 1  # the framing bit
    flags: list[int] = []
    found: list[int] = []
    while at >= MODE_BITS and len(flags) < MOST_MODES:
        mode = bits >> (at - MODE_BITS) & ((1 << MODE_BITS) - 1)
        if mode >> 33 > 63 or mode >> 1 & 0xFFFF_FFFF:
            break
        flags.append(mode & 1)
        at -= MODE_BITS
        if at >= 6 and bits >> (at - 6) & 63 == len(flags) - 1:
            found = flags[::-1]
    if not found:
        raise MalformedError("no modes in the set-up header of Vorbis")
    mask = (1 << (len(found) - 1).bit_length()) - 1
    return VorbisBlocks(tuple(1 << exponents[flag] for flag in found), mask)

"""Descriptions of DVDs' title sets, written as http://dvd.sourceforge.net/dvdinfo/ifo_vts.html has them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

SECTOR = 2048
AC3, MPEG2, LPCM, DTS = 0, 3, 4, 6
"""Codings of sound."""

CHAINS_SECTOR, CHAIN_AT = 1, 16
"""Where the table of program chains is in the file, and where its first chain is in the table."""


class Sound(NamedTuple):
    """A stream of sound: its coding, two letters of its language, and its number within the coding."""

    coding: int
    language: str
    number: int


class Subpicture(NamedTuple):
    """A stream of subtitles: two letters of its language, and its numbers.

    Attributes:
        numbers: for pictures of 4:3, and for those of 16:9 that are wide, in a letterbox, or cut.
        kind: as 1 for usual ones, 5 for captions, 9 for forced ones.
    """

    language: str
    numbers: tuple[int, int, int, int]
    kind: int = 1


def title_set(
    palette: Sequence[bytes],
    sounds: Sequence[Sound] = (),
    subpictures: Sequence[Subpicture] = (),
    *,
    is_wide: bool = False,
    chains: int = 1,
) -> bytes:
    """Write a description with a program chain.

    Args:
        palette: Y, Cr and Cb of the 16 colours.
        is_wide: whether pictures are 16:9.
    """
    head, chain = bytearray(SECTOR), bytearray(0xEC)
    head[:12] = b"DVDVIDEO-VTS"
    struct.pack_into(">I", head, 0xCC, CHAINS_SECTOR)
    head[0x200] = 0x40 | (0x0C if is_wide else 0)
    struct.pack_into(">H", head, 0x202, len(sounds))
    for place, sound in enumerate(sounds):
        told = 4 if sound.language else 0
        entry = bytes((sound.coding << 5 | told, 1)) + sound.language.encode().ljust(2, b"\0")
        head[0x204 + 8 * place : 0x208 + 8 * place] = entry
        struct.pack_into(">H", chain, 0x0C + 2 * place, 0x8000 | sound.number << 8)
    struct.pack_into(">H", head, 0x254, len(subpictures))
    for place, one in enumerate(subpictures):
        entry = bytes((1 if one.language else 0, 0)) + one.language.encode().ljust(2, b"\0")
        head[0x256 + 6 * place : 0x25C + 6 * place] = entry + bytes((0, one.kind))
        first, *others = one.numbers
        chain[0x1C + 4 * place : 0x20 + 4 * place] = bytes((0x80 | first, *others))
    chain[0xA4:0xE4] = b"".join(b"\0" + colour for colour in palette)
    table = struct.pack(">HHI", chains, 0, CHAIN_AT + len(chain) - 1) + struct.pack(
        ">II", 0x81000000, CHAIN_AT
    )
    return bytes(head) + table + bytes(chain)

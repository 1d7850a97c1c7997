"""Live Matroska that is made to cost its readers as much as possible."""

from __future__ import annotations

from media.matroska.live_writer import element
from tests.hostile_media import OPUS_HEAD, repeated

MATROSKA_HEAD = b"\x1aE\xdf\xa3\x80" + b"\x18S\x80g\x01" + b"\xff" * 7
ONE_TRACK = b"\x16T\xaek\x88" + b"\xae\x86" + b"\xd7\x81\1" + b"\x83\x81\1"


def small_blocks(size: int) -> bytes:
    """Blocks without frames, each a key frame."""
    return MATROSKA_HEAD + ONE_TRACK + b"\x1fC\xb6u\xff" + repeated(b"\xa3\x84\x81\0\0\x80", size)


def empty_clusters(size: int) -> bytes:
    return MATROSKA_HEAD + ONE_TRACK + repeated(b"\x1fC\xb6u\xff", size)


def many_tracks(size: int) -> bytes:
    """The same tracks again and again, each time as of another stream."""
    return MATROSKA_HEAD + repeated(ONE_TRACK, size)


def many_elements(size: int) -> bytes:
    """Tracks that say as much as one may, most of it nothing."""
    count = size // 64 // 2
    entries = (
        element(0xD7, bytes((number,))) + element(0x83, b"\1") + b"\xec\x80" * min(count, 4000)
        for number in range(1, 65)
    )
    return MATROSKA_HEAD + element(0x1654AE6B, b"".join(element(0xAE, entry) for entry in entries))


STRIPPED_OPUS = element(
    0xAE,
    element(0xD7, b"\2")
    + element(0x83, b"\2")
    + element(0x86, b"A_OPUS")
    + element(0x63A2, OPUS_HEAD)
    + element(0x6D80, element(0x6240, element(0x5034, element(0x4254, b"\3") + element(0x4255, bytes(256))))),
)
LACED_TRACKS = element(
    0x1654AE6B,
    element(
        0xAE,
        element(0xD7, b"\1")
        + element(0x83, b"\1")
        + element(0x86, b"V_VP9")
        + element(0xE0, element(0xB0, b"\xa0") + element(0xBA, b"\x78")),
    )
    + STRIPPED_OPUS,
)


def laced_blocks(size: int) -> bytes:
    """Blocks of as many frames of sound as there may be, each a byte behind those that the header has."""
    laced = element(0xA3, b"\x82\0\0\x82" + b"\xff" + b"\1" * 255 + bytes(256))
    return MATROSKA_HEAD + LACED_TRACKS + b"\x1fC\xb6u\xff" + repeated(laced, size)

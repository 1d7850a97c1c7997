"""Elements, clusters and blocks of Matroska, written by hand."""

from __future__ import annotations

import struct


def element(kind: int, payload: bytes, size: bytes | None = None) -> bytes:
    """Write an element, its size in eight bytes unless it is given."""
    name = kind.to_bytes((kind.bit_length() + 7) // 8, "big")
    return name + (size or (1 << 56 | len(payload)).to_bytes(8, "big")) + payload


def number_of(kind: int, value: int) -> bytes:
    data = value.to_bytes(max((value.bit_length() + 7) // 8, 1), "big")
    return element(kind, data)


HEAD = element(0x1A45DFA3, element(0x4282, b"webm"))

OPUS_HEAD = b"OpusHead" + struct.pack("<BBHIhB", 1, 2, 312, 48000, 0, 0)

SOUND = element(0xE1, element(0xB5, struct.pack(">f", 48000.0)) + number_of(0x9F, 2))


def opus(track: int = 1, *more: bytes) -> bytes:
    """Write the entry of a track of Opus."""
    fixed = (number_of(0xD7, track), number_of(0x83, 2), element(0x86, b"A_OPUS"), element(0x63A2, OPUS_HEAD))
    return element(0xAE, b"".join((*fixed, SOUND, *more)))


def tracks(*entries: bytes) -> bytes:
    return element(0x1654AE6B, b"".join(entries))


def block(
    time: int, *frames: bytes, flags: int = 0x80, track: int = 1, kind: int = 0xA3, lace: bytes = b""
) -> bytes:
    return element(kind, bytes((0x80 | track,)) + struct.pack(">hB", time, flags) + lace + b"".join(frames))


def cluster(time: int, *blocks: bytes, size: bytes | None = None) -> bytes:
    return element(0x1F43B675, number_of(0xE7, time) + b"".join(blocks), size)


def segment(*parts: bytes, size: bytes | None = None) -> bytes:
    return HEAD + element(0x18538067, b"".join(parts), size)


PACKET = b"\xfc" + bytes(9)  # 20 ms in one frame

"""Segments of DVB subtitles, written as ETSI EN 300 743 describes them."""

from __future__ import annotations

import struct

END = b"\x0f\x80\0\1\0\0"


def segment(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BBHH", 0x0F, kind, 1, len(payload)) + payload


def display(width: int, height: int) -> bytes:
    return segment(0x14, struct.pack(">BHH", 0, width - 1, height - 1))


def page(state: int, version: int = 3, seconds: int = 30) -> bytes:
    return segment(0x10, bytes((seconds, version << 4 | state << 2)) + bytes(6))


def region(width: int, height: int) -> bytes:
    return segment(0x11, struct.pack(">BBHHBBBB", 0, 0, width, height, 0, 0, 0, 0))

"""Sections of SCTE 35, written by hand (ANSI/SCTE 35 §9)."""

from __future__ import annotations

from media.ts.tables import checksum


def out(pts: int) -> bytes:
    """Write a section whose splice_insert leads out for 30 s, without a way back by itself."""
    insert = (7).to_bytes(4, "big") + b"\x7f\xef\xfe" + pts.to_bytes(4, "big")
    return section(insert + b"\x7e" + (30 * 90_000).to_bytes(4, "big") + b"\0\1\0\0", 5)


def section(command: bytes, kind: int, descriptors: bytes = b"", adjustment: int = 0) -> bytes:
    """Write a section (§9.6)."""
    rest = bytes((0,)) + adjustment.to_bytes(5, "big") + b"\0\xff\xf0" + bytes((len(command), kind))
    rest += command + len(descriptors).to_bytes(2, "big") + descriptors
    head = b"\xfc" + (0x3000 | len(rest) + 4).to_bytes(2, "big") + rest
    return head + checksum(head).to_bytes(4, "big")


def back(event: int, pts: int) -> bytes:
    """Write a splice_insert (§9.7.3) that leads back."""
    return event.to_bytes(4, "big") + b"\x7f\x4f\xfe" + pts.to_bytes(4, "big") + b"\0\1\0\0"

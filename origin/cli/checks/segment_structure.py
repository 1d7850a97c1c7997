"""Finds faults in the structure of media segments: empty ones, those that were cut off, and other files.

The first look at a segment that an origin has sent; `segment_media` reads its media.
"""

from __future__ import annotations

import re

PACKET = 188
"""Bytes of a transport stream's packet (ISO/IEC 13818-1 §2.4.3.2)."""

SYNC_BYTE = 0x47
PAT_PID = 0
AC3_SYNC_WORD = b"\x0b\x77"
MAX_BOXES = 100_000

_IMAGES = ((b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"IEND\xae\x42\x60\x82"))
"""How a JPEG (ISO/IEC 10918-1 §B.1.1.3) and a PNG (RFC 2083 §3) begin and end."""

_BOX_TYPE = re.compile(rb"[A-Za-z0-9 ]{4}")
_WEBVTT = re.compile(rb"(?:\xef\xbb\xbf)?WEBVTT(?:[ \t\r\n]|\Z)")


def problem(data: bytes, *, has_init: bool, is_frame: bool = False) -> str | None:
    """Describe what is wrong with a whole segment that isn't encrypted; None if its structure holds.

    Args:
        has_init: whether an init segment belongs to it, as to all of fragmented MP4.
        is_frame: whether it is a range of an I-frame playlist, which ends within a box or a packet.
    """
    if not data:
        return "is empty"
    if is_webvtt(data):
        return None
    if data[0] == SYNC_BYTE and data[PACKET : PACKET + 1] in (b"G", b""):
        return _problem_of_packets(data, has_init=has_init, is_frame=is_frame)
    if has_init or _BOX_TYPE.fullmatch(data[4:8]):
        return _problem_of_boxes(data, is_frame=is_frame)
    if data[:3] == b"ID3":
        return None
    if data[0] == 0xFF or data[:2] == AC3_SYNC_WORD:
        return "doesn't begin with an ID3 tag that has its time (RFC 8216bis §3.1.3)"
    return "is neither MPEG-TS nor fragmented MP4, packed audio or WebVTT (RFC 8216bis §3.1)"


def image_problem(data: bytes) -> str | None:
    """Describe what is wrong with an image in the place of a segment, such as a seek bar's; None if whole."""
    for begin, end in _IMAGES:
        if data.startswith(begin):
            return (
                None if data.endswith(end) else f"is cut off: an image of {len(data)} bytes without its end"
            )
    return "is neither JPEG nor PNG" if data else "is empty"


def is_webvtt(data: bytes) -> bool:
    """Return whether a segment is text of subtitles (WebVTT §4)."""
    return _WEBVTT.match(data) is not None


def _problem_of_boxes(data: bytes, *, is_frame: bool) -> str | None:
    """Walk the boxes of the top level (ISO/IEC 14496-12 §4.2), which fill a segment exactly."""
    at, found = 0, list[bytes]()
    while at < len(data) and len(found) < MAX_BOXES:
        size, kind, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if not _BOX_TYPE.fullmatch(kind):
            return f"has no box at byte {at} (ISO/IEC 14496-12 §4.2)"
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < header:
            return f"has a box of {size} bytes at byte {at} (ISO/IEC 14496-12 §4.2)"
        if at + size > len(data) and not (is_frame and kind == b"mdat"):
            return (
                f"is cut off: box {kind.decode()} at byte {at} has {size} bytes, {len(data) - at} are there"
            )
        found.append(kind)
        at += size
    if b"moof" not in found or b"mdat" not in found[found.index(b"moof") :]:
        return "has no moof with an mdat behind it (RFC 8216bis §3.1.2)"
    return None


def _problem_of_packets(data: bytes, *, has_init: bool, is_frame: bool) -> str | None:
    """Check each packet's first byte, and that there is a program association table."""
    if len(data) % PACKET and not is_frame:
        return f"is cut off: {len(data)} bytes are no whole packets of {PACKET} (ISO/IEC 13818-1 §2.4.3.2)"
    first = data[::PACKET]
    if first.count(b"G") != len(first):
        at = PACKET * next(number for number, byte in enumerate(first) if byte != SYNC_BYTE)
        return f"has no packet at byte {at} (ISO/IEC 13818-1 §2.4.3.2)"
    heads = range(0, len(data) - 2, PACKET)
    if (
        not has_init
        and not is_frame
        and not any(int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == PAT_PID for at in heads)
    ):
        return "has no program association table (RFC 8216bis §3.1.1)"
    return None

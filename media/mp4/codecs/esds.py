"""Writes the decoder configuration box of MPEG audio (``esds``, ISO/IEC 14496-14 §6.7.2)."""

from __future__ import annotations

import struct

from media.errors import TooLargeError
from media.mp4.boxes import full_box

MPEG4_AUDIO, MPEG2_AUDIO, MPEG1_AUDIO = 0x40, 0x69, 0x6B
"""Object types (ISO/IEC 14496-1 §7.2.6.6); MPEG-1 and MPEG-2 audio include MP3."""

VOBSUB = 0xE0
"""Object type of the range of users, by which all writers name VobSub."""


def elementary_stream_box(object_type: int, specific: bytes) -> bytes:
    """Write the box.

    Args:
        specific: decoder specific info; may be empty.

    Raises:
        MalformedError: that is too long.
    """
    config = struct.pack(">BB3xII", object_type, 0x15, 0, 0)
    if specific:
        config += _descriptor(5, specific)
    body = b"\0\0\0" + _descriptor(4, config) + _descriptor(6, b"\x02")
    return full_box(b"esds", 0, 0, _descriptor(3, body))


def _descriptor(tag: int, body: bytes) -> bytes:
    if len(body) >= 1 << 21:
        raise TooLargeError("a configuration that is too long for a descriptor")
    lengths = bytes((len(body) >> shift & 0x7F | (0x80 if shift else 0)) for shift in (21, 14, 7, 0))
    return bytes((tag,)) + lengths + body

"""Configurations and frames of the codecs of enhanced RTMP."""

from __future__ import annotations

import struct

from media.flv.tags import AUDIO, VIDEO, Tag

VPS = bytes.fromhex("40010c01ffff01600000030090000003000003001e959409")

SPS = bytes.fromhex("42010101600000030090000003000003001ea0208316595952930bc05a020000030002000003001410")

PPS = bytes.fromhex("4401c073c089")

SLICE, KEY_SLICE = b"\x02\1slice", b"\x26\1key slice"

HVCC_HEAD = bytes.fromhex("0101600000009000000000001ef000fcfdf8f800000f")


def hvcc(*units: bytes) -> bytes:
    """Write a configuration with parameter sets (ISO/IEC 14496-15 §8.3.3.1)."""
    arrays = [struct.pack(">BHH", one[0] >> 1, 1, len(one)) + one for one in units]
    return HVCC_HEAD + bytes((len(units),)) + b"".join(arrays)


def sized(*units: bytes) -> bytes:
    """Write a sample of units, each behind its length."""
    return b"".join(struct.pack(">I", len(one)) + one for one in units)


HVCC = hvcc(VPS, SPS, PPS)

HEVC: Tag = (VIDEO, 0, b"\x90hvc1" + HVCC)

AV1_SEQUENCE = bytes.fromhex("0a0a00000003b4ff700be001")
"""By SVT-AV1, of 160 by 120 pixels."""

AV1: Tag = (VIDEO, 0, b"\x90av01\x81\x00\x0c\x00" + AV1_SEQUENCE)

AV1_FRAME = b"\x32\x03\x10ab"

VP9_KEY = bytes.fromhex("824983420009f007760438241c184a00")

VPCC = bytes.fromhex("010000000029820910090000")

VP9: Tag = (VIDEO, 0, b"\x90vp09" + VPCC)

OPUS_HEAD = b"OpusHead\1\2" + struct.pack("<HIhB", 312, 48000, -256, 0)

OPUS: Tag = (AUDIO, 0, b"\x90Opus" + OPUS_HEAD)

STREAMINFO = bytes.fromhex("120012000000000000000bb800f000000000") + bytes(16)

FLAC: Tag = (AUDIO, 0, b"\x90fLaC" + STREAMINFO)

FLAC_FRAME = b"\xff\xf8\x5a\x08\0sound"

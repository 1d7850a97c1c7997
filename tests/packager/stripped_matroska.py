"""Rewrites a Matroska file: strips off or compresses frames, as mkvmerge does, or describes the picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from media.matroska.ebml import UNKNOWN_SIZE, header, unsigned

SEGMENT, CLUSTER, TRACKS, ENTRY, GROUP = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0xA0
SIMPLE_BLOCK, BLOCK, NUMBER, VIDEO = 0xA3, 0xA1, 0xD7, 0xE0
SEEK_HEAD, CUES, VOID, CHECKSUM = 0x114D9B74, 0x1C53BB6B, 0xEC, 0xBF
COLOUR = 0x55B0
GONE = (SEEK_HEAD, CUES, VOID, CHECKSUM)
"""Elements that hold places or sums of what is rewritten, or nothing."""


def element(kind: int, payload: bytes) -> bytes:
    """Write an element with a size of eight bytes."""
    name = kind.to_bytes(-(-kind.bit_length() // 8), "big")
    return name + (1 << 56 | len(payload)).to_bytes(8, "big") + payload


def encoding(prefix: bytes, algorithm: int = 3, scope: int = 1) -> bytes:
    """Say that all frames of a track lack these first bytes (RFC 9559 §5.1.4.1.31)."""
    compression = element(0x4254, bytes((algorithm,))) + element(0x4255, prefix)
    return element(0x6240, element(0x5032, bytes((scope,))) + element(0x5034, compression))


def stripped(data: bytes, track: int, prefix: bytes, encodings: bytes) -> bytes:
    """Rewrite a file; the blocks of the track must be of one frame each.

    Args:
        data: the file.
        track: number of the track.
        prefix: what is stripped off its frames.
        encodings: what the track then says of it.
    """

    def without(frame: bytes) -> bytes:
        assert frame.startswith(prefix)
        return frame[len(prefix) :]

    return _rewritten(data, track, without, encodings)


def compressed(data: bytes, track: int, change: Callable[[bytes], bytes] = zlib.compress) -> bytes:
    """Compress the frames of a track by zlib; the blocks must be of one frame each."""
    return _rewritten(data, track, change, element(0x6240, element(0x5034, element(0x4254, b"\0"))))


def described(data: bytes, elements: bytes) -> bytes:
    """Replace the colours in the description of a file's picture by other elements (RFC 9559 §5.1.4.1.28)."""

    def rewritten(start: int, end: int) -> bytes:
        found = b""
        while start < end:
            one = header(data, start)
            stop = end if one.size == UNKNOWN_SIZE else one.end
            payload = data[one.payload : stop]
            if one.kind in (SEGMENT, TRACKS, ENTRY):
                payload = rewritten(one.payload, stop)
            elif one.kind == VIDEO:
                payload = rewritten(one.payload, stop) + elements
            found += b"" if one.kind in (*GONE, COLOUR) else element(one.kind, payload)
            start = stop
        return found

    return rewritten(0, len(data))


def projection(roll: float, yaw: float = 0.0, pitch: float = 0.0, kind: int = 0) -> bytes:
    """Describe how a picture is turned (RFC 9559 §5.1.4.1.28.41)."""
    pose = zip((0x7673, 0x7674, 0x7675), (yaw, pitch, roll), strict=True)
    angles = b"".join(element(name, struct.pack(">f", angle)) for name, angle in pose)
    return element(0x7670, element(0x7671, bytes((kind,))) + angles)


def crop(left: int, right: int, top: int, bottom: int) -> bytes:
    """Describe which pixels of a picture aren't shown (RFC 9559 §5.1.4.1.28.8)."""
    sides = zip((0x54CC, 0x54DD, 0x54BB, 0x54AA), (left, right, top, bottom), strict=True)
    return b"".join(element(name, bytes((pixels,))) for name, pixels in sides)


def colour(primaries: int, transfer: int, matrix: int) -> bytes:
    """Describe the colours of a picture (RFC 9559 §5.1.4.1.28.16)."""
    numbers = zip((0x55BB, 0x55BA, 0x55B1), (primaries, transfer, matrix), strict=True)
    return element(COLOUR, b"".join(element(name, bytes((number,))) for name, number in numbers))


def _rewritten(data: bytes, track: int, change: Callable[[bytes], bytes], encodings: bytes) -> bytes:
    def rewritten(start: int, end: int) -> bytes:
        found = b""
        while start < end:
            one = header(data, start)
            stop = end if one.size == UNKNOWN_SIZE else one.end
            payload = data[one.payload : stop]
            if one.kind in (SEGMENT, CLUSTER, TRACKS, GROUP):
                payload = rewritten(one.payload, stop)
            elif one.kind == ENTRY:
                payload += element(0x6D80, encodings) * (_number(payload) == track)
            elif one.kind in (SIMPLE_BLOCK, BLOCK) and payload[0] == 0x80 | track:
                assert not payload[3] & 0x06
                payload = payload[:4] + change(payload[4:])
            found += b"" if one.kind in GONE else element(one.kind, payload)
            start = stop
        return found

    return rewritten(0, len(data))


def _number(entry: bytes) -> int:
    one = header(entry, 0)
    while one.kind != NUMBER:
        one = header(entry, one.end)
    return unsigned(entry, one)

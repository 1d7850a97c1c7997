"""The sequence of tags in Flash video (Adobe's FLV file format, version 10.1, annex E).

`audio_video_tags` reads the bodies of audio and video tags.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from media.errors import TooLargeError
from media.stream_reader import CLOCK_RATE

FILE_HEADER_BYTES = 9
FILE_HEADER = 13
"""Bytes before the first tag: the header (§E.2) and the size of the previous tag, 0."""

TAG_HEADER = 11
SIZE_BEHIND = 4
"""Each tag is followed by its size (§E.3)."""

AUDIO, VIDEO, SCRIPT = 8, 9, 18
ON_METADATA = b"\2\0\x0aonMetaData"
"""First bytes of the script tag with the stream's metadata (§E.4.4.1, §E.5)."""

CUES = (b"\2\0\x0aonCuePoint", b"\2\0\x07onAdCue")
"""First bytes of script tags with cue points."""

AVC, AAC, KEY_FRAME = 7, 10, 1
SEQUENCE_HEADER, CODED = 0, 1

TICKS = CLOCK_RATE // 1000
"""Clock ticks of a millisecond, the unit of timestamps."""

Tag = tuple[int, int, bytes]
"""A tag's kind, its timestamp in milliseconds, modulo 2^32, and its body."""

_HEADER = struct.Struct(">II3x")
"""A tag's header: kind and size, the time, whose highest byte comes last, and a stream ID of 0 (§E.4.1)."""

_SIZE_FIELD = struct.Struct(">I")


TAG_BYTES = 8 << 20
"""Largest tag of a live stream: a key frame of 64 Mbit."""


def file_header() -> bytes:
    """Write the file header before the first tag (§E.2), for audio and video."""
    return b"FLV\1\5" + FILE_HEADER_BYTES.to_bytes(4, "big") + bytes(SIZE_BEHIND)


def complete_tags(
    view: memoryview, position: int, most: int = TAG_BYTES
) -> Iterator[tuple[int, int, int, int]]:
    """Find the complete tags behind an offset (§E.4.1).

    Args:
        view: the stream's bytes so far.
        position: offset at which the next tag begins.

    Yields:
        A tag's kind, its timestamp in milliseconds, modulo 2^32, and the offsets at which its body begins and
        ends; ``SIZE_BEHIND`` bytes behind that the next tag begins.

    Raises:
        TooLargeError: a tag is larger than the limit.
    """
    while len(view) - position >= TAG_HEADER:
        head, time = _HEADER.unpack_from(view, position)
        size = head & 0xFFFFFF
        if size > most:
            raise TooLargeError(f"a tag of {size} bytes")
        body = position + TAG_HEADER
        position = body + size + SIZE_BEHIND
        if len(view) < position:
            return
        yield head >> 24 & 0x1F, time >> 8 | (time & 0xFF) << 24, body, body + size


def write_tags(tags: Iterable[Tag]) -> bytes:
    """Write tags, one behind the other."""
    pieces = list[bytes]()
    for kind, timestamp, body in tags:
        size = len(body)
        pieces.append(_HEADER.pack(kind << 24 | size, (timestamp & 0xFFFFFF) << 8 | timestamp >> 24))
        pieces.append(body)
        pieces.append(_SIZE_FIELD.pack(TAG_HEADER + size))
    return b"".join(pieces)

"""Headers of AVI files: the list of streams (Microsoft's "AVI RIFF File Reference", OpenDML 1.02)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from media.errors import MalformedError, TooLargeError

MAX_STREAMS = 32
MAX_CHUNKS = 4096
"""Most chunks of the headers."""

MAX_TICKS = 1 << 20
"""Largest denominator of a rate, so that times in its ticks stay inside 64 bits."""

LATEST_START_SECONDS = 24 * 3600
"""Latest start of a stream; a later one is damage."""

MAX_FORMAT_BYTES = 64 << 10
"""Largest format of a stream, which becomes the decoder's configuration."""


class RiffChunk(NamedTuple):
    """A chunk of RIFF.

    Attributes:
        kind: its FourCC; of a list, that behind its size.
        payload: offset of its content, behind a list's FourCC.
    """

    kind: bytes
    payload: int
    end: int


@dataclass(frozen=True, slots=True)
class AviStream:
    """A stream by its headers.

    Attributes:
        kind: ``vids``, ``auds`` or another type.
        handler: FourCC of the codec, if the format has none.
        rate: frames, or blocks of sound, per second.
        start: frames, or blocks of sound, before it begins.
        sample_size: bytes of a block of sound of constant rate; 0 where each chunk is a frame.
        format: a BITMAPINFOHEADER or a WAVEFORMATEX.
        super_index: payload of its OpenDML index of indexes; empty without one.
        aspect: width and height of the picture as shown, of which only the ratio matters; or zeros.
        name: the stream's title; empty without one.
    """

    kind: bytes
    handler: bytes
    rate: Fraction
    start: int
    sample_size: int
    format: bytes
    super_index: bytes = b""
    aspect: tuple[int, int] = (0, 0)
    name: str = ""


def chunks(data: bytes, start: int, end: int) -> Iterator[RiffChunk]:
    """Yield the chunks of one level; of the last one, as much as there is.

    Raises:
        TooLargeError: there are more than ``MAX_CHUNKS``.
    """
    for _ in range(MAX_CHUNKS):
        if start + 8 > end:
            return
        kind, size = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        payload = start + 8
        if kind == b"LIST" and payload + 4 <= end:
            kind, payload = data[payload : payload + 4], payload + 4
        yield RiffChunk(kind, payload, min(start + 8 + size, end))
        start += 8 + size + size % 2
    raise TooLargeError(f"more than {MAX_CHUNKS} chunks of headers")


def read_headers(data: bytes) -> list[AviStream]:
    """Read the streams of a list of headers (``hdrl``).

    Args:
        data: the list's content, behind its FourCC.

    Raises:
        MalformedError: it has no streams, or impossible ones.
        TooLargeError: it has too many.
    """
    frame = Fraction(0)
    streams: list[AviStream] = []
    for one in chunks(data, 0, len(data)):
        if one.kind == b"avih" and one.end - one.payload >= 4:
            frame = Fraction(int.from_bytes(data[one.payload : one.payload + 4], "little"), 1_000_000)
        elif one.kind == b"strl":
            streams.append(_stream(data, one, frame))
            if len(streams) > MAX_STREAMS:
                raise TooLargeError(f"more than {MAX_STREAMS} streams")
    if not streams:
        raise MalformedError("an AVI file without streams")
    return streams


def _stream(data: bytes, parent: RiffChunk, frame: Fraction) -> AviStream:
    found: dict[bytes, bytes] = {}
    for one in chunks(data, parent.payload, parent.end):
        found.setdefault(one.kind, data[one.payload : one.end])
    header, described = found.get(b"strh", b""), found.get(b"strf", b"")
    if len(header) < 48:
        raise MalformedError("a stream without its header (strh)")
    if len(described) > MAX_FORMAT_BYTES:
        raise TooLargeError(f"a stream's format of {len(described)} bytes")
    kind, handler, scale, rate, start, sample_size = struct.unpack_from("<4s4s12xIII12xI", header)
    per_second = Fraction(rate, scale).limit_denominator(MAX_TICKS) if rate and scale else Fraction(0)
    start = start if start < LATEST_START_SECONDS * per_second else 0
    if kind == b"vids" and not 0 < per_second <= 1000:
        per_second = 1 / frame if frame else Fraction(25)
    return AviStream(
        kind,
        handler,
        per_second,
        start,
        sample_size,
        described,
        found.get(b"indx", b""),
        _aspect(found.get(b"vprp", b"")),
        found.get(b"strn", b"").split(b"\0")[0].decode("utf-8", "replace")[:256],
    )


def _aspect(properties: bytes) -> tuple[int, int]:
    """Read the proportions of the picture from the video properties (OpenDML 1.02 §5.2)."""
    if len(properties) < 24:
        return 0, 0
    down, across = struct.unpack_from("<HH", properties, 20)
    return (across, down) if across and down else (0, 0)

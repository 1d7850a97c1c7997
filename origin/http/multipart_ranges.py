"""Bodies of several ranges, multipart/byteranges (RFC 9110 §14.6): boundary, parts' headers and end. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from origin.http.byte_ranges import SelectedRange, content_range

_BOUNDARY_BYTES = 16


def make_boundary() -> str:
    """Make a boundary of 128 random bits, which no file contains, so that no file is searched for it."""
    return secrets.token_hex(_BOUNDARY_BYTES)


def multipart_body(
    ranges: Sequence[SelectedRange], size: int, media_type: str, boundary: str
) -> tuple[bytes | SelectedRange, ...]:
    """Return the pieces of a body: each part's header and range, and the closing delimiter.

    Args:
        size: bytes of the whole representation.
    """
    body: list[bytes | SelectedRange] = []
    for part in ranges:
        body += (part_header(part, size, media_type, boundary), part)
    return (*body, f"\r\n--{boundary}--\r\n".encode("latin-1"))


def part_header(part: SelectedRange, size: int, media_type: str, boundary: str) -> bytes:
    """Return the bytes before a part's content.

    The delimiter begins with a line end before the first part too, since some clients wait for it.
    """
    fields = f"Content-Type: {media_type}\r\nContent-Range: {content_range(part, size)}\r\n\r\n"
    return f"\r\n--{boundary}\r\n{fields}".encode("latin-1")


def part_overhead(size: int, media_type: str) -> int:
    """Return the most bytes that a part of a representation costs beside its content."""
    last = SelectedRange(max(size - 1, 0), max(size - 1, 0))
    return len(part_header(last, size, media_type, "0" * (2 * _BOUNDARY_BYTES)))

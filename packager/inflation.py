"""Decompression of gzip and zlib within bounds, without I/O."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

INFLATED_BYTES = 256 << 10
"""Most bytes that one decompression step produces, since a tiny response may expand without end."""

CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""Content codings that can be decoded (RFC 9110 §8.4.1)."""


class Inflater:
    """Decodes one body that has a content coding of ``CODINGS``, or raises ``zlib.error``."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)

    @property
    def has_ended(self) -> bool:
        """Whether the end has come: what follows isn't part of the body, and zlib would keep it in memory."""
        return self._inflater.eof

    def push(self, data: bytes) -> Iterator[bytes]:
        """Decode the next bytes in steps of at most ``INFLATED_BYTES``."""
        while True:
            part = self._inflater.decompress(data, INFLATED_BYTES)
            yield part
            data = self._inflater.unconsumed_tail
            if self._inflater.eof or (not data and len(part) < INFLATED_BYTES):
                return


def inflated(data: bytes, most: int) -> bytes | None:
    """Return what zlib has compressed; None where that is damaged, cut off, or longer than so many bytes."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, most)
    except zlib.error:
        return None
    return text if inflater.eof else None

"""Text that many texts have in common, such as the older lines of live playlists.

What is made of such a piece is made once, when it is: a playlist of a day has megabytes, of which a few lines
are new each time. The parts of a deflate stream may be made apart (RFC 1951 §3.2).
"""

from __future__ import annotations

import hashlib
import zlib
from typing import NamedTuple

GZIP_LEVEL = 5


class Deflated(NamedTuple):
    """A text as whole blocks of a deflate stream, which refer to nothing before them; its CRC-32 and size."""

    data: bytes
    crc: int
    size: int


def deflate(text: bytes) -> Deflated:
    """Compress a text that others may follow."""
    coder = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = coder.compress(text) + coder.flush(zlib.Z_FULL_FLUSH)
    return Deflated(data, zlib.crc32(text), len(text))


def digest_of(text: bytes) -> bytes:
    """Give what tells a text from others."""
    return hashlib.blake2b(text, digest_size=12).digest()


class DigestedText(bytes):
    """Text that is known by a digest.

    Attributes:
        digest: tells it from other texts.
    """

    digest: bytes

    @classmethod
    def derived(cls, text: bytes, digest: bytes, means: bytes) -> DigestedText:
        """Make one of a text that follows from another.

        Args:
            text: it.
            digest: the other's.
            means: by which it follows.
        """
        made = cls(text)
        made.digest = digest_of(digest + means)
        return made


class LastingText(DigestedText):
    """Text that many texts have in common.

    Attributes:
        deflated: the same compressed.
    """

    deflated: Deflated

    @classmethod
    def of(cls, text: bytes) -> LastingText:
        """Make one, with what will be asked of it."""
        made = cls(text)
        made.digest, made.deflated = digest_of(text), deflate(text)
        return made

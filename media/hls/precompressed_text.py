"""Text that many playlists share, such as the lines of older segments, with its digest and compressed form.

Digest and compressed form are computed once: a day's playlist has megabytes, of which only a few lines are
new each time. A deflate stream may be assembled from separately compressed blocks (RFC 1951 §3.2).
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Iterable
from typing import NamedTuple

GZIP_LEVEL = 5


class Deflated(NamedTuple):
    """Text as complete, independent blocks of a deflate stream, with its CRC-32 and size."""

    data: bytes
    crc: int
    size: int


def deflate(text: bytes) -> Deflated:
    """Compress text so that other blocks may follow."""
    coder = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = coder.compress(text) + coder.flush(zlib.Z_FULL_FLUSH)
    return Deflated(data, zlib.crc32(text), len(text))


def digest_of(text: bytes) -> bytes:
    """Compute the digest of a text."""
    return hashlib.blake2b(text, digest_size=12).digest()


class DigestedText(bytes):
    """A text together with its digest, which is computed once for all responses."""

    digest: bytes


class SharedText(DigestedText):
    """A text that is part of many responses, with its compressed form."""

    deflated: Deflated

    @classmethod
    def of(cls, text: bytes) -> SharedText:
        """Compute the digest and the compressed form of a text."""
        made = cls(text)
        made.digest, made.deflated = digest_of(text), deflate(text)
        return made


class PackedText(NamedTuple):
    """A text that is kept in its compressed form alone, and whose bytes are made when they are sent."""

    deflated: Deflated
    digest: bytes

    def __hash__(self) -> int:
        """Return that of the digest: the compressed text is long."""
        return hash(self.digest)

    @classmethod
    def of(cls, text: bytes) -> PackedText:
        """Compress a text."""
        return cls(deflate(text), digest_of(text))

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.deflated.size

    def render(self) -> bytes:
        """Return the text.

        Raises:
            zlib.error: this isn't what was compressed.
        """
        # A limit of 0 would be none.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(self.deflated.data, max(self.deflated.size, 1))


class TextTemplate:
    """Text with marks that are replaced for each reader.

    Args:
        text: the text, which a template may keep in its compressed form alone.

    Attributes:
        digest: the digest of the text, which entity-tags are made of.
        size: length of the text in bytes.
    """

    __slots__ = ("_counts", "_text", "digest", "size")

    def __init__(self, text: bytes | PackedText) -> None:
        self._text = text
        self.digest = text.digest if isinstance(text, DigestedText | PackedText) else digest_of(text)
        self.size = text.size if isinstance(text, PackedText) else len(text)
        self._counts: dict[bytes, int] = {}

    @property
    def text(self) -> bytes:
        """The text."""
        return self._text.render() if isinstance(self._text, PackedText) else self._text

    def count(self, mark: bytes) -> int:
        """Count the occurrences of a mark."""
        if mark not in self._counts:
            self._counts[mark] = self.text.count(mark)
        return self._counts[mark]


Replacements = tuple[tuple[bytes, bytes], ...]
"""Marks and their replacements, which must not contain marks."""


class FilledText(NamedTuple):
    """A template with replacements, whose bytes are made when they are sent.

    Length and digest are known without them, so even a long text costs no memory for each reader.
    """

    template: TextTemplate
    replacements: Replacements

    @property
    def size(self) -> int:
        """Its length in bytes."""
        count = self.template.count
        return self.template.size + sum(
            count(mark) * (len(new) - len(mark)) for mark, new in self.replacements
        )

    @property
    def digest(self) -> bytes:
        """Its digest."""
        return digest_of(self.template.digest + _digest_of_all(self.replacements))

    def render(self) -> bytes:
        """Return the text with the replacements."""
        text = self.template.text
        for mark, new in self.replacements:
            if self.template.count(mark):
                text = text.replace(mark, new)
        return text


@functools.lru_cache(maxsize=64)
def _digest_of_all(replacements: Replacements) -> bytes:
    return digest_of(b"\0".join(part for replacement in replacements for part in replacement))


Unrendered = FilledText | PackedText
"""Texts whose bytes are made when they are sent."""

Text = bytes | Unrendered
Pieces = tuple[Text, ...]
"""A text as pieces to be concatenated."""


def size_of(pieces: Iterable[Text]) -> int:
    """Return the length of a text in bytes."""
    return sum(piece.size if isinstance(piece, Unrendered) else len(piece) for piece in pieces)


def rendered(pieces: Iterable[Text]) -> tuple[bytes, ...]:
    """Return the bytes of each piece."""
    return tuple(piece.render() if isinstance(piece, Unrendered) else piece for piece in pieces)

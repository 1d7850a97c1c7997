"""Text that many texts have in common, such as the older lines of live playlists.

What is made of such a piece is made once, when it is: a playlist of a day has megabytes, of which a few lines
are new each time. The parts of a deflate stream may be made apart (RFC 1951 §3.2).
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Iterable
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


class SharedText(DigestedText):
    """Text that many texts have in common.

    Attributes:
        deflated: the same compressed.
    """

    deflated: Deflated

    @classmethod
    def of(cls, text: bytes) -> SharedText:
        """Make one, with what will be asked of it."""
        made = cls(text)
        made.digest, made.deflated = digest_of(text), deflate(text)
        return made


class TextTemplate:
    """Text of which some byte strings, its marks, stand for others that differ from reader to reader.

    Args:
        text: it, marks included.
    """

    __slots__ = ("_counts", "text")

    def __init__(self, text: bytes) -> None:
        if isinstance(text, DigestedText):
            self.text = text
        else:
            self.text = DigestedText(text)
            self.text.digest = digest_of(text)
        self._counts: dict[bytes, int] = {}

    def count(self, mark: bytes) -> int:
        """How often a mark is in it."""
        if mark not in self._counts:
            self._counts[mark] = self.text.count(mark)
        return self._counts[mark]


Replacements = tuple[tuple[bytes, bytes], ...]
"""Marks with what is put in the place of each; none of that has a mark in it."""


class FilledText(NamedTuple):
    """A template and what stands in the place of its marks: its bytes are made when they are sent.

    Its length and its digest are known without them, so whoever asks for a text of hours with replacements of
    his own has it made piece by piece, as fast as he takes it.
    """

    template: TextTemplate
    replacements: Replacements

    @property
    def size(self) -> int:
        """Bytes of the text."""
        count = self.template.count
        return len(self.template.text) + sum(
            count(mark) * (len(new) - len(mark)) for mark, new in self.replacements
        )

    @property
    def digest(self) -> bytes:
        """What tells it from other texts."""
        return digest_of(self.template.text.digest + _digest_of_all(self.replacements))

    def render(self) -> bytes:
        """Make its bytes."""
        text: bytes = self.template.text
        for mark, new in self.replacements:
            if self.template.count(mark):
                text = text.replace(mark, new)
        return text


@functools.lru_cache(maxsize=64)
def _digest_of_all(replacements: Replacements) -> bytes:
    return digest_of(b"\0".join(part for replacement in replacements for part in replacement))


Text = bytes | FilledText
Pieces = tuple[Text, ...]
"""A text; its pieces joined in this order."""


def size_of(pieces: Iterable[Text]) -> int:
    """How many bytes a text in pieces has."""
    return sum(piece.size if isinstance(piece, FilledText) else len(piece) for piece in pieces)


def rendered(pieces: Iterable[Text]) -> tuple[bytes, ...]:
    """Give the bytes of each piece."""
    return tuple(piece.render() if isinstance(piece, FilledText) else piece for piece in pieces)

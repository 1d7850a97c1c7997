"""Entity-tags and gzip (RFC 1952) of long texts in pieces, most of which were compressed before.

A playlist of a day has megabytes, of which a few lines are new each time. Long pieces are compressed once, as
the blocks of a deflate stream can be made separately (RFC 1951 §3.2), and checksums can be combined.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from media.hls.precompressed_text import (
    Deflated,
    DigestedText,
    FilledText,
    PackedText,
    Pieces,
    SharedText,
    Text,
    Unrendered,
    deflate,
    digest_of,
    size_of,
)
from packager.single_flight_cache import CacheLimits, SingleFlightCache

LONG_BYTES = 16 * 1024
"""Size from which a compressed piece is cached, as it is likely to be sent again."""

KEPT = 256
"""Most entries of each cache."""

LIMITS = CacheLimits(items=KEPT, nbytes=16 << 20)
"""Entries and bytes of each cache."""

QUICK_BYTES = 256 << 10
"""Most bytes that are compressed on the event loop, in some milliseconds."""

RUN_PIECES = 128
"""Most pieces whose compressed forms are kept joined: of a text that grows, few are joined anew."""

OFTEN = 8
"""So many texts of one size are worth tables for it, which stay for the next ones."""

SIZES_KEPT = 16
"""For so many sizes tables are kept, each of 40 KB."""

_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""RFC 1952 §2.3: deflate, no fields, no time, unknown system."""

_END = b"\x03\x00"
"""RFC 1951 §3.2.6: a last block of no bytes."""

_POLYNOMIAL = 0xEDB88320
"""The polynomial of CRC-32, with the highest power in the lowest bit (RFC 1952 §8)."""

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class BoundedCache(Generic[K, T]):
    """A cache of a function's results, limited in entries and bytes; one thread makes each for all."""

    def __init__(self, make: Callable[[K], T], size: Callable[[K], int]) -> None:
        self._make = make
        self._size = size
        # Each result with the bytes of what it is made of, which is kept with it.
        self._made = SingleFlightCache[K, tuple[T, int]](LIMITS, operator.itemgetter(1))

    def __contains__(self, data: K) -> bool:
        return data in self._made

    def __call__(self, data: K) -> T:
        """Return the cached result, or compute it."""
        hash(data)  # slow for a long text the first time, so it is computed outside of the lock
        return self._made.get(data, lambda: (self._make(data), self._size(data)))[0]


def _make_tag(pieces: Pieces) -> str:
    digests = [_digest_of(piece) for piece in pieces]
    whole = digests[0] if len(digests) == 1 else digest_of(b"".join(digests))
    return f'"{whole.hex()}"'


def _digest_of(piece: Text) -> bytes:
    if isinstance(piece, DigestedText | Unrendered):
        return piece.digest
    return (_digest if len(piece) >= LONG_BYTES else digest_of)(piece)


def _make_gzip(pieces: Pieces) -> bytes:
    made = []
    for lasting, run in itertools.groupby(pieces, lambda piece: isinstance(piece, SharedText | PackedText)):
        if lasting:
            made += join(tuple(run))
        else:
            made += [_deflated(piece) if _comes_again(piece) else _make_deflated(piece) for piece in run]
    whole = _joined(made)
    end = whole.crc.to_bytes(4, "little") + (whole.size & 0xFFFFFFFF).to_bytes(4, "little")
    return b"".join((_HEAD, whole.data, _END, end))


def join(pieces: Pieces) -> list[Deflated]:
    """Join the compressed forms of pieces that are compressed; of many ahead, in a thread."""
    return [_run(pieces[begin : begin + RUN_PIECES]) for begin in range(0, len(pieces), RUN_PIECES)]


def _comes_again(piece: Text) -> bool:
    return isinstance(piece, FilledText) or len(piece) >= LONG_BYTES


def _make_deflated(piece: Text) -> Deflated:
    return deflate(piece.render() if isinstance(piece, Unrendered) else piece)


def _size(piece: Text) -> int:
    return size_of((piece,))


def _make_run(pieces: Pieces) -> Deflated:
    return _joined([piece.deflated for piece in pieces if isinstance(piece, SharedText | PackedText)])


def _joined(parts: Sequence[Deflated]) -> Deflated:
    crc = size = 0
    counts = Counter(part.size for part in parts)
    for part in parts:
        moved = _moved_often if counts[part.size] >= OFTEN else _moved
        crc, size = moved(crc, part.size) ^ part.crc, size + part.size
    return Deflated(b"".join(part.data for part in parts), crc, size)


def _own_bytes(pieces: Pieces) -> int:
    """Bytes of a text that no other one has in common with it, as far as they are kept."""
    packed = (len(piece.deflated.data) for piece in pieces if isinstance(piece, PackedText))
    return sum(packed) + size_of(piece for piece in pieces if not isinstance(piece, SharedText | PackedText))


def _run_bytes(pieces: Pieces) -> int:
    return sum(len(piece.deflated.data) for piece in pieces if isinstance(piece, SharedText | PackedText))


_digest = BoundedCache(digest_of, len)
_deflated = BoundedCache(_make_deflated, _size)
_run = BoundedCache(_make_run, _run_bytes)

tag = BoundedCache(_make_tag, _own_bytes)
"""The entity-tag of a text, quotes included; it depends on the text alone, not on its pieces."""

gzip = BoundedCache(_make_gzip, _own_bytes)
"""A text in gzip."""


def is_quick(pieces: Pieces) -> bool:
    """Return whether compressing a text takes a moment only, or its gzip is cached."""
    others = (piece for piece in pieces if not isinstance(piece, SharedText | PackedText))
    fresh = size_of(piece for piece in others if piece not in _deflated)
    return fresh <= QUICK_BYTES or pieces in gzip


def gzip_tag(pieces: Pieces) -> str:
    """Return the entity-tag of a text's gzip (RFC 9110 §8.8.3.3: each coding has its own)."""
    return f'{tag(pieces)[:-1]}-gzip"'


def crc32_combine(first: int, second: int, size: int) -> int:
    """Combine the CRC-32 of two texts to that of their concatenation, as zlib's crc32_combine does.

    Args:
        first: the first one's.
        second: the second one's.
        size: how many bytes the second one has.
    """
    return _moved(first, size) ^ second


def _moved(crc: int, size: int) -> int:
    """Return what a CRC-32 of a text is worth behind which so many bytes follow."""
    # A CRC-32 is a polynomial, which these bytes multiply by x to the 8 * size.
    return _product(_power(size), crc)


def _moved_often(crc: int, size: int) -> int:
    """Return what a CRC-32 is worth behind which so many bytes follow, by tables for that size."""
    first, second, third, fourth = _tables(size)
    return first[crc & 255] ^ second[crc >> 8 & 255] ^ third[crc >> 16 & 255] ^ fourth[crc >> 24]


@functools.lru_cache(maxsize=SIZES_KEPT)
def _tables(size: int) -> Sequence[Sequence[int]]:
    """Return what each value of each byte of a CRC-32 is worth behind which so many bytes follow."""
    tables = []
    for byte in range(4):
        table = [0]
        for bit in range(8):
            moved = _moved(1 << 8 * byte + bit, size)
            table += [one ^ moved for one in table]
        tables.append(table)
    return tables


@functools.lru_cache(maxsize=KEPT)
def _power(size: int) -> int:
    """X to the 8 * size, modulo the polynomial."""
    power, square = 1 << 31, 1 << 23
    while size:
        if size & 1:
            power = _product(square, power)
        square = _product(square, square)
        size >>= 1
    return power


def _product(one: int, other: int) -> int:
    """Multiply two polynomials modulo the checksum's."""
    result = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            result ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return result

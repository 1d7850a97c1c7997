"""The pieces of which a reply's body consists: bytes, and ranges of the file that the reply is sent from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from origin.answers.vectored_read import FileRuns
from origin.http.byte_ranges import SelectedRange

PIECES_AT_ONCE = 64
"""Most pieces that are made, or sent in one call."""

READ_LIMIT = 16 * 1024
"""Mean length of several ranges up to which reading them for one send is cheaper than many sendfiles."""


class TruncatedFileError(Exception):
    """The file ended before the bytes that were promised."""


class LazyPieces:
    """Many pieces that are made while they are sent, so that a slow client costs no list of them.

    Args:
        pieces: used once.
        length: the pieces' bytes together.
    """

    __slots__ = ("_length", "_pieces")

    def __init__(self, pieces: Iterator[bytes | SelectedRange], length: int) -> None:
        self._pieces = pieces
        self._length = length

    def __len__(self) -> int:
        """Return how many bytes all pieces have."""
        return self._length

    def make(self) -> list[bytes | SelectedRange]:
        """Return the next pieces; none at their end."""
        return list(islice(self._pieces, PIECES_AT_ONCE))


Piece = bytes | memoryview | SelectedRange | FileRuns | LazyPieces
"""Bytes, or what stands for bytes of the reply's source."""

"""The outlines of a rendition's blocks in an S3 bucket: objects that are derived from pieces of its index.

The name of an outline has a digest of the names and lengths of all pieces of its block. So a process that has
listed the pieces knows it, all make the same object, and nobody finds one of pieces that have grown since.
The object has the digest as well: one that is damaged, or another block's, is recognised and passed over.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Struct

from packager.dvr.index_pieces import PieceName
from packager.dvr.outline_cache import MAX_OUTLINE_BYTES
from packager.library.local_storage import NotFoundError
from packager.past.outlines import BLOCK_SEGMENTS

if TYPE_CHECKING:
    from packager.s3.client import S3Client

OUTLINE_FOLDER = "outlines"
"""The folder of a rendition's outlines, beside that of its index."""

OUTLINE_TYPE = "application/octet-stream"
"""Media type of an outline."""

NEWEST_BLOCKS = 2
"""So many of the newest blocks may still get a late line of who stored before, and another outline then."""

_NAME = re.compile(r"([0-9]{15})-([0-9a-f]{16})")


class OutlineName(Struct, frozen=True, gc=False, order=True):
    """The name of an outline.

    Attributes:
        first: the first number of its block.
        digest: says of which rendition, cadence and pieces it was made.
    """

    first: int
    digest: int

    def __str__(self) -> str:
        """Return the last part of its key."""
        return f"{self.first:015d}-{self.digest:016x}"

    @classmethod
    def read(cls, name: str) -> OutlineName | None:
        """Read a name; None where it isn't that of an outline."""
        found = _NAME.fullmatch(name)
        return None if found is None else cls(int(found[1]), int(found[2], 16))


class PieceBlock(NamedTuple):
    """A block of numbers that some pieces have.

    Attributes:
        first: its first number.
        pieces: all that have any of its numbers, in ascending order.
    """

    first: int
    pieces: tuple[PieceName, ...]

    def outline_name(self, rendition: str) -> OutlineName:
        """Name its outline.

        Args:
            rendition: names the rendition and its cadence.
        """
        parts = (rendition, str(self.first), *(f"{one} {one.size}" for one in self.pieces))
        digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=8).digest()
        return OutlineName(self.first, int.from_bytes(digest))


def blocks_with(pieces: Sequence[PieceName], first: int, last: int) -> Iterator[PieceBlock]:
    """Yield the blocks of pieces that begin between two numbers, with all of their pieces.

    Args:
        pieces: in ascending order, each within one block.
    """
    begin = bisect_left(pieces, first - first % BLOCK_SEGMENTS, key=_first)
    behind = bisect_left(pieces, last - last % BLOCK_SEGMENTS + BLOCK_SEGMENTS, key=_first)
    for block, own in groupby(pieces[begin:behind], lambda one: one.number // BLOCK_SEGMENTS):
        yield PieceBlock(block * BLOCK_SEGMENTS, tuple(own))


def full_blocks(pieces: Sequence[PieceName]) -> range:
    """Return the first numbers of the blocks that are complete.

    That is neither the newest block, nor the oldest one, of which pieces are removed.
    """
    if not pieces:
        return range(0)
    oldest, newest = (one.number - one.number % BLOCK_SEGMENTS for one in (pieces[0], pieces[-1]))
    return range(oldest + BLOCK_SEGMENTS, newest, BLOCK_SEGMENTS)


def list_outlines(client: S3Client, folder: str) -> Iterator[list[OutlineName]]:
    """List the names of outlines page by page, those of the oldest blocks first. Blocks.

    Raises:
        OSError: S3 can't be reached now, or refuses.
    """
    for page in client.objects(folder):
        names = (OutlineName.read(one.key.removeprefix(f"{folder}/")) for one in page)
        yield [name for name in names if name is not None]


def read_outline(client: S3Client, folder: str, name: OutlineName) -> bytes:
    """Read an outline; nothing where it isn't there. Blocks.

    Raises:
        OSError: S3 can't be reached now, or refuses.
    """
    try:
        return client.read_first(f"{folder}/{name}", MAX_OUTLINE_BYTES)[1]
    except NotFoundError:
        return b""


class OutlinedPieces(Protocol):
    """The pieces of a rendition's index, as the writer of outlines sees them; all of this blocks."""

    def full_blocks(self, newest: int) -> range:
        """Return the first numbers of the blocks that are complete.

        Args:
            newest: the first number of the newest piece, as far as that is known.
        """

    def outline_name(self, first: int) -> OutlineName | None:
        """Name the outline of the block with a first number; None where there can't be any."""

    def encoded_outline(self, first: int, name: OutlineName) -> bytes:
        """Make the outline of a block; nothing where its name isn't that any more, or the block is empty."""


class OutlineWriter:
    """Writes the outlines of a rendition's blocks to S3, the newest first. Blocks.

    Args:
        client: asks S3.
        key: the rendition's, without a slash at its end.
    """

    def __init__(self, client: S3Client, key: str, pieces: OutlinedPieces) -> None:
        self._client = client
        self._folder = f"{key}/{OUTLINE_FOLDER}"
        self._pieces = pieces
        # Work that was cancelled may still be in its thread.
        self._lock = Lock()
        # Also those that can't be made.
        self._there: set[OutlineName] | None = None
        self._lacking: list[int] = []

    def write_next(self, newest: int) -> bool:
        """Write the outline of one block that has none; return whether there was such a block.

        Args:
            newest: the first number of the newest piece, as far as that is known.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        with self._lock:
            blocks = self._pieces.full_blocks(newest)
            if self._there is None:
                self._there = set(chain.from_iterable(list_outlines(self._client, self._folder)))
                self._lacking = list(blocks[:-NEWEST_BLOCKS])
            if any(self._write(one, self._there) for one in reversed(blocks[-NEWEST_BLOCKS:])):
                return True
            while self._lacking:
                first = self._lacking[-1]
                is_written = first in blocks and self._write(first, self._there)
                self._lacking.pop()
                if is_written:
                    return True
            return False

    def _write(self, first: int, there: set[OutlineName]) -> bool:
        """Write the outline of a block, unless it is there; return whether that took any work."""
        name = self._pieces.outline_name(first)
        if name is None or name in there:
            return False
        if data := self._pieces.encoded_outline(first, name):
            self._client.put(f"{self._folder}/{name}", data, OUTLINE_TYPE)
        there.add(name)
        return True


def _first(piece: PieceName) -> int:
    return piece.number

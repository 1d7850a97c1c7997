"""The outlines of a channel's blocks in an S3 bucket: objects that are derived from pieces of its indexes.

An object has the outlines of a block of all renditions, or of some consecutive blocks once these are full, so
that a span takes few requests. Each outline says of which pieces it was made, by their names and lengths: one
that was made before these grew, is damaged or another block's is recognised and passed over.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Struct

from packager.dvr.index_pieces import PieceName
from packager.dvr.init_files import parse_init
from packager.library.local_storage import NotFoundError
from packager.past.coded_outlines import NotedOutline, OutlineGroup
from packager.past.outlines import BLOCK_SEGMENTS

if TYPE_CHECKING:
    from packager.s3.client import S3Client

OUTLINE_FOLDER = "outlines"
"""The folder of a channel's outlines, beside those of its renditions."""

OUTLINE_TYPE = "application/octet-stream"
"""Media type of an object with outlines."""

MAX_OBJECT_BYTES = 2 << 20
"""Longest object with outlines; those of four renditions have some 100 KB."""

GROUP_BLOCKS = 8
"""So many blocks have one object, the number of whose first one this divides: some two hours."""

GROUP_SEGMENTS = GROUP_BLOCKS * BLOCK_SEGMENTS

NEWEST_BLOCKS = 2
"""So many of the newest blocks may still get a late line of who stored before, and another outline then."""

_NAME = re.compile(r"([0-9]{15})-([1-9][0-9]?)")


class OutlineName(Struct, frozen=True, gc=False, order=True):
    """The name of an object with outlines.

    Attributes:
        first: the first number of its first block.
        blocks: how many consecutive blocks it has.
    """

    first: int
    blocks: int

    def __str__(self) -> str:
        """Return the last part of its key."""
        return f"{self.first:015d}-{self.blocks}"

    @classmethod
    def read(cls, name: str) -> OutlineName | None:
        """Read a name; None where it isn't that of such an object."""
        found = _NAME.fullmatch(name)
        return None if found is None else cls(int(found[1]), int(found[2]))

    @classmethod
    def having(cls, block: int, full: range) -> OutlineName:
        """Name the object that has a block.

        Args:
            block: its first number.
            full: the first numbers of the blocks that are complete, this one among them.
        """
        group = cls(block - block % GROUP_SEGMENTS, GROUP_BLOCKS)
        return group if group.behind <= full.stop else cls(block, 1)

    @property
    def behind(self) -> int:
        """The number behind its last one."""
        return self.first + self.blocks * BLOCK_SEGMENTS

    @property
    def firsts(self) -> range:
        """The first numbers of its blocks."""
        return range(self.first, self.behind, BLOCK_SEGMENTS)


class PieceBlock(NamedTuple):
    """A block of numbers that some pieces have.

    Attributes:
        first: its first number.
        pieces: all that have any of its numbers, in ascending order.
    """

    first: int
    pieces: tuple[PieceName, ...]

    def digest(self, rendition: str) -> int:
        """Return what says of which pieces its outline is made.

        Args:
            rendition: names the rendition and its cadence.
        """
        parts = (rendition, str(self.first), *(f"{one} {one.size}" for one in self.pieces))
        return int.from_bytes(hashlib.blake2b("\n".join(parts).encode(), digest_size=8).digest())


def blocks_with(pieces: Sequence[PieceName], first: int, last: int) -> Iterator[PieceBlock]:
    """Yield the blocks of pieces that begin between two numbers, with all of their pieces.

    Args:
        pieces: in ascending order, each within one block.
    """
    begin = bisect_left(pieces, first - first % BLOCK_SEGMENTS, key=_first)
    behind = bisect_left(pieces, last - last % BLOCK_SEGMENTS + BLOCK_SEGMENTS, key=_first)
    for block, own in groupby(pieces[begin:behind], lambda one: one.number // BLOCK_SEGMENTS):
        yield PieceBlock(block * BLOCK_SEGMENTS, tuple(own))


def by_object(
    blocks: Iterable[PieceBlock], full: range
) -> Iterator[tuple[OutlineName | None, Sequence[PieceBlock]]]:
    """Yield blocks by the names of the objects that have their outlines; None for those of which none has.

    Args:
        blocks: in ascending order.
        full: the first numbers of those that are complete.
    """
    for group, own in groupby(blocks, lambda one: one.first // GROUP_SEGMENTS):
        name = OutlineName(group * GROUP_SEGMENTS, GROUP_BLOCKS)
        if name.behind <= full.stop:
            yield name, list(own)
            continue
        for one in own:
            yield OutlineName(one.first, 1) if one.first in full else None, [one]


def full_blocks(pieces: Sequence[PieceName]) -> range:
    """Return the first numbers of the blocks that are complete.

    That is neither the newest block, nor the oldest one, of which pieces are removed.
    """
    if not pieces:
        return range(0)
    oldest, newest = (one.number - one.number % BLOCK_SEGMENTS for one in (pieces[0], pieces[-1]))
    return range(oldest + BLOCK_SEGMENTS, newest, BLOCK_SEGMENTS)


def list_outlines(client: S3Client, folder: str) -> Iterator[list[OutlineName]]:
    """List the names of objects with outlines page by page, those of the oldest blocks first. Blocks.

    Raises:
        OSError: S3 can't be reached now, or refuses.
    """
    for page in client.objects(folder):
        names = (OutlineName.read(one.key.removeprefix(f"{folder}/")) for one in page)
        yield [name for name in names if name is not None]


def read_outlines(client: S3Client, folder: str, name: OutlineName) -> bytes:
    """Read an object with outlines; nothing where it isn't there. Blocks.

    Raises:
        OSError: S3 can't be reached now, or refuses.
    """
    try:
        return client.read_first(f"{folder}/{name}", MAX_OBJECT_BYTES)[1]
    except NotFoundError:
        return b""


def read_group(client: S3Client, folder: str, name: OutlineName) -> OutlineGroup | None:
    """Read the outlines of an object; None where it isn't there, or is damaged. Blocks.

    Raises:
        OSError: S3 can't be reached now, or refuses.
    """
    return OutlineGroup.decode(read_outlines(client, folder, name), name.first, parse_init)


class OutlinedPieces(Protocol):
    """The pieces of a rendition's index, as the writer of outlines sees them; all of this blocks."""

    def full_blocks(self, newest: int) -> range:
        """Return the first numbers of the blocks that are complete.

        Args:
            newest: the first number of the newest piece, as far as that is known.
        """

    def outline_digest(self, first: int) -> int | None:
        """Return of what the outline of the block with a first number is made; None without one."""

    def noted_outline(self, first: int) -> NotedOutline | None:
        """Make the outline of a block; None where its pieces aren't what was listed, or it is empty."""


_Digests = frozenset[tuple[str, int, int]]
"""Of what outlines are made: rendition, block, and digest of the pieces."""

_NO_DIGESTS: _Digests = frozenset()


class _Begun(NamedTuple):
    """An object of whose outlines some are made.

    Attributes:
        made: by rendition.
        left: the first numbers of the blocks that are still to be made.
    """

    name: OutlineName
    digests: _Digests
    made: Mapping[str, list[NotedOutline]]
    left: list[int]


class OutlineWriter:
    """Writes the outlines of a channel's blocks to S3, the newest first. Blocks.

    Args:
        client: asks S3.
        key: that of the channel's DVR, without a slash at its end.
        renditions: the pieces of all renditions, by name.
    """

    def __init__(self, client: S3Client, key: str, renditions: Mapping[str, OutlinedPieces]) -> None:
        self._client = client
        self._folder = f"{key}/{OUTLINE_FOLDER}"
        self._renditions = renditions
        # Work that was cancelled may still be in its thread.
        self._lock = Lock()
        # Also those of which there is nothing; of what they were made, if it was here.
        self._there: dict[OutlineName, _Digests] | None = None
        self._begun: _Begun | None = None

    def write_next(self, newest: int) -> bool:
        """Do one step: make the outlines of one block that has none; return whether there was one.

        Args:
            newest: the first number of the newest piece, as far as that is known.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        with self._lock:
            full = self._full_blocks(newest)
            name = self._next(full)
            if name is None:
                return False
            begun = self._begun
            if begun is None or begun.name != name:
                made: dict[str, list[NotedOutline]] = {rendition: [] for rendition in self._renditions}
                left = [first for first in name.firsts if first in full]
                begun = self._begun = _Begun(name, self._digests(name, full), made, left)
            self._make(begun)
            return True

    def _full_blocks(self, newest: int) -> range:
        """Return the blocks that are complete of all renditions that have any."""
        found = [full for one in self._renditions.values() if (full := one.full_blocks(newest)).stop]
        if not found:
            return range(0)
        return range(min(one.start for one in found), min(one.stop for one in found), BLOCK_SEGMENTS)

    def _next(self, full: range) -> OutlineName | None:
        """Return the newest object that isn't there, or in which something has changed."""
        names = list(dict.fromkeys(OutlineName.having(one, full) for one in reversed(full)))
        newest = {OutlineName.having(one, full) for one in full[-NEWEST_BLOCKS:]}
        if self._there is None:
            listed = set(chain.from_iterable(list_outlines(self._client, self._folder)))
            known = {one: read_group(self._client, self._folder, one) for one in listed & newest}
            read = {one: group.digests for one, group in known.items() if group is not None}
            self._there = {**dict.fromkeys(listed - newest, _NO_DIGESTS), **read}
        there = self._there = {one: self._there[one] for one in names if one in self._there}
        for name in names:
            if name not in there or (name in newest and not there[name] >= self._digests(name, full)):
                return name
        return None

    def _digests(self, name: OutlineName, full: range) -> _Digests:
        """Return of what the outlines of an object are to be made, by rendition and block."""
        return frozenset(
            (rendition, first, digest)
            for rendition, pieces in self._renditions.items()
            for first in name.firsts
            if first in full and (digest := pieces.outline_digest(first)) is not None
        )

    def _make(self, begun: _Begun) -> None:
        """Make the outlines of one block, and store them with the last one."""
        first = begun.left[0]
        made = {rendition: pieces.noted_outline(first) for rendition, pieces in self._renditions.items()}
        for rendition, one in made.items():
            if one is not None:
                begun.made[rendition].append(one)
        del begun.left[0]
        if begun.left:
            return
        self._begun = None
        if any(begun.made.values()):
            data = OutlineGroup.encode(begun.name.first, begun.made)
            if len(data) <= MAX_OBJECT_BYTES:
                self._client.put(f"{self._folder}/{begun.name}", data, OUTLINE_TYPE)
        if self._there is not None:
            self._there[begun.name] = begun.digests


def _first(piece: PieceName) -> int:
    return piece.number

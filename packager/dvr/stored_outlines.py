"""The outlines of a channel's blocks, on disk or in S3: files that are derived from its indexes.

A file has the outlines of a block of all renditions, or of some consecutive blocks once these are full, so
that a span takes few of them. Each outline says of what state of the index it was made: one that was made
before this grew, is damaged or another block's is recognised and passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import structlog
from msgspec import Struct

from packager.dvr.init_files import parse_init
from packager.dvr.own_files import MAX_OUTLINES_BYTES, OUTLINES_NAME
from packager.dvr.stores.file_stores import BucketStore, FileStore, FolderStore
from packager.past.coded_outlines import OUTLINES_BEGIN, NotedOutline, OutlineGroup, is_outline_group
from packager.past.outlines import BLOCK_SEGMENTS
from packager.safe_files import DataFolder

if TYPE_CHECKING:
    from packager.s3.client import S3Client

log = structlog.get_logger()

OUTLINE_FOLDER = "outlines"
"""The folder of a channel's outlines, beside those of its renditions."""

OUTLINE_TYPE = "application/octet-stream"
"""Media type of an object with outlines."""

GROUP_BLOCKS = 8
"""So many blocks have one file, the number of whose first one this divides: some two hours."""

GROUP_SEGMENTS = GROUP_BLOCKS * BLOCK_SEGMENTS

NEWEST_BLOCKS = 2
"""So many of the newest blocks may still get a late line of who stored before, and another outline then."""


class OutlineName(Struct, frozen=True, gc=False, order=True):
    """The name of a file with outlines.

    Attributes:
        first: the first number of its first block.
        blocks: how many consecutive blocks it has.
    """

    first: int
    blocks: int

    def __str__(self) -> str:
        """Return the last part of its path or key."""
        return f"{self.first:015d}-{self.blocks}"

    @classmethod
    def read(cls, name: str) -> OutlineName | None:
        """Read a name; None where it isn't that of such a file."""
        found = OUTLINES_NAME.fullmatch(name)
        return None if found is None else cls(int(found[1]), int(found[2]))

    @classmethod
    def having(cls, block: int, full: range) -> OutlineName:
        """Name the file that has a block.

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


class OutlinedBlock(Protocol):
    """A block of a rendition's numbers, in some state of its index."""

    @property
    def first(self) -> int:
        """Its first number."""

    def __hash__(self) -> int:
        """Blocks of the same state are the same."""


BlockT = TypeVar("BlockT", bound=OutlinedBlock)


def by_file(blocks: Iterable[BlockT], full: range) -> Iterator[tuple[OutlineName | None, Sequence[BlockT]]]:
    """Yield blocks by the names of the files that have their outlines; None for those of which none has.

    Args:
        blocks: in ascending order.
        full: the first numbers of those that are complete.
    """
    for group, own in groupby(blocks, lambda one: one.first // GROUP_SEGMENTS):
        name = OutlineName(group * GROUP_SEGMENTS, GROUP_BLOCKS)
        # The oldest block, which isn't complete, may be the only one of its group.
        if full.start < name.behind <= full.stop:
            yield name, list(own)
            continue
        for one in own:
            yield OutlineName(one.first, 1) if one.first in full else None, [one]


class OutlineStore:
    """The files with the outlines of a channel's blocks; all of this blocks.

    Args:
        files: the store of these files.

    Attributes:
        address: names the place among all.
    """

    def __init__(self, files: FileStore) -> None:
        self._files = files
        self.address = files.address
        # Files that somebody else wrote, or that can't be read.
        self._left: set[OutlineName] = set()

    @classmethod
    def on_disk(cls, dvr: DataFolder) -> OutlineStore:
        """Return the outlines in the folder of a channel's DVR."""
        return cls(FolderStore(dvr / OUTLINE_FOLDER, OUTLINES_BEGIN))

    @classmethod
    def in_bucket(cls, client: S3Client, key: str, bucket: str = "") -> OutlineStore:
        """Return those of a DVR in a bucket.

        Args:
            key: that of the DVR, without a slash at its end.
            bucket: address of the bucket, where it matters among others.
        """
        return cls(BucketStore(client, f"{key}/{OUTLINE_FOLDER}", OUTLINE_TYPE, bucket))

    def names(self) -> Iterator[Sequence[OutlineName]]:
        """List the names of all files page by page, those of the oldest blocks first, for who writes them.

        Raises:
            OSError: they can't be listed now.
        """
        self._files.tidy()
        for page in self._files.list():
            yield [name for one in page if (name := OutlineName.read(one.name)) is not None]

    def write(self, name: OutlineName, data: bytes) -> None:
        """Write a file, in place of one of this name.

        Raises:
            OSError: it can't be written now.
        """
        self._files.put(str(name), data)

    def group(self, name: OutlineName) -> OutlineGroup | None:
        """Read the outlines of a file; None where it isn't there, or is damaged.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        return OutlineGroup.decode(self._read(name), name.first, parse_init)

    def remove_before(self, number: int) -> None:
        """Remove the files all of whose blocks are before a number.

        Raises:
            OSError: they can't be removed now.
        """
        for name in chain.from_iterable(self.names()):
            if name.first >= number:
                return
            if name in self._left or name.behind > number:
                continue
            data = self._read(name)
            if is_outline_group(data, name.first):
                self._files.delete(str(name), len(data))
            else:
                self._left.add(name)
                place = f"{self.address}/{name}"
                log.warning("an outline of a DVR isn't ours, and isn't removed", place=place)

    def _read(self, name: OutlineName) -> bytes:
        return self._files.get(str(name), MAX_OUTLINES_BYTES)


class OutlinedIndex(Protocol):
    """A rendition's index, as the writer of outlines sees it; all of this blocks."""

    def full_blocks(self, newest: int) -> range:
        """Return the first numbers of the blocks that are complete.

        Args:
            newest: the first number of what the index got last, as far as that is known.
        """

    def outline_digest(self, first: int) -> int | None:
        """Return of what the outline of the block with a first number is made; None without one."""

    def noted_outline(self, first: int) -> NotedOutline | None:
        """Make the outline of a block; None where its index isn't what was listed, or it is empty."""


_Digests = frozenset[tuple[str, int, int]]
"""Of what outlines are made: rendition, block, and digest of its index."""


class _Begun(NamedTuple):
    """A file of whose outlines some are made.

    Attributes:
        made: by rendition.
        left: the first numbers of the blocks that are still to be made.
    """

    name: OutlineName
    digests: _Digests
    made: Mapping[str, list[NotedOutline]]
    left: list[int]


class OutlineWriter:
    """Writes the outlines of a channel's blocks, the newest first. Blocks.

    Args:
        renditions: the indexes of all renditions, by name.
    """

    def __init__(self, store: OutlineStore, renditions: Mapping[str, OutlinedIndex]) -> None:
        self._store = store
        self._renditions = renditions
        # Work that was cancelled may still be in its thread.
        self._lock = Lock()
        # Of what they were made; None: they weren't read. Also those of which there is nothing.
        self._there: dict[OutlineName, _Digests | None] | None = None
        # The blocks that were complete when nothing was left to do.
        self._settled: range | None = None
        self._begun: _Begun | None = None

    def write_next(self, newest: int) -> bool:
        """Do one step: look at a file, or make the outlines of a block that has none; False if none is left.

        Args:
            newest: the first number of what the index got last, as far as that is known.

        Raises:
            OSError: they can't be read or written now.
        """
        with self._lock:
            full = self._full_blocks(newest)
            name = self._next(full)
            if name is None or self._is_right(name, full):
                return name is not None
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
        """Return the newest file that isn't there or wasn't looked at, or in which something has changed."""
        newest = dict.fromkeys(OutlineName.having(one, full) for one in reversed(full[-NEWEST_BLOCKS:]))
        names = newest
        if full != self._settled:
            names = dict.fromkeys(OutlineName.having(one, full) for one in reversed(full))
            if self._there is None:
                self._there = dict.fromkeys(chain.from_iterable(self._store.names()))
            self._there = {one: self._there[one] for one in names if one in self._there}
        there = {} if self._there is None else self._there
        for name in names:
            known = there.get(name)
            if known is None or (name in newest and not known >= self._digests(name, full)):
                return name
        self._settled = full
        return None

    def _is_right(self, name: OutlineName, full: range) -> bool:
        """Return whether a file that wasn't read yet, since another process wrote it, has all outlines."""
        there = self._there
        if not there or name not in there or there[name] is not None:
            return False
        group = self._store.group(name)
        if group is not None and group.digests >= self._digests(name, full):
            there[name] = group.digests
            return True
        del there[name]
        return False

    def _digests(self, name: OutlineName, full: range) -> _Digests:
        """Return of what the outlines of a file are to be made, by rendition and block."""
        return frozenset(
            (rendition, first, digest)
            for rendition, one in self._renditions.items()
            for first in name.firsts
            if first in full and (digest := one.outline_digest(first)) is not None
        )

    def _make(self, begun: _Begun) -> None:
        """Make the outlines of one block, and write them with the last one."""
        first = begun.left[0]
        made = {rendition: one.noted_outline(first) for rendition, one in self._renditions.items()}
        for rendition, noted in made.items():
            if noted is not None:
                begun.made[rendition].append(noted)
        del begun.left[0]
        if begun.left:
            return
        self._begun = None
        if any(begun.made.values()):
            data = OutlineGroup.encode(begun.name.first, begun.made)
            if len(data) <= MAX_OUTLINES_BYTES:
                self._store.write(begun.name, data)
        if self._there is not None:
            self._there[begun.name] = begun.digests

"""Reads the outlines of channels' blocks on disk and in S3, and keeps those that were read or made lately."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from itertools import chain
from threading import Lock
from typing import Generic, NamedTuple

from packager.dvr.stored_outlines import GROUP_SEGMENTS, BlockT, OutlineName, OutlineStore, by_file
from packager.past.coded_outlines import OutlineGroup
from packager.past.outlines import OUTLINE_BYTES, Outline
from packager.single_flight_cache import CacheLimits, SingleFlightCache

WAIT_SECONDS = 30.0
"""For how long a thread waits while another one reads the same."""

OUTLINES_KEPT = CacheLimits(items=1 << 16, nbytes=64 << 20)
"""The outlines of all channels that stay in memory; a day of four renditions has 400."""

OUTLINES = SingleFlightCache[tuple[str, int, Hashable], Outline](OUTLINES_KEPT, lambda _: OUTLINE_BYTES)
"""By place, block, and the state of an index that still grows or may be another one's."""

GROUPS_KEPT = CacheLimits(items=1 << 14, nbytes=32 << 20)
"""The files with outlines of all channels that stay in memory; a day of four renditions has 2 MB."""


class OutlineGroups:
    """The files with outlines that were read lately; each is read once for all who want it."""

    def __init__(self) -> None:
        self._kept = SingleFlightCache[str, OutlineGroup](GROUPS_KEPT, lambda one: one.nbytes)
        self._coming: dict[str, Future[OutlineGroup | None]] = {}
        self._lock = Lock()

    def find(self, key: str) -> OutlineGroup | None:
        """Return a file that is in memory."""
        return self._kept.find(key)

    def begin(
        self, key: str, reads: Executor | None, read: Callable[[], OutlineGroup | None]
    ) -> Future[OutlineGroup | None] | OutlineGroup | None:
        """Begin to read a file, unless it is being read.

        Args:
            key: the address of the file, which is read once at a time.
            reads: threads, in one of which the file is read; None: in this one.
            read: reads the file; None where it isn't there, or nobody can use it.
        """
        if reads is None:
            return self._read(key, read)
        with self._lock:
            if key not in self._coming:
                self._coming[key] = reads.submit(self._read, key, read)
            return self._coming[key]

    def _read(self, key: str, read: Callable[[], OutlineGroup | None]) -> OutlineGroup | None:
        try:
            made = read()
            return None if made is None else self._kept.get(key, lambda: made)
        finally:
            with self._lock:
                self._coming.pop(key, None)


GROUPS = OutlineGroups()
"""Of all channels."""

_Group = OutlineGroup | Future[OutlineGroup | None] | None
"""A file, which is still being read perhaps; None where there can't be one."""


class _WantedBlocks(NamedTuple, Generic[BlockT]):
    """Some consecutive blocks whose outlines are wanted.

    Attributes:
        may_be_single: whether each of them may still have a file of its own.
    """

    blocks: Sequence[BlockT]
    group: _Group
    may_be_single: bool = False


class OutlineReader(Generic[BlockT]):
    """Reads the outlines of a rendition's blocks, or has them made. Several threads may call it.

    Args:
        cached_as: names the rendition among all, and its cadence where it may have others.
        digest: returns of what the outline of a block is made.
        make: makes the outline of a block of its index as that is now; None where it has nothing.
        reads: threads in which many files are read at once; None: they are read one by one.
    """

    def __init__(
        self,
        store: OutlineStore,
        rendition: str,
        cached_as: str,
        digest: Callable[[BlockT], int],
        make: Callable[[BlockT], Outline | None],
        reads: Executor | None = None,
    ) -> None:
        self._store = store
        self._rendition = rendition
        self._cached_as = cached_as
        self._digest = digest
        self._make = make
        self._reads = reads

    def outlines(self, blocks: Iterable[BlockT], full: range) -> Iterable[Outline]:
        """Begin to read the outlines of blocks, those of which are returned that there are.

        Args:
            blocks: in ascending order.
            full: the first numbers of those that are complete.
        """
        wanted = [self._begun(*one, full) for one in by_file(blocks, full)]
        return chain.from_iterable(map(self._outlines_of, wanted))

    def keep(self, block: BlockT, make: Callable[[], Outline]) -> Outline:
        """Make the outline of a block in some state, unless it is in memory."""
        return OUTLINES.get((self._cached_as, block.first, block), make)

    def _find(self, block: BlockT) -> Outline | None:
        return OUTLINES.find((self._cached_as, block.first, block))

    def _begun(
        self, name: OutlineName | None, blocks: Sequence[BlockT], full: range
    ) -> _WantedBlocks[BlockT]:
        """Begin to read the file that has the outlines of blocks, unless that or these are in memory."""
        if name is None:
            return _WantedBlocks(blocks, None)
        found = GROUPS.find(self._address(name))
        if found is not None or all(self._find(one) is not None for one in blocks):
            return _WantedBlocks(blocks, found)
        # The newest one may not be there yet.
        may_be_single = name.blocks > 1 and name.behind + GROUP_SEGMENTS > full.stop
        return _WantedBlocks(blocks, self._group(name), may_be_single)

    def _address(self, name: OutlineName) -> str:
        return f"{self._store.address}/{name}"

    def _group(self, name: OutlineName) -> _Group:
        """Begin to read a file with outlines, which one of those who want it asks for."""
        return GROUPS.begin(self._address(name), self._reads, partial(self._store.group, name))

    def _outlines_of(self, wanted: _WantedBlocks[BlockT]) -> Iterator[Outline]:
        found = _waited_for(wanted.group)
        for block in wanted.blocks:
            own = found
            if own is None and wanted.may_be_single:
                own = _waited_for(self._group(OutlineName(block.first, 1)))
            outline = None if own is None else own.outline(self._rendition, block.first, self._digest(block))
            outline = outline or self._find(block) or self._make(block)
            if outline is not None:
                yield outline


def _waited_for(group: _Group) -> OutlineGroup | None:
    return group.result(WAIT_SECONDS) if isinstance(group, Future) else group

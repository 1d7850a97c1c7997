"""Reads the outlines of channels' blocks on disk and in S3, and keeps those that were read or made lately."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Generic, NamedTuple

from packager.blocking_calls import ThreadFlights, in_parallel
from packager.dvr.stored_outlines import GROUP_SEGMENTS, BlockT, OutlineName, OutlineStore, by_file
from packager.past.coded_outlines import OutlineGroup
from packager.past.outlines import OUTLINE_BYTES, Outline
from packager.single_flight_cache import CacheLimits, SingleFlightCache

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
        self._reads = ThreadFlights[str, OutlineGroup | None]()

    def find(self, key: str) -> OutlineGroup | None:
        """Return a file that is in memory."""
        return self._kept.find(key)

    def read(self, key: str, read: Callable[[], OutlineGroup | None]) -> OutlineGroup | None:
        """Read a file, or wait for the call that does.

        Args:
            key: the address of the file, which is read once at a time.
            read: reads the file; None where it isn't there, or nobody can use it.
        """

        def kept() -> OutlineGroup | None:
            made = read()
            return None if made is None else self._kept.get(key, lambda: made)

        return self._reads.do(key, kept)


GROUPS = OutlineGroups()
"""Of all channels."""


class _WantedBlocks(NamedTuple, Generic[BlockT]):
    """Some consecutive blocks whose outlines are wanted.

    Attributes:
        may_be_single: whether each of them may still have a file of its own.
    """

    blocks: Sequence[BlockT]
    group: OutlineGroup | None
    may_be_single: bool = False


class OutlineReader(Generic[BlockT]):
    """Reads the outlines of a rendition's blocks, or has them made. Several threads may call it.

    Args:
        cached_as: names the rendition among all, and its cadence where it may have others.
        digest: returns of what the outline of a block is made.
        make: makes the outline of a block of its index as that is now; None where it has nothing.
        at_once: most files that are read at once for the same span.
    """

    def __init__(
        self,
        store: OutlineStore,
        rendition: str,
        cached_as: str,
        digest: Callable[[BlockT], int],
        make: Callable[[BlockT], Outline | None],
        at_once: int = 1,
    ) -> None:
        self._store = store
        self._rendition = rendition
        self._cached_as = cached_as
        self._digest = digest
        self._make = make
        self._at_once = at_once

    def outlines(self, blocks: Iterable[BlockT], full: range) -> Iterable[Outline]:
        """Begin to read the outlines of blocks, those of which are returned that there are.

        Args:
            blocks: in ascending order.
            full: the first numbers of those that are complete.
        """
        wanted = in_parallel(lambda one: self._read(*one, full), by_file(blocks, full), self._at_once)
        return chain.from_iterable(map(self._outlines_of, wanted))

    def keep(self, block: BlockT, make: Callable[[], Outline]) -> Outline:
        """Make the outline of a block in some state, unless it is in memory."""
        return OUTLINES.get((self._cached_as, block.first, block), make)

    def _find(self, block: BlockT) -> Outline | None:
        return OUTLINES.find((self._cached_as, block.first, block))

    def _read(self, name: OutlineName | None, blocks: Sequence[BlockT], full: range) -> _WantedBlocks[BlockT]:
        """Read the file that has the outlines of blocks, unless these are in memory."""
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

    def _group(self, name: OutlineName) -> OutlineGroup | None:
        """Read a file with outlines, which one of those who want it asks for."""
        return GROUPS.read(self._address(name), partial(self._store.group, name))

    def _outlines_of(self, wanted: _WantedBlocks[BlockT]) -> Iterator[Outline]:
        for block in wanted.blocks:
            own = wanted.group
            if own is None and wanted.may_be_single:
                own = self._group(OutlineName(block.first, 1))
            outline = None if own is None else own.outline(self._rendition, block.first, self._digest(block))
            outline = outline or self._find(block) or self._make(block)
            if outline is not None:
                yield outline

"""The outlines that were read or made lately, of all channels' blocks on disk and in S3."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from threading import Lock

from packager.past.coded_outlines import OutlineGroup
from packager.past.outlines import OUTLINE_BYTES, Outline
from packager.single_flight_cache import CacheLimits, SingleFlightCache

MAX_OUTLINE_BYTES = 1 << 20
"""Longest outline that is read."""

OUTLINES_KEPT = CacheLimits(items=1 << 16, nbytes=64 << 20)
"""The outlines of all channels that stay in memory; a day of four renditions has 400."""

OUTLINES = SingleFlightCache[tuple[str, int, Hashable], Outline](OUTLINES_KEPT, lambda _: OUTLINE_BYTES)
"""By place, block, and the state of an index that still grows or may be another one's."""

GROUPS_KEPT = CacheLimits(items=1 << 14, nbytes=32 << 20)
"""The objects with outlines of all channels that stay in memory; a day of four renditions has 2 MB."""


class OutlineGroups:
    """The objects with outlines that were read lately; each is read once for all who want it."""

    def __init__(self) -> None:
        self._kept = SingleFlightCache[str, OutlineGroup](GROUPS_KEPT, lambda one: one.nbytes)
        self._coming: dict[str, Future[OutlineGroup | None]] = {}
        self._lock = Lock()

    def find(self, key: str) -> OutlineGroup | None:
        """Return an object that is in memory."""
        return self._kept.find(key)

    def begin(
        self, key: str, reads: Executor, read: Callable[[], OutlineGroup | None]
    ) -> Future[OutlineGroup | None]:
        """Begin to read an object, unless it is being read.

        Args:
            key: the address of the object, which is read once at a time.
            reads: threads, in one of which the object is read.
            read: reads the object; None where it isn't there, or nobody can use it.
        """
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
                del self._coming[key]


GROUPS = OutlineGroups()
"""Of all channels."""

"""A cache in which each thing is made by one thread; others that want it leave their threads meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from packager.blocking_calls import ThreadFlights
from packager.bounded_dict import SizedDict

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """How much a cache keeps.

    Attributes:
        items: most values that are kept.
        nbytes: memory for all values together; None: values aren't measured.
        item_bytes: size of the largest value that is kept; None: the newest is kept, however large.
    """

    items: int
    nbytes: int | None = None
    item_bytes: int | None = None


class SingleFlightCache(Generic[K, V]):
    """Keeps what was made; what wasn't asked for for longest goes first.

    Args:
        size: measures a thing in bytes, where the limits bound these.
    """

    def __init__(self, limits: CacheLimits, size: Callable[[V], int] = lambda _: 0) -> None:
        self._limits = limits
        self._size = size
        self._lock = threading.Lock()
        self._kept = SizedDict[K, V](limits.items, limits.nbytes, size)
        self._making = ThreadFlights[K, V]()

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        """Return whether a value is kept."""
        return key in self._kept

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return self._kept.nbytes

    @property
    def being_made(self) -> int:
        """How many things are being made."""
        return len(self._making)

    def find(self, key: K) -> V | None:
        """Return the kept value without waiting, or None."""
        with self._lock:
            return self._kept.use(key)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the kept value, or make it; a call of :class:`Threads` waits if another one makes it.

        Args:
            make: makes the value, and may block; an exception reaches all who wait, and isn't kept.

        Raises:
            LackingError: another thread makes the value.
        """

        def made() -> V:
            # Another call may have made it since.
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            value = make()
            if self._limits.item_bytes is None or self._size(value) <= self._limits.item_bytes:
                with self._lock:
                    self._kept[key] = value
            return value

        with self._lock:
            if key in self._kept:
                self._kept.use(key)
                return self._kept[key]
        return self._making.do(key, made)

"""A cache in which each thing is made by one thread; others that want it leave their threads meanwhile."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from packager.blocking_calls import ThreadFlights

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
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._making = ThreadFlights[K, V]()
        self._nbytes = 0

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        """Return whether a value is kept."""
        return key in self._kept

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return self._nbytes

    @property
    def being_made(self) -> int:
        """How many things are being made."""
        return len(self._making)

    def find(self, key: K) -> V | None:
        """Return the kept value without waiting, or None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

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
            with self._lock:
                self._keep(key, value)
            return value

        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        return self._making.do(key, made)

    def _keep(self, key: K, made: V) -> None:
        limits, size = self._limits, self._size(made)
        if limits.item_bytes is not None and size > limits.item_bytes:
            return
        if key in self._kept:
            self._nbytes -= self._size(self._kept.pop(key))
        self._kept[key] = made
        self._nbytes += size
        while len(self._kept) > 1 and (
            len(self._kept) > limits.items or (limits.nbytes is not None and self._nbytes > limits.nbytes)
        ):
            self._nbytes -= self._size(self._kept.popitem(last=False)[1])

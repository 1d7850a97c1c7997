"""A cache in which each thing is made by one thread, while the others that want it wait for that."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """How much a cache keeps, and how long its users wait.

    Attributes:
        items: most values that are kept.
        nbytes: memory for all values together; None: values aren't measured.
        item_bytes: size of the largest value that is kept; None: the newest is kept, however large.
        wait_seconds: for how long a thread waits while another one makes the value.
    """

    items: int
    nbytes: int | None = None
    item_bytes: int | None = None
    wait_seconds: float = 60.0


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
        self._making: dict[K, Future[V]] = {}
        self._nbytes = 0

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._kept)

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
        """Return the kept value, wait for the thread that makes the value, or make the value.

        Args:
            make: makes the value, and may block; an exception reaches all waiting threads, and isn't kept.

        Raises:
            TimeoutError: the thread that makes the value takes too long.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            making = self._making.get(key)
            mine = making is None
            if making is None:
                making = self._making[key] = Future()
        if not mine:
            return making.result(self._limits.wait_seconds)
        try:
            made = make()
            with self._lock:
                self._keep(key, made)
            making.set_result(made)
        except BaseException as error:
            making.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._making[key]
        return made

    def _keep(self, key: K, made: V) -> None:
        limits, size = self._limits, self._size(made)
        if limits.item_bytes is not None and size > limits.item_bytes:
            return
        self._kept[key] = made
        self._nbytes += size
        while len(self._kept) > 1 and (
            len(self._kept) > limits.items or (limits.nbytes is not None and self._nbytes > limits.nbytes)
        ):
            self._nbytes -= self._size(self._kept.popitem(last=False)[1])

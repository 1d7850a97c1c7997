"""A cache in which each thing is made by one thread; others that want it leave their threads meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from packager.threads import awaited, awaited_results, may_be_repeated

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
        self._making: dict[K, Future[V]] = {}
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
        token, handed = (id(self), key), awaited_results()
        if token in handed:
            value: V = handed[token]
            return value
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            making = self._making.get(key) if may_be_repeated() else None
            if making is None:
                mine = self._making[key] = Future[V]()
        if making is not None:
            return awaited(token, partial(_settled, making))
        try:
            made = make()
            with self._lock:
                self._keep(key, made)
            mine.set_result(made)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                if self._making.get(key) is mine:
                    del self._making[key]
        return made

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


def _settled(making: Future[V], _: str) -> asyncio.Future[V]:
    """Return a future of what another thread makes, in the event loop."""
    loop = asyncio.get_running_loop()
    settled: asyncio.Future[V] = loop.create_future()

    def settle() -> None:
        if settled.done():
            return
        if (error := making.exception()) is not None:
            settled.set_exception(error)
        else:
            settled.set_result(making.result())

    making.add_done_callback(lambda _: loop.call_soon_threadsafe(settle))
    return settled

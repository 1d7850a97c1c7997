"""Dictionaries with a limit: what was set or used longest ago is evicted.

They have no lock: those that several threads use are used with the lock of their owner.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(OrderedDict[K, V]):
    """A dictionary of a limited number of values.

    Args:
        most: most values.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        """Set a value, which becomes the newest."""
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self._most:
            self.popitem(last=False)

    def use(self, key: K) -> V | None:
        """Return a value, which becomes the newest; None without it."""
        if key in self:
            self.move_to_end(key)
        return self.get(key)

    def evict_while(self, is_over: Callable[[V], bool]) -> None:
        """Evict the oldest values up to the first that isn't over."""
        while self and is_over(next(iter(self.values()))):
            self.popitem(last=False)


class SizedDict(MutableMapping[K, V]):
    """A dictionary of a limited number of values and bytes; the newest value stays, however large it is.

    Args:
        most: most values; None: as many as the bytes allow.
        nbytes: most bytes of all values together; None: they have no limit.
        size: returns the bytes of a value when it is set.

    Attributes:
        nbytes: bytes of all values.
    """

    def __init__(self, most: int | None, nbytes: int | None, size: Callable[[V], int]) -> None:
        self.nbytes = 0
        self._most = math.inf if most is None else most
        self._most_bytes = math.inf if nbytes is None else nbytes
        self._size = size
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __getitem__(self, key: K) -> V:
        """Return a value."""
        return self._values[key][0]

    def __setitem__(self, key: K, value: V) -> None:
        """Set a value, which becomes the newest."""
        self.pop(key, None)
        size = self._size(value)
        self._values[key] = value, size
        self.nbytes += size
        while len(self._values) > 1 and (len(self._values) > self._most or self.nbytes > self._most_bytes):
            self.evict()

    def __delitem__(self, key: K) -> None:
        """Remove a value."""
        self.nbytes -= self._values.pop(key)[1]

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys from the oldest value's to the newest one's."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self._values)

    def evict(self) -> None:
        """Remove the oldest value."""
        del self[next(iter(self._values))]

    def use(self, key: K) -> V | None:
        """Return a value, which becomes the newest; None without it."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

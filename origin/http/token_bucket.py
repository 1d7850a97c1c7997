"""Limits how often something may come: some at once, and some more in each second."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """Counts something of which a number may come at once, and a number more in each second.

    Args:
        clock: monotonic seconds.
    """

    __slots__ = ("_a_second", "_clock", "_left", "_most", "_since")

    def __init__(self, most: float, a_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = self._left = most
        self._a_second = a_second
        self._clock = clock
        self._since = clock()

    def add(self, count: float) -> None:
        """Allow some more."""
        self._left = min(self._most, self._left + count)

    def acquire(self) -> float:
        """Count one; return the seconds after which there is room for it, 0 if there is now."""
        if self._left < 1.0:
            now = self._clock()
            self.add((now - self._since) * self._a_second)
            self._since = now
            if self._left < 1.0:
                return (1.0 - self._left) / self._a_second
        self._left -= 1.0
        return 0.0

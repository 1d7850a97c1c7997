"""Those who wait for something to change: released together, a bounded number, never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MAX_WAITERS = 10_000
"""Most requests that wait for one rendition at once, unless configured."""


class TooManyWaitersError(Exception):
    """So many wait already that one more would only make all of them late."""


class Waiters:
    """Waiters of one rendition.

    Args:
        limit: how many may wait at once.

    Attributes:
        count: how many wait now.
        closed: whether nobody waits any more.
    """

    def __init__(self, limit: int = MAX_WAITERS) -> None:
        self._limit = limit
        self.count = 0
        self.closed = False
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Let all who wait look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """Release all who wait; nobody will wait again."""
        self.closed = True
        self.notify()

    async def wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition holds.

        Args:
            ready: asked now and after every change.
            seconds: longest wait.

        Returns:
            Whether it holds; False after that time, or when this is closed.

        Raises:
            TooManyWaitersError: as many as may wait already.
        """
        if ready():
            return True
        if self.count >= self._limit:
            raise TooManyWaitersError(f"{self.count} requests are waiting")
        self.count += 1
        try:
            async with asyncio.timeout(seconds):
                while not self.closed and not ready():
                    await self._changed.wait()
            return ready()
        except TimeoutError:
            return False
        finally:
            self.count -= 1

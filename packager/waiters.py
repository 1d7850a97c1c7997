"""Those who wait for something to change: released together, a bounded number, never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

MAX_WAITERS = 10_000
"""Most requests that wait for one rendition at once, unless configured."""


class TooManyWaitersError(Exception):
    """So many wait already that one more would only make all of them late."""


@dataclass(slots=True)
class _Group:
    """Those who wait for the same."""

    ready: Callable[[], bool]
    members: dict[asyncio.Future[bool], None] = field(default_factory=dict)


class Waiters:
    """Waiters of one rendition. What many wait for is looked at once after a change, whatever their number.

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
        self._groups: dict[Hashable, _Group] = {}

    def notify(self) -> None:
        """Release those whose condition holds now."""
        for key in [key for key, group in self._groups.items() if self.closed or group.ready()]:
            self._release(self._groups.pop(key))

    def _release(self, group: _Group) -> None:
        holds = group.ready()
        for waiter in group.members:
            if not waiter.done():
                waiter.set_result(holds)

    def close(self) -> None:
        """Release all who wait; nobody will wait again."""
        self.closed = True
        self.notify()

    async def wait(self, ready: Callable[[], bool], seconds: float, key: Hashable = None) -> bool:
        """Wait until a condition holds.

        Args:
            ready: asked now and after every change.
            seconds: longest wait.
            key: names the condition, so that all who wait for it are one group; None: a group of one's own.

        Returns:
            Whether it holds; False after that time, or when this is closed.

        Raises:
            TooManyWaitersError: as many as may wait already.
        """
        if self.closed or ready():
            return ready()
        if self.count >= self._limit:
            raise TooManyWaitersError(f"{self.count} requests are waiting")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        key = waiter if key is None else key
        group = self._groups.setdefault(key, _Group(ready))
        group.members[waiter] = None
        timer = loop.call_later(max(seconds, 0), _give_up, waiter)
        self.count += 1
        try:
            return await waiter
        finally:
            self.count -= 1
            timer.cancel()
            group.members.pop(waiter, None)
            if not group.members and self._groups.get(key) is group:
                del self._groups[key]


def _give_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)

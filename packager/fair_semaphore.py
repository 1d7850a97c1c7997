"""A semaphore whose waiters take turns by client: who asks often waits behind who asks once."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TooManyWaitingError(Exception):
    """A semaphore has as many waiters as it may have, and no client has more of them than this one."""


class FairSemaphore:
    """Bounds how many tasks do something at once; clients that wait for it are let in one after the other.

    Args:
        at_once: most tasks that are let in at once.
        at_once_for_client: most of them of one client.
        waiting: most tasks that wait. Beyond, the newest of the client that has the most of them is refused.
    """

    def __init__(self, at_once: int, at_once_for_client: int, waiting: int) -> None:
        self._free = at_once
        self._most_for_client = at_once_for_client
        self._most_waiting = waiting
        self._held: Counter[str] = Counter()
        # By client, in the order of their turns; none is empty.
        self._waiters: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._waiting = 0

    @asynccontextmanager
    async def held(self, client: str) -> AsyncIterator[None]:
        """Be one of those that are let in while the context is open.

        Args:
            client: for whom, such as its network.

        Raises:
            TooManyWaitingError: too many wait.
        """
        if self._free and self._held[client] < self._most_for_client:
            self._let_in(client)
        else:
            await self._wait(client)
        try:
            yield
        finally:
            self._leave(client)

    async def _wait(self, client: str) -> None:
        if self._waiting >= self._most_waiting:
            self._refuse_one(client)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(client, deque()).append(waiter)
        self._waiting += 1
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._leave(client)  # it was let in a moment before
            elif client in self._waiters and waiter in self._waiters[client]:
                self._remove(client, waiter)
            raise

    def _refuse_one(self, client: str) -> None:
        """Refuse the newest waiter of the client that has the most.

        Raises:
            TooManyWaitingError: that is this client.
        """
        most = max(self._waiters, key=lambda name: len(self._waiters[name]), default=client)
        if len(self._waiters.get(most, ())) <= len(self._waiters.get(client, ())) + 1:
            raise TooManyWaitingError
        waiter = self._waiters[most][-1]
        self._remove(most, waiter)
        if not waiter.done():
            waiter.set_exception(TooManyWaitingError())

    def _let_in(self, client: str) -> None:
        self._free -= 1
        self._held[client] += 1

    def _leave(self, client: str) -> None:
        self._free += 1
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
        while (turn := self._next()) is not None:
            waiter = self._waiters[turn][0]
            self._remove(turn, waiter)
            if turn in self._waiters:
                self._waiters.move_to_end(turn)
            if not waiter.done():  # its task may have been cancelled, and not have run since
                self._let_in(turn)
                waiter.set_result(None)
                return

    def _next(self) -> str | None:
        """Choose the client whose turn it is; None if nobody waits who may be let in."""
        return next((name for name in self._waiters if self._held[name] < self._most_for_client), None)

    def _remove(self, client: str, waiter: asyncio.Future[None]) -> None:
        self._waiters[client].remove(waiter)
        self._waiting -= 1
        if not self._waiters[client]:
            del self._waiters[client]

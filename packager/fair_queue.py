"""A queue and a semaphore whose clients take turns: many requests of one don't delay those of others."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class TooManyWaitingError(Exception):
    """A queue has as many entries as it may have, and no client has more of them than this one."""


class FairQueue(Generic[Entry]):
    """A bounded queue of entries of many clients; the next one is the oldest of the client whose turn it is.

    Args:
        most: most entries. Beyond, the newest of the client that has the most of them is dropped.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # By client, in the order of their turns; none is empty.
        self._clients: OrderedDict[str, OrderedDict[Entry, None]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, client: str, entry: Entry) -> Entry | None:
        """Add an entry.

        Args:
            client: whose it is, such as a network.

        Returns:
            The entry that was dropped in its place.

        Raises:
            TooManyWaitingError: too many wait.
        """
        dropped = self._drop_one(client) if self._length >= self._most else None
        self._clients.setdefault(client, OrderedDict())[entry] = None
        self._length += 1
        return dropped

    def pop(self, may_enter: Callable[[str], bool] = lambda _: True) -> tuple[str, Entry] | None:
        """Remove the next entry, of a client that may enter; None without any."""
        client = next(filter(may_enter, self._clients), None)
        if client is None:
            return None
        entry = next(iter(self._clients[client]))
        self.remove(client, entry)
        if client in self._clients:
            self._clients.move_to_end(client)
        return client, entry

    def contains(self, client: str, entry: Entry) -> bool:
        """Return whether a client has an entry in the queue."""
        return entry in self._clients.get(client, ())

    def remove(self, client: str, entry: Entry) -> bool:
        """Remove an entry; return whether it was there."""
        entries = self._clients.get(client)
        if entries is None or entry not in entries:
            return False
        del entries[entry]
        self._length -= 1
        if not entries:
            del self._clients[client]
        return True

    def clear(self) -> None:
        """Remove all entries."""
        self._clients.clear()
        self._length = 0

    def _drop_one(self, client: str) -> Entry:
        most = max(self._clients, key=lambda name: len(self._clients[name]), default=client)
        if len(self._clients.get(most, ())) <= len(self._clients.get(client, ())) + 1:
            raise TooManyWaitingError
        newest = next(reversed(self._clients[most]))
        self.remove(most, newest)
        return newest


class FairSemaphore:
    """Bounds how many tasks do something at once; clients that wait for it are let in one after the other.

    Args:
        at_once: most tasks that are let in at once.
        at_once_for_client: most of them of one client.
        waiting: most tasks that wait. Beyond, the newest of the client that has the most of them is refused.
        rest: for how long a place stays taken behind its use, as a share of the time of that use. With 1, a
            client that computes all the time takes half of a core for each of its places.
    """

    def __init__(self, at_once: int, at_once_for_client: int, waiting: int, rest: float = 0.0) -> None:
        self._free = at_once
        self._most_for_client = at_once_for_client
        self._rest = rest
        self._held: Counter[str] = Counter()
        self._waiters = FairQueue[asyncio.Future[None]](waiting)

    @asynccontextmanager
    async def held(self, client: str) -> AsyncIterator[None]:
        """Hold a place of the semaphore while the context is open.

        Args:
            client: for whom, such as its network.

        Raises:
            TooManyWaitingError: too many wait.
        """
        if self._free and self._held[client] < self._most_for_client:
            self._let_in(client)
        else:
            await self._wait(client)
        loop = asyncio.get_running_loop()
        since = loop.time()
        try:
            yield
        finally:
            if self._rest:
                loop.call_later(self._rest * (loop.time() - since), self._leave, client)
            else:
                self._leave(client)

    async def _wait(self, client: str) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refused = self._waiters.push(client, waiter)
        if refused is not None and not refused.done():
            refused.set_exception(TooManyWaitingError())
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._leave(client)  # its turn came a moment before
            else:
                self._waiters.remove(client, waiter)
            raise

    def _let_in(self, client: str) -> None:
        self._free -= 1
        self._held[client] += 1

    def _leave(self, client: str) -> None:
        self._free += 1
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
        while (turn := self._waiters.pop(self._may_enter)) is not None:
            name, waiter = turn
            if not waiter.done():  # its task may have been cancelled, and not have run since
                self._let_in(name)
                waiter.set_result(None)
                return

    def _may_enter(self, client: str) -> bool:
        return self._held[client] < self._most_for_client

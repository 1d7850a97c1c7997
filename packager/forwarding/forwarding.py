"""Pushes what is published to a channel on to several addresses, which may change while it is on air."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from packager.forwarding.forwarder import Forwarder


class Forwarding:
    """The forwarders of one channel.

    Args:
        make: makes the forwarder of an address.
    """

    def __init__(self, make: Callable[[str], Forwarder], urls: Iterable[str]) -> None:
        self._make = make
        self._by_url: dict[str, Forwarder] = {}
        self._changed = asyncio.Event()
        self.change(urls)

    @property
    def forwarders(self) -> tuple[Forwarder, ...]:
        """The forwarders, in the order of their addresses."""
        return tuple(self._by_url.values())

    def change(self, urls: Iterable[str]) -> None:
        """Push to these addresses from now on; those that stay notice nothing."""
        self._by_url = {url: self._by_url.get(url) or self._make(url) for url in urls}
        self._changed.set()

    async def run(self) -> None:
        """Push, until cancelled."""
        async with asyncio.TaskGroup() as group:
            pushing: dict[Forwarder, asyncio.Task[None]] = {}
            while True:
                self._changed.clear()
                for gone in pushing.keys() - self._by_url.values():
                    pushing.pop(gone).cancel()
                for new in self._by_url.values() - pushing.keys():
                    pushing[new] = group.create_task(new.run())
                await self._changed.wait()

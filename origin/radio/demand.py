"""Whether a mount's source is wanted: from the first listener until a while after the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

IDLE_SECONDS = 10.0
"""How long a source that is asked for on demand plays on when nobody listens."""


class Demand:
    """What is wanted of one source.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked = clock()
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()

    @property
    def stands(self) -> bool:
        """Whether the source is to play."""
        return self._wanted.is_set()

    def look(self, *, heard: bool) -> None:
        """Take note whether there is anybody to play for now."""
        now = self._clock()
        if heard:
            self._asked = now
            self._unwanted.clear()
            self._wanted.set()
        elif now - self._asked > IDLE_SECONDS:
            self._wanted.clear()
            self._unwanted.set()

    async def begins(self) -> None:
        """Wait until the source is to play."""
        await self._wanted.wait()

    async def ends(self) -> None:
        """Wait until it needn't any more."""
        await self._unwanted.wait()

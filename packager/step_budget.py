"""How long a task computes before everybody else has a turn: who parses what others send counts his steps.

An event loop goes on only where a task waits, and what has come already isn't waited for: a server that sends
a megabyte in chunks of a byte would hold it for as long as all of them take.
"""

from __future__ import annotations

import asyncio
import time

STEP_SECONDS = 0.005
"""How long a task may compute in one step, but for what it does at once; a loop is late by as much."""

PORTION_BYTES = 16 << 10
"""How much is parsed at once, where nothing else is said: the smallest units of any container, in 5 ms."""


class StepBudget:
    """The time that one task has left in a step; it is as long as ``seconds`` again behind each turn.

    Args:
        seconds: of computing.
    """

    def __init__(self, seconds: float = STEP_SECONDS) -> None:
        self._seconds = seconds
        self._since = time.perf_counter()

    async def spend(self) -> None:
        """Give everybody else a turn if the time is up."""
        if time.perf_counter() - self._since >= self._seconds:
            await asyncio.sleep(0)
            self._since = time.perf_counter()

    def portions(self, data: bytes | bytearray, size: int = PORTION_BYTES) -> Portions:
        """Cut bytes into portions to be parsed one by one; between two of them others may have a turn.

        Args:
            data: the bytes.
            size: of a portion.
        """
        return Portions(self, data, size)


class Portions:
    """An asynchronous iterator over portions of some bytes; see ``StepBudget.portions``."""

    def __init__(self, budget: StepBudget, data: bytes | bytearray, size: int) -> None:
        self._budget = budget
        self._data = data
        self._size = size
        self._position = 0

    def __aiter__(self) -> Portions:
        return self

    async def __anext__(self) -> bytes:
        if self._position >= len(self._data):
            raise StopAsyncIteration
        await self._budget.spend()
        start, self._position = self._position, self._position + self._size
        return bytes(self._data[start : self._position])

"""Limits how long a task computes before it yields to the event loop, while it parses data of others.

A task only yields where it really waits; data that has arrived already isn't waited for, so a megabyte in
chunks of one byte would block the loop.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

STEP_SECONDS = 0.005
"""How long a task may compute between two yields."""

PORTION_BYTES = 8 << 10
"""Default size of portions: the smallest units of any container take 12 ms at most for so many bytes."""

FLV_PORTION_BYTES = 32 << 10
"""Size of portions of FLV, whose smallest tags have 15 bytes and cost little: most reads are one portion."""

AUDIO_PORTION_BYTES = 4 << 10
"""Size of portions of audio without a container, whose frames may be as short as eight bytes."""


class Turns(Protocol):
    """The time of an event loop that clients share."""

    def has_time(self) -> bool:
        """Return whether there is time left in this step of the loop."""

    async def next_turn(self, host: str) -> float:
        """Wait until it is a client's turn again, and return for how many seconds that lasts."""


class StepBudget:
    """The computing time that a task has left until it must yield.

    Args:
        seconds: of computing between two yields.
        turns: for a client's bytes, whose task shares the time of a step with other clients.
        host: the client's address, by which clients take turns.
    """

    def __init__(self, seconds: float = STEP_SECONDS, turns: Turns | None = None, host: str = "") -> None:
        self._seconds = seconds
        self._turns = turns
        self._host = host
        self._since = time.perf_counter()
        self._turn_ends = 0.0

    def take_turns(self, turns: Turns, host: str) -> None:
        """Share the time of the loop's steps with other clients from now on."""
        self._turns, self._host = turns, host

    def restart(self) -> None:
        """Restart the measurement, as the task has just waited and others have run."""
        self._since = time.perf_counter()

    async def spend(self) -> None:
        """Yield to the event loop if the time is used up."""
        if self._turns is not None:
            if time.perf_counter() >= self._turn_ends and not self._turns.has_time():
                seconds = await self._turns.next_turn(self._host)
                self._turn_ends = time.perf_counter() + seconds
        elif time.perf_counter() - self._since >= self._seconds:
            await asyncio.sleep(0)
            self._since = time.perf_counter()

    def portions(self, data: bytes | bytearray, size: int = PORTION_BYTES) -> Portions:
        """Split bytes into portions to be parsed one by one, yielding in between if necessary."""
        return Portions(self, data, size)


class Portions:
    """The asynchronous iterator of ``StepBudget.portions``."""

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

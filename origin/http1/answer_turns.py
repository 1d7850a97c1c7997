"""Writes long answers in steps, which share a bounded time of each step of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from origin.http1.shared_turns import SharedTurns

Part = TypeVar("Part")

STEP_SECONDS = 0.001
"""Time of one step of the event loop in which answers are written."""


class AnswerTurns:
    """Collects the parts of answers, in turn, for a bounded time of each step of the event loop.

    Args:
        seconds: of one step of the loop that all answers share.
        clock: monotonic seconds.
    """

    def __init__(self, seconds: float = STEP_SECONDS, clock: Callable[[], float] = time.perf_counter) -> None:
        self._turns = SharedTurns(seconds, clock)

    async def collect(self, parts: Iterator[bytes], most_bytes: int) -> list[bytes]:
        """Return the parts of an answer until they have a number of bytes, or there are no more.

        Args:
            parts: see `spread`. None is read that isn't returned.
            most_bytes: bytes from which on no further part is added; the last one may exceed them.
        """
        return await self.spread(_bounded(parts, most_bytes))

    async def spread(self, parts: Iterator[Part]) -> list[Part]:
        """Return the parts of an answer, which are made in as many steps of the loop as they need.

        Args:
            parts: each takes far less time than a step has.
        """
        collected: list[Part] = []
        done = asyncio.get_running_loop().create_future()

        def go_on() -> None:
            if done.done():
                return  # the client has left
            try:
                for part in parts:
                    collected.append(part)
                    if not self._turns.has_time():
                        self._turns.append(go_on)
                        return
            except Exception as error:  # noqa: BLE001  # it concerns this answer alone, which is awaited
                done.set_exception(error)
            else:
                done.set_result(None)

        if self._turns.has_time():
            go_on()
        else:
            self._turns.append(go_on)
        await done
        return collected


def _bounded(parts: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    size = 0
    for part in parts:
        yield part
        size += len(part)
        if size >= most_bytes:
            return

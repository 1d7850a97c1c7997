"""Writes long answers in steps, in the turns of their clients, which all connections share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Self, TypeVar

from starlette.types import Scope

from origin.http1.shared_turns import SharedTurns, turns_of

Part = TypeVar("Part")


class AnswerTurns:
    """Collects the parts of a client's answers in its turns.

    Args:
        turns: the turns of the event loop that writes the answers.
        host: the client's address, by which clients take turns.
    """

    def __init__(self, turns: SharedTurns, host: str) -> None:
        self._turns = turns
        self._host = host

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """Return the turns of a request's client."""
        client = scope["client"]
        return cls(turns_of(asyncio.get_running_loop()), client[0] if client else "")

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
                        self._turns.append(go_on, self._host)
                        return
            except Exception as error:  # noqa: BLE001  # it concerns this answer alone, which is awaited
                done.set_exception(error)
            else:
                done.set_result(None)

        if self._turns.has_time():
            go_on()
        else:
            self._turns.append(go_on, self._host)
        await done
        return collected


def _bounded(parts: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    size = 0
    for part in parts:
        yield part
        size += len(part)
        if size >= most_bytes:
            return

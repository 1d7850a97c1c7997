"""One piece of work for all requests that ask for it before it is done.

Its result is good for all of these, however late their turns come: a result that a busy event loop passes on
late isn't made again for each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _GivenUpError(Exception):
    """The caller that did the work was cancelled; another one does it."""


def _nothing(result: object) -> None:
    pass


class SingleFlight(Generic[K, T]):
    """Does each piece of work once at a time; further callers for the same key get its result or its error.

    Args:
        lend: is called for each further caller before it gets the result, as for a reference of its own.
        take_back: is called for a further caller that was cancelled behind that.
    """

    def __init__(
        self, lend: Callable[[T], None] = _nothing, take_back: Callable[[T], None] = _nothing
    ) -> None:
        self._lend = lend
        self._take_back = take_back
        self._waiting: dict[K, list[asyncio.Future[T]]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    async def do(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, or wait for the caller that does it.

        Raises:
            Exception: what the work raised.
        """
        while (waiting := self._waiting.get(key)) is not None:
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            waiting.append(future)
            try:
                return await future
            except _GivenUpError:
                continue
            except asyncio.CancelledError:
                if future.done() and not future.cancelled() and future.exception() is None:
                    self._take_back(future.result())
                raise
        return await self._lead(key, work)

    async def _lead(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        waiting = self._waiting[key] = []
        error: Exception = _GivenUpError()
        try:
            result = await work()
        except Exception as raised:
            error = raised
            raise
        else:
            for future in waiting:
                if not future.done():
                    self._lend(result)
                    future.set_result(result)
            return result
        finally:
            del self._waiting[key]
            for future in waiting:
                if not future.done():
                    future.set_exception(error)

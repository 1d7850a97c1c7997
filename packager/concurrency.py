"""Helpers for waiting, threads and background tasks that leave nothing behind upon cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, ParamSpec, Protocol, TypeVar

LAST_LOOK_SECONDS = 0.02
"""Extra time after a timeout for data that arrived at the last moment."""

P = ParamSpec("P")
T = TypeVar("T")


class Closable(Protocol):
    """An object that must be closed, such as a file."""

    def close(self) -> object:
        """Release the resource."""


C = TypeVar("C", bound=Closable)


async def receive_within(receive: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Wait with a timeout, then once more for ``LAST_LOOK_SECONDS``.

    Args:
        receive: waits; takes nothing if it is cancelled.

    Raises:
        TimeoutError: nothing arrived.
    """
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError:
        async with asyncio.timeout(LAST_LOOK_SECONDS):
            return await receive()


def expire(limit: asyncio.Timeout) -> None:
    """Let a time limit run out now, unless it has already."""
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())


async def opened_in_thread(function: Callable[P, C], *arguments: P.args, **keywords: P.kwargs) -> C:
    """Open something in a thread; what nobody waits for any more when it is open is closed."""
    return await _opened(None, functools.partial(function, *arguments, **keywords))


async def _opened(executor: Executor | None, call: Callable[[], C]) -> C:
    opening = asyncio.get_running_loop().run_in_executor(executor, call)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


class Threads:
    """A pool of threads for calls that may block for long, apart from the event loop's default pool.

    Args:
        most: most threads, for which further calls wait; None: the event loop's default pool.
    """

    def __init__(self, most: int | None, name: str = "") -> None:
        self._executor = None if most is None else ThreadPoolExecutor(most, name)

    async def run(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call a function in one of them, as ``asyncio.to_thread`` does."""
        call = functools.partial(contextvars.copy_context().run, function, *arguments, **keywords)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def submit(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> asyncio.Future[T]:
        """Run a function in a thread of the pool; an exception is lost unless the future is awaited."""
        call = functools.partial(function, *arguments, **keywords)
        return asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def opened(self, function: Callable[P, C], *arguments: P.args, **keywords: P.kwargs) -> C:
        """Open something in one of them, as :func:`opened_in_thread` does."""
        return await _opened(self._executor, functools.partial(function, *arguments, **keywords))


SHARED_THREADS = Threads(None)
"""The threads of ``asyncio.to_thread``, for calls that wait for nothing but a disk."""


def _close_unwanted(opening: asyncio.Future[C]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


@contextlib.asynccontextmanager
async def running_tasks(*work: Coroutine[Any, Any, T]) -> AsyncGenerator[list[asyncio.Task[T]]]:
    """Run coroutines while the context is open; at its end those that go on are cancelled, and waited for.

    For work of which the first to end decides: the block waits for the tasks, and asks for the results that
    it needs. The results of the others are of no interest, an error neither.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def background_task(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run a coroutine while the context is open, and cancel it at the end; its failure also fails the block.

    Raises:
        BaseException: the error of the coroutine or the block, not in a group.
        BaseExceptionGroup: both failed.
    """
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield
            finally:
                task.cancel()
    except BaseExceptionGroup as errors:
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            (error,) = error.exceptions
        raise error from None


def usable_cores() -> int:
    """Return how many cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Helpers for waiting, threads and background tasks that leave nothing behind upon cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

LAST_LOOK_SECONDS = 0.02
"""Extra time after a timeout for data that arrived at the last moment."""

P = ParamSpec("P")
T = TypeVar("T")


class Closable(Protocol):
    """An object that must be closed, such as a file."""

    def close(self) -> object:
        """Let it go."""


C = TypeVar("C", bound=Closable)


async def receive_within(receive: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Wait with a timeout, then once more for ``LAST_LOOK_SECONDS``.

    Args:
        receive: waits; takes nothing if it is cancelled.
        seconds: the timeout.

    Raises:
        TimeoutError: nothing arrived.
    """
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError:
        async with asyncio.timeout(LAST_LOOK_SECONDS):
            return await receive()


async def opened_in_thread(function: Callable[P, C], *arguments: P.args, **keywords: P.kwargs) -> C:
    """Open something in a thread; what nobody waits for any more when it is open is closed.

    Args:
        function: opens it, and blocks.
        arguments: of the function.
        keywords: likewise.
    """
    call = functools.partial(function, *arguments, **keywords)
    opening = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(opening: asyncio.Future[C]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


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

"""Work that goes on beside a block of code, and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

LAST_LOOK_SECONDS = 0.02
"""For how long is looked once more before a silence counts: what came meanwhile is there already."""

T = TypeVar("T")


async def patiently(receive: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Wait for something for so long, and look once more then.

    Args:
        receive: waits for it; where it is cancelled it has taken nothing.
        seconds: for how long.

    Raises:
        TimeoutError: it didn't come.
    """
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError:
        async with asyncio.timeout(LAST_LOOK_SECONDS):
            return await receive()


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run work while the context is open; it is cancelled at its end. Where it fails, so does the block.

    Args:
        work: what to run.

    Raises:
        BaseException: the error of the work or of the block, not in a group: callers tell it by its type.
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

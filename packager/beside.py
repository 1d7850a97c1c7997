"""Work that goes on beside a block of code, and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any


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

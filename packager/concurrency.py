"""Waiting, threads and tasks, done so that nothing is left behind where somebody is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

LAST_LOOK_SECONDS = 0.02
"""For how long is looked once more before a silence counts: what came meanwhile is there already."""

P = ParamSpec("P")
T = TypeVar("T")


class Closable(Protocol):
    """What must be closed, such as a file."""

    def close(self) -> object:
        """Let it go."""


C = TypeVar("C", bound=Closable)


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

"""Helpers for waiting and background tasks that leave nothing behind upon cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

LAST_LOOK_SECONDS = 0.02
"""Extra time after a timeout for data that arrived at the last moment."""

T = TypeVar("T")


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


async def wait_within(seconds: float | None, waiting: Awaitable[object]) -> None:
    """Wait for something, but no longer than some seconds; None for as long as it takes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await waiting


def expire(limit: asyncio.Timeout) -> None:
    """Let a time limit run out now, unless it has already."""
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())


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


def _quota_in(group: Path) -> float:
    """Read ``cpu.max``: microseconds in a period, and the period, or ``max``."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (group / "cpu.max").read_text("ascii").split()
        return int(quota) / int(period)
    return math.inf


def quota_of(own: Path, groups: Path) -> float:
    """Return how many cores the control groups of a process allow; infinite without a limit.

    Args:
        own: the file that names the process's control group.
        groups: the folder of all control groups.
    """
    # cgroups(7), "/proc/[pid]/cgroup": version 2 has the number 0; in a container the path may be outside.
    with contextlib.suppress(OSError, ValueError):
        named = re.search(r"^0::/(.*)$", own.read_text("utf-8", "replace"), re.MULTILINE)
        folder = groups / named[1] if named is not None else groups
        return min(_quota_in(one) for one in (folder, *folder.parents) if one.is_relative_to(groups))
    return math.inf


QUOTA = quota_of(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
"""Cores that the process's own control groups allow, as Linux has them when it starts."""


def usable_cores(quota: float = QUOTA) -> int:
    """Return how many cores this process may use, which in a container are fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, quota)))

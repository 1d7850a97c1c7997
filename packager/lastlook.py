"""Waiting for what others give, for some time, in which this process itself may have stood still."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

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

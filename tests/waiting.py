"""Waiting for a condition: never for a fixed time, and for long, since machines are slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SHORT_POLL_SECONDS, POLL_SECONDS, LONGEST_POLL_SECONDS = 0.01, 0.04, 0.25
PATIENT_SHARE = 20
"""What has taken long is asked for less often: each twentieth of it, since asking costs time, too."""


def wait_for(condition: Callable[[], T], what: str = "the condition", seconds: float = 120.0) -> T:
    """Wait until the condition gives something true, and give that."""
    began = time.monotonic()
    while not (result := condition()):
        if (waited := time.monotonic() - began) > seconds:
            raise AssertionError(f"{what} didn't come true in {seconds:.0f} s")
        time.sleep(min(max(waited / PATIENT_SHARE, POLL_SECONDS), LONGEST_POLL_SECONDS))
    return result


async def until(condition: Callable[[], object], what: str = "the condition", seconds: float = 120.0) -> None:
    """The same in an event loop: wait until the condition gives something true."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                waited = time.monotonic() - began
                await asyncio.sleep(min(max(waited / PATIENT_SHARE, SHORT_POLL_SECONDS), POLL_SECONDS))
    except TimeoutError:
        raise AssertionError(f"{what} didn't come true in {seconds:.0f} s") from None

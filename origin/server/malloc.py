"""How the C library keeps memory: for a process that lives for months and whose parts live for minutes."""

from __future__ import annotations

import asyncio
import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Of ``mallopt`` (glibc's malloc.h)."""

MAPPED_BYTES = 128 * 1024
"""From this size on, an allocation has its own pages, which the system gets back as soon as it is freed.

It is where glibc begins; but each such block that is freed moves its limit up, to 32 MiB at last. From then
on parts and segments lie between small things that outlive them, and their pages stay ours for ever."""

SLACK_BYTES = 16 << 20
"""What may stay free at the heap's end: more than a moment's work takes, which would go to and fro."""

TRIM_SECONDS = 30.0
"""Between two times when what is free goes back to the system."""

ARENAS = 1
"""Heaps. glibc gives each thread one, and keeps what a thread's work left there; here one thread at a time
runs Python, so that they would hardly ever be waited for. It holds for what is taken after it was said."""


def settle() -> None:
    """Set the limits for this process, where the C library is glibc; others have no such habits."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for option, value in (
        (M_ARENA_MAX, ARENAS),
        (M_MMAP_THRESHOLD, MAPPED_BYTES),
        (M_TRIM_THRESHOLD, SLACK_BYTES),
    ):
        mallopt(option, value)


def keep() -> None:
    """Have the collector leave alone what is there now: the program itself, which stays until the end.

    It looks at everything only once a quarter more has come, so the less there is, the sooner garbage goes,
    and the shorter everybody waits for it.
    """
    gc.collect()
    gc.freeze()


async def tidy() -> None:
    """Give back what is free, from time to time, until cancelled.

    A moment's work leaves holes between what outlives it: without this, memory stays at what the busiest
    moment took, and each that is busier still looks like a leak.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return
    while True:
        await asyncio.sleep(TRIM_SECONDS)
        await asyncio.to_thread(trim, 0)

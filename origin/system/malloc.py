"""Tunes glibc's allocator and the garbage collector for a process that runs for months."""

from __future__ import annotations

import asyncio
import ctypes
import gc

from packager.threads import SHARED_THREADS

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of ``mallopt`` (glibc's malloc.h)."""

MAPPED_BYTES = 128 * 1024
"""Allocations from this size on are mapped separately, and returned to the system when they are freed.

This is glibc's default; but it grows up to 32 MiB whenever such a block is freed. Parts and segments would
then be mixed with small objects that outlive them, whose pages could never be returned.
"""

SLACK_BYTES = 16 << 20
"""Free memory kept at the end of the heap: more than a short peak needs."""

ARENAS = 1
"""Number of heaps. glibc makes one for each thread and keeps what is freed there; here only one thread
at a time runs Python, so they need not be separate. Applies to allocations from then on.
"""


def configure() -> None:
    """Set glibc's parameters for this process; does nothing with another C library."""
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


COLLECTIONS = (2_000, 10, 50)
"""Thresholds of the garbage collector: new objects, and collections of each generation before the next one's.

A full collection looks at all that connections hold: for a thousand answers of models that takes a third of
a second, in which nothing else runs. By Python's own thresholds of (700, 10, 10) there would be one every two
seconds, as what waits for the next token survives both younger generations. Nearly everything is freed by its
references alone.
"""


def freeze_garbage_collector() -> None:
    """Exclude all present objects from garbage collection: the program itself, which stays until the end.

    A full collection waits until the number of objects has grown by a quarter, so fewer objects mean earlier
    and shorter collections; from now on it also waits for more collections of younger objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTIONS)


TRIM_SECONDS = 30.0
"""Time from one return of free memory to the next."""


async def trim_regularly(seconds: float = TRIM_SECONDS) -> None:
    """Return free memory to the system at intervals, until cancelled.

    Otherwise fragmentation would keep the process at the size of its busiest moment.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return
    while True:
        await asyncio.sleep(seconds)
        await SHARED_THREADS.run(trim, 0)

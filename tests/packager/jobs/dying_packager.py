"""Packages films from a queue in Redis, and dies in the middle of the first one, as if the system killed it.

python -m tests.packager.jobs.dying_packager URL
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from typing import Any

from packager.jobs.job import Arguments, JobKind, Progress
from packager.jobs.package_job import package_kind
from packager.jobs.redis_queue import queues_client
from packager.jobs.worker import work
from tests.packager.jobs.slow_worker import ASKING, LIMITS

KILLED_AT = 3
"""How many segments are packaged by then."""


def kind() -> JobKind:
    """Give what packages films, with a test's limits."""
    return package_kind(LIMITS)


async def run(arguments: Arguments, _: Progress) -> Any:
    """Package a film until some of its segments are there."""

    def count(done: int, total: int) -> None:
        if KILLED_AT <= done < total:
            os.kill(os.getpid(), signal.SIGKILL)

    return await kind().run(arguments, count)


if __name__ == "__main__":
    asyncio.run(work(queues_client(sys.argv[1], ASKING), [replace(kind(), run=run)], ASKING))

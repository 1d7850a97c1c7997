"""A worker whose jobs wait until they may go on: python -m tests.packager.jobs.slow_worker URL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from packager.jobs.job import Arguments, JobKind, Progress
from packager.jobs.limits import JobLimits, JobsLimits
from packager.jobs.redis_queue import queues_client
from packager.jobs.worker import work
from packager.retry_policy import RetryPolicy

LIMITS = JobLimits(
    waiting=4, attempts=3, silent_seconds=1, sweep_seconds=1, retries=RetryPolicy(0.1, 0.2), at_once=2
)
PATIENT = replace(LIMITS, silent_seconds=600, sweep_seconds=600)
"""No worker counts as dead because the machine let it stand still, and no job as lost that waits."""

ASKING = JobsLimits(queue_wait_seconds=1.0, queue_look_seconds=0.05, reconnects=RetryPolicy(0.1, 0.2))


async def run(arguments: Arguments, progress: Progress) -> Any:
    """Write a file by a rename, once another one is there."""
    folder = Path(arguments["folder"])
    await asyncio.to_thread(_begin, folder)
    if arguments.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if arguments.get("fails"):
        raise ValueError("it can't be done")
    progress(1, 2)
    while not await asyncio.to_thread((folder / "go").exists):
        await asyncio.sleep(0.01)
    await asyncio.to_thread(_write, folder, arguments["text"])
    return {"text": arguments["text"]}


def _begin(folder: Path) -> None:
    with (folder / "begun").open("a") as begun:
        begun.write(f"{os.getpid()}\n")


def _write(folder: Path, text: str) -> None:
    draft = folder / f".result.{os.urandom(4).hex()}"
    draft.write_text(text)
    draft.rename(folder / "result")


def kind(name: str, limits: JobLimits = LIMITS) -> JobKind:
    return JobKind(name, run, limits)


if __name__ == "__main__":
    asyncio.run(work(queues_client(sys.argv[1], ASKING), [kind(sys.argv[2])], ASKING))

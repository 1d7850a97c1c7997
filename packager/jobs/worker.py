"""Does jobs of several kinds from their queues in Redis, until it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import structlog
from saq.types import PartialTimersDict
from saq.worker import Worker as SaqWorker

from packager.concurrency import wait_within
from packager.jobs.job import JobKind
from packager.jobs.limits import WORKER_SECONDS, JobsLimits
from packager.jobs.redis_queue import UNREACHABLE, SweptQueue, json_bytes

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from saq.job import Job as SaqJob

log = structlog.get_logger()

MAX_RESULT_BYTES = 12 << 20
"""Most bytes of a job's result."""

LEAVE_SECONDS = 20.0
"""Seconds for which an ending worker waits until its jobs are back in the queue."""


class _Worker(SaqWorker[Any]):
    SIGNALS: list[Any] = []  # noqa: RUF012  # as SAQ declares it
    """None: who runs it hears them."""


async def work(redis: Redis, kinds: Sequence[JobKind], asking: JobsLimits) -> None:
    """Do jobs until cancelled; active ones then go back into their queue.

    Args:
        redis: the client, which its maker closes.
    """
    async with asyncio.TaskGroup() as group:
        for kind in kinds:
            group.create_task(_worker(redis, kind, asking).start())


def _worker(redis: Redis, kind: JobKind, asking: JobsLimits) -> _Worker:
    limits = kind.limits

    async def run(context: dict[str, Any], **arguments: Any) -> Any:
        return await _attempt(context["job"], kind, arguments)

    return _Worker(
        SweptQueue(redis, kind.name, asking),
        [(kind.name, run)],
        concurrency=limits.at_once,
        dequeue_timeout=asking.queue_wait_seconds,
        shutdown_grace_period_s=0,
        cancellation_hard_deadline_s=LEAVE_SECONDS,
        timers=PartialTimersDict(sweep=limits.sweep_seconds, worker_info=WORKER_SECONDS, schedule=1, abort=1),
    )


async def _attempt(job: SaqJob, kind: JobKind, arguments: dict[str, Any]) -> Any:
    """Try to do a job, and give signs of life meanwhile."""
    log.info("a job began", kind=kind.name, job=job.key, attempt=job.attempts)
    reached = [0, 0]

    def progress(done: int, total: int) -> None:
        reached[:] = done, total

    over = asyncio.Event()
    signs = asyncio.create_task(_give_signs(job, reached, over, kind.limits.silent_seconds / 4))
    try:
        result = await kind.run(arguments, progress)
        if json_bytes(result) > MAX_RESULT_BYTES:
            raise ValueError(f"the result has more than {MAX_RESULT_BYTES} bytes")
    except Exception as error:
        log.warning("a job failed", kind=kind.name, job=job.key, attempt=job.attempts, reason=str(error))
        raise
    finally:
        # End the signs of life before the result is written: a late one would mark the job as active again.
        # They aren't cancelled, which a client of Redis may mistake for something else within a command.
        over.set()
        await asyncio.wait((signs,))
    log.info("a job is done", kind=kind.name, job=job.key)
    return result


async def _give_signs(job: SaqJob, reached: list[int], over: asyncio.Event, seconds: float) -> None:
    while not over.is_set():
        with contextlib.suppress(*UNREACHABLE):
            await job.update(meta={"done": reached[0], "total": reached[1]})
        await wait_within(seconds, over.wait())

"""Does jobs of several kinds from their queues in Redis, until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import structlog
from saq.types import PartialTimersDict
from saq.worker import Worker as SaqWorker

from packager.jobs.job import JobKind
from packager.jobs.limits import QueueLimits
from packager.jobs.redis_queue import UNREACHABLE, SweptQueue, json_bytes

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from saq.job import Job as SaqJob

log = structlog.get_logger()


class _Worker(SaqWorker[Any]):
    SIGNALS: list[Any] = []  # noqa: RUF012  # as SAQ declares it
    """None: who runs it hears them."""


async def work(redis: Redis, kinds: Sequence[JobKind], asking: QueueLimits) -> None:
    """Do jobs until cancelled; those that are under way then go back into their queue.

    Args:
        redis: the client, which belongs to who made it.
    """
    async with asyncio.TaskGroup() as group:
        for kind in kinds:
            group.create_task(_worker(redis, kind, asking).start())


def _worker(redis: Redis, kind: JobKind, asking: QueueLimits) -> _Worker:
    limits = kind.limits

    async def run(context: dict[str, Any], **arguments: Any) -> Any:
        return await _attempt(context["job"], kind, arguments)

    return _Worker(
        SweptQueue(redis, kind.name, asking),
        [(kind.name, run)],
        concurrency=limits.at_once,
        dequeue_timeout=asking.wait_seconds,
        shutdown_grace_period_s=0,
        cancellation_hard_deadline_s=asking.leave_seconds,
        timers=PartialTimersDict(
            sweep=limits.sweep_seconds, worker_info=asking.worker_seconds, schedule=1, abort=1
        ),
    )


async def _attempt(job: SaqJob, kind: JobKind, arguments: dict[str, Any]) -> Any:
    """Try to do a job, and give signs of life meanwhile."""
    log.info("job_begun", kind=kind.name, job=job.key, attempt=job.attempts)
    reached = [0, 0]

    def progress(done: int, total: int) -> None:
        reached[:] = done, total

    over = asyncio.Event()
    signs = asyncio.create_task(_give_signs(job, reached, over, kind.limits.silent_seconds / 4))
    try:
        result = await kind.run(arguments, progress)
        if json_bytes(result) > kind.limits.result_bytes:
            raise ValueError(f"the result has more than {kind.limits.result_bytes} bytes")
    except Exception as error:
        log.warning("job_failed", kind=kind.name, job=job.key, attempt=job.attempts, reason=str(error))
        raise
    finally:
        # Before what came of it is written: a late sign of life would say that it is still worked on.
        # It isn't cancelled: within a command a client of Redis may take that for something else.
        over.set()
        await asyncio.wait((signs,))
    log.info("job_done", kind=kind.name, job=job.key)
    return result


async def _give_signs(job: SaqJob, reached: list[int], over: asyncio.Event, seconds: float) -> None:
    while not over.is_set():
        with contextlib.suppress(*UNREACHABLE):
            await job.update(meta={"done": reached[0], "total": reached[1]})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await over.wait()

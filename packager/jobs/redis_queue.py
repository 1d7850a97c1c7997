"""A queue of jobs in Redis, by SAQ, which outlives workers, waiting clients and, with an AOF, Redis.

A job that is taken from the queue stays in a list of active jobs until its result is written. Workers put
back the active jobs of workers without a sign of life for too long; so a job is done at least once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq.job import Job as SaqJob
from saq.job import Status as SaqStatus
from saq.queue.redis import RedisQueue

from packager.cluster.redis_client import redis_client
from packager.jobs.job import Job, JobKind, JobState, Status
from packager.jobs.limits import JobsLimits
from packager.retry_policy import FailureCount

log = structlog.get_logger()

UNREACHABLE = (RedisError, OSError, TimeoutError)
"""Exceptions of requests to Redis that can't be answered now."""

DIED = "its worker gave no sign of life any more"
NOT_JSON = (ValueError, TypeError, KeyError, AttributeError)

_STATUSES = {
    SaqStatus.ACTIVE: Status.RUNNING,
    SaqStatus.COMPLETE: Status.DONE,
    SaqStatus.FAILED: Status.FAILED,
    SaqStatus.ABORTED: Status.FAILED,
}

MAX_ARGUMENT_BYTES = 1 << 20
"""Most bytes of a job's arguments."""

MAX_LOOKED_AT = 200
"""Most jobs that are looked at in one question to Redis."""

AWAY_SECONDS = 300.0
"""Seconds for which a client that waits for jobs bears an unreachable Redis."""


def queues_client(url: str, asking: JobsLimits) -> Redis:
    """Make a client of Redis for queues.

    Raises:
        ValueError: the URL is wrong.
    """
    return redis_client(
        url,
        connect_seconds=asking.queue_answer_seconds,
        answer_seconds=asking.queue_wait_seconds + asking.queue_answer_seconds,
        connections=asking.queue_connections,
    )


class QueueAwayError(Exception):
    """Redis can't be reached; the text says why."""


class SweptQueue(RedisQueue):
    """SAQ's queue, which bears that Redis goes away, and puts jobs of dead workers back in one step.

    SAQ's own sweep takes them out of all lists first, where one is lost if the sweeper dies, too.
    """

    def __init__(self, redis: Redis, name: str, asking: JobsLimits) -> None:
        super().__init__(redis, name=f"headwater-{name}")
        self._away = FailureCount(asking.reconnects)
        self._not_begun: set[bytes] = set()

    async def dequeue(
        self,
        timeout: float = 0.0,  # noqa: ASYNC109  # SAQ's signature
        poll_interval: float = 0.0,
    ) -> SaqJob | None:
        """Take a job from the queue; None without a job that can be read, or without Redis."""
        try:
            job = await super().dequeue(timeout, poll_interval)
        except UNREACHABLE as error:
            pause = self._away.failed()
            if self._away.failures <= self._away.policy.quiet_after:
                log.warning(
                    "the queue of jobs can't be reached", queue=self.name, reason=str(error), again_in=pause
                )
            await asyncio.sleep(pause)
            return None
        except NOT_JSON:  # the sweep drops it
            return None
        if self._away.failures:
            log.info("the queue of jobs can be reached again", queue=self.name)
        self._away.succeeded()
        return job

    async def sweep(self, lock: int = 60, abort: float = 5.0) -> list[str]:
        """Put back the jobs whose workers are gone; jobs that were begun too often fail."""
        del abort
        redis: Any = self.redis  # its types are those of all Redis clients at once
        # One worker looks in each half of the interval: two at once would put the same jobs back twice.
        if not await redis.set(self.namespace("sweep"), 1, nx=True, px=max(1, lock * 500)):
            return []
        active = self.namespace("active")
        ids: list[bytes] = await redis.lrange(active, 0, -1)
        not_begun: set[bytes] = set()
        swept = []
        for job_id in ids:
            try:
                job = self.deserialize(await redis.get(job_id))
            except NOT_JSON:
                job = None
            if job is None:
                log.error(
                    "a job can't be read, and was dropped",
                    queue=self.name,
                    job=job_id.decode("ascii", "replace"),
                )
                await redis.lrem(active, 0, job_id)
                await redis.zrem(self.namespace("incomplete"), job_id)
            elif job.status is not SaqStatus.ACTIVE and job_id not in self._not_begun:
                not_begun.add(job_id)  # its worker may just be about to begin
            elif job.status is not SaqStatus.ACTIVE or job.stuck:
                swept.append(job_id.decode())
                await self._put_back(job)
        self._not_begun = not_begun
        return swept

    async def _put_back(self, job: SaqJob) -> None:
        log.warning("a job lost its worker", queue=self.name, job=job.key, reason=DIED, attempt=job.attempts)
        if job.retryable:
            await self.retry(job, DIED)
        else:
            await self.finish(job, SaqStatus.FAILED, error=f"{DIED}, {job.attempts} times in a row")


class JobQueue:
    """Puts jobs of one kind into a queue, and follows their states.

    Args:
        redis: the client, which its maker closes.
    """

    def __init__(self, redis: Redis, kind: JobKind, asking: JobsLimits) -> None:
        self._limits = kind.limits
        self._asking = asking
        self._name = kind.name
        self._queue = SweptQueue(redis, kind.name, asking)

    async def put(self, job: Job) -> bool:
        """Queue a job, unless it is queued already; return False where too many wait.

        Raises:
            ValueError: the job is too large.
            QueueAwayError: Redis can't be reached.
        """
        if len(json.dumps(job.arguments)) > MAX_ARGUMENT_BYTES:
            raise ValueError(f"a job of more than {MAX_ARGUMENT_BYTES} bytes")
        limits = self._limits
        try:
            if await self._queue.count("incomplete") >= limits.waiting and not await self._is_there(job):
                return False
            await self._queue.enqueue(
                SaqJob(
                    self._name,
                    kwargs=dict(job.arguments),
                    key=job.key,
                    timeout=limits.seconds,
                    heartbeat=limits.silent_seconds,
                    retries=limits.attempts,
                    ttl=limits.kept_seconds,
                    retry_delay=limits.retries.first_seconds,
                    retry_backoff=limits.retries.longest_seconds,
                )
            )
        except UNREACHABLE as error:
            raise QueueAwayError(_reason(error)) from None
        return True

    async def states(self, jobs: Iterable[Job]) -> list[JobState | None]:
        """Return the status of jobs; None for a job that isn't in the queue, or no longer.

        Raises:
            QueueAwayError: Redis can't be reached.
        """
        try:
            return [_state(one) for one in await self._queue.jobs([job.key for job in jobs])]
        except UNREACHABLE as error:
            raise QueueAwayError(_reason(error)) from None
        except NOT_JSON:
            raise QueueAwayError("the state of a job in Redis can't be read") from None

    async def has_workers(self) -> bool:
        """Return whether anybody does these jobs; raises as `states`."""
        try:
            found = await self._queue.redis.zcount(
                self._queue.namespace("stats"), time.time() * 1000, float("inf")
            )
        except UNREACHABLE as error:
            raise QueueAwayError(_reason(error)) from None
        return bool(found)

    async def follow(
        self, jobs: Sequence[Job], told: Callable[[str], None]
    ) -> AsyncIterator[tuple[Job, JobState]]:
        """Queue jobs as there is room, and yield each new state of a job until all are over.

        Args:
            told: called with a line when Redis goes away.

        Raises:
            QueueAwayError: Redis was away for too long; queued jobs go on.
        """
        lacking, waited_for = deque(jobs), dict[str, Job]()
        known: dict[str, JobState] = {}
        missing: set[str] = set()
        away_since: float | None = None
        while lacking or waited_for:
            try:
                while lacking and await self.put(lacking[0]):
                    job = lacking.popleft()
                    waited_for[job.key] = job
                some = list(waited_for.values())[:MAX_LOOKED_AT]
                for job, state in zip(some, await self.states(some), strict=True):
                    waited_for[job.key] = waited_for.pop(job.key)  # behind those that weren't queried
                    if state is None or not (state.is_over or await self._is_there(job)):
                        # Redis has lost it; only what is seen twice isn't the moment's doing.
                        if job.key in missing:
                            await self.put(job)
                        missing ^= {job.key}
                    elif state != known.get(job.key):
                        known[job.key] = state
                        yield job, state
                    if state is not None and state.is_over:
                        del waited_for[job.key]
                away_since = None
            except QueueAwayError as error:
                now = time.monotonic()
                if away_since is None:
                    told(f"Redis is away ({error}); what is queued goes on when it is back")
                    away_since = now
                if now - away_since > AWAY_SECONDS:
                    raise
            if lacking or waited_for:
                await asyncio.sleep(self._asking.queue_look_seconds)

    async def _is_there(self, job: Job) -> bool:
        try:
            place = self._queue.namespace("incomplete"), self._queue.job_id(job.key)
            return await self._queue.redis.zscore(*place) is not None
        except UNREACHABLE as error:
            raise QueueAwayError(_reason(error)) from None


def _state(job: SaqJob | None) -> JobState | None:
    if job is None:
        return None
    done, total = (job.meta.get(name) for name in ("done", "total"))
    return JobState(
        _STATUSES.get(job.status, Status.WAITING),
        done if isinstance(done, int) else 0,
        total if isinstance(total, int) else 0,
        job.result,
        last_line(job.error or ""),
    )


def last_line(text: str) -> str:
    """Return the last line of a traceback, or the text itself if it is one line."""
    return (text.strip().splitlines() or [""])[-1][:500]


def _reason(error: BaseException) -> str:
    return last_line(str(error)) or type(error).__name__


def json_bytes(result: Any) -> int:
    """Return the size of a result in bytes."""
    return len(json.dumps(result))

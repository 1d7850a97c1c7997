"""Jobs in a real Redis outlive whoever does them, whoever waits for them, and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis

from packager.concurrency import background_task
from packager.jobs.job import Job, JobKind, JobState, Status
from packager.jobs.limits import JobLimits
from packager.jobs.redis_queue import JobQueue, queues_client
from packager.jobs.worker import work
from tests.packager.jobs.slow_worker import ASKING, LIMITS, PATIENT, kind
from tests.processes import end
from tests.redis_server import RedisServer, redis_running
from tests.waiting import wait_for

# SAQ, which writes what it knows of workers by it.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")

SECONDS = 60


@dataclass
class Jobs:
    """A queue of one test, and the processes that do its jobs."""

    name: str
    server: RedisServer
    redis: Redis
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    limits: JobLimits = LIMITS

    @property
    def kind(self) -> JobKind:
        return kind(self.name, self.limits)

    @property
    def queue(self) -> JobQueue:
        return JobQueue(self.redis, self.kind, ASKING)

    def job(self, **arguments: object) -> Job:
        return Job("key", {"folder": str(self.folder), "text": "whole", **arguments})

    def start_worker(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "tests.packager.jobs.slow_worker", self.server.url, self.name]
        self.processes.append(subprocess.Popen(words))
        return self.processes[-1]

    def begun(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "begun").read_text().split()
        return []

    async def has_begun(self, times: int) -> None:
        await asyncio.to_thread(wait_for, lambda: len(self.begun()) >= times, "the job's begin")

    def let_go(self) -> None:
        (self.folder / "go").touch()

    async def followed(self, *jobs: Job) -> list[JobState]:
        async with asyncio.timeout(SECONDS):
            return [state async for _, state in self.queue.follow(jobs, lambda _: None)]


@pytest.fixture
async def jobs(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Jobs]:
    redis = queues_client(redis_server.url, ASKING)
    jobs = Jobs(tmp_path.name, redis_server, redis, tmp_path)
    yield jobs
    for process in jobs.processes:
        await asyncio.to_thread(end, process)
    await redis.aclose()


async def test_a_job_of_a_killed_worker_is_done_by_another_and_known_to_who_waits(jobs: Jobs) -> None:
    worker = jobs.start_worker()
    await jobs.queue.put(jobs.job())
    await jobs.has_begun(1)
    worker.kill()
    jobs.let_go()
    jobs.start_worker()
    states = await jobs.followed(jobs.job())
    assert (states[-1].status, states[-1].result) == (Status.DONE, {"text": "whole"})
    assert len(jobs.begun()) == 2
    assert (jobs.folder / "result").read_text() == "whole"


async def test_who_waits_may_be_killed_and_another_asks_for_the_same_job(jobs: Jobs) -> None:
    jobs.limits = PATIENT
    async with background_task(work(jobs.redis, [jobs.kind], ASKING)):
        waiting = asyncio.ensure_future(jobs.followed(jobs.job()))
        await jobs.has_begun(1)
        waiting.cancel()
        await asyncio.wait((waiting,))
        again = asyncio.ensure_future(jobs.followed(jobs.job()))
        jobs.let_go()
        assert (await again)[-1].status is Status.DONE
    assert len(jobs.begun()) == 1  # it was the same job, and never begun anew


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One that may be killed without harm to other tests."""
    with redis_running(tmp_path_factory.mktemp("redis")) as server:
        yield server


async def test_no_job_and_no_result_is_lost_where_redis_is_killed(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    redis = queues_client(own_redis.url, ASKING)
    jobs, told = Jobs("package", own_redis, redis, tmp_path), list[str]()
    many = [Job(f"key-{number}", {**jobs.job().arguments, "text": str(number)}) for number in range(6)]

    async def followed() -> set[str]:
        over = {}
        async for job, state in jobs.queue.follow(many, told.append):
            if state.is_over:
                over[job.key] = state
        assert all(state.status is Status.DONE for state in over.values())
        return {state.result["text"] for state in over.values()}

    async with asyncio.timeout(SECONDS), background_task(work(redis, [kind("package")], ASKING)):
        waiting = asyncio.ensure_future(followed())
        await jobs.has_begun(2)  # as many as one worker does at once
        await asyncio.to_thread(own_redis.kill)
        await asyncio.sleep(0)
        await asyncio.to_thread(wait_for, lambda: told, "the news that Redis is away")
        jobs.let_go()
        await asyncio.to_thread(own_redis.start)
        assert await waiting == {str(number) for number in range(6)}
    await redis.aclose()


async def test_a_job_that_fails_is_tried_some_times_says_why_and_stays_away(jobs: Jobs) -> None:
    jobs.limits = PATIENT
    async with background_task(work(jobs.redis, [jobs.kind], ASKING)):
        last = (await jobs.followed(jobs.job(fails=True)))[-1]
        assert (last.status, last.reason) == (Status.FAILED, "ValueError: it can't be done")
        assert len(jobs.begun()) == 3
        jobs.let_go()
        other = Job("other", jobs.job().arguments)
        assert (await jobs.followed(other))[-1].status is Status.DONE  # whatever was queued before is over
        assert len(jobs.begun()) == 4


async def test_a_job_that_kills_its_workers_is_given_up(jobs: Jobs) -> None:
    await jobs.queue.put(jobs.job(dies=True))
    for times in range(1, 4):
        worker = jobs.start_worker()
        await jobs.has_begun(times)
        await asyncio.to_thread(worker.wait, SECONDS)
    (jobs.folder / "begun").unlink()
    async with background_task(work(jobs.redis, [jobs.kind], ASKING)), asyncio.timeout(SECONDS):
        while (await jobs.queue.states([jobs.job()]))[0].status is not Status.FAILED:  # type: ignore[union-attr]
            await asyncio.sleep(0.05)
    (state,) = await jobs.queue.states([jobs.job()])
    assert state is not None
    assert state.reason == "its worker gave no sign of life any more, 3 times in a row"
    assert jobs.begun() == []


async def test_a_worker_that_ends_puts_its_jobs_back_at_once(jobs: Jobs) -> None:
    working = asyncio.ensure_future(work(jobs.redis, [jobs.kind], ASKING))
    await jobs.queue.put(jobs.job())
    await jobs.has_begun(1)
    working.cancel()
    await asyncio.wait((working,))
    (state,) = await jobs.queue.states([jobs.job()])
    assert state is not None
    assert state.status is Status.WAITING


async def test_more_jobs_than_may_wait_are_queued_as_others_end(jobs: Jobs) -> None:
    many = [Job(f"key-{number}", jobs.job().arguments) for number in range(7)]
    assert [await jobs.queue.put(job) for job in many] == [True] * 4 + [False] * 3
    assert await jobs.queue.put(many[0])  # it waits already
    jobs.let_go()
    async with background_task(work(jobs.redis, [jobs.kind], ASKING)):
        states = await jobs.followed(*many)
    assert sum(state.status is Status.DONE for state in states) == 7
    with pytest.raises(ValueError, match="bytes"):
        await jobs.queue.put(jobs.job(long="x" * (2 << 20)))


async def test_what_others_write_into_the_queue_is_dropped_and_holds_nobody_up(jobs: Jobs) -> None:
    place = f"headwater-{jobs.name}"
    texts = "{", "[]", '{"queue": "other"}', json.dumps({"queue": place, "x": 1}), ""
    for number, text in enumerate(texts):
        await jobs.redis.set(f"saq:job:{place}:{number}", text)
        await jobs.redis.rpush(f"saq:{place}:queued", f"saq:job:{place}:{number}")
    jobs.let_go()
    async with background_task(work(jobs.redis, [jobs.kind], ASKING)), asyncio.timeout(SECONDS):
        assert (await jobs.followed(jobs.job()))[-1].status is Status.DONE
        while await jobs.redis.llen(f"saq:{place}:active"):
            await asyncio.sleep(0.05)

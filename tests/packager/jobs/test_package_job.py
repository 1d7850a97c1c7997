"""A film whose packaging was broken off by a worker's death is finished by another worker, byte for byte."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from packager.concurrency import background_task
from packager.export.export import export
from packager.jobs.job import JobState, Status
from packager.jobs.package_job import package_jobs
from packager.jobs.redis_queue import JobQueue, queues_client
from packager.jobs.worker import work
from tests.packager import films
from tests.packager.export.runs import contents
from tests.packager.jobs.dying_packager import kind
from tests.packager.jobs.slow_worker import ASKING
from tests.redis_server import RedisServer

# SAQ, which writes what it knows of workers by it.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")

SECONDS = 60


async def test_a_film_is_finished_by_another_worker_where_one_is_killed_between_its_segments(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    film = await asyncio.to_thread(films.film, "bframes.mp4")
    (whole,) = (await asyncio.to_thread(export, [film], tmp_path / "here")).playlists
    (job,) = await asyncio.to_thread(package_jobs, [film], tmp_path / "queued", single_file=False)
    redis = queues_client(redis_server.url, ASKING)
    queue = JobQueue(redis, kind(), ASKING)
    assert await queue.put(job)
    words = [sys.executable, "-m", "tests.packager.jobs.dying_packager", redis_server.url]
    killed = await asyncio.to_thread(subprocess.run, words, timeout=SECONDS, check=False)
    assert killed.returncode == -signal.SIGKILL
    begun = contents(tmp_path / "queued")
    assert begun
    assert whole.name not in {Path(name).name for name in begun}
    states: list[JobState] = []
    async with asyncio.timeout(SECONDS), background_task(work(redis, [kind()], ASKING)):
        states += [state async for _, state in queue.follow([job], lambda _: None)]
    await redis.aclose()
    assert states[-1].status is Status.DONE
    assert contents(tmp_path / "queued") == contents(tmp_path / "here")

"""How many jobs may wait, how long one may take, and how often it is tried."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.export.limits import ExportLimits
from packager.retry_policy import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """The limits of jobs of one kind.

    Attributes:
        waiting: most jobs that wait or are worked on; who has more waits until there are fewer.
        at_once: how many one worker does at the same time.
        attempts: how often one is begun until it counts as failed, for whatever reason it didn't end.
        seconds: how long an attempt may take.
        silent_seconds: how long a worker may give no sign of life until its jobs are another one's.
        sweep_seconds: between two looks for such workers.
        retries: when a job that failed is tried again.
        kept_seconds: how long is known what came of a job.
        argument_bytes: most bytes of what a job is asked.
        result_bytes: most bytes of what comes of it.
    """

    waiting: int = 10_000
    at_once: int = 1
    attempts: int = 5
    seconds: int = 6 * 3600
    silent_seconds: int = 20
    sweep_seconds: int = 5
    retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(2.0, 60.0))
    kept_seconds: int = 24 * 3600
    argument_bytes: int = 1 << 20
    result_bytes: int = 12 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How a queue in Redis is asked.

    Attributes:
        answer_seconds: how long a connection, and an answer, may take.
        connections: most connections to Redis.
        wait_seconds: how long a worker's question for a job waits in Redis.
        look_seconds: between two looks of who waits for jobs.
        looked_at: jobs that are looked at in one question.
        reconnects: when Redis is asked again while it can't be reached.
        away_seconds: how long who waits for jobs bears that.
        looks_for_workers: how often who could do a job, too, waits for a worker that seems to be there.
        leave_seconds: how long a worker that is to end waits until its jobs are back in the queue.
        worker_seconds: how long a worker counts as there without a sign of life.
    """

    answer_seconds: float = 5.0
    connections: int = 64
    wait_seconds: float = 2.0
    look_seconds: float = 0.5
    looked_at: int = 200
    reconnects: RetryPolicy = field(default_factory=lambda: RetryPolicy(0.2, 2.0))
    away_seconds: float = 300.0
    looks_for_workers: int = 5
    leave_seconds: float = 20.0
    worker_seconds: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsLimits:
    """Limits of all jobs.

    Attributes:
        package: of the packaging of films.
        export: how such a job waits for another run of the same film.
        thumbnails: of the drawing of a film's small pictures.
        queue: how queues in Redis are asked.
    """

    package: JobLimits = field(default_factory=JobLimits)
    export: ExportLimits = field(default_factory=ExportLimits)
    thumbnails: JobLimits = field(
        default_factory=lambda: JobLimits(
            waiting=1000, attempts=2, seconds=180, silent_seconds=5, sweep_seconds=2, kept_seconds=60
        )
    )
    queue: QueueLimits = field(default_factory=QueueLimits)

"""How many jobs may wait, how long one may take, and how often it is tried."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.retry_policy import RetryPolicy

WORKER_SECONDS = 5
"""Seconds without a sign of life after which a worker no longer counts as present."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """The limits of jobs of one kind.

    Attributes:
        waiting: most jobs that wait or are worked on; further ones aren't queued until there are fewer.
        at_once: how many jobs one worker does at the same time.
        attempts: how often a job is begun until it counts as failed, whatever ended the attempts.
        seconds: how long an attempt may take.
        silent_seconds: how long a worker may give no sign of life until others get its jobs.
        sweep_seconds: between two searches for such workers.
        retries: when a job that failed is tried again.
        kept_seconds: how long the result of a job is kept.
    """

    waiting: int = 10_000
    at_once: int = 1
    attempts: int = 5
    seconds: int = 6 * 3600
    silent_seconds: int = 20
    sweep_seconds: int = 5
    retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(2.0, 60.0))
    kept_seconds: int = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsLimits:
    """Limits of all jobs.

    Attributes:
        package: of the packaging of films.
        thumbnails: of the drawing of a film's small pictures.
        queue_answer_seconds: how long a connection, and an answer, may take.
        queue_connections: most connections to Redis.
        queue_wait_seconds: how long a worker's request for a job waits in Redis.
        queue_look_seconds: between two queries for the states of awaited jobs.
        reconnects: the pauses between attempts while Redis can't be reached.
    """

    package: JobLimits = field(default_factory=JobLimits)
    thumbnails: JobLimits = field(
        default_factory=lambda: JobLimits(
            waiting=1000, attempts=2, seconds=180, silent_seconds=5, sweep_seconds=2, kept_seconds=60
        )
    )
    queue_answer_seconds: float = 5.0
    queue_connections: int = 64
    queue_wait_seconds: float = 2.0
    queue_look_seconds: float = 0.5
    reconnects: RetryPolicy = field(default_factory=lambda: RetryPolicy(0.2, 2.0))

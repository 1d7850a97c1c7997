"""A unit of background work: its input, its progress and its result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from packager.jobs.limits import JobLimits

Arguments = Mapping[str, Any]
"""The input of a job, as JSON objects."""

Progress = Callable[[int, int], None]
"""A callback with the steps of a job that are done and their total number; callable from any thread."""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work for a queue.

    Attributes:
        key: equal only for the same inputs, which are then worked on once for all who want it.
    """

    key: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class JobKind:
    """The function that does all jobs of one kind.

    Attributes:
        name: of the kind, and of its queue.
        run: does a job and returns its result, a value for JSON; after an exception the job is tried again.
        limits: the limits of each job.
    """

    name: str
    run: Callable[[Arguments, Progress], Awaitable[Any]]
    limits: JobLimits


class Status(Enum):
    """How far a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobState:
    """The status of a job.

    Attributes:
        done: the number of finished steps.
        total: the number of all steps; 0 before it is known.
        result: the result of a job that is done.
        reason: why the job failed, or why it is tried again.
    """

    status: Status
    done: int = 0
    total: int = 0
    result: Any = None
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, with a result or a failure."""
        return self.status in (Status.DONE, Status.FAILED)

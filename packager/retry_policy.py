"""When something that failed is tried again: one policy for sources, relays, segments and ffmpegs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait behind each failure in a row, and how often.

    Attributes:
        first_seconds: the pause behind the first failure.
        longest_seconds: the pause up to which they grow.
        growth: how many times as long as the one before each pause is.
        steady_seconds: a success that lasts so long makes the next failure a first one.
        retries: how often something is tried again before it is given up; None: without end.
        quiet_after: failures in a row that are logged; those behind them are no news.
    """

    first_seconds: float
    longest_seconds: float
    growth: float = 2.0
    steady_seconds: float = 0.0
    retries: int | None = None
    quiet_after: int = 3

    MOST_GROWTH: ClassVar[int] = 32
    """Beyond so many failures pauses grow no more: they are at their longest, and floats have an end."""

    def pause(self, failures: int) -> float:
        """Return the pause in seconds after so many failures in a row.

        Args:
            failures: 1 or more.
        """
        grown = self.first_seconds * self.growth ** min(failures - 1, self.MOST_GROWTH)
        return min(grown, self.longest_seconds)

    def pauses(self) -> Iterator[float]:
        """Yield the pauses in seconds, one for each retry."""
        failures = 0
        while self.retries is None or failures < self.retries:
            failures += 1
            yield self.pause(failures)


class FailureCount:
    """Counts the failures in a row of one thing that is tried again and again.

    Args:
        policy: says how long to wait behind each.

    Attributes:
        failures: how many there were since the last success that counts.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.failures = 0

    def failed(self) -> float:
        """Count a failure; return the seconds until the next attempt."""
        self.failures += 1
        return self.policy.pause(self.failures)

    def succeeded(self, seconds: float = 0.0) -> None:
        """Reset the count if a success lasted long enough.

        Args:
            seconds: for how long it lasted.
        """
        if seconds >= self.policy.steady_seconds:
            self.failures = 0

"""Counts how long something takes, for metrics and for lists."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate


class LatencyHistogram:
    """Counts latencies in the buckets of a histogram of Prometheus.

    Args:
        bounds: upper ends of its buckets in seconds, ascending; one without an end follows.
    """

    __slots__ = (
        "bounds",
        "counts",
        "sum",
    )

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """Return the buckets as Prometheus writes them, and the sum of all values."""
        bounds = [*map(str, self.bounds), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True)), self.sum

    def quantile(self, share: float) -> float | None:
        """Return the upper end of the bucket in which a quantile lies; None without values."""
        wanted, seen = share * self.count, 0
        if not self.count:
            return None
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= wanted:
                return bound
        return self.bounds[-1]

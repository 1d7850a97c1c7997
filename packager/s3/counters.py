"""Counts what a library in S3 asks of S3, and what its cache spares."""

from __future__ import annotations

import threading
from collections import Counter

from packager.latency_histogram import LatencyHistogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the buckets in which the time of requests is counted."""

UNAVAILABLE, REFUSED = "unavailable", "refused"
"""Why requests fail: S3 can't be reached or doesn't answer as it should, or it refuses."""


class S3Counters:
    """Counts requests; several threads may use it at once.

    Attributes:
        requests: how many were sent, retries not counted.
        failures: how many failed, by why.
        received_bytes: bytes of objects that came.
        seconds: how long requests took, their bodies included.
        hits: blocks that were in the cache when they were asked for.
        misses: blocks that weren't.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.failures = Counter({UNAVAILABLE: 0, REFUSED: 0})
        self.received_bytes = 0
        self.seconds = LatencyHistogram(SECONDS)
        self.hits = 0
        self.misses = 0

    def sent(self) -> None:
        """Count a request."""
        with self._lock:
            self.requests += 1

    def answered(self, seconds: float) -> None:
        """Count how long a request took, whatever its outcome."""
        with self._lock:
            self.seconds.observe(seconds)

    def failed(self, why: str) -> None:
        """Count a request that failed."""
        with self._lock:
            self.failures[why] += 1

    def received(self, length: int) -> None:
        """Count bytes of an object."""
        with self._lock:
            self.received_bytes += length

    def looked_up(self, hits: int, misses: int) -> None:
        """Count blocks that were and weren't in the cache."""
        with self._lock:
            self.hits += hits
            self.misses += misses

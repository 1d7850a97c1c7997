"""Limits of the replication of logs: what waits, what is sent at once, when to try again."""

from __future__ import annotations

from dataclasses import dataclass

from packager.retry_policy import RetryPolicy

RECONNECTS = RetryPolicy(0.05, 2.0, steady_seconds=10.0)

MAX_FRAME_BYTES = 64 << 20
"""Longest frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationLimits:
    """Limits of a connection that carries logs.

    Attributes:
        waiting_bytes: most bytes that wait for a follower that doesn't read; beyond, it is disconnected.
        buffered_bytes: most bytes of a snapshot that are written ahead of the follower's reading.
        read_bytes: most bytes that are read at once.
        report_seconds: between two reports of a follower's clients.
        reconnects: when a lost connection is made again.
    """

    waiting_bytes: int = 64 << 20
    buffered_bytes: int = 1 << 20
    read_bytes: int = 256 << 10
    report_seconds: float = 1.0
    reconnects: RetryPolicy = RECONNECTS

"""Limits of the replication of logs: what waits, what is sent at once, when to try again."""

from __future__ import annotations

from dataclasses import dataclass

from packager.retry_policy import RetryPolicy

RECONNECTS = RetryPolicy(0.05, 2.0, steady_seconds=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationLimits:
    """Limits of one connection over which logs go.

    Attributes:
        waiting_bytes: most bytes that wait for who doesn't read; beyond, it is disconnected.
        buffered_bytes: most bytes of a snapshot that are made ahead of who reads them.
        step_seconds: for how long a snapshot is written before the loop does something else.
        read_bytes: most bytes that are read at once.
        frame_bytes: longest frame.
        report_seconds: between two reports of who asks for what is made elsewhere.
        reported_viewers: most viewers of one report.
        connect_seconds: for how long a connection is waited for.
        reconnects: when a lost connection is made again.
    """

    waiting_bytes: int = 64 << 20
    buffered_bytes: int = 1 << 20
    step_seconds: float = 0.003
    read_bytes: int = 256 << 10
    frame_bytes: int = 64 << 20
    report_seconds: float = 1.0
    reported_viewers: int = 1000
    connect_seconds: float = 10.0
    reconnects: RetryPolicy = RECONNECTS

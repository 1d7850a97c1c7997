"""Limits of a node of a cluster: what waits while Redis is away, how long answers may take, what is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.retry_policy import RetryPolicy

RECONNECTS = RetryPolicy(0.1, 2.0, steady_seconds=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisLimits:
    """Limits of a node's connections to Redis.

    Attributes:
        connect_seconds: for how long a connection is waited for.
        call_seconds: for how long an answer is waited for.
        calls_at_once: most commands that wait for their answers; further ones wait for a place.
        connections: most connections, those of reads that wait included.
        reconnects: when Redis is tried again behind a failure.
        jitter: by which part of itself a pause is shortened at most, so that nodes don't come all at once.
    """

    connect_seconds: float = 1.0
    call_seconds: float = 1.0
    calls_at_once: int = 16
    connections: int = 64
    reconnects: RetryPolicy = RECONNECTS
    jitter: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLimits:
    """How long a lease lasts.

    Attributes:
        lease_seconds: for how long it is held without being renewed.
        renew_seconds: between two renewals, and between two attempts to take a lease.
        epoch_seconds: for how long the epoch of a log that nobody holds is remembered; by then the clock of
            Redis is beyond it.
    """

    lease_seconds: float = 1.2
    renew_seconds: float = 0.25
    epoch_seconds: int = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLimits:
    """Limits of a node of a cluster.

    Attributes:
        redis: of its connections.
        lease: of the leases that it holds.
    """

    redis: RedisLimits = field(default_factory=RedisLimits)
    lease: LeaseLimits = field(default_factory=LeaseLimits)

"""Limits of a rendition's window: its memory, how many requests may wait for it, and how long."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiterLimits:
    """How many may wait for one rendition and for how long; how long the loop is held to release them.

    Attributes:
        waiters: Most requests that wait at once.
        blocked_target_durations: RFC 8216bis §6.2.5.2: a request that is blocked for longer than three target
            durations gets 503.
        segment_seconds: How long one may wait for a segment in any case: three target durations of short ones
            are less, and players wait ten seconds for the beginning of an answer.
        released_at_once: How many are released before the loop does something else.
        release_seconds: For how long they are released before it does, if each has an answer of its own.
        released_at_least: How many are released in any case: those who wait for the same part want the same
            bytes, which are others when more has come.
    """

    waiters: int = 10_000
    blocked_target_durations: int = 3
    segment_seconds: int = 9
    released_at_once: int = 1000
    release_seconds: float = 0.01
    released_at_least: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """Limits of one rendition's window.

    Attributes:
        memory_bytes: Most bytes of its segments in memory; the oldest ones go first. Half of it is listed:
            what has left the list stays fetchable as long again.
        waiters: How many may wait, for how long, and how they are released.
    """

    memory_bytes: int = 1 << 30
    waiters: WaiterLimits = field(default_factory=WaiterLimits)


DEFAULT_LIMITS = WindowLimits()

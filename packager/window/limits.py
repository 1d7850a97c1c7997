"""Limits of a rendition's window: its memory, how many requests may wait for it, and how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """Limits of one rendition's window.

    Attributes:
        memory_bytes: Most bytes of its segments in memory; the oldest ones go first. Half of it is listed:
            what has left the list stays fetchable as long again.
        most_waiters: Most requests that wait at once.
        blocked_target_durations: RFC 8216bis §6.2.5.2: a request that is blocked for longer than three target
            durations gets 503.
        segment_seconds: Shortest limit of the wait for a segment: three target durations of short segments
            are less, and players wait ten seconds for the beginning of an answer.
        released_at_least: How many requests are released in any case: those that wait for the same part want
            the same answer, which another part would change.
    """

    memory_bytes: int = 1 << 30
    most_waiters: int = 10_000
    blocked_target_durations: int = 3
    segment_seconds: int = 9
    released_at_least: int = 100


DEFAULT_LIMITS = WindowLimits()

"""Limits of a rendition's window: its memory, how many requests may wait for it, and how long."""

from __future__ import annotations

from dataclasses import dataclass, replace

BLOCK_PERIODS = 64
"""Periods of a manifest that are joined, once they don't change any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishLimits:
    """Limits of a channel's cached playlists and manifests, date ranges and viewers.

    Attributes:
        block_segments: Segments whose lines are kept joined in a block, which begins with a number that this
            divides.
        memory_bytes: Most bytes of its segments in memory; the oldest ones go first. Half of it is listed:
            what has left the list stays fetchable as long again.
        most_waiters: Most requests that wait at once.
        blocked_target_durations: RFC 8216bis §6.2.5.2: a request that is blocked for longer than three target
            durations gets 503.
        segment_seconds: Shortest limit of the wait for a segment: three target durations of short segments
            are less, and players wait ten seconds for the beginning of an answer.
        released_at_least: How many requests are released in any case: those that wait for the same part want
            the same answer, which another part would change.
        viewer_target_durations: How long a viewer counts after a playlist.
        used_ids: How many IDs of removed ranges are remembered, so that none is used again.
    """

    block_segments: int = 256
    used_ids: int = 10_000
    memory_bytes: int = 1 << 30
    most_waiters: int = 10_000
    blocked_target_durations: int = 3
    segment_seconds: int = 9
    released_at_least: int = 100
    viewer_target_durations: int = 3

    def with_waiters(self, most: int) -> PublishLimits:
        """Return these limits, with another number of requests that may wait for each rendition."""
        return replace(self, most_waiters=most)


DEFAULT_LIMITS = PublishLimits()

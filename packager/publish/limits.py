"""Limits of the memory for a channel's playlists and manifests, and of how many viewers are counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from packager.window.limits import WindowLimits

BLOCK_PERIODS = 64
"""Periods of a manifest that are joined, once they don't change any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishLimits:
    """Limits of a channel's cached playlists and manifests, date ranges and viewers.

    Attributes:
        block_segments: Segments whose lines are kept joined in a block, which begins with a number that this
            divides.
        window: Limits of each rendition's window, and of its waiting requests.
        viewer_target_durations: How long a viewer counts after a playlist.
        used_ids: How many IDs of removed ranges are remembered, so that none is used again.
    """

    block_segments: int = 256
    used_ids: int = 10_000
    window: WindowLimits = field(default_factory=WindowLimits)
    viewer_target_durations: int = 3

    def with_waiters(self, most: int) -> PublishLimits:
        """Return these limits, with another number of requests that may wait for each rendition."""
        return replace(self, window=replace(self.window, most_waiters=most))


DEFAULT_LIMITS = PublishLimits()

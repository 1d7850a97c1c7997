"""Limits of the memory for a channel's playlists and manifests, and of how many viewers are counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from packager.window.limits import WindowLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishLimits:
    """Limits of what is kept of a channel's playlists, manifests, date ranges and viewers.

    Attributes:
        block_segments: Segments whose lines are kept joined in a block, which begins with a number that this
            divides.
        playlists: Most rendered playlists that are kept; different query parameters make different ones.
        playlist_bytes: Most bytes of them that were made for their query parameters alone.
        block_periods: Periods of a manifest that are joined, once they don't change any more.
        date_ranges: Most tags of date ranges at once; they are in every playlist.
        date_range_bytes: Most bytes of these tags.
        window: Of each rendition: what it holds, and how many requests may wait for it.
        viewers: Most clients that are told apart; beyond, the longest silent ones aren't counted.
        viewer_target_durations: How long a viewer counts after a playlist.
        used_ids: How many names of ranges that went are remembered, so that none is used again.
    """

    block_segments: int = 256
    playlists: int = 64
    playlist_bytes: int = 32 << 20
    block_periods: int = 64
    date_ranges: int = 500
    date_range_bytes: int = 256 << 10
    used_ids: int = 10_000
    window: WindowLimits = field(default_factory=WindowLimits)
    viewers: int = 100_000
    viewer_target_durations: int = 3

    def with_waiters(self, most: int) -> PublishLimits:
        """Return these limits, with another number of requests that may wait for each rendition."""
        waiters = replace(self.window.waiters, waiters=most)
        return replace(self, window=replace(self.window, waiters=waiters))


DEFAULT_LIMITS = PublishLimits()

"""When a source counts as late, so that a gap must stand for the segment that doesn't come."""

from __future__ import annotations

LATEST = 1.5
"""RFC 8216bis §6.2.2: a segment is published within one and a half target durations of the one before."""

AHEAD = 0.1
"""Part of a target duration by which a gap comes before the last moment."""

SILENCE = 0.4
"""Part of a target duration without any part: a source that is only slow isn't cut into pieces."""


class Punctuality:
    """Watches one channel; all times are seconds of a monotonic clock.

    Args:
        target_duration: seconds.
        segment_duration: seconds, for which one gap stands.
    """

    def __init__(self, target_duration: float, segment_duration: float) -> None:
        self._patience = (LATEST - AHEAD) * target_duration
        self._silence = SILENCE * target_duration
        self._segment_duration = segment_duration
        self._due: float | None = None
        self._flowed = 0.0

    def published(self, now: float) -> None:
        """Note that every rendition has another segment."""
        self._due = now + self._patience

    def flowed(self, now: float) -> None:
        """Note that a part came."""
        self._flowed = now

    def filled(self) -> None:
        """Note that gaps were put: the next are due a segment after these were, however late these came."""
        if self._due is not None:
            self._due = max(self._due, self._flowed + self._silence) + self._segment_duration

    def wait(self, now: float) -> float:
        """Give the seconds until a gap is due, 0 when it is; before the first segment nothing is."""
        if self._due is None:
            return self._patience
        return max(self._due - now, self._flowed + self._silence - now, 0.0)

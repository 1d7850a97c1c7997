"""When a source that ended is played again, and whether that is news."""

from __future__ import annotations

import structlog

log = structlog.get_logger()

FIRST_BACKOFF = 0.2
LONGEST_BACKOFF = 5.0
"""Seconds from an ffmpeg's end to the next one's start: doubled each time, up to the longest."""

STEADY_SECONDS = 10.0
"""An ffmpeg that ran so long starts the backoff anew."""

QUIET_AFTER = 3
"""Attempts in a row without a segment that are told; those behind them aren't news."""


class Backoff:
    """Counts the attempts to play one source.

    Args:
        channel: the channel's name, for the log.
    """

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._next = FIRST_BACKOFF
        self._failures = 0

    def ended(self, reason: str, seconds: float, *, published: bool) -> float:
        """Note the end of an ffmpeg, and tell it.

        Args:
            reason: of the end.
            seconds: for which it ran.
            published: whether a segment came of it.

        Returns:
            The seconds until the next one is to start.
        """
        if published and self._failures > QUIET_AFTER:
            log.info("source was back", channel=self._channel, failures=self._failures)
        self._failures = 0 if published else self._failures + 1
        pause = FIRST_BACKOFF if seconds >= STEADY_SECONDS else self._next
        if self._failures <= QUIET_AFTER:
            log.warning("source ended", channel=self._channel, reason=reason, again_in=pause)
        self._next = min(2 * pause, LONGEST_BACKOFF)
        return pause

"""How often a source is asked for again, and which of it is news."""

from __future__ import annotations

import asyncio
import time

import structlog

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds until it is asked again: doubled each time."""

QUIET_AFTER = 3
"""Failures in a row that are told; those behind them aren't news."""

log = structlog.get_logger()


class PullError(Exception):
    """What is there is no stream that can be brought; the text says why, and nothing of the address."""


class SourceRetries:
    """Counts the attempts to get one source.

    Args:
        channel: the channel's name, for the log.
    """

    def __init__(self, channel: str) -> None:
        self._channel = channel
        # Whether a stream comes, since when, whether one ever came, and how often none did since one came for
        # long. An attempt may be long without one: a host that doesn't answer takes its time.
        self._there = self._played = False
        self._since = 0.0
        self._failures = 0
        self._pause = FIRST_PAUSE

    def begins(self) -> None:
        """Note that a stream comes."""
        if self._failures > 0 and (self._failures <= QUIET_AFTER or not self._played):
            log.info("source is there", channel=self._channel)
        if not self._there:
            self._since = time.monotonic()
        self._there = self._played = True

    def ends(self, reason: str) -> float:
        """Note that none comes any more.

        Args:
            reason: in a line without the source's URL.

        Returns:
            The seconds until the next one.
        """
        if self._there and time.monotonic() - self._since > LONGEST_PAUSE:
            self._pause, self._failures = FIRST_PAUSE, 0
        if not self._failures or (self._there and self._failures < QUIET_AFTER):
            log.warning("source isn't there", channel=self._channel, reason=reason)
        self._there, self._failures = False, self._failures + 1
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause

    async def fails(self, reason: str) -> None:
        """Note that nothing came, and wait until the next attempt is due.

        Args:
            reason: as for ``ends``.
        """
        await asyncio.sleep(self.ends(reason))

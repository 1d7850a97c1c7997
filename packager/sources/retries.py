"""How often a source is asked for again, and which of it is news."""

from __future__ import annotations

import asyncio
import time

import structlog

from packager.retry_policy import FailureCount, RetryPolicy
from packager.sources.limits import DEFAULT_LIMITS

log = structlog.get_logger()


class PullError(Exception):
    """What is there is no stream that can be brought; the text says why, and nothing of the address."""


class SourceRetries:
    """Counts the attempts to get one source.

    Args:
        channel: the channel's name, for the log.
        policy: says when it is asked again.
    """

    def __init__(self, channel: str, policy: RetryPolicy = DEFAULT_LIMITS.retry) -> None:
        self._channel = channel
        self._policy = policy
        # Whether a stream comes, since when, and whether one ever came. An attempt may be long without one: a
        # host that doesn't answer takes its time.
        self._there = self._played = False
        self._since = 0.0
        self._count = FailureCount(policy)

    def stream_began(self) -> None:
        """Note that a stream comes."""
        if self._count.failures > 0 and (
            self._count.failures <= self._policy.quiet_after or not self._played
        ):
            log.info("source is there", channel=self._channel)
        if not self._there:
            self._since = time.monotonic()
        self._there = self._played = True

    def stream_ended(self, reason: str) -> float:
        """Note that none comes any more.

        Args:
            reason: in a line without the source's URL.

        Returns:
            The seconds until the next one.
        """
        if self._there:
            self._count.succeeded(time.monotonic() - self._since)
        failures = self._count.failures
        if not failures or (self._there and failures < self._policy.quiet_after):
            log.warning("source isn't there", channel=self._channel, reason=reason)
        self._there = False
        return self._count.failed()

    async def wait_after_failure(self, reason: str) -> None:
        """Note that nothing came, and wait until the next attempt is due.

        Args:
            reason: as for ``ends``.
        """
        await asyncio.sleep(self.stream_ended(reason))

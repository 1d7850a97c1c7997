"""When a source is requested again, and which of its failures and recoveries are logged."""

from __future__ import annotations

import asyncio
import time

import structlog

from packager.retry_policy import FailureCount, RetryPolicy
from packager.sources.limits import DEFAULT_LIMITS

log = structlog.get_logger()


class PullError(Exception):
    """A source can't be fetched; the text says why, without the URL."""


class SourceRetries:
    """Counts and delays the attempts to fetch one source.

    Args:
        channel: the channel's name, for the log.

    Attributes:
        trouble: why no stream is being received; empty where one is, or before the first attempt's end.
    """

    def __init__(self, channel: str, policy: RetryPolicy = DEFAULT_LIMITS.retry) -> None:
        self.trouble = ""
        self._channel = channel
        self._policy = policy
        # Whether a stream is being received, since when, and whether one ever was. The duration of an attempt
        # says nothing: a host that doesn't answer takes long, too.
        self._there = self._played = False
        self._since = 0.0
        self._count = FailureCount(policy)

    def stream_began(self) -> None:
        """Record that a stream is being received."""
        if self._count.failures > 0 and (
            self._count.failures <= self._policy.quiet_after or not self._played
        ):
            log.info("source is there", channel=self._channel)
        if not self._there:
            self._since = time.monotonic()
        self._there = self._played = True
        self.trouble = ""

    def stream_ended(self, reason: str) -> float:
        """Record that the stream has ended or an attempt failed.

        Args:
            reason: one line without the source's URL.

        Returns:
            The seconds until the next attempt.
        """
        if self._there:
            self._count.succeeded(time.monotonic() - self._since)
        failures = self._count.failures
        if not failures or (self._there and failures < self._policy.quiet_after):
            log.warning("source isn't there", channel=self._channel, reason=reason)
        self._there = False
        self.trouble = reason
        return self._count.failed()

    async def wait_after_failure(self, reason: str) -> None:
        """Record a failed attempt for a reason, and wait until the next one is due."""
        await asyncio.sleep(self.stream_ended(reason))

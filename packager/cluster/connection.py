"""The connection of a node to Redis, which everything that goes over it shares.

While Redis can't be reached, every call fails at once, and one task alone looks whether it is back: however
many logs a node has, Redis isn't asked more often for it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from packager.cluster.limits import RedisLimits
from packager.retry_policy import FailureCount

log = structlog.get_logger()

Command = Callable[[Any], Awaitable[Any]]
"""Gives a ``redis.asyncio.Redis`` a command; what that answers depends on the command."""


class RedisUnavailableError(Exception):
    """Redis can't be reached, or refuses what it is asked."""


class RedisConnection:
    """Calls Redis, and knows whether it can be reached.

    Args:
        url: as ``redis_client`` takes it.
        limits: of the connections.

    Attributes:
        trouble: why Redis can't be used now, in one line; empty while it can.
        lost: how often it was lost.
        up_since: the moment of the monotonic clock since which it can be reached.

    Raises:
        ModuleNotFoundError: the extra isn't installed.
        ValueError: the URL is wrong.
    """

    def __init__(self, url: str, limits: RedisLimits) -> None:
        # Here and not above: it is an extra, and most servers don't have it.
        from redis.exceptions import RedisError

        from packager.cluster.redis_client import redis_client

        self._failures = (RedisError, OSError, TimeoutError)
        self._limits = limits
        self._client = redis_client(
            url,
            connect_seconds=limits.connect_seconds,
            answer_seconds=None,  # some commands wait long in Redis
            connections=limits.connections,
        )
        self._calls = asyncio.Semaphore(limits.calls_at_once)
        self._is_up, self._is_down = asyncio.Event(), asyncio.Event()
        self.trouble = "Redis wasn't asked yet"
        self.lost = 0
        self.up_since = 0.0

    @property
    def is_up(self) -> bool:
        """Whether Redis could be reached when it was last asked."""
        return self._is_up.is_set()

    async def run(self) -> None:
        """Look whether Redis is there, again and again while it isn't, until cancelled."""
        failures = FailureCount(self._limits.reconnects)
        try:
            while True:
                began = time.monotonic()
                if await self._answers():
                    self._came(failures)
                    await self._is_down.wait()
                failures.succeeded(time.monotonic() - began)
                pause = failures.failed()
                if failures.failures <= failures.policy.quiet_after:
                    log.warning("Redis can't be used", reason=self.trouble, again_in=round(pause, 2))
                await asyncio.sleep(pause * (1 - self._limits.jitter * random.random()))  # noqa: S311
        finally:
            self._is_up.clear()
            await self._client.aclose()

    async def wait_until_up(self) -> None:
        """Wait until Redis can be reached."""
        await self._is_up.wait()

    async def call(self, command: Command) -> Any:
        """Give a command, and wait for its answer.

        Args:
            command: is given the client.

        Raises:
            RedisUnavailableError: Redis is away, or refuses; whether the command was carried out isn't known.
        """
        async with self._calls:
            return await self._ask(command, self._limits.call_seconds)

    async def wait(self, command: Command, seconds: float) -> Any:
        """Give a command that waits in Redis, such as a read of what comes.

        Args:
            command: is given the client.
            seconds: for which it waits there.

        Raises:
            RedisUnavailableError: as for ``call``.
        """
        return await self._ask(command, seconds + self._limits.call_seconds)

    async def _ask(self, command: Command, seconds: float) -> Any:
        if not self.is_up:
            raise RedisUnavailableError(self.trouble)
        try:
            async with asyncio.timeout(seconds):
                return await command(self._client)
        except self._failures as error:
            self._went(error)
            raise RedisUnavailableError(self.trouble) from error

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(self._limits.connect_seconds + self._limits.call_seconds):
                # A script that is refused or a replica is no use either.
                await self._client.eval("return redis.call('TIME')", 0)
        except self._failures as error:
            self.trouble = _reason(error)
            return False
        return True

    def _came(self, failures: FailureCount) -> None:
        if failures.failures > failures.policy.quiet_after:
            log.info("Redis is back", failures=failures.failures)
        self.trouble, self.up_since = "", time.monotonic()
        self._is_down.clear()
        self._is_up.set()

    def _went(self, error: BaseException) -> None:
        if self.is_up:
            self.trouble = _reason(error)
            self.lost += 1
            self._is_up.clear()
            self._is_down.set()


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"Redis: {text or 'no answer in time'}"

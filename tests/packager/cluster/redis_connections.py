"""Connections to Redis with the limits of tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from packager.cluster.connection import RedisConnection
from packager.cluster.limits import ClusterLimits
from packager.concurrency import background_task
from packager.retry_policy import RetryPolicy
from tests.redis_server import RedisServer

LIMITS = ClusterLimits(reconnects=RetryPolicy(0.01, 0.1))


@contextlib.asynccontextmanager
async def connected(server: RedisServer, limits: ClusterLimits = LIMITS) -> AsyncIterator[RedisConnection]:
    # Loading the client reads files.
    connection = await asyncio.to_thread(RedisConnection, server.url, limits)
    async with background_task(connection.run()):
        await connection.wait_until_up()
        yield connection

"""Which channels on demand are asked for: told to packagers over a real Redis, whatever else is in there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from packager.cluster.connection import RedisConnection
from packager.cluster.demand import ASKED, Demand
from packager.cluster.limits import ClusterLimits
from packager.concurrency import background_task
from packager.retry_policy import RetryPolicy
from tests.redis_server import RedisServer
from tests.waiting import until

LIMITS = ClusterLimits(tell_seconds=0.01, demand_look_seconds=0.01)


class Made:
    """Counts what a packager is told of one channel."""

    def __init__(self) -> None:
        self.viewers = self.unknown = 0

    def note_viewer(self) -> None:
        self.viewers += 1

    def note_unknown_viewers(self) -> None:
        self.unknown += 1


@contextlib.asynccontextmanager
async def demand(server: RedisServer, **made: Made) -> AsyncIterator[Demand]:
    redis = ClusterLimits(reconnects=RetryPolicy(0.01, 0.1), call_seconds=30.0)
    connection = await asyncio.to_thread(RedisConnection, server.url, redis)
    one = Demand(connection, LIMITS)
    one.made.update(made)
    async with background_task(connection.run()), background_task(one.run()):
        yield one


async def test_packagers_learn_what_is_asked_for_at_other_nodes(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")
    one, other = Made(), Made()
    async with demand(redis_server) as edge, demand(redis_server, one=one), demand(redis_server, one=other):
        edge.note("one")
        edge.note("unknown")
        await until(lambda: one.viewers and other.viewers, "both packagers")
        # What isn't asked for again is forgotten.
        redis_server.command("ZADD", ASKED, "1", "one")
        await asyncio.sleep(0.1)
        forgotten = one.viewers
        redis_server.kill()
        try:
            await until(lambda: one.unknown and other.unknown, "the loss")
            edge.note("one")
        finally:
            await asyncio.to_thread(redis_server.start)
        await until(lambda: one.viewers > forgotten, "what was asked for meanwhile")


async def test_what_is_no_demand_in_redis_harms_nobody(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")
    redis_server.command("SET", ASKED, "no set")
    one = Made()
    async with demand(redis_server, one=one) as node:
        await asyncio.sleep(0.1)
        node.note("one")
        await until(lambda: one.viewers, "what is asked for")
        redis_server.command("ZADD", ASKED, "9000000000", b"\xff\xfe")
        seen = one.viewers
        await until(lambda: one.viewers > seen, "the next look")
        assert not node._connection.lost

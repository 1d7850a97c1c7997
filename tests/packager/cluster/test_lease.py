"""A log has one owner at a time, whatever stands still or is lost, and who isn't it any more is refused."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest

from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.lease import Lease, LogKeys
from packager.cluster.limits import ClusterLimits
from packager.retry_policy import RetryPolicy
from tests.packager.cluster.redis_connections import LIMITS, connected
from tests.redis_server import RedisServer
from tests.waiting import until

LONG = ClusterLimits(lease_seconds=600.0)
SHORT = ClusterLimits(lease_seconds=0.05)


def some_keys() -> LogKeys:
    return LogKeys("live", uuid.uuid4().hex)


def leases(connection: RedisConnection, limits: ClusterLimits) -> tuple[Lease, Lease]:
    keys = some_keys()
    return Lease(connection, keys, "one", limits), Lease(connection, keys, "two", limits)


async def test_a_lease_has_one_holder_until_it_is_given_back(redis_server: RedisServer) -> None:
    async with connected(redis_server) as connection:
        one, two = leases(connection, LONG)
        assert await one.acquire(has_media=True)
        assert one.epoch
        assert not await two.acquire(has_media=True)
        assert await one.renew(has_media=True)
        first = one.epoch
        await one.release()
        assert not one.is_certain
        assert await two.acquire(has_media=False)
        assert two.epoch > first


async def test_who_stood_still_for_longer_than_its_lease_lasts_is_told_that_another_has_it(
    redis_server: RedisServer,
) -> None:
    async with connected(redis_server) as connection:
        one, two = leases(connection, SHORT)
        assert await one.acquire(has_media=True)
        await until(lambda: not one.is_certain, "the end of its time")
        # Nobody else has come: it goes on.
        assert await one.renew(has_media=True)
        first = one.epoch
        for _ in range(1000):
            if await two.acquire(has_media=True):
                break
            await asyncio.sleep(0.01)
        assert two.epoch > first
        assert not await one.renew(has_media=True)
        assert one.epoch == 0
        # What it gives back isn't its own any more.
        one.epoch = first
        await one.release()
        assert await two.renew(has_media=True)


async def test_who_has_nothing_to_append_leaves_the_lease_to_who_has(redis_server: RedisServer) -> None:
    async with connected(redis_server) as connection:
        one, two = leases(connection, LONG)
        assert await one.acquire(has_media=True)
        assert await one.renew(has_media=False)
        assert not await two.acquire(has_media=False)
        assert await two.acquire(has_media=True)
        assert not await one.renew(has_media=True)


async def test_epochs_grow_even_where_redis_has_lost_its_data(redis_server: RedisServer) -> None:
    async with connected(redis_server) as connection:
        one, two = leases(connection, LONG)
        assert await one.acquire(has_media=True)
        first = one.epoch
        redis_server.command("FLUSHALL")
        # Epochs are milliseconds of the clock, in which Redis doesn't lose and give anything.
        await until(lambda: time.time() * 1000 > first + 1)
        assert await two.acquire(has_media=True)
        assert two.epoch > first
        assert not await one.renew(has_media=True)


async def test_while_redis_is_away_calls_fail_at_once_and_one_task_looks_for_it(
    redis_server: RedisServer,
) -> None:
    async with connected(redis_server) as connection:
        redis_server.kill()
        with pytest.raises(RedisUnavailableError):
            await connection.call(lambda client: client.ping())
        assert connection.trouble.startswith("Redis: ")
        many = [connection.call(lambda client: client.ping()) for _ in range(500)]
        assert all(
            isinstance(one, RedisUnavailableError)
            for one in await asyncio.gather(*many, return_exceptions=True)
        )
        assert connection.lost == 1
        await asyncio.to_thread(redis_server.start)
        await asyncio.wait_for(connection.wait_until_up(), 60)
        assert connection.trouble == ""
        assert await connection.call(lambda client: client.ping())


async def test_a_redis_that_keeps_silent_is_not_waited_for(redis_server: RedisServer) -> None:
    limits = ClusterLimits(call_seconds=0.2, connect_seconds=0.2, reconnects=RetryPolicy(0.01, 0.1))
    async with connected(redis_server, limits) as connection:
        with redis_server.stopped(), pytest.raises(RedisUnavailableError, match="no answer in time"):
            await connection.call(lambda client: client.ping())
        await asyncio.wait_for(connection.wait_until_up(), 60)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:6379", "redis+sentinel://a:26379", "redis+sentinel://a/main", "127.0.0.1:6379"],
)
async def test_an_address_that_is_none_of_redis_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        await asyncio.to_thread(RedisConnection, url, LIMITS)

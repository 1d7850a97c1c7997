"""A node that acquires a lease, and loses Redis before it knows the log's end, takes the log over later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from packager.cluster.connection import RedisConnection
from packager.cluster.lease import LogKeys
from packager.cluster.shared_station import RADIO
from packager.replication.live_log import LIVE
from tests.packager.cluster import live_nodes, station_nodes
from tests.radio_server import Feed
from tests.redis_server import RedisServer, redis_running
from tests.waiting import until


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_running(tmp_path) as server:
        yield server


@contextlib.contextmanager
def ends_refused(redis: RedisServer) -> Iterator[None]:
    """Have Redis refuse to say how far logs go, and drop who asks; leases can be acquired."""
    assert redis.command("ACL", "SETUSER", "default", "-type").startswith(b"+OK")
    yield
    assert redis.command("ACL", "SETUSER", "default", "+type").startswith(b"+OK")


async def interrupted(redis: RedisServer, connection: RedisConnection, keys: LogKeys) -> None:
    """Wait until a node has the lease of a log, and has lost Redis behind that."""
    await until(lambda: redis.command("EXISTS", keys.lease).startswith(b":1"), "the lease")
    await until(lambda: connection.lost > 0, "the loss")


async def test_a_channel_is_shared_once_redis_is_back(redis: RedisServer) -> None:
    maker = live_nodes.playing()
    async with contextlib.AsyncExitStack() as stack:
        with ends_refused(redis):
            one = await stack.enter_async_context(live_nodes.node(redis, maker))
            await interrupted(redis, one.node.connection, LogKeys(LIVE, "test"))
        edge = await stack.enter_async_context(live_nodes.node(redis))
        await until(lambda: live_nodes.is_level(maker, edge), "the first segment")
        maker.act("segment")
        maker.act("parts")
        await until(lambda: live_nodes.is_level(maker, edge), "what follows")


async def test_a_station_is_shared_once_redis_is_back(redis: RedisServer) -> None:
    feed = Feed()
    feed.begin_at(1)
    async with contextlib.AsyncExitStack() as stack:
        with ends_refused(redis):
            one = await stack.enter_async_context(station_nodes.node(redis, feed))
            await interrupted(redis, one.connection, LogKeys(RADIO, station_nodes.NAME))
        edge = await stack.enter_async_context(station_nodes.node(redis, None))

        def is_heard() -> bool:
            feed.push(1)
            return len(edge.heard()) > 1

        # Nothing is kept of what came before the node owns the log.
        await until(is_heard, "some frames")
        await until(lambda: edge.heard() == one.heard(), "all of them")
        first = one.heard()[0]
        assert one.heard() == list(range(first, first + len(one.heard())))

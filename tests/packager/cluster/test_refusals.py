"""A Redis that takes no writes is one that is away: what it refuses is sent again, and the reason is told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.event_streams import EventRetention, EventStreams
from packager.cluster.limits import ClusterLimits
from packager.concurrency import background_task
from tests.packager.cluster.live_nodes import alike, clear, is_level, node, playing
from tests.packager.cluster.redis_connections import LIMITS as REDIS_LIMITS
from tests.packager.cluster.redis_connections import connected
from tests.packager.made_channel import same
from tests.redis_server import RedisServer
from tests.waiting import until

OFTEN = replace(REDIS_LIMITS, redis_look_seconds=0.05, call_seconds=60.0)
REFUSALS = {
    "full memory": (["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"], "maxmemory"),
    "a replica": (["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"], "read only replica"),
    "no replicas": (
        ["CONFIG SET min-replicas-to-write 1"],
        ["CONFIG SET min-replicas-to-write 0"],
        "NOREPLICAS",
    ),
    "no right to append": (["ACL SETUSER default -xadd"], ["ACL SETUSER default +xadd"], "run this command"),
}


def give(server: RedisServer, lines: list[str]) -> None:
    for line in lines:
        assert server.command(*line.split()) == b"+OK\r\n"


@contextlib.asynccontextmanager
async def refusing(server: RedisServer, kind: str) -> AsyncIterator[str]:
    """Let Redis refuse what is written to it; give a word of what it tells."""
    begin, end, word = REFUSALS[kind]
    give(server, begin)
    try:
        yield word
    finally:
        give(server, end)


@pytest.mark.parametrize("kind", REFUSALS)
async def test_what_redis_refuses_is_sent_again_once_it_takes_it(
    redis_server: RedisServer, kind: str
) -> None:
    clear(redis_server)
    maker = playing()
    async with node(redis_server, maker) as packager, node(redis_server) as edge:
        await until(lambda: is_level(maker, edge), "the first segment")
        handed_on = [*edge.relayed.entries]
        connection = packager.node.connection
        async with refusing(redis_server, kind) as word:
            maker.act("segment")
            maker.act("parts")
            await until(lambda: word in connection.told, "the reason")
            assert is_level(maker, packager)
            assert not is_level(maker, edge)
            lost = connection.lost
            if kind != "no right to append":
                # It is asked whether it takes writes, and nothing is tried meanwhile.
                await asyncio.sleep(0.5)
                assert connection.lost == lost
                assert not connection.is_up
            assert packager.task is not None
            assert not packager.task.done()
        await until(lambda: is_level(maker, edge), "what was refused")
        maker.act("segment")
        await until(lambda: is_level(maker, edge), "what follows")
        await until(lambda: alike(packager, edge), "the same answers")
        same(maker, edge.streams["test"])
        assert edge.relayed.entries[: len(handed_on)] == handed_on
        assert packager.node.channels["test"].dropped == 0
        await until(lambda: not connection.told, "all to be well")
    clear(redis_server)


async def test_events_in_redis_outlast_its_full_memory(redis_server: RedisServer) -> None:
    clear(redis_server)
    kept = EventRetention(100, 1 << 20, 0.0)
    async with connected(redis_server) as connection:
        streams = EventStreams(connection, "token", ClusterLimits())
        await streams.append("test", 1, [b"one", b"two"], 0, kept)
        async with refusing(redis_server, "full memory"):
            with pytest.raises(RedisUnavailableError):
                await streams.append("test", 2, [b"three"], 0, kept)
            await until(lambda: not connection.is_up, "the refusal")
        await connection.wait_until_up()
        await streams.append("test", 2, [b"three"], 0, kept)
        found = await streams.read({"test": b"0-0"})
        assert [one.message for one in found["test"].events] == [b"one", b"two", b"three"]
    clear(redis_server)


async def test_a_redis_that_may_drop_keys_is_told_of(redis_server: RedisServer) -> None:
    give(redis_server, ["CONFIG SET maxmemory 1gb", "CONFIG SET maxmemory-policy allkeys-lru"])
    try:
        with capture_logs() as logs:
            async with connected(redis_server, OFTEN) as connection:
                assert "allkeys-lru" in connection.told
                give(redis_server, ["CONFIG SET maxmemory-policy noeviction"])
                await until(lambda: not connection.told, "the change")
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
            "Redis may lose entries"
        ]
    finally:
        give(redis_server, ["CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy noeviction"])


@pytest.mark.parametrize(("seconds", "word"), [(-90, "behind"), (90, "ahead of")])
async def test_a_clock_that_differs_from_that_of_redis_is_told_of(
    redis_server: RedisServer, seconds: int, word: str
) -> None:
    fault = float(seconds)
    connection = await asyncio.to_thread(
        RedisConnection, redis_server.url, OFTEN, lambda: time.time() + fault
    )
    with capture_logs() as logs:
        async with background_task(connection.run()):
            await connection.wait_until_up()
            assert word in connection.told
            assert 88 <= int(connection.told.partition(" s ")[0].rpartition(" ")[2]) <= 90
            fault = 0.0
            await until(lambda: not connection.told, "the clock to be set")
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "the clocks of the cluster differ"
    ]


async def test_what_may_not_ask_redis_for_its_memory_and_clock_is_up_all_the_same(
    redis_server: RedisServer,
) -> None:
    give(redis_server, ["ACL SETUSER default -info -time"])
    try:
        async with connected(redis_server, OFTEN) as connection:
            assert connection.is_up
            assert not connection.told
    finally:
        give(redis_server, ["ACL SETUSER default +info +time"])

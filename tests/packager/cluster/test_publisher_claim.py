"""Of publishers to one channel at two packagers, Redis decides which one is on air."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from packager.cluster.connection import RedisConnection
from packager.cluster.limits import ClusterLimits
from packager.cluster.publisher_claim import PublisherClaim
from packager.concurrency import background_task
from packager.retry_policy import RetryPolicy
from packager.sources.publication import Publication, Publisher
from packager.sources.published_source import TAKEN, TAKEN_OVER, PublishedSource, TakenError, Takeover
from tests.redis_server import RedisServer
from tests.waiting import until

KEY = "headwater:{live/studio}:publisher"
LIMITS = ClusterLimits(lease_seconds=2.0, renew_seconds=0.05)


@dataclass
class Packager:
    """A packager of the channel, and why its publishers were ended from its side."""

    source: PublishedSource
    claim: PublisherClaim
    ended: list[str] = field(default_factory=list)

    def publish(self) -> Publication:
        """Have a publisher on air, as far as this packager knows."""
        publication = self.source.begin(Publisher("rtmp", "192.0.2.7"), "mpegts", self.ended.append)
        publication.playable_since = 0.0
        self.source.offer(publication)
        return publication


@contextlib.asynccontextmanager
async def packagers(
    server: RedisServer, takeover: Takeover, *, run: bool = True
) -> AsyncIterator[tuple[Packager, Packager, RedisConnection]]:
    server.command("FLUSHALL")
    patient = ClusterLimits(reconnects=RetryPolicy(0.01, 0.1), call_seconds=30.0)
    connection = await asyncio.to_thread(RedisConnection, server.url, patient)

    def make(name: str) -> Packager:
        source = PublishedSource("studio", takeover)
        return Packager(source, PublisherClaim(source, connection, uuid.uuid4().hex, name, LIMITS))

    one, other = make("one"), make("other")
    async with background_task(connection.run()):
        await connection.wait_until_up()
        async with contextlib.AsyncExitStack() as stack:
            for packager in (one, other) if run else ():
                await stack.enter_async_context(background_task(packager.claim.run()))
            yield one, other, connection


@pytest.mark.parametrize(
    ("takeover", "reason"), [(Takeover.REFUSE, TAKEN), (Takeover.REPLACE, TAKEN_OVER), (Takeover.BACKUP, "")]
)
async def test_of_two_that_begin_at_once_one_is_on_air(
    redis_server: RedisServer, takeover: Takeover, reason: str
) -> None:
    async with packagers(redis_server, takeover) as (one, other, _):
        sources = one.source, other.source
        for _ in range(3):
            begun = [packager.publish() for packager in (one, other)]
            await until(lambda: sum(source.elsewhere != "" for source in sources) == 1, "a decision")
            loser, winner = (one, other) if one.source.elsewhere else (other, one)
            assert winner.source.is_on_air
            assert not loser.source.is_on_air
            assert (loser.ended, winner.ended) == ([reason] if reason else [], [])
            assert loser.source.has_publisher == (takeover is Takeover.BACKUP)
            loser.ended.clear()
            for publication in begun:
                publication.end()
            await until(lambda: not any(source.is_taken for source in sources), "both free")


async def test_the_newer_one_replaces_and_its_end_leaves_the_channel_free(redis_server: RedisServer) -> None:
    async with packagers(redis_server, Takeover.REPLACE) as (one, other, _):
        one.publish()
        await until(lambda: other.source.elsewhere == "one", "the first")
        second = other.publish()
        await until(lambda: one.ended == [TAKEN_OVER], "the end of the first")
        assert other.source.is_on_air
        second.end()
        await until(lambda: not one.source.is_taken, "the end of the second")
        assert redis_server.command("EXISTS", KEY) == b":0\r\n"


async def test_whoever_is_refused_at_one_packager_is_refused_before_the_stream_comes(
    redis_server: RedisServer,
) -> None:
    async with packagers(redis_server, Takeover.REFUSE) as (one, other, _):
        one.publish()
        await until(lambda: other.source.elsewhere == "one", "the first")
        with pytest.raises(TakenError):
            other.source.check_room()


async def test_without_redis_each_packager_decides_and_behind_that_one_is_on_air(
    redis_server: RedisServer,
) -> None:
    async with packagers(redis_server, Takeover.REFUSE) as (one, other, connection):
        one.publish()
        await until(lambda: other.source.elsewhere == "one", "the first")
        redis_server.kill()
        try:
            await until(lambda: not other.source.is_taken, "it to be forgotten")
            other.publish()
            assert one.source.is_on_air
            assert other.source.is_on_air
        finally:
            redis_server.start()
        await connection.wait_until_up()
        await until(lambda: one.ended + other.ended == [TAKEN], "a decision")
        assert one.source.is_on_air != other.source.is_on_air


@pytest.mark.parametrize(
    "words",
    [
        ("SET", KEY, "0" * 32 + " stranger"),
        ("SET", KEY, "0" * 32 + " stranger", "EX", "86400"),
        ("SET", KEY, b"\xff" * 1000, "PX", "1500"),
        ("RPUSH", KEY, "a list"),
    ],
    ids=["for ever", "for a day", "no name", "a list"],
)
async def test_a_claim_that_no_node_made_keeps_nobody_out(
    redis_server: RedisServer, words: tuple[str | bytes, ...]
) -> None:
    async with packagers(redis_server, Takeover.REFUSE, run=False) as (one, other, _):
        redis_server.command(*words)
        one.publish()
        async with background_task(one.claim.run()), background_task(other.claim.run()):
            await until(lambda: other.source.elsewhere == "one", "the claim")
        assert one.ended == []


async def test_a_spare_publisher_goes_on_where_the_other_packager_is_killed(
    redis_server: RedisServer,
) -> None:
    async with packagers(redis_server, Takeover.BACKUP) as (one, _, _):
        redis_server.command("SET", KEY, "0" * 32 + " killed", "PX", "1000")
        await until(lambda: one.source.elsewhere == "killed", "the other's claim")
        one.publish()
        assert not one.source.is_on_air
        await until(lambda: one.source.is_on_air, "the end of that claim")
        assert one.ended == []

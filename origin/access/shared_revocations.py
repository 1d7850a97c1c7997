"""Revocations of tokens on all nodes of a cluster: messages for what is new, and a set in Redis with all."""

from __future__ import annotations

import asyncio
import re
import time

import msgspec
import structlog

from media.errors import MalformedError
from origin.access.revocations import SPARE_SECONDS, Revocation, Revocations, messages_of, news_of
from packager.cluster.broadcast import Broadcast
from packager.cluster.connection import RedisUnavailableError
from packager.cluster.lease import PREFIX
from packager.cluster.node import ClusterNode
from packager.reader_guard import ReaderGuard
from packager.replication.log_entries import read_message
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

KEY = f"{PREFIX}:revoked"
"""Sorted set of the digests of revoked identifiers, by the ends of the revocations."""

EXCHANGE_SECONDS = 30.0
"""Pause between two exchanges with the set, where neither Redis nor a message was lost."""

KEPT_BEHIND_END = 86_400.0
"""Seconds for which the set keeps what has ended: a node whose clock is ahead takes nothing from others."""

PAGE = 1000
"""Most revocations that are read at once."""

_DIGEST = re.compile(rb"[0-9a-f]{32}")
_RECORDS = msgspec.msgpack.Decoder(list[Revocation])


class SharedRevocations:
    """Shares the revocations of one node with the others."""

    def __init__(self, revocations: Revocations, node: ClusterNode) -> None:
        self._revocations = revocations
        self._connection = node.connection
        self._feed = revocations.feed()
        self._broadcast = Broadcast(
            node.connection, node.token, "revocations", self._next_message, self._merge
        )

    async def run(self) -> None:
        """Share until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._broadcast.run())
            group.create_task(self._exchange_regularly())

    async def _next_message(self) -> bytes:
        return msgspec.msgpack.encode(await self._feed.changes())

    def _merge(self, message: bytes) -> None:
        try:
            with ReaderGuard("revocations"):
                records = read_message(_RECORDS, message, "list of revocations")
                self._revocations.merge(records, self._feed)
        except MalformedError as error:
            log.warning("revocations of another node can't be read", reason=str(error))

    async def _exchange_regularly(self) -> None:
        while True:
            await self._connection.wait_until_up()
            lost = self._connection.lost
            try:
                await self._exchange()
            except RedisUnavailableError:
                continue
            left = EXCHANGE_SECONDS
            while left > 0 and lost == self._connection.lost:
                await asyncio.sleep(1.0)
                left -= 1.0

    async def _exchange(self) -> None:
        """Read what others have revoked, and write what the set lacks; the others get that by a message.

        Revocations that ended long ago are removed from the set.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        over = time.time() - KEPT_BEHIND_END
        await self._connection.call(lambda client: client.zremrangebyscore(KEY, 0, over), {KEY: "zset"})
        there = await self._read()
        news = await SHARED_THREADS.run(news_of, there, self._revocations.ends())
        await self._revocations.merge_in_steps(news, self._feed)
        for records in messages_of(await SHARED_THREADS.run(news_of, self._revocations.ends(), there)):
            scores = {one.digest: one.until for one in records}
            await self._connection.call(lambda client: client.zadd(KEY, scores, gt=True), {KEY: "zset"})  # noqa: B023
            for one in records:
                self._feed.add(one)

    async def _read(self) -> dict[str, float]:
        """Return the revocations in Redis that haven't ended, by digest, as far as there is room for them."""
        found, ended = dict[str, float](), time.time() - SPARE_SECONDS
        for at in range(0, self._revocations.most, PAGE):
            page = await self._connection.call(
                lambda client: client.zrevrangebyscore(KEY, "+inf", ended, at, PAGE, withscores=True),  # noqa: B023
                {KEY: "zset"},
            )
            found |= {
                name.decode(): float(until)
                for name, until in page
                if _DIGEST.fullmatch(name) and 0 <= float(until) <= 1e12
            }
            if len(page) < PAGE:
                break
        return found

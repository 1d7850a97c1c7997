"""An edge that is far behind is sent no more at once than it takes, however much there is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from packager.cluster.connection import RedisConnection
from packager.cluster.node import LOGS
from tests.packager.cluster.live_nodes import LIMITS, Node, alike, clear, is_level, node, playing
from tests.packager.cluster.sent_entries import is_sent
from tests.redis_server import RedisServer
from tests.waiting import until

READ_BYTES = 4000
MISSED = 24
"""Segments that come while the edge doesn't read."""


class HeldReads:
    """Reads of entries that wait until a test lets them go: how many did, and how long their answers were."""

    def __init__(self, connection: RedisConnection) -> None:
        self.gate = asyncio.Event()
        self.sizes: list[int] = []
        self.held = 0
        self._wait = connection.wait
        connection.wait = self._read  # type: ignore[method-assign]

    async def _read(
        self, command: Callable[[Any], Any], seconds: float, types: Mapping[str, str] | None = None
    ) -> Any:
        self.held += 1
        await self.gate.wait()
        found = await self._wait(command, seconds, types)
        if isinstance(found, list):
            self.sizes.append(sum(len(one[b"entry"]) for _, entries in found for _, one in entries))
        return found


def newest(one: Node) -> int:
    return one.streams["test"].renditions["240p"].window.next_number


async def test_an_edge_that_is_far_behind_is_sent_so_many_bytes_at_once(redis_server: RedisServer) -> None:
    clear(redis_server)
    maker = playing(4)
    few = replace(LIMITS, log_read_bytes=READ_BYTES)
    async with node(redis_server, maker) as packager, node(redis_server, limits=few) as edge:
        await until(lambda: is_level(maker, edge), "the edge")
        before = newest(edge)
        reads = HeldReads(edge.node.connection)
        maker.act("segment")
        await until(lambda: is_sent(packager), "Redis")
        for _ in range(MISSED):
            maker.act("segment")
            await asyncio.sleep(0)
        await until(lambda: is_sent(packager), "all in Redis")
        assert newest(edge) <= before + 1  # a read that waited in Redis may have been answered
        reads.gate.set()
        await until(lambda: is_level(maker, edge), "what it missed")
        assert alike(packager, edge)
        # Lengths are known on average alone.
        assert max(reads.sizes) < 2 * READ_BYTES
        assert sum(reads.sizes) > 4 * READ_BYTES


async def test_what_is_read_of_a_log_that_was_given_up_meanwhile_is_not_served(
    redis_server: RedisServer,
) -> None:
    clear(redis_server)
    maker = playing(4)
    async with node(redis_server, maker) as packager, node(redis_server) as edge:
        await until(lambda: is_level(maker, edge), "the edge")
        reads = HeldReads(edge.node.connection)
        await until(lambda: reads.held, "a read that is held")
        maker.act("segment")
        await until(lambda: is_sent(packager), "Redis")
        await packager.kill()
        assert redis_server.command("ZREM", LOGS, "live/test") == b":1\r\n"
        await until(lambda: "test" not in edge.streams, "the edge gives it up")
        count = len(edge.relayed.entries)
        reads.gate.set()
        await until(lambda: reads.sizes, "what was read")
        assert not edge.streams
        assert len(edge.relayed.entries) == count

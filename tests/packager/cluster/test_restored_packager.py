"""A packager that has only what it restored leaves a free log to one whose source delivers, for a while."""

from __future__ import annotations

import time

from packager.cluster.lease import LogKeys
from tests.packager.cluster.live_nodes import LIMITS, clear, is_level, node, owner, playing
from tests.packager.made_channel import Maker
from tests.redis_server import RedisServer
from tests.waiting import until

LEASE = LogKeys("live", "test").lease


async def test_what_is_only_restored_comes_behind_a_source_that_begins_when_the_owner_is_gone(
    redis_server: RedisServer,
) -> None:
    clear(redis_server)
    first, archive, second = playing(), playing(3), Maker(dvr=False)
    async with node(redis_server, first) as one:
        await until(lambda: owner(one), "the owner")
        async with node(redis_server, archive) as restored, node(redis_server) as edge:
            restored.has_media = False
            async with node(redis_server, second) as standby:
                await until(lambda: is_level(first, edge) and is_level(first, restored), "the edge")
                await until(lambda: standby.node.connection.is_up)
                await one.kill()
                await until(lambda: redis_server.command("EXISTS", LEASE) == b":0\r\n", "a free lease", 30)
                # It is left free for a quarter of the time for which it may be.
                since = time.monotonic()
                await until(lambda: time.monotonic() - since > LIMITS.lease_seconds / 4)
                assert not owner(restored)
                for _ in range(2):
                    second.act("segment")
                await until(lambda: owner(standby) and is_level(second, edge), "the source's log")
                await standby.kill()
            await until(lambda: owner(restored), "the archive's turn, as nobody has a source")
    clear(redis_server)

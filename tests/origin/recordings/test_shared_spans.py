"""The spans of a station that nodes share over a real Redis: the owner of the log alone changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from origin.recordings.station_recorder import SharedSpans
from packager.recordings.kept_spans import KeptSpan, SpansState
from packager.safe_files import DataFolder
from tests.packager.cluster.live_nodes import Node, clear, node, playing
from tests.redis_server import RedisServer
from tests.waiting import until

FIRST, SECOND = SpansState((KeptSpan("first", 1, 2),)), SpansState((KeptSpan("second", 1, 2),), ("done",))


def spans(one: Node, folder: Path) -> SharedSpans:
    return SharedSpans(one.node.connection, one.node.channels["test"], DataFolder.at(folder))


async def test_who_has_lost_the_log_writes_nothing_and_reads_what_the_next_owner_has_written(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    clear(redis_server)
    async with node(redis_server, playing()) as owner:
        channel = owner.node.channels["test"]
        await until(lambda: channel.is_certain_owner, "an owner")
        own = spans(owner, tmp_path / "one")
        assert await own.load() == SpansState()
        await own.save(FIRST)
        async with node(redis_server, playing()) as reserve:
            other = spans(reserve, tmp_path / "two")
            assert await other.load() == FIRST
            with pytest.raises(OSError, match="another node owns"):
                await other.save(SECOND)
            assert await own.load() == await other.load() == FIRST
            # As if the owner had stood still until the reserve took over.
            stale = channel.epoch
            redis_server.command("SET", channel.keys.epoch, str(stale + 1))
            with pytest.raises(OSError, match="another node owns"):
                await own.save(SECOND)
            assert await other.load() == FIRST


async def test_a_redis_that_lost_them_or_has_something_else_leaves_what_is_on_disk(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    clear(redis_server)
    async with node(redis_server, playing()) as owner:
        channel = owner.node.channels["test"]
        await until(lambda: channel.is_certain_owner, "an owner")
        key = channel.keys.key("spans")
        await spans(owner, tmp_path).save(FIRST)
        for rubbish in ("", "x", "rubbish that is longer than its version"):
            redis_server.command("SET", key, rubbish)
            assert await spans(owner, tmp_path).load() == FIRST
        redis_server.command("DEL", key)
        redis_server.command("RPUSH", key, "no spans")
        assert await spans(owner, tmp_path).load() == FIRST
        await spans(owner, tmp_path).save(SECOND)
        assert await spans(owner, tmp_path / "none").load() == SECOND

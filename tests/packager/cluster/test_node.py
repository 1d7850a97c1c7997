"""Nodes that share a live channel over Redis serve the same, whoever owns its log and whatever is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from packager.cluster.lease import LogKeys
from tests.packager.cluster.live_nodes import LIMITS, alike, clear, is_level, node, owner, playing
from tests.packager.made_channel import PARTS, same
from tests.redis_server import RedisServer
from tests.waiting import until


async def test_an_edge_serves_what_the_owner_makes_from_its_beginning_and_from_mid_stream(
    redis_server: RedisServer,
) -> None:
    clear(redis_server)
    maker = playing()
    async with node(redis_server, maker) as packager, node(redis_server) as early:
        await until(lambda: is_level(maker, early), "the first segment")
        for act in ("segment", "parts", "range", "gap", "segment", "begin", "segment", "break", "parts"):
            maker.act(act)
            await asyncio.sleep(0)
        await until(lambda: is_level(maker, early), "the entries")
        assert alike(packager, early)
        # The embedded mode's answers are those of the maker's own windows.
        same(maker, early.streams["test"])
        async with node(redis_server) as late:
            await until(lambda: is_level(maker, late), "the snapshot")
            maker.act("segment")
            maker.act("parts")
            await until(lambda: is_level(maker, late) and is_level(maker, early), "what follows")
            assert alike(packager, late)
            same(maker, late.streams["test"])


async def test_a_standby_goes_on_behind_a_discontinuity_where_the_owner_is_killed(
    redis_server: RedisServer,
) -> None:
    clear(redis_server)
    first, second = playing(), playing()
    async with node(redis_server, first) as one:
        await until(lambda: owner(one), "the lease")
        async with node(redis_server, second) as other, node(redis_server) as edge:
            for maker in (first, second):
                maker.act("segment")
                maker.act("parts")
            await until(lambda: is_level(first, edge) and is_level(first, other), "the edge")
            before = edge.streams["test"].renditions["240p"].window
            number, part = before.next_part
            assert part == 1
            waiting = asyncio.create_task(before.waiters.wait(lambda: before.reached(number + 1, 0), 100))
            await one.kill()
            await until(lambda: owner(other), "the other's lease")
            second.act("segment")
            second.act("segment")
            assert await asyncio.wait_for(waiting, 60)
            await until(lambda: is_level(second, edge), "the rest")
            assert alike(other, edge)
            window = edge.streams["test"].renditions["240p"].window
            cut, behind = window.at(number), window.at(number + 1)
            assert cut is not None
            assert behind is not None
            assert len(cut.parts) == 1
            assert behind.discontinuity
            assert len(behind.parts) == PARTS


async def test_a_frozen_owner_that_wakes_is_refused_and_follows(redis_server: RedisServer) -> None:
    clear(redis_server)
    first, second = playing(), playing()
    async with node(redis_server, first) as one:
        await until(lambda: owner(one), "the lease")
        async with node(redis_server, second) as other, node(redis_server) as edge:
            await until(lambda: is_level(first, edge) and is_level(first, other), "the edge")
            frozen = one.node.channels["test"]
            # The node believes in its lease; another has taken a later epoch meanwhile.
            renew = frozen._lease.renew
            frozen._lease.renew = _never  # type: ignore[method-assign]
            async with frozen._lease._changing:  # behind a renewal that is under way
                frozen._lease._certain_until = 1e12
            await until(lambda: owner(other), "the other's lease")
            first.act("segment")
            await until(lambda: not frozen.is_owner, "Redis's refusal")
            frozen._lease.renew = renew  # type: ignore[method-assign]
            second.act("segment")
            second.act("segment")
            second.act("parts")
            await until(lambda: is_level(second, one) and is_level(second, edge), "the other's log")
            assert alike(one, other)
            assert alike(edge, other)


async def _never(*, has_media: bool, reached: object = None) -> bool:
    return True


async def test_the_owner_goes_on_while_redis_is_away_and_sends_what_it_has_missed(
    redis_server: RedisServer,
) -> None:
    clear(redis_server)
    maker = playing()
    async with node(redis_server, maker) as packager, node(redis_server) as edge:
        await until(lambda: is_level(maker, edge), "the edge")
        window = edge.streams["test"].renditions["240p"].window
        redis_server.kill()
        await until(lambda: not packager.node.connection.is_up and not edge.node.connection.is_up, "the loss")
        maker.act("segment")
        maker.act("parts")
        assert is_level(maker, packager)
        assert not is_level(maker, edge)
        assert edge.streams["test"].ready
        assert packager.node.connection.trouble
        await asyncio.to_thread(redis_server.start)
        await until(lambda: is_level(maker, edge), "what was missed")
        maker.act("segment")
        await until(lambda: is_level(maker, edge), "what follows")
        assert edge.streams["test"].renditions["240p"].window is window
        assert alike(packager, edge)
        same(maker, edge.streams["test"])


async def test_a_redis_that_has_lost_its_data_gets_the_log_again(redis_server: RedisServer) -> None:
    clear(redis_server)
    maker = playing()
    async with node(redis_server, maker) as packager, node(redis_server) as edge:
        await until(lambda: is_level(maker, edge), "the edge")
        clear(redis_server)
        maker.act("segment")
        await until(lambda: is_level(maker, edge), "the log", 60)
        async with node(redis_server) as late:
            await until(lambda: is_level(maker, late), "a new edge")
            assert alike(packager, late)
            # The edge may take the channel for gone and new meanwhile; the bytes of its segments then follow.
            await until(lambda: alike(packager, edge), "the same answers")
            same(maker, edge.streams["test"])


async def test_an_edge_that_missed_entries_asks_for_a_snapshot(redis_server: RedisServer) -> None:
    clear(redis_server)
    maker = playing()
    short = replace(LIMITS, kept_bytes=3000)
    async with node(redis_server, maker, limits=short) as packager, node(redis_server) as edge:
        await until(lambda: is_level(maker, edge), "the edge")
        stream = edge.streams["test"]
        edge.node.connection._went(OSError("a moment's loss"))
        # More than is kept comes before the edge reads again.
        for _ in range(12):
            maker.act("segment")
            await asyncio.sleep(0)
        await until(lambda: is_level(maker, edge), "the snapshot")
        assert edge.streams["test"] is stream
        assert alike(packager, edge)


async def test_an_edge_calls_nothing_unknown_before_redis_has_told_it(redis_server: RedisServer) -> None:
    clear(redis_server)
    maker = playing()
    async with (
        node(redis_server, maker),
        node(redis_server, playing(), follows_all=False) as packager,
        node(redis_server) as edge,
    ):
        # It was just made, and hasn't run.
        assert edge.node.may_have("unknown")
        assert not packager.node.may_have("unknown")
        await until(lambda: is_level(maker, edge), "the edge")
        assert edge.node.may_have("test")
        assert not edge.node.may_have("unknown")
        edge.node.connection._went(OSError("a moment's loss"))
        assert edge.node.may_have("unknown")


async def test_what_is_no_log_in_redis_harms_nobody(redis_server: RedisServer) -> None:
    clear(redis_server)
    maker = playing()
    async with node(redis_server, maker), node(redis_server) as edge:
        await until(lambda: is_level(maker, edge), "the edge")
        keys = LogKeys("live", "test")
        redis_server.command("XADD", keys.entries, "9000000000000-1", "entry", b"\xff" * 100)
        await until(lambda: True)
        redis_server.command("XADD", keys.entries, "9000000000000-2", "other", b"")
        redis_server.command("ZADD", "headwater:logs", "9000000000", "live/../x")
        redis_server.command("ZADD", "headwater:logs", "9000000000", b"\xff\xfe")
        redis_server.command("SET", LogKeys("live", "crafted").snapshot, bytes(100_000))
        redis_server.command("XADD", LogKeys("live", "crafted").entries, "1-1", "entry", b"x")
        redis_server.command("ZADD", "headwater:logs", "9000000000", "live/crafted")
        await until(lambda: len(edge.node._logs) == 2, "the other log")
        await asyncio.sleep(0.2)
        assert [*edge.streams] == ["test"]
        assert edge.streams["test"].ready
        assert edge.task is not None
        assert not edge.task.done()
    clear(redis_server)

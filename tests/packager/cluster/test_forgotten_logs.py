"""A packager that comes when all others have gone goes on behind what their viewers were given."""

from __future__ import annotations

import pytest

from packager.cluster.lease import LogKeys
from packager.window.window import Window
from tests.packager.cluster.live_nodes import Node, alike, clear, is_level, node, owner, playing
from tests.redis_server import RedisServer
from tests.waiting import until

KEYS = LogKeys("live", "test")
DISCONTINUITIES = 3


def window(one: Node) -> Window:
    return one.streams["test"].renditions["240p"].window


def told(server: RedisServer) -> bytes:
    """Give the number and the discontinuity sequence that Redis was told last."""
    return server.command("GET", KEYS.reached)


@pytest.mark.parametrize("is_gone", [False, True], ids=["its entries are there", "they have gone, too"])
async def test_numbers_and_discontinuities_go_on_behind_those_of_a_packager_that_is_gone(
    redis_server: RedisServer, is_gone: bool
) -> None:
    clear(redis_server)
    first = playing()
    async with node(redis_server) as edge:
        async with node(redis_server, first) as one:
            await until(lambda: owner(one) and is_level(first, edge), "the edge")
            for _ in range(DISCONTINUITIES):
                first.act("break")
                first.act("segment")
            await until(lambda: is_level(first, edge), "the discontinuities")
            sequence, number = window(edge).newest_discontinuity_sequence, window(edge).next_number
            assert sequence > DISCONTINUITIES
            expected = f"{number} {sequence}".encode()
            await until(lambda: expected in told(redis_server), "what is told of them")
            await one.kill()
        redis_server.command("DEL", KEYS.snapshot, *([KEYS.entries] if is_gone else []))
        # Another process: it knows of nothing, and its clock is behind.
        second = playing()
        async with node(redis_server, second) as other:
            await until(lambda: owner(other), "the lease")
            assert window(edge).next_number == number
            own = second.folded.renditions["240p"].window
            assert own.next_number < number
            while own.next_number <= number:
                second.act("segment")
            await until(lambda: is_level(second, edge), "its segments")
            assert window(edge).listed[0].number >= number
            assert window(edge).discontinuity_sequence > sequence
            await until(lambda: alike(other, edge), "the same answers")
    clear(redis_server)


async def test_what_is_told_and_cannot_be_is_not_waited_for(redis_server: RedisServer) -> None:
    clear(redis_server)
    redis_server.command("SET", KEYS.reached, "999999999999999 7")
    maker = playing()
    async with node(redis_server, maker) as packager, node(redis_server) as edge:
        await until(lambda: is_level(maker, edge), "the first segment")
        assert window(edge).discontinuity_sequence > 7
        assert alike(packager, edge)
    clear(redis_server)

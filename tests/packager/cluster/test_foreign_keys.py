"""Keys in Redis that no node wrote keep nobody from owning, listing and following logs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from packager.cluster.lease import LogKeys
from packager.cluster.node import LOGS
from tests.packager.cluster.live_nodes import LIMITS, alike, clear, is_level, node, playing
from tests.packager.made_channel import same
from tests.redis_server import RedisServer
from tests.waiting import until

KEYS = LogKeys("live", "test")
# A busy machine answers late, which isn't what is looked at here.
PATIENT = replace(LIMITS, call_seconds=60.0)
# An epoch and a position of 64 bits, larger than those of any entry, and a listing's token.
BEHIND_ALL = "SET i64 0 -1 SET i64 64 -1 SET i64 128 -1 SET i64 192 -1"
# An epoch and a position as they may be, and what is no entry.
NO_LISTING = "SET i64 0 1 SET i64 64 9007199254740000 SET i64 128 -1 SET i64 192 -1 SET i64 256 -1"
FOREIGN: dict[str, tuple[str, ...]] = {
    "a lease of another type": ("SET", KEYS.lease, "x"),
    "a lease that never ends": ("HSET", KEYS.lease, "token", "x", "has_media", "1"),
    "an epoch of another type": ("RPUSH", KEYS.epoch, "x"),
    "an epoch that is no number": ("SET", KEYS.epoch, "nan"),
    "an epoch far ahead": ("SET", KEYS.epoch, "9000000000000001"),
    "a list of logs of another type": ("SET", LOGS, "x"),
    "a wish of another type": ("SET", KEYS.wanted, "x"),
    "a snapshot of another type": ("RPUSH", KEYS.snapshot, "x"),
    "a listing of another type": ("RPUSH", KEYS.listing, "x"),
    "a listing behind any entry": ("BITFIELD", KEYS.listing, *BEHIND_ALL.split()),
    "a listing that is none and stays for ever": ("BITFIELD", KEYS.listing, *NO_LISTING.split()),
    "entries of another type": ("SET", KEYS.entries, "x"),
}


@pytest.mark.parametrize("words", FOREIGN.values(), ids=FOREIGN)
async def test_a_key_that_no_node_wrote_holds_up_no_channel(
    redis_server: RedisServer, words: tuple[str, ...]
) -> None:
    def write() -> None:
        redis_server.command("DEL", words[1])
        assert redis_server.command(*words)[:1] in b"+:*"

    clear(redis_server)
    write()
    maker = playing()
    async with (
        node(redis_server, maker, limits=PATIENT) as packager,
        node(redis_server, limits=PATIENT) as edge,
    ):
        await until(lambda: is_level(maker, edge), "the first segment")
        write()
        maker.act("segment")
        await until(lambda: is_level(maker, edge), "the second one")
        write()
        async with node(redis_server, limits=PATIENT) as late:
            maker.act("parts")
            await until(lambda: is_level(maker, late), "a new edge")
            # For none of this was Redis given up, which would have held up all other channels.
            assert [one.node.connection.lost for one in (packager, edge, late)] == [0, 0, 0]
            await until(lambda: alike(packager, edge) and alike(packager, late), "the same answers")
            same(maker, edge.streams["test"])
    clear(redis_server)

"""Entries that no node wrote, and behind which Redis takes no others, hold up no log for long."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from packager.cluster.lease import LogKeys
from packager.cluster.shared_station import RADIO
from tests.packager.cluster import live_nodes as live
from tests.packager.cluster import station_nodes as radio
from tests.packager.made_channel import same
from tests.radio_server import Feed
from tests.redis_server import RedisServer
from tests.waiting import until

LARGEST = (1 << 64) - 1
LIVE_KEYS, RADIO_KEYS = LogKeys("live", "test"), LogKeys(RADIO, radio.NAME)
KINDS = ["last", "position", "later", "deleted", "other type"]
EMPTIED = "a log in Redis had an entry that no node wrote: it is filled again"


def craft(server: RedisServer, keys: LogKeys, kind: str) -> None:
    """Write an entry, or what is none, behind which Redis takes no entry of the owner."""
    epoch = server.command("GET", keys.epoch).split(b"\r\n")[1].decode()
    number = {"position": f"{epoch}-{LARGEST}", "later": "9000000000000-1"}.get(kind, f"{LARGEST}-{LARGEST}")
    if kind == "other type":
        server.command("SET", keys.entries, "none")
        return
    assert server.command("XADD", keys.entries, number, "entry", b"x").startswith(b"$")
    if kind == "deleted":
        assert server.command("XDEL", keys.entries, number) == b":1\r\n"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_owner_of_a_channel_fills_its_log_again(redis_server: RedisServer, kind: str) -> None:
    live.clear(redis_server)
    maker = live.playing()
    async with live.node(redis_server, maker) as owner, live.node(redis_server) as edge:
        await until(lambda: live.is_level(maker, edge), "the first segment")
        handed_on = [*edge.relayed.entries]
        craft(redis_server, LIVE_KEYS, kind)
        with capture_logs() as logs:
            for act in ("parts", "segment", "segment"):
                maker.act(act)
            await until(lambda: live.is_level(maker, edge), "what came behind it")
        told = [line["log"] for line in logs if line["event"] == EMPTIED]
        # What is no log who looks for one removes as well, and may be the first where something stood still.
        assert told == [LIVE_KEYS.entries] or (kind == "other type" and not told)
        await until(lambda: live.alike(owner, edge), "the same answers")
        same(maker, edge.streams["test"])
        # Nothing began anew, and nobody has anything twice.
        assert edge.relayed.entries[: len(handed_on)] == handed_on
        assert owner.node.channels["test"].dropped == 0
        # One who comes now has all of it, and the owner stays the owner.
        async with live.node(redis_server) as late:
            await until(lambda: live.is_level(maker, late), "a new edge")
            await until(lambda: live.alike(owner, late), "the same answers")
        assert owner.node.channels["test"].is_owner
    live.clear(redis_server)


@pytest.mark.parametrize("kind", ["last", "position", "later"])
async def test_another_takes_over_behind_such_an_entry(redis_server: RedisServer, kind: str) -> None:
    live.clear(redis_server)
    maker = live.playing()
    async with live.node(redis_server, maker) as one, live.node(redis_server, maker) as other:
        await until(lambda: live.is_level(maker, one) and live.is_level(maker, other), "the first segment")
        await until(lambda: live.owner(one, other) is not None, "an owner")
        first = live.owner(one, other)
        assert first is not None
        standby = other if first is one else one
        await first.kill()
        craft(redis_server, LIVE_KEYS, kind)
        await until(lambda: standby.node.channels["test"].is_owner, "the other owner")
        async with live.node(redis_server) as edge:
            for act in ("segment", "segment"):
                maker.act(act)
            await until(lambda: live.is_level(maker, edge), "what came behind it")
            await until(lambda: live.alike(standby, edge), "the same answers")
    live.clear(redis_server)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_owner_of_a_station_fills_its_log_again(redis_server: RedisServer, kind: str) -> None:
    redis_server.command("FLUSHALL")
    feed = Feed()
    async with radio.node(redis_server, None) as edge, radio.node(redis_server, feed) as owner:
        await until(lambda: owner.station.is_owner)
        feed.push(1)
        await until(lambda: edge.heard() == [0])
        craft(redis_server, RADIO_KEYS, kind)
        for _ in range(3):
            feed.push(1)
        await until(lambda: edge.heard() == owner.heard() == [0, 1, 2, 3])
        assert owner.station.is_owner
    redis_server.command("FLUSHALL")

"""Nodes share channels over a real Redis Cluster: over all of its masters, and behind the loss of one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from packager.cluster.lease import LogKeys
from packager.cluster.redis_client import redis_client, redis_cluster_client
from packager.replication.live_log import LIVE
from tests.packager.cluster.live_nodes import Node, is_level, node, playing
from tests.packager.made_channel import Maker, same
from tests.redis_cluster import MASTERS, RedisServers, redis_cluster_running
from tests.redis_server import RedisServer
from tests.waiting import until

CHANNELS = "test", "one", "two", "third"


@pytest.fixture
def redis_cluster(tmp_path: Path) -> Iterator[RedisServers]:
    with redis_cluster_running(tmp_path) as cluster:
        yield cluster


def all_level(makers: dict[str, Maker], one: Node) -> bool:
    return all(is_level(maker, one, name) for name, maker in makers.items())


@pytest.mark.parametrize("stands_still", [False, True])
async def test_channels_of_all_masters_are_followed_and_go_on_behind_the_loss_of_one(
    redis_cluster: RedisServers, stands_still: bool
) -> None:
    makers = {name: playing() for name in CHANNELS}
    places = {redis_cluster.master_of(LogKeys(LIVE, name).entries).port for name in CHANNELS}
    assert len(places) == MASTERS
    async with (
        node(redis_cluster, *makers.values(), names=CHANNELS) as packager,
        node(redis_cluster) as edge,
    ):
        await until(lambda: all_level(makers, edge), "the first segments")
        _go_on(makers)
        await until(lambda: all_level(makers, edge), "what follows")
        lost = redis_cluster.master_of(LogKeys(LIVE, "test").entries)
        with losing(lost, stands_still=stands_still):
            await until(lambda: not packager.node.connection.is_up and not edge.node.connection.is_up, "it")
            _go_on(makers)
            assert edge.streams["test"].ready
            await until(lambda: all_level(makers, edge), "what was missed")
            _go_on(makers)
            await until(lambda: all_level(makers, edge), "what follows that")
            for name, maker in makers.items():
                same(maker, edge.streams[name])
            async with node(redis_cluster) as late:
                await until(lambda: all_level(makers, late), "a new edge")


@contextlib.contextmanager
def losing(master: RedisServer, *, stands_still: bool) -> Iterator[None]:
    if stands_still:
        with master.stopped():
            yield
    else:
        master.kill()
        yield


def _go_on(makers: dict[str, Maker]) -> None:
    for maker in makers.values():
        maker.act("segment")
        maker.act("parts")


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("redis+cluster://one:1,two:2", [("one", 1), ("two", 2)]),
        ("redis+cluster://user:p%40ss@[::1]:7", [("::1", 7)]),
    ],
)
def test_any_servers_of_a_cluster_are_named(url: str, addresses: list[tuple[str, int]]) -> None:
    client = redis_cluster_client(url, connect_seconds=1, answer_seconds=None, connections=2)
    found = client.nodes_manager.startup_nodes.values()
    assert [(one.host, one.port) for one in found] == addresses
    if "user" in url:
        assert client.connection_kwargs["password"] == "p@ss"


@pytest.mark.parametrize("url", ["redis+cluster://one:1/3", "redis+cluster://one:x", "http+cluster://one:1"])
def test_a_wrong_url_of_a_cluster_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        redis_cluster_client(url, connect_seconds=1, answer_seconds=None, connections=2)


def test_what_may_be_a_password_is_not_told() -> None:
    with pytest.raises(ValueError, match=r"host:port\Z"):
        redis_cluster_client("redis+cluster://u:secret", connect_seconds=1, answer_seconds=1, connections=2)


def test_jobs_are_told_that_a_cluster_takes_none() -> None:
    with pytest.raises(ValueError, match="Redis Cluster"):
        redis_client("redis+cluster://one:1", connect_seconds=1, answer_seconds=None, connections=2)

"""Event channels of nodes of a cluster: published at any, read at any, and gone on with at another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess
from tests.origin.cluster.node_events import EVENTS, TOKEN, SseReader, publish
from tests.origin.cluster.nodes import nodes
from tests.redis_server import RedisServer
from tests.waiting import wait_for


def poll(one: ServerProcess, since: str, accept: str = "application/json") -> httpx.Response:
    address = f"{one.url}/events/chat?since={since}&wait=60"
    return httpx.get(address, headers={"accept": accept}, timeout=90)


def messages(events: Iterable[dict[str, str]]) -> list[str]:
    """Give the ids of what was published: that readers come and go is an event, too."""
    return [each["id"] for each in events if each.get("event", "message") == "message"]


@pytest.fixture
def three(tmp_path: Path, redis_server: RedisServer) -> Iterator[list[ServerProcess]]:
    with nodes(tmp_path, redis_server, "edge", "packager", "edge", channels=EVENTS) as every:
        yield every


def test_readers_go_from_node_to_node(three: list[ServerProcess], redis_server: RedisServer) -> None:
    one, other, third = three
    reader = SseReader()
    with reader.reading(one):
        ids = publish(other, "a", "b")
        wait_for(lambda: len(reader.events) == 2, "events of another node")
    ids += publish(one, "c") + publish(third, "d")
    with reader.reading(other):
        ids += publish(one, "e")
        wait_for(lambda: len(reader.events) == 5, "events that came meanwhile, and later")
        # Long polls and NDJSON have the same under the same ids, at once where an id is from elsewhere.
        (last,) = publish(one, "f")
        ids.append(last)
        assert wait_for(lambda: messages(poll(third, ids[-2]).json()), "it elsewhere") == [last]
        lines = poll(third, ids[3], "application/x-ndjson").text.splitlines()
        assert messages(map(json.loads, lines)) == ids[4:]
        wait_for(lambda: len(reader.events) == 6, "the newest")
        # The node that is published to is killed; others go on with its numbers.
        third.process.kill()
        ids += publish(one, "g")
        wait_for(lambda: len(reader.events) == 7, "an event behind the kill")
        redis_server.kill()
        try:
            refused = httpx.post(f"{one.url}/events/chat", content=b"lost", headers=TOKEN, timeout=60)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert "nothing was published" in refused.json()["error"]
            health = httpx.get(f"{one.url}/health", timeout=60).json()
            assert "cluster" in health["troubles"]
        finally:
            redis_server.start()
        ids += [*publish(one, "h"), *publish(other, "i")]
        # Who reads was never disconnected.
        wait_for(lambda: len(reader.events) == 9, "events behind the outage")
    with reader.reading(one):
        ids += publish(other, "j")
        wait_for(lambda: len(reader.events) == 10, "the last event")
    assert reader.events == list(zip(ids, "abcdefghij", strict=True))
    assert "reset" not in reader.kinds
    numbers = [tuple(int(part, 16) for part in each.split("-")) for each in ids]
    assert numbers == sorted(numbers)
    metrics = httpx.get(f"{one.url}/metrics", timeout=60).text
    assert "headwater_cluster_refused_events_total 1.0" in metrics
    assert "headwater_cluster_unreadable_events_total 0.0" in metrics

"""Event channels of nodes of a cluster: published at any, read at any, and gone on with at another."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess
from tests.origin.cluster.test_nodes import nodes
from tests.redis_server import RedisServer
from tests.waiting import wait_for

EVENTS = """
[[events]]
name = "chat"
publish_token = "of-the-chat"
presence = true
"""
TOKEN = {"authorization": "Bearer of-the-chat"}


class SseReader:
    """A reader of server-sent events that goes on with the last id, wherever it is told to.

    Attributes:
        events: ids and data of those that came.
        kinds: types of all of them.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.kinds: list[str] = []
        self.last_id = ""

    @contextlib.contextmanager
    def reading(self, one: ServerProcess) -> Iterator[None]:
        """Read in a thread while the context is open."""
        headers = {"accept": "text/event-stream"} | ({"last-event-id": self.last_id} if self.last_id else {})
        with httpx.Client(timeout=60) as client:
            request = client.build_request("GET", f"{one.url}/events/chat", headers=headers)
            answer = client.send(request, stream=True)
            assert answer.status_code == 200
            thread = threading.Thread(target=self._read, args=(answer,))
            thread.start()
            try:
                yield
            finally:
                with contextlib.suppress(Exception):
                    # Closing alone doesn't wake who reads.
                    answer.extensions["network_stream"].get_extra_info("socket").shutdown(2)
                thread.join(60)
                answer.close()

    def _read(self, answer: httpx.Response) -> None:
        fields: dict[str, str] = {}
        with contextlib.suppress(httpx.HTTPError):
            for line in answer.iter_lines():
                if not line:
                    self._take(fields)
                    fields = {}
                name, _, value = line.partition(": ")
                fields[name] = value

    def _take(self, fields: dict[str, str]) -> None:
        if "data" not in fields:
            return
        self.last_id = fields.get("id", self.last_id)
        self.kinds.append(fields.get("event", "message"))
        if self.kinds[-1] == "message":
            self.events.append((self.last_id, fields["data"]))


def publish(one: ServerProcess, *texts: str) -> list[str]:
    lines = "".join(json.dumps({"data": text}) + "\n" for text in texts)
    kind = {"content-type": "application/x-ndjson"}
    answer = httpx.post(f"{one.url}/events/chat", content=lines, headers=TOKEN | kind, timeout=60)
    assert answer.status_code == 200, answer.text
    ids: list[str] = answer.json()["ids"]
    return ids


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

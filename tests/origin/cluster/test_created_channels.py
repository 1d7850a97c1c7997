"""Event channels that are made at run time, on the nodes of a cluster: changed and read at any."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess
from tests.origin.cluster.created_channels import CONFIG, ask, kept, last, make, publish, read_lines, status
from tests.origin.cluster.nodes import nodes
from tests.redis_server import RedisServer
from tests.waiting import wait_for


@pytest.fixture
def three(tmp_path: Path, redis_server: RedisServer) -> Iterator[list[ServerProcess]]:
    with nodes(tmp_path, redis_server, "edge", "packager", "all", channels=CONFIG) as every:
        yield every


def has_last(one: ServerProcess, name: str, made: dict[str, str], identity: str) -> bool:
    return last(one, name, made) == identity


def is_gone(one: ServerProcess, name: str) -> bool:
    return status(one, name) == 410


def test_a_channel_is_at_once_at_all_nodes_with_its_tokens_and_events(three: list[ServerProcess]) -> None:
    one, other, third = three
    for number in range(5):
        name = f"talk/{number}"
        made = make(three[number % 3], name=name, keep=2)
        # The very next request, at another node.
        at = three[(number + 1) % 3]
        assert ask(at, "POST", "/events", json={"name": name}).status_code == 409
        assert status(three[(number + 2) % 3], name, "another-token-000000000") == 401
        ids = [
            publish(each, name, made["publish_token"], text) for each, text in zip(three, "abc", strict=True)
        ]
        for each in three:
            wait_for(functools.partial(has_last, each, name, made, ids[-1]), "the last")
            assert kept(each, name, made["read_token"]) == list(zip(ids[1:], "bc", strict=True))
    # The limit is that of the cluster.
    full = ask(other, "POST", "/events", json={})
    assert (full.status_code, int(full.headers["retry-after"]) > 0) == (429, True)
    assert ask(third, "DELETE", "/events/talk/0").status_code == 204
    make(one, name="talk/5")


def test_a_reader_gets_the_end_at_the_node_where_it_reads_and_a_deleted_channel_is_gone(
    three: list[ServerProcess], tmp_path: Path, redis_server: RedisServer
) -> None:
    one, other, third = three
    made = make(one, name="talk")
    lines: list[str] = []
    with (
        httpx.Client(timeout=60) as client,
        client.stream(
            "GET",
            f"{other.url}/events/talk?key={made['read_token']}",
            headers={"accept": "text/event-stream"},
        ) as answer,
    ):
        assert answer.status_code == 200
        reading = threading.Thread(target=read_lines, args=(answer, lines))
        reading.start()
        publish(third, "talk", made["publish_token"], "hello")
        wait_for(lambda: "data: hello" in lines, "the event of another node")
        assert ask(third, "DELETE", "/events/talk").status_code == 204
        reading.join(60)
    assert "event: end" in lines
    for each in three:
        wait_for(functools.partial(is_gone, each, "talk"), "it gone")
    # Nothing of its events is left, and the name may be given again.
    assert redis_server.command("KEYS", "*events/talk*entries*") == b"*0\r\n"
    again = make(other, name="talk")
    assert again["read_token"] != made["read_token"]
    assert kept(one, "talk", again["read_token"]) == []
    assert status(third, "talk", made["read_token"]) == 401


def test_what_is_changed_at_one_node_is_changed_at_all_and_an_end_of_life_holds(
    three: list[ServerProcess], redis_server: RedisServer
) -> None:
    one, other, third = three
    made = make(one, name="short", keep_for="1h")
    for text in "abcd":
        publish(other, "short", made["publish_token"], text)
    assert ask(third, "PATCH", "/events/short", json={"keep": 2}).json()["keep"] == 2
    wait_for(lambda: ask(one, "GET", "/events/short").json()["keep"] == 2, "the change")
    wait_for(lambda: [text for _, text in kept(one, "short", made["read_token"])] == ["c", "d"], "two")
    publish(one, "short", made["publish_token"], "e")
    assert redis_server.command("XLEN", entries_key(redis_server, "short")) == b":2\r\n"
    told = ask(other, "PATCH", "/events/short", json={"new_tokens": ["read"]}).json()
    wait_for(lambda: status(third, "short", made["read_token"]) == 401, "the former token to be no more")
    assert [text for _, text in kept(third, "short", told["read_token"])] == ["d", "e"]
    assert ask(one, "PATCH", "/events/short", json={"expires": "2s"}).status_code == 200
    for each in three:
        wait_for(functools.partial(is_gone, each, "short"), "its end")
    # Redis forgets the events by itself.
    wait_for(lambda: redis_server.command("KEYS", "*events/short*entries*") == b"*0\r\n", "no events")


def entries_key(redis: RedisServer, name: str) -> str:
    return redis.command("KEYS", f"*events/{name}@*entries").decode().split("\r\n")[2]


def test_the_first_event_makes_a_channel_of_a_template_at_any_node(three: list[ServerProcess]) -> None:
    ids = [
        publish(each, "room/1", "a-publish-token-of-rooms", text)
        for each, text in zip(three, "abc", strict=True)
    ]
    token = "a-publish-token-of-rooms"
    # Another node's event comes a moment later.
    wait_for(lambda: len(kept(three[0], "room/1", token, ids[0])) > 1, "the others' events")
    assert kept(three[0], "room/1", token, ids[0]) == list(zip(ids[1:], "bc", strict=True))
    # A pattern has what other nodes make meanwhile.
    found: list[str] = []
    with (
        httpx.Client(timeout=60) as client,
        client.stream(
            "GET", f"{three[1].url}/events?channel=room/*", headers={"accept": "application/x-ndjson"}
        ) as answer,
    ):
        reading = threading.Thread(target=read_lines, args=(answer, found))
        reading.start()
        publish(three[2], "room/2", "a-publish-token-of-rooms", "new")
        wait_for(lambda: any(json.loads(one)["data"] == "new" for one in found if one), "the new channel")
        for number in (1, 2):
            assert ask(three[0], "DELETE", f"/events/room/{number}").status_code == 204
        answer.extensions["network_stream"].get_extra_info("socket").shutdown(2)
        reading.join(60)

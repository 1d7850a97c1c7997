"""Channels that are made at run time in a cluster, over what befalls nodes and Redis."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.origin.cluster.created_channels import CONFIG, ask, kept, last, make, publish, status
from tests.origin.cluster.nodes import nodes
from tests.processes import end
from tests.redis_server import RedisServer
from tests.waiting import wait_for


@pytest.fixture
def two(tmp_path: Path, redis: RedisServer) -> Iterator[list[ServerProcess]]:
    with nodes(tmp_path, redis, "all", "all", channels=CONFIG) as every:
        yield every


def test_nothing_that_was_acknowledged_is_lost_while_redis_is_away(
    two: list[ServerProcess], redis: RedisServer, tmp_path: Path
) -> None:
    one, other = two
    made = make(one, name="talk")
    ids = [publish(one, "talk", made["publish_token"], "a")]
    unread = make(one, name="unread")
    wait_for(lambda: last(one, "talk", made) == ids[0], "the event here")
    assert kept(one, "talk", made["read_token"]) == [(ids[0], "a")]
    redis.kill()
    # What is known here is answered, and what isn't may be there.
    assert kept(one, "talk", made["read_token"]) == [(ids[0], "a")]
    answers = [
        ask(other, "GET", "/events/unread?since=", unread["read_token"]),
        ask(other, "GET", "/events/unknown?since="),
        ask(other, "GET", "/events?channel=unknown&since="),
        ask(other, "POST", "/events", json={"name": "refused"}),
        ask(one, "PATCH", "/events/talk", json={"keep": 1}),
        ask(one, "DELETE", "/events/talk"),
        ask(one, "POST", "/events/talk", made["publish_token"], content=b"lost"),
    ]
    assert [each.status_code for each in answers] == [503] * len(answers)
    assert all(int(each.headers["retry-after"]) > 0 for each in answers)
    redis.start()
    ids.append(publish(other, "talk", made["publish_token"], "b"))
    wait_for(lambda: last(one, "talk", made) == ids[1], "the event behind the outage")
    assert kept(one, "talk", made["read_token"]) == list(zip(ids, "ab", strict=True))
    assert ask(one, "GET", "/events/talk").json()["keep"] == 1000
    assert status(other, "refused") == 404
    # A node that is killed, and one that begins now.
    other.process.kill()
    other.process.wait()
    later = start_server("--config", str(tmp_path / "headwater.toml"), "--port", "0", cwd=tmp_path)
    try:
        assert kept(later, "talk", made["read_token"]) == list(zip(ids, "ab", strict=True))
        assert status(later, "unread", unread["read_token"]) == 204
    finally:
        end(later.process)


def test_a_redis_that_lost_its_data_gets_the_channels_again(
    two: list[ServerProcess], redis: RedisServer, tmp_path: Path
) -> None:
    one, other = two
    made, deleted = make(one, name="talk", expires="1h"), make(one, name="deleted")
    assert ask(other, "DELETE", "/events/deleted").status_code == 204
    assert ask(other, "PATCH", "/events/talk", json={"keep": 7}).status_code == 200
    wait_for(lambda: status(one, "deleted", deleted["read_token"]) == 410, "it gone")
    redis.kill()
    shutil.rmtree(tmp_path / "redis" / "appendonlydir")
    redis.start()
    identity = publish(other, "talk", made["publish_token"], "new")
    wait_for(lambda: last(one, "talk", made) == identity, "the event")
    later = start_server("--config", str(tmp_path / "headwater.toml"), "--port", "0", cwd=tmp_path)
    try:
        wait_for(lambda: status(later, "talk", made["read_token"]) == 200, "the channel")
        assert kept(later, "talk", made["read_token"]) == [(identity, "new")]
        assert ask(later, "GET", "/events/talk").json()["keep"] == 7
        assert status(later, "deleted", deleted["read_token"]) == 410
    finally:
        end(later.process)
    # The counts are those of before: four more are room for.
    answers = [ask(one, "POST", "/events", json={}) for _ in range(5)]
    assert [each.status_code for each in answers] == [201] * 4 + [429]


def test_the_bytes_of_all_channels_are_bounded_and_leave_redis_by_themselves(
    two: list[ServerProcess], redis: RedisServer
) -> None:
    one, other = two
    # Long enough for a slow machine to fill it meanwhile.
    made = [make(one, name=f"talk/{number}", keep_for="10s") for number in range(4)]
    text = b"x" * 60_000

    def fill(at: ServerProcess, number: int) -> httpx.Response:
        token = made[number % 4]["publish_token"]
        return ask(at, "POST", f"/events/talk/{number % 4}", token, content=text)

    numbers = iter(range(1000))
    wait_for(lambda: fill(one, next(numbers)).status_code == 429, "no more room")
    refused = fill(one, 0)
    assert int(refused.headers["retry-after"]) > 0
    assert next(numbers) * len(text) >= 1_048_576
    wait_for(lambda: fill(other, 0).status_code == 429, "no more room elsewhere")
    # Nothing older than keep_for is left of what nobody publishes to any more.
    wait_for(lambda: redis.command("KEYS", "*@*entries") == b"*0\r\n", "no events in Redis")
    wait_for(lambda: fill(other, 0).status_code == 200, "room again")

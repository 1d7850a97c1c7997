"""Answers of relays on the nodes of a cluster, over what befalls nodes and Redis."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
from pathlib import Path

import pytest

from packager.cluster.event_streams import NEWS
from tests.completion_server import Asked
from tests.origin.cluster.relayed_answers import (
    EVENTS,
    TEXTS,
    asked,
    client_at,
    end_of,
    fetch,
    has_events,
    read,
    relaying_nodes,
    stream_of,
)
from tests.redis_cluster import redis_cluster_running
from tests.redis_server import RedisServer
from tests.standstill import standing_still
from tests.streamed_answers import CHAT_EVENTS, STREAMS, gated, response_events
from tests.waiting import until

CHAT = STREAMS["chat/completions"][1]


async def test_readers_of_a_node_that_is_killed_get_what_came_and_an_error(
    tmp_path: Path, redis: RedisServer
) -> None:
    script, _ = gated(CHAT_EVENTS, 3)
    async with relaying_nodes(tmp_path, redis, script) as cluster:
        async with asked(cluster.nodes[0], "chat/completions", CHAT) as answer:
            await answer.upto(CHAT_EVENTS[2])
            place = answer.headers["location"]
            await has_events(cluster.nodes[1], place, 3)
            async with read(cluster.nodes[1], "chat/completions/chatcmpl-7f3a") as reading:
                await reading.upto(CHAT_EVENTS[2])
                await cluster.kill(0)
                got = await reading.whole()
        # Never a silent end, and none that the upstream server hasn't sent.
        assert got.startswith(b"".join(CHAT_EVENTS[:3]))
        (error,) = re.findall(rb"data: (.+)", got[len(b"".join(CHAT_EVENTS[:3])) :])
        assert json.loads(error)["error"]["code"] == 503
        assert await end_of(cluster.nodes[1], place) == {"reason": "restart"}
        # At each node, and for who comes later, it is the same one.
        for node in (cluster.nodes[1], await cluster.start()):
            assert await stream_of(node, "chat/completions/chatcmpl-7f3a") == got
            assert len((await fetch(node, place, since="")).json()) == 5


async def test_an_answer_that_nobody_reads_as_its_node_is_killed_ends_for_who_comes_later(
    tmp_path: Path, redis: RedisServer
) -> None:
    script, _ = gated(EVENTS, 4)
    async with relaying_nodes(tmp_path, redis, script) as cluster:
        async with asked(cluster.nodes[0]) as answer:
            await answer.upto(EVENTS[3])
            place = answer.headers["location"]
            await has_events(cluster.nodes[1], place, 4)
            await cluster.kill(0)
        async with client_at(cluster.nodes[1]) as client:
            stream = await client.responses.retrieve("resp_7f3a", stream=True)
            seen = [each async for each in stream]
            assert [each.sequence_number for each in seen] == [0, 1, 2, 3, 4]
            assert seen[-1].type == "error"
            assert (await client.responses.retrieve("resp_7f3a")).status == "failed"
            # What is over stays as it is.
            assert (await client.responses.cancel("resp_7f3a")).status == "failed"
        assert (await end_of(cluster.nodes[1], place))["reason"] == "restart"


async def test_a_node_that_ends_in_order_tells_the_readers_at_others(
    tmp_path: Path, redis: RedisServer
) -> None:
    script, _ = gated(EVENTS, 4)
    async with relaying_nodes(tmp_path, redis, script) as cluster:
        async with asked(cluster.nodes[0]) as answer:
            # Its id is in its first event.
            await has_events(cluster.nodes[1], answer.headers["location"], 4)
            async with read(cluster.nodes[1], "responses/resp_7f3a") as reading:
                await reading.upto(EVENTS[3])
                await cluster.kill(0, signal.SIGTERM)
                got, told = await reading.whole(), await answer.whole()
        assert got == told
        assert got.startswith(b"".join(EVENTS[:4]))
        (error,) = re.findall(rb"data: (.+)", got[len(b"".join(EVENTS[:4])) :])
        assert json.loads(error)["message"] == "the server ends"


async def test_a_node_that_stood_still_for_long_goes_on_with_nothing_that_others_have_ended(
    tmp_path: Path, redis: RedisServer
) -> None:
    script, _ = gated(EVENTS, 4)
    async with relaying_nodes(tmp_path, redis, script) as cluster:
        one, other = cluster.nodes
        async with asked(one) as answer:
            await answer.upto(EVENTS[3])
            place = answer.headers["location"]
            await has_events(other, place, 4)
            with standing_still(one.process.pid):
                got = await stream_of(other, "responses/resp_7f3a")
            told = await answer.whole()
            (error,) = re.findall(rb"data: (.+)", told[len(b"".join(EVENTS[:4])) :])
            assert json.loads(error)["type"] == "error"
            await until(lambda: cluster.upstream.asked[0].closed.is_set())
        assert got.startswith(b"".join(EVENTS[:4]))
        assert await stream_of(other, "responses/resp_7f3a") == got
        assert (await end_of(other, place))["reason"] == "restart"


@pytest.mark.parametrize("loses_data", [False, True])
async def test_nothing_is_lost_or_doubled_as_redis_is_killed_in_the_middle_of_an_answer(
    tmp_path: Path, redis: RedisServer, *, loses_data: bool
) -> None:
    steps = [asyncio.Event() for _ in range(3)]

    async def in_steps(request: Asked) -> None:
        await request.head()
        for number, one in enumerate(EVENTS):
            if number in (10, 20, 30):
                await steps[number // 10 - 1].wait()
            await request.raw(one)
        await request.end()

    async with relaying_nodes(tmp_path, redis, in_steps) as cluster:
        one, other = cluster.nodes
        async with asked(one) as answer, read(other, "responses/resp_7f3a") as reading:
            await reading.upto(EVENTS[9])
            redis.kill()
            # Callers wait for nothing, and who can't be told whether there is an answer is told so.
            steps[0].set()
            await answer.upto(EVENTS[19])
            assert EVENTS[19] not in reading.seen
            assert (await fetch(other, "responses/another", stream="true")).status_code == 503
            if loses_data:
                shutil.rmtree(tmp_path / "redis" / "appendonlydir")
            redis.start()
            steps[1].set()
            await reading.upto(EVENTS[29])
            steps[2].set()
            assert await answer.whole() == await reading.whole() == b"".join(EVENTS)
        third = await cluster.start()
        async with client_at(third) as client:
            stream = await client.responses.retrieve("resp_7f3a", stream=True, starting_after=4)
            found = [each.model_dump(mode="json", exclude_unset=True) async for each in stream]
        assert found == response_events(*TEXTS)[5:]
        place = answer.headers["location"]
        kept = [(await fetch(node, place, since="")).json() for node in cluster.nodes]
        assert kept[0] == kept[1] == kept[2]
        assert len(kept[0]) == len(EVENTS) + 1
        assert len(cluster.upstream.asked) == 1


async def test_an_answer_that_begins_while_redis_is_away_is_told_as_soon_as_it_is_back(
    tmp_path: Path, redis: RedisServer
) -> None:
    script, go_on = gated(CHAT_EVENTS, 3)
    async with relaying_nodes(tmp_path, redis, script) as cluster:
        one, other = cluster.nodes
        redis.kill()
        async with asked(one, "chat/completions", CHAT) as answer:
            await answer.upto(CHAT_EVENTS[2])
            place = answer.headers["location"]
            redis.start()
            await has_events(other, place, 3)
            reading = asyncio.create_task(stream_of(other, "chat/completions/chatcmpl-7f3a"))
            go_on.set()
            assert await answer.whole() == await reading == b"".join(CHAT_EVENTS)
        assert len(cluster.upstream.asked) == 1


async def test_an_answer_goes_on_where_a_redis_cluster_loses_a_master(tmp_path: Path) -> None:
    servers, data = tmp_path / "redis", tmp_path / "nodes"
    servers.mkdir()
    data.mkdir()
    script, go_on = gated(EVENTS, 4)
    with redis_cluster_running(servers) as redis:
        async with relaying_nodes(data, redis, script) as cluster:
            one, other = cluster.nodes
            async with asked(one) as answer, read(other, "responses/resp_7f3a") as reading:
                await reading.upto(EVENTS[3])
                await asyncio.to_thread(redis.lose_master_of, NEWS)
                go_on.set()
                assert await answer.whole() == await reading.whole() == b"".join(EVENTS)
            assert await stream_of(other, "responses/resp_7f3a", starting_after=20) == b"".join(EVENTS[21:])


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_the_node_of_an_answer_stops_it_also_while_redis_is_away(
    tmp_path: Path, redis: RedisServer, method: str
) -> None:
    script, _ = gated(EVENTS, 4)
    async with relaying_nodes(tmp_path, redis, script) as cluster:
        one, other = cluster.nodes
        async with asked(one) as answer, read(other, "responses/resp_7f3a") as reading:
            await reading.upto(EVENTS[3])
            redis.kill()
            path = "responses/resp_7f3a" + ("/cancel" if method == "POST" else "")
            # Elsewhere nobody can pass it on.
            assert (await fetch(other, path, method=method)).status_code == 503
            assert not cluster.upstream.asked[0].closed.is_set()
            stopped = await fetch(one, path, method=method)
            await until(lambda: cluster.upstream.asked[0].closed.is_set())
            assert b'"type":"error"' in (await answer.whole())
            assert stopped.status_code == (200 if method == "POST" else 503)
            redis.start()
            assert await reading.whole() == await answer.whole()

"""Answers of relays on the nodes of a cluster: read, read on and ended at any node."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.completion_server import Asked
from tests.cut_connections import cutting
from tests.event_server import TOKEN
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
from tests.redis_server import RedisServer
from tests.streamed_answers import (
    CHAT_BYTES,
    CHAT_EVENTS,
    MINE,
    STREAMS,
    gated,
    raw,
    response_events,
)
from tests.waiting import until

PAGE = (Path(__file__).parents[3] / "docs" / "events.md").read_text()
BLOCKS = [textwrap.dedent(one) for one in re.findall(r"\n\n((?:    .+\n)+)", PAGE)]
PYTHON = next(one for one in BLOCKS if one.startswith("import openai"))


def has_reader(redis: RedisServer) -> bool:
    """Return whether a node has told of readers of an answer."""
    return redis.command("KEYS", "*@*readers") != b"*0\r\n"


async def slowly(request: Asked) -> None:
    await request.head()
    for one in EVENTS:
        await request.raw(one)
        await asyncio.sleep(0.03)
    await request.end()


async def test_an_answer_is_the_same_bytes_and_ids_at_every_node_while_it_comes_and_behind_its_end(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script, go_on = gated(CHAT_EVENTS, 3)
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        one, other = cluster.nodes
        async with asked(one, "chat/completions", STREAMS["chat/completions"][1]) as answer:
            await answer.upto(CHAT_EVENTS[2])
            place, key = answer.headers["location"], answer.headers["x-read-token"]
            # Who finds the answer finds a node that is there.
            assert redis_server.command("KEYS", "*publishing*") != b"*0\r\n"
            own = {"authorization": f"Bearer {key}"}
            # By either id at once, and with the answer's own token.
            reading = [
                asyncio.create_task(stream_of(other, f"chat/completions/{identity}", headers))
                for identity, headers in (
                    ("chatcmpl-7f3a", MINE),
                    (place.rpartition("/")[2], MINE),
                    (place.rpartition("/")[2], own),
                )
            ]
            refused = await fetch(other, place, {"authorization": "Bearer another-0000000000"}, since="")
            assert refused.status_code == 401
            await has_events(other, place, 3)
            early = (await fetch(other, place, own, since="")).json()
            assert [each["data"] for each in early] == [text[6:-2].decode() for text in CHAT_EVENTS[:3]]
            go_on.set()
            assert await answer.whole() == CHAT_BYTES
        assert await asyncio.gather(*reading) == [CHAT_BYTES] * 3
        third = await cluster.start()
        for node in (one, other, third):
            assert await stream_of(node, "chat/completions/chatcmpl-7f3a") == CHAT_BYTES
        kept = [(await fetch(node, place, own, since="")).json() for node in (one, other, third)]
        assert kept[0] == kept[1] == kept[2]
        told = {"reason": "done", "chunks": len(CHAT_EVENTS), "finish_reason": "stop"}
        assert json.loads(kept[0][-1]["data"]) == told
        assert len(cluster.upstream.asked) == 1


async def test_a_caller_whose_node_is_out_of_reach_goes_on_at_another_one(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script, go_on = gated(CHAT_EVENTS, 3)
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        one, other = cluster.nodes
        async with asked(one, "chat/completions", STREAMS["chat/completions"][1]) as answer:
            seen = await answer.upto(CHAT_EVENTS[2])
            place = answer.headers["location"]
        path = f"chat/completions/{place.rpartition('/')[2]}"
        await has_events(other, place, 3)
        identity = (await fetch(other, place, since="")).json()[2]["id"]
        resumed = [
            asyncio.create_task(one)
            for one in (
                stream_of(other, path, starting_after=2),
                stream_of(other, path, MINE | {"last-event-id": "2"}),
                stream_of(other, path, MINE | {"last-event-id": identity}),
            )
        ]
        go_on.set()
        for rest in await asyncio.gather(*resumed):
            assert seen + rest == CHAT_BYTES
        # Beyond the end is the end, and what nobody has made isn't there.
        assert await stream_of(other, path, starting_after=1000) == b""
        assert (await fetch(other, "chat/completions/unknown", stream="true")).status_code == 404
        assert len(cluster.upstream.asked) == 1


async def test_the_documented_client_goes_from_node_to_node_and_loses_and_doubles_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with relaying_nodes(tmp_path, redis_server, slowly) as cluster:
        ports = [int(one.url.rpartition(":")[2]) for one in cluster.nodes]
        sizes = [3000, 900, 2500, 1500]
        async with cutting(ports, sizes) as cut:
            program = PYTHON.replace("127.0.0.1:8000/relay/answers", f"127.0.0.1:{cut}/relay/assistant")
            said: dict[str, Any] = {"PUBLISH_TOKEN": TOKEN}
            await asyncio.to_thread(exec, program, said)
        assert (said["text"], sizes) == ("".join(TEXTS), [])
        assert len(cluster.upstream.asked) == 1


async def test_a_caller_cancels_at_another_node(tmp_path: Path, redis_server: RedisServer) -> None:
    script, _ = gated(EVENTS, 4)
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        one, other = cluster.nodes
        async with client_at(one) as asking, client_at(other) as cancelling:
            stream = await asking.responses.create(model="tiny", input="Hello?", stream=True)
            seen = [await anext(stream) for _ in range(4)]
            reading = await cancelling.responses.retrieve("resp_7f3a", stream=True)
            cancelled = await cancelling.responses.cancel("resp_7f3a")
            assert cancelled.status == "cancelled"
            await until(lambda: cluster.upstream.asked[0].closed.is_set())
            seen += [each async for each in stream]
            # What came counts as delivered, at both.
            got = [each.model_dump(mode="json", exclude_unset=True) for each in seen]
            assert got[:4] == response_events(*TEXTS)[:4]
            assert [each.model_dump(mode="json", exclude_unset=True) async for each in reading] == got
            assert (got[4]["type"], got[4]["sequence_number"]) == ("error", 4)
            assert "cancelled by its caller" in got[4]["message"]
            # A second time it changes nothing, at either.
            for client in (asking, cancelling):
                assert (await client.responses.cancel("resp_7f3a")).status == "cancelled"


@pytest.mark.parametrize("is_channel", [True, False])
async def test_an_answer_that_is_deleted_at_another_node_is_asked_for_no_more_and_leaves_nothing(
    tmp_path: Path, redis_server: RedisServer, *, is_channel: bool
) -> None:
    script, _ = gated(EVENTS, 4)
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        one, other = cluster.nodes
        async with asked(one) as answer:
            await answer.upto(EVENTS[3])
            place = answer.headers["location"]
            reading = asyncio.create_task(stream_of(other, "responses/resp_7f3a"))
            await until(lambda: redis_server.command("KEYS", "*@*readers") != b"*0\r\n", "a reader")
            deleted = await fetch(other, place if is_channel else "responses/resp_7f3a", method="DELETE")
            assert deleted.status_code == (204 if is_channel else 200)
            await until(lambda: cluster.upstream.asked[0].closed.is_set())
            told = await answer.whole()
        for stream in (told, await reading):
            assert stream.startswith(b"".join(EVENTS[:4]))
            (last,) = re.findall(rb"data: (.+)", stream[len(b"".join(EVENTS[:4])) :])
            assert json.loads(last)["type"] == "error"
        for node in cluster.nodes:
            assert (await fetch(node, "responses/resp_7f3a", stream="true")).status_code == 404
            assert (await fetch(node, place, since="")).status_code == 410
        assert redis_server.command("KEYS", "*@*entries") == b"*0\r\n"


async def test_a_reader_at_another_node_holds_an_answer_and_its_leaving_ends_it(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async def talk(request: Asked) -> None:
        await request.head()
        for number in range(100_000):
            await request.raw(EVENTS[min(number, len(EVENTS) - 2)])
            await asyncio.sleep(0.05)

    async with relaying_nodes(tmp_path, redis_server, talk, 'relay_keep_for = "0s"') as cluster:
        one, other = cluster.nodes
        async with asked(one) as answer:
            await answer.upto(EVENTS[3])
            place = answer.headers["location"]
            async with read(other, "responses/resp_7f3a") as reading:
                await reading.upto(EVENTS[3])
                await until(lambda: has_reader(redis_server), "a reader")
                await answer.leave()
                # It goes on for much longer than an answer without readers.
                await reading.more(60 * len(EVENTS[-2]))
                assert not cluster.upstream.asked[0].closed.is_set()
        await until(lambda: cluster.upstream.asked[0].closed.is_set(), "the end without readers")
        for node in cluster.nodes:
            assert (await end_of(node, place))["reason"] == "left"


@pytest.mark.realtime  # The next poll must come within half a second of the last one's answer.
async def test_long_polls_at_another_node_hold_an_answer(tmp_path: Path, redis_server: RedisServer) -> None:
    async with relaying_nodes(tmp_path, redis_server, slowly, 'relay_keep_for = "0s"') as cluster:
        one, other = cluster.nodes
        async with asked(one) as answer:
            await answer.upto(EVENTS[3])
            place = answer.headers["location"]
            found: list[dict[str, str]] = []
            since = ""
            async with httpx.AsyncClient(timeout=60, headers=MINE) as client:
                while not found or found[-1]["event"] != "end":
                    polled = await client.get(f"{other.url}{place}", params={"since": since, "wait": 60})
                    found += polled.json() if polled.content else []
                    since = found[-1]["id"]
                    if len(found) > 4:
                        # The node that publishes the answer must have heard of this reader.
                        await until(lambda: has_reader(redis_server), "a reader")
                        await answer.leave()
        told = {"reason": "done", "chunks": len(EVENTS), "finish_reason": "completed"}
        assert json.loads(found[-1]["data"]) == told
        assert [json.loads(each["data"]) for each in found[:-1]] == response_events(*TEXTS)


async def test_the_limit_of_channels_is_that_of_all_nodes(tmp_path: Path, redis_server: RedisServer) -> None:
    async with relaying_nodes(
        tmp_path, redis_server, raw(CHAT_BYTES), limits=["created_channels = 2"]
    ) as cluster:
        one, other = cluster.nodes
        question = STREAMS["chat/completions"][1]
        places = []
        for node in (one, other):
            async with asked(node, "chat/completions", question) as answer:
                assert await answer.whole() == CHAT_BYTES
                places.append(answer.headers["location"])
        for node in (one, other):
            async with client_at(node) as client:
                with pytest.raises(openai.RateLimitError) as refused:
                    await client.chat.completions.create(**question)
                assert int(refused.value.response.headers["retry-after"]) > 0
        assert len(cluster.upstream.asked) == 2
        assert (await fetch(one, places[1], method="DELETE")).status_code == 204
        async with asked(other, "chat/completions", question) as answer:
            assert await answer.whole() == CHAT_BYTES

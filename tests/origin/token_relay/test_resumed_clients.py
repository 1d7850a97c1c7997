"""The ``openai`` package, unchanged, reads an answer on after a break, asks for it later, and cancels it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.completion_server import Asked, completing
from tests.event_server import TOKEN
from tests.relay_server import Keeping, client_of, relaying
from tests.streamed_answers import (
    CHAT_CHUNKS,
    CHAT_EVENTS,
    KEPT,
    STREAMS,
    a_delta,
    a_response,
    gated,
    named,
    response_events,
)
from tests.waiting import until

TEXTS = ["Hel", "lo", ", ж ", "😀", "!"]
EVENTS = [named(one) for one in response_events(*TEXTS)]


async def test_a_response_is_read_on_behind_a_break_of_the_connection() -> None:
    script, go_on = gated(EVENTS, 4)
    async with relaying(script, keeping=KEPT) as server, client_of(server) as client:
        stream = await client.responses.create(model="tiny", input="Hello?", stream=True)
        seen = [await anext(stream) for _ in range(4)]
        await stream.close()
        await until(lambda: not server.relay.readers)
        assert seen[0].type == "response.created"
        last, identity = seen[-1].sequence_number, seen[0].response.id
        resumed = await client.responses.retrieve(identity, stream=True, starting_after=last)
        go_on.set()
        seen += [one async for one in resumed]
        assert [one.model_dump(mode="json", exclude_unset=True) for one in seen] == response_events(*TEXTS)
        assert len(server.upstream.asked) == 1


async def test_a_response_is_read_on_behind_a_break_of_the_server(tmp_path: Path) -> None:
    keeping = replace(KEPT, folder=tmp_path)
    script, _ = gated(EVENTS, len(EVENTS))
    async with completing(script) as upstream:
        async with (
            relaying(script, keeping=keeping, upstream=upstream) as server,
            client_of(server) as client,
        ):
            stream = await client.responses.create(model="tiny", input="Hello?", stream=True)
            seen = [await anext(stream) for _ in range(3)]
            await stream.close()
            assert seen[0].type == "response.created"
            identity = seen[0].response.id
            # Of an answer that is whole nothing is lost by the restart.
            whole = await client.responses.retrieve(identity, stream=True, starting_after=2)
            async for one in whole:
                if one.type == "response.completed":
                    break
        async with (
            relaying(script, keeping=keeping, upstream=upstream) as server,
            client_of(server) as client,
        ):
            resumed = await client.responses.retrieve(
                identity, stream=True, starting_after=seen[-1].sequence_number
            )
            seen += [one async for one in resumed]
            told = await client.responses.retrieve(identity)
    got = [one.model_dump(mode="json", exclude_unset=True) for one in seen]
    assert got[: len(EVENTS)] == response_events(*TEXTS)
    assert told.output_text == "".join(TEXTS)
    assert len(upstream.asked) == 1


async def test_a_chat_completion_is_read_on_by_the_number_of_its_chunk() -> None:
    import openai

    script, go_on = gated(CHAT_EVENTS, 3)
    async with relaying(script, keeping=KEPT) as server, client_of(server) as client:
        stream = await client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Hello?"}], stream=True
        )
        place = stream.response.headers["location"].rpartition("/")[2]
        seen = [await anext(stream) for _ in range(3)]
        await stream.close()
        go_on.set()
        resumed: Any = await client.get(
            f"/chat/completions/{place}",
            cast_to=openai.types.chat.ChatCompletionChunk,
            options={"params": {"stream": True, "starting_after": 2}},
            stream=True,
            stream_cls=openai.AsyncStream[openai.types.chat.ChatCompletionChunk],
        )
        seen += [one async for one in resumed]
    got = [one.model_dump(mode="json", exclude_unset=True) for one in seen]
    assert got == list(map(json.loads, CHAT_CHUNKS[:-1]))


async def test_a_response_in_the_background_goes_on_without_its_caller_and_is_asked_for() -> None:
    script, go_on = gated(EVENTS, 3)
    async with relaying(script, keeping=replace(KEPT, left=0.0)) as server, client_of(server) as client:
        begun = await client.responses.create(model="tiny", input="Hello?", background=True)
        assert (begun.id, begun.status) == ("resp_7f3a", "queued")
        assert (await client.responses.retrieve(begun.id)).status == "in_progress"
        # What only the relay knows of isn't sent on.
        assert server.upstream.asked[0].options == {"model": "tiny", "input": "Hello?", "stream": True}
        stream = await client.responses.retrieve(begun.id, stream=True)
        assert (await anext(stream)).type == "response.created"
        await stream.close()
        await until(lambda: not server.created.open.readers)
        go_on.set()
        await until(lambda: not server.relay.running)
        whole = await client.responses.retrieve(begun.id)
        assert (whole.status, whole.output_text) == ("completed", "".join(TEXTS))
        assert server.relay.counters.cancelled == 0


async def test_a_caller_cancels_a_response_and_the_upstream_server_is_told() -> None:
    script, _ = gated(EVENTS, 4)
    async with relaying(script, keeping=KEPT, keep=True) as server, client_of(server) as client:
        begun = await client.responses.create(model="tiny", input="Hello?", background=True)
        stream = await client.responses.retrieve(begun.id, stream=True)
        seen = [await anext(stream) for _ in range(4)]
        cancelled = await client.responses.cancel(begun.id)
        assert cancelled.status == "cancelled"
        await until(lambda: server.upstream.asked[0].closed.is_set())
        # What came counts as delivered, and the end says why.
        rest = [one async for one in stream]
        assert [one.type for one in (*seen, *rest)][2:] == ["response.output_text.delta"] * 2 + ["error"]
        assert rest[0].type == "error"
        assert (rest[0].sequence_number, "by its caller" in rest[0].message) == (4, True)
        await until(lambda: not server.relay.running)
        assert (server.relay.counters.cancelled, server.relay.counters.failed) == (1, 0)
        # A second time, and of what is over, it changes nothing.
        assert (await client.responses.cancel(begun.id)).status == "cancelled"
        assert (await client.responses.retrieve(begun.id)).status == "cancelled"


async def test_an_answer_that_is_deleted_is_unknown_and_no_longer_asked_for() -> None:
    import openai

    script, _ = gated(EVENTS, 4)
    async with relaying(script, keeping=KEPT) as server, client_of(server) as client:
        stream = await client.responses.create(model="tiny", input="Hello?", stream=True)
        for _ in range(4):
            await anext(stream)
        await client.responses.delete("resp_7f3a")
        assert [one.type async for one in stream] == ["error"]
        await until(lambda: server.upstream.asked[0].closed.is_set())
        with pytest.raises(openai.NotFoundError, match="no longer kept"):
            await client.responses.retrieve("resp_7f3a", stream=True)
        with pytest.raises(openai.NotFoundError):
            await client.responses.cancel("resp_7f3a")


async def test_numbers_beyond_what_is_there_wait_and_beyond_the_end_get_the_end() -> None:
    script, go_on = gated(EVENTS, 3)
    async with relaying(script, keeping=KEPT) as server, client_of(server) as client:
        stream = await client.responses.create(model="tiny", input="Hello?", stream=True)
        await anext(stream)

        async def later() -> list[int]:
            found = await client.responses.retrieve("resp_7f3a", stream=True, starting_after=4)
            return [one.sequence_number async for one in found]

        waiting = asyncio.create_task(later())
        await until(lambda: server.created.open.readers)
        go_on.set()
        assert await waiting == list(range(5, len(EVENTS)))
        beyond = await client.responses.retrieve("resp_7f3a", stream=True, starting_after=1000)
        assert [one async for one in beyond] == []


async def test_numbers_are_those_of_the_upstream_servers_events() -> None:
    """They may have gaps, and events without a number between them."""
    created = {"type": "response.created", "response": a_response("in_progress"), "sequence_number": 7}
    odd = [
        named(created),
        b'event: ping\ndata: {"type": "ping"}\n\n',
        named(a_delta(10, "a")),
        b'event: ping\ndata: {"type": "ping"}\n\n',
        named(a_delta(20, "b")),
        named(a_delta(21, "c")),
    ]
    script, go_on = gated(odd, 6)
    go_on.set()
    async with relaying(script, keeping=KEPT) as server:
        answer = await server.request(
            "POST",
            "/relay/test/v1/responses",
            headers={"authorization": f"Bearer {TOKEN}"},
            json=STREAMS["responses"][1],
        )
        assert answer.status_code == 200
        for number, first in ((0, 0), (7, 2), (9, 2), (10, 4), (19, 4), (20, 5)):
            path = f"/relay/test/v1/responses/resp_7f3a?stream=true&starting_after={number}"
            again = await server.request("GET", path, headers={"authorization": f"Bearer {TOKEN}"})
            assert again.content.startswith(b": \n\n" + b"".join(odd[first:])), number


@pytest.mark.parametrize("number", ["-1", "x", "1e3", "9" * 13, "1.0", "e-"])
async def test_what_is_no_number_is_refused(number: str) -> None:
    script, go_on = gated(EVENTS, len(EVENTS))
    go_on.set()
    async with relaying(script, keeping=KEPT) as server, client_of(server) as client:
        [one async for one in await client.responses.create(model="m", input="x", stream=True)]
        path = f"/relay/test/v1/responses/resp_7f3a?stream=true&starting_after={number}"
        refused = await server.request("GET", path, headers={"authorization": f"Bearer {TOKEN}"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, 400)


async def test_the_last_readers_leaving_reaches_the_upstream_server_when_it_may_come_no_more() -> None:
    script, _ = gated(EVENTS, 3)
    keeping: Keeping = replace(KEPT, left=0.0)
    async with relaying(script, keeping=keeping) as server, client_of(server) as client:
        stream = await client.responses.create(model="tiny", input="Hello?", stream=True)
        await anext(stream)
        await stream.close()
        await until(lambda: server.upstream.asked[0].closed.is_set())
        assert (await client.responses.retrieve("resp_7f3a")).status == "cancelled"
        path = stream.response.headers["location"]
        end = await server.request("GET", f"{path}?since=", headers={"authorization": f"Bearer {TOKEN}"})
        assert json.loads(end.json()[-1]["data"]) == {"reason": "left", "chunks": 3}


async def test_an_answer_that_takes_too_long_says_so() -> None:
    async def talk(asked: Asked) -> None:
        await asked.head()
        for number in range(1000):
            await asked.raw(named(a_delta(number, "x")))
            await asyncio.sleep(0.05)

    async with relaying(talk, keeping=KEPT, answer_seconds=0.5) as server, client_of(server) as client:
        stream = await client.responses.create(model="tiny", input="Hello?", stream=True)
        last = [one async for one in stream][-1]
        assert (last.type, last.type == "error" and last.code) == ("error", "504")
        await until(lambda: server.upstream.asked[0].closed.is_set())
        path = stream.response.headers["location"]
        end = await server.request("GET", f"{path}?since=", headers={"authorization": f"Bearer {TOKEN}"})
        assert json.loads(end.json()[-1]["data"])["reason"] == "deadline"


async def test_deleting_the_event_channel_ends_the_answer_for_all() -> None:
    script, _ = gated(CHAT_EVENTS, 3)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with relaying(script, keeping=KEPT, keep=True) as server, client_of(server) as client:
        stream = await client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Hello?"}], stream=True
        )
        await anext(stream)
        place = stream.response.headers["location"]
        reading = asyncio.create_task(
            server.request("GET", place, headers={**headers, "accept": "application/x-ndjson"})
        )
        await until(lambda: server.created.open.readers == 1)
        assert (await server.request("DELETE", place, headers=headers)).status_code == 204
        await until(lambda: server.upstream.asked[0].closed.is_set())
        lines = [json.loads(one) for one in (await reading).text.splitlines() if one]
        assert [one["event"] for one in lines[-2:]] == ["error", "end"]
        assert json.loads(lines[-1]["data"]) == {"reason": "deleted", "chunks": 3}
        assert (await server.request("GET", place, headers=headers)).status_code == 410

"""The ``openai`` package as a client of a relay, with its ``base_url`` set and nothing else."""

from __future__ import annotations

import json

import pytest

from tests.completion_server import KEY, Asked, chunk, streaming, tokens
from tests.event_server import NDJSON, TOKEN
from tests.relay_server import client_of, reading_answer, relaying
from tests.waiting import until

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
FUNCTION = {"name": "weather", "arguments": '{"city":'}
CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "Let me see."}),
    chunk({"content": "Grüße, "}),
    chunk({"content": "😀"}),
    chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": FUNCTION}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ' "Oslo"}'}}]}),
    chunk({}, "tool_calls"),
    chunk({}, choices=[], usage=USAGE),
    "[DONE]",
]


async def test_it_gets_text_reasoning_tools_and_usage_as_from_the_upstream_server() -> None:
    async with relaying(streaming(CHUNKS)) as server, client_of(server) as client:
        stream = await client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        got = [one async for one in stream]
    assert [one.model_dump(mode="json", exclude_unset=True) for one in got] == list(
        map(json.loads, CHUNKS[:-1])
    )
    deltas = [one.choices[0].delta for one in got if one.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Grüße, 😀"
    arguments = [
        call.function.arguments or "" for one in deltas for call in one.tool_calls or () if call.function
    ]
    assert json.loads("".join(arguments)) == {"city": "Oslo"}
    assert got[-1].usage is not None
    assert got[-1].usage.total_tokens == 12


async def test_it_reads_an_answer_in_one_piece() -> None:
    message = {"role": "assistant", "content": "Hi"}
    whole = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
    }

    async def script(asked: Asked) -> None:
        await asked.answer("200 OK", json.dumps(whole))

    async with relaying(script) as server, client_of(server) as client:
        answer = await client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Hello"}]
        )
    assert answer.choices[0].message.content == "Hi"


async def test_it_raises_its_own_exceptions_for_errors_before_and_within_a_stream() -> None:
    import openai

    async def script(asked: Asked) -> None:
        if asked.options["model"] == "busy":
            await asked.answer("429 Too Many Requests", '{"error": {"message": "slow down"}}')
            return
        await asked.head()
        await asked.event(tokens("a")[1])
        asked.writer.close()

    async with relaying(script) as server:
        async with client_of(server, "wrong") as stranger:
            with pytest.raises(openai.AuthenticationError):
                await stranger.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
        async with client_of(server) as client:
            with pytest.raises(openai.RateLimitError, match="slow down"):
                await client.chat.completions.create(
                    model="busy", messages=[{"role": "user", "content": "x"}], stream=True
                )
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}], stream=True
            )
            assert (await anext(stream)).choices[0].delta.content == "a"
            with pytest.raises(openai.APIError, match="broke off"):
                await anext(stream)


async def test_its_closing_a_stream_reaches_the_upstream_server() -> None:
    async def script(asked: Asked) -> None:
        await asked.head()
        await asked.event(tokens("a")[1])

    async with relaying(script) as server, client_of(server) as client:
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], stream=True
        )
        async for _ in stream:
            break
        await stream.close()
        await until(lambda: server.upstream.asked[0].closed.is_set())
        await until(lambda: server.relay.counters.cancelled == 1)


async def test_readers_of_the_channel_see_what_it_asked_for() -> None:
    async with (
        relaying(streaming(CHUNKS)) as server,
        client_of(server) as client,
        reading_answer(NDJSON, server) as (got, task),
    ):
        await until(lambda: server.channel.readers)
        stream = await client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        count = len([one async for one in stream])
        await task
        assert [event.data for event in got[:-1]] == CHUNKS
        assert count == len(CHUNKS) - 1


MODEL = {"id": "tiny", "object": "model", "created": 1, "owned_by": "vllm"}
MODELS = {"object": "list", "data": [MODEL]}
COUNTED = ("/v1/messages/count_tokens", "/v1/responses/input_tokens")
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.25, -1.0]}


async def test_it_lists_models_and_gets_what_is_not_streamed() -> None:
    async def script(asked: Asked) -> None:
        if asked.target == "/v1/models":
            await asked.answer("200 OK", json.dumps(MODELS))
        elif asked.target == "/v1/models/meta%2Ftiny":
            await asked.answer("200 OK", json.dumps({**MODEL, "id": "meta/tiny"}))
        elif asked.target == "/v1/embeddings":
            embedded = {"object": "list", "data": [VECTOR], "model": "tiny", "usage": USAGE}
            await asked.answer("200 OK", json.dumps(embedded))
        elif asked.target in COUNTED:
            await asked.answer("200 OK", json.dumps({"input_tokens": len(asked.options["messages"])}))
        else:
            await asked.answer("404 Not Found", '{"error": {"message": "no such thing here"}}')

    async with relaying(script) as server, client_of(server) as client:
        assert [one.id async for one in client.models.list()] == ["tiny"]
        assert (await client.models.retrieve("meta/tiny")).id == "meta/tiny"
        got = await client.embeddings.create(model="tiny", input="Hello", encoding_format="float")
        assert got.data[0].embedding == [0.25, -1.0]
        for target in COUNTED:
            body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
            count = await client.post(target.removeprefix("/v1"), body=body, cast_to=object)
            assert count == {"input_tokens": 1}
        upstream = server.upstream.asked
        assert {one.fields["authorization"] for one in upstream} == {f"Bearer {KEY}"}
        (embedding,) = (one for one in upstream if one.target == "/v1/embeddings")
        assert embedding.options == {"input": "Hello", "model": "tiny", "encoding_format": "float"}
        # What only its caller asked for is nothing for the channel's readers.
        assert server.channel.published == 0


@pytest.mark.parametrize("path", ["models/..", "models/a/../../files", "files", "models/%2e%2e/files"])
async def test_other_addresses_of_the_upstream_server_are_not_asked(path: str) -> None:
    async with relaying(streaming(CHUNKS)) as server:
        reader, writer = await server.connect()
        head = f"GET /relay/test/v1/{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.readline()).split()[1] == b"404"
        assert not server.upstream.asked

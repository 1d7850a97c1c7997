"""One request upstream, and what its readers get of the answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from origin.events.channel import END
from tests.completion_server import KEY, Asked, chunk, streaming, tokens
from tests.event_server import NDJSON, TOKEN, WAYS, Got, Way
from tests.eventstream import read
from tests.relay_server import STREAMED, has_answered, reading_answer, relaying
from tests.waiting import until

CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get", "arguments": '{"a":'}}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "Hm, 👩‍👩‍👧 "}),
    chunk({"content": "ж\\n \u2028"}),
    # Spaces, orders and escapes as others write them: nothing is written anew.
    '{ "choices" : [ {"delta":{"content":"\\u00e9\\ud83d\\ude00"}, "index":0} ],"b":1,"a":1.0e-07 }',
    chunk({"tool_calls": [CALL]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
    chunk({}, "tool_calls", timings={"predicted_per_second": 41.7}),
    chunk({}, choices=[], usage=USAGE),
    "[DONE]",
]


async def test_an_answer_reaches_the_caller_and_the_channels_readers_byte_for_byte() -> None:
    async with relaying(streaming(CHUNKS)) as server, reading_answer(NDJSON, server) as (got, task):
        await until(lambda: server.channel.readers)
        assert await server.stream() == CHUNKS
        await task
        assert [event.data for event in got] == [*CHUNKS, "{}"]
        assert {event.name for event in got[:-1]} == {"message"}
        assert got[-1].name == "end"


async def test_the_answer_is_announced_and_read_in_every_way() -> None:
    texts = tokens("Hel", "lo", "!")
    lists: list[list[Got]] = []
    for way in WAYS:
        async with relaying(streaming(texts)) as server:
            answer = await server.ask()
            assert (answer.status_code, answer.headers["location"]) == (202, "/events/test")
            assert answer.json() == {"events": "/events/test", "since": "e-0"}
            async with reading_answer(way, server) as (got, task):
                await asyncio.wait_for(task, 120)
            lists.append(got)
    assert [event.data for event in lists[0]] == [*texts, "{}"]
    assert lists == [lists[0]] * len(WAYS)


async def test_very_many_tiny_events_in_one_piece_hold_nobody_up() -> None:
    """That they don't is judged after each test: the event loop computes for no tenth of a second."""
    count = 12_000

    async def script(asked: Asked) -> None:
        await asked.head()
        await asked.raw(b"\n" * 1_000_000)
        await asked.raw(b"data:\n\n" * count)
        await asked.event("[DONE]")
        await asked.end()

    async with relaying(script) as server:
        await server.ask()
        await until(lambda: has_answered(server))
        assert server.channel.published == count + 2


async def test_an_answer_is_whole_for_late_readers_however_many_events_it_has() -> None:
    pieces, each = 300, 1000
    token = json.dumps({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    piece = f"data: {token}\n\n".encode() * each

    async def script(asked: Asked) -> None:
        await asked.head()
        for _ in range(pieces):
            await asked.raw(piece)
        await asked.event("[DONE]")
        await asked.end()

    async with relaying(script) as server:
        await server.ask()
        await until(lambda: has_answered(server))
        assert server.channel.published == pieces * each + 2
        assert server.channel.log.first == 0
        late = await server.open("accept: text/event-stream", "last-event-id: e-0")
        stream = b""
        while not (messages := read(stream)):
            stream += await late.chunk()
        assert (messages[0].last_id, messages[0].data) == ("e-1", token)
        late.abort()


async def test_the_upstream_server_gets_what_was_asked_for_with_its_own_key_alone() -> None:
    async with relaying(streaming(tokens("a"))) as server:
        await server.ask(temperature=0.5)
        await until(lambda: server.upstream.asked)
        (asked,) = server.upstream.asked
        assert asked.target == "/v1/chat/completions"
        assert asked.options == {**STREAMED, "temperature": 0.5}
        assert asked.fields["authorization"] == f"Bearer {KEY}"
        assert TOKEN not in str(asked.fields)


async def test_a_key_goes_in_the_field_that_the_upstream_server_wants() -> None:
    async with relaying(streaming(tokens("a")), key_header="api-key") as server:
        await server.stream()
        assert server.upstream.asked[0].fields["api-key"] == KEY
        assert "authorization" not in server.upstream.asked[0].fields


@pytest.mark.parametrize("way", WAYS[:3], ids=lambda way: way.name)
async def test_who_comes_late_gets_the_whole_text_so_far_and_then_what_comes(way: Way) -> None:
    go_on = asyncio.Event()
    texts = tokens(*(f"token {number} " for number in range(3000)))

    async def script(asked: Asked) -> None:
        await asked.head()
        for data in texts[:2500]:
            await asked.event(data)
        await go_on.wait()
        for data in texts[2500:]:
            await asked.event(data)
        await asked.end()

    async with relaying(script) as server:
        # What was said before is another text.
        server.channel.publish_text("before")
        await server.ask()
        await until(lambda: server.channel.published >= 2501)
        async with reading_answer(way, server) as (got, task):
            await until(lambda: len(got) >= 2500 or task.done())
            go_on.set()
            await asyncio.wait_for(task, 120)
        assert [event.data for event in got] == [*texts, "{}"]


async def test_a_text_that_is_over_is_read_as_a_whole_until_the_next_begins() -> None:
    first, second = tokens("first"), tokens("second")
    answers = iter((first, second))

    async def script(asked: Asked) -> None:
        await streaming(next(answers))(asked)

    async with relaying(script) as server:
        for texts in (first, second):
            await server.ask()
            async with reading_answer(NDJSON, server) as (got, task):
                await asyncio.wait_for(task, 120)
            assert [event.data for event in got] == [*texts, "{}"]
            async with reading_answer(NDJSON, server) as (again, task):
                await asyncio.wait_for(task, 120)
            assert again == got


async def test_an_answer_in_one_piece_is_what_the_upstream_server_wrote() -> None:
    whole = '{"id": "c", "object":"chat.completion",\n "choices":[{"message":{"content":"ж"}}]}'

    async def script(asked: Asked) -> None:
        assert asked.options["stream"] is False
        await asked.answer("200 OK", whole)

    async with relaying(script) as server, reading_answer(NDJSON, server) as (got, task):
        await until(lambda: server.channel.readers)
        answer = await server.ask("/relay/test/v1/chat/completions")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.text == whole
        await task
        assert [(event.name, event.data) for event in got] == [("completion", whole), ("end", "{}")]


@pytest.mark.parametrize("letter", ["\r", "\n", "s", "é"])
async def test_a_long_answer_in_one_piece_holds_nobody_up(letter: str) -> None:
    """That it doesn't is judged after each test: the event loop computes for no tenth of a second.

    RFC 8259 §2 allows any number of line ends between two values.
    """
    space = letter.isspace()
    content = json.dumps({"a": "" if space else letter * 8_000_000}, ensure_ascii=False)
    whole = content[:-1] + (letter * 15_000_000 if space else "") + "}"

    async def script(asked: Asked) -> None:
        await asked.answer("200 OK", whole)

    async with relaying(script) as server, reading_answer(NDJSON, server) as (got, task):
        await until(lambda: server.channel.readers)
        answer = await server.ask("/relay/test/v1/chat/completions")
        # Not by httpx's text, which replaces some line ends.
        assert (answer.status_code, answer.content) == (200, whole.encode())
        await task
    # The channel's readers get no event of megabytes, and are told so.
    assert [event.name for event in got] == ["error", "end"]
    assert json.loads(got[0].data)["error"]["code"] == 413


async def test_events_of_nothing_but_line_ends_hold_nobody_up_when_they_are_written() -> None:
    """That they don't is judged after each test: the event loop computes for no tenth of a second."""
    data = "\n" * 1_000_000
    async with relaying(streaming(tokens("a"))) as server, contextlib.AsyncExitStack() as stack:
        read = [await stack.enter_async_context(reading_answer(way, server)) for way in WAYS[:2]]
        await until(lambda: server.channel.readers == len(read))
        for _ in range(10):
            server.channel.publish_soon(data)
        server.channel.publish_soon("{}", END)
        await asyncio.gather(*(task for _, task in read))
        for got, _ in read:
            assert [len(event.data) for event in got] == [len(data)] * 10 + [len("{}")]


async def test_callers_with_different_questions_get_their_own_answers() -> None:
    both = asyncio.Barrier(2)

    async def script(asked: Asked) -> None:
        await asked.head()
        await both.wait()
        for data in tokens(asked.options["messages"][0]["content"]):
            await asked.event(data)
        await asked.end()

    def question(text: str) -> dict[str, Any]:
        return {**STREAMED, "messages": [{"role": "user", "content": text}]}

    async with relaying(script) as server:
        one, two = await asyncio.gather(server.stream(question("one")), server.stream(question("two")))
        assert (one, two) == (tokens("one"), tokens("two"))


async def test_the_same_question_of_many_at_once_is_one_request_where_the_channel_says_so() -> None:
    go_on = asyncio.Event()

    async def script(asked: Asked) -> None:
        await asked.head()
        await asked.event(tokens("a")[0])
        await go_on.wait()
        for data in tokens("a")[1:]:
            await asked.event(data)
        await asked.end()

    async with relaying(script, share=True) as server:
        callers = [asyncio.create_task(server.stream()) for _ in range(20)]
        await until(lambda: server.relay.counters.shared == 19)
        # The administrator's key is another: nobody gets an answer to somebody else's request.
        admin = await server.request(
            "POST",
            "/relay/test",
            headers={"authorization": "Bearer of-the-tests-alone-2c9d"},
            json=STREAMED,
        )
        assert admin.status_code == 202
        await until(lambda: len(server.upstream.asked) == 2)
        go_on.set()
        assert await asyncio.gather(*callers) == [tokens("a")] * 20
        # It is over: the next one asks anew.
        assert await server.stream() == tokens("a")
        assert len(server.upstream.asked) == 3


async def test_the_same_question_is_asked_as_often_as_it_comes_where_the_channel_does_not() -> None:
    async with relaying(streaming(tokens("a"))) as server:
        assert await asyncio.gather(*(server.stream() for _ in range(5))) == [tokens("a")] * 5
        assert len(server.upstream.asked) == 5


async def test_types_of_the_upstream_servers_events_are_kept_but_for_the_channels_own() -> None:
    async def script(asked: Asked) -> None:
        await asked.head()
        for name in ("response.created", "end", "reset", "x" * 65, "a\x00b", "a\tb", "a\x7fb"):
            await asked.raw(f"event: {name}\ndata: {{}}\n\n".encode())
        await asked.event("[DONE]")
        await asked.end()

    async with relaying(script) as server:
        await server.ask()
        async with reading_answer(NDJSON, server) as (got, task):
            await asyncio.wait_for(task, 120)
        names = [event.name for event in got]
        assert names == ["response.created", *["message"] * 7, "end"]


async def test_proxies_are_told_not_to_hold_a_stream_back() -> None:
    async with relaying(streaming(tokens("a"))) as server:
        body = json.dumps(STREAMED).encode()
        answer = await server.request(
            "POST",
            "/relay/test/v1/chat/completions",
            headers={"authorization": f"Bearer {TOKEN}", "content-type": "application/json"},
            content=body,
        )
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["cache-control"] == "no-cache, no-store"
        assert answer.content.startswith(b":")

"""Answers that servers end or refuse in their own ways reach a caller as they do without a relay."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.completion_server import HEAD, Asked, Script, chunk, completing, tokens
from tests.event_server import LIMIT, NDJSON, TOKEN
from tests.relay_server import error_of, reading_answer, relaying
from tests.streamed_answers import said
from tests.waiting import until

ANSWER = tokens("Hel", "lo")[:-1]
THOUSANDS = 70
"""Thousands of events of a long answer."""

PICTURE = 3_000_000
"""Characters of a picture in Base64, as models that draw send one in a single event."""


async def without_done(asked: Asked) -> None:
    """As text-generation-inference and Perplexity end."""
    await asked.head()
    for data in ANSWER:
        await asked.event(data)
    await asked.end()


async def without_the_last_blank_line(asked: Asked) -> None:
    await asked.head()
    for data in ANSWER:
        await asked.event(data)
    await asked.raw(b"data: [DONE]\n")
    await asked.end()


async def without_the_last_line_end(asked: Asked) -> None:
    await asked.head()
    for data in ANSWER:
        await asked.event(data)
    await asked.raw(b"data: [DONE]")
    await asked.end()


async def with_a_picture(asked: Asked) -> None:
    await asked.head()
    for data in (chunk({"content": "x" * PICTURE}), chunk({}, "stop"), "[DONE]"):
        await asked.event(data)
    await asked.end()


async def with_many_events(asked: Asked) -> None:
    await asked.head()
    thousand = f"data: {chunk({'content': 'y'})}\n\n".encode() * 1000
    for _ in range(THOUSANDS):
        await asked.raw(thousand)
    for data in (chunk({}, "stop"), "[DONE]"):
        await asked.event(data)
    await asked.end()


def typed(media_type: str) -> Script:
    """Answer with another media type than that of events, or with none."""

    async def script(asked: Asked) -> None:
        line = b"content-type: text/event-stream; charset=utf-8\r\n"
        assert line in HEAD
        await asked.head(
            HEAD.replace(line, f"content-type: {media_type}\r\n".encode() if media_type else b"")
        )
        for data in (*ANSWER, "[DONE]"):
            await asked.event(data)
        await asked.end()

    return script


TYPES = ("", "text/plain; charset=utf-8", "application/octet-stream", "application/x-ndjson")


@pytest.mark.parametrize(
    "script",
    [
        without_done,
        without_the_last_blank_line,
        without_the_last_line_end,
        with_a_picture,
        with_many_events,
        *(pytest.param(typed(one), id=one or "no type") for one in TYPES),
    ],
)
async def test_openais_client_gets_through_a_relay_what_it_gets_without(script: Script) -> None:
    async with completing(script) as upstream:
        direct = await said(upstream.url.removesuffix("/chat/completions"), "k")
    assert direct in ("Hello", "x" * PICTURE, "y" * THOUSANDS * 1000)
    async with relaying(script) as server:
        assert await said(server.base, TOKEN) == direct
        assert server.relay.counters.failed == 0


async def test_readers_of_the_channel_are_told_of_what_is_too_large_for_an_event() -> None:
    async with relaying(with_a_picture) as server, reading_answer(NDJSON, server) as (got, task):
        await until(lambda: server.channel.readers)
        assert (await server.ask(stream=True)).status_code == 202
        await asyncio.wait_for(task, LIMIT)
    assert [event.name for event in got] == ["error", "message", "message", "end"]
    assert "an event has 1048576 at most" in error_of(got[0].data)["message"]


async def test_a_refusal_with_status_200_reaches_the_caller() -> None:
    import openai

    told = {"error": {"message": "the model is overloaded", "type": "overloaded", "code": 529}}

    async def refuse(asked: Asked) -> None:
        await asked.answer("200 OK", json.dumps(told))

    async with relaying(refuse) as server:
        with pytest.raises(openai.InternalServerError, match="the model is overloaded"):
            await said(server.base, TOKEN)
        answer = await server.ask("/relay/test/v1/chat/completions", stream=True)
        assert (answer.status_code, answer.json()) == (502, told)


async def test_an_answer_without_any_event_is_an_error() -> None:
    async def end(asked: Asked) -> None:
        await asked.head()
        await asked.end()

    async with relaying(end) as server:
        answer = await server.ask("/relay/test/v1/chat/completions", stream=True)
        assert answer.status_code == 502
        assert answer.json()["error"]["message"].endswith("ended before its first event")

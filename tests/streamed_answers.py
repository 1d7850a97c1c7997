"""The answers of upstream servers by each API that a relay has, and the requests of their callers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.completion_server import Asked, tokens
from tests.event_server import LIMIT, TOKEN
from tests.relay_server import STREAMED, Keeping, RelayServer

MINE = {"authorization": f"Bearer {TOKEN}"}
KEPT = Keeping()

CHAT_CHUNKS = tokens("Hel", "lo, ", "ж 😀", "!")
CHAT_BYTES = "".join(f"data: {one}\n\n" for one in CHAT_CHUNKS).encode()


def named(*events: dict[str, Any]) -> bytes:
    """Write events as OpenAI's responses and Anthropic's messages have them."""
    return b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events)


def a_response(status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_7f3a",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "tiny",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "background": False,
    } | more


def a_delta(number: int, text: str) -> dict[str, Any]:
    return {
        "type": "response.output_text.delta",
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": text,
        "logprobs": [],
        "sequence_number": number,
    }


def a_message(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": content}


def response_events(*texts: str) -> list[dict[str, Any]]:
    """Give the events of a response, as OpenAI's reference of streaming events describes them."""
    deltas = [a_delta(number, text) for number, text in enumerate(texts, 2)]
    whole = a_response("completed", output=[a_message("".join(texts))])
    return [
        {"type": "response.created", "response": a_response("in_progress"), "sequence_number": 0},
        {"type": "response.in_progress", "response": a_response("in_progress"), "sequence_number": 1},
        *deltas,
        {"type": "response.completed", "response": whole, "sequence_number": len(texts) + 2},
    ]


MESSAGE = {"id": "msg_9", "type": "message", "role": "assistant", "content": [], "model": "tiny"}
MESSAGE_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
]
TEXT = {"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "text": "Hi"}]}

STREAMS = {
    "chat/completions": ("chatcmpl-7f3a", STREAMED, CHAT_BYTES),
    "completions": (
        "cmpl-1",
        {"model": "tiny", "prompt": "Hello?", "stream": True},
        f"data: {json.dumps(TEXT)}\n\ndata: [DONE]\n\n".encode(),
    ),
    "responses": (
        "resp_7f3a",
        {"model": "tiny", "input": "Hello?", "stream": True},
        named(*response_events("Hel", "lo")),
    ),
    "messages": ("msg_9", {**STREAMED, "max_tokens": 50}, named(*MESSAGE_EVENTS)),
}
"""By API: the id that the upstream server gives, a request, and the bytes of its answer."""

FINISH_REASONS = {"chat/completions": "stop", "responses": "completed", "messages": "end_turn"}
"""By API: why the model wrote no more in those answers; one of them doesn't say."""


def raw(data: bytes) -> Any:
    """Make a script that answers with these bytes."""

    async def script(asked: Asked) -> None:
        await asked.head()
        await asked.raw(data)
        await asked.end()

    return script


def gated(events: list[bytes], first: int) -> tuple[Any, asyncio.Event]:
    """Make a script that sends the first events, and the others when the event is set."""
    go_on = asyncio.Event()

    async def script(asked: Asked) -> None:
        await asked.head()
        for one in events[:first]:
            await asked.raw(one)
        await go_on.wait()
        for one in events[first:]:
            await asked.raw(one)
        await asked.end()

    return script, go_on


def paced(events: list[bytes], seconds: float = 0.01) -> Any:
    """Make a script that sends these events, and pauses behind each."""

    async def script(asked: Asked) -> None:
        await asked.head()
        for one in events:
            await asked.raw(one)
            await asyncio.sleep(seconds)
        await asked.end()

    return script


CHAT_EVENTS = [f"data: {one}\n\n".encode() for one in CHAT_CHUNKS]


def without_comments(stream: bytes) -> bytes:
    """Remove the comments of a stream, which are the server's own (WHATWG HTML §9.2.6)."""
    return b"".join(f"{one}\n\n".encode() for one in stream.decode().split("\n\n") if one and one[0] != ":")


@contextlib.asynccontextmanager
async def asking(
    server: RelayServer, path: str = "chat/completions", question: Any = STREAMED
) -> AsyncIterator[httpx.Response]:
    async with (
        httpx.AsyncClient(timeout=LIMIT) as client,
        client.stream("POST", f"{server.base}/{path}", headers=MINE, json=question) as answer,
    ):
        yield answer


async def got(server: RelayServer, path: str, headers: dict[str, str] = MINE) -> httpx.Response:
    return await server.request("GET", path, headers=headers)


async def read_upto(answer: httpx.Response, text: bytes) -> bytes:
    """Read a stream up to a text, and no further."""
    seen = b""
    async for part in answer.aiter_bytes():
        seen += part
        if text in seen:
            return seen
    raise AssertionError(seen)


async def said(base: str, key: str) -> str:
    """Give the text that openai's client gets."""
    import openai  # not by each process of the tests, as it takes a second

    async with openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=0, timeout=LIMIT) as client:
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        return "".join([one.choices[0].delta.content or "" async for one in stream if one.choices])

"""A server that streams completions as vLLM and llama.cpp do, on bare sockets, as a test tells it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

KEY = "sk-canary-0123456789abcdef"
"""The key that the upstream server wants; no reader may ever see it."""

HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


@dataclass
class Asked:
    """A request, and the way to its client.

    Attributes:
        closed: set when the client has closed the connection.
    """

    target: str
    fields: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def options(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    async def head(self, head: bytes = HEAD) -> None:
        self.writer.write(head)
        await self.writer.drain()

    async def raw(self, data: bytes) -> None:
        """Send bytes of the body, as a chunk."""
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.writer.drain()

    async def event(self, data: str) -> None:
        await self.raw(f"data: {data}\n\n".encode())

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()
        self.writer.close()

    async def answer(self, status: str, body: str, kind: str = "application/json", *fields: str) -> None:
        """Answer with a whole body."""
        data = body.encode()
        head = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(data)}", *fields]
        self.writer.write("\r\n".join((*head, "", "")).encode() + data)
        await self.writer.drain()
        self.writer.close()


Script = Callable[[Asked], Awaitable[None]]


class CompletionServer:
    """A running server, and what it was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = head.strip().split("\r\n")
        fields = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        asked = Asked(line.split()[1], fields, body, writer)
        self.asked.append(asked)

        async def watch() -> None:
            with contextlib.suppress(OSError):
                await reader.read()
            asked.closed.set()

        watching = asyncio.ensure_future(watch())
        try:
            with contextlib.suppress(OSError):
                await self.script(asked)
                await watching
        finally:
            # Whoever writes may learn first that the client has closed.
            asked.closed.set()
            watching.cancel()
            writer.close()


@contextlib.asynccontextmanager
async def completing(script: Script) -> AsyncIterator[CompletionServer]:
    """Run a server that answers each request as the script does."""
    upstream = CompletionServer(script)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 20)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for asked in upstream.asked:
            asked.writer.transport.abort()


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> str:
    """Write a chunk as vLLM does (``vllm/entrypoints/openai/protocol.py``)."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return json.dumps(
        {
            "id": "chatcmpl-7f3a",
            "object": "chat.completion.chunk",
            "created": 1_790_000_000,
            "model": "tiny",
            "choices": [choice],
        }
        | more,
        ensure_ascii=False,
        separators=(",", ":"),
    )


def tokens(*texts: str) -> list[str]:
    """Give the chunks of a whole answer, with its end."""
    said = [chunk({"content": text}) for text in texts]
    return [chunk({"role": "assistant", "content": ""}), *said, chunk({}, "stop"), "[DONE]"]


def streaming(chunks: Sequence[str]) -> Script:
    """Make a script that streams these chunks."""

    async def script(asked: Asked) -> None:
        await asked.head()
        for data in chunks:
            await asked.event(data)
        await asked.end()

    return script

"""Nodes of a cluster that relay the answers of an upstream server, and their callers and readers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from tests.completion_server import CompletionServer, Script, completing
from tests.conftest import ServerProcess, start_server
from tests.event_server import LIMIT, TOKEN
from tests.redis_cluster import RedisServers
from tests.redis_server import RedisServer
from tests.streamed_answers import MINE, STREAMS, named, response_events, without_comments

TEXTS = [f"word-{number} " for number in range(40)]
EVENTS = [named(one) for one in response_events(*TEXTS)]
RESPONSE = STREAMS["responses"][1]


@dataclass(frozen=True)
class RelayNodes:
    """Running nodes with a relay, and the upstream server that all of them ask.

    Attributes:
        folder: where their configuration is.
    """

    nodes: list[ServerProcess]
    upstream: CompletionServer
    folder: Path

    async def start(self) -> ServerProcess:
        """Start one more."""
        node = await asyncio.to_thread(
            start_server, "--config", str(self.folder / "headwater.toml"), "--port", "0", cwd=self.folder
        )
        self.nodes.append(node)
        return node

    async def kill(self, place: int, how: signal.Signals = signal.SIGKILL) -> None:
        """End a node by a signal."""
        process = self.nodes[place].process
        process.send_signal(how)
        await asyncio.to_thread(process.wait)


@contextlib.asynccontextmanager
async def relaying_nodes(
    folder: Path,
    redis: RedisServer | RedisServers,
    script: Script,
    *lines: str,
    limits: Sequence[str] = (),
    count: int = 2,
) -> AsyncIterator[RelayNodes]:
    """Run nodes with a relay, whose upstream server answers as the script does.

    Args:
        lines: more of the relay's options.
        limits: options of the nodes' limits.
    """
    redis.command("FLUSHALL")
    async with completing(script) as upstream:
        base = upstream.url.removesuffix("/chat/completions")
        config = folder / "headwater.toml"
        table = ["[[relay]]", 'name = "assistant"', f'upstreams = ["{base}"]', f'token = "{TOKEN}"', *lines]
        head = ["[cluster]", f'url = "{redis.url}"', "[library]", f'path = "{folder}"', "[limits]", *limits]
        config.write_text("\n".join((*head, *table, "")))
        config.chmod(0o600)
        running = RelayNodes([], upstream, folder)
        try:
            for _ in range(count):
                await running.start()
            yield running
        finally:
            for node in running.nodes:
                if node.process.poll() is None:
                    node.process.kill()
                await asyncio.to_thread(node.process.wait)


def base_of(node: ServerProcess) -> str:
    return f"{node.url}/relay/assistant/v1"


def client_at(node: ServerProcess) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=base_of(node), api_key=TOKEN, max_retries=0, timeout=LIMIT)


class Reading:
    """A stream that is read part by part.

    Attributes:
        seen: what has come of it.
    """

    def __init__(self, answer: httpx.Response) -> None:
        self.headers = answer.headers
        self._answer = answer
        self._parts = aiter(answer.aiter_bytes())
        self.seen = b""

    async def upto(self, text: bytes) -> bytes:
        """Read until a text is there."""
        while text not in self.seen:
            self.seen += await anext(self._parts)
        return without_comments(self.seen)

    async def more(self, count: int) -> None:
        """Read so many more bytes."""
        most = len(self.seen) + count
        while len(self.seen) < most:
            self.seen += await anext(self._parts)

    async def whole(self) -> bytes:
        """Read to the end, and return all without the server's own comments."""
        async for part in self._parts:
            self.seen += part
        return without_comments(self.seen)

    async def leave(self) -> None:
        """Close the connection."""
        await self._answer.aclose()


@contextlib.asynccontextmanager
async def asked(
    node: ServerProcess, path: str = "responses", question: Any = RESPONSE
) -> AsyncIterator[Reading]:
    """Ask as a caller, whose connection is cut behind the block."""
    async with (
        httpx.AsyncClient(timeout=LIMIT) as client,
        client.stream("POST", f"{base_of(node)}/{path}", headers=MINE, json=question) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        yield Reading(answer)


@contextlib.asynccontextmanager
async def read(node: ServerProcess, path: str) -> AsyncIterator[Reading]:
    """Read an answer as another client, while the block runs."""
    async with (
        httpx.AsyncClient(timeout=LIMIT) as client,
        client.stream("GET", f"{base_of(node)}/{path}?stream=true", headers=MINE) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        yield Reading(answer)


async def fetch(
    node: ServerProcess, path: str, headers: dict[str, str] = MINE, method: str = "GET", **query: Any
) -> httpx.Response:
    """Make a request of a node, below its relay or, where the path begins with a slash, anywhere."""
    url = f"{node.url}{path}" if path.startswith("/") else f"{base_of(node)}/{path}"
    async with httpx.AsyncClient(timeout=LIMIT) as client:
        return await client.request(method, url, headers=headers, params=query)


async def stream_of(node: ServerProcess, path: str, headers: dict[str, str] = MINE, **query: Any) -> bytes:
    """Read a stream to its end, without the server's own comments."""
    answer = await fetch(node, path, headers, stream="true", **query)
    assert answer.status_code == 200, answer.text
    return without_comments(answer.content)


async def has_events(node: ServerProcess, place: str, count: int) -> None:
    """Wait until a node has so many events of an answer."""
    async with asyncio.timeout(LIMIT):
        while len(await _events(node, place)) < count:
            await asyncio.sleep(0.01)


async def end_of(node: ServerProcess, place: str) -> dict[str, Any]:
    """Wait until a node has the end of an answer, and return how it ended."""
    async with asyncio.timeout(LIMIT):
        while not (found := await _events(node, place)) or found[-1]["event"] != "end":
            await asyncio.sleep(0.01)
    told: dict[str, Any] = json.loads(found[-1]["data"])
    return told


async def _events(node: ServerProcess, place: str) -> list[dict[str, str]]:
    answer = await fetch(node, place, since="")
    found: list[dict[str, str]] = answer.json() if answer.status_code == 200 else []
    return found

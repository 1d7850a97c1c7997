"""A real server with one relay, and its upstream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
from starlette.applications import Starlette

from origin.access.authentication import Authenticator
from origin.events.admission import Admission
from origin.events.authorization import ChannelKeys, EventAuthorization
from origin.events.channel import END, EventChannel, EventChannelOptions
from origin.events.limits import ChannelLimits
from origin.events.routes import routes as event_routes
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from origin.token_relay.limits import TokenRelayLimits
from origin.token_relay.relay import TokenRelay, TokenRelayOptions
from origin.token_relay.routes import routes
from origin.token_relay.upstream import Upstream, UpstreamOptions
from tests.app_server import app_running
from tests.completion_server import KEY, CompletionServer, Script, completing
from tests.event_server import LIMIT, TOKEN, Got, Server, Way, reading
from tests.keys import ADMIN_TOKEN

QUESTION: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hello?"}]}

PATIENT = TokenRelayLimits(head_seconds=LIMIT, first_reader_seconds=LIMIT, drain_seconds=LIMIT)
"""No answer is given up, and no stream begins before its upstream's, since this machine stood still."""

STREAMED = {**QUESTION, "stream": True}


class RelayServer(Server):
    """The way to a running server, its relay and its upstream."""

    def __init__(self, port: int, relay: TokenRelay, upstream: CompletionServer) -> None:
        super().__init__(port, {relay.name: relay.channel})
        self.relay = relay
        self.upstream = upstream
        self.base = f"http://127.0.0.1:{port}/relay/test/v1"

    async def ask(self, path: str = "/relay/test", **options: Any) -> httpx.Response:
        """Ask as a publisher."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        return await self.request("POST", path, headers=headers, json={**QUESTION, **options})

    async def stream(self, question: dict[str, Any] = STREAMED) -> list[str]:
        """Ask as an existing client does; give the data of all events."""
        async with self.streaming(question) as lines:
            return [line async for line in lines]

    async def bare_stream(self, question: dict[str, Any] = STREAMED) -> asyncio.StreamReader:
        """Ask for a stream on a bare socket, which is closed with the server at the latest."""
        body = json.dumps(question)
        lines = ["POST /relay/test/v1/chat/completions HTTP/1.1", "host: x", f"authorization: Bearer {TOKEN}"]
        lines += ["content-type: application/json", f"content-length: {len(body)}", "", body]
        reader, writer = await self.connect()
        writer.write("\r\n".join(lines).encode())
        return reader

    @contextlib.asynccontextmanager
    async def streaming(self, question: dict[str, Any] = STREAMED) -> AsyncIterator[AsyncIterator[str]]:
        """The same, as they come."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with (
            httpx.AsyncClient(timeout=LIMIT) as client,
            client.stream("POST", f"{self.base}/chat/completions", headers=headers, json=question) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()

            async def data() -> AsyncIterator[str]:
                # Not by httpx's lines, which end at U+2028, too.
                rest = b""
                async for part in answer.aiter_bytes():
                    *lines, rest = (rest + part).split(b"\n")
                    for line in lines:
                        if line.startswith(b"data: "):
                            yield line.removeprefix(b"data: ").decode()

            yield data()


@contextlib.asynccontextmanager
async def relaying(
    script: Script,
    limits: TokenRelayLimits = PATIENT,
    *,
    share: bool = False,
    keep: bool = False,
    url: str = "",
    channel_limits: ChannelLimits | None = None,
    key_header: str = "authorization",
    most_readers: int | None = None,
    **upstream_limits: Any,
) -> AsyncIterator[RelayServer]:
    """Run a relay behind a real server; its upstream answers as the script does."""
    limits = replace(limits, upstream=replace(limits.upstream, **upstream_limits))
    kept = channel_limits or ChannelLimits()
    kept = replace(
        kept,
        history=limits.kept_events,
        history_bytes=limits.kept_bytes,
        queue_bytes=limits.kept_bytes,
        close_seconds=LIMIT,
        drain_seconds=LIMIT,
    )
    channel = EventChannel("test", "e", EventChannelOptions(stays_open=True, limits=kept))
    authorization = EventAuthorization(
        Authenticator(), ADMIN_TOKEN, {"test": ChannelKeys(publish_token=TOKEN)}
    )
    async with completing(script) as upstream:
        asking = Upstream(
            UpstreamOptions(url=url or upstream.url, key=KEY, key_header=key_header), limits.upstream
        )
        relay = TokenRelay(channel, asking, TokenRelayOptions(share=share, keep=keep, limits=limits))
        admission = Admission((channel, relay), most_readers)
        app = Starlette(
            routes=[
                *routes({"test": relay}, authorization, admission),
                *event_routes({"test": channel}, authorization, admission=admission),
            ],
            exception_handlers=ERROR_RESPONSES,
        )
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
            way = RelayServer(listening.getsockname()[1], relay, upstream)
            async with app_running(app, listening, (relay, channel), lambda: way.writers):
                yield way


def is_over(got: list[Got]) -> bool:
    """Whether an answer was read to its end, behind which the channel stays open for the next."""
    return bool(got) and got[-1].name == END


def reading_answer(
    way: Way, server: Server, since: str = ""
) -> contextlib.AbstractAsyncContextManager[tuple[list[Got], asyncio.Task[None]]]:
    """Read while the block runs; the task ends with the answer."""
    return reading(way, server, since, is_over)


def has_answered(server: RelayServer) -> bool:
    """Whether the newest event of the channel is the end of an answer."""
    log = server.channel.log
    return [event.name for event in log.between(max(log.end - 1, log.first), log.end)] == [END]


def error_of(data: str) -> dict[str, Any]:
    """Read an error as clients of these servers do."""
    error: dict[str, Any] = json.loads(data)["error"]
    return error

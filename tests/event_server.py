"""A real server with event channels, and readers of each of the five ways, as their users have them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import aconnect_sse
from starlette.applications import Starlette
from starlette.types import ASGIApp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from origin.events.admission import Admission
from origin.events.beats import ChannelBeats
from origin.events.channel import EventChannel, EventChannelOptions
from origin.events.channel_keys import ChannelKeys, ReadingPages
from origin.events.limits import ChannelLimits, EventLimits
from origin.events.routes import routes
from origin.http.client_limits import UNLIMITED, ClientLimit
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from tests.app_server import app_running
from tests.certificates import Certificate
from tests.keys import ADMIN_TOKEN
from tests.permissions import event_authorization
from tests.radio_server import Client

TOKEN = "a-publish-token-0"
READ_KEY = "a-read-key-000000"
LIMIT = 120.0

OPEN = ChannelKeys(publish_token=TOKEN, read_key="")
PROTECTED = ChannelKeys(publish_token=TOKEN, read_key=READ_KEY)


@dataclass(frozen=True)
class Got:
    """An event as a reader got it."""

    name: str
    data: str
    id: str


class Server:
    """The way to a running server."""

    def __init__(
        self,
        port: int,
        channels: Mapping[str, EventChannel],
        certificate: Certificate | None = None,
        app: ASGIApp | None = None,
    ) -> None:
        self.port = port
        self.channels = channels
        self.certificate, self.app = certificate, app
        self.trust = None if certificate is None else ssl.create_default_context(cafile=certificate.chain)
        secure = "" if self.trust is None else "s"
        self.url = f"http{secure}://127.0.0.1:{port}/events/test"
        self.socket_url = f"ws{secure}://127.0.0.1:{port}/events/test"
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def channel(self) -> EventChannel:
        return self.channels["test"]

    def client(self) -> httpx.AsyncClient:
        """Make a client that trusts its certificate."""
        return httpx.AsyncClient(timeout=LIMIT, verify=True if self.trust is None else self.trust)

    async def open(self, *fields: str, path: str = "/events/test", **options: str) -> Client:
        """Send a request on a bare socket and read the response's head."""
        client = await Client.open(self.port, *fields, path=path, **options)
        self.writers.append(client.writer)
        return client

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect a bare socket, which is closed with the server at the latest."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def request(self, method: str, path: str = "/events/test", **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=LIMIT) as client:
            return await client.request(method, path, **options)

    async def post(self, content: Any, kind: str = "text/plain", **headers: str) -> httpx.Response:
        fields = {"authorization": f"Bearer {TOKEN}", "content-type": kind, **headers}
        return await self.request("POST", content=content, headers=fields)


def a_channel(
    name: str = "test", epoch: str = "e", options: EventChannelOptions | None = None, **limits: Any
) -> EventChannel:
    """Make a channel that keeps a hundred events, and gives nobody up because the machine stood still."""
    wanted = {"history": 100, "drain_seconds": LIMIT, "close_seconds": LIMIT, **limits}
    return EventChannel(name, epoch, options or EventChannelOptions(limits=ChannelLimits(**wanted)))


@contextlib.asynccontextmanager
async def serving(
    *channels: EventChannel,
    keys: ChannelKeys = OPEN,
    limits: EventLimits | None = None,
    allow_origin: str = "",
    most_readers: int | None = None,
    client_readers: ClientLimit = UNLIMITED,
    port: int = 0,
    certificate: Certificate | None = None,
) -> AsyncIterator[Server]:
    """Run channels behind a real server, over TLS with a certificate; give a way to it."""
    by_name = {channel.name: channel for channel in channels or (a_channel(),)}
    keys_of = dict.fromkeys(by_name, keys).get
    authorization, pages = event_authorization(keys_of, ADMIN_TOKEN), ReadingPages(keys_of, allow_origin)
    admission = Admission(by_name.values(), most_readers, client_readers)
    app = Starlette(
        routes=routes(by_name, authorization, pages, limits, admission), exception_handlers=ERROR_RESPONSES
    )
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listening:
        way = Server(listening.getsockname()[1], by_name, certificate, app)
        beats = ChannelBeats(by_name.values, ChannelLimits().beat_seconds)
        async with app_running(app, listening, (beats,), lambda: way.writers, certificate):
            yield way


class Way:
    """One way to read a channel, from a position on, until the test has what it wants or the stream ends."""

    name = ""

    async def read(
        self, server: Server, since: str, is_enough: Callable[[list[Got]], bool], got: list[Got]
    ) -> None:
        """Append events to a list until that is enough, or there are no more."""
        raise NotImplementedError


class Sse(Way):
    name = "sse"

    async def read(
        self, server: Server, since: str, is_enough: Callable[[list[Got]], bool], got: list[Got]
    ) -> None:
        headers = {"last-event-id": since} if since else {}
        async with (
            server.client() as client,
            aconnect_sse(client, "GET", server.url, headers=headers) as source,
        ):
            if source.response.status_code == 204:
                return
            async for event in source.aiter_sse():
                # The id that begins a stream comes without data, which this reader shows as an event.
                if event.data:
                    got.append(Got(event.event, event.data, event.id))
                if is_enough(got):
                    return


class Ndjson(Way):
    name = "ndjson"

    async def read(
        self, server: Server, since: str, is_enough: Callable[[list[Got]], bool], got: list[Got]
    ) -> None:
        headers = {"accept": "application/x-ndjson", **({"last-event-id": since} if since else {})}
        async with (
            server.client() as client,
            client.stream("GET", server.url, headers=headers) as response,
        ):
            async for line in response.aiter_lines():
                if line:
                    got.append(as_got(json.loads(line)))
                if is_enough(got):
                    return


class WebSocket(Way):
    name = "websocket"

    async def read(
        self, server: Server, since: str, is_enough: Callable[[list[Got]], bool], got: list[Got]
    ) -> None:
        query = f"?since={since}" if since else ""
        async with connect(
            server.socket_url + query, compression=None, proxy=None, ssl=server.trust
        ) as client:
            with contextlib.suppress(ConnectionClosed):
                while not is_enough(got):
                    got.append(as_got(json.loads(await client.recv())))


class LongPoll(Way):
    name = "long poll"
    wait = "&wait=30"

    async def read(
        self, server: Server, since: str, is_enough: Callable[[list[Got]], bool], got: list[Got]
    ) -> None:
        async with server.client() as client:
            while not is_enough(got):
                answer = await client.get(f"{server.url}?since={since}{self.wait}")
                if answer.status_code == 204:
                    if server.channel.ended and since == server.channel.last_id:
                        return
                    await asyncio.sleep(0.01)
                    continue
                assert answer.status_code == 200, answer.text
                got += map(as_got, answer.json())
                since = got[-1].id


class Poll(LongPoll):
    name = "poll"
    wait = ""


NDJSON = Ndjson()
WAYS = (Sse(), NDJSON, WebSocket(), LongPoll(), Poll())


def as_got(event: dict[str, str]) -> Got:
    return Got(event["event"], event["data"], event.get("id", ""))


@contextlib.asynccontextmanager
async def reading(
    way: Way, server: Server, since: str = "", is_enough: Callable[[list[Got]], bool] = lambda _: False
) -> AsyncIterator[tuple[list[Got], asyncio.Task[None]]]:
    """Read while the block runs; give what was got so far, and the task, which ends with the stream."""
    got: list[Got] = []
    task = asyncio.create_task(way.read(server, since, is_enough, got))
    try:
        yield got, task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

"""Requests that change a channel are answered by its owner as if they had come there, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from origin.access.authentication import client_address
from origin.http.path_prefixes import port_of
from origin.live import event_start_end
from origin.live.publishing import PublishedChannels
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from origin.server.endpoints.owner_proxy import OwnerRequests
from packager.cluster.commands import ChannelCommand
from packager.cluster.limits import ClusterLimits
from packager.publish.channel_commands import RecordingState
from tests.origin.live.served_log import NoCommands
from tests.packager.cluster.live_nodes import LIMITS, Node, clear, is_level, node, owner, playing
from tests.permissions import live_authorization
from tests.redis_server import RedisServer
from tests.waiting import until

PATH = "/live/test/metadata"
CLIENT = "198.51.100.7"
PATIENT = replace(
    LIMITS,
    call_seconds=30.0,
    answer_seconds=60.0,
)
"""A busy machine may answer late."""


@dataclass
class Server:
    """What a node answers requests with."""

    asked: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    kept: set[tuple[str, str]] = field(default_factory=set)
    finish: asyncio.Event | None = None
    answer: Response = field(default_factory=lambda: PlainTextResponse("done", 201, {"x-inner": "kept"}))

    async def endpoint(self, request: Request) -> Response:
        self.asked.append(request)
        self.bodies.append(await request.body())
        if self.finish is not None:
            await self.finish.wait()
        return self.answer

    def on(self, one: Node) -> OwnerRequests:
        routes = [Route("/live/{channel}/{path:path}", self.endpoint, methods=["GET", "POST", "DELETE"])]
        return OwnerRequests(Starlette(routes=routes), one.node, lambda *named: named in self.kept)


@dataclass
class Pair:
    """An owner, and an edge with a client of it."""

    owner: Server
    edge: Server
    owner_node: Node
    edge_node: Node
    requests: OwnerRequests
    client: httpx.AsyncClient
    edge_app: OwnerRequests

    async def post(self, path: str = PATH, **options: object) -> httpx.Response:
        return await self.client.request("POST", path, **options)  # type: ignore[arg-type]


class EndlessRecording(NoCommands):
    """Commands to a channel whose recording is never finished."""

    async def end_event(self) -> RecordingState:
        await asyncio.Event().wait()
        return RecordingState.MADE


@contextlib.asynccontextmanager
async def pair(server: RedisServer, limits: ClusterLimits = PATIENT) -> AsyncIterator[Pair]:
    clear(server)
    maker = playing()
    async with node(server, maker, limits=limits) as packager, node(server, limits=limits) as edge:
        at_owner, at_edge = Server(), Server()
        requests = at_owner.on(packager)
        edge_app = at_edge.on(edge)
        transport = httpx.ASGITransport(edge_app, client=(CLIENT, 4711))
        await until(lambda: owner(packager) and is_level(maker, edge), "the edge")
        async with httpx.AsyncClient(transport=transport, base_url="http://edge", timeout=60) as client:
            yield Pair(at_owner, at_edge, packager, edge, requests, client, edge_app)


async def test_the_owner_sees_the_request_with_its_client_and_trusts_no_port(
    redis_server: RedisServer,
) -> None:
    async with pair(redis_server) as both:
        headers = {
            "authorization": "Bearer k\xe9y".encode("latin-1"),
            "content-type": b"application/json",
            "x-forwarded-for": b"127.0.0.1",
            "cookie": b"a=b",
        }
        answer = await both.post(f"{PATH}?key=a%20b", headers=headers, content=b"{}")
        assert (answer.status_code, answer.text) == (201, "done")
        assert "x-inner" not in answer.headers
        (asked,) = both.owner.asked
        assert client_address(asked) == CLIENT
        assert port_of(asked.scope) == -1
        assert asked.query_params["key"] == "a b"
        assert {*asked.headers} == {"authorization", "content-type", "content-length"}
        assert asked.headers["authorization"] == "Bearer k\xe9y"
        assert both.owner.bodies == [b"{}"]
        # What only reads, and what concerns no channel of the cluster, stays here.
        await both.client.get(PATH)
        await both.post("/live/other/metadata")
        await both.post("/live/test/ingest")
        assert len(both.edge.asked) == 3


async def test_a_recording_is_removed_by_the_owner_unless_the_node_itself_has_it(
    redis_server: RedisServer,
) -> None:
    path, headers = "/live/test/recordings/1795725000", {"authorization": "Bearer key"}
    async with pair(redis_server) as both:
        both.owner.answer = Response(status_code=204)
        assert (await both.client.delete(f"{path}?key=a", headers=headers)).status_code == 204
        (asked,) = both.owner.asked
        assert (asked.method, asked.url.path, asked.url.query) == ("DELETE", path, "key=a")
        assert (client_address(asked), asked.headers["authorization"]) == (CLIENT, "Bearer key")
        assert port_of(asked.scope) == -1
        both.edge.kept.add(("test", "1795725000"))
        await both.client.delete(path, headers=headers)
        # Nothing else of a channel is deleted, and a recording isn't posted.
        await both.client.delete(PATH)
        await both.client.delete(f"{path}/event.mp4")
        await both.post(path)
        assert (len(both.edge.asked), len(both.owner.asked)) == (4, 1)


async def test_a_long_body_is_refused_by_the_node_that_it_reaches(redis_server: RedisServer) -> None:
    async def feed() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"\n" * 1024

    async with pair(redis_server) as both:
        for content in (bytes((64 << 10) + 1), feed()):
            refused = await both.post("/live/test/captions/de", content=content)
            assert refused.status_code == 413
            assert "packager" in refused.text
        assert (await both.post(headers={"authorization": "k" * (80 << 10)})).status_code == 431
        assert both.owner.asked == []


async def test_many_requests_of_a_client_wait_for_each_other_and_nobody_else_does(
    redis_server: RedisServer,
) -> None:
    async with pair(redis_server) as both:
        both.owner.finish = asyncio.Event()
        waiting = [asyncio.create_task(both.post()) for _ in range(20)]
        await until(lambda: len(both.owner.asked) == 4, "the first four")
        transport = httpx.ASGITransport(both.edge_app, client=("203.0.113.9", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://edge", timeout=60) as client:
            other = asyncio.create_task(client.post(PATH))
            await until(lambda: len(both.owner.asked) == 5, "another client's")
            assert client_address(both.owner.asked[-1]) == "203.0.113.9"
            both.owner.finish.set()
            assert {(await one).status_code for one in [*waiting, other]} == {201}


async def test_nobody_waits_while_redis_is_away(redis_server: RedisServer) -> None:
    async with pair(redis_server) as both:
        both.edge_node.node.connection._went(OSError("a moment's loss"))
        refused = await both.post()
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0


async def test_what_no_node_would_ask_for_is_not_carried_out(redis_server: RedisServer) -> None:
    crafted = [
        ("test", "ingest"),
        ("test", "../../admin/stop"),
        ("test", "end/"),
        ("te/st", "end"),
        ("other", "end"),
        ("test", "recordings", "DELETE"),
        ("test", "recordings/1", "POST"),
        ("test", "recordings/1", "GET"),
        ("test", "end", "DELETE"),
    ]
    async with pair(redis_server) as both:
        for channel, path, *method in crafted:
            command = ChannelCommand(channel, path, b"", b"", b"", CLIENT, b"", *method)
            answer = await both.requests._carry_out(command)
            assert answer.status == 503
        # Who stood still may have been replaced, and learns that only when it asks Redis.
        both.owner_node.node.channels["test"]._lease._certain_until = 0.0
        late = ChannelCommand("test", "end", b"", b"", b"", CLIENT, b"")
        assert (await both.requests._carry_out(late)).status == 503
        assert both.owner.asked == []


async def test_who_ends_an_event_is_told_so_before_a_long_recording_is_finished(
    redis_server: RedisServer,
) -> None:
    short = replace(PATIENT, end_seconds=0.01)
    async with pair(redis_server, short) as both:
        stream = both.owner_node.streams["test"]
        stream.commands = EndlessRecording()
        channels = PublishedChannels({"test": stream}, live_authorization({"test": "right"}))
        app = Starlette(
            routes=event_start_end.routes(channels, lambda _: None), exception_handlers=ERROR_RESPONSES
        )
        OwnerRequests(app, both.owner_node.node)
        assert (await both.post("/live/test/end?key=wrong")).status_code == 401
        answer = await both.post("/live/test/end?key=right")
        assert (answer.status_code, answer.json()) == (202, {"state": "ended", "recording": None})


async def test_an_answer_that_fails_or_is_too_long_is_told(redis_server: RedisServer) -> None:
    async with pair(redis_server) as both:
        both.owner.answer = Response(bytes((64 << 10) + 1))
        assert (await both.post()).status_code == 500
        both.owner.answer = Response(bytes(64 << 10))
        assert len((await both.post()).content) == 64 << 10

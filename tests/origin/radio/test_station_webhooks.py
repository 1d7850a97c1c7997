"""The administrator's own server decides who may listen to a station, and who may send to it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from origin.access.limits import WebhookLimits
from origin.access.webhook import Webhook
from origin.radio.mounts.mount import Mount
from origin.radio.routes import routes
from origin.radio.station_factory import Stations
from origin.radio.station_webhooks import StationWebhooks, UrlAuthentication
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from packager.radio.source_client_station import SourceClientStation
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.permissions import station_access
from tests.ports import kept_port
from tests.radio_server import Feed, Server, mount_options, serving_app
from tests.waiting import until

LIMITS = WebhookLimits(seconds=CLIENT_SECONDS)
AUTH = f"Authorization: Basic {base64.b64encode(b'source:sesame').decode()}"
LISTENER = f"Authorization: Basic {base64.b64encode(b'joe:hush').decode()}"
MPEG = "Content-Type: audio/mpeg"


@dataclass
class Judge:
    """A server that is asked; its answers have the status that is set, or never come."""

    url: str = ""
    status: int = 204
    asked: list[dict[str, str]] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer_form(self, request: Request) -> Response:
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        form = parse_qs((await request.body()).decode(), keep_blank_values=True, strict_parsing=True)
        self.asked.append({key: value for key, (value,) in form.items()})
        return Response(status_code=self.status, headers=self.fields)

    async def answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        if not self.status:
            await self.goes_on.wait()
        return Response(status_code=self.status or 204, headers={"location": "/"})


@asynccontextmanager
async def judged(
    limits: WebhookLimits = LIMITS, url: str = "", *, protected: bool = False
) -> AsyncIterator[tuple[Judge, Feed, Server]]:
    judge, feed = Judge(), Feed()
    async with serving_app(Starlette(routes=[Route("/", judge.answer, methods=["POST"])])) as asked:
        hook = Webhook(url or f"{asked.url}/", limits)
        mounts = {
            "test": Mount("test", feed, mount_options()),
            "sent": Mount("sent", SourceClientStation(128), mount_options()),
        }
        webhooks = StationWebhooks(
            {"test": hook}, {"sent": hook}, frozenset({"test"}) if protected else frozenset()
        )
        found = routes(
            Stations(mounts, passwords={"sent": "sesame"}),
            station_access(mounts, {"sent": "sesame"}, ADMIN_TOKEN),
            webhooks=webhooks,
        )
        async with serving_app(
            Starlette(routes=found, exception_handlers=ERROR_RESPONSES), mounts.values()
        ) as server:
            feed.push()
            yield judge, feed, server
            judge.goes_on.set()


@pytest.mark.parametrize(("status", "answer"), [(204, 200), (403, 403), (500, 403), (302, 403)])
async def test_it_allows_and_denies(status: int, answer: int) -> None:
    async with judged() as (judge, _, server):
        judge.status = status
        listener = await server.open(LISTENER, "User-Agent: VLC", path="/radio/test?token=7")
        assert listener.status == answer
        assert (await server.open(AUTH, MPEG, method="SOURCE", path="/radio/sent")).status == answer
        assert judge.asked == [
            {
                "action": "listen",
                "station": "test",
                "address": "127.0.0.1",
                "agent": "VLC",
                "user": "joe",
                "password": "hush",
                "query": "token=7",
            },
            {"action": "publish", "station": "sent", "address": "127.0.0.1", "agent": ""},
        ]


async def test_it_isnt_asked_about_whom_the_server_refuses_and_isnt_told_the_servers_passwords() -> None:
    async with judged(protected=True) as (judge, _, server):
        assert (await server.open(MPEG, method="PUT", path="/radio/sent")).status == 401
        assert judge.asked == []
        assert (await server.open(LISTENER, path="/radio/test?key=hush")).status == 200
        assert "hush" not in str(judge.asked)


@asynccontextmanager
async def authenticated_by_url(
    limits: WebhookLimits = LIMITS, url: str = ""
) -> AsyncIterator[tuple[Judge, Server, Mount]]:
    """Serve a station whose listeners an Icecast's URL authentication decides about."""
    judge, feed = Judge(status=200), Feed()
    async with serving_app(Starlette(routes=[Route("/", judge.answer_form, methods=["POST"])])) as asked:
        hook = Webhook(url or f"{asked.url}/", limits)
        mount = Mount("test", feed, mount_options())
        webhooks = StationWebhooks(
            url_authentication=UrlAuthentication({"test": hook}, {"test": hook}, limits)
        )
        found = routes(
            Stations({"test": mount}), station_access({"test": mount}, admin=ADMIN_TOKEN), webhooks=webhooks
        )
        async with serving_app(
            Starlette(routes=found, exception_handlers=ERROR_RESPONSES), [mount]
        ) as server:
            feed.push()
            yield judge, server, mount


async def test_an_icecasts_url_authentication_is_asked_and_told_as_icecast_does_it() -> None:
    async with authenticated_by_url() as (judge, server, mount):
        judge.fields = {"Icecast-Auth-User": "1"}
        listener = await server.open(LISTENER, "User-Agent: VLC/3 & co", path="/radio/test?token=7")
        assert listener.status == 200
        await until(lambda: mount.listeners == 1)
        (present,) = mount.present
        told = {
            "server": "radio.example",
            "port": str(server.port),
            "client": str(present.number),
            "mount": "/radio/test?token=7",
            "user": "joe",
            "pass": "hush",
            "ip": "127.0.0.1",
            "agent": "VLC/3 & co",
        }
        assert judge.asked == [{"action": "listener_add", **told}]
        assert mount.dismiss(str(present.number))
        await until(lambda: len(judge.asked) == 2, "the report")
        assert judge.asked[1] == {"action": "listener_remove", **told, "duration": judge.asked[1]["duration"]}
        assert int(judge.asked[1]["duration"]) < CLIENT_SECONDS


@pytest.mark.parametrize("fields", [{}, {"icecast-auth-user": "0"}, {"icecast-auth-user": "10"}])
async def test_without_icecasts_field_nobody_listens_and_the_message_is_told(fields: dict[str, str]) -> None:
    async with authenticated_by_url() as (judge, server, mount):
        judge.fields = {**fields, "icecast-auth-message": "no <credit> " + "x" * 1000}
        refused = await server.open()
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
        assert (await server.open(method="HEAD")).status == 200
        # Who wasn't let in isn't reported; and the status alone lets nobody in, or keeps anybody out.
        judge.fields, judge.status = {"icecast-auth-user": "1"}, 404
        assert (await server.open()).status == 200
        assert [one["action"] for one in judge.asked] == ["listener_add"] * 2
        assert len({one["client"] for one in judge.asked}) == 2
        await until(lambda: mount.listeners == 1)


async def test_a_listener_is_disconnected_after_icecasts_time_limit() -> None:
    async with authenticated_by_url() as (judge, server, mount):
        judge.fields = {"icecast-auth-user": "1", "icecast-auth-timelimit": "1"}
        assert (await server.open()).status == 200
        await until(lambda: mount.listeners == 1)
        await until(lambda: len(judge.asked) == 2, "the report")
        assert mount.listeners == 0
        assert int(judge.asked[1]["duration"]) >= 1


async def test_an_unreachable_url_authentication_lets_nobody_in() -> None:
    with kept_port() as nobody:
        async with authenticated_by_url(url=f"http://127.0.0.1:{nobody}/") as (_, server, mount):
            refused = await server.open()
            assert (refused.status, refused.headers["retry-after"]) == (503, "10")
            assert mount.listeners == 0


async def test_nobody_is_let_in_where_it_cant_be_asked() -> None:
    with kept_port() as nobody:
        async with judged(url=f"http://127.0.0.1:{nobody}/") as (_, _, server):
            refused = await server.open()
            assert (refused.status, refused.headers["retry-after"]) == (503, "10")
            assert (await server.open(AUTH, MPEG, method="PUT", path="/radio/sent")).status == 503


async def test_it_is_waited_for_in_limited_time_and_by_few() -> None:
    async with judged(WebhookLimits(seconds=0.2)) as (judge, _, server):
        judge.status = 0
        assert (await server.open()).status == 503
    async with judged(WebhookLimits(seconds=CLIENT_SECONDS, requests=1)) as (judge, _, server):
        judge.status = 0
        waiting = asyncio.create_task(server.open())
        await until(lambda: bool(judge.asked), "the first question")
        assert (await server.open()).status == 503
        judge.goes_on.set()
        assert (await waiting).status == 200


async def test_who_leaves_takes_up_nothing_of_what_it_is_asked_at_once() -> None:
    async with judged(WebhookLimits(seconds=CLIENT_SECONDS, requests=1)) as (judge, _, server):
        judge.status = 0
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /radio/test HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: len(judge.asked) == 1, "the question about who leaves")
        assert (await server.open()).status == 503
        writer.close()
        await writer.wait_closed()

        async def is_asked() -> bool:
            asking = asyncio.create_task(server.open())
            await until(lambda: asking.done() or len(judge.asked) > 1, "an answer or a question")
            if len(judge.asked) > 1:
                judge.goes_on.set()
            return (await asking).status == 200

        async with asyncio.timeout(CLIENT_SECONDS):
            while not await is_asked():
                pass

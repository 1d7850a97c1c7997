"""Who may listen, and how many: listeners' passwords, signed addresses, the limit of all stations."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json

import pytest
from starlette.requests import Request
from starlette.types import Message

from origin.access.authentication import Authenticator, client_address
from origin.config.options import Config, RadioOptions
from origin.radio.connection_totals import ConnectionCounts
from origin.radio.mounts.mount import Mount
from origin.radio.routes import ListenerEndpoint
from origin.radio.station_factory import StationMaker, make_stations
from packager.process.ffmpeg_discovery import Tools
from tests.keys import BEARER_LINE
from tests.permissions import station_access
from tests.radio_server import FRAME_BYTES, Feed, mount_options, numbers, one_mount, serving
from tests.waiting import until

PASSWORD = "sésame&?"
LOCKED = mount_options(listener_password=PASSWORD)
PATH = "/radio/test"


def basic(credentials: str) -> str:
    return f"Authorization: Basic {base64.b64encode(credentials.encode()).decode()}"


def signed(expires: int, path: str = PATH, password: str = PASSWORD) -> str:
    """As docs/radio.md says it: HMAC-SHA256 of the path and the time, in hexadecimal."""
    text = f"{path}?expires={expires}"
    return (
        f"{PATH}?expires={expires}&signature={hmac.digest(password.encode(), text.encode(), 'sha256').hex()}"
    )


LATER = 4_000_000_000
PAST = 1_000_000_000


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (PATH, [basic(f"anybody:{PASSWORD}")]),
        (PATH, [basic(f":{PASSWORD}")]),
        (f"{PATH}?key=s%C3%A9same%26%3F", []),
        (signed(LATER), []),
        (f"{signed(LATER)}&listener=abc", []),
    ],
)
async def test_who_knows_the_password_or_has_a_signed_address_listens(path: str, fields: list[str]) -> None:
    async with one_mount(LOCKED) as (feed, mount, server):
        feed.push(3)
        await feed.settled()
        listener = await server.open(*fields, path=path)
        assert listener.status == 200
        assert numbers(await listener.body(3 * FRAME_BYTES)) == [0, 1, 2]
        assert mount.listeners == 1


@pytest.mark.clause("A signed address lets in until its time, and nobody else")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (PATH, []),
        (PATH, [basic("anybody:wrong")]),
        (PATH, [basic(PASSWORD)]),
        (PATH, ["Authorization: Basic %%%"]),
        (PATH, [f"Authorization: Bearer {'x' * 10}"]),
        (f"{PATH}?key=", []),
        (signed(PAST), []),
        (signed(LATER, path="/radio/other"), []),
        (signed(LATER, password="wrong"), []),
        (signed(LATER).replace(str(LATER), str(LATER + 1), 1), []),
        (signed(LATER).replace("expires=", "expires=%2B", 1), []),
        (f"{PATH}?expires={'9' * 40}&signature=00", []),
        (f"{PATH}?expires=%D9%A1&signature={'0' * 64}", []),
    ],
)
async def test_anybody_else_is_asked_for_the_password(path: str, fields: list[str], method: str) -> None:
    async with one_mount(LOCKED) as (_, mount, server):
        refused = await server.open(*fields, path=path, method=method)
        # RFC 9110 §15.5.2: with a challenge
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        assert refused.headers["cache-control"] == "no-store"
        assert mount.listeners == 0


async def test_beyond_the_limit_of_all_stations_together_listeners_get_503() -> None:
    mounts = {name: Mount(name, Feed(), mount_options()) for name in ("one", "two")}
    async with serving(mounts, max_listeners=2) as server:
        clients = [await server.open(path=f"/radio/{name}") for name in mounts]
        await until(lambda: all(mount.listeners == 1 for mount in mounts.values()))
        assert (await server.open(path="/radio/one")).status == 503
        await clients[1].close()
        await until(lambda: mounts["two"].listeners == 0)
        assert (await server.open(path="/radio/one")).status == 200


TOLD = ["/events/radio/test", "/radio/test.m3u", "/radio/test.xspf"]
"""What tells a station's titles, or where it is heard."""


@pytest.mark.clause("A signed address lets in until its time, and nobody else")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", TOLD)
async def test_what_is_told_of_a_station_needs_what_its_sound_needs(path: str, method: str) -> None:
    async with one_mount(LOCKED) as (feed, mount, server):
        feed.push(3, "Secret title")
        await until(lambda: mount.title == "Secret title")
        for target, fields in (
            (path, []),
            (path, [basic("anybody:wrong")]),
            (f"{path}?key=wrong", []),
            (f"{path}?listener=abcdefgh", []),
            # Signed for something else.
            (signed(LATER, path=path).replace(PATH, path), []),
        ):
            refused = await server.open(*fields, path=target, method=method)
            assert refused.status == 401, target
            assert refused.headers["www-authenticate"].startswith("Basic realm=")
            assert refused.headers["cache-control"] == "no-store"
        assert mount.now.channel.readers == 0
        for target, fields in (
            (path, [basic(f"anybody:{PASSWORD}")]),
            (f"{path}?key=s%C3%A9same%26%3F", []),
            (signed(LATER).replace(PATH, path), []),
            (path, [BEARER_LINE]),
        ):
            assert (await server.open(*fields, path=target, method=method)).status == 200, target


async def test_a_playlist_has_the_key_of_who_asked_for_it_and_no_other() -> None:
    async with one_mount(LOCKED) as (_, _, server):
        for query, fields in (
            ("?key=s%C3%A9same%26%3F", []),
            (signed(LATER).removeprefix(PATH), []),
            ("", [basic(f"anybody:{PASSWORD}")]),
        ):
            answer = await server.open("Connection: close", *fields, path=f"/radio/test.m3u{query}")
            text = (await answer.reader.read()).decode()
            assert text.splitlines()[-1] == f"http://radio.example/radio/test{query}"
            assert answer.headers["cache-control"] == "no-store"


async def test_the_status_lists_a_station_for_those_alone_who_may_hear_it() -> None:
    feeds = {name: Feed() for name in ("open", "one", "two")}
    mounts = {
        name: Mount(name, feed, mount_options(listener_password="" if name == "open" else name * 3))
        for name, feed in feeds.items()
    }
    async with serving(mounts) as server:
        for name, feed in feeds.items():
            feed.push(3, f"Title of {name}")
        await until(lambda: all(mount.title and mount.state == "live" for mount in mounts.values()))
        one = hmac.digest(b"oneoneone", f"/radio/one?expires={LATER}".encode(), "sha256").hex()
        for query, fields, told in (
            ("", [], {"open"}),
            ("?mount=/radio/one", [], set()),
            ("?key=wrong", [], {"open"}),
            ("?key=oneoneone", [], {"open", "one"}),
            ("?mount=/radio/one&key=oneoneone", [], {"one"}),
            ("?mount=/radio/one&key=twotwotwo", [], set()),
            (f"?expires={LATER}&signature={one}", [], {"open", "one"}),
            ("", ["Authorization: Bearer twotwotwo"], {"open", "two"}),
            # Nor is it a way to try passwords that nothing holds back.
            ("", [basic("listener:twotwotwo")], {"open"}),
            ("?key=oneoneone", [basic("proxy:other")], {"open", "one"}),
            ("", [BEARER_LINE], {"open", "one", "two"}),
        ):
            answer = await server.open("Connection: close", *fields, path=f"/status-json.xsl{query}")
            text = (await answer.reader.read()).decode()
            found = {source["server_name"] for source in json.loads(text)["icestats"]["source"]}
            assert found == told, (query, fields)
            assert {name for name in feeds if f"Title of {name}" in text} == told


async def test_a_key_that_opens_one_station_of_a_list_has_not_failed() -> None:
    """Whoever presents the right one is not to wait because other stations have others."""
    failures: list[tuple[str, bool]] = []

    async def note(request: Request, failed: bool) -> None:
        failures.append((client_address(request), failed))

    mounts = [Mount(name, Feed(), mount_options(listener_password=name * 3)) for name in ("one", "two")]
    scope = {
        "type": "http",
        "query_string": b"key=oneoneone",
        "headers": [],
        "client": ("192.0.2.7", 1),
    }
    access = station_access({one.name: one for one in mounts}, authenticator=Authenticator(note))
    opened = await access.accessible(Request(scope), mounts)
    assert opened == {"one"}
    assert failures == [("192.0.2.7", False)]
    # A browser that knows a password of a proxy in front sends it with each look at a list.
    for_proxy = {**scope, "query_string": b"", "headers": [(b"authorization", b"Basic cHJveHk6b3RoZXI=")]}
    assert await access.accessible(Request(for_proxy), mounts) == frozenset()
    assert len(failures) == 1


async def test_a_listener_is_disconnected_when_its_time_is_over() -> None:
    now, options = 1000.0, mount_options(listener_seconds=3600, hold_seconds=1e9)
    async with one_mount(options, clock=lambda: now) as (feed, mount, server):
        feed.push(3)
        await feed.settled()
        first = await server.open()
        await until(lambda: mount.listeners == 1)
        now += 1800
        feed.push(3)
        await feed.settled()
        second = await server.open()
        await until(lambda: mount.listeners == 2)
        assert numbers(await first.body(6 * FRAME_BYTES)) == [0, 1, 2, 3, 4, 5]
        now += 1801
        # RFC 9112 §7.1: the last chunk says that this was all.
        assert await first.chunk() == b""
        await until(lambda: mount.listeners == 1, "the end of the first alone")
        assert numbers(await second.body(6 * FRAME_BYTES)) == [0, 1, 2, 3, 4, 5]


def test_limits_of_a_station_are_configured(tools: Tools) -> None:
    station = RadioOptions(name="one", source="publish", max_listeners=7, max_listener_duration="90m")
    config = Config(radio=(station, RadioOptions(name="two", source="publish")))
    mounts = make_stations(config, StationMaker(tools, lambda _: None)).mounts
    one, two = (mounts[name].options for name in ("one", "two"))
    assert (one.max_listeners, one.listener_seconds) == (7, 5400)
    assert (two.max_listeners, two.listener_seconds) == (config.limits.listeners, 0)


async def test_listeners_whose_heads_are_still_sent_have_places() -> None:
    """Many come at once where a network is slow: each waits within the same check of the limit."""
    mounts = {name: Mount(name, Feed(), mount_options(max_listeners=2)) for name in ("one", "two")}
    endpoint = ListenerEndpoint(mounts, station_access(mounts), ConnectionCounts(), max_listeners=3)
    begun, statuses = asyncio.Event(), list[int]()

    async def listen(name: str) -> None:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                await begun.wait()

        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/radio/{name}",
            "path_params": {"name": name},
            "query_string": b"",
            "headers": [],
            "client": ("203.0.113.7", 1),
            "extensions": {},
        }
        await endpoint(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request"}

    async with asyncio.TaskGroup() as group:
        for name in ("one", "one", "one", "two", "two"):
            group.create_task(listen(name))
        await until(lambda: len(statuses) == 5)
        begun.set()
    assert statuses == [200, 200, 503, 200, 503]

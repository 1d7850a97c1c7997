"""Which readers of event channels and listeners of stations a worker answers, and who is handed over."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette

from origin.config.limit_options import LimitOptions
from origin.config.options import Config, EventOptions, LogOptions, RadioOptions
from origin.events.channel import EventChannel
from origin.events.channel_replication import ServedEventLog
from origin.events.limits import ChannelLimits
from origin.http.client_limits import ClientLimits
from origin.radio.mounts.icy_headers import StationDescription
from origin.radio.mounts.mount_entries import StationFacts
from origin.radio.mounts.mount_replication import StationSnapshotBegin
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from origin.server.services.limits import Limits
from origin.workers.event_channel_readers import WorkerEventChannels
from origin.workers.stations import WorkerStations
from packager.replication.log_entries import SnapshotEnd

WEBSOCKET = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def scope(path: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    path, _, query = path.partition("?")
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": fields,
    }


def event_channels(readers: int = 0) -> WorkerEventChannels:
    """A worker's channel ``news`` with one event, and with so many readers in other processes."""
    made = EventChannel("news", "e1", ChannelLimits())
    made.publish_text("one")
    made.readers_elsewhere["another worker"] = readers
    config = Config(
        events=(EventOptions(name="news"),), limits=LimitOptions(event_readers=10, all_event_readers=20)
    )
    channels = WorkerEventChannels(config, Limits(), lambda _: None)
    served, followed = ServedEventLog(made), channels.follow("news")
    for entry in served.snapshot():
        followed.fold(followed.read(served.encode(entry))[1])
    followed.offer()
    return channels


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/events/news", {}),
        ("/events/news", {"method": "HEAD"}),
        ("/events/news?since=e1-1&wait=10", {}),
        ("/events/news", {"last_event_id": "e1-0"}),
        ("/events/news", {"last_event_id": "other-99"}),
        ("/events/news", {"authorization": "Bearer what anybody may read"}),
    ],
)
async def test_a_worker_answers_who_reads_what_it_has(path: str, options: dict[str, str]) -> None:
    assert event_channels().is_answered(scope(path, **options), upgrading=False)


async def test_who_was_let_in_is_not_refused_for_readers_that_a_worker_is_told_of_meanwhile() -> None:
    channels = event_channels(readers=10)
    assert not channels.is_answered(scope("/events/news"), upgrading=False)
    transport = ASGITransport(
        Starlette(routes=channels.routes(ClientLimits()), exception_handlers=ERROR_RESPONSES)
    )
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/events/news?since=e1-0", headers={"Accept": "application/json"})
    assert [one["data"] for one in answer.json()] == ["one"]


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/events/other", {}),
        ("/events/radio/news", {}),
        ("/events/news", {"method": "POST"}),
        # Another process has had events that aren't here yet.
        ("/events/news", {"last_event_id": "e1-2"}),
        ("/events/news?since=e1-2", {}),
    ],
)
async def test_others_are_handed_over(path: str, options: dict[str, str]) -> None:
    assert not event_channels().is_answered(scope(path, **options), upgrading=False)


@pytest.mark.parametrize(
    ("query", "options", "is_answered"),
    [
        ("", {}, True),
        ("?since=e1-1", {}, True),
        ("?since=e1-2", {}, False),
        ("?key=may-publish", {}, False),
        ("?expires=1&signature=ab", {}, False),
        ("", {"authorization": "Bearer may-publish"}, False),
        ("", {"upgrade": "h2c"}, False),
    ],
)
async def test_a_worker_opens_the_websockets_of_who_only_reads(
    query: str, options: dict[str, str], is_answered: bool
) -> None:
    asked = scope(f"/events/news{query}", **{**WEBSOCKET, **options})
    assert event_channels().is_answered(asked, upgrading=True) is is_answered


@pytest.mark.parametrize(("readers", "is_answered"), [(9, True), (10, False)])
async def test_who_may_find_no_room_is_told_so_by_the_process_that_counts(
    readers: int, is_answered: bool
) -> None:
    assert event_channels(readers).is_answered(scope("/events/news"), upgrading=False) is is_answered


def stations(facts: StationFacts | None, config: Config) -> WorkerStations:
    """A worker's station ``one``, as the process that makes it has told."""
    found = WorkerStations(1, config, Limits(), lambda _: None)
    followed = found.follow("one")
    followed.fold(StationSnapshotBegin(0))
    if facts is not None:
        followed.fold(facts)
    followed.fold(SnapshotEnd())
    followed.offer()
    return found


DESCRIPTION = StationDescription("One", "various", "", "One", False)
PUBLISHED = {"name": "one", "source": "publish", "source_password": "sesame", "aliases": ("/morning",)}


def station_facts(*, is_live: bool = True, listeners: int = 0) -> StationFacts:
    return StationFacts(is_live, "audio/mpeg", DESCRIPTION, 128, False, listeners)


def configured(access: str = "", **options: Any) -> Config:
    limits = LimitOptions(listeners=10, all_listeners=20)
    radio = (RadioOptions(**{**PUBLISHED, **options}),)
    return Config(radio=radio, limits=limits, log=LogOptions(access=access))


@pytest.mark.parametrize("path", ["/radio/one", "/morning", "/radio/one?listener=abcdefgh"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_worker_answers_listeners_of_what_sounds(path: str, method: str) -> None:
    found = stations(station_facts(listeners=9), configured())
    assert found.is_address(path.partition("?")[0])
    assert found.is_answered(scope(path, method))


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        (None, {}),
        (station_facts(is_live=False), {}),
        (station_facts(listeners=10), {}),
        (station_facts(listeners=3), {"max_listeners": 3}),
        (station_facts(), {"listener_password": "hush"}),
        (station_facts(), {"listener_webhook": "http://127.0.0.1/"}),
        (station_facts(), {"source": "relay", "on_demand": True}),
        (station_facts(), {"access": "access.log"}),
    ],
)
async def test_listeners_whom_the_worker_may_not_let_in_are_handed_over(
    facts: StationFacts | None, options: dict[str, Any]
) -> None:
    assert not stations(facts, configured(**options)).is_answered(scope("/radio/one"))


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/radio/one"), ("SOURCE", "/radio/one"), ("GET", "/radio/one.m3u")]
)
async def test_sources_and_playlists_are_handed_over(method: str, path: str) -> None:
    assert not stations(station_facts(), configured()).is_answered(scope(path, method))

"""Workers serve the readers of event channels: the same events and ids as the process that publishes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx import AsyncClient
from websockets.asyncio.client import connect

from tests.conftest import ServerProcess
from tests.origin.workers.asking import asked, metric, ready, workers_of
from tests.origin.workers.conftest import started
from tests.waiting import wait_for

LIMIT = 120.0
MORE = """
[[events]]
name = "protected"
publish_token = "token"
read_key = "a-read-key-000000"

[limits]
event_readers = 12
"""


@pytest.fixture(scope="module")
def two(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = started(tmp_path_factory.mktemp("two"), library, 2, MORE)
    yield server
    assert server.stop() == 0


def publish(server: ServerProcess, text: str) -> str:
    """Publish an event; give its id."""
    headers = {"Authorization": "Bearer token", "Content-Type": "text/plain"}
    request = urllib.request.Request(f"{server.url}/events/news", text.encode(), headers)
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        identity: str = json.load(answer)["ids"][0]
        return identity


def readers(server: ServerProcess) -> int:
    """Tell how many readers the list of channels names."""
    found = json.loads(asked(server, "/api/events"))
    count: int = next(one["readers"] for one in found if one["name"] == "news")
    return count


def handed_over(server: ServerProcess) -> float:
    return metric(server, "headwater_handed_over_connections_total")


def is_refused(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=LIMIT):
            return False
    except urllib.error.HTTPError as error:
        return error.code == 503


async def read_until(client: AsyncClient, url: str, wanted: str, **options: str) -> list[tuple[str, str]]:
    """Read an event stream until an event has the text; give ids and texts, and leave."""
    got: list[tuple[str, str]] = []
    identity = ""
    headers = {"Accept": "text/event-stream", **options}
    async with client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                identity = value
            elif name == "data":
                got.append((identity, value))
                if value == wanted:
                    return got
    raise AssertionError(got)


async def test_readers_of_all_ways_have_the_same_ids_in_workers_and_resume_in_any(two: ServerProcess) -> None:
    first = await asyncio.to_thread(publish, two, "one")
    url = f"{two.url}/events/news"
    async with AsyncClient(timeout=LIMIT) as client:
        streams = await asyncio.gather(*(read_until(client, url, "one") for _ in range(4)))
        assert {one[-1] for one in streams} == {(first, "one")}
        reading = [asyncio.create_task(read_until(client, url, "three")) for _ in range(4)]
        poll = {"Accept": "application/json"}
        waiting = asyncio.create_task(client.get(f"{url}?since={first}&wait=100", headers=poll))
        async with connect(f"{url.replace('http', 'ws')}?since={first}") as socket:
            await asyncio.to_thread(wait_for, lambda: readers(two) == 6, "the reports of both")
            second = await asyncio.to_thread(publish, two, "two")
            assert json.loads(await socket.recv()) == {"id": second, "event": "message", "data": "two"}
            (polled,) = (await waiting).json()
            assert polled == {"id": second, "event": "message", "data": "two"}
            third = await asyncio.to_thread(publish, two, "three")
            for got in await asyncio.gather(*reading):
                assert got[-3:] == [(first, "one"), (second, "two"), (third, "three")]
        # A reader that comes again has what it missed, whichever process it had the rest from.
        handed = handed_over(two)
        for _ in range(4):
            again = await read_until(client, url, "three", **{"Last-Event-ID": first})
            assert again == [(second, "two"), (third, "three")]
            answer = await client.get(f"{url}?since={second}", headers=poll)
            assert [one["id"] for one in answer.json()] == [third]
            assert (await client.get(f"{url}?since={third}", headers=poll)).status_code == 204
        assert handed_over(two) == handed + 1, "only what was asked here"
    await asyncio.to_thread(wait_for, lambda: readers(two) == 0, "their end")
    assert metric(two, 'headwater_events_published_total{channel="news"}') >= 3
    assert metric(two, 'headwater_events_resumed_total{channel="news"}') >= 8


def test_who_needs_a_key_is_answered_by_the_started_process(two: ServerProcess) -> None:
    before = handed_over(two)
    request = urllib.request.Request(
        f"{two.url}/events/protected?since=",
        headers={"Authorization": "Bearer a-read-key-000000", "Accept": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        assert answer.status == 204
    assert handed_over(two) > before


async def test_a_reader_whose_worker_is_killed_misses_nothing(two: ServerProcess) -> None:
    url = f"{two.url}/events/news"
    async with AsyncClient(timeout=LIMIT) as client:
        last = await asyncio.to_thread(publish, two, "before")
        opened = []
        for _ in range(6):
            options = {"Accept": "text/event-stream", "Last-Event-ID": last}
            opened.append(await client.send(client.build_request("GET", url, headers=options), stream=True))
        os.kill(workers_of(two)[0], signal.SIGKILL)
        wanted = await asyncio.to_thread(publish, two, "meanwhile")
        again = await asyncio.gather(
            *(read_until(client, url, "meanwhile", **{"Last-Event-ID": last}) for _ in range(4))
        )
        assert again == [[(wanted, "meanwhile")]] * 4
        for one in opened:
            await one.aclose()
    await asyncio.to_thread(ready, two, 2)
    wait_for(lambda: readers(two) == 0, "their end")


@pytest.mark.promise("limits.event_readers")
async def test_more_readers_than_may_be_are_refused_whichever_worker_they_ask(two: ServerProcess) -> None:
    url = f"{two.url}/events/news"
    async with AsyncClient(timeout=LIMIT) as client:
        opened = []
        for _ in range(12):
            request = client.build_request("GET", url, headers={"Accept": "text/event-stream"})
            opened.append(await client.send(request, stream=True))
        assert {one.status_code for one in opened} == {200}
        await asyncio.to_thread(wait_for, lambda: readers(two) == 12, "the reports of both")

        await asyncio.to_thread(wait_for, lambda: is_refused(url), "what the workers are told")
        for one in opened:
            await one.aclose()
    await asyncio.to_thread(wait_for, lambda: readers(two) == 0, "their end")

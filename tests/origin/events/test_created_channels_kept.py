"""Event channels that are made at run time: their limits, their rest, and what survives a restart."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from random import Random

import httpx
import pytest
from starlette.requests import Request

from origin.access.authorization import Action, NamedResource, ResourceKind
from origin.events.channel_keys import ChannelKeys
from origin.events.limits import EventLimits
from tests.created_channels import (
    ADMIN,
    Setting,
    bearer,
    serving,
)
from tests.event_server import LIMIT
from tests.permissions import event_authorization
from tests.waiting import until


async def test_no_more_channels_are_made_than_there_is_room_for_but_idle_ones_go() -> None:
    async with serving(EventLimits(created_channels=3)) as server:
        await server.made(name="kept")
        await server.made(name="young", keep_for="1h")
        await server.made(name="old", keep_for=0.001)
        await until(lambda: time.time() > server.created.get("old").used + 0.001)  # type: ignore[union-attr]
        assert (await server.create(name="new")).status_code == 201
        # Nobody may ask for its ids any more.
        assert (await server.request("GET", "/events/old")).status_code == 404
        refused = await server.create(name="newer")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        assert len(server.created) == 3


async def test_events_of_all_channels_take_no_more_memory_than_allowed() -> None:
    async with serving(EventLimits(created_bytes=100_000, created_beat_seconds=0.01)) as server:
        made = [await server.made(name=f"room/{number}") for number in range(2)]
        statuses: list[int] = []
        for number in range(8):
            name = made[number % 2]
            statuses.append(
                (await server.publish(name["name"], name["publish_token"], "x" * 30_000)).status_code
            )
        assert statuses == [200] * 4 + [429] * 4
        await server.request("DELETE", "/events/room/0")
        await until(lambda: server.created.open.event_bytes < 100_000)
        assert (await server.publish("room/1", made[1]["publish_token"])).status_code == 200


async def test_channels_with_the_same_token_are_all_readable_with_it() -> None:
    keys = dict.fromkeys(("a", "b"), ChannelKeys(publish_token="one-token-of-both", read_key="read-0"))
    channels = [NamedResource(ResourceKind.EVENTS, name) for name in keys]
    field = (b"authorization", b"Bearer one-token-of-both")
    scope = {"type": "http", "headers": [field], "query_string": b"", "client": None}
    assert [
        *await event_authorization(keys.get).permissions(Request(scope), Action.READ, channels)
    ] == channels


async def test_readers_come_again_to_the_next_server() -> None:
    async with serving() as server, httpx.AsyncClient(timeout=LIMIT) as client:
        made = await server.made(name="talk")
        await server.publish("talk", made["publish_token"])
        reader = bearer(made["read_token"]) | {"accept": "text/event-stream"}
        server.created.close()
        # A stream that ends, which EventSource opens again; not 410, by which it gives up.
        answer = await client.get(made["url"], headers=reader)
        assert answer.status_code == 200
        assert (await server.publish("talk", made["publish_token"])).status_code == 503


async def test_an_idle_channel_is_packed_and_its_readers_miss_nothing() -> None:
    async with serving(EventLimits(created_idle_seconds=0.0, created_beat_seconds=0.01)) as server:
        made = await server.made(name="talk", keep=2)
        for text in ("one", "two", "three"):
            answer = await server.publish("talk", made["publish_token"], text)
            await until(lambda: not server.created.open)
        last = answer.json()["ids"][0]
        assert await server.texts("talk", made["read_token"]) == ["two", "three"]
        await until(lambda: not server.created.open)
        assert await server.texts("talk", made["read_token"], last) == []
        first = last.replace("-3", "-1")
        reset = await server.request(
            "GET", f"/events/talk?since={last.replace('-3', '-0')}", bearer(made["read_token"])
        )
        assert json.loads(reset.json()[0]["data"]) == {"reason": "expired", "lost": 1}
        assert await server.texts("talk", made["read_token"], first) == ["two", "three"]


async def test_events_that_are_too_old_are_deleted_of_an_idle_channel_too() -> None:
    async with serving(EventLimits(created_idle_seconds=0.0, created_beat_seconds=0.01)) as server:
        made = await server.made(name="talk", keep_for=1)
        await server.publish("talk", made["publish_token"], "secret " * 50)
        await until(lambda: not server.created.open)
        packed = server.created.open.event_bytes
        assert packed > 350
        await until(lambda: not server.created.open and server.created.open.event_bytes < packed - 350)


async def test_channels_survive_a_restart_with_tokens_and_ends_and_deleted_ones_stay_gone(
    tmp_path: Path,
) -> None:
    setting = Setting(tmp_path / "channels")
    async with serving(setting=setting) as server:
        made = [await server.made(name=name, keep=9) for name in ("a/b", "gone", "short")]
        await server.request("PATCH", "/events/a/b", json={"keep": 4})
        await server.request("DELETE", "/events/gone")
        await server.request("PATCH", "/events/short", json={"expires": time.time() + 0.5})
    written = (tmp_path / "channels" / "channels.jsonl").read_bytes()
    assert not any(one[key].encode() in written for one in made for key in ("read_token", "publish_token"))
    assert (tmp_path / "channels" / "channels.jsonl").stat().st_mode & 0o077 == 0
    async with serving(setting=setting) as server:
        assert (await server.request("GET", "/events/a/b")).json()["keep"] == 4
        assert (await server.publish("a/b", made[0]["publish_token"])).status_code == 200
        assert await server.texts("a/b", made[0]["read_token"]) == ["hello"]
        assert (await server.request("GET", "/events/gone")).status_code == 410
        await until(lambda: server.created.is_gone("short"))
    # A killed server leaves half a line, and more lines come behind what was whole.
    with (tmp_path / "channels" / "channels.jsonl").open("ab") as file:
        file.write(b'{"type":"made","name":"ha')
    async with serving(setting=setting) as server:
        # A busy disk takes longer than a server waits for its channels.
        await until(lambda: server.created.is_ready)
        assert [len(server.created), (await server.create(name="new")).status_code] == [1, 201]
    async with serving(setting=setting) as server:
        assert [
            (await server.request("GET", f"/events/{name}")).status_code for name in ("a/b", "new", "ha")
        ] == [
            200,
            200,
            404,
        ]


@pytest.mark.parametrize("is_stored", [False, True])
async def test_races_of_all_requests_for_a_name_end_well(tmp_path: Path, is_stored: bool) -> None:
    setting = Setting(tmp_path / "channels") if is_stored else Setting()
    limits = EventLimits(
        created_idle_seconds=0.0, created_beat_seconds=0.001, created_channels=4, per_creator=3
    )
    allowed = {
        "POST /events": {201, 409, 429},
        "DELETE": {204, 404, 410},
        "PATCH": {200, 404, 410},
        "POST": {200, 404, 410},
        "GET": {200, 204, 404, 410},
    }
    # A connection of each request's own: the server closes one that is idle while the disk is busy.
    own = httpx.Limits(max_keepalive_connections=0)
    async with serving(limits, setting) as server, httpx.AsyncClient(timeout=LIMIT, limits=own) as client:
        odd = Random(7)

        async def act(number: int) -> None:
            name = f"{server.url}/events/{odd.choice('ab')}"
            kind = odd.choice(sorted(allowed))
            body = {"name": name[-1], "history": "1h" if is_stored and odd.random() < 0.5 else 0}
            match kind:
                case "POST /events":
                    answer = await client.post(f"{server.url}/events", headers=ADMIN, json=body)
                case "POST":
                    fields = ADMIN | {"content-type": "text/plain"}
                    answer = await client.post(name, headers=fields, content=str(number))
                case "GET":
                    query = {"since": "", "wait": odd.choice(["0", "0.01"])}
                    answer = await client.get(name, headers=ADMIN, params=query)
                case "PATCH":
                    answer = await client.patch(name, headers=ADMIN, json={"keep": 2})
                case _:
                    answer = await client.delete(name, headers=ADMIN)
            assert answer.status_code in allowed[kind], (kind, answer.text)

        for turn in range(25):
            await asyncio.gather(*(act(turn * 20 + number) for number in range(20)))
        for name in "ab":
            await server.request("DELETE", f"/events/{name}")
        await until(lambda: not server.created.open)
        assert (len(server.created), server.created.open.readers, server.created.open.event_bytes) == (
            0,
            0,
            0,
        )

"""Event channels that are made at run time: their names, tokens, states, ends and limits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import jwt
import pytest
from httpx_sse import aconnect_sse

from origin.events.created.creation_rate import ADDRESSES, CHANNELS, CreationRate
from origin.events.limits import EventLimits
from tests.created_channels import (
    ADMIN,
    JWT_SECRET,
    ROOM_TOKEN,
    bearer,
    serving,
)
from tests.event_server import LIMIT
from tests.waiting import until


def web_token(*create: str, **claims: Any) -> str:
    told = {"exp": int(time.time()) + 3600, "sub": "anna", "create": list(create)} | claims
    return jwt.encode(told, JWT_SECRET, "HS256")


async def test_a_channel_that_is_made_is_published_to_and_read_with_its_own_tokens() -> None:
    async with serving() as server:
        answer = await server.create(name="talk", keep=2)
        made = answer.json()
        assert (answer.status_code, set(made)) == (201, {"name", "url", "read_token", "publish_token"})
        assert answer.headers["location"] == "/events/talk"
        assert made["url"] == f"{server.url}/events/talk"
        for text in ("one", "two", "three"):
            assert (await server.publish("talk", made["publish_token"], text)).status_code == 200
        assert await server.texts("talk", made["read_token"]) == ["two", "three"]
        assert (await server.publish("talk", made["read_token"])).status_code == 401
        for token in ("x", "another-token-0000", ROOM_TOKEN):
            assert (await server.request("GET", "/events/talk?since=", bearer(token))).status_code == 401
        assert (
            await server.request("GET", f"/events/talk?since=&key={made['read_token']}", {})
        ).status_code == 200


async def test_a_channel_without_a_wanted_name_has_one_of_128_random_bits() -> None:
    async with serving() as server:
        answer = await server.request("POST", "/events")
        names = [answer.json()["name"]] + [(await server.made(name="room/*"))["name"] for _ in range(3)]
        assert len(set(names)) == 4
        assert all(name.startswith("room/") for name in names[1:])
        # Six bits a character (RFC 4648 §5).
        assert all(len(name.rpartition("/")[2]) * 6 >= 128 for name in names)


async def test_nobody_makes_a_channel_without_the_right_and_nothing_of_the_body_is_read_before() -> None:
    async with serving() as server:
        for headers in ({}, bearer("wrong-token-000000"), bearer(ROOM_TOKEN), bearer(web_token())):
            answer = await server.request("POST", "/events", headers, content=b"{" * 100_000)
            assert answer.status_code == 401
        assert not server.created


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "a/..",
        "../a",
        "a//b",
        "/a",
        "a/",
        "radio/a",
        "a b",
        "ä",
        "a\n",
        "a\0",
        "a" * 65,
        "/".join(["a" * 60] * 3),
        "a/b/c/d/e",
        "*/a",
        "a*",
        "**",
        "a?b",
        "a%2fb",
        "💬",
    ],
)
async def test_a_name_that_would_be_another_address_is_refused(name: str) -> None:
    async with serving() as server:
        assert (await server.create(name=name)).status_code == 400
        assert not server.created


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{",
        "null",
        '{"nam": "a"}',
        '{"keep": 0}',
        '{"keep": 1000001}',
        '{"keep": "3"}',
        '{"keep_for": "3w"}',
        '{"keep_for": -1}',
        '{"keep_for": 1e400}',
        '{"expires": "yesterday"}',
        '{"expires": 5}',
        '{"expires": "2026-11-26T20:14:03"}',
        '{"expires": "1999-11-26T20:14:03Z"}',
        '{"expires": 1e18}',
        '{"history": true}',
        '{"name": 5}',
        '{"name": "\\ud800"}',
        "[" * 4000,
    ],
)
async def test_a_body_that_describes_no_channel_is_refused(body: str) -> None:
    async with serving() as server:
        headers = {**ADMIN, "content-type": "application/json"}
        answer = await server.request("POST", "/events", headers, content=body.encode())
        assert (answer.status_code, len(server.created)) == (400, 0)
        assert answer.text.count("\n") == 1


async def test_a_body_of_another_type_or_of_many_bytes_is_refused() -> None:
    async with serving() as server:
        form = {**ADMIN, "content-type": "text/plain"}
        assert (await server.request("POST", "/events", form, content=b"{}")).status_code == 415
        assert (await server.request("POST", "/events", content=b" " * 5000)).status_code == 413


async def test_a_name_that_exists_is_refused_and_a_deleted_one_is_gone_until_it_is_made_again() -> None:
    async with serving() as server:
        first = await server.made(name="a/b")
        assert (await server.create(name="a/b")).status_code == 409
        assert (await server.create(name="test")).status_code == 409
        assert (await server.request("DELETE", "/events/a/b")).status_code == 204
        for method in ("GET", "POST", "DELETE", "PATCH"):
            assert (await server.request(method, "/events/a/b")).status_code == 410
        second = await server.made(name="a/b")
        assert second["read_token"] != first["read_token"]
        assert (await server.publish("a/b", first["publish_token"])).status_code == 401
        assert (await server.publish("a/b", second["publish_token"])).status_code == 200
        assert (await server.request("GET", "/events/a")).status_code == 404


async def test_the_administrator_is_told_the_state_and_reads_events_where_those_are_named() -> None:
    async with serving() as server:
        made = await server.made(name="talk", keep=7, keep_for="10m", expires="2h")
        await server.publish("talk", made["publish_token"])
        state = (await server.request("GET", "/events/talk")).json()
        assert {key: state[key] for key in ("name", "url", "creator", "keep", "keep_for", "history")} == {
            "name": "talk",
            "url": "/events/talk",
            "creator": "admin",
            "keep": 7,
            "keep_for": 600,
            "history": 0,
        }
        assert abs(state["expires"] - time.time() - 7200) < LIMIT
        assert (state["events"], state["readers"], state["state"]) == (1, 0, "live")
        assert not {"read_token", "publish_token"} & set(state)
        assert await server.texts("talk", ADMIN["authorization"].partition(" ")[2]) == ["hello"]
        # A reader's own token shows events alone.
        json_reader = {**bearer(made["read_token"]), "accept": "application/json"}
        assert (await server.request("GET", "/events/talk", json_reader)).json()[0]["data"] == "hello"
        for method in ("PATCH", "DELETE"):
            assert (await server.request(method, "/events/talk", json_reader)).status_code == 401
            assert (await server.request(method, "/events/test")).status_code == 405


async def test_new_tokens_replace_the_former_ones_and_are_shown_once() -> None:
    async with serving() as server:
        made = await server.made(name="talk")
        await server.publish("talk", made["publish_token"], "one")
        patch = {"new_tokens": ["publish"]}
        assert (
            await server.request("PATCH", "/events/talk", bearer(made["publish_token"]), json=patch)
        ).status_code == 401
        told = (await server.request("PATCH", "/events/talk", json=patch)).json()
        assert "read_token" not in told
        assert (await server.publish("talk", made["publish_token"])).status_code == 401
        assert (await server.publish("talk", told["publish_token"], "two")).status_code == 200
        assert await server.texts("talk", made["read_token"]) == ["one", "two"]
        told = (await server.request("PATCH", "/events/talk", json={"new_tokens": ["read"]})).json()
        assert "publish_token" not in told
        old = await server.request("GET", "/events/talk?since=", bearer(made["read_token"]))
        assert old.status_code == 401
        assert await server.texts("talk", told["read_token"]) == ["one", "two"]
        assert "read_token" not in (await server.request("GET", "/events/talk")).json()
        for wrong in (["admin"], "read", ["read", "read", "read"], [1]):
            answer = await server.request("PATCH", "/events/talk", json={"new_tokens": wrong})
            assert answer.status_code == 400
        assert (await server.create(name="other", new_tokens=["read"])).status_code == 400


async def test_a_changed_channel_keeps_as_many_events_as_it_says() -> None:
    async with serving() as server:
        made = await server.made(name="talk")
        for number in range(5):
            await server.publish("talk", made["publish_token"], str(number))
        answer = await server.request("PATCH", "/events/talk", json={"keep": 2, "expires": 4_000_000_000})
        assert (answer.json()["keep"], answer.json()["expires"]) == (2, 4_000_000_000)
        assert await server.texts("talk", made["read_token"]) == ["3", "4"]
        assert (await server.request("PATCH", "/events/talk", json={"expires": None})).json()[
            "expires"
        ] is None
        assert (await server.request("PATCH", "/events/talk", json={"name": "x"})).status_code == 400


async def test_readers_of_a_deleted_channel_get_its_end_and_publishers_are_told() -> None:
    async with serving() as server, httpx.AsyncClient(timeout=LIMIT) as client:
        made = await server.made(name="talk")
        fields = bearer(made["read_token"])
        async with aconnect_sse(client, "GET", made["url"], headers=bearer(made["read_token"])) as source:
            await until(lambda: [one.channel.readers for one in server.created.open] == [1])
            polling = asyncio.create_task(
                client.get(made["url"], headers=fields, params={"since": "", "wait": "100"})
            )
            await until(lambda: [one.channel.readers for one in server.created.open] == [2])

            async def lines() -> Any:
                yield b'{"data": "last"}\n'
                await until(lambda: server.created.is_gone("talk"))
                yield b'{"data": "too late"}\n'

            headers = {**bearer(made["publish_token"]), "content-type": "application/x-ndjson"}
            publishing = asyncio.create_task(client.post(made["url"], headers=headers, content=lines()))
            assert [one["data"] for one in (await polling).json()] == ["last"]
            assert (await server.request("DELETE", "/events/talk")).status_code == 204
            got = [(one.event, one.data) async for one in source.aiter_sse() if one.data]
            assert got == [("message", "last"), ("end", "{}")]
            answer = await publishing
            assert (answer.status_code, answer.json()["count"]) == (410, 1)
        assert (await client.get(made["url"], headers=fields)).status_code == 410


async def test_a_channel_ends_at_its_time() -> None:
    async with (
        serving(EventLimits(created_beat_seconds=0.01)) as server,
        httpx.AsyncClient(timeout=LIMIT) as client,
    ):
        made = await server.made(name="talk", expires=time.time() + 1)
        async with aconnect_sse(client, "GET", made["url"], headers=bearer(made["read_token"])) as source:
            assert [one.event async for one in source.aiter_sse() if one.data] == ["end"]
        assert (await server.request("GET", "/events/talk")).status_code == 410
        assert not server.created


async def test_the_first_event_makes_a_channel_where_its_template_says_so() -> None:
    async with serving() as server:
        assert (await server.request("GET", "/events/room/1")).status_code == 404
        assert (await server.publish("asked/1", ROOM_TOKEN)).status_code == 404
        assert (await server.publish("room/1", "another-token-0000")).status_code == 401
        assert (await server.publish("room/a/b", ROOM_TOKEN)).status_code == 404
        assert not server.created
        answers = await asyncio.gather(*(server.publish("room/1", ROOM_TOKEN, str(one)) for one in range(5)))
        assert [one.status_code for one in answers] == [200] * 5
        # As many as the template keeps; and everybody may read what has no key.
        assert len((await server.request("GET", "/events/room/1?since=", {})).json()) == 3
        made = await server.made(name="asked/2")
        state = (await server.request("GET", "/events/asked/2")).json()
        assert (state["keep"], state["keep_for"], made["name"]) == (5, 60, "asked/2")
        assert abs(state["expires"] - time.time() - 3600) < LIMIT


async def test_a_web_token_makes_channels_of_its_patterns_and_manages_its_own() -> None:
    async with serving(EventLimits(per_creator=2)) as server:
        anna, ben = bearer(web_token("room/*", "own")), bearer(web_token("*", "room/*", sub="ben"))
        assert (await server.create(anna, name="other/1")).status_code == 403
        assert (await server.create(anna)).status_code == 403
        first = (await server.create(anna, name="room/*")).json()
        assert (await server.create(anna, name="own")).status_code == 201
        refused = await server.create(anna, name="room/2")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        path = f"/events/{first['name']}"
        assert (await server.request("GET", path, anna)).json()["creator"] == "anna"
        assert (await server.request("DELETE", path, ben)).status_code == 401
        for claims in (
            {"exp": int(time.time()) - 60},
            {"nbf": int(time.time()) + 600},
            {"address": "192.0.2.7"},
        ):
            stale = bearer(web_token("room/*", **claims))
            assert (await server.request("DELETE", path, stale)).status_code == 401
            assert (await server.create(stale, name="room/3")).status_code == 401
        assert (await server.request("DELETE", path, anna)).status_code == 204
        assert (await server.create(anna, name="room/2")).status_code == 201


async def test_a_web_token_without_a_name_is_nobody_and_its_channels_are_the_administrators() -> None:
    async with serving(EventLimits(per_creator=2)) as server:
        one, other = (bearer(web_token("room/*", sub="", jti=number)) for number in ("1", "2"))
        for number in range(2):
            assert (await server.create(one, name=f"room/{number}")).status_code == 201
        for token in (one, other):
            for method in ("DELETE", "PATCH"):
                refused = await server.request(method, "/events/room/0", token, json={"new_tokens": ["read"]})
                assert refused.status_code == 401
        # The limit of one isn't that of the other.
        assert (await server.create(one, name="room/2")).status_code == 429
        assert (await server.create(other, name="room/2")).status_code == 201
        assert (await server.request("DELETE", "/events/room/0")).status_code == 204


async def test_a_web_token_reads_a_channel_until_it_expires() -> None:
    async with serving() as server, httpx.AsyncClient(timeout=LIMIT) as client:
        made = await server.made(name="room/1")
        await server.publish("room/1", made["publish_token"])
        other = web_token(paths=["/events/room/2"])
        assert (await server.request("GET", "/events/room/1?since=", bearer(other))).status_code == 401
        # Thirty seconds of leeway are over in one second.
        token = web_token(paths=["/events/room/*"], exp=int(time.time()) - 28)
        async with aconnect_sse(client, "GET", f"{made['url']}?token={token}") as source:
            with pytest.raises(httpx.RemoteProtocolError):
                assert [one.data async for one in source.aiter_sse()] == []
        assert (await server.request("GET", f"/events/room/1?since=&token={token}", {})).status_code == 401


async def test_clients_of_one_address_make_so_many_channels_in_an_hour_whatever_their_tokens() -> None:
    async with serving(EventLimits(per_address=3)) as server:
        for name in ("anna", "ben"):
            maker = bearer(web_token("room/*", sub=name))
            # Deleted ones count: each was written to the disk, and told to others.
            made = await server.create(maker, name=f"room/{name}")
            assert made.status_code == 201
            assert (await server.request("DELETE", f"/events/room/{name}", maker)).status_code == 204
        publisher = web_token(paths=["/events/room/*"], publish=True)
        assert (await server.publish("room/by-event", publisher)).status_code == 200
        carol = bearer(web_token("room/*", sub="carol"))
        for refused in (await server.create(carol, name="room/c"), await server.publish("room/d", publisher)):
            assert (refused.status_code, "created_channels_per_address" in refused.text) == (429, True)
            # A third of an hour for each.
            assert 0 < int(refused.headers["retry-after"]) <= 1200
        # Neither events of channels that are there nor the administrator are counted.
        assert (await server.publish("room/by-event", publisher)).status_code == 200
        await server.made(name="room/c")


def test_addresses_are_counted_by_themselves_and_in_bounded_memory() -> None:
    now = 0.0
    rate = CreationRate(2, lambda: now)
    assert [rate.acquire("192.0.2.1") for _ in range(3)] == [0.0, 0.0, 1800.0]
    assert rate.acquire("192.0.2.2") == 0.0
    # The addresses of a site are one (RFC 6177).
    assert [rate.acquire(f"2001:db8::{one}") > 0 for one in range(1, 4)] == [False, False, True]
    now = 1800.0
    assert rate.acquire("192.0.2.1") == 0.0
    for one in range(ADDRESSES):
        rate.acquire(f"10.{one >> 16}.{one >> 8 & 255}.{one & 255}")
    assert len(rate._buckets) == ADDRESSES
    unconfigured = CreationRate()
    assert not any(unconfigured.acquire("127.0.0.1") for _ in range(CHANNELS + 1))
    assert any(unconfigured.acquire("192.0.2.1") for _ in range(CHANNELS + 1))

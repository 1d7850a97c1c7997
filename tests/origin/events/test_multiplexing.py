"""Several event channels over one connection, with one id that resumes all of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from httpx_sse import aconnect_sse
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from origin.events.limits import EventLimits
from origin.events.multiplexing.positions import read_positions, write_positions
from tests.created_channels import ADMIN, JWT_SECRET, ROOM_TOKEN, Server, bearer, serving
from tests.event_server import LIMIT, TOKEN
from tests.keys import ADMIN_TOKEN
from tests.waiting import until

Got = tuple[str, str, str]
"""The channel, the type and the text of an event."""


@contextlib.asynccontextmanager
async def streaming(
    server: Server, channels: list[str], since: str = "", headers: dict[str, str] | None = None, **query: Any
) -> AsyncIterator[AsyncIterator[tuple[Got, str]]]:
    """Read channels as an EventSource does; yield each event with its id."""
    fields = dict(ADMIN if headers is None else headers) | ({"last-event-id": since} if since else {})
    async with httpx.AsyncClient(timeout=LIMIT) as client:
        params = {"channel": channels, **query}
        async with aconnect_sse(
            client, "GET", f"{server.url}/events", headers=fields, params=params
        ) as source:
            assert source.response.status_code == 200, await source.response.aread()

            async def events() -> AsyncIterator[tuple[Got, str]]:
                async for one in source.aiter_sse():
                    if one.data:
                        yield (one.id.partition("=")[0], one.event, one.data), one.id

            yield events()


async def some(events: AsyncIterator[tuple[Got, str]], count: int) -> tuple[list[Got], str]:
    """Return the next events, and the id of the last."""
    found: list[Got] = []
    identity = ""
    while len(found) < count:
        got, identity = await anext(events)
        found.append(got)
    return found, identity


async def test_one_id_resumes_all_channels_without_loss_or_repetition() -> None:
    async with serving() as server:
        for name in ("a", "b"):
            await server.made(name=name)
        tokens = {"a": ADMIN_TOKEN, "b": ADMIN_TOKEN, "test": TOKEN}
        expected: dict[str, list[str]] = {name: [] for name in tokens}
        got: dict[str, list[str]] = {name: [] for name in tokens}
        since = ""
        for turn in range(4):
            async with streaming(server, list(tokens), since) as events:
                for number in range(3):
                    for name, token in tokens.items():
                        text = f"{turn} {number} {name}"
                        expected[name].append(text)
                        assert (await server.publish(name, token, text)).status_code == 200
                # Of the second and the last turn not all is read before the connection ends.
                found, since = await some(events, 9 if turn != 1 else 5)
                for name, _, text in found:
                    got[name].append(text)
        async with streaming(server, list(tokens), since) as events:
            left = sum(map(len, expected.values())) - sum(map(len, got.values()))
            for name, _, text in (await some(events, left))[0]:
                got[name].append(text)
        assert got == expected


async def test_a_pattern_has_the_channels_that_are_there_and_those_that_are_made_later() -> None:
    async with serving() as server:
        await server.publish("room/1", ROOM_TOKEN, "first")
        async with streaming(server, ["room/*"], headers={}) as events:
            assert (await some(events, 1))[0] == [("room/1", "message", "first")]
            await server.made(name="room/closed")
            await server.publish("room/2", ROOM_TOKEN, "second")
            await server.publish("room/closed", ROOM_TOKEN, "not for everybody")
            await server.publish("room/1", ROOM_TOKEN, "third")
            found, _ = await some(events, 2)
            assert sorted(found) == [("room/1", "message", "third"), ("room/2", "message", "second")]


async def test_channels_that_are_made_beyond_the_limit_are_named() -> None:
    async with serving() as server:
        await server.publish("room/0", ROOM_TOKEN, "first")
        query = {"channel": "room/*"}
        headers = {"accept": "application/x-ndjson"}
        async with (
            httpx.AsyncClient(timeout=LIMIT) as client,
            client.stream("GET", f"{server.url}/events", params=query, headers=headers) as answer,
        ):
            lines = (json.loads(line) async for line in answer.aiter_lines() if line.strip())
            assert (await anext(lines))["data"] == "first"
            for number in range(1, 5):
                await server.publish(f"room/{number}", ROOM_TOKEN, str(number))
            found = [await anext(lines) for _ in range(4)]
            told = {one["channel"]: one["data"] for one in found if one["event"] == "message"}
            assert told == {f"room/{number}": str(number) for number in range(1, 4)}
            full = [(one["channel"], json.loads(one["data"])) for one in found if one["event"] == "reset"]
            assert full == [("room/4", {"reason": "full", "lost": None})]


async def test_what_a_reader_has_missed_is_told_channel_by_channel() -> None:
    async with serving() as server:
        identity = (await server.publish("room/1", ROOM_TOKEN, "0")).json()["ids"][0]
        for number in range(1, 6):
            await server.publish("room/1", ROOM_TOKEN, str(number))
        other = (await server.publish("test", TOKEN, "x")).json()["ids"][0]
        async with streaming(server, ["room/1", "test"], f"room/1={identity},test={other}") as events:
            found, since = await some(events, 4)
            # The template keeps three.
            assert json.loads(found[0][2]) == {"reason": "expired", "lost": 2}
            assert [one[2] for one in found[1:]] == ["3", "4", "5"]
            assert read_positions(since, 4) == {"room/1": identity.replace("-1", "-6"), "test": other}
        async with streaming(server, ["test"], "no id of several channels") as events:
            found, _ = await some(events, 2)
            assert json.loads(found[0][2]) == {"reason": "invalid", "lost": None}


async def test_each_channel_is_read_with_a_key_for_it_alone() -> None:
    async with serving() as server:
        made = {name: await server.made(name=name) for name in ("a", "b")}
        keys = [one["read_token"] for one in made.values()]
        url = f"{server.url}/events"
        async with httpx.AsyncClient(timeout=LIMIT) as client:

            async def status(channels: list[str], *keys: str) -> int:
                query = {"channel": channels, "key": list(keys), "since": ""}
                return (await client.get(url, params=query)).status_code

            assert [await status(["a"], key) for key in keys] == [204, 401]
            assert [await status(["a", "b"], key) for key in keys] == [401, 401]
            assert await status(["a", "b"], *keys) == 204
            # Of a pattern only those that may be read.
            await server.publish("a", made["a"]["publish_token"], "of a")
            await server.publish("b", made["b"]["publish_token"], "of b")
            answer = await client.get(url, params={"channel": ["*"], "key": keys[:1], "since": ""})
            assert [(one["channel"], one["data"]) for one in answer.json()] == [("a", "of a")]
            claims = {"exp": int(time.time()) + 60, "paths": ["/events/b"]}
            token = jwt.encode(claims, JWT_SECRET, "HS256")
            answer = await client.get(url, params={"channel": ["*"], "token": token, "since": ""})
            assert [one["data"] for one in answer.json()] == ["of b"]


async def test_a_head_is_answered_at_once_as_a_stream_would_begin() -> None:
    async with serving() as server:
        answer = await server.request("HEAD", "/events?channel=test&wait=100&since=", {})
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["cache-control"] == "no-cache, no-store"
        assert (await server.request("HEAD", "/events?channel=nothing", {})).status_code == 404
        made = await server.made(name="talk")
        state = await server.request("HEAD", "/events/talk")
        assert (state.status_code, state.content, made["name"]) == (200, b"", "talk")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("channel=", 400),
        ("channel=..", 400),
        ("channel=a*", 400),
        ("channel=nothing", 404),
        ("channel=gone", 410),
        ("channel=test&wait=x", 400),
        ("&".join(f"channel=c{number}" for number in range(5)), 400),
        ("&".join(f"channel=c{number}" for number in range(2000)), 414),
        ("channel=many/*", 400),
    ],
)
async def test_a_request_for_too_much_or_nothing_is_refused(query: str, status: int) -> None:
    async with serving() as server:
        await server.made(name="gone")
        await server.request("DELETE", "/events/gone")
        for number in range(5):
            await server.made(name=f"many/{number}")
        assert (await server.request("GET", f"/events?{query}")).status_code == status
        await until(lambda: not server.created.open.readers)


async def test_a_deleted_channel_ends_and_the_others_go_on() -> None:
    async with serving() as server:
        for name in ("a", "b"):
            await server.made(name=name)
        async with streaming(server, ["a", "b"]) as events:
            await until(lambda: server.created.open.readers == 2)
            await server.request("DELETE", "/events/a")
            assert (await some(events, 1))[0] == [("a", "end", "{}")]
            await server.publish("b", ADMIN_TOKEN, "on")
            found, since = await some(events, 1)
            assert (found, list(read_positions(since, 4) or ())) == ([("b", "message", "on")], ["b"])
            await server.request("DELETE", "/events/b")
            assert [got async for got, _ in events] == [("b", "end", "{}")]


async def test_a_reader_that_takes_nothing_is_told_of_its_gap_and_holds_no_memory() -> None:
    async with serving() as server:
        await server.made(name="a", keep=5)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 12)
        head = f"GET /events?channel=a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")
        text = "x" * 100_000
        for _ in range(60):
            assert (await server.publish("a", ADMIN_TOKEN, text)).status_code == 200
        await until(lambda: server.created.open.event_bytes < 10 * len(text))
        read = bytearray()
        while b'"reason":"lagged"' not in read:
            read += await asyncio.wait_for(reader.read(1 << 16), LIMIT)
        writer.close()
        await until(lambda: not server.created.open.readers)


@contextlib.asynccontextmanager
async def socket_to(
    server: Server, query: str = "", token: str = ADMIN_TOKEN
) -> AsyncIterator[ClientConnection]:
    url = f"{server.url.replace('http', 'ws')}/events{query}"
    async with connect(url, additional_headers=bearer(token), open_timeout=LIMIT) as socket:
        yield socket


async def told(socket: ClientConnection, **command: str) -> Any:
    await socket.send(json.dumps(command))
    return json.loads(await asyncio.wait_for(socket.recv(), LIMIT))


async def test_a_websocket_subscribes_and_unsubscribes_by_messages() -> None:
    async with serving() as server:
        made = {name: await server.made(name=name) for name in ("a", "b", "room/1")}
        async with socket_to(server, token="unknown-token-000000") as socket:
            refused = await told(socket, subscribe="a")
            assert refused["status"] == 401
            key = made["a"]["read_token"]
            assert await told(socket, subscribe="a", key=key) == {"subscribed": "a", "channels": ["a"]}
            await server.publish("a", made["a"]["publish_token"], "one")
            event = json.loads(await socket.recv())
            assert (event["channel"], event["event"], event["data"]) == ("a", "message", "one")
            assert await told(socket, unsubscribe="a") == {"unsubscribed": "a"}
            assert (await told(socket, unsubscribe="a"))["status"] == 404
            await server.publish("a", made["a"]["publish_token"], "two")
            # Behind the id of the last event, of this channel alone or of all.
            for since in (event["id"], event["id"].partition("=")[2]):
                answer = await told(socket, subscribe="a", since=since, key=key)
                assert answer["channels"] == ["a"]
                assert json.loads(await socket.recv())["data"] == "two"
                await told(socket, unsubscribe="a")
        await until(lambda: not server.created.open.readers)


async def test_a_websocket_reads_what_its_address_names_until_the_server_ends() -> None:
    async with serving() as server, socket_to(server, "?channel=test&channel=room/*") as socket:
        await server.publish("test", TOKEN, "one")
        assert json.loads(await socket.recv())["channel"] == "test"
        await server.publish("room/1", ROOM_TOKEN, "two")
        assert json.loads(await socket.recv())["data"] == "two"
        server.created.close()
        for channel in server.configured.values():
            channel.close()
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), LIMIT)
        # RFC 6455 §11.7 (IANA's registry): 1012 is a restart.
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


@pytest.mark.parametrize(
    "message",
    [
        "",
        "[]",
        "{}",
        '{"subscribe": "a", "unsubscribe": "a"}',
        '{"subscribe": 5}',
        '{"publish": "a"}',
        "[" * 4000,
    ],
)
async def test_a_message_that_is_no_command_is_answered_with_an_error(message: str) -> None:
    async with serving() as server, socket_to(server) as socket:
        await socket.send(message)
        assert json.loads(await socket.recv())["status"] == 400


async def test_hostile_clients_of_a_websocket_are_refused_or_cut() -> None:
    async with serving() as server:
        async with socket_to(server) as socket:
            for number in range(200):
                await socket.send(json.dumps({"subscribe": f"c{number}"}))
            statuses = {json.loads(await socket.recv())["status"] for _ in range(200)}
            assert statuses == {404, 429}
        for data, code in ((b"binary", 1003), ("x" * 5000, 1009)):
            async with socket_to(server) as socket:
                await socket.send(data)
                with pytest.raises(ConnectionClosed) as closed:
                    await asyncio.wait_for(socket.recv(), LIMIT)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == code
        for query in ("?channel=nothing", "?channel=.."):
            with pytest.raises(InvalidStatus):
                async with socket_to(server, query):
                    pass


async def test_a_channel_that_is_read_is_not_packed() -> None:
    async with serving(EventLimits(created_idle_seconds=0.0, created_beat_seconds=0.01)) as server:
        await server.made(name="a")
        async with streaming(server, ["a"]) as events:
            for number in range(3):
                await server.publish("a", ADMIN_TOKEN, str(number))
                assert (await some(events, 1))[0] == [("a", "message", str(number))]
        await until(lambda: not server.created.open)


NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,8}(/[A-Za-z0-9_-]{1,8}){0,2}", fullmatch=True).filter(
    lambda name: not name.startswith("radio/")
)
IDS = st.from_regex(r"[0-9a-f]{1,12}-(0|[1-9][0-9]{0,9})", fullmatch=True)


@given(st.dictionaries(NAMES, IDS, min_size=1, max_size=4), st.data())
def test_an_id_that_was_written_is_read_with_its_own_channel_first(
    positions: dict[str, str], data: st.DataObject
) -> None:
    own = data.draw(st.sampled_from(sorted(positions)))
    text = write_positions(own, positions)
    assert text.startswith(f"{own}={positions[own]}")
    assert read_positions(text, 4) == positions
    assert read_positions(f"{text},{text}", 8) is None


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_any_other_text_is_no_id(text: str) -> None:
    found = read_positions(text, 4)
    assert found is None or write_positions(next(iter(found)), found) == text

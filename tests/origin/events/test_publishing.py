"""What publishers send to an event channel by POST, and what isn't taken of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from origin.events.channel import EventChannelOptions
from origin.events.limits import ChannelLimits, EventLimits
from tests.event_server import LIMIT, TOKEN, WAYS, Got, Server, a_channel, reading, serving
from tests.keys import ADMIN_TOKEN
from tests.waiting import until

JSON = "application/json"
NDJSON = "application/x-ndjson"


async def events_of(server: Server) -> list[tuple[str, str]]:
    answer = await server.request("GET", params={"since": ""})
    return [(one["event"], one["data"]) for one in (answer.json() if answer.content else [])]


@pytest.mark.parametrize(
    ("kind", "body", "name", "data"),
    [
        ("text/plain", "Grüße\nzwei", "message", "Grüße\nzwei"),
        ("text/plain; charset=utf-8", "", "message", ""),
        (JSON, '{"data": "x", "event": "title"}', "title", "x"),
        (JSON, ' {"data" : {"b":1.50, "a":[ ]} } ', "message", '{"b":1.50, "a":[ ]}'),
        (JSON, '{"data":12345678901234567890123}', "message", "12345678901234567890123"),
        (JSON, '{"data":null}', "message", "null"),
        (JSON, '{"data":{"data":1,"event":2}}', "message", '{"data":1,"event":2}'),
        (NDJSON, '{"data":"x"}', "message", "x"),
    ],
)
async def test_one_event_is_published_as_it_was_sent(kind: str, body: str, name: str, data: str) -> None:
    async with serving() as server:
        answer = await server.post(body.encode(), kind)
        assert (answer.status_code, answer.json()) == (200, {"count": 1, "ids": ["e-1"]})
        assert answer.headers["cache-control"] == "no-store"
        assert await events_of(server) == [(name, data)]


async def test_a_text_may_be_given_a_type() -> None:
    async with serving() as server:
        fields = {"authorization": f"Bearer {TOKEN}", "content-type": "text/plain"}
        answer = await server.request("POST", params={"event": "chapter"}, content=b"One", headers=fields)
        assert answer.status_code == 200
        assert await events_of(server) == [("chapter", "One")]


@pytest.mark.parametrize("kind", [JSON, NDJSON])
async def test_an_event_in_json_may_have_its_type_in_the_address_or_its_own_and_not_both(kind: str) -> None:
    async with serving() as server:
        fields = {"authorization": f"Bearer {TOKEN}", "content-type": kind}
        hello, own = b'{"data": "hello"}', b'{"data": "x", "event": "own"}'
        for query, status in (("greeting", 200), ("", 400)):
            sent = await server.request("POST", params={"event": query}, content=hello, headers=fields)
            assert sent.status_code == status
        both = await server.request("POST", params={"event": "greeting"}, content=own, headers=fields)
        assert both.status_code == 400
        assert await events_of(server) == [("greeting", "hello")]


async def test_a_stream_is_published_line_by_line_as_it_comes_and_answered_with_the_ids() -> None:
    async with serving() as server:

        async def lines() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b'{"data": "line '
                yield b'%d"}\n\n' % number
                await until(lambda: server.channel.published == number + 1)  # noqa: B023
            yield b'{"data":"a"}\n{"data":"b"}\n{"data":"c"}'

        answer = await server.post(lines(), NDJSON)
        assert answer.json() == {"count": 6, "ids": [f"e-{number}" for number in range(1, 7)]}
        assert [data for _, data in await events_of(server)] == ["line 0", "line 1", "line 2", "a", "b", "c"]


async def test_of_a_publisher_that_stops_in_mid_event_only_whole_events_are_published() -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        head = f"POST /events/test HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        writer.write(f"{head}Content-Type: {NDJSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        body = b'{"data":"whole"}\n{"data":"ha'
        writer.write(b"%x\r\n%b\r\n" % (len(body), body))
        await until(lambda: server.channel.published == 1)
        writer.transport.abort()
        assert (await server.post("next")).json()["ids"] == ["e-2"]
        assert [data for _, data in await events_of(server)] == ["whole", "next"]
        del reader


async def test_a_stream_that_is_wrong_in_the_middle_says_what_was_published() -> None:
    async with serving() as server:
        answer = await server.post(b'{"data":"a"}\n{"data":"b"}\nnonsense\n{"data":"c"}\n', NDJSON)
        assert answer.status_code == 400
        assert answer.json()["ids"] == ["e-1", "e-2"]
        assert "error" in answer.json()
        assert server.channel.published == 2


SMALL = EventLimits(event_bytes=1000, publish_rate=5.0, burst_seconds=1.0)


@pytest.mark.parametrize("kind", ["text/plain", JSON, NDJSON])
async def test_an_event_that_is_too_large_is_refused_without_its_end_being_waited_for(kind: str) -> None:
    async with serving(limits=SMALL) as server:
        reader, writer = await server.connect()
        head = f"POST /events/test HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        writer.write(f"{head}Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        body = b'{"data":"' + b"x" * 9000
        writer.write(b"%x\r\n%b\r\n" % (len(body), body))
        assert b" 413 " in await asyncio.wait_for(reader.readline(), LIMIT)
        writer.close()
        assert (await server.post("x" * 1001)).status_code == 413
        assert (await server.post(json.dumps({"data": "x" * 1001}), JSON)).status_code == 413
        assert (await server.post("x" * 1000)).status_code == 200
        assert (await server.post(json.dumps({"data": "ж" * 500}), JSON)).status_code == 200


async def test_more_than_a_mebibyte_is_refused_unless_configured_otherwise() -> None:
    async with serving() as server:
        assert (await server.post(b"x" * 10_000_000)).status_code == 413
        assert (await server.post(b"x" * (1 << 20))).status_code == 200


async def test_more_events_than_the_rate_allows_are_refused_with_the_time_to_wait() -> None:
    async with serving(limits=SMALL) as server:
        lines = b"".join(b'{"data":%d}\n' % number for number in range(2000))
        answer = await server.post(lines, NDJSON)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert 5 <= answer.json()["count"] == len(answer.json()["ids"]) < 2000


async def test_of_very_many_events_the_newest_ids_are_named() -> None:
    limits = EventLimits(answered_ids=3)
    async with serving(limits=limits) as server:
        answer = await server.post(b'{"data":1}\n' * 10, NDJSON)
        assert answer.json() == {"count": 10, "ids": ["e-8", "e-9", "e-10"]}


DEEP = b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
KEYS = b'{"data":1,' + b",".join(b'"k%d":1' % number for number in range(60_000)) + b"}"


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        KEYS,
        b'{"data": NaN}',
        b'{"data": Infinity}',
        b'{"data": 1, "data": 2}',
        b'{"event": "a", "data": 1, "event": "b"}',
        b'{"data": 1, "d\\u0061ta": 2}',
        b'{"event": "a", "data": {"event": "b"}, "\\u0065vent": "b"}',
        b'{"data": "\\"", "data": 2, "event": "\\""}',
        b"{}",
        b"[]",
        b'"text"',
        b'{"data": "x"',
        b'{"data": "\xff"}',
        b'{"data": "x", "event": 5}',
        b'{"data": "x", "event": ""}',
        b'{"data": "x", "event": "a\\nb"}',
        b'{"data": "x", "event": "a\\u0000b"}',
        b'{"data": "x", "event": "reset"}',
        b'{"data": "x", "event": "presence"}',
        b'{"data": "x", "event": "' + b"n" * 65 + b'"}',
        b'{"data": "x", "id": "e-9"}',
        b"\x00",
        b"",
    ],
)
async def test_what_is_no_event_is_refused_and_nothing_is_published(body: bytes) -> None:
    async with serving() as server:
        assert (await server.post(body, JSON)).status_code == 400
        # Empty lines of a stream aren't events.
        assert (await server.post(body + b"\n", NDJSON)).status_code == (400 if body else 200)
        assert server.channel.published == 0


async def test_a_mebibyte_of_keys_is_read_without_recursion_or_much_time() -> None:
    async with serving() as server:
        body = b'{"data":{' + b",".join(b'"%d":1' % number for number in range(80_000)) + b"}}"
        assert (await server.post(body, JSON)).status_code == 200


@pytest.mark.parametrize("item", [b'{"data":1}', b'{"event":"x","data":"event"}', b'{"data":1,"data":2}'])
async def test_what_stands_in_an_events_data_is_its_publishers_own(item: bytes) -> None:
    """That it isn't looked at piece by piece is judged after each test: nothing holds the event loop."""
    async with serving(a_channel(history_bytes=4 << 20)) as server:
        for most, status in ((1 << 20, 200), (3 << 20, 413)):
            data = b"[%b]" % b",".join([item] * ((most - 2) // (len(item) + 1)))
            assert (await server.post(b'{"data":%b}' % data, JSON)).status_code == status
            assert status == 413 or server.channel.log.newest.data.encode() == data  # type: ignore[union-attr]


async def test_an_event_of_very_many_lines_holds_nobody_up() -> None:
    text = "\n" * 1_000_000
    async with serving(a_channel(history_bytes=4 << 20)) as server:
        client = await server.open()
        assert (await server.post(text)).status_code == 200
        lines = 0
        while lines <= len(text):
            lines += (await client.chunk()).count(b"data: ")
        assert lines == len(text) + 1
        client.abort()


async def test_very_many_events_in_one_piece_leave_others_their_turns() -> None:
    lines, turns = b'{"data":1}\n' * 5000, 0
    async with serving(a_channel(history=10_000)) as server:
        seen = list[int]()
        server.channel.on_publish = lambda event: seen.append(turns)

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        assert (await server.post(lines, NDJSON)).json()["count"] == 5000
        task.cancel()
        # Not many in any one turn of the loop.
        assert max(seen.count(turn) for turn in set(seen)) <= 2 * server.channel.limits.published_at_once


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "audio/mpeg"])
async def test_what_forms_of_other_sites_can_send_is_no_event(kind: str) -> None:
    async with serving() as server:
        assert (await server.post("x", kind)).status_code == 415


@pytest.mark.parametrize(
    ("fields", "query", "status"),
    [
        ({}, "", 401),
        ({"authorization": "Bearer wrong"}, "", 401),
        ({"authorization": f"Bearer {TOKEN}x"}, "", 401),
        ({"cookie": f"key={TOKEN}"}, "", 401),
        ({}, "?key=", 401),
        ({"authorization": f"Bearer {TOKEN}"}, "", 200),
        ({"authorization": f"Bearer {ADMIN_TOKEN}"}, "", 200),
        ({}, f"?key={TOKEN}", 200),
    ],
)
async def test_only_the_token_publishes(fields: dict[str, str], query: str, status: int) -> None:
    async with serving() as server:
        answer = await server.request(
            "POST", f"/events/test{query}", content=b"x", headers={"content-type": "text/plain", **fields}
        )
        assert answer.status_code == status
        assert server.channel.published == (status == 200)
        assert ("www-authenticate" in answer.headers) is (status == 401)


async def test_an_unknown_channel_isnt_there_for_anybody() -> None:
    async with serving() as server:
        for method in ("GET", "POST"):
            assert (await server.request(method, "/events/other")).status_code == 404


async def test_a_token_generator_is_a_source() -> None:
    async with serving() as server:

        async def tokens() -> AsyncIterator[object]:
            for token in ["Once", " upon", {"finish_reason": "stop"}]:
                await asyncio.sleep(0)
                yield token

        assert await server.channel.publish_from(tokens(), "token") == 3
        assert await events_of(server) == [
            ("token", "Once"),
            ("token", " upon"),
            ("token", '{"finish_reason":"stop"}'),
        ]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_who_publishes_behind_the_end_begins_anew(way: Any) -> None:
    async with serving() as server:
        await server.post('{"data":"{}","event":"end"}', JSON)
        assert server.channel.state == "ended"
        assert (await server.request("GET", headers={"last-event-id": "e-1"})).status_code == 204
        await server.post("again")
        assert server.channel.state == "live"
        async with reading(way, server, "e-1", lambda got: len(got) == 1) as (got, task):
            await asyncio.wait_for(task, LIMIT)
        assert got == [Got("message", "again", "e-2")]


async def test_the_number_of_readers_is_published_where_that_is_wanted() -> None:
    limits = ChannelLimits(history=10, beat_seconds=0.01)
    options = EventChannelOptions(presence=True, presence_seconds=0.01, limits=limits)
    async with serving(a_channel(options=options)) as server:
        async with reading(WAYS[1], server) as (got, _):
            await until(lambda: Got("presence", '{"readers":1}', "e-1") in got)
        await until(lambda: server.channel.published == 2)
        assert await events_of(server) == [("presence", '{"readers":1}'), ("presence", '{"readers":0}')]

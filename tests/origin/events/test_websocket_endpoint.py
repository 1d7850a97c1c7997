"""WebSocket on an event channel: who may, what is published by it, and what hostile clients do."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from origin.events.limits import EventLimits
from origin.http1.websocket import WebSocketLimits
from tests.event_server import LIMIT, PROTECTED, READ_KEY, TOKEN, Server, a_channel, serving
from tests.origin.events.raw_websockets import opened, raw
from tests.waiting import until

BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def test_a_publisher_gets_the_ids_and_is_a_reader_like_the_others() -> None:
    async with (
        serving() as server,
        connect(server.socket_url, additional_headers=BEARER, proxy=None) as publisher,
        connect(server.socket_url, proxy=None) as reader,
    ):
        await until(lambda: server.channel.readers == 2)
        await publisher.send('{"data": "hello", "event": "chat"}')
        got = [json.loads(await asyncio.wait_for(publisher.recv(), LIMIT)) for _ in range(2)]
        event = {"id": "e-1", "event": "chat", "data": "hello"}
        assert {"ids": ["e-1"]} in got
        assert event in got
        assert json.loads(await asyncio.wait_for(reader.recv(), LIMIT)) == event


async def test_a_publisher_gets_its_answer_behind_a_replay_that_it_has_not_read() -> None:
    channel = a_channel(history=1000, history_bytes=64 << 20)
    for number in range(400):
        channel.publish("message", f"{number} {'x' * 20_000}")
    async with serving(channel) as server:
        address = f"{server.socket_url}?key={TOKEN}&since=e-0"
        async with connect(address, max_size=None, max_queue=1, proxy=None) as publisher:
            for text in ("mine", "mine, too"):
                await publisher.send(json.dumps({"data": text}))
            await until(lambda: channel.published == 402)
            answers: list[object] = []
            while len(answers) < 2:
                told = json.loads(await asyncio.wait_for(publisher.recv(), LIMIT))
                answers += [told] if "ids" in told else []
            assert answers == [{"ids": ["e-401"]}, {"ids": ["e-402"]}]


async def test_what_isnt_taken_is_answered_and_the_connection_goes_on() -> None:
    async with serving() as server, connect(f"{server.socket_url}?key={TOKEN}", proxy=None) as publisher:
        await publisher.send("nonsense")
        told = json.loads(await asyncio.wait_for(publisher.recv(), LIMIT))
        assert told["status"] == 400
        # In fragments, as RFC 6455 §5.4 lets clients send.
        await publisher.send(['{"data": ', '"x"}'])
        assert json.loads(await asyncio.wait_for(publisher.recv(), LIMIT)) == {"ids": ["e-1"]}


async def test_a_publisher_is_told_an_id_when_the_event_survives_this_process_and_not_before() -> None:
    channel = a_channel()
    stored: list[int] = []

    async def store() -> None:
        await asyncio.sleep(0.05)
        stored.append(channel.published)

    channel.stored = store
    async with (
        serving(channel) as server,
        connect(f"{server.socket_url}?key={TOKEN}", proxy=None) as publisher,
    ):
        for number in (1, 2):
            await publisher.send('{"data": "x"}')
            told = await asyncio.wait_for(publisher.recv(), LIMIT)
            while "ids" not in json.loads(told):
                told = await asyncio.wait_for(publisher.recv(), LIMIT)
            assert json.loads(told) == {"ids": [f"e-{number}"]}
            assert stored[-1:] == [number]
        # What was published before a mistake is told of before the connection is closed.
        for message in ('{"data": "y"}', b"binary"):
            await publisher.send(message)
        got: list[str | bytes] = []
        with pytest.raises(ConnectionClosed) as closed:
            await read_all(publisher, got)
        assert '{"ids":["e-3"]}' in got
        assert (closed.value.rcvd and closed.value.rcvd.code) == 1003


async def test_who_has_no_token_is_closed_when_it_publishes() -> None:
    async with serving() as server, connect(server.socket_url, proxy=None) as reader:
        await reader.send('{"data": "x"}')
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(reader.recv(), LIMIT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert server.channel.published == 0


async def test_the_end_of_the_channel_and_of_the_server_have_close_codes() -> None:
    async with serving() as server:
        async with connect(server.socket_url, proxy=None) as reader:
            await until(lambda: server.channel.readers == 1)
            server.channel.end()
            assert json.loads(await asyncio.wait_for(reader.recv(), LIMIT))["event"] == "end"
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(reader.recv(), LIMIT)
            assert (closed.value.rcvd and closed.value.rcvd.code) == 1000
        server.channel.publish_text("again")
        async with connect(server.socket_url, proxy=None) as reader:
            await until(lambda: server.channel.readers == 1)
            server.channel.close()
            with pytest.raises(ConnectionClosed) as closed:
                await read_all(reader)
            assert (closed.value.rcvd and closed.value.rcvd.code) == 1012


async def read_all(client: ClientConnection, got: list[str | bytes] | None = None) -> None:
    """Read until the connection is closed."""
    while True:
        message = await asyncio.wait_for(client.recv(), LIMIT)
        if got is not None:
            got.append(message)


async def status_of(server: Server, query: str = "", **options: Any) -> int:
    """Open a WebSocket; give the status of its handshake."""
    try:
        async with connect(server.socket_url + query, proxy=None, **options):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ("https://good.example", None, 101),
        ("https://good.example", "https://good.example", 101),
        ("https://good.example", "https://good.example.evil", 403),
        ("https://good.example", "https://good.exampl", 403),
        ("https://good.example", "http://good.example", 403),
        ("https://good.example", "https://good.example:444", 403),
        ("https://good.example", "null", 403),
        ("https://good.example", "", 403),
        ("", "https://evil", 403),
        ("", "null", 403),
        ("*", "https://anybody", 101),
    ],
)
async def test_a_page_of_another_origin_opens_none_unless_it_is_allowed(
    allowed: str, origin: str | None, status: int
) -> None:
    async with serving(allow_origin=allowed) as server:
        headers = {"Cookie": f"key={TOKEN}"} | ({} if origin is None else {"Origin": origin})
        assert await status_of(server, additional_headers=headers) == status
        own = {"Origin": f"http://127.0.0.1:{server.port}"}
        assert await status_of(server, additional_headers=own) == 101


async def test_another_sites_page_publishes_with_no_password_that_the_browser_adds() -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(f"x:{TOKEN}".encode()).decode()}
    async with serving(allow_origin="*") as server:
        for origin, is_taken in (("http://evil", False), (f"http://127.0.0.1:{server.port}", True)):
            async with connect(
                server.socket_url, additional_headers={**basic, "Origin": origin}, proxy=None
            ) as socket:
                await socket.send('{"data": "x"}')
                if is_taken:
                    assert "ids" in json.loads(await asyncio.wait_for(socket.recv(), LIMIT))
                else:
                    with pytest.raises(ConnectionClosed):
                        await asyncio.wait_for(socket.recv(), LIMIT)


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {}, 401),
        ("?key=wrong", {}, 401),
        ("", {"Cookie": f"key={READ_KEY}"}, 401),
        (f"?key={READ_KEY}", {}, 101),
        (f"?key={TOKEN}", {}, 101),
        ("", {"Authorization": f"Bearer {READ_KEY}"}, 101),
    ],
)
async def test_a_channel_with_a_read_key_needs_it(query: str, headers: dict[str, str], status: int) -> None:
    async with serving(keys=PROTECTED) as server:
        assert await status_of(server, query, additional_headers=headers) == status


async def test_a_subprotocol_and_compression_are_negotiated_as_the_standard_says() -> None:
    async with serving() as server:
        known = [Subprotocol("x"), Subprotocol("headwater.events.v1")]
        async with connect(server.socket_url, subprotocols=known, proxy=None) as socket:
            assert socket.subprotocol == "headwater.events.v1"
            # It offers permessage-deflate, which isn't taken: no message is larger than its bytes.
            assert socket.protocol.extensions == []


def masked(opcode: Opcode, payload: bytes = b"", *, final: bool = True) -> bytes:
    return Frame(opcode, payload, fin=final).serialize(mask=True)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (Frame(Opcode.TEXT, b"x").serialize(mask=False), 1002),
        (b"\xc1\x80" + bytes(4), 1002),
        (b"\x81\xff" + (1 << 63).to_bytes(8) + bytes(4), 1002),
        (b"\x81\xff" + (1 << 40).to_bytes(8) + bytes(4), 1009),
        (b"\x89\xfe\x00\x7e" + bytes(4), 1002),
        (b"\x09\x80" + bytes(4), 1002),
        (b"\x81\x81" + bytes(4) + b"\xff", 1007),
        (b"\x82\x81" + bytes(4) + b"\xff", 1003),
        (b"\x88\x82" + bytes(4) + (1006).to_bytes(2), 1002),
        (b"\x88\x82" + bytes(4) + (1001).to_bytes(2), 1001),
        (b"\x01\x80" + bytes(4) + (b"\x00\x80" + bytes(4)) * 20_000, 1009),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "frames",
)
async def test_who_breaks_a_rule_is_closed_with_its_code(frames: bytes, code: int) -> None:
    async with serving() as server, raw(server) as client:
        await opened(client)
        client.writer.write(frames)
        assert await client.close_code() == code
        await until(lambda: server.channel.readers == 0)


@pytest.mark.parametrize("fields", [("Content-Length: 5",), ("Transfer-Encoding: chunked",)])
async def test_a_handshake_with_a_body_is_refused_and_nothing_behind_it_is_read(
    fields: tuple[str, ...],
) -> None:
    async with serving() as server, raw(server, *fields) as client:
        client.writer.write(b"0\r\n\r\nGET /events/test?since= HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(client.reader.read(), LIMIT)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1


async def test_a_flood_of_pings_is_answered_by_few_pongs_and_holds_nobody_up() -> None:
    async with serving() as server, raw(server) as client:
        await opened(client)
        client.writer.write(masked(Opcode.PING, b"x") * 20_000 + masked(Opcode.PING, b"last"))
        received = b""
        async with asyncio.timeout(LIMIT):
            while b"last" not in received:
                received += await client.reader.read(65536)
        assert received.count(b"\x8a") < 2000
        server.channel.publish_text("still there")
        async with asyncio.timeout(LIMIT):
            while b"still there" not in received:
                received += await client.reader.read(65536)


async def test_who_answers_no_ping_is_gone_when_the_next_is_due() -> None:
    channel = a_channel(ping_seconds=0.2, beat_seconds=0.05)
    async with serving(channel) as server, raw(server) as silent:
        await opened(silent)
        async with connect(server.socket_url, proxy=None) as client:
            await until(lambda: server.channel.dropped == 1)
            await until(lambda: server.channel.readers == 1)
            server.channel.publish_text("x")
            assert json.loads(await asyncio.wait_for(client.recv(), LIMIT))["data"] == "x"
            assert server.channel.limits.ping_seconds < 20 == a_channel().limits.ping_seconds


async def test_who_never_answers_a_close_is_cut_off() -> None:
    channel = a_channel(close_seconds=0.2)
    async with serving(channel) as server, raw(server) as client:
        await opened(client)
        await until(lambda: channel.readers == 1)
        channel.end()
        assert await client.close_code() == 1000


async def test_a_message_may_be_as_large_as_an_event_and_no_larger() -> None:
    limits = EventLimits(sockets=WebSocketLimits(message_bytes=1000))
    async with (
        serving(limits=limits) as server,
        connect(f"{server.socket_url}?key={TOKEN}", proxy=None) as publisher,
    ):
        await publisher.send(json.dumps({"data": "x" * 900}))
        assert json.loads(await asyncio.wait_for(publisher.recv(), LIMIT)) == {"ids": ["e-1"]}
        await publisher.send(json.dumps({"data": "x" * 1000}))
        with pytest.raises(ConnectionClosed) as closed:
            await read_all(publisher)
        assert (closed.value.rcvd and closed.value.rcvd.code) == 1009

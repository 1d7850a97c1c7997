"""GET of an event channel: what is asked for, what the answers' heads say, and polls."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from typing import Any

import pytest

from origin.access.authentication import signature
from origin.events.channel import EventChannelOptions
from origin.events.limits import ChannelLimits
from origin.http.client_limits import ClientLimit
from tests.event_server import LIMIT, PROTECTED, READ_KEY, TOKEN, WAYS, Server, a_channel, reading, serving
from tests.eventstream import read
from tests.radio_server import Client
from tests.waiting import until

PATH = "/events/test"
SSE, NDJSON, JSON = "text/event-stream", "application/x-ndjson", "application/json"


async def opened(server: Server, *fields: str, **options: Any) -> Client:
    return await server.open(*fields, **options)


async def test_a_poll_brings_a_part_of_what_is_much_and_the_next_one_goes_on() -> None:
    channel = a_channel(history=1000, answer_bytes=10_000)
    for number in range(100):
        channel.publish_text(f"{number} {'x' * 1000}")
    channel.publish_text("y" * 50_000)
    async with serving(channel) as server:
        got: list[str] = []
        since, sizes = "", list[int]()
        while since != channel.last_id:
            answer = await server.request("GET", params={"since": since, "wait": "60"})
            events = answer.json()
            sizes.append(len(answer.content))
            got += [event["data"].split()[0] for event in events]
            since = events[-1]["id"]
        assert got == [*map(str, range(100)), "y" * 50_000]
        assert max(sizes[:-1]) < 12_000
        assert len(sizes) <= 13


async def test_a_stream_begins_at_once_and_no_proxy_holds_it_back() -> None:
    async with serving() as server:
        client = await opened(server)
        assert client.status == 200
        assert client.headers["content-type"] == SSE
        assert client.headers["cache-control"] == "no-cache, no-store"
        assert client.headers["x-accel-buffering"] == "no"
        assert client.headers["vary"] == "Accept"
        first = await client.chunk()
        assert first.startswith(b":")
        assert b"\nretry: 2000\n" in first
        await client.close()


async def test_who_waits_for_new_events_alone_can_still_resume_from_where_it_came() -> None:
    """An id without data tells an EventSource where it is, before there is an event."""
    limits = ChannelLimits(history=10)
    async with serving(a_channel(options=EventChannelOptions(replay=False, limits=limits))) as server:
        server.channel.publish_text("before")
        client = await opened(server)
        first = await client.chunk()
        assert b"\nid: e-1\n\n" in first
        assert b"before" not in first
        await client.close()
        server.channel.publish_text("missed")
        again = await opened(server, "Last-Event-ID: e-1")
        stream = await again.chunk()
        while not read(stream):
            stream += await again.chunk()
        assert [message.data for message in read(stream)] == ["missed"]
        await again.close()


@pytest.mark.parametrize("accept", [SSE, NDJSON])
async def test_silence_is_broken_so_that_proxies_keep_the_connection(accept: str) -> None:
    async with serving(a_channel(heartbeat_seconds=0.05, beat_seconds=0.01)) as server:
        client = await opened(server, f"Accept: {accept}")
        await client.chunk()
        for _ in range(3):
            assert await client.chunk() == (b": \n" if accept == SSE else b"\n")
        assert ChannelLimits().heartbeat_seconds == 15
        await client.close()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, SSE),
        ("*/*", SSE),
        ("text/html,application/xhtml+xml,*/*;q=0.8", SSE),
        (SSE, SSE),
        (NDJSON, NDJSON),
        ("application/x-ndjson, text/event-stream;q=0.5", NDJSON),
        ("application/x-ndjson;q=0.4, text/event-stream;q=0.5", SSE),
        ("Application/X-NDJSON", NDJSON),
        ("application/json", JSON),
        ("*/*, text/event-stream;q=0", NDJSON),
    ],
)
async def test_a_format_is_chosen_by_what_is_accepted(accept: str | None, kind: str) -> None:
    async with serving() as server:
        server.channel.publish_text("x")
        fields = () if accept is None else (f"Accept: {accept}",)
        for method in ("GET", "HEAD"):
            client = await opened(server, *fields, method=method)
            assert (client.status, client.headers["content-type"]) == (200, kind)
            client.abort()
        await until(lambda: server.channel.readers == 0)


async def test_what_nobody_can_have_is_406() -> None:
    async with serving() as server:
        assert (await server.request("GET", headers={"accept": "image/png"})).status_code == 406
        refused = await server.request("PUT")
        assert (refused.status_code, set(refused.headers["allow"].split(", "))) == (
            405,
            {"GET", "HEAD", "POST"},
        )


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        ("1000000000000000000", "invalid"),
        ("e-1000000000000000000", "invalid"),
        ("e-999999999999999999", "invalid"),
        ("-1", "invalid"),
        ("e--1", "invalid"),
        ("text", "invalid"),
        ("d-1", "restart"),
        ("e-01", "invalid"),
        ("e-1\u0661", "invalid"),
        ("x" * 6000, "invalid"),
        ("%00", "invalid"),
    ],
)
async def test_an_id_of_no_event_is_answered_with_a_reset_and_what_there_is(
    identity: str, reason: str
) -> None:
    async with serving() as server:
        server.channel.publish_text("x")
        answer = await server.request("GET", params={"since": identity})
        reset, event = answer.json()
        assert (reset["event"], json.loads(reset["data"])) == ("reset", {"reason": reason, "lost": None})
        assert (reset["id"], event["id"]) == ("e-0", "e-1")
        assert server.channel.counters.reset == 1
        stream = await opened(server, path=f"{PATH}?last_event_id={identity[:1000].encode().hex()}")
        stream.abort()
        assert stream.status == 200


@pytest.mark.parametrize(
    "name",
    ["last_event_id", "lastEventId", "lastEventID", "LASTEVENTID", "Last-Event-ID", "evs_last_event_id"],
)
async def test_a_reader_that_cannot_send_the_field_resumes_by_a_parameter(name: str) -> None:
    async with serving() as server:
        for text in ("first", "second", "third"):
            server.channel.publish_text(text)
        stream = await opened(server, path=f"{PATH}?{name}=e-2")
        frames = b""
        while b"data: third\n" not in frames:
            frames += await asyncio.wait_for(stream.chunk(), LIMIT)
        stream.abort()
        assert b"second" not in frames


async def test_a_header_of_a_megabyte_is_no_id() -> None:
    async with serving() as server:
        client = await opened(server, f"Last-Event-ID: {'9' * 1_000_000}")
        assert client.status == 431
        client.abort()


async def test_polls_answer_with_what_came_since_an_id_or_that_nothing_did() -> None:
    async with serving() as server:
        assert (await server.request("GET", params={"since": ""})).status_code == 204
        for number in range(3):
            server.channel.publish_text(str(number))
        answer = await server.request("GET", params={"since": "e-1"})
        assert [one["id"] for one in answer.json()] == ["e-2", "e-3"]
        assert answer.headers["cache-control"] == "no-cache, no-store"
        lines = await server.request("GET", params={"since": "e-2"}, headers={"accept": NDJSON})
        assert (lines.headers["content-type"], lines.text.count("\n")) == (NDJSON, 1)
        nothing = await server.request("GET", params={"since": "e-3", "wait": "0.05"})
        assert (nothing.status_code, nothing.content) == (204, b"")


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "1e3", "x", "", "9" * 400, "\u0661"])
async def test_a_wait_that_is_no_number_is_refused(wait: str) -> None:
    async with serving() as server:
        assert (await server.request("GET", params={"since": "", "wait": wait})).status_code == 400


async def test_a_wait_is_never_longer_than_the_limit() -> None:
    async with serving(a_channel(wait_seconds=0.05)) as server:
        answer = await server.request("GET", params={"since": "", "wait": "86400"})
        assert answer.status_code == 204


async def test_who_leaves_in_the_middle_of_a_wait_is_gone() -> None:
    async with serving() as server:
        _, writer = await server.connect()
        writer.write(b"GET /events/test?since=&wait=100 HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: server.channel.readers == 1)
        writer.transport.abort()
        await until(lambda: server.channel.readers == 0, seconds=30)


async def test_a_thousand_who_wait_are_answered_by_one_event() -> None:
    async with serving() as server:
        waits = [
            asyncio.create_task(server.request("GET", params={"since": "", "wait": "100"})) for _ in range(50)
        ]
        await until(lambda: server.channel.readers == 50)
        server.channel.publish_text("x")
        answers = await asyncio.gather(*waits)
        assert {answer.content for answer in answers} == {b'[{"id":"e-1","event":"message","data":"x"}]'}


async def test_readers_are_limited_for_a_channel_for_all_and_for_one_client() -> None:
    other = a_channel("other")
    async with serving(a_channel(readers=1), other, most_readers=2) as server:
        first = await opened(server)
        second = await opened(server)
        assert (second.status, "retry-after" in second.headers) == (503, True)
        third = await opened(server, path="/events/other")
        assert third.status == 200
        assert (await opened(server, path="/events/other")).status == 503
        for client in (first, third):
            client.abort()
    async with serving(client_readers=ClientLimit(1)) as server:
        first = await opened(server)
        assert (await opened(server)).status == 429
        first.abort()
        await until(lambda: server.channel.readers == 0)
        assert (await opened(server)).status == 200


def signed(secret: str, path: str = PATH, expires: int = 4_000_000_000) -> str:
    return f"?expires={expires}&signature={signature(secret, path, expires)}"


@pytest.mark.parametrize(
    ("query", "fields", "status"),
    [
        ("", (), 401),
        ("?key=wrong", (), 401),
        ("", (f"Cookie: key={READ_KEY}",), 401),
        (f"?key={READ_KEY}", (), 200),
        ("", (f"Authorization: Bearer {READ_KEY}",), 200),
        ("", (f"Authorization: Bearer {TOKEN}",), 200),
        (signed(READ_KEY), (), 200),
        (signed(READ_KEY, "/events/other"), (), 401),
        (signed(READ_KEY, expires=5), (), 401),
        (signed("another"), (), 401),
    ],
)
async def test_a_channel_with_a_read_key_is_for_those_who_have_it(
    query: str, fields: tuple[str, ...], status: int
) -> None:
    async with serving(keys=PROTECTED) as server:
        client = await opened(server, *fields, path=PATH + query)
        assert client.status == status
        # No credentials of another site's page are ever let through.
        assert "access-control-allow-credentials" not in client.headers
        client.abort()


async def test_a_reader_of_http_1_0_gets_the_events_without_framing() -> None:
    async with serving() as server:
        client = await opened(server, version="1.0")
        assert "transfer-encoding" not in client.headers
        await until(lambda: server.channel.readers == 1)
        server.channel.publish_text("x")
        server.channel.end()
        async with asyncio.timeout(LIMIT):
            messages = read(await client.reader.read())
        assert [message.name for message in messages] == ["message", "end"]


async def test_a_restart_ends_streams_without_an_end_and_is_a_new_epoch() -> None:
    async with serving(a_channel(epoch="first")) as server:
        server.channel.publish_text("x")
        client = await opened(server)
        stream = await client.chunk()
        while not read(stream):
            stream += await client.chunk()
        server.channel.close()
        while chunk := await client.chunk():
            stream += chunk
        assert [message.name for message in read(stream)] == ["message"]
        # WHATWG HTML §9.2.3: an EventSource comes again behind this, and not behind another status.
        late = await opened(server)
        assert (late.status, await late.chunk()) == (200, b"")
    async with serving(a_channel(epoch="second")) as server:
        server.channel.publish_text("y")
        async with reading(WAYS[0], server, "first-1", lambda got: len(got) == 2) as (got, task):
            await asyncio.wait_for(task, LIMIT)
        assert [(one.name, one.id) for one in got] == [("reset", "second-0"), ("message", "second-1")]


async def test_at_a_restart_nobody_gets_an_event_again_and_all_get_the_last_one() -> None:
    async with serving() as server:
        clients = [await opened(server, f"Accept: {form}") for form in (SSE, SSE, NDJSON)]
        await until(lambda: server.channel.readers == len(clients))
        streams = [b""] * len(clients)
        for number in range(3):
            server.channel.publish_text(f"text {number}")
            for place, client in enumerate(clients):
                while f"text {number}".encode() not in streams[place]:
                    streams[place] += await client.chunk()
        server.channel.publish_text("text 3")
        server.channel.close()
        for stream, client in zip(streams, clients, strict=True):
            whole = stream
            while chunk := await client.chunk():
                whole += chunk
            assert re.findall(rb"text \d", whole) == [b"text 0", b"text 1", b"text 2", b"text 3"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed")
@pytest.mark.parametrize("accept", [SSE, NDJSON])
async def test_curl_follows_a_channel(accept: str) -> None:
    async with serving() as server:
        process = await asyncio.create_subprocess_exec(
            "curl", "-sN", "-H", f"Accept: {accept}", server.url, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await until(lambda: server.channel.readers == 1)
        stream = b""
        async with asyncio.timeout(LIMIT):
            for number in range(3):
                server.channel.publish_text(f"text {number}")
                while f"text {number}".encode() not in stream:
                    stream += await process.stdout.read(4096)
            server.channel.end()
            rest, _ = await process.communicate()
        assert process.returncode == 0
        assert b"end" in stream + rest

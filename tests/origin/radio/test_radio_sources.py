"""Source clients on bare sockets: what Icecast's manual and its clients (ffmpeg, libshout, butt) expect."""

import asyncio
import base64
import contextlib
import gc
import json
import os
from collections.abc import AsyncIterator

import pytest

from origin.radio.mounts.mount import Mount
from packager.radio.source_client_station import SourceClientStation
from tests.descriptors import descriptors
from tests.patience import PATIENCE_SECONDS
from tests.radio_server import (
    FRAME_BYTES,
    LIMIT,
    Client,
    Feed,
    Server,
    mount_options,
    numbered_frame,
    numbers,
    serving,
)
from tests.waiting import until

PASSWORD = "sesame"
KEY = base64.b64encode(f"source:{PASSWORD}".encode()).decode()
AUTH = f"Authorization: Basic {KEY}"
MPEG = "Content-Type: audio/mpeg"
SECOND = 39


def audio(first: int, frames: int) -> bytes:
    return b"".join(map(numbered_frame, range(first, first + frames)))


@contextlib.asynccontextmanager
async def one_published(silent_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[tuple[Mount, Server]]:
    mount = Mount("test", SourceClientStation(128), mount_options(hold_seconds=PATIENCE_SECONDS))
    feed = Mount("folder", Feed(), mount_options())
    mounts = {"test": mount, "folder": feed}
    async with serving(mounts, passwords={"test": PASSWORD}, silent_seconds=silent_seconds) as server:
        yield mount, server


async def head(client: Client) -> str:
    async with asyncio.timeout(LIMIT):
        return (await client.reader.readuntil(b"\r\n\r\n")).decode("latin-1")


async def heard(server: Server, frames: int) -> list[int]:
    listener = await server.open()
    assert listener.status == 200
    return numbers(await listener.body(frames * FRAME_BYTES))


# RFC 9110 §10.1.1: 100 before the content is sent; the answer is the request's, at its end.
async def test_a_put_without_a_length_is_told_to_go_on_and_answered_at_its_end() -> None:
    async with one_published() as (mount, server):
        source = await server.begin("PUT", AUTH, MPEG, "Expect: 100-continue", "Ice-Name: N\u00c3\u00a4me")
        assert await head(source) == "HTTP/1.1 100 Continue\r\n\r\n"
        source.writer.write(audio(0, 2 * SECOND))
        await until(lambda: mount.state == "live")
        assert await heard(server, 2 * SECOND) == list(range(2 * SECOND))
        assert mount.description.name == "N\u00e4me"
        source.writer.write_eof()
        assert (await head(source)).startswith("HTTP/1.1 200 ")
        await until(lambda: not mount.station.available)


@pytest.mark.clause("RFC 9110 §15.5.2", "A source of the old protocol is answered as Icecast does")
@pytest.mark.parametrize("version", ["HTTP/1.0", "ICE/1.0"])
@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
async def test_a_source_of_the_old_protocol_is_answered_at_once(version: str, size: int, end: str) -> None:
    """darkice ends lines with LF alone (RFC 9112 §2.2 allows to take it), and looks for this version."""
    async with one_published() as (mount, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        lines = [f"SOURCE /radio/test {version}", AUTH, MPEG, "ice-bitrate: 128"]
        request = f"{end.join(lines)}\r\n\r\n".encode()
        for start in range(0, len(request), size):
            writer.write(request[start : start + size])
            await asyncio.sleep(0)
        client = Client(reader, writer)
        server.clients.append(client)
        assert (await head(client)).startswith("HTTP/1.0 200 OK\r\n")
        # It looks like a request, and is audio.
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + audio(0, SECOND))
        await until(lambda: mount.state == "live")
        assert await heard(server, SECOND) == list(range(SECOND))


async def test_audio_that_comes_with_the_head_isnt_lost() -> None:
    async with one_published() as (mount, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        server.clients.append(Client(reader, writer))
        head_bytes = f"SOURCE /radio/test HTTP/1.0\r\n{AUTH}\r\n{MPEG}\r\n\r\n".encode()
        writer.write(head_bytes + audio(0, SECOND))
        await until(lambda: mount.state == "live")
        assert await heard(server, SECOND) == list(range(SECOND))


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_a_put_may_have_framing(framing: str) -> None:
    async with one_published() as (_mount, server):
        data = audio(0, SECOND)
        if framing == "chunked":
            source = await server.begin("PUT", AUTH, MPEG, "Transfer-Encoding: chunked")
            source.writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        else:
            source = await server.begin("PUT", AUTH, MPEG, f"Content-Length: {len(data)}")
            source.writer.write(data)
        assert (await head(source)).startswith("HTTP/1.1 200 ")
        assert await heard(server, SECOND) == list(range(SECOND))


async def test_thousands_of_requests_in_one_packet_that_may_be_sources_are_bounded() -> None:
    async with one_published() as (_mount, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"PUT /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 5000)
        async with asyncio.timeout(LIMIT):
            answers = await reader.read()
        writer.close()
        # The first is answered, the flood refused, and both in whole answers.
        assert answers.startswith(b"HTTP/1.1 404 ")
        assert answers.count(b"HTTP/1.1 4") > 1
        assert (await server.open(path="/status-json.xsl")).status == 200


OTHER = f"Authorization: Basic {base64.b64encode(b'source:wrong').decode()}"
ADMIN = f"Authorization: Basic {base64.b64encode(f'admin:{PASSWORD}'.encode()).decode()}"


@pytest.mark.clause(
    "RFC 9110 §10.1.1",
    "RFC 9110 §15.5.2",
    "A source of the old protocol is answered as Icecast does",
    "CVE-2015-3026",
)
@pytest.mark.parametrize(
    ("method", "fields", "status"),
    [
        ("SOURCE", [MPEG], 401),
        ("PUT", [MPEG, "Expect: 100-continue"], 401),
        ("PUT", [MPEG, OTHER], 401),
        ("PUT", [MPEG, ADMIN], 401),
        ("PUT", [MPEG, "Authorization: Basic %%%"], 401),
        ("PUT", [MPEG, f"Authorization: Bearer {KEY}"], 401),
        ("PUT", [AUTH], 415),
        ("PUT", [AUTH, "Content-Type: audio/flac"], 415),
        ("SOURCE", [AUTH, "Content-Type: video/webm"], 415),
    ],
)
async def test_a_refusal_has_its_exact_length_and_closes(method: str, fields: list[str], status: int) -> None:
    async with one_published() as (mount, server):
        client = await server.begin(method, *fields)
        answer = await head(client)
        assert answer.startswith(f"HTTP/{'1.0' if method == 'SOURCE' else '1.1'} {status} ")
        lines = dict(line.lower().split(": ", 1) for line in answer.strip().split("\r\n")[1:])
        async with asyncio.timeout(LIMIT):
            body = await client.reader.read()
        assert len(body) == int(lines["content-length"])
        assert ("www-authenticate" in lines) is (status == 401)
        assert not mount.station.available


async def test_what_isnt_carried_is_refused_with_what_is() -> None:
    async with one_published() as (_mount, server):
        client = await server.begin("PUT", AUTH, "Content-Type: video/ogg")
        assert (await head(client)).startswith("HTTP/1.1 415 ")
        async with asyncio.timeout(LIMIT):
            answer = await client.reader.read()
        assert all(kind in answer for kind in (b"audio/mpeg", b"audio/aac", b"application/ogg"))


async def test_a_station_that_isnt_there_or_takes_no_source_is_told_apart() -> None:
    async with one_published() as (_mount, server):
        assert (await server.open(AUTH, MPEG, method="PUT", path="/radio/other")).status == 404
        assert (await server.open(AUTH, MPEG, method="PUT", path="/radio/folder")).status == 403
        assert (await server.open(AUTH, MPEG, method="SOURCE", path="/media/x")).status == 404


@pytest.mark.parametrize(("method", "status"), [("PUT", 409), ("SOURCE", 403)])
async def test_a_second_source_is_refused_and_the_first_plays_on(method: str, status: int) -> None:
    async with one_published() as (mount, server):
        first = await server.begin("SOURCE", AUTH, MPEG)
        await head(first)
        assert (await server.open(AUTH, MPEG, method=method)).status == status
        first.writer.write(audio(0, SECOND))
        await until(lambda: mount.state == "live")
        first.abort()
        await until(lambda: not mount.station.available)
        again = await server.begin("SOURCE", AUTH, MPEG)
        assert (await head(again)).startswith("HTTP/1.0 200 ")


async def test_a_source_that_stalls_loses_its_place() -> None:
    async with one_published(silent_seconds=0.3) as (mount, server):
        source = await server.begin("SOURCE", AUTH, MPEG, version="HTTP/1.0")
        # At once, so that it isn't late with this, however late we are.
        source.writer.write(audio(0, SECOND))
        await head(source)
        await until(lambda: mount.state == "live")
        await until(lambda: not mount.station.available)
        async with asyncio.timeout(LIMIT):
            assert await source.reader.read() == b""


async def test_garbage_is_refused() -> None:
    async with one_published() as (mount, server):
        source = await server.begin("PUT", AUTH, MPEG, "Expect: 100-continue")
        await head(source)
        source.writer.write(bytes(200_000))
        assert (await head(source)).startswith("HTTP/1.1 415 ")
        await until(lambda: not mount.station.available)
        assert mount.state != "live"


async def test_listeners_stay_between_two_sources_and_hear_the_next() -> None:
    async with one_published() as (mount, server):
        first = await server.begin("SOURCE", AUTH, MPEG)
        first.writer.write(audio(0, SECOND))
        await until(lambda: mount.state == "live")
        listener = await server.open()
        assert numbers(await listener.body(SECOND * FRAME_BYTES)) == list(range(SECOND))
        # A frame and a half: the half is never heard.
        first.writer.write(audio(1000, 1)[: FRAME_BYTES // 2])
        await first.writer.drain()
        first.abort()
        await until(lambda: not mount.station.available)
        second = await server.begin("SOURCE", AUTH, MPEG)
        second.writer.write(audio(500, SECOND))
        assert numbers(await listener.body(SECOND * FRAME_BYTES)) == list(range(500, 500 + SECOND))


async def test_a_source_far_ahead_of_real_time_is_made_to_wait() -> None:
    async with one_published() as (mount, server):
        source = await server.begin("SOURCE", AUTH, MPEG)
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                source.writer.write(audio(0, 100))
                await source.writer.drain()
                sent += 100

        started = asyncio.get_running_loop().time()
        sending = asyncio.create_task(send())
        await until(lambda: mount.media_time >= 10)
        await asyncio.sleep(2)
        sending.cancel()
        await asyncio.wait([sending])
        # Ten seconds ahead and two of real time, or more where we are late; the rest waits in buffers.
        assert len(mount.audience) == 0
        assert mount.media_time <= 14 + asyncio.get_running_loop().time() - started


@pytest.mark.parametrize("end", ["eof", "reset", "garbage", "stall"])
async def test_of_a_source_nothing_stays_however_it_ends(end: str) -> None:
    async with one_published(0.5 if end == "stall" else PATIENCE_SECONDS) as (mount, server):

        async def bring() -> None:
            source = await server.begin("SOURCE", AUTH, MPEG)
            source.writer.write(audio(0, SECOND))
            await head(source)
            await until(lambda: mount.state == "live")
            if end == "eof":
                source.writer.write_eof()
            elif end == "garbage":
                source.writer.write(bytes(200_000))
            elif end == "reset":
                source.abort()
            await until(lambda: not mount.station.available, "the source's end")
            source.abort()

        def held() -> tuple[int, int]:
            gc.collect()
            return len(asyncio.all_tasks()), descriptors()

        await bring()
        before = held()
        for _ in range(5):
            await bring()
        await until(lambda: held() <= before, "the tasks and descriptors of before")


# Titles


async def update(server: Server, query: str, *fields: str) -> tuple[int, bytes]:
    client = await server.open("Connection: close", *fields, path=f"/admin/metadata?{query}")
    async with asyncio.timeout(LIMIT):
        return client.status, await client.reader.read()


async def test_a_title_belongs_to_the_audio_that_follows_it() -> None:
    async with one_published() as (mount, server):
        source = await server.begin("SOURCE", AUTH, MPEG)
        await head(source)
        source.writer.write(audio(0, SECOND))
        await until(lambda: mount.state == "live")
        status, body = await update(server, "mode=updinfo&mount=/radio/test&song=%C3%84rger+%26+Co", AUTH)
        assert (status, b"<return>1</return>" in body) == (200, True)
        source.writer.write(audio(SECOND, SECOND))
        await until(lambda: mount.title == "\u00c4rger & Co")
        client = await server.open("Connection: close", path="/status-json.xsl")
        async with asyncio.timeout(LIMIT):
            answer = json.loads(await client.reader.read())
        assert answer["icestats"]["source"][0]["title"] == "\u00c4rger & Co"


@pytest.mark.clause("Metadata is updated with the source's password")
@pytest.mark.parametrize(
    ("query", "fields", "expected"),
    [
        ("mode=updinfo&mount=/radio/test&song=x", [], 401),
        ("mode=updinfo&mount=/radio/test&song=x", [OTHER], 401),
        ("mode=fallbacks&mount=/radio/test", [AUTH], 200),  # with "No such action"
        ("mode=updinfo&mount=/radio/folder&song=x", [AUTH], 400),
        ("mode=updinfo&song=x", [AUTH], 400),
        ("mode=updinfo&mount=/radio/test&song=x", [AUTH], 400),  # no source is there
    ],
)
async def test_titles_are_only_taken_with_the_sources_password(
    query: str, fields: list[str], expected: int
) -> None:
    async with one_published() as (_mount, server):
        assert (await update(server, query, *fields))[0] == expected


async def test_who_is_disconnected_in_the_moment_in_which_its_audio_comes_is() -> None:
    reading, writing = os.pipe()
    async with one_published() as (mount, server):

        def disconnect() -> None:
            os.read(reading, 1)
            assert mount.dismiss_source()

        source = await server.begin("PUT", AUTH, MPEG)
        source.writer.write(audio(0, SECOND))
        await until(lambda: mount.state == "live")
        asyncio.get_running_loop().add_reader(reading, disconnect)
        # The loop finds both at once: what comes wakes up its receiver, which runs once it is disconnected.
        source.writer.write(audio(SECOND, 1))
        os.write(writing, b"-")
        assert (await head(source)).startswith("HTTP/1.1 403 ")
        asyncio.get_running_loop().remove_reader(reading)
    os.close(reading)
    os.close(writing)

"""Readers with a fault, and damaged bytes, at the doors of a server: each costs its own stream alone."""

from __future__ import annotations

import asyncio
import random
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

import packager.reader_guard
from media.rtmp.connection import PublisherConnection
from origin.access.guess_delay import GuessDelay
from origin.ingest.admission import IngestAdmission
from origin.ingest.limits import IngestLimits
from origin.ingest.rtmp import RtmpServer
from origin.radio.mounts.mount import Mount
from packager.concurrency import background_task
from packager.radio.source_client_station import SourceClientSession, SourceClientStation
from packager.sources.published_source import PublishedSource
from packager.sources.pullers.http_puller import HttpPuller
from tests.packager.sources.guarded_hosts import answering
from tests.patience import CLIENT_SECONDS
from tests.permissions import live_authorization
from tests.radio_server import mount_options, numbered_frame, serving
from tests.rtmp import HANDSHAKE, publishing
from tests.waiting import until

FAULT = "a reader has a fault"
ROUNDS = 5
SOURCE = f"Authorization: Basic {b64encode(b'source:sesame').decode()}"


FRAMES = b"".join(map(numbered_frame, range(80)))


def fail(*_: Any) -> NoReturn:
    raise IndexError("a fault of a reader")


@pytest.fixture(autouse=True)
def _forget_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have logged the same place."""
    monkeypatch.setattr(packager.reader_guard, "_logged", set())


@asynccontextmanager
async def rtmp() -> AsyncIterator[Callable[[bytes], Awaitable[bytes]]]:
    """Run a server of one channel; yield a function that sends bytes and returns all that is answered."""
    loop = asyncio.get_running_loop()
    admission = IngestAdmission(
        {"studio": PublishedSource("studio")}, live_authorization({"studio": "key"}), GuessDelay(2, 0.05)
    )
    server = RtmpServer(admission, IngestLimits())
    running = asyncio.ensure_future(server.run())
    listening = await loop.create_server(server.protocol, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]

    async def talk(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(CLIENT_SECONDS):
            with closing(writer), suppress(ConnectionError):
                writer.write(data)
                writer.write_eof()
                return await reader.read()
        return b""

    yield talk
    listening.close()
    running.cancel()
    await asyncio.wait([running])


GOOD = publishing("studio?key=key")


async def test_a_fault_of_rtmps_reader_ends_its_connection_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rtmp() as talk:
        with capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(PublisherConnection, "receive_data", fail)
            for _ in range(ROUNDS):
                await talk(GOOD)
        assert [line["event"] for line in logs if line["log_level"] == "error"] == [FAULT]
        assert b"NetStream.Publish.Start" in await talk(GOOD)


async def test_damaged_rtmp_is_refused_without_a_fault() -> None:
    chance = random.Random(11)
    async with rtmp() as talk:
        with capture_logs() as logs:
            for _ in range(60):
                damaged = bytearray(GOOD)
                for _ in range(chance.choice((1, 4, 30))):
                    damaged[chance.randrange(len(HANDSHAKE), len(damaged))] = chance.randrange(256)
                await talk(bytes(damaged))
        assert not [line for line in logs if line["log_level"] == "error"]
        assert b"NetStream.Publish.Start" in await talk(GOOD)


async def test_a_fault_of_a_stations_reader_ends_its_source_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mount = Mount("one", SourceClientStation(128), mount_options())
    async with serving({"one": mount}, passwords={"one": "sesame"}) as server:
        with capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(SourceClientSession, "feed", fail)
            for _ in range(ROUNDS):
                client = await server.source("one", SOURCE)
                client.writer.write(FRAMES)
                async with asyncio.timeout(CLIENT_SECONDS):
                    assert await client.reader.read() == b""
        assert [line["event"] for line in logs if line["log_level"] == "error"] == [FAULT]
        client = await server.source("one", SOURCE)
        client.writer.write(FRAMES)
        await until(lambda: mount.state == "live", "the station")


async def test_a_fault_of_the_reader_of_a_pulled_stream_has_it_fetched_again_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with answering() as (port, asked):
        puller = HttpPuller(f"http://127.0.0.1:{port}/a.ts", "pulled")
        monkeypatch.setattr(HttpPuller, "_receive_stream", fail)
        with capture_logs() as logs:
            async with background_task(puller.run()):
                await until(lambda: len(asked) >= 2, "another attempt")
                assert "IndexError" in puller.trouble
        assert [line["event"] for line in logs if line["log_level"] == "error"] == [FAULT]

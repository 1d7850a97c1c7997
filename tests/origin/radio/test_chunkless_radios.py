"""Radios that ask in HTTP/1.1 and can't read chunks get the audio as Icecast sends it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from origin.radio.mounts.mount import Mount
from packager.concurrency import background_task
from packager.radio.source_client_station import SourceClientStation
from tests.radio_server import (
    FRAME_BYTES,
    Client,
    Feed,
    mount_options,
    numbered_frame,
    numbers,
    one_mount,
    serving,
)
from tests.waiting import until

RADIO = ("User-Agent: radio", "Icy-MetaData: 0")
"""Fields of such radios: Icecast sends no titles, and no chunks."""


def assert_body_until_close(client: Client) -> None:
    """Check that the body ends with the connection (RFC 9112 §6.3, case 8) and says so (§9.6)."""
    assert client.status == 200
    assert "transfer-encoding" not in client.headers
    assert "content-length" not in client.headers
    assert client.headers["connection"].lower() == "close"


@pytest.mark.clause("RFC 9112 §6.3")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_the_body_is_the_audio_alone_up_to_the_end_of_the_connection(version: str) -> None:
    async with one_mount() as (feed, mount, server):
        client = await server.open(*RADIO, version=version)
        assert_body_until_close(client)
        await until(lambda: mount.listeners == 1)
        feed.push(40)
        feed.end()
        async with asyncio.timeout(60):
            heard = await client.reader.read(-1)
        assert len(heard) == 40 * FRAME_BYTES
        assert numbers(heard) == list(range(40))


async def test_other_listeners_get_chunks_that_show_a_body_which_was_cut_off() -> None:
    async with one_mount() as (feed, _mount, server):
        client = await server.open("User-Agent: browser")
        assert client.headers["transfer-encoding"] == "chunked"
        feed.push(10)
        assert numbers(await client.body(10 * FRAME_BYTES)) == list(range(10))


async def test_the_fallback_is_heard_without_chunks_and_so_is_the_source_behind_it() -> None:
    station = Mount("test", SourceClientStation(128), mount_options(burst_bytes=0))
    feed = Feed()
    fallback = Mount("spare", feed, mount_options(burst_bytes=0))
    station.fall_back_to(fallback)
    feed.begin_at(100_000)
    mounts = {"test": station, "spare": fallback}
    async with serving(mounts, passwords={"test": "pw"}) as server, background_task(played(feed)):
        await until(lambda: station.state == "live")
        client = await server.open(*RADIO)
        assert_body_until_close(client)
        assert numbers(await client.body(FRAME_BYTES)) >= [100_000]
        source = await server.source("test", "Authorization: Basic c291cmNlOnB3")
        source.writer.write(b"".join(map(numbered_frame, range(200))))
        # Whole frames come, and nothing between them.
        while numbers(await client.body(FRAME_BYTES)) != [100]:
            pass


async def played(feed: Feed) -> None:
    """Send audio again and again."""
    while True:
        feed.push(39)
        await asyncio.sleep(0.1)


@pytest.mark.clause("RFC 9110 §9.3.2")
async def test_head_has_the_fields_of_get_and_no_body() -> None:
    async with one_mount() as (feed, _mount, server):
        feed.push(3)
        got = await server.open(*RADIO)
        head = await server.open(*RADIO, method="HEAD")
        assert head.status == 200
        framing = ("transfer-encoding", "content-length", "connection", "content-type", "icy-name")
        assert {name: head.headers.get(name) for name in framing} == {
            name: got.headers.get(name) for name in framing
        }
        async with asyncio.timeout(60):
            assert await head.reader.read(-1) == b""


async def test_curl_that_takes_nothing_but_an_unchunked_body_hears_it(tmp_path: Path) -> None:
    async with one_mount() as (feed, mount, server):
        feed.push(3)
        # curl writes the bytes as they came, with the framing of chunks if there is any.
        options = "--silent --raw --http1.1 --header Icy-MetaData:1"
        words = f"curl {options} --output {tmp_path}/a {server.url}/radio/test"
        listening = asyncio.create_task(asyncio.to_thread(subprocess.run, words.split(), check=True))
        await until(lambda: mount.listeners == 1)
        feed.end()
        await asyncio.wait_for(listening, 60)
        assert numbers((tmp_path / "a").read_bytes()) == [0, 1, 2]

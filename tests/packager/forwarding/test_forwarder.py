"""Pushing a stream on waits for nobody longer than it may, and keeps no more than it may."""

from __future__ import annotations

import asyncio
import subprocess
from typing import cast

import pytest

from media.stream_reader import StreamChunk
from packager.forwarding.forwarder import Forwarder, ForwardLimits
from packager.process.ffmpeg_discovery import discover
from packager.process.process import Process
from packager.retry_policy import RetryPolicy
from packager.sources.publication import Publication, Publisher
from packager.sources.published_source import PublishedSource
from packager.sources.tee_branch import TeeBranch
from tests.origin.ingest.studio import encoder_arguments
from tests.waiting import until

KEY = "a-key-of-elsewhere"
LIMITS = ForwardLimits(
    retry=RetryPolicy(first_seconds=0.1, longest_seconds=0.2), connect_seconds=1.0, stalled_seconds=1.0
)


async def publish(publication: Publication) -> None:
    """Publish a test picture and a tone in real time."""
    words = ["ffmpeg", *encoder_arguments("mpegts").split(), "pipe:1"]
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        while data := await process.stdout.read(4096):
            await publication.receive_data(data)
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.timeout(300)
async def test_a_server_that_says_nothing_is_given_up_and_asked_again() -> None:
    asked = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        while await reader.read(1 << 16):
            pass
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    source = PublishedSource("studio")
    publication = source.begin(Publisher("http", "192.0.2.7"))
    forwarder = Forwarder(source, f"rtmp://127.0.0.1:{port}/live/{KEY}", await discover(), LIMITS)
    work = [asyncio.create_task(publish(publication)), asyncio.create_task(forwarder.run())]
    try:
        # A slow machine's ffmpeg may be given up before it has connected.
        await until(lambda: forwarder.failures > 1 and asked > 1, "two attempts")
        assert forwarder.last_error == "the other server can't be connected to in time"
        assert KEY not in forwarder.target + forwarder.last_error
        assert publication.is_on_air
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)
        server.close()


async def test_a_branch_that_nobody_reads_ends_at_its_limit() -> None:
    branch = TeeBranch([StreamChunk(b"headers")], 100)
    for _ in range(20):
        branch.push(StreamChunk(bytes(10)))
    assert branch.has_overflown
    assert branch.has_ended
    data = b"".join(one.data for one in await branch.read())
    assert data.startswith(b"headers")
    assert len(data) <= len(b"headers") + 100
    assert await branch.read() == []


async def test_a_group_of_pictures_larger_than_what_may_wait_is_no_fault_of_the_reader() -> None:
    branch = TeeBranch([StreamChunk(bytes(200))], 100)
    branch.push(StreamChunk(bytes(10)))
    assert not branch.has_overflown
    assert sum(one.size for one in await branch.read()) == 210


async def test_a_slow_server_is_given_up_only_where_it_takes_nothing() -> None:
    """The time runs for each piece, however much of the stream has waited."""
    pieces = list[bytes]()

    class Slow:
        async def write(self, data: bytes) -> None:
            pieces.append(data)

    limits = ForwardLimits(write_bytes=100)
    forwarder = Forwarder(PublishedSource("studio"), "rtmp://127.0.0.1/live/x", await discover(), limits)
    data = bytes(range(250)) * 3
    await forwarder._write(cast(Process, Slow()), data)
    assert b"".join(pieces) == data
    assert [len(piece) for piece in pieces] == [100] * 7 + [50]

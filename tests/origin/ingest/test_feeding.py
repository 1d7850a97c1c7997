"""How long publishers may be silent whose streams come as bytes, over HTTP and SRT."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

from media.flv.tags import AUDIO, file_header
from origin.ingest.feeding import FeedEnd, Feeding
from packager.sources.publication import Publication, Publisher
from packager.sources.published_source import PublishedSource
from tests.media.flv.flv_tags import AAC, write_tag
from tests.patience import CLIENT_SECONDS
from tests.waiting import until

SILENT_SECONDS = 0.5
SOUND = 20 * write_tag(AUDIO, 0, b"\xaf\1sound")


@contextlib.asynccontextmanager
async def fed() -> AsyncIterator[tuple[socket.socket, Publication, asyncio.Task[tuple[FeedEnd, str]]]]:
    """Feed a publication with what is sent to a socket."""
    publication = PublishedSource("studio").begin(Publisher("http", "192.0.2.1"))
    far, near = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)

    async def receive() -> bytes | None:
        return await reader.read(1 << 16) or None

    task = asyncio.create_task(Feeding(lambda _: SILENT_SECONDS).run(publication, receive))
    with far, contextlib.closing(writer):
        async with asyncio.timeout(CLIENT_SECONDS):
            far.sendall(file_header() + write_tag(AUDIO, 0, AAC[0]) + SOUND)
            await until(received_more(publication, 0))
            yield far, publication, task


def received_more(publication: Publication, than: int) -> Callable[[], bool]:
    return lambda: publication.received > than


async def test_what_came_while_the_server_stood_still_is_read() -> None:
    async with fed() as (far, publication, task):
        before = publication.received
        far.sendall(SOUND)
        time.sleep(2 * SILENT_SECONDS)
        await until(received_more(publication, before))
        far.shutdown(socket.SHUT_WR)
        assert await task == (FeedEnd.COMPLETE, "")


@pytest.mark.parametrize("sent", [b"", b"\0"], ids=["nothing", "single bytes"])
async def test_who_sends_nothing_of_a_stream_is_disconnected(sent: bytes) -> None:
    async with fed() as (far, _, task):
        far.sendall(write_tag(AUDIO, 0, bytes(1 << 16))[:100])
        while not task.done():
            far.sendall(sent)
            await asyncio.sleep(SILENT_SECONDS / 50)
        assert (await task)[0] is FeedEnd.SILENT

"""The channel of a running server as Python programs publish on it: what they send, and what may fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from origin.events.limits import EventLimits
from origin.events.remote_channel import NotPublishedError, RemoteChannel, RemoteTimeouts
from tests.event_server import LIMIT, TOKEN, WAYS, Server, Way, a_channel, reading, serving
from tests.waiting import until

PATIENT = RemoteTimeouts(connect_seconds=LIMIT, answer_seconds=LIMIT, silent_seconds=LIMIT)


def remote(server: Server, token: str = TOKEN, timeouts: RemoteTimeouts = PATIENT) -> RemoteChannel:
    return RemoteChannel(server.url, token, timeouts)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_each_item_is_read_before_the_next_one_is_made(way: Way) -> None:
    async with serving(a_channel()) as server, reading(way, server) as (got, _), remote(server) as channel:

        async def source() -> AsyncIterator[object]:
            for number in range(5):
                await until(lambda number=number: len(got) == number)  # type: ignore[misc]
                yield f"{number} Grüße\n😀" if number else {"number": [0]}

        assert await channel.publish_from(source(), "token") == 5
        await until(lambda: len(got) == 5)
    assert [event.data for event in got] == [
        '{"number":[0]}',
        *(f"{number} Grüße\n😀" for number in range(1, 5)),
    ]
    assert {event.name for event in got} == {"token"}


class Source:
    """A generator that knows whether it was closed."""

    def __init__(self, *items: object, then: Callable[[], Any] | None = None) -> None:
        self.items = items
        self.then = then
        self.is_closed = False

    async def stream(self) -> AsyncIterator[object]:
        try:
            for item in self.items:
                yield item
            if self.then is not None:
                await self.then()
        finally:
            self.is_closed = True


async def test_what_the_server_does_not_take_is_an_error_with_its_reason_and_the_source_is_let_go() -> None:
    limits = EventLimits(event_bytes=100)
    async with serving(limits=limits) as server:
        source = Source("x")
        async with remote(server, "wrong") as channel:
            with pytest.raises(NotPublishedError, match=r"401: .*publish_token") as refused:
                await channel.publish_from(source.stream())
            assert (refused.value.status, refused.value.count, source.is_closed) == (401, 0, True)
        source = Source("one", "x" * 1000, "three")
        async with remote(server) as channel:
            with pytest.raises(NotPublishedError, match=r"413: .*100 bytes") as refused:
                await channel.publish_from(source.stream())
            assert (refused.value.count, source.is_closed) == (1, True)
            # The channel can be used again.
            assert await channel.publish_from(Source("four").stream()) == 1
        assert [event.data for event in server.channel.log.between(0, 9)] == ["one", "four"]


async def test_a_source_that_fails_fails_here_and_what_it_gave_before_is_published() -> None:
    async with serving() as server, remote(server) as channel:

        async def fail() -> None:
            await until(lambda: server.channel.published == 2)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await channel.publish_from(Source("one", "two", then=fail).stream())
        assert server.channel.published == 2
        assert await channel.publish_from(Source("three").stream()) == 1


async def test_who_is_cancelled_lets_its_source_go() -> None:
    async with serving() as server, remote(server) as channel:
        source = Source("one", then=asyncio.Event().wait)
        task = asyncio.create_task(channel.publish_from(source.stream()))
        await until(lambda: server.channel.published == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.is_closed


async def test_a_silent_source_shows_that_it_is_there() -> None:
    """Otherwise a server, or a proxy before it, takes the request for given up."""
    seen, spoken = bytearray(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while not seen.endswith(b"0\r\n\r\n"):
            seen.extend(await reader.read(1000))
            if b"1\r\n\n\r\n" in seen:
                spoken.set()
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"count":1}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        timeouts = RemoteTimeouts(connect_seconds=LIMIT, answer_seconds=LIMIT, silent_seconds=0.01)
        async with RemoteChannel(f"http://127.0.0.1:{port}/events/test", TOKEN, timeouts) as channel:

            async def source() -> AsyncIterator[str]:
                await spoken.wait()
                yield "x"

            assert await channel.publish_from(source()) == 1


async def test_a_server_that_is_not_there_is_an_error() -> None:
    async with serving() as server:
        address = server.url
    async with RemoteChannel(address, TOKEN) as channel:
        with pytest.raises(httpx.HTTPError):
            await channel.publish_from(Source("x").stream())

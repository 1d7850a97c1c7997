"""A body that is written onto the connection goes on without the application's task, and its end is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

import pytest
from starlette.types import Receive, Scope, Send

from origin.http1.body_writer import STREAM, Stream, at_end, may_outlive, outlive
from tests.app_server import app_running
from tests.event_server import a_channel, serving
from tests.held_connections import connections
from tests.radio_server import Client, one_mount
from tests.waiting import until

MANY = 20


class Endless:
    """Answers with a body that goes on behind its return, until it is told to end."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.told: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert may_outlive(scope)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": STREAM, "take": self.streams.append, "buffer": 4096})
            outlive(scope)
            if scope["path"] == "/ends":
                self.streams[-1].end(5.0)
        finally:
            at_end(scope, self._fail)
            at_end(scope, partial(self.told.append, scope["path"]))

    def _fail(self) -> None:
        raise ValueError("one of those who are told fails")


@pytest.mark.parametrize(
    ("path", "leave"),
    [
        ("/left", Client.abort),
        ("/half-closed", lambda client: client.writer.write_eof()),
        ("/ended", lambda _: None),
        ("/ends", None),
    ],
)
async def test_the_end_of_a_body_that_goes_on_is_told_once(
    path: str, leave: Callable[[Client], None] | None
) -> None:
    endless = Endless()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        clients: list[Client] = []
        async with app_running(endless, listening, (), lambda: [client.writer for client in clients]):
            client = await Client.open(port, path=path)
            clients.append(client)
            own = client.writer.get_extra_info("sockname")
            if leave is not None:
                assert endless.told == []
                endless.streams[0].write_pieces([b"a block"])
                assert await client.chunk() == b"a block"
                assert endless.told == []
                leave(client)
                if path == "/ended":
                    endless.streams[0].end(5.0)
            await until(lambda: endless.told == [path])
            if path in ("/ended", "/ends"):
                # The connection stays, and has its next answer.
                client.writer.write(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
                await until(lambda: len(endless.streams) == 2)
                client.abort()
                await until(lambda: endless.told == [path, "/next"])
            endless.streams.clear()
            await until(lambda: connections(own) == 0)


async def test_a_listener_costs_no_task_and_makes_room_when_it_leaves() -> None:
    async with one_mount() as (feed, mount, server):
        feed.push(39)
        await feed.settled()
        first = await server.open()
        await until(lambda: mount.listeners == 1)
        before = len(asyncio.all_tasks())
        more = [await server.open() for _ in range(MANY)]
        await until(lambda: mount.listeners == MANY + 1)
        feed.push(39)
        for client in (first, *more):
            await client.body(39 * 417)
        await until(lambda: len(asyncio.all_tasks()) <= before)
        for client in more:
            client.abort()
        await until(lambda: mount.listeners == 1)


async def test_a_reader_of_events_costs_no_task() -> None:
    channel = a_channel()
    async with serving(channel) as server:
        first = await server.open("Accept: text/event-stream")
        await until(lambda: channel.readers == 1)
        before = len(asyncio.all_tasks())
        more = [await server.open("Accept: text/event-stream") for _ in range(MANY)]
        await until(lambda: channel.readers == MANY + 1)
        await until(lambda: len(asyncio.all_tasks()) <= before)
        for reader in (first, *more):
            await reader.close()
        await until(lambda: channel.readers == 0)

"""A live channel that runs: in a test's own loop, or behind a real server in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

from origin.answers.asgi import handler_routes
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from origin.http1.protocol import http_protocol
from origin.live.handler import LiveHandler
from origin.live.requests.addresses import PATTERNS
from packager.live.channel import Channel
from tests.waiting import wait_for


@dataclass(frozen=True)
class LiveServer:
    """The channel and where it is served; ``url`` ends without a slash; what touches it runs in ``loop``."""

    channel: Channel
    url: str
    loop: asyncio.AbstractEventLoop


@contextlib.asynccontextmanager
async def running(channel: Channel) -> AsyncIterator[asyncio.Task[None]]:
    """Run a channel in this loop until the block ends; gives the task that does."""
    task = asyncio.create_task(channel.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def broadcasting(channel: Channel) -> Iterator[LiveServer]:
    """Run the channel and its server until the block ends."""

    loops: list[asyncio.AbstractEventLoop] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loops.append(asyncio.get_running_loop())
        async with running(channel):
            yield

    streams = {channel.name: channel.stream}
    handler = LiveHandler(streams)
    app = Starlette(routes=handler_routes(handler, PATTERNS), lifespan=lifespan)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=http_protocol(HttpLimits(), FastPath({"live": handler})),
        ws="none",
        loop="uvloop",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="live server")
    thread.start()
    try:
        wait_for(lambda: server.started, what="the server's start")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield LiveServer(channel, f"http://127.0.0.1:{port}/live/{channel.name}", loops[0])
    finally:
        server.should_exit = True
        thread.join(120)
    assert not thread.is_alive()

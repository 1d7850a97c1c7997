"""Runs an application on a bound socket by uvicorn with our protocol, beside what the application serves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from origin.http1.limits import HttpLimits
from origin.http1.protocol import http_protocol
from tests.certificates import Certificate
from tests.patience import PATIENCE_SECONDS
from tests.waiting import until

WIRE = HttpLimits(linger_seconds=PATIENCE_SECONDS)


class Service(Protocol):
    """A mount, an event channel or a relay: something with a task."""

    async def run(self) -> None: ...

    def close(self) -> None: ...


@contextlib.asynccontextmanager
async def app_running(
    app: ASGIApp,
    listening: socket.socket,
    services: Iterable[Service],
    writers: Callable[[], Iterable[asyncio.StreamWriter]],
    certificate: Certificate | None = None,
) -> AsyncIterator[None]:
    """Serve an application while the block runs.

    Args:
        app: the application.
        listening: a socket that is bound already.
        services: what it serves; they run beside it, and are closed in this order at the end.
        writers: give the bare connections of the test, which are cut before that.
        certificate: of the server, which has TLS with it.
    """
    services = tuple(services)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        http=http_protocol(WIRE),
        timeout_graceful_shutdown=5,
        ssl_certfile=None if certificate is None else certificate.chain,
        ssl_keyfile=None if certificate is None else certificate.key,
    )
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(service.run()) for service in services]
        serving = group.create_task(server.serve(sockets=[listening]))
        try:
            await until(lambda: server.started)
            yield
        finally:
            for writer in writers():
                writer.transport.abort()
            for service in services:
                service.close()
            server.should_exit = True
            await serving
            for task in running:
                task.cancel()

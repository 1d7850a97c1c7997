"""The application of ``headwater serve`` in this process, so that a test measures each step of its loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from origin.config.load import load
from origin.server.serve import _access_options, _http_config
from origin.server.services.limits import Limits
from origin.server.services.services import Services, StartFacts
from packager.process.ffmpeg_discovery import Tools
from tests.waiting import until


@dataclass(frozen=True)
class OwnServer:
    """A server of this process.

    Attributes:
        application: the innermost application, which has the routes.
    """

    port: int
    application: Starlette

    @property
    def routes(self) -> list[Route]:
        return [one for one in self.application.routes if isinstance(one, Route)]


@contextlib.asynccontextmanager
async def own_server(
    configuration: Path, tools: Tools | None = None, limits: Limits | None = None
) -> AsyncIterator[OwnServer]:
    """Serve with a configuration while the block runs."""
    config = await asyncio.to_thread(load, configuration, {}, {})
    facts = StartFacts(files=(configuration,))
    services = await asyncio.to_thread(Services, config, tools, None, facts, limits)
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)
    services.access.options = _access_options(config, [listening], services.events.origins)
    # In a thread: the page's files are read at the start.
    made = await asyncio.to_thread(_http_config, config, services)
    server = uvicorn.Server(made)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await until(lambda: server.started or serving.done())
        yield OwnServer(listening.getsockname()[1], innermost(made.app))
    finally:
        services.close()
        server.should_exit = True
        await serving


def innermost(application: Any) -> Starlette:
    """Return what a server's middleware is around."""
    while not isinstance(application, Starlette):
        application = next(one for one in map(vars(application).get, ("_app", "app")) if one is not None)
    return application

"""The application of ``headwater serve`` on the wires of one process: our own, TLS, QUIC, another server.

``python -m tests.wires CONFIGURATION`` prints the ports, and serves until its standard input ends. All
answer from the same library, channels and stations, so that their answers can be compared.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from origin.config.load import load
from origin.http1.protocol import HttpProtocol
from origin.server.http3_config import http3_listeners
from origin.server.serve import _access_options, _http_config
from origin.server.services.services import Services, StartFacts
from origin.system.binding import bind_datagrams
from origin.system.connection_acceptor import ListeningLimits, SocketListener
from origin.tls.certificates import Certificates
from packager.process.ffmpeg_discovery import discover


class WithoutLifespan:
    """An application whose lifespan is another server's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})


async def serve(configuration: Path) -> None:
    """Serve until the standard input ends."""
    config = load(configuration, {}, {})
    services = await asyncio.to_thread(
        Services, config, await discover(), None, StartFacts(files=(configuration,))
    )
    sockets = [socket.create_server(("127.0.0.1", 0), backlog=100) for _ in range(3)]
    services.access.options = _access_options(config, sockets, services.events.origins)
    http_config = _http_config(config, services)
    own, app = uvicorn.Server(http_config), cast(ASGIApp, http_config.app)
    # No type checker knows this package where the dependencies of tests aren't installed.
    hypercorn: Any = importlib.import_module("hypercorn.asyncio")
    options: Any = importlib.import_module("hypercorn.config").Config()
    options.bind = [f"fd://{sockets[1].fileno()}"]
    options.graceful_timeout = 1.0
    ended = asyncio.Event()
    other = hypercorn.serve(WithoutLifespan(app), options, shutdown_trigger=ended.wait)
    async with asyncio.TaskGroup() as group:
        group.create_task(own.serve(sockets=sockets[:1]))
        group.create_task(other)
        while not own.started:
            await asyncio.sleep(0.01)
        certificates = Certificates(config.tls.certificate, config.tls.key, None, [])

        def protocol() -> HttpProtocol:
            return cast(type[Any], http_config.http_protocol_class)(  # type: ignore[no-any-return]
                config=http_config, server_state=own.server_state, app_state=own.lifespan.state
            )

        encrypted = SocketListener.of(sockets[2], protocol, ListeningLimits(), certificates.context)
        (make,) = http3_listeners(certificates, bind_datagrams(sockets[2:]))
        by_quic = make(protocol)
        for listener in (encrypted, by_quic):
            listener.start()
        print(*(one.getsockname()[1] for one in sockets), flush=True)  # noqa: T201  # its report
        await asyncio.to_thread(sys.stdin.read)
        for listener in (encrypted, by_quic):
            await listener.close()
        services.close()
        own.should_exit = True
        ended.set()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))

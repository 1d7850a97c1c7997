"""Listens for gRPC: a service of the server, which binds its port itself."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import structlog
import uvicorn

from origin.grpc.calls import Calls
from origin.grpc.connection import GrpcConnection
from origin.grpc.limits import GrpcLimits
from origin.http.client_limits import UNLIMITED, ClientLimit
from origin.http1.limits import HttpLimits
from origin.http1.protocol import HttpProtocol, http_protocol
from origin.system.binding import BindError, bind
from origin.system.connection_acceptor import DEFAULT_LIMITS, SocketListener
from origin.tls.certificates import Certificates
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

BIND_AGAIN_SECONDS = 2.0
"""Pause between two attempts to bind a port that another program has."""

REFUSABLE = 4
"""How many times as long metadata as are accepted may come without an end of the connection."""


class GrpcServer:
    """Accepts the connections of gRPC's clients.

    Args:
        host: name or address on which it listens.
        port: 0 chooses a free one.
        client_connections: how many connections one client may have.

    Attributes:
        port: on which it listens.
        certificates: None without TLS.
    """

    name = "grpc"

    def __init__(
        self,
        calls: Calls,
        host: str,
        port: int,
        certificates: Certificates | None,
        limits: GrpcLimits,
        client_connections: ClientLimit = UNLIMITED,
    ) -> None:
        self._calls = calls
        self._host = host
        self.port = port
        self.certificates = certificates
        self._limits = limits
        protocol = http_protocol(
            _wire_limits(limits),
            proxies=calls.proxies,
            client_connections=client_connections,
            http2=partial(GrpcConnection, limits),
        )
        self._config = uvicorn.Config(
            calls, http=protocol, ws="none", log_config=None, timeout_keep_alive=round(limits.idle_seconds)
        )
        self._make_protocol = protocol
        self._state = uvicorn.Server(self._config).server_state

    async def run(self) -> None:
        """Accept connections until cancelled, and then end all calls."""
        sockets = await self._bound()
        context = None if self.certificates is None else self.certificates.context
        listeners = [SocketListener.of(one, self._protocol, DEFAULT_LIMITS, context) for one in sockets]
        try:
            for one in listeners:
                one.start()
            await asyncio.Event().wait()
        finally:
            for listener, sock in zip(listeners, sockets, strict=True):
                await listener.close()
                sock.close()
            await self._end_calls()

    def close(self) -> None:
        """Have calls end with the advice to come again, as the server ends."""
        self._calls.is_closing = True

    def _protocol(self) -> HttpProtocol:
        return self._make_protocol(self._config, self._state, {})

    async def _end_calls(self) -> None:
        """Let calls end by themselves for a moment, and cut those that don't."""
        for one in list(self._state.connections):
            one.retire()  # type: ignore[union-attr]  # all are ours
        tasks = list(self._state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=self._limits.farewell_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Statuses of the last calls are written in the next turn of the loop.
        await asyncio.sleep(0)
        for one in list(self._state.connections):
            one.shutdown()
            if one.transport is not None:
                one.transport.close()

    async def _bound(self) -> list[socket.socket]:
        while True:
            try:
                sockets = await SHARED_THREADS.run(
                    bind, self._host, self.port, self._limits.end_seconds, "grpc.port", "server.host"
                )
            except BindError as error:
                log.warning("grpc can't listen", reason=str(error), again_in=BIND_AGAIN_SECONDS)
                await asyncio.sleep(BIND_AGAIN_SECONDS)
            else:
                self.port = sockets[0].getsockname()[1]
                return sockets


def _wire_limits(limits: GrpcLimits) -> HttpLimits:
    return HttpLimits(
        header_seconds=limits.handshake_seconds,
        header_bytes=REFUSABLE * limits.metadata_bytes,
        connections=limits.connections,
    )

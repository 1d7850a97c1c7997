"""Listens for gRPC: a service of the server, which binds its port itself."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import structlog

from origin.grpc.call_turns import CallTurns
from origin.grpc.calls import Calls
from origin.grpc.core import Call, CoreServer, lower_priority
from origin.grpc.limits import GrpcLimits
from origin.tls.certificates import Certificates

log = structlog.get_logger()

BIND_AGAIN_SECONDS = 2.0
"""Pause between two attempts to bind a port that another program has."""


class GrpcServer:
    """Accepts the connections of gRPC's clients.

    Args:
        host: name or address on which it listens.
        port: 0 chooses a free one.

    Attributes:
        port: on which it listens.
        certificates: None without TLS.
    """

    name = "grpc"

    def __init__(
        self, calls: Calls, host: str, port: int, certificates: Certificates | None, limits: GrpcLimits
    ) -> None:
        self._calls = calls
        self._host = host
        self.port = port
        self.certificates = certificates
        self._limits = limits

    async def run(self) -> None:
        """Accept connections until cancelled, and then end all calls."""
        server = await self._bound()
        tasks = set[asyncio.Task[None]]()

        def begin(call: Call) -> asyncio.Task[None]:
            task = asyncio.create_task(self._calls.answer(call))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return task

        turns = CallTurns(begin, self._calls.proxies, self._limits)

        def accept(call: Call) -> None:
            if len(tasks) + turns.waiting >= self._limits.connections:
                call.cut(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls")
            else:
                turns.add(call)

        try:
            server.listen(accept)
            await asyncio.Event().wait()
        finally:
            turns.close()
            await server.close(tasks, self._limits.farewell_seconds)

    def close(self) -> None:
        """Have calls end with the advice to come again, as the server ends."""
        self._calls.is_closing = True

    async def _bound(self) -> CoreServer:
        host = f"[{self._host}]" if ":" in self._host else self._host
        while True:
            # The event loop, which serves everybody, goes before the core's threads.
            thread = ThreadPoolExecutor(1, "grpc", lower_priority, (self._limits.niceness,))
            made = asyncio.get_running_loop().run_in_executor(thread, CoreServer, _options(self._limits))
            thread.shutdown(wait=False)
            server = await made
            credentials = None
            if self.certificates is not None:
                current = _CurrentCertificate(self.certificates)
                credentials = grpc.dynamic_ssl_server_credentials(current(), current)
            if port := server.bind(f"{host}:{self.port}", credentials):
                self.port = port
                return server
            again_in, reason = BIND_AGAIN_SECONDS, f"{host}:{self.port} can't be bound"
            advice = "or choose another port with grpc.port"
            log.warning("grpc can't listen", reason=reason, advice=advice, again_in=again_in)
            await asyncio.sleep(again_in)


class _CurrentCertificate:
    """Returns the certificate for a new connection, or None for the one of the connection before."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self._last = b""

    def __call__(self) -> Any:
        pem = self._certificates.pem
        if pem == self._last:
            return None
        self._last = pem
        return grpc.ssl_server_certificate_configuration([(pem, pem)])


def _options(limits: GrpcLimits) -> list[tuple[str, int]]:
    """Return grpcio's options, with times in milliseconds."""
    seconds = {
        "grpc.server_handshake_timeout_ms": limits.handshake_seconds,
        # Until a client has confirmed the limit of metadata, the core takes 16 MiB of them.
        "grpc.http2.settings_timeout": limits.handshake_seconds,
        "grpc.max_connection_idle_ms": limits.idle_seconds,
        "grpc.keepalive_time_ms": limits.ping_seconds,
        "grpc.keepalive_timeout_ms": limits.ping_seconds,
        "grpc.http2.ping_timeout_ms": limits.ping_seconds,
        "grpc.http2.min_ping_interval_without_data_ms": limits.ping_seconds / 2,
    }
    return [
        # Without it another server on the same port would get half of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.max_concurrent_streams", limits.streams),
        # Beyond a thousand calls that wait for the event loop, the core would cancel those of anybody.
        ("grpc.server.max_pending_requests", limits.connections),
        ("grpc.server.max_pending_requests_hard_limit", limits.connections),
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_metadata_size", limits.metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes),
        # The probe raises each connection's window to 4 MiB.
        ("grpc.http2.bdp_probe", 0),
        # A compressed message may be a thousand times as long as it comes; it is refused as no message.
        ("grpc.per_message_decompression", 0),
        *((name, round(value * 1000)) for name, value in seconds.items()),
    ]

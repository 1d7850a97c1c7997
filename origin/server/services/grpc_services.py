"""Makes the server's gRPC from the configuration, where the extra for it is installed."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from origin.config.errors import CommandError
from origin.config.options import Config
from origin.http.client_limits import connections_per_client, limit_per_client
from origin.http.trusted_proxies import TrustedProxies
from origin.server.services.services import Services
from origin.tls.certificates import Certificates

if TYPE_CHECKING:
    from origin.grpc.server import GrpcServer

MESSAGE_OVERHEAD_BYTES = 1024
"""Bytes of a message that publishes an event, beside the event's text."""


def require_grpc(config: Config) -> None:
    """Check that gRPC can be served, if it is configured.

    Raises:
        CommandError: the extra isn't installed.
    """
    modules = ("grpc", "grpc_health", "grpc_reflection")
    if config.grpc.port and not all(importlib.util.find_spec(one) for one in modules):
        raise CommandError("grpc.port: gRPC needs an extra; install headwater[grpc]")


def make_grpc_server(services: Services, app: ASGIApp, certificates: Certificates | None) -> GrpcServer:
    """Make what serves gRPC.

    Args:
        app: answers the requests of event channels.
        certificates: None without TLS.
    """
    config = services.config
    from origin.grpc.calls import Calls
    from origin.grpc.server import GrpcServer

    configured = config.limits
    limits = replace(
        services.limits.grpc,
        connections=configured.connections,
        message_bytes=configured.event_bytes + MESSAGE_OVERHEAD_BYTES,
    )
    proxies = TrustedProxies(config.server.trusted_proxies, config.server.forwarded_field)
    per_client = limit_per_client(configured.connections_per_address, configured.connections, proxies)
    scheme = "http" if certificates is None else "https"
    calls = Calls(app, proxies, per_client, lambda: not services.draining, limits, scheme=scheme)
    connections = connections_per_client(configured.connections_per_address, configured.connections, proxies)
    return GrpcServer(calls, config.server.host, config.grpc.port, certificates, limits, connections)

"""Makes uvicorn's configuration, and what answers on connections before the application does."""

from __future__ import annotations

from dataclasses import dataclass, replace

import uvicorn
from starlette.types import ASGIApp

from origin.access.guarded_handler import HandlerGuard
from origin.access.protected_addresses import TokenGuard
from origin.config.options import Config
from origin.files.handler import FileHandler
from origin.http.client_limits import ClientLimits, connections_per_client, limit_per_client
from origin.http.trusted_proxies import TrustedProxies
from origin.http1.access_log import AccessLog, RequestCounters
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from origin.http1.protocol import HttpProtocol
from origin.live.handler import LiveHandler
from origin.responses.response_middleware import common_headers
from origin.server.services.library_services import ServedLibrary

LIBRARY_VIEWS = 32
"""Searches of all clients at once; a person who types has two or three under way."""


@dataclass(frozen=True, slots=True)
class Served:
    """The services from which the fast path answers."""

    library: ServedLibrary
    live: LiveHandler
    traffic: RequestCounters
    guard: TokenGuard | None


def client_limits_of(config: Config, proxies: TrustedProxies) -> ClientLimits:
    """Make the limits of each client of a server.

    Args:
        proxies: whose clients are counted in their place.
    """
    limits = config.limits
    return ClientLimits(
        connections_per_client(limits.connections_per_address, limits.connections, proxies),
        limit_per_client(limits.listeners_per_address, limits.all_listeners, proxies),
        limit_per_client(limits.blocked_requests_per_address, limits.blocked_requests, proxies),
        limit_per_client(limits.event_readers_per_address, limits.event_readers, proxies),
        limit_per_client(None, LIBRARY_VIEWS, proxies),
    )


async def take_client_limits(client_limits: ClientLimits, first: Config, new: Config) -> None:
    """Apply the limits of each client of a configuration that is read again.

    Args:
        first: the configuration of the start: a limit that it hasn't exempts clients, and is another one.
    """
    for one, name in (
        (client_limits.connections, "connections_per_address"),
        (client_limits.listeners, "listeners_per_address"),
        (client_limits.blocked_requests, "blocked_requests_per_address"),
        (client_limits.event_readers, "event_readers_per_address"),
    ):
        former, most = getattr(first.limits, name), getattr(new.limits, name)
        if former is not None and most is not None:
            one.change(most)


def fast_path_of(config: Config, served: Served) -> FastPath:
    """Make the fast path, which answers common requests on the connection itself.

    Args:
        served: the services that it answers from.
    """
    library, guard = served.library, served.guard
    if guard is not None:
        library.vod.may_include = guard.protected.may_include
    access_log = AccessLog(served.traffic, log_requests=config.log.requests)
    shared_headers = common_headers(config.server.allow_origin)
    return FastPath(
        {
            "media": FileHandler(library.storage, config.library.max_age, library.open_files),
            "live": served.live,
            "vod": library.vod,
        },
        access_log,
        shared_headers,
        None if guard is None else HandlerGuard(guard),
    )


def uvicorn_config(config: Config, app: ASGIApp, protocol: type[HttpProtocol]) -> uvicorn.Config:
    """Make uvicorn's configuration."""
    return uvicorn.Config(
        app,
        http=protocol,
        # uvicorn trusts every local client; TrustedProxies does this instead, for the fast path too.
        proxy_headers=False,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=round(config.limits.keep_alive_seconds),
    )


def wire_limits(config: Config, others: HttpLimits) -> HttpLimits:
    """Return the limits of connections, with the configured ones."""
    limits = config.limits
    return replace(
        others,
        header_seconds=limits.header_seconds,
        header_bytes=limits.header_bytes,
        header_fields=limits.header_fields,
        target_bytes=limits.target_bytes,
        stalled_seconds=limits.stalled_seconds,
        slow_seconds=limits.slow_seconds,
        body_seconds=limits.body_seconds,
        body_rate=limits.body_rate,
        connections=limits.connections,
    )

"""Makes uvicorn's configuration, and what answers on connections before the application does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import uvicorn
from starlette.types import ASGIApp

from origin.config.options import Config
from origin.files.fast_path import FileFastPath
from origin.http.client_limits import ClientLimits, limit_per_client
from origin.http.trusted_proxies import TrustedProxies
from origin.http1.access_log import AccessLog, RequestCounters
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from origin.http1.protocol import HttpProtocol
from origin.live.fast_path import LiveFastPath
from origin.responses.response_middleware import common_headers
from origin.server.services.library_services import ServedLibrary
from origin.server.services.limits import Limits
from origin.vod.cache_control import VodCaching
from origin.vod.fast_path import VodFastPath, VodService
from packager.publish.live_stream import LiveStream

LIBRARY_VIEWS = 32
"""Searches of all clients at once; a person who types has two or three under way."""


@dataclass(frozen=True, slots=True)
class Served:
    """The services from which the fast path answers.

    Attributes:
        library: the files and their VOD.
        streams: the live channels by name.
        traffic: counters of requests and bytes.
    """

    library: ServedLibrary
    streams: Mapping[str, LiveStream]
    traffic: RequestCounters


def client_limits_of(config: Config, proxies: TrustedProxies) -> ClientLimits:
    """Make the limits of each client of a server.

    Args:
        proxies: whose clients are counted in their place.
    """
    limits = config.limits
    return ClientLimits(
        limit_per_client(limits.connections_per_address, limits.connections, proxies),
        limit_per_client(limits.listeners_per_address, limits.all_listeners, proxies),
        limit_per_client(limits.blocked_requests_per_address, limits.blocked_requests, proxies),
        limit_per_client(limits.event_readers_per_address, limits.event_readers, proxies),
        limit_per_client(None, LIBRARY_VIEWS, proxies),
    )


def fast_path_of(config: Config, served: Served, limits: Limits, client_limits: ClientLimits) -> FastPath:
    """Make what answers common requests on the connection itself.

    Args:
        served: what it answers from.
        limits: those that aren't configured.
    """
    library = served.library
    access_log = AccessLog(served.traffic, log_requests=config.log.requests)
    shared_headers = common_headers(config.server.allow_origin)
    return FastPath(
        {
            "media": FileFastPath(library.open_files, access_log),
            "live": LiveFastPath(
                served.streams,
                access_log,
                shared_headers,
                config.server.carried_parameters,
                client_limits.blocked_requests,
                limits.memfd,
            ),
            "vod": VodFastPath(
                VodService(
                    library.titles,
                    library.open_files,
                    library.vod_answers,
                    VodCaching(config.library.max_age),
                ),
                access_log,
                shared_headers,
                limits.vod_segments,
            ),
        }
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
    """Put what is configured into the limits of connections."""
    limits = config.limits
    return replace(
        others,
        header_seconds=limits.header_seconds,
        header_bytes=limits.header_bytes,
        header_fields=limits.header_fields,
        target_bytes=limits.target_bytes,
        stalled_seconds=limits.stalled_seconds,
        body_seconds=limits.body_seconds,
        body_rate=limits.body_rate,
        connections=limits.connections,
    )

"""The application: every wing's routes, the JSON lists, health and metrics, behind the common edge."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from origin import api, files, library_list, page, vod
from origin.access import Access, AccessOptions, Guard
from origin.client_limits import ClientLimits
from origin.credentials import Authenticator, GuessDelay
from origin.edge import Edge
from origin.house import House
from origin.http1.exchange import SlowBodyError
from origin.live import captions, event, metadata, recordings
from origin.live import routes as live
from origin.live.admission import Publishers
from origin.radio.admission import Admission
from origin.radio.routes import routes as radio_routes


async def _not_found(_: Request, __: Exception) -> Response:
    """No wing knows the address: the same answer as where a wing has no such file."""
    return Response("Not Found\n", 404, files.ABSENT, "text/plain; charset=utf-8")


async def _incomplete(_: Request, __: Exception) -> Response:
    """The client ended in the middle of its body: no error of ours. RFC 9112 §8: it may still read that."""
    return Response("Bad Request\n", 400, {"connection": "close"}, "text/plain; charset=utf-8")


async def _too_slow(_: Request, error: Exception) -> Response:
    """RFC 9110 §15.5.9: the client may send it again, on another connection."""
    headers = {"connection": "close", "cache-control": "no-store"}
    return Response(f"{error}\n", 408, headers, "text/plain; charset=utf-8")


def build_app(
    house: House, player: Path, options: AccessOptions, of_clients: ClientLimits | None = None
) -> ASGIApp:
    """Put the wings together.

    Args:
        house: the services; its tasks run as long as the application does.
        player: the folder of the player page.
        options: what isn't for everybody.
        of_clients: what one client may have at once; None: there is no limit.
    """
    of_clients = of_clients or ClientLimits()
    config = house.config
    limits = config.limits
    authenticator = Authenticator(GuessDelay(limits.wrong_passwords, limits.wrong_password_seconds))
    access = Access(options, authenticator)
    admission = Admission(authenticator, options.admin_token)
    publishers = Publishers(
        authenticator,
        options.admin_token,
        {one.name: one.publish_key for one in config.live if one.publish_key},
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with house.running():
            yield

    app = Starlette(
        routes=[
            *vod.routes(house.titles, max_age=config.library.max_age),
            *live.routes(house.broadcasts, config.server.carried_parameters, of_clients.blocked_requests),
            *recordings.routes(house.channels),
            *metadata.routes(house.channels, publishers, config.limits.metadata_bytes),
            *event.routes(house.channels, publishers),
            *captions.routes(
                house.channels, publishers, config.limits.captions_bytes, config.limits.captions_idle_seconds
            ),
            *radio_routes(
                house.mounts,
                admission,
                passwords=house.stations.passwords,
                max_listeners=config.limits.all_listeners,
                silent_seconds=config.limits.source_seconds,
                of_clients=of_clients,
            ),
            *api.routes(house, access, admission),
            *library_list.routes(house.catalogue, lambda: house.needs_library),
            *page.routes(player),
        ],
        lifespan=lifespan,
        exception_handlers={404: _not_found, ClientDisconnect: _incomplete, SlowBodyError: _too_slow},
    )
    served = files.Files(house.library, max_age=config.library.max_age, open_files=house.open_files, app=app)
    return Edge(
        Guard(served, access),
        traffic=house.traffic,
        allow_origin=config.server.allow_origin,
        log_requests=config.log.requests,
        loopback_ports=options.loopback_ports,
    )

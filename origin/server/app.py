"""Builds the ASGI application: all routes, access control and common header fields."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from origin.access.authentication import Authenticator
from origin.access.policy import AccessMiddleware, AccessOptions, AccessPolicy
from origin.access.publish_authorization import Publishers
from origin.config.options import Config
from origin.events.admission import Admission
from origin.events.authorization import ChannelKeys, EventAuthorization
from origin.events.routes import routes as event_routes
from origin.files import routes as file_routes
from origin.http.client_limits import ClientLimits
from origin.ingest import routes as ingest_routes
from origin.live import caption_publishing, event_start_end, metadata
from origin.live import routes as live
from origin.live.dvr_segments import StoredSegments
from origin.radio.access_log import StationAccessLog
from origin.radio.aliases import StationAliases
from origin.radio.authorization import StationAuthorization
from origin.radio.routes import routes as radio_routes
from origin.recordings import routes as recordings
from origin.responses.response_middleware import CommonHeaders
from origin.server.endpoints import api, embed, library_list, page
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from origin.server.endpoints.owner_proxy import OwnerRequests
from origin.server.services.event_services import event_limits, own_origins
from origin.server.services.services import Services
from origin.token_relay.routes import routes as relay_routes
from origin.vod import routes as vod_routes


def _media_routes(
    services: Services, authenticator: Authenticator, client_limits: ClientLimits
) -> list[BaseRoute]:
    config, library = services.config, services.library
    publishers = Publishers(authenticator, services.publishers.keys)
    # Without the stations' simulcasts: their titles come from the source, and they have no events.
    streams = {name: channel.stream for name, channel in services.live.channels.items()}
    publishing = replace(
        services.limits.publishing,
        captions_bytes=config.limits.captions_bytes,
        captions_idle_seconds=config.limits.captions_idle_seconds,
        metadata_bytes=config.limits.metadata_bytes,
    )
    return [
        *ingest_routes.routes(
            services.publishers.admission,
            publishers,
            {name: channel.options for name, channel in services.live.channels.items()},
            config.server.rtmp_port,
        ),
        *vod_routes.routes(
            library.titles,
            library.thumbnails,
            max_age=config.library.max_age,
            open_files=library.open_files,
            answers=library.vod_answers,
        ),
        *live.routes(
            services.live.streams,
            config.server.carried_parameters,
            client_limits.blocked_requests,
            functools.partial(recordings.answer_live_address, services.recordings),
            StoredSegments(services.live.dvr_bucket),
            services.live.may_come,
        ),
        *recordings.routes(services.recordings),
        *metadata.routes(streams, publishers, publishing),
        *event_start_end.routes(
            streams, publishers, functools.partial(recordings.describe_newest, services.recordings)
        ),
        *caption_publishing.routes(streams, publishers, publishing),
    ]


def _event_authorization(
    config: Config, authenticator: Authenticator, admin_token: str
) -> EventAuthorization:
    keys = {
        one.name: ChannelKeys(
            publish_token=one.publish_token or "",
            read_key=one.read_key or "",
            allow_origin=one.allow_origin,
        )
        for one in config.events
    }
    return EventAuthorization(authenticator, admin_token, keys, config.server.allow_origin)


def _event_routes(
    services: Services, authorization: EventAuthorization, client_limits: ClientLimits
) -> list[BaseRoute]:
    events, configured = services.events, services.config.limits
    admission = Admission(
        (*events.channels.values(), *events.relays.values()),
        configured.all_event_readers,
        client_limits.event_readers,
    )
    limits = event_limits(configured, services.limits.events)
    return [
        *event_routes(events.channels, authorization, limits, admission),
        *relay_routes(events.relays, authorization, admission),
    ]


def _routes(
    services: Services,
    player: Path,
    access: AccessPolicy,
    authenticator: Authenticator,
    client_limits: ClientLimits,
) -> list[BaseRoute]:
    """Make the routes of everything but the library's files."""
    config, library, admin_token = services.config, services.library, access.options.admin_token
    authorization = StationAuthorization(authenticator, admin_token)
    event_authorization = _event_authorization(config, authenticator, admin_token)
    return [
        *_media_routes(services, authenticator, client_limits),
        *radio_routes(
            services.stations,
            authorization,
            max_listeners=config.limits.all_listeners,
            silent_seconds=config.limits.source_seconds,
            client_limits=client_limits,
            limits=services.limits.radio,
            webhooks=services.station_webhooks,
        ),
        *_event_routes(services, event_authorization, client_limits),
        *api.routes(services, access, authorization, event_authorization),
        *library_list.routes(
            library.catalogue,
            lambda: services.needs_library,
            thumbnails=library.thumbnails is not None,
            searches=client_limits.library_views,
        ),
        *embed.routes(player, config.server.allow_embed),
        *page.routes(player),
    ]


def build_app(
    services: Services, player: Path, options: AccessOptions, client_limits: ClientLimits | None = None
) -> ASGIApp:
    """Build the application.

    Args:
        services: run as long as the application does.
        player: the folder of the player page.
        client_limits: of one client; None for no limits.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with services.running():
            yield

    authenticator = Authenticator(services.guess_delay)
    access = AccessPolicy(options, authenticator)
    app = Starlette(
        routes=_routes(services, player, access, authenticator, client_limits or ClientLimits()),
        lifespan=lifespan,
        exception_handlers=ERROR_RESPONSES,
    )
    # The redirect would lead to whatever the request's Host says; an address with one slash more isn't there.
    app.router.redirect_slashes = False
    config, library = services.config, services.library
    served = file_routes.Files(
        library.storage, max_age=config.library.max_age, open_files=library.open_files, app=app
    )
    owned: ASGIApp = served if services.live.cluster is None else OwnerRequests(served, services.live.cluster)
    answering: ASGIApp = CommonHeaders(
        AccessMiddleware(owned, access),
        traffic=services.traffic,
        allow_origin=config.server.allow_origin,
        log_requests=config.log.requests,
        loopback_ports=options.loopback_ports,
        own_origins=own_origins(config),
    )
    if services.access_log is not None:
        answering = StationAccessLog(answering, services.access_log)
    return StationAliases(answering, services.stations.aliases) if services.stations.aliases else answering

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

from origin.access.policy import AccessMiddleware, guard_routes
from origin.access.token_middleware import RevocableRequests, TokenChecks, TokenPaths
from origin.answers.asgi import handler_routes
from origin.events.admission import Admission
from origin.events.channel_keys import ReadingPages
from origin.events.created.routes import CreatedChannelsEndpoint
from origin.events.created.routes import routes as event_routes
from origin.events.multiplexing.merged_reader import ChannelDirectory
from origin.events.multiplexing.reading import MultiplexedReading
from origin.events.multiplexing.routes import MultiplexingEndpoint
from origin.events.multiplexing.routes import routes as multiplexing_routes
from origin.events.routes import EventAnswers, EventsEndpoint
from origin.files.handler import FileHandler, file_routes
from origin.http.client_limits import ClientLimits
from origin.ingest import routes as ingest_routes
from origin.live import caption_publishing, event_start_end, metadata
from origin.live.handler import LiveHandler, OtherProcesses
from origin.live.media_requests import PastMedia
from origin.live.publishing import PublishedChannels
from origin.live.requests.addresses import PATTERNS as LIVE_PATTERNS
from origin.live.requests.dvr_segments import StoredSegments
from origin.programmes import recording_routes
from origin.programmes import routes as programme_routes
from origin.radio.access_log import StationAccessLog
from origin.radio.aliases import StationAliases
from origin.radio.routes import routes as radio_routes
from origin.recordings import handler as recordings
from origin.responses.portable_streams import PortableStreams
from origin.responses.response_middleware import CommonHeaders
from origin.server.endpoints import (
    api,
    embed,
    feeds,
    library_list,
    made_tables,
    page,
    prepared_films,
    reloading,
    revoking,
    signing,
    television,
    time_of_day,
    viewers,
)
from origin.server.endpoints.error_responses import routed_application
from origin.server.endpoints.owner_proxy import OwnerRequests
from origin.server.services.event_services import ReadChannels, event_limits
from origin.server.services.mapping_view import MappingView
from origin.server.services.recording_services import recorded_stations
from origin.server.services.services import Services
from origin.server.services.signable_addresses import SignableAddresses
from origin.tls.redirect import RedirectToHttps
from origin.token_relay.openai_errors import OpenAIErrors
from origin.token_relay.routes import routes as relay_routes
from origin.vod.addresses import PREFIX
from packager.dvr.date_ranges.date_range_objects import DateRangeObjects
from packager.dvr.past_blocks import PastBlocks
from packager.library.local_storage import Library
from packager.live.snapshot import draw_snapshot


def live_handler(services: Services, client_limits: ClientLimits) -> LiveHandler:
    """Make the handler of the live channels."""
    live, guard = services.live, services.guard
    handler = LiveHandler(
        live.streams,
        services.config.server.carried_parameters,
        client_limits.blocked_requests,
        PastMedia(
            StoredSegments(live.dvr_bucket, PastBlocks, DateRangeObjects.on_disk),
            functools.partial(
                recordings.find_live_file,
                services.recordings,
                lambda channel: guard is not None and guard.protected.hides_recordings(channel),
            ),
            services.config.limits.window_hours,
            services.config.limits.clip_hours,
            None if services.tools is None else functools.partial(draw_snapshot, services.tools),
            services.programmes,
        ),
        OtherProcesses(may_have_channel=live.may_come),
        services.limits.memfd,
    )
    if guard is not None:
        guard.plays = handler.plays
    return handler


def _media_routes(
    services: Services, live: LiveHandler, movies: recordings.RecordingHandler
) -> list[BaseRoute]:
    config, library, authorization = services.config, services.library, services.authorization
    # Without the stations' simulcasts: their titles come from the source, and they have no events.
    streams = MappingView(services.live.channels, lambda channel: channel.stream)
    published = PublishedChannels(streams, authorization, services.live.streams)
    publishing = replace(
        services.limits.publishing,
        captions_bytes=config.limits.captions_bytes,
        captions_idle_seconds=config.limits.captions_idle_seconds,
        metadata_bytes=config.limits.metadata_bytes,
    )
    return [
        *ingest_routes.routes(
            services.publishers.admission,
            authorization,
            services.live.possible_options,
            config.server.rtmp_port,
        ),
        *file_routes(FileHandler(library.storage, config.library.max_age, library.open_files)),
        *handler_routes(library.vod, [PREFIX + "{path:path}"]),
        *handler_routes(live, LIVE_PATTERNS),
        *handler_routes(movies, [recordings.PATTERN]),
        *metadata.routes(published, publishing),
        *event_start_end.routes(
            published, functools.partial(recordings.describe_newest, services.recordings)
        ),
        *caption_publishing.routes(published, publishing),
    ]


def _event_routes(services: Services, client_limits: ClientLimits) -> list[BaseRoute]:
    authorization, allow_origin = services.authorization, services.config.server.allow_origin
    events, configured = services.events, services.config.limits
    admission = Admission(
        ReadChannels(events),
        configured.all_event_readers,
        client_limits.event_readers,
    )
    limits = event_limits(configured, services.limits.events)
    pages = ReadingPages(events.keys_of, allow_origin)
    answers = EventAnswers(authorization, pages, limits, admission)
    endpoint = CreatedChannelsEndpoint(
        events.channels,
        events.created,
        EventsEndpoint(events.channels, answers, limits),
        answers,
    )
    reading = MultiplexedReading(
        ChannelDirectory(events.channels, events.created),
        authorization,
        admission,
        limits,
        services.guard,
    )
    return [
        *event_routes(endpoint),
        *multiplexing_routes(MultiplexingEndpoint(reading, pages, limits.sockets)),
        *relay_routes(events.relays, authorization, admission),
    ]


def _signable_addresses(services: Services) -> SignableAddresses:
    """Return the addresses that can be signed, of what is served now."""

    def is_served(area: str, name: str) -> bool:
        if area == "events":
            return name in services.events.channels or services.events.created.get(name) is not None
        return name in (services.live.streams if area == "live" else services.mounts)

    configured = SignableAddresses.configured(services.config)
    protected = configured.protected if services.guard is None else services.guard.protected
    return replace(configured, protected=protected, is_served=is_served)


def _routes(
    services: Services, player: Path, client_limits: ClientLimits, live: LiveHandler
) -> list[BaseRoute]:
    """Make the routes of everything but the library's files."""
    config, library, access = services.config, services.library, services.access
    movies = recordings.RecordingHandler(services.recordings)
    tables = made_tables.endpoints(services)

    def recorder_of(name: str) -> recording_routes.Recorder | None:
        return services.station_recorders.get(name) or services.live.kept_channels.get(name)

    return [
        *_media_routes(services, live, movies),
        *time_of_day.routes(),
        *radio_routes(
            services.stations,
            services.station_access,
            max_listeners=config.limits.all_listeners,
            silent_seconds=config.limits.source_seconds,
            client_limits=client_limits,
            limits=services.limits.radio,
            webhooks=services.station_webhooks,
        ),
        *_event_routes(services, client_limits),
        *signing.routes(services.token_keys, access, functools.partial(_signable_addresses, services)),
        *signing.check_routes(services.guard),
        *viewers.routes(services.sessions, access),
        *revoking.routes(services.token_keys, services.revocation_file, access),
        *reloading.routes(services),
        *programme_routes.routes(services.programmes, access, services.limits.publishing),
        *recording_routes.routes(recorder_of, access),
        *api.routes(services, tables),
        *made_tables.routes(tables),
        *television.routes(services),
        *feeds.routes(services, movies),
        *prepared_films.routes(services),
        *library_list.routes(
            library.catalogue,
            lambda: services.needs_library,
            thumbnails=library.thumbnails is not None,
            searches=client_limits.library_views,
            access=access,
            folder=library.storage.folder if isinstance(library.storage, Library) else None,
        ),
        *embed.routes(player, config.server.allow_embed),
        *page.routes(player),
    ]


def build_app(
    services: Services,
    player: Path,
    client_limits: ClientLimits,
    live: LiveHandler,
    https_port: int = 0,
) -> ASGIApp:
    """Build the application.

    Args:
        services: run as long as the application does.
        player: the folder of the player page.
        https_port: to which plain HTTP is led; 0: it is answered.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with services.running():
            yield

    guard, access = services.guard, services.access
    routes = _routes(services, player, client_limits, live)
    guard_routes(routes, access)
    app = routed_application(routes, lifespan)
    config = services.config
    app.state.public_url = config.server.public_url
    owned: ASGIApp = app
    if services.live.cluster is not None:
        kept = functools.partial(recording_routes.is_kept_here, services.live.channels)
        owned = OwnerRequests(app, services.live.cluster, kept, recorded_stations(config))
    if guard is not None:
        owned = TokenChecks(owned, guard)
    if services.token_keys:
        owned = RevocableRequests(owned, services.token_keys)
    answering: ASGIApp = CommonHeaders(
        AccessMiddleware(owned, access),
        traffic=services.traffic,
        allow_origin=config.server.allow_origin,
        log_requests=config.log.requests,
        loopback_ports=access.options.loopback_ports,
        own_origins=services.events.origins,
    )
    answering = OpenAIErrors(answering)
    if services.access_log is not None:
        answering = StationAccessLog(answering, services.access_log)
    answering = StationAliases(answering, services.stations.aliases)
    if services.token_keys:
        answering = TokenPaths(answering)
    if https_port:
        answering = RedirectToHttps(answering, https_port, config.server.admin_port)
    return PortableStreams(answering)

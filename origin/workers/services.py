"""The services of a worker: files, VOD, channels and the page. The control process answers all else.

Everything that the application and the fast path need is in `WorkerServices`. Live channels are served from
``streams``, by name, which the followers of their logs fill as long as the channels can be served here.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.types import ASGIApp, Scope

from origin.access.token_middleware import RevocableRequests, TokenChecks, TokenPaths, take_token
from origin.access.viewer_sessions import SessionRecord
from origin.answers.asgi import handler_routes
from origin.events.channel_replication import EVENTS
from origin.files.handler import FileHandler, file_routes
from origin.http.client_limits import ClientLimits
from origin.http.path_prefixes import area_of
from origin.http1.access_log import RequestCounters
from origin.live.handler import LiveHandler, OtherProcesses
from origin.live.media_requests import PastMedia
from origin.live.requests.addresses import PATTERNS
from origin.live.requests.dvr_segments import StoredSegments
from origin.radio.mounts.mount_replication import RADIO
from origin.responses.response_middleware import CommonHeaders
from origin.server.endpoints import embed, page, signing, time_of_day
from origin.server.endpoints.error_responses import routed_application
from origin.server.endpoints.metrics import (
    as_one,
    event_metrics,
    loop_metrics,
    s3_metrics,
    traffic_metrics,
)
from origin.server.services.access_services import make_token_guard, make_token_keys
from origin.server.services.event_services import own_origins
from origin.server.services.library_services import make_served_library
from origin.server.services.s3_config import make_dvr_bucket
from origin.system import malloc
from origin.system.loop_lag import LoopLag
from origin.tls.redirect import RedirectToHttps
from origin.vod.addresses import PREFIX
from origin.workers import live_handover
from origin.workers.event_channel_readers import WorkerEventChannels
from origin.workers.messages import Start
from origin.workers.stations import WorkerStations
from packager.concurrency import background_task
from packager.dvr.date_ranges.date_range_objects import DateRangeObjects
from packager.dvr.past_blocks import PastBlocks
from packager.encode.renditions import ENCODED_NAME
from packager.publish.live_stream import LiveStream
from packager.replication.live_log import LIVE, FollowedLiveLog
from packager.replication.log_follower import FollowedLog

_MADE_ONCE = re.compile(
    r"/cover\.jpg$|/thumbnails(\.vtt|\.m3u8|(/v_[^/]*)?/[^/]*)$"
    rf"|/({ENCODED_NAME})/(v_[^/]*/)?[^/]+\.(mp4|m4s)$"
)
"""The end of the paths of covers, small pictures and encoded media, which one process makes for all."""


class WorkerServices:
    """The services of one worker, and its counters.

    Attributes:
        dvr_bucket: the bucket of the live channels' DVRs; None for DVRs on disk.
        streams: the live channels that are served here, by name; may change while serving.
        events: the event channels that are served here.
        guard: checks the tokens of addresses; None where no address needs one.
        sessions: of viewers with names; None where they may have any number.
        session_feed: the changes of sessions that the control process doesn't know yet.
        loop_lag: measures how late the event loop is.
    """

    def __init__(self, start: Start) -> None:
        self.config = start.config
        self.limits = start.limits
        files = [Path(name) for name in start.files]
        self.library = make_served_library(
            self.config, self.limits, files, thumbnails=start.thumbnails, renditions=start.renditions
        )
        self.dvr_bucket = make_dvr_bucket(self.config, self.limits.s3)
        self.streams: dict[str, LiveStream] = {}
        self.token_keys = make_token_keys(self.config)
        self.guard = make_token_guard(self.config, self.token_keys, self.limits.sessions)
        self.sessions = None if self.guard is None else self.guard.sessions
        self.session_feed = None if self.sessions is None else self.sessions.feed()
        self.traffic = RequestCounters()
        count = functools.partial(self.traffic.add_bytes, "events")
        self.events = WorkerEventChannels(self.config, self.limits, count)
        count = functools.partial(self.traffic.add_bytes, "radio")
        self.stations = WorkerStations(start.number, self.config, self.limits, count)
        self.loop_lag = LoopLag(self.limits.server.listening)
        self._registry = CollectorRegistry()
        self._registry.register(_WorkerCollector(self))
        ProcessCollector(registry=self._registry)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Measure the event loop, release memory and keep readers alive while the context is open."""
        async with (
            background_task(self.loop_lag.run()),
            background_task(malloc.trim_regularly()),
            background_task(self.events.run()),
            background_task(self.stations.run()),
            background_task(self.token_keys.run()),
            contextlib.nullcontext() if self.sessions is None else background_task(self.sessions.run()),
        ):
            yield

    def merge_sessions(self, records: Sequence[SessionRecord]) -> None:
        """Apply the changes of viewers' sessions in other processes."""
        if self.sessions is not None:
            self.sessions.merge(records, self.session_feed)

    def kinds_of_logs(self) -> dict[str, Callable[[str], FollowedLog[Any]]]:
        """Return what folds each kind of the control process's logs into what is served here."""
        publish = self.limits.live.publish.with_waiters(self.config.limits.blocked_requests)
        return {
            LIVE: lambda name: FollowedLiveLog(name, self.streams, publish),
            EVENTS: self.events.follow,
            RADIO: self.stations.follow,
        }

    def metrics(self) -> list[Metric]:
        """Return what the worker counts."""
        return list(self._registry.collect())

    def leaves_to_others(self, scope: Scope, *, upgrading: bool) -> bool:
        """Return whether the control process answers a request.

        Args:
            upgrading: whether it asks for another protocol.
        """
        take_token(scope := dict(scope))
        path: str = scope["path"]
        area = area_of(path)
        if area == "events":
            return not self.events.is_answered(scope, upgrading=upgrading)
        if upgrading:
            return True
        if self.stations.is_address(path):
            return not self.stations.is_answered(scope)
        if area == "live":
            query: bytes = scope["query_string"]
            target = scope["raw_path"] + (b"?" + query if query else b"")
            return not live_handover.is_answered(scope["method"], target, self.streams)
        if area == "vod":
            return _MADE_ONCE.search(path) is not None
        return area not in ("media", "player", "embed") and path not in (
            "/",
            "/api/time",
            signing.CHECK_ADDRESS,
        )


class _WorkerCollector(Collector):
    def __init__(self, services: WorkerServices) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        services = self._services
        yield from loop_metrics(services.loop_lag)
        yield from traffic_metrics(services.traffic)
        yield from s3_metrics(services.library.storage)
        yield from as_one(event_metrics(services.events.channels))


def live_handler(services: WorkerServices, client_limits: ClientLimits) -> LiveHandler:
    """Make the handler of the live channels that a worker serves."""
    handler = LiveHandler(
        services.streams,
        services.config.server.carried_parameters,
        client_limits.blocked_requests,
        PastMedia(
            StoredSegments(services.dvr_bucket, PastBlocks, DateRangeObjects.on_disk),
            window_hours=services.config.limits.window_hours,
            clip_hours=services.config.limits.clip_hours,
        ),
        OtherProcesses(answer=live_handover.is_left_to_control),
        services.limits.memfd,
    )
    if services.guard is not None:
        services.guard.plays = handler.plays
    return handler


def build_app(
    services: WorkerServices, client_limits: ClientLimits, live: LiveHandler, redirect_port: int = 0
) -> ASGIApp:
    """Build a worker's application.

    Args:
        redirect_port: to which plain HTTP is led; 0: it is answered.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with services.running():
            yield

    config, library = services.config, services.library
    guard = services.guard
    routes = [
        *file_routes(FileHandler(library.storage, config.library.max_age, library.open_files)),
        *handler_routes(library.vod, [PREFIX + "{path:path}"]),
        *handler_routes(live, PATTERNS),
        *time_of_day.routes(),
        *signing.check_routes(guard),
        *services.events.routes(client_limits),
        *services.stations.routes(client_limits),
        *embed.routes(page.PLAYER, config.server.allow_embed),
        *page.routes(page.PLAYER),
    ]
    app: ASGIApp = routed_application(routes, lifespan)
    if guard is not None:
        app = TokenChecks(app, guard)
    answering: ASGIApp = CommonHeaders(
        RevocableRequests(app, services.token_keys) if services.token_keys else app,
        traffic=services.traffic,
        allow_origin=config.server.allow_origin,
        log_requests=config.log.requests,
        own_origins=own_origins(config),
    )
    answering = services.stations.with_aliases(answering)
    if services.token_keys:
        answering = TokenPaths(answering)
    return RedirectToHttps(answering, redirect_port, config.server.admin_port) if redirect_port else answering

"""The services of a worker: files, VOD, channels and the page. The control process answers all else.

Everything that the application and the fast path need is in `WorkerServices`. Live channels are served from
``streams``, by name, where whoever folds their logs puts them as long as they can be served here.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.types import ASGIApp, Scope

from origin.events.channel_replication import EVENTS
from origin.files import routes as file_routes
from origin.http.client_limits import ClientLimits
from origin.http.path_prefixes import area_of
from origin.http1.access_log import RequestCounters
from origin.live import routes as live_routes
from origin.live.dvr_segments import StoredSegments
from origin.radio.mounts.mount_replication import RADIO
from origin.responses.response_middleware import CommonHeaders
from origin.server.endpoints import embed, page
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from origin.server.endpoints.metrics import as_one, event_metrics, loop_metrics, traffic_metrics
from origin.server.endpoints.s3_metrics import s3_metrics
from origin.server.services.event_services import own_origins
from origin.server.services.library_services import make_served_library
from origin.server.services.s3_config import make_dvr_bucket
from origin.server.system import malloc
from origin.server.system.loop_lag import LoopLag
from origin.vod import routes as vod_routes
from origin.workers import live_handover
from origin.workers.event_channel_readers import WorkerEventChannels
from origin.workers.messages import Start
from origin.workers.stations import WorkerStations
from packager.concurrency import background_task
from packager.publish.live_stream import LiveStream
from packager.replication.live_log import LIVE, FollowedLiveLog
from packager.replication.log_follower import FollowedLog

_THUMBNAILS = re.compile(r"/thumbnails(\.vtt|\.m3u8|(/v_[^/]*)?/[^/]*)$")
"""The end of the paths of small pictures: making them writes to the data folder."""


class WorkerServices:
    """The services of one worker, and its counters.

    Args:
        start: what the control process has told the worker.

    Attributes:
        limits: those that aren't configured.
        library: the files and their VOD.
        dvr_bucket: where live channels' DVRs are in S3; None where they aren't.
        streams: the live channels that are served here, by name; may change while serving.
        events: the event channels that are served here.
        traffic: counters of requests and bytes.
        loop_lag: measures how late the event loop is.
    """

    def __init__(self, start: Start) -> None:
        self.config = start.config
        self.limits = start.limits
        files = [Path(name) for name in start.files]
        self.library = make_served_library(self.config, self.limits, files, thumbnails=start.thumbnails)
        self.dvr_bucket = make_dvr_bucket(self.config, self.limits.s3)
        self.streams: dict[str, LiveStream] = {}
        self.traffic = RequestCounters()
        count = functools.partial(self.traffic.add_bytes, "events")
        self.events = WorkerEventChannels(self.config, self.limits, count)
        count = functools.partial(self.traffic.add_bytes, "radio")
        self.stations = WorkerStations(start.number, self.config, self.limits, count)
        self.loop_lag = LoopLag(self.limits.server.loop_lag)
        self._registry = CollectorRegistry()
        self._registry.register(_WorkerCollector(self))
        ProcessCollector(registry=self._registry)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Measure the event loop, give memory back and keep readers alive while the context is open."""
        async with (
            background_task(self.loop_lag.run()),
            background_task(malloc.trim_regularly(self.limits.server.trim_seconds)),
            background_task(self.events.run()),
            background_task(self.stations.run()),
        ):
            yield

    def kinds_of_logs(self) -> dict[str, Callable[[str], FollowedLog[Any]]]:
        """Return what folds each kind of the control process's logs into what is served here."""
        publish = self.limits.live.publish.with_waiters(self.config.limits.blocked_requests)
        return {
            LIVE: lambda name: FollowedLiveLog(name, self.streams, self.limits.replication, publish),
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
        path: str = scope["path"]
        area = area_of(path)
        if area == "events":
            return not self.events.is_answered(scope, upgrading=upgrading)
        if upgrading:
            return True
        if self.stations.is_address(path):
            return not self.stations.is_answered(scope)
        if area == "live":
            return not live_handover.is_answered(scope["method"], path, self.streams)
        if area == "vod":
            return _THUMBNAILS.search(path) is not None
        return area not in ("media", "player", "embed") and path not in ("/", "/api/time")


class _WorkerCollector(Collector):
    def __init__(self, services: WorkerServices) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        services = self._services
        yield from loop_metrics(services.loop_lag)
        yield from traffic_metrics(services.traffic)
        yield from s3_metrics(services.library.storage)
        yield from as_one(event_metrics(services.events.channels))


def build_app(services: WorkerServices, client_limits: ClientLimits) -> ASGIApp:
    """Build a worker's application."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with services.running():
            yield

    config, library = services.config, services.library
    routes = [
        *vod_routes.routes(
            library.titles,
            max_age=config.library.max_age,
            open_files=library.open_files,
            answers=library.vod_answers,
        ),
        *live_routes.routes(
            services.streams,
            config.server.carried_parameters,
            client_limits.blocked_requests,
            stored_segments=StoredSegments(services.dvr_bucket),
        ),
        *services.events.routes(client_limits),
        *services.stations.routes(client_limits),
        *embed.routes(page.PLAYER, config.server.allow_embed),
        *page.routes(page.PLAYER),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=ERROR_RESPONSES)
    served = file_routes.Files(
        library.storage, max_age=config.library.max_age, open_files=library.open_files, app=app
    )
    answering = CommonHeaders(
        served,
        traffic=services.traffic,
        allow_origin=config.server.allow_origin,
        log_requests=config.log.requests,
        own_origins=own_origins(config),
    )
    return services.stations.with_aliases(answering)

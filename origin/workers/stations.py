"""Serves stations in a worker from their logs; sources, and listeners that need permission, go elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Scope

from origin.access.authorization import Authorization, ResourceKind
from origin.config.options import Config, RadioOptions
from origin.config.stations import asks_listeners
from origin.http.client_limits import ClientLimits
from origin.radio.aliases import StationAliases
from origin.radio.connection_totals import ConnectionCounts
from origin.radio.mounts.followed_mount import FollowedMount
from origin.radio.mounts.mount_replication import FollowedMountLog
from origin.radio.routes import ListenerEndpoint
from origin.radio.station_access import StationAccess, station_keys
from origin.radio.station_factory import mount_options
from origin.server.services.limits import Limits

NUMBERS = 1 << 32
"""So many listeners of a worker have numbers of their own."""


class WorkerStations:
    """The stations that a worker serves.

    Args:
        number: the worker's, from 1.
        count: called with the bytes written to listeners.
    """

    def __init__(self, number: int, config: Config, limits: Limits, count: Callable[[int], None]) -> None:
        self._config = config
        self._counts = ConnectionCounts(NUMBERS * number)
        self._mounts: dict[str, FollowedMount] = {}
        for one in config.radio:
            options = mount_options(one, config, limits.radio)
            self._mounts[one.name] = FollowedMount(one.name, options, count, self._mounts)
        self._answered = frozenset(one.name for one in config.radio if self._is_answered_here(one))
        self._served: dict[str, FollowedMount] = {}
        self._aliases = {path: one.name for one in config.radio for path in one.aliases}

    def _is_answered_here(self, station: RadioOptions) -> bool:
        # One process writes the access log of the stations, and reports listeners to webhooks.
        asks = asks_listeners(station) or station.listener_remove or station.access == "signed"
        return not (asks or station.on_demand or self._config.log.access)

    def follow(self, name: str) -> FollowedMountLog:
        """Make what folds the log of a station."""
        return FollowedMountLog(self._mounts[name], self._served)

    async def run(self) -> None:
        """Write to the listeners of all stations until cancelled."""
        async with asyncio.TaskGroup() as group:
            for mount in self._mounts.values():
                group.create_task(mount.run())

    def is_answered(self, scope: Scope) -> bool:
        """Return whether a worker answers a request for a station, which may be at an alias."""
        path = scope["path"]
        mount = self._served.get(self._aliases.get(path) or path.removeprefix("/radio/"))
        if mount is None or scope["method"] not in ("GET", "HEAD") or mount.name not in self._answered:
            return False
        most = self._config.limits.all_listeners
        total = sum(one.listeners for one in self._served.values())
        return mount.is_live and not mount.full and total < most

    def is_address(self, path: str) -> bool:
        """Return whether a path is that of a station: below ``/radio/``, or an alias."""
        return path.startswith("/radio/") or path in self._aliases

    def routes(self, client_limits: ClientLimits) -> list[BaseRoute]:
        """Make their routes."""
        endpoint = ListenerEndpoint(
            self._served,
            StationAccess(Authorization(keys={ResourceKind.RADIO: station_keys(self._served, {})})),
            self._counts,
            self._config.limits.all_listeners,
            client_limits.listeners,
        )
        return [Route("/radio/{name}", endpoint, methods=["GET", "HEAD"])]

    def with_aliases(self, app: ASGIApp) -> ASGIApp:
        """Let an application answer at the stations' aliases, too."""
        return StationAliases(app, self._aliases) if self._aliases else app

"""Makes, changes and removes stations while the server runs; nobody notices at the other stations."""

from __future__ import annotations

import structlog

from origin.config.options import RadioOptions
from origin.config.stations import has_dvr
from origin.radio.station_webhooks import make_webhooks
from origin.server.changes.table_secrets import Show, add_secrets
from origin.server.services.services import Services
from origin.server.tables.table_changes import TableChange, UnchangeableError, with_table
from packager.data_lock import DataInUseError
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

MOST_STATIONS = 10_000
"""Most stations of a server."""


class RadioChanges:
    """The stations of one server, as tables that come and go; see `ChangingTables`.

    A station of which more than titles, passwords and the number of listeners changes begins anew: its
    listeners and its source client come again. Stored media stay on disk, also when its table goes.

    Args:
        show: shows a password that was made to who has started the server.
    """

    section = "radio"

    def __init__(self, services: Services, show: Show) -> None:
        self._services = services
        self._show = show

    def check(self, change: TableChange) -> None:
        """Check whether a station may come, change or go.

        Raises:
            UnchangeableError: not while the server runs.
        """
        services, name = self._services, change.name
        if services.live.cluster is not None:
            raise UnchangeableError("the nodes of a cluster share their stations: restart each of them")
        if services.tools is None:
            raise UnchangeableError("stations need ffmpeg, which the server didn't find when it started")
        if change.before is None and name in services.mounts:
            raise UnchangeableError(f"/radio/{name} is there already: it is the demo's")
        if change.before is None and len(services.mounts) >= MOST_STATIONS:
            raise UnchangeableError(f"the server has {MOST_STATIONS} stations")
        if change.after is None and (others := services.stations.falling_back_to(name)):
            raise UnchangeableError(f"it is the fallback of {others[0]!r}")
        self._check_access(change)

    def _check_access(self, change: TableChange) -> None:
        """Check that requests are checked in time where they need a token."""
        services, after = self._services, change.after
        comes_signed = change.before is None and isinstance(after, RadioOptions) and after.access == "signed"
        if "access" in change.keys or (comes_signed and services.guard is None):
            raise UnchangeableError("access: nothing needed a token when the server started: restart it")
        if comes_signed and services.workers is not None:
            raise UnchangeableError("access: the server's workers check tokens by their start: restart it")

    async def carry_out(self, change: TableChange) -> None:
        """Carry out a change that was checked.

        Raises:
            UnchangeableError: another server uses the data folder.
            OSError: what the station stores can't be read or written; the station is gone.
        """
        services, name, after = self._services, change.name, change.after
        config = with_table(services.config, self.section, change)
        if isinstance(after, RadioOptions) and not change.is_anew:
            services.stations.options[name] = after
        else:
            if isinstance(after, RadioOptions) and has_dvr(after, config):
                try:
                    await services.hold_data()
                except DataInUseError as error:
                    raise UnchangeableError(str(error)) from None
            others = services.stations.falling_back_to(name)
            if change.before is not None:
                await services.remove_station(name)
                log.info("a station was removed", station=name)
            if isinstance(after, RadioOptions):
                table = await add_secrets(services, self.section, after, self._show)
                mount = await SHARED_THREADS.run(services.station_maker.make, table, config)
                services.add_station(mount, table, config)
                log.info("a station was added", station=name)
                for other in others:
                    services.stations.mounts[other].fall_back_to(mount)
        services.config = config
        services.station_webhooks.replace(
            await SHARED_THREADS.run(make_webhooks, config, services.limits.radio)
        )

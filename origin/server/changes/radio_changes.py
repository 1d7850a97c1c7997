"""Makes, changes and removes stations while the server runs; nobody notices at the other stations."""

from __future__ import annotations

from origin.config.options import Config, RadioOptions
from origin.config.stations import has_dvr
from origin.radio.station_webhooks import make_webhooks
from origin.server.changes.service_changes import ServiceChanges
from origin.server.tables.table_changes import TableChange, UnchangeableError
from packager.threads import SHARED_THREADS


class RadioChanges(ServiceChanges):
    """The stations of one server."""

    section = "radio"

    def check(self, change: TableChange) -> None:
        """Check whether a station may come, change or go; raises as `ChangingTables.check`."""
        services = self._services
        self._check_media(change, "stations", services.mounts)
        if change.after is None and (others := services.stations.falling_back_to(change.name)):
            raise UnchangeableError(f"it is the fallback of {others[0]!r}")

    async def carry_out(self, change: TableChange) -> None:
        """Carry out a change that was checked; raises as `ChangingTables.carry_out`."""
        services = self._services
        others = services.stations.falling_back_to(change.name)
        await super().carry_out(change)
        if change.is_anew and (mount := services.mounts.get(change.name)) is not None:
            for other in others:
                services.mounts[other].fall_back_to(mount)
        webhooks = await SHARED_THREADS.run(make_webhooks, services.config, services.limits.radio)
        services.station_webhooks.replace(webhooks)

    def _keep(self, table: RadioOptions) -> None:
        self._services.stations.options[table.name] = table

    def _stores(self, table: RadioOptions, config: Config) -> bool:
        return has_dvr(table, config)

    async def _remove(self, name: str) -> None:
        await self._services.remove_station(name)

    async def _add(self, table: RadioOptions, config: Config) -> None:
        mount = await SHARED_THREADS.run(self._services.station_maker.make, table, config)
        self._services.add_station(mount, table, config)

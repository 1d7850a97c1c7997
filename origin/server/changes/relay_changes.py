"""Makes, changes and removes relays of token streams while the server runs."""

from __future__ import annotations

from origin.config.options import AnswerRelayOptions, Config
from origin.server.changes.service_changes import ServiceChanges
from origin.server.tables.table_changes import TableChange, UnchangeableError


class RelayChanges(ServiceChanges):
    """The relays of one server; requests to a relay that begins anew end."""

    section = "relay"

    def check(self, change: TableChange) -> None:
        """Check whether a relay may come, change or go; raises as `ChangingTables.check`."""
        events = self._services.events
        if change.before is None and events.created.get(change.name) is not None:
            raise UnchangeableError(f"/events/{change.name} is a channel that was made at run time")
        if change.before is None and change.name in events.relays:
            raise UnchangeableError(f"/relay/{change.name} is there already")

    async def _remove(self, name: str) -> None:
        await self._services.stop(self._services.events.remove_relay(name))

    async def _add(self, table: AnswerRelayOptions, _config: Config) -> None:
        self._services.start(self._services.events.add_relay(table))

"""Makes, changes and removes relays of token streams while the server runs."""

from __future__ import annotations

import structlog

from origin.config.options import AnswerRelayOptions
from origin.server.changes.table_secrets import Show, add_secrets
from origin.server.services.services import Services
from origin.server.tables.table_changes import TableChange, UnchangeableError, with_table

log = structlog.get_logger()


class RelayChanges:
    """The relays of one server, as tables that come and go; see `ChangingTables`.

    A relay of which more than keys changes begins anew: requests that are under way end.

    Args:
        show: shows a token that was made to who has started the server.
    """

    section = "relay"

    def __init__(self, services: Services, show: Show) -> None:
        self._services = services
        self._show = show

    def check(self, change: TableChange) -> None:
        """Check whether a relay may come, change or go.

        Raises:
            UnchangeableError: not while the server runs.
        """
        events = self._services.events
        if change.before is None and events.created.get(change.name) is not None:
            raise UnchangeableError(f"/events/{change.name} is a channel that was made at run time")
        if change.before is None and change.name in events.relays:
            raise UnchangeableError(f"/relay/{change.name} is there already")

    async def carry_out(self, change: TableChange) -> None:
        """Carry out a change that was checked; raises as `ChangingTables.carry_out`."""
        services = self._services
        if change.is_anew and change.before is not None:
            await services.stop(services.events.remove_relay(change.name))
            log.info("a relay was removed", relay=change.name)
        if change.is_anew and isinstance(change.after, AnswerRelayOptions):
            table = await add_secrets(services, self.section, change.after, self._show)
            services.start(services.events.add_relay(table))
            log.info("a relay was added", relay=change.name)
        services.config = with_table(services.config, self.section, change)

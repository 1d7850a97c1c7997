"""Makes, changes and removes the services of one section of the configuration while the server runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec
import structlog

from origin.config.kept_secrets import MadeSecret, with_secrets
from origin.config.options import Config, ServerOptions
from origin.server.services.services import Services
from origin.server.tables.table_changes import Table, TableChange, UnchangeableError, with_table
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

Show = Callable[[MadeSecret], None]
"""Shows a secret that was generated to who has started the server."""

MOST_SERVICES = 10_000
"""Most live channels of a server, and most stations."""

_OPEN = {"access": "open", "recordings_access": None}


class ServiceChanges:
    """The services of one section, as tables that come and go; see `ChangingTables`.

    A service of which more than keys, titles and access changes begins anew: its clients and its publisher
    come again. Stored media stay on disk, also when the table goes.

    Args:
        show: shows a secret that was generated to who has started the server.
    """

    section = ""

    def __init__(self, services: Services, show: Show) -> None:
        self._services = services
        self._show = show

    def in_place(self, _before: Any, _after: Any) -> frozenset[str]:
        """Return the keys that change while a service goes on, beside those that every reload applies."""
        return frozenset()

    def _check_media(self, change: TableChange, kind: str, present: Collection[str]) -> None:
        """Check whether this server may change what makes media, and checks requests for it in time.

        Args:
            kind: its name for the administrator, in the plural.
        """
        services, after = self._services, change.after
        if not change.is_anew:
            return
        if services.live.cluster is not None:
            raise UnchangeableError(f"the nodes of a cluster share their {kind}: restart each of them")
        if services.tools is None:
            raise UnchangeableError(f"{kind} need ffmpeg, which the server didn't find when it started")
        if change.before is None and change.name in present:
            raise UnchangeableError(f"{change.name!r} is there already: a station's, or the demo's")
        if change.before is None and len(present) >= MOST_SERVICES:
            raise UnchangeableError(f"the server has {MOST_SERVICES} {kind}")
        is_signed = "signed" in [getattr(after, key, None) for key in _OPEN]
        comes_signed = change.before is None and is_signed
        if not change.keys.isdisjoint(_OPEN) or (comes_signed and services.guard is None):
            raise UnchangeableError("access: nothing needed a token when the server started: restart it")
        if comes_signed and services.workers is not None:
            raise UnchangeableError("access: the server's workers check tokens by their start: restart it")

    async def carry_out(self, change: TableChange) -> None:
        """Carry out a change that was checked; raises as `ChangingTables.carry_out`."""
        services, after = self._services, change.after
        config = with_table(services.config, self.section, change)
        if after is not None and not change.is_anew:
            self._keep(after)
        else:
            if after is not None and self._stores(after, config):
                await services.hold_data()
            # Where a secret can't be read, the former service goes on.
            made = None if after is None else await self._with_secrets(after)
            if change.before is not None:
                await self._remove(change.name)
                log.info("a service was removed", table=f"{self.section} {change.name!r}")
            if made is not None:
                await self._add(made, config)
                log.info("a service was added", table=f"{self.section} {change.name!r}")
        services.config = config

    def _keep(self, table: Any) -> None:
        """Apply a table whose service goes on."""

    def _stores(self, _table: Any, _config: Config) -> bool:
        """Return whether the service of a table needs the data folder."""
        return False

    async def _remove(self, name: str) -> None:
        """End a service."""
        raise NotImplementedError

    async def _add(self, table: Any, config: Config) -> None:
        """Make and run the service of a table.

        Args:
            config: the configuration with the table.
        """
        raise NotImplementedError

    async def _with_secrets(self, table: Table) -> Any:
        """Return a table with the secret that it lacks: a new one, which is shown, or one of before.

        A publish key of before is known by its hash alone, and the table lacks it still.

        Raises:
            SecretsError: the file of generated secrets isn't to be trusted.
            OSError: it can't be read or written.
        """
        services = self._services
        # All other secrets have been there since the start.
        server = ServerOptions(data=services.config.server.data, admin_token="-")  # noqa: S106
        is_open = {key: value for key, value in _OPEN.items() if key in table.__struct_fields__}
        tables = {self.section: (msgspec.structs.replace(table, **is_open),)}
        alone = msgspec.structs.replace(Config(server=server), **tables)
        made = await SHARED_THREADS.run(with_secrets, alone)
        if not (made.made or made.made_keys.channels or made.config != alone):
            return table
        await services.publishers.take_made_secrets(made)
        for one in made.made:
            self._show(one)
        (filled,) = getattr(made.config, self.section)
        closed = {key: getattr(table, key) for key in is_open}
        return msgspec.structs.replace(filled, **closed)

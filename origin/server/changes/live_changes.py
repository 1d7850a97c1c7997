"""Makes, changes and removes live channels while the server runs; nobody notices at the other channels."""

from __future__ import annotations

from origin.config.options import Config, LiveOptions, dvr_seconds
from origin.server.changes.service_changes import ServiceChanges
from origin.server.tables.table_changes import TableChange, UnchangeableError
from packager.threads import SHARED_THREADS

IN_PLACE = frozenset(("record", "forward", "takeover", "after_end", "keep_for"))
"""Keys of a channel that goes on when they change; see `packager.live.channel.Channel.change`."""


class LiveChanges(ServiceChanges):
    """The live channels of one server."""

    section = "live"

    def in_place(self, before: LiveOptions, after: LiveOptions) -> frozenset[str]:
        """Return the keys that change while a channel goes on."""
        # A recording needs a DVR, which a channel without its own has for that alone.
        return IN_PLACE - ({"record"} if dvr_seconds(before) != dvr_seconds(after) else set())

    def check(self, change: TableChange) -> None:
        """Check whether a channel may come, change or go; raises as `ChangingTables.check`."""
        live = self._services.live
        self._check_media(change, "live channels", live.channels.keys() | live.simulcast_names)
        if change.is_anew and any(
            getattr(table, "recordings_copy", "") for table in (change.before, change.after)
        ):
            raise UnchangeableError("the copies of its recordings in S3 need a restart")

    async def carry_out(self, change: TableChange) -> None:
        """Carry out a change that was checked; raises as `ChangingTables.carry_out`."""
        await super().carry_out(change)
        if change.after is None:
            self._services.publishers.keys.forget(change.name)
            await self._services.pattern_channels.forget(change.name)

    def _keep(self, table: LiveOptions) -> None:
        if table.is_template:
            self._services.pattern_channels.change(table)
        else:
            self._services.live.change(table)

    def _stores(self, _table: LiveOptions, _config: Config) -> bool:
        return True

    async def _remove(self, name: str) -> None:
        if name in self._services.live.templates:
            await self._services.pattern_channels.remove(name)
        else:
            await self._services.remove_channel(name)

    async def _add(self, table: LiveOptions, _config: Config) -> None:
        if table.is_template:
            await self._services.pattern_channels.add(table)
        elif (tools := self._services.tools) is not None:
            channel = await SHARED_THREADS.run(self._services.live.make_channel, table, tools)
            self._services.add_channel(channel, table)

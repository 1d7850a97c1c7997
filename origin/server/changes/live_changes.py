"""Makes, changes and removes live channels while the server runs; nobody notices at the other channels."""

from __future__ import annotations

import structlog

from origin.config.options import LiveOptions
from origin.server.changes.table_secrets import Show, add_secrets
from origin.server.services.services import Services
from origin.server.tables.table_changes import TableChange, UnchangeableError, with_table
from packager.data_lock import DataInUseError
from packager.process.ffmpeg_discovery import Tools
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

ACCESS = ("access", "recordings_access")

MOST_CHANNELS = 10_000
"""Most live channels of a server."""


class LiveChanges:
    """The live channels of one server, as tables that come and go; see `ChangingTables`.

    A channel of which more than keys and access changes begins anew: its viewers wait for its next run, and
    its publishers come again. Stored media stay on disk, also when its table goes.

    Args:
        show: shows a key that was made to who has started the server.
    """

    section = "live"

    def __init__(self, services: Services, show: Show) -> None:
        self._services = services
        self._show = show

    def check(self, change: TableChange) -> None:
        """Check whether a channel may come, change or go.

        Raises:
            UnchangeableError: not while the server runs.
        """
        services, live = self._services, self._services.live
        if live.cluster is not None:
            raise UnchangeableError("the nodes of a cluster share their live channels: restart each of them")
        if services.tools is None:
            raise UnchangeableError("live channels need ffmpeg, which the server didn't find when it started")
        for table in (change.before, change.after):
            if isinstance(table, LiveOptions) and table.recordings_copy:
                raise UnchangeableError("the copies of its recordings in S3 need a restart")
        if change.before is None and (change.name in live.channels or change.name in live.simulcast_names):
            raise UnchangeableError(f"/live/{change.name} is there already: it is a station's, or the demo's")
        if change.before is None and len(live.channels) >= MOST_CHANNELS:
            raise UnchangeableError(f"the server has {MOST_CHANNELS} live channels")
        self._check_access(change)

    def _check_access(self, change: TableChange) -> None:
        """Check that requests are checked in time where they need a token."""
        services, after = self._services, change.after
        if not isinstance(after, LiveOptions):
            return
        comes_signed = change.before is None and "signed" in (after.access, after.recordings_access)
        if not change.keys.isdisjoint(ACCESS) or (comes_signed and services.guard is None):
            raise UnchangeableError("access: nothing needed a token when the server started: restart it")
        if comes_signed and services.workers is not None:
            raise UnchangeableError("access: the server's workers check tokens by their start: restart it")

    async def carry_out(self, change: TableChange) -> None:
        """Carry out a change that was checked.

        Raises:
            UnchangeableError: another server uses the data folder.
            OSError: what the channel stores can't be read or written; the channel is gone.
        """
        services, live, after = self._services, self._services.live, change.after
        if isinstance(after, LiveOptions) and not change.is_anew:
            live.options[after.name] = after
            return
        if isinstance(after, LiveOptions):
            await self._hold_data()
        if change.before is not None:
            await services.remove_channel(change.name)
            log.info("a live channel was removed", channel=change.name)
        if isinstance(after, LiveOptions) and services.tools is not None:
            await self._add(after, services.tools)
        else:
            services.publishers.keys.forget(change.name)
        services.config = with_table(services.config, self.section, change)

    async def _add(self, options: LiveOptions, tools: Tools) -> None:
        services = self._services
        await add_secrets(services, self.section, options, self._show)
        channel = await SHARED_THREADS.run(services.live.make_channel, options, tools)
        services.add_channel(channel, options)
        log.info("a live channel was added", channel=options.name)

    async def _hold_data(self) -> None:
        try:
            await self._services.hold_data()
        except DataInUseError as error:
            raise UnchangeableError(str(error)) from None

"""Makes, changes and removes live channels while the server runs; nobody notices at the other channels."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from origin.config.kept_secrets import MadeSecret, with_secrets
from origin.config.options import Config, LiveOptions, ServerOptions
from origin.server.services.services import Services
from origin.server.services.table_changes import Table, UnchangeableError
from packager.data_lock import DataInUseError
from packager.process.ffmpeg_discovery import Tools
from packager.sources.published_source import PUBLISH
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

ACCESS = ("access", "recordings_access")

MOST_CHANNELS = 10_000
"""Most live channels of a server."""


class LiveChanges:
    """The live channels of one server, as tables that come and go; see `ChangingTables`.

    A channel of which more than keys and access changes begins anew: its viewers wait for its next run, and
    its publishers come again. What it has stored stays on disk, also when its table goes.

    Args:
        show: shows a key that was made to who has started the server.
    """

    section = "live"

    def __init__(self, services: Services, show: Callable[[MadeSecret], None]) -> None:
        self._services = services
        self._show = show

    def check(self, before: Table | None, after: Table | None, keys: frozenset[str]) -> None:
        """Check whether a channel may come, change or go.

        Raises:
            UnchangeableError: not while the server runs.
        """
        services, live = self._services, self._services.live
        name = next(one.name for one in (before, after) if one is not None)
        if live.cluster is not None:
            raise UnchangeableError("the nodes of a cluster share their live channels: restart each of them")
        if services.tools is None:
            raise UnchangeableError("live channels need ffmpeg, which the server didn't find when it started")
        for table in (before, after):
            if isinstance(table, LiveOptions) and table.recordings_copy:
                raise UnchangeableError("the copies of its recordings in S3 need a restart")
        if before is None and (name in live.channels or name in live.simulcast_names):
            raise UnchangeableError(f"/live/{name} is there already: it is a station's, or the demo's")
        if before is None and len(live.channels) >= MOST_CHANNELS:
            raise UnchangeableError(f"the server has {MOST_CHANNELS} live channels")
        if isinstance(after, LiveOptions):
            self._check_access(before, after, keys)

    def _check_access(self, before: Table | None, after: LiveOptions, keys: frozenset[str]) -> None:
        """Check that requests are checked in time where they need a token."""
        is_signed = "signed" in (after.access, after.recordings_access)
        if not keys.isdisjoint(ACCESS) or (before is None and is_signed and self._services.guard is None):
            line = "access: nothing needed a token when the server started: restart it"
            raise UnchangeableError(line)
        if before is None and is_signed and self._services.workers is not None:
            raise UnchangeableError("access: the server's workers check tokens by their start: restart it")

    async def change(self, before: Table | None, after: Table | None, keys: frozenset[str]) -> None:
        """Carry out a change that was checked.

        Raises:
            UnchangeableError: another server uses the data folder.
            OSError: what the channel stores can't be read or written; it is gone.
        """
        services, live = self._services, self._services.live
        if isinstance(after, LiveOptions) and before is not None and not keys:
            live.options[after.name] = after
            return
        tools = services.tools
        if isinstance(after, LiveOptions):
            await self._hold_data()
        if before is not None:
            await services.remove_channel(before.name)
            log.info("a live channel was removed", channel=before.name)
        if isinstance(after, LiveOptions) and tools is not None:
            await self._add(after, tools)
        else:
            services.publishers.keys.forget(before.name if before is not None else "")
        self._note_tables()

    async def _add(self, options: LiveOptions, tools: Tools) -> None:
        services = self._services
        if options.source == PUBLISH and not options.publish_key:
            await self._make_key(options)
        channel = await SHARED_THREADS.run(services.live.make_channel, options, tools)
        services.add_channel(channel, options)
        log.info("a live channel was added", channel=options.name)

    async def _hold_data(self) -> None:
        try:
            await self._services.hold_data()
        except DataInUseError as error:
            raise UnchangeableError(str(error)) from None

    async def _make_key(self, options: LiveOptions) -> None:
        """Make the key of a channel whose table has none, or find the hash of an earlier one."""
        # All other secrets have been there since the start.
        server = ServerOptions(data=self._services.config.server.data, admin_token="-")  # noqa: S106
        table = msgspec.structs.replace(options, access="open", recordings_access=None)
        alone = Config(server=server, live=(table,))
        made = await SHARED_THREADS.run(with_secrets, alone)
        await self._services.publishers.take_made_keys(options.name, made)
        for one in made.made:
            self._show(one)

    def _note_tables(self) -> None:
        """Have the server's configuration say what is served now."""
        services = self._services
        tables = tuple(services.live.options.values())
        services.config = msgspec.structs.replace(services.config, live=tables)

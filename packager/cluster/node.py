"""A node of a cluster: which logs there are, which of them it owns, and which it follows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from media.errors import MalformedError
from packager.cluster.channel_ownership import LogContext, SharedChannel
from packager.cluster.commands import ClusterCommands
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.demand import Demand, OnDemand
from packager.cluster.lease import PREFIX, Lease, LogKeys
from packager.cluster.limits import ClusterLimits
from packager.cluster.log_reader import LogReader
from packager.cluster.log_stream import LISTING, LogStream
from packager.cluster.publisher_claim import PublisherClaim
from packager.cluster.shared_log import CommandsOnDemand, LogServing, SharedLog
from packager.publish.live_stream import LiveStream
from packager.reader_guard import ReaderGuard
from packager.replication.live_log import LIVE
from packager.window.limits import PublishLimits
from packager.window.log import CadenceEntry, Entry

if TYPE_CHECKING:
    from packager.cluster.shared_dvr import SharedDvr
    from packager.sources.published_source import PublishedSource

log = structlog.get_logger()

LOGS = f"{PREFIX}:logs"
"""The key of the list of logs, each with the time when it was owned last."""

SIMULCAST = "simulcast"
"""The kind of the logs of stations' live channels: what their names begin with."""

_LOG = re.compile(rf"({LIVE}|{SIMULCAST})/([A-Za-z0-9._-]{{1,64}})")

OWNERS = f"{PREFIX}:{{{LOGS}}}:owners"
"""The key of each log's owner: the time of its last report, the channel's state and the node's name."""

_OWNER = re.compile(rb"([0-9]{1,12}) ([a-z]{1,16}) ([\x21-\x7e]{1,64})")

_LIST = """
local logs, owners, gone, most, name = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local now = redis.call('TIME')[1]
for number = 4, #ARGV, 2 do
  redis.call('ZADD', logs, now, ARGV[number])
  redis.call('HSET', owners, ARGV[number], now .. ' ' .. ARGV[number + 1] .. ' ' .. name)
end
for _, one in ipairs(redis.call('ZRANGEBYSCORE', logs, '-inf', now - gone, 'LIMIT', 0, most)) do
  redis.call('HDEL', owners, one)
end
redis.call('ZREMRANGEBYSCORE', logs, '-inf', now - gone)
local found, told = redis.call('ZRANGE', logs, 0, most - 1), {}
for number, one in ipairs(found) do
  told[number] = redis.call('HGET', owners, one) or ''
end
return {now, found, told}
"""

MAX_MEDIA_WRITES = 64
"""Most listings whose bytes wait to be written."""

OWNER_SECONDS = 2
"""A node that hasn't told for so long that it owns a log isn't called its owner."""

MAX_LOGS = 4096
"""Most logs that a node follows."""


class LogConsumer(Protocol):
    """Forwards the entries of shared logs to other processes of this node."""

    def fold(self, stream: LiveStream, entry: Entry) -> None:
        """Hand on an entry that has been folded."""

    def withdraw(self, name: str) -> None:
        """Note that a channel is gone."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """The options that differ between the nodes of a cluster.

    Attributes:
        name: by which people know the node.
        follows_all: whether channels that it doesn't make are served, too.
    """

    name: str
    follows_all: bool


@dataclass(frozen=True, slots=True)
class LogOwner:
    """The announcement of a log by the node that owns the log."""

    name: str
    state: str


class ClusterNode:
    """Follows the logs of live channels in Redis, and owns those that it may.

    Args:
        streams: receives the channels that can be served, by name.
        publish_limits: how many requests may wait, and what is kept of playlists.

    Attributes:
        token: identifies this node in Redis.
        channels: the channels that the node makes, by name.
        simulcasts: the stations' live channels that the node makes, by name.
        commands: carries commands to the owners of channels.
    """

    name = "cluster"

    def __init__(
        self,
        connection: RedisConnection,
        streams: MutableMapping[str, LiveStream],
        relay: LogConsumer,
        limits: ClusterLimits,
        publish_limits: PublishLimits,
        options: NodeOptions,
    ) -> None:
        self.connection = connection
        self._options = options
        self._owners: dict[str, LogOwner] = {}
        self._states: dict[LogKeys, Callable[[], str]] = {}
        self.channels: dict[str, SharedChannel] = {}
        self.simulcasts: dict[str, SharedChannel] = {}
        self._relay = relay
        self._limits = limits
        self._serving = LogServing(streams, publish_limits, relay.fold)
        self.token = os.urandom(16).hex()
        self.commands = ClusterCommands(connection, self.token, limits)
        self._work: list[Callable[[], Coroutine[None, None, None]]] = []
        self._demand = Demand(connection, limits)
        self._logs: dict[LogKeys, SharedLog] = {}
        # The logs of stations' live channels, those too that nobody makes now and that aren't followed.
        self._simulcast_logs: dict[LogKeys, SharedLog] = {}
        self._media_writes: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(MAX_MEDIA_WRITES)
        self._has_listed = False

    def share(
        self,
        own: LiveStream,
        has_media: Callable[[], bool],
        state: Callable[[], str],
        dvr: SharedDvr | None = None,
        published: PublishedSource | None = None,
    ) -> Callable[[Entry], None]:
        """Share a channel that this node makes, as soon as the node runs.

        Args:
            own: the stream of the channel's own log, which is served until that of the shared log can be.
            has_media: returns whether the channel's source delivers media, or its event is over.
            state: returns the state of the channel on this node.
            dvr: of the shared log; None where there is none.
            published: the channel's publishers; None where it has another source.

        Returns:
            A function to call with each entry of the channel's own log.
        """
        if published is not None:
            claim = PublisherClaim(published, self.connection, self.token, self._options.name, self._limits)
            self.add(claim.run)
        keys = LogKeys(LIVE, own.name)
        self._states[keys] = state
        shared = self._follow(keys, may_be_owned=True)
        channel = self.channels[own.name] = self._make(keys, own, has_media, shared, dvr=dvr)
        return channel.fold

    def share_simulcast(
        self,
        own: LiveStream,
        simulcast: OnDemand,
        awaited: CadenceEntry,
        dvr: SharedDvr | None = None,
    ) -> SharedChannel:
        """Share a station's live channel that this node makes on demand, as soon as the node runs.

        Args:
            own: the stream of the channel's own log.
            awaited: the cadence with which its windows begin.
            dvr: of the shared log; None where there is none.
        """
        name, demand = own.name, self._demand

        def note_viewer() -> None:
            simulcast.note_viewer()
            demand.note(name)

        commands = CommandsOnDemand(note_viewer, lambda: simulcast.is_postponed)
        keys, shared = self._wait_for_simulcast(name, awaited, commands, may_be_owned=True)
        channel = self.simulcasts[name] = self._make(
            keys, own, lambda: simulcast.has_media, shared, dvr=dvr, on_demand=simulcast
        )
        demand.made[name] = simulcast
        return channel

    def follow_simulcast(self, name: str, awaited: CadenceEntry) -> None:
        """Serve a station's live channel that other nodes make, once this one asks for it.

        Args:
            awaited: the cadence with which its windows begin.
        """
        demand = self._demand
        self._wait_for_simulcast(
            name,
            awaited,
            CommandsOnDemand(lambda: demand.note(name), is_postponed=lambda: False),
            may_be_owned=False,
        )

    def _wait_for_simulcast(
        self, name: str, awaited: CadenceEntry, commands: CommandsOnDemand, *, may_be_owned: bool
    ) -> tuple[LogKeys, SharedLog]:
        keys = LogKeys(SIMULCAST, name)
        shared = SharedLog(name, self._serving, commands, awaited, may_be_owned=may_be_owned)
        self._simulcast_logs[keys] = shared
        return keys, shared

    def _make(
        self,
        keys: LogKeys,
        own: LiveStream,
        has_media: Callable[[], bool],
        shared: SharedLog,
        *,
        dvr: SharedDvr | None = None,
        on_demand: OnDemand | None = None,
    ) -> SharedChannel:
        stream = LogStream(self.connection, keys, self._limits)
        lease = Lease(self.connection, keys, self.token, self._limits)
        context = LogContext(shared, stream, lease, self.connection, self._limits)
        return SharedChannel(own, has_media, context, dvr, on_demand)

    @property
    def owners(self) -> Mapping[str, LogOwner]:
        """The owner of each log, by ``live/NAME`` and ``simulcast/NAME``; empty while Redis is away."""
        return self._owners if self.connection.is_up else {}

    def add(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run further work over the node's connection; to be called before the node runs."""
        self._work.append(work)

    def is_owned_elsewhere(self, name: str) -> bool:
        """Return whether a channel is served here, and this node doesn't own its log."""
        channel = self.channels.get(name)
        return LogKeys(LIVE, name) in self._logs and (channel is None or not channel.is_owner)

    def is_station_owned_elsewhere(self, name: str) -> bool:
        """Return whether a station's live channel is served here, and this node doesn't own its log."""
        channel = self.simulcasts.get(name)
        is_served = LogKeys(SIMULCAST, name) in self._simulcast_logs
        return is_served and (channel is None or not channel.is_owner)

    @property
    def followed(self) -> frozenset[str]:
        """The live channels that are served here, and that this node doesn't make."""
        return frozenset(
            keys.name for keys in self._logs if keys.kind == LIVE and keys.name not in self.channels
        )

    def may_have(self, name: str) -> bool:
        """Return whether a channel that isn't served here may be one of the cluster's, and come soon."""
        is_informed = self._has_listed and self.connection.is_up
        return LogKeys(LIVE, name) in self._logs or (self._options.follows_all and not is_informed)

    async def run(self) -> None:
        """Share and follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            connecting = group.create_task(self.connection.run())
            reader = LogReader(self.connection, self._logs, self._limits)
            work = [
                group.create_task(self._repeat(run))
                for run in (
                    reader.run,
                    self._list_logs,
                    self._write_media,
                    lambda: self.connection.for_each_slot(
                        lambda: [keys.wanted for keys in self._owned()], self._write_snapshots
                    ),
                    self.commands.run,
                    self._demand.run,
                    *(channel.run for channel in (*self.channels.values(), *self.simulcasts.values())),
                    *self._work,
                )
            ]
            try:
                await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in work:
                    task.cancel()
                # Leases are given back while Redis is still connected.
                await asyncio.wait(work)
                connecting.cancel()

    async def _repeat(self, run: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run a part of the node's work, again where Redis has something that no node writes."""
        while True:
            try:
                with ReaderGuard("Redis"):
                    await run()
            except MalformedError:
                await asyncio.sleep(self._limits.list_seconds)
            else:
                return

    def close(self) -> None:
        """Release all who wait."""
        for shared in {*self._logs.values(), *self._simulcast_logs.values()}:
            shared.close()

    def _follow(self, keys: LogKeys, *, may_be_owned: bool) -> SharedLog:
        shared = self._logs[keys] = SharedLog(keys.name, self._serving, may_be_owned=may_be_owned)
        return shared

    async def _list_logs(self) -> None:
        """Announce the logs of this node, and read the announcements of the others, until cancelled."""
        while True:
            await self.connection.wait_until_up()
            with contextlib.suppress(RedisUnavailableError):
                self._note(await self._exchange_names())
                self._has_listed = True
            await asyncio.sleep(self._limits.list_seconds)

    async def _exchange_names(self) -> set[str]:
        limits = self._limits
        owned = [
            word
            for keys in self._owned()
            for word in (f"{keys.kind}/{keys.name}", self._states.get(keys, _live)())
        ]
        terms = str(limits.log_gone_seconds), str(MAX_LOGS), self._options.name, *owned
        now, found, told = await self.connection.call(
            lambda client: client.eval(_LIST, 2, LOGS, OWNERS, *terms), {LOGS: "zset", OWNERS: "hash"}
        )
        names = [one.decode("utf-8", "replace") for one in found]
        self._owners = {
            name: LogOwner(owner[3].decode(), owner[2].decode())
            for name, one in zip(names, told, strict=True)
            if (owner := _OWNER.fullmatch(one)) and abs(int(now) - int(owner[1])) <= OWNER_SECONDS
        }
        return {*names}

    def _note(self, names: set[str]) -> None:
        """Follow logs that are new, and stop following logs that are gone."""
        made = {LogKeys(LIVE, name) for name in self.channels}
        wanted = {LogKeys(found[1], found[2]) for name in names if (found := _LOG.fullmatch(name))}
        for keys in wanted - self._logs.keys():
            if (simulcast := self._simulcast_logs.get(keys)) is not None:
                self._logs[keys] = simulcast
            elif self._options.follows_all and keys.kind == LIVE:
                self._follow(keys, may_be_owned=False)
        for keys in self._logs.keys() - wanted - made - self._owned().keys():
            gone = self._logs.pop(keys)
            if keys.kind == LIVE:
                gone.withdraw()
            else:
                gone.wait_again()
            self._relay.withdraw(keys.name)

    def _owned(self) -> dict[LogKeys, SharedChannel]:
        """Return the channels whose logs this node owns."""
        kinds = (LIVE, self.channels), (SIMULCAST, self.simulcasts)
        return {
            LogKeys(kind, name): one for kind, made in kinds for name, one in made.items() if one.is_owner
        }

    async def _write_snapshots(self, slot: int) -> None:
        """Write a snapshot of a log of a slot that this node owns whenever somebody wants one."""
        while True:
            await self.connection.wait_until_up()
            slot_of = self.connection.slot
            owned = {keys.wanted: one for keys, one in self._owned().items() if slot_of(keys.wanted) == slot}
            if not owned:
                await asyncio.sleep(self._limits.snapshot_look_seconds)
                continue
            with contextlib.suppress(RedisUnavailableError):
                await self._write_wanted(owned)

    async def _write_wanted(self, owned: Mapping[str, SharedChannel]) -> None:
        seconds = self._limits.read_seconds
        lists = dict.fromkeys(owned, "list")
        asked = await self.connection.wait(
            lambda client: client.blpop([*owned], timeout=seconds), seconds, lists
        )
        if asked is None:
            return
        channel, wanted = owned[asked[0].decode()], asked[1]
        if wanted != LISTING:
            await channel.store_snapshot()
        elif (write_media := await channel.store_listing()) is not None:
            await self._media_writes.put(write_media)

    async def _write_media(self) -> None:
        """Write the bytes of segments that listings lack, behind all listings that are wanted."""
        while True:
            write = await self._media_writes.get()
            with contextlib.suppress(RedisUnavailableError):  # readers ask for another snapshot
                await write()


def _live() -> str:
    """Return the state of a station's channel that a node owns: one that isn't made has no owner."""
    return "live"

"""Follows the event channels of a cluster: one read waits for news of all, and only what has news is read."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from media.errors import MalformedError
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.event_streams import EventsRead, EventStreams, StoredEvent, StreamState
from packager.cluster.log_stream import EntryId
from packager.reader_guard import ReaderGuard
from packager.step_budget import StepBudget

log = structlog.get_logger()

BEGINNING = b"0-0"
"""The position before all entries of a stream of Redis."""

MAX_READ_CHANNELS = 64
"""Most channels of one read."""


class FollowedChannel(Protocol):
    """An event channel whose events in Redis are followed."""

    @property
    def position(self) -> EntryId | None:
        """ID of the newest event; None where nothing is known of the channel yet."""

    def begin(self, behind: EntryId, epochs: Sequence[EntryId]) -> None:
        """Set the position of the channel behind an event.

        Args:
            behind: ID of the last event that was read.
            epochs: the earlier ones, each with the number of its last event.
        """

    def fold(self, event: StoredEvent) -> None:
        """Fold the next event into the channel.

        Raises:
            MalformedError: it can't be read.
        """


class EventReader:
    """Reads the events that all nodes of a cluster publish.

    Args:
        channels: the followed channels, by name.

    Attributes:
        is_level: set once all events that were in Redis at the start were read.
        unreadable: entries that were passed over, as no node can have written them.
    """

    def __init__(
        self,
        connection: RedisConnection,
        streams: EventStreams,
        channels: Mapping[str, FollowedChannel],
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._channels = channels
        self._stale: dict[str, None] = {}
        self._behind = BEGINNING
        # How often Redis had been lost when the news were begun with, and the number of the last of them.
        self._lost = -1
        self._count = -1
        self._reading: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.is_level = asyncio.Event()
        self.unreadable = 0

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self._connection.wait_until_up()
            try:
                if self._lost != self._connection.lost:
                    await self._begin_news()
                if self._stale:
                    await self._read_stale()
                else:
                    self.is_level.set()
                    await self._wait_for_news()
            except RedisUnavailableError:
                continue

    async def catch_up(self, name: str) -> None:
        """Read a channel up to its present end.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        async with self._reading[name]:
            if (channel := self._channels.get(name)) is not None:
                await self._read({name: channel})

    def drop(self, name: str) -> None:
        """Forget a channel that isn't followed any more."""
        self._stale.pop(name, None)
        if not self._reading[name].locked():
            del self._reading[name]

    async def _begin_news(self) -> None:
        """Read all channels, as news may have been missed."""
        lost = self._connection.lost
        self._behind, self._count = await self._streams.newest_news(), -1
        self._stale = dict.fromkeys(self._channels)
        self._lost = lost

    async def _wait_for_news(self) -> None:
        for position, count, name in await self._streams.wait_for_news(self._behind):
            if self._count >= 0 and count != self._count + 1:
                # Some are gone: this node stood still, or Redis has lost them.
                self._stale.update(dict.fromkeys(self._channels))
            self._behind, self._count = position, count
            if name in self._channels:
                self._stale[name] = None

    async def _read_stale(self) -> None:
        names = list(self._stale)[:MAX_READ_CHANNELS]
        await self._read({name: self._channels[name] for name in names if name in self._channels})
        for name in names:
            self._stale.pop(name, None)

    async def _begin(self, channels: Mapping[str, FollowedChannel]) -> dict[str, bytes]:
        """Begin to follow channels, each with the oldest event that is kept.

        Returns:
            Of those of which not all was read, the ID behind which they go on.
        """
        if not channels:
            return {}
        states = await self._streams.states(list(channels))
        read = await self._streams.read(dict.fromkeys(channels, BEGINNING))
        rest: dict[str, bytes] = {}
        for (name, channel), state in zip(channels.items(), states, strict=True):
            found = read[name]
            if not found.whole and found.last is None:
                # The read had no room left for this one.
                rest |= await self._begin({name: channel})
                continue
            self._begin_with(channel, state, found)
            await self._fold(name, channel, found)
            if not found.whole and found.last is not None:
                rest[name] = found.last
        return rest

    def _begin_with(self, channel: FollowedChannel, state: StreamState | None, found: EventsRead) -> None:
        if found.events:
            number = found.events[0].number
            behind = number._replace(position=number.position - 1)
        elif state is not None:
            behind = state.last
        else:
            return  # nothing was ever published
        # A waiting reader's ``catch_up`` may have begun the channel meanwhile.
        if channel.position is None:
            earlier = () if state is None else state.epochs
            channel.begin(behind, [one for one in earlier if one.epoch < behind.epoch])

    async def _read(self, channels: Mapping[str, FollowedChannel]) -> None:
        """Read channels up to their ends; a channel without a position begins with its kept events."""
        new = {name: one for name, one in channels.items() if one.position is None}
        behind = {
            name: str(position).encode()
            for name, one in channels.items()
            if (position := one.position) is not None
        }
        behind |= await self._begin(new)
        while behind:
            for name, found in (await self._streams.read(behind)).items():
                await self._fold(name, channels[name], found)
                if found.whole:
                    del behind[name]
                elif found.last is not None:  # else the read had no room left for this one
                    behind[name] = found.last

    async def _fold(self, name: str, channel: FollowedChannel, found: EventsRead) -> None:
        budget, unreadable = StepBudget(), found.unreadable
        for event in found.events:
            try:
                with ReaderGuard(name):
                    channel.fold(event)
            except MalformedError:
                unreadable += 1
            await budget.spend()
        if unreadable:
            self.unreadable += unreadable
            log.warning("entries of an event channel in Redis can't be read", channel=name, count=unreadable)

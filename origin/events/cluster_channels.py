"""The event channels of a node of a cluster: published on any node, read on any, with the same ids."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from origin.events.channel import PRESENCE, EventChannel
from origin.events.shared_event_channel import SharedEventChannel
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.event_reader import EventReader
from packager.cluster.event_streams import EventStreams
from packager.cluster.event_writer import EventWriter
from packager.cluster.limits import ClusterLimits
from packager.concurrency import wait_within
from packager.step_budget import StepBudget


class ClusterChannels:
    """Shares event channels with the other nodes.

    Args:
        token: by which this node is known.
        relayed: names of those on which answers of relays are published.
        limits: limits of the events in Redis, and of those that wait for Redis.

    Attributes:
        streams: appends and reads the events in Redis.
        writer: appends what is published here.
        reader: reads what all nodes publish.
    """

    def __init__(
        self,
        connection: RedisConnection,
        token: str,
        channels: Collection[EventChannel],
        relayed: Collection[str],
        limits: ClusterLimits,
    ) -> None:
        self._connection = connection
        self._limits = limits
        self._relayed = relayed
        self.streams = EventStreams(connection, token, limits)
        self.writer = EventWriter(connection, self.streams, limits)
        self._shared: dict[str, SharedEventChannel] = {}
        self.reader = EventReader(connection, self.streams, self._shared)
        for channel in channels:
            self._shared[channel.name] = SharedEventChannel(
                channel, self.writer, self.reader.catch_up, limits
            )

    async def run(self) -> None:
        """Publish and follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.writer.run())
            group.create_task(self.reader.run())
            group.create_task(self._report_readers())

    async def wait_until_level(self) -> None:
        """Wait until what is in Redis is here, unless it takes too long."""
        await wait_within(self._limits.restore_seconds, self.reader.is_level.wait())

    def share(self, channel: EventChannel, name: str) -> SharedEventChannel:
        """Share one more channel, until it is let go.

        Args:
            name: of the channel's events in Redis.
        """
        shared = SharedEventChannel(channel, self.writer, self.reader.catch_up, self._limits, name)
        self._shared[name] = shared
        return shared

    def let_go(self, shared: SharedEventChannel) -> None:
        """Share a channel no longer; this process numbers what is still published to it."""
        shared.channel.numbering = None
        if self._shared.get(shared.name) is shared:
            del self._shared[shared.name]
            self.reader.drop(shared.name)
            self.writer.drop(shared.name)

    async def _report_readers(self) -> None:
        """Exchange the numbers of each channel's readers with the other nodes."""
        due, budget = 0.0, StepBudget()
        while True:
            await asyncio.sleep(min(self._limits.changes_seconds, self._limits.report_seconds))
            await self._connection.wait_until_up()
            if is_due := time.monotonic() >= due:
                due = time.monotonic() + self._limits.report_seconds
            try:
                for shared in tuple(self._shared.values()):
                    # A relay is to learn soon that a reader of its answer has come, or left.
                    is_made = shared.name != shared.channel.name
                    has_changed = is_made and shared.reported != self._readers(shared.channel)
                    if has_changed or (is_due and self._is_reported(shared)):
                        await self._report(shared)
                    await budget.spend()
            except RedisUnavailableError:
                continue

    def _is_reported(self, shared: SharedEventChannel) -> bool:
        channel = shared.channel
        is_counted = channel.options.presence or channel.name in self._relayed
        return bool(self._readers(channel) or shared.reported or is_counted)

    def _readers(self, channel: EventChannel) -> int:
        """Return how many readers a channel has here; one that polls, and may come again, is one of them."""
        if channel.readers or channel.options.presence:
            return channel.readers
        return int(time.monotonic() - channel.polled < self._limits.again_seconds)

    async def _report(self, shared: SharedEventChannel) -> None:
        channel = shared.channel
        readers, options = self._readers(channel), channel.options
        elsewhere = await self.streams.report(
            shared.name,
            readers,
            options.presence_seconds if options.presence else None,
            shared.seen_readers,
            answers=shared.is_answering,
        )
        shared.reported = readers
        shared.take_report(elsewhere)
        if elsewhere.tells and not channel.ended:
            channel.publish(PRESENCE, {"readers": readers + elsewhere.readers})

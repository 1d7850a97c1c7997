"""The event channels of a cluster that are made at run time: all nodes have the same, with their events."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

import structlog

from media.errors import MalformedError
from origin.events.channel import EventChannel
from origin.events.cluster_channels import ClusterChannels
from origin.events.created.journal import MOST_LINE_BYTES
from origin.events.created.limits import CreationLimits
from origin.events.created.records import (
    ADMINISTRATOR,
    TEMPLATE,
    CreatedChannel,
    GoneLine,
    Records,
    line_of,
    line_of_gone,
)
from origin.events.limits import ChannelLimits
from origin.events.shared_event_channel import SharedEventChannel
from origin.responses.refusal import RefusalError
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.event_streams import REMEMBERED_SECONDS, EventRetention
from packager.cluster.limits import ClusterLimits
from packager.cluster.shared_records import RecordRefusedError, SharedRecords
from packager.step_budget import StepBudget

log = structlog.get_logger()

SPARE_SECONDS = 60.0
"""For so long Redis keeps the events of a channel behind its end, unless a node removes them."""


class ChannelsHere(Protocol):
    """The channels of a node that were made at run time.

    Attributes:
        limits: their limits, which are the cluster's.
        records: the channels without their events.
    """

    limits: CreationLimits
    records: Records

    def names(self) -> list[str]:
        """Return the names of all channels."""

    def get(self, name: str) -> CreatedChannel | None:
        """Return the record of a channel; None for none."""

    def note_record(self, channel: CreatedChannel) -> None:
        """Note a channel as it is at all nodes."""

    def note_end(self, name: str, until: float | None) -> None:
        """Note that a channel is gone at all nodes.

        Args:
            until: when nobody needs to know any more that it was there; None for now.
        """

    def note_ready(self) -> None:
        """Note that the channels of the cluster are known."""


class CreatedChannelsOfCluster:
    """Shares the channels that are made at run time, and their events, with the other nodes.

    Args:
        created: this node's channels, which have what the cluster has from now on.
        events: shares the events of the channels that clients use here.

    Attributes:
        records: the records in Redis, to be run.
    """

    def __init__(
        self,
        created: ChannelsHere,
        connection: RedisConnection,
        events: ClusterChannels,
        limits: ClusterLimits,
    ) -> None:
        self._created = created
        self._connection = connection
        self._events = events
        self._limits = limits
        self._gone: dict[str, tuple[float, str]] = {}
        self.records = SharedRecords(connection, events.streams, self, limits.records)

    @property
    def is_up(self) -> bool:
        """Whether Redis can be reached."""
        return self._connection.is_up

    # Changing

    async def create(self, channel: CreatedChannel) -> None:
        """Make a channel at all nodes.

        Raises:
            RecordRefusedError: it isn't made.
            RefusalError: Redis is away.
        """
        limits = self._created.limits
        is_own = channel.creator in (ADMINISTRATOR, TEMPLATE)
        line = line_of(channel).rstrip(b"\n")
        try:
            await self.records.create(
                channel.name, channel.number, line, limits.channels, None if is_own else limits.per_creator
            )
        except RedisUnavailableError as error:
            raise self._away(error) from None

    async def change(self, channel: CreatedChannel) -> None:
        """Change a channel at all nodes.

        Args:
            channel: with what is changed, and the next revision.

        Raises:
            RefusalError: it is gone, another node has changed it, or Redis is away.
        """
        try:
            await self.records.change(channel.name, line_of(channel).rstrip(b"\n"))
        except RecordRefusedError as error:
            if error.reason == "gone":
                raise RefusalError(410, "the channel was deleted") from None
            raise RefusalError(409, "somebody else has changed the channel; ask again") from None
        except RedisUnavailableError as error:
            raise self._away(error) from None

    async def delete(self, channel: CreatedChannel, until: float) -> None:
        """Delete a channel at all nodes.

        Args:
            until: when it is forgotten that it was there.

        Raises:
            RefusalError: Redis is away.
        """
        try:
            await self.records.delete(channel.name, channel.number, until)
        except RedisUnavailableError as error:
            raise self._away(error) from None

    async def catch_up(self) -> None:
        """Wait for the channels that other nodes have made.

        Raises:
            RefusalError: Redis is away.
        """
        try:
            await self.records.catch_up()
        except RedisUnavailableError as error:
            raise self._away(error) from None

    def _away(self, error: RedisUnavailableError) -> RefusalError:
        seconds = str(self._limits.records.retry_seconds)
        return RefusalError(503, f"Redis has the channels of a cluster: {error}", {"retry-after": seconds})

    # Events

    def share(self, channel: EventChannel, record: CreatedChannel) -> SharedEventChannel:
        """Share the events of a channel that clients use here now."""
        shared = self._events.share(channel, f"{record.name}@{record.number}")
        self.keep(shared, record, channel.limits)
        return shared

    def keep(self, shared: SharedEventChannel, record: CreatedChannel, limits: ChannelLimits) -> None:
        """Note how many of a channel's events Redis is to keep from now on."""
        left = record.expires - time.time() + SPARE_SECONDS
        remembered = REMEMBERED_SECONDS if math.isinf(left) else min(max(left, 1), REMEMBERED_SECONDS)
        shared.kept = EventRetention(
            limits.history,
            limits.history_bytes,
            limits.history_seconds,
            remembered_seconds=math.ceil(remembered),
            is_counted=True,
        )

    async def read(self, shared: SharedEventChannel) -> None:
        """Wait until a channel has the events that are in Redis.

        Raises:
            RefusalError: Redis is away.
        """
        try:
            async with asyncio.timeout(self._limits.events.publish_seconds):
                await self._connection.wait_until_up()
                await self._events.reader.catch_up(shared.name)
        except (RedisUnavailableError, TimeoutError) as error:
            raise self._away(RedisUnavailableError(str(error) or "its events can't be read now")) from None

    def let_go(self, shared: SharedEventChannel) -> None:
        """Share a channel's events no longer."""
        self._events.let_go(shared)

    # Following

    def note(self, name: str, line: bytes) -> None:
        """Note the line of a channel, as it is now."""
        try:
            if len(line) > MOST_LINE_BYTES:
                raise MalformedError("a line of many bytes")
            found = self._created.records.decoded(line)
            if found.name != name:
                raise MalformedError("the line of another channel")
        except MalformedError as error:
            self.records.unreadable += 1
            log.warning("a created event channel in Redis can't be read", reason=str(error))
            return
        if isinstance(found, GoneLine):
            self._gone.pop(name, None)
            self._gone[name] = found.until, found.number
            if len(self._gone) > self._created.limits.channels:
                del self._gone[next(iter(self._gone))]
            self._created.note_end(name, found.until)
        else:
            self._gone.pop(name, None)
            self._created.note_record(found)

    async def note_all(self, lines: Mapping[str, bytes]) -> None:
        """Note the lines of all channels; there are no others."""
        budget = StepBudget()
        for name in self._created.names():
            if name not in lines:
                self._created.note_end(name, None)
            await budget.spend()
        for name, line in lines.items():
            self.note(name, line)
            await budget.spend()
        self._created.note_ready()

    def lines(self) -> Iterable[bytes]:
        """Return the lines of all channels that are known, and of those that are gone."""
        for name in self._created.names():
            if (channel := self._created.get(name)) is not None:
                yield line_of(channel)
        for name, (until, number) in tuple(self._gone.items()):
            yield line_of_gone(name, until, number)

"""The event channels of a cluster that are made at run time: all nodes have the same, with their events."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from media.errors import MalformedError
from origin.events.channel import NO_EPOCH, EventChannel, new_epoch
from origin.events.cluster_channels import ClusterChannels
from origin.events.created.journal import MOST_LINE_BYTES
from origin.events.created.own_answers import OwnAnswers
from origin.events.created.records import (
    ADMINISTRATOR,
    TEMPLATE,
    CreatedChannel,
    GoneLine,
    Records,
    line_of,
    line_of_gone,
)
from origin.events.limits import ChannelLimits, EventLimits
from origin.events.shared_event_channel import SharedEventChannel, encoded
from origin.responses.refusal import RefusalError
from packager.bounded_dict import BoundedDict
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.event_streams import REMEMBERED_SECONDS, EventRetention, PutOutcome
from packager.cluster.limits import ClusterLimits
from packager.cluster.log_stream import EntryId
from packager.cluster.shared_records import RecordRefusedError, SharedRecords
from packager.reader_guard import ReaderGuard
from packager.step_budget import StepBudget

log = structlog.get_logger()

MOST_CONFLICTS = 5
"""How often a change of a channel is tried that others change at the same time."""

SPARE_SECONDS = 60.0
"""For so long Redis keeps the events of a channel behind its end, unless a node removes them."""


class ChannelsHere(Protocol):
    """The channels of a node that were made at run time.

    Attributes:
        limits: their limits, which are the cluster's.
        records: the channels without their events.
    """

    limits: EventLimits
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

    def followed_answers(self) -> Sequence[tuple[CreatedChannel, SharedEventChannel]]:
        """Return the answers of other nodes that clients read here, and that haven't ended."""

    def last_events(self, record: CreatedChannel, channel: EventChannel) -> Sequence[tuple[str, str]]:
        """Return the last events of an answer whose node is gone."""


class CreatedChannelsOfCluster:
    """Shares the channels that are made at run time, and their events, with the other nodes.

    Args:
        created: this node's channels, which have what the cluster has from now on.
        events: shares the events of the channels that clients use here.

    Attributes:
        records: the records in Redis, to be run.
        answers: sends the answers that this node publishes.
        token: identifies this node in the records of its answers.
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
        self._gone = BoundedDict[str, tuple[float, str]](created.limits.created_channels)
        self.records = SharedRecords(connection, events.streams, self, limits)
        self.token = events.streams.token
        self.answers = OwnAnswers(
            connection, events.streams, self.records, lambda: created.limits.created_channels, limits
        )

    async def run(self) -> None:
        """Follow the records, and share answers, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.records.run())
            group.create_task(self.answers.run())
            group.create_task(self._end_lost_answers())

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
                channel.name,
                channel.number,
                line,
                limits.created_channels,
                None if is_own else limits.per_creator,
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

    async def stop(self, channel: CreatedChannel, reason: str) -> None:
        """Let the node that publishes an answer stop it.

        Raises:
            RefusalError: Redis is away, or others have changed it meanwhile.
        """
        for _ in range(MOST_CONFLICTS):
            changed = replace(channel, stopped=reason, revision=channel.revision + 1)
            try:
                await self.records.change(channel.name, line_of(changed).rstrip(b"\n"))
            except RecordRefusedError as error:
                if error.reason == "gone":
                    return
                await self.catch_up()
            except RedisUnavailableError as error:
                raise self._away(error) from None
            else:
                return
        raise RefusalError(409, "somebody else has changed the channel; ask again")

    @property
    def stop_seconds(self) -> float:
        """For how long the end of an answer that was stopped is waited for."""
        return self._limits.stop_seconds

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
        seconds = str(self._limits.retry_seconds)
        return RefusalError(503, f"Redis has the channels of a cluster: {error}", {"retry-after": seconds})

    # Events

    def share(self, channel: EventChannel, record: CreatedChannel) -> SharedEventChannel:
        """Share the events of a channel that clients use here now."""
        shared = self._events.share(channel, record.stream)
        self.keep(shared, record, channel.limits)
        return shared

    def begin_answer(self, record: CreatedChannel, channel: EventChannel) -> None:
        """Send the events of an answer that this node publishes."""
        self.answers.begin(record, channel, self._retention(record, channel.limits))

    def keep(self, shared: SharedEventChannel, record: CreatedChannel, limits: ChannelLimits) -> None:
        """Note how many of a channel's events Redis is to keep from now on."""
        shared.kept = self._retention(record, limits)

    @staticmethod
    def _retention(record: CreatedChannel, limits: ChannelLimits) -> EventRetention:
        left = record.expires - time.time() + SPARE_SECONDS
        remembered = REMEMBERED_SECONDS if math.isinf(left) else min(max(left, 1), REMEMBERED_SECONDS)
        return EventRetention(
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
            async with asyncio.timeout(self._limits.publish_seconds):
                await self._connection.wait_until_up()
                await self._events.reader.catch_up(shared.name)
        except (RedisUnavailableError, TimeoutError) as error:
            raise self._away(RedisUnavailableError(str(error) or "its events can't be read now")) from None

    def let_go(self, shared: SharedEventChannel) -> None:
        """Share a channel's events no longer."""
        self._events.let_go(shared)

    async def _end_lost_answers(self) -> None:
        """End the answers that are read here, and whose nodes are gone."""
        while True:
            await asyncio.sleep(self._limits.answer_look_seconds)
            followed = self._created.followed_answers()
            is_settled = time.monotonic() - self._connection.up_since >= self._limits.up_seconds
            if not followed or not self._connection.is_up or not is_settled:
                continue
            try:
                nodes = {record.node for record, _ in followed}
                gone = {one for one in nodes if not await self._events.streams.is_publishing(one)}
                for record, shared in followed:
                    if record.node in gone:
                        await self._end_lost(record, shared)
            except (RedisUnavailableError, RefusalError):
                continue

    async def _end_lost(self, record: CreatedChannel, shared: SharedEventChannel) -> None:
        """End an answer whose node is gone, unless another node has done so."""
        channel = shared.channel
        await self.read(shared)
        if channel.ended or channel.closed:
            return
        messages = [encoded(*event) for event in self._created.last_events(record, channel)]
        epoch = new_epoch() if channel.epoch == NO_EPOCH else channel.epoch
        first = EntryId(int(epoch, 16), channel.log.offset + 1)
        place = await self._events.streams.put(shared.name, first, messages, shared.kept, is_last=True)
        if place.outcome is PutOutcome.DONE:
            log.warning("the node of an answer is gone, and the answer has ended", channel=record.name)
            until = time.time() + record.settings.keep_for
            await self.change(replace(record, expires=until, revision=record.revision + 1))

    # Following

    def note(self, name: str, line: bytes) -> None:
        """Note the line of a channel, as it is now."""
        try:
            with ReaderGuard(name):
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
            self._gone[name] = found.until, found.number
            self._created.note_end(name, found.until)
        else:
            self._gone.pop(name, None)
            self._created.note_record(found)

    async def note_all(self, lines: Mapping[str, bytes]) -> None:
        """Note the lines of all channels; there are no others."""
        budget = StepBudget()
        for name in self._created.names():
            answer = self.answers.get(name)
            if name not in lines and (answer is None or answer.is_registered):
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

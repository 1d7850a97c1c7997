"""An event channel of a cluster: Redis numbers its events, whichever node publishes them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta, Struct

from media.errors import MalformedError
from origin.events.channel import NO_EPOCH, PRESENCE, EventChannel, NumberingUnavailableError
from origin.events.event_log import Event, PastEpoch, as_published, size_of
from packager.cluster.connection import RedisUnavailableError
from packager.cluster.event_streams import EventRetention, OtherNodes, StoredEvent
from packager.cluster.event_writer import EventsRefusedError, WrittenChannel
from packager.cluster.limits import EventStreamLimits
from packager.cluster.log_stream import EntryId
from packager.replication.log_entries import read_message


class SharedEvent(Struct, frozen=True):
    """An event as it lies in Redis.

    Attributes:
        data: its text, whose line ends are LF.
        begins: whether new readers get the channel from this event on.
    """

    # What comes out of Redis can't end a line of server-sent events.
    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
    data: Annotated[str, Meta(pattern=r"^[^\r]*\Z")]
    begins: bool = False


_encode = msgspec.msgpack.Encoder().encode
_EVENT = msgspec.msgpack.Decoder(SharedEvent)
_PRESENCE = re.compile(r'\{"readers":([0-9]{1,10})\}')


class EventAppender(Protocol):
    """Appends the events that this node publishes to those that Redis has."""

    def append(self, channel: WrittenChannel, messages: Sequence[bytes]) -> asyncio.Future[list[EntryId]]:
        """Append events that belong together, soon; give their IDs once they are there."""


class SharedEventChannel:
    """Publishes a channel's events by way of Redis, and gives the channel those of all nodes.

    Args:
        channel: for the readers of this node; its events are numbered by this from now on.
        writer: appends what is published here.
        catch_up: reads what there is in Redis now.

    Attributes:
        position: ID of the newest event; None where nothing is known of the channel yet.
        kept: how much stays in Redis.
        is_answering: whether an answer of a relay is published here.
        reported: how many readers the other nodes were told of.
        seen_readers: how many readers the newest event tells of that tells it; None where none has come.
    """

    def __init__(
        self,
        channel: EventChannel,
        writer: EventAppender,
        catch_up: Callable[[str], Any],
        limits: EventStreamLimits,
    ) -> None:
        self.channel = channel
        self.name = channel.name
        self.position: EntryId | None = None
        kept = channel.limits
        self.kept = EventRetention(kept.history, kept.history_bytes, kept.history_seconds)
        self.is_answering = False
        self.reported = 0
        self.seen_readers: int | None = None
        self._writer = writer
        self._catch_up = catch_up
        self._limits = limits
        self._begins = False
        self._answers_elsewhere = 0
        channel.numbering = self

    @property
    def epoch(self) -> int:
        """The largest epoch that this node has met."""
        return 0 if self.position is None else self.position.epoch

    # Publishing

    async def publish(self, events: Sequence[tuple[str, str]]) -> list[str]:
        """Publish events, each a type and a text, and return their ids.

        Raises:
            ValueError: one is larger than all that is kept; none is published.
            NumberingUnavailableError: they aren't published, or nobody knows.
        """
        try:
            ids = await self._append(events)
        except EventsRefusedError as error:
            raise NumberingUnavailableError(str(error), self._limits.retry_seconds) from None
        return [f"{one.epoch:x}-{one.position}" for one in ids]

    def publish_later(self, name: str, text: str) -> None:
        """Publish an event whose id nobody waits for.

        Raises:
            ValueError: it is larger than all that is kept.
        """
        self._append([(name, text)])

    def begin_answer(self) -> None:
        """Begin with the next event for new readers, unless another node publishes an answer, too."""
        self.is_answering = True
        self._begins = not self._answers_elsewhere

    def end_answer(self, name: str) -> None:
        """Publish the end, unless another node publishes an answer."""
        self.is_answering = False
        if not self._answers_elsewhere:
            self.publish_later(name, "{}")

    def _append(self, events: Sequence[tuple[str, str]]) -> asyncio.Future[list[EntryId]]:
        messages = []
        for name, text in events:
            event = SharedEvent(as_published(name), as_published(text), self._begins)
            if size_of(event.name, event.data.encode()) > self.kept.size:
                raise ValueError(f"an event of {len(text)} characters doesn't fit the channel")
            messages.append(_encode(event))
            self._begins = False
        self.channel.published += len(messages)
        return self._writer.append(self, messages)

    # Following

    def begin(self, behind: EntryId, epochs: Sequence[EntryId]) -> None:
        """Begin behind an event of an epoch, before which there were others."""
        earlier = [PastEpoch(f"{one.epoch:x}", one.position) for one in epochs]
        # Who was here before the first event has had none of any epoch.
        known = [PastEpoch(NO_EPOCH, 0), *earlier]
        self.channel.go_on_behind(f"{behind.epoch:x}", behind.position, known)
        self.position = behind

    def fold(self, event: StoredEvent) -> None:
        """Take the next event.

        Raises:
            MalformedError: it can't be read; it is missing then.
        """
        number, known = event.number, self.position
        if known is None or number <= known:
            return
        shared = read_message(_EVENT, event.message, "event")
        size = size_of(shared.name, shared.data.encode())
        if size > self.kept.size:
            raise MalformedError(f"an event of {size} bytes")
        log = self.channel.log
        if number.epoch != known.epoch:
            log.begin_epoch(f"{number.epoch:x}", log.end)
        if number.position > log.offset + 1:
            self.channel.skip_to(number.position)
        self.position = number
        if shared.name == PRESENCE and (told := _PRESENCE.fullmatch(shared.data)) is not None:
            self.seen_readers = int(told[1])
        name = f"{number.epoch:x}"
        taken = Event(name, number.position, shared.name, shared.data, event.time, 0, size)
        self.channel.append_numbered(taken, begins=shared.begins)

    async def catch_up(self) -> None:
        """Wait a while for what other nodes have published: a reader has had an id that isn't known here."""
        try:
            async with asyncio.timeout(self._limits.catch_up_seconds):
                await self._catch_up(self.name)
        except (RedisUnavailableError, TimeoutError):
            return  # the reader is told that it may have missed events

    def take_report(self, elsewhere: OtherNodes) -> None:
        """Learn how many readers other nodes have."""
        self._answers_elsewhere = elsewhere.answers
        self.channel.readers_of_other_nodes = elsewhere.readers

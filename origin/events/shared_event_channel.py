"""An event channel of a cluster: Redis numbers its events, whichever node publishes them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from media.errors import MalformedError
from origin.events.channel import NO_EPOCH, PRESENCE, EventChannel, NumberingUnavailableError
from origin.events.event_log import Event, PastEpoch, as_published, size_of
from packager.cluster.connection import RedisUnavailableError
from packager.cluster.event_streams import EventRetention, OtherNodes, StoredEvent
from packager.cluster.event_writer import EventsRefusedError, EventWriter
from packager.cluster.limits import ClusterLimits
from packager.cluster.log_stream import EntryId
from packager.replication.log_entries import read_message


class SharedEvent(Struct, frozen=True):
    """An event as it lies in Redis.

    Attributes:
        data: its text, whose line ends are LF.
        begins: whether new readers get the channel from this event on.
    """

    # Values from Redis can't end a line of server-sent events.
    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
    data: Annotated[str, Meta(pattern=r"^[^\r]*\Z")]
    begins: bool = False


_encode = msgspec.msgpack.Encoder().encode
_EVENT = msgspec.msgpack.Decoder(SharedEvent)
_PRESENCE = re.compile(r'\{"readers":([0-9]{1,10})\}')


def encoded(name: str, data: str) -> bytes:
    """Write an event as it lies in Redis, whose text is one for readers already."""
    return _encode(SharedEvent(name, data))


class SharedEventChannel:
    """Publishes a channel's events through Redis, and adds the events of all nodes to the channel.

    Args:
        channel: the channel of this node's readers, whose events are numbered by Redis from now on.
        writer: appends the events of this node.
        catch_up: reads the channel up to its present end in Redis.
        name: of the channel in Redis; empty where it is the channel's.

    Attributes:
        position: ID of the newest event; None before the channel was read.
        kept: how many events stay in Redis.
        is_answering: whether an answer of a relay is published here.
        reported: the last number of readers that was reported to the other nodes.
        seen_readers: the number of readers in the newest event with one; None before any.
    """

    def __init__(
        self,
        channel: EventChannel,
        writer: EventWriter,
        catch_up: Callable[[str], Any],
        limits: ClusterLimits,
        name: str = "",
    ) -> None:
        self.channel = channel
        self.name = name or channel.name
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
        """Set the position behind an event of an epoch, and note the earlier epochs."""
        earlier = [PastEpoch(f"{one.epoch:x}", one.position) for one in epochs]
        # Readers from before the first event have had none of any epoch.
        known = [PastEpoch(NO_EPOCH, 0), *earlier]
        self.channel.go_on_behind(f"{behind.epoch:x}", behind.position, known)
        self.position = behind

    def fold(self, event: StoredEvent) -> None:
        """Fold the next event into the channel.

        Raises:
            MalformedError: it can't be read; it is missing then.
        """
        number, known = event.number, self.position
        if known is None or number <= known:
            return
        shared = read_message(_EVENT, event.message, "event")
        size = size_of(shared.name, shared.data.encode())
        if size > self.kept.size:
            raise MalformedError(f"an event of {size} bytes: more than {self.kept.size}")
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
            return  # the reader gets a notice that it may have missed events

    def take_report(self, elsewhere: OtherNodes) -> None:
        """Note how many readers other nodes have."""
        self._answers_elsewhere = elsewhere.answers
        self.channel.readers_of_other_nodes = elsewhere.readers

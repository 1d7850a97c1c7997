"""Appends a node's events to the event channels of its cluster, each once or not at all, in their order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.event_streams import EventRetention, EventStreams
from packager.cluster.limits import ClusterLimits
from packager.cluster.log_stream import EntryId
from packager.concurrency import wait_within

APPEND_EVENTS = 100
"""Most events that are appended at once."""

APPEND_BYTES = 1 << 20
"""Most bytes of events that are appended at once, unless one event has more."""


class EventsRefusedError(Exception):
    """Events weren't published, or nobody knows whether they were; says which in a sentence."""


class WrittenChannel(Protocol):
    """An event channel to which this node appends."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def kept(self) -> EventRetention:
        """How many of the channel's events Redis keeps."""

    @property
    def epoch(self) -> int:
        """The largest epoch of it that this node has met."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """Events that were published together, and the future of their IDs."""

    messages: Sequence[bytes]
    deadline: float
    ids: asyncio.Future[list[EntryId]]

    @property
    def size(self) -> int:
        return sum(map(len, self.messages))


@dataclass(slots=True)
class _Queue:
    """The events that wait for their place in one channel."""

    channel: WrittenChannel
    waiting: deque[_Waiting] = field(default_factory=deque)
    is_sending: bool = False


class EventWriter:
    """Appends events in batches: one of a channel is on its way, and events that come meanwhile are the next.

    Redis knows each batch by its number: where an answer was lost, the batch is sent again until it has one,
    or until its events have waited for too long.

    Args:
        limits: how many events wait, and for how long.

    Attributes:
        refused: events that were refused, or given up.
    """

    def __init__(self, connection: RedisConnection, streams: EventStreams, limits: ClusterLimits) -> None:
        self._connection = connection
        self._streams = streams
        self._limits = limits
        self._queues: dict[str, _Queue] = {}
        self._events = self._bytes = self._batches = 0
        self._news = asyncio.Event()
        self.refused = 0

    def append(self, channel: WrittenChannel, messages: Sequence[bytes]) -> asyncio.Future[list[EntryId]]:
        """Queue events that belong together, which ``run`` appends.

        Returns:
            The future of their IDs, which fails with `EventsRefusedError`.
        """
        deadline = time.monotonic() + self._limits.publish_seconds
        waiting = _Waiting(messages, deadline, asyncio.get_running_loop().create_future())
        limits = self._limits
        if self._events >= limits.waiting_events or self._bytes >= limits.waiting_bytes:
            self._refuse([waiting], "too many events wait for Redis: nothing was published")
            return waiting.ids
        self._events += len(messages)
        self._bytes += waiting.size
        queue = self._queues.setdefault(channel.name, _Queue(channel))
        queue.channel = channel
        queue.waiting.append(waiting)
        self._news.set()
        return waiting.ids

    def drop(self, name: str) -> None:
        """Drop the queue of a channel that nobody uses here, unless events wait in it."""
        queue = self._queues.get(name)
        if queue is not None and not queue.waiting and not queue.is_sending:
            del self._queues[name]

    async def run(self) -> None:
        """Append until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._news.wait()
                self._news.clear()
                for queue in self._queues.values():
                    if queue.waiting and not queue.is_sending:
                        queue.is_sending = True
                        group.create_task(self._send_all(queue))

    async def _send_all(self, queue: _Queue) -> None:
        try:
            while queue.waiting:
                await self._send(queue, self._next_batch(queue))
        finally:
            queue.is_sending = False

    def _next_batch(self, queue: _Queue) -> list[_Waiting]:
        """Remove and return the events of the next batch."""
        taken: list[_Waiting] = []
        events = size = 0
        while queue.waiting and events < APPEND_EVENTS and size < APPEND_BYTES:
            one = queue.waiting.popleft()
            taken.append(one)
            events += len(one.messages)
            size += one.size
        self._events -= events
        self._bytes -= size
        return taken

    async def _send(self, queue: _Queue, batch: list[_Waiting]) -> None:
        """Append a batch, again and again until it is known to be there, or its time is over."""
        # Also above those of a queue of this channel that was dropped.
        self._batches += 1
        batch_number = self._batches
        channel, messages = queue.channel, [message for one in batch for message in one.messages]
        deadline, was_sent = batch[0].deadline, False
        # Not by a time-out of the loop's around it all: a process that stood still knows the time first.
        while (left := deadline - time.monotonic()) > 0:
            await wait_within(left, self._connection.wait_until_up())
            if not self._connection.is_up or time.monotonic() >= deadline:
                continue
            was_sent = True
            try:
                first = await self._streams.append(
                    channel.name, batch_number, messages, channel.epoch, channel.kept
                )
            except RedisUnavailableError:
                continue
            if first is None:
                break
            self._acknowledge(batch, first)
            return
        sentence = "what was sent may have been published" if was_sent else "nothing was published"
        self._refuse(batch, f"Redis, which numbers the events of a cluster, can't be reached: {sentence}")

    def _acknowledge(self, batch: list[_Waiting], first: EntryId) -> None:
        position = first.position
        for one in batch:
            if not one.ids.done():
                count = len(one.messages)
                one.ids.set_result([EntryId(first.epoch, position + index) for index in range(count)])
            position += len(one.messages)

    def _refuse(self, batch: list[_Waiting], sentence: str) -> None:
        for one in batch:
            self.refused += len(one.messages)
            if not one.ids.done():
                one.ids.set_exception(EventsRefusedError(sentence))
                # Retrieved here, as a caller may not wait for the IDs: refused events are counted all the
                # same.
                one.ids.exception()

"""The channels made at run time that clients use; of the others their events as few bytes.

A channel without clients is its record and its packed events. It is a channel again as soon as somebody
comes. So hundreds of thousands cost little, and no task.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from starlette.types import Scope

from origin.events.beats import beat_safely
from origin.events.channel import END, NO_EPOCH, EventChannel, EventChannelOptions
from origin.events.channel_keys import ChannelKeys
from origin.events.channel_replication import FollowedEventLog, ServedEventLog
from origin.events.created.channel_index import ChannelTimes
from origin.events.created.records import ChannelSettings, CreatedChannel, Records
from origin.events.disk_history import EventHistory
from origin.events.event_log import Event
from origin.events.limits import EventLimits
from origin.events.publishing import EventPublisher
from origin.events.shared_event_channel import SharedEventChannel
from origin.http1.body_writer import at_end
from packager.step_budget import StepBudget

if TYPE_CHECKING:
    from origin.events.created.cluster import CreatedChannelsOfCluster

log = structlog.get_logger()

DELETED, EXPIRED, RESTARTED = "deleted", "expired", "restart"
"""Reasons for which what is published to a channel is stopped, or has ended."""

HISTORY_SHARE = 9 / 8
"""For so many times as long as its events are kept a channel's files may have them."""


@dataclass(frozen=True, slots=True)
class Template:
    """The options of the channels of a pattern.

    Attributes:
        settings: of channels for which none are asked for.
        seconds: for how long a channel is there; infinite for ever.
        on_publish: whether the first event makes a channel.
    """

    settings: ChannelSettings
    seconds: float = math.inf
    on_publish: bool = False


@dataclass(frozen=True, slots=True)
class ChannelMaker:
    """Makes channels of their records.

    Attributes:
        options: returns the options of a channel with some settings.
        count: called with the number of bytes written to readers.
        history: makes what keeps a channel's events on disk; None where nothing does.
        templates: by their patterns.
        keys: of templates' publishers and readers, by the pattern, and of relays', by their name; a reload
            changes them.
        last_events: returns the events, each a type and a text, that end an answer for a reason where its
            relay can't.
    """

    options: Callable[[ChannelSettings], EventChannelOptions]
    count: Callable[[int], None] = lambda _: None
    history: Callable[[EventChannel, ChannelSettings], EventHistory] | None = None
    publish: EventLimits = field(default_factory=EventLimits)
    templates: Mapping[str, Template] = field(default_factory=dict)
    keys: Mapping[str, ChannelKeys] = field(default_factory=dict)
    last_events: Callable[[CreatedChannel, EventChannel, str], Sequence[tuple[str, str]]] = lambda *_: (
        (END, "{}"),
    )


@dataclass(slots=True, eq=False)
class OpenChannel:
    """A channel that clients use, or have used a moment ago.

    Attributes:
        uses: requests for it that go on.
        since: since when there are none, by the monotonic clock.
        ended: completes when the history is written, and its files are closed.
        shared: shares its events with the other nodes of a cluster; None without one.
        is_read: whether the events that are in Redis were read.
    """

    channel: EventChannel
    publisher: EventPublisher
    history: EventHistory | None = None
    uses: int = 0
    since: float = 0.0
    ended: asyncio.Task[None] | None = None
    is_closing: bool = False
    shared: SharedEventChannel | None = None
    is_read: bool = False


class OpenChannels:
    """The channels that clients use, or have used a moment ago, by name; and the events of the others.

    Args:
        records: of all channels; one that is used is put behind the others.
        times: when channels have events that are too old.
        clock: seconds since the epoch of Unix.

    Attributes:
        readers: number of requests that go on.
        group: runs what keeps events on disk; None before the server runs.
        cluster: shares the events with the other nodes of a cluster; None without one.
    """

    def __init__(
        self,
        maker: ChannelMaker,
        limits: EventLimits,
        records: Records,
        times: ChannelTimes,
        clock: Callable[[], float],
    ) -> None:
        self._maker = maker
        self._limits = limits
        self._records = records
        self._times = times
        self._clock = clock
        self._open: dict[str, OpenChannel] = {}
        self._followed: dict[str, OpenChannel] = {}
        self._packed: dict[str, bytes] = {}
        self._packed_bytes = self._open_bytes = 0
        self._epoch = 0
        self._is_closed = False
        self.readers = 0
        self.group: asyncio.TaskGroup | None = None
        self.cluster: CreatedChannelsOfCluster | None = None

    def __len__(self) -> int:
        """Count the channels in use."""
        return len(self._open)

    def __iter__(self) -> Iterator[OpenChannel]:
        """Return the channels in use."""
        return iter(tuple(self._open.values()))

    def get(self, name: str) -> OpenChannel | None:
        """Return a channel that is in use; None if it isn't."""
        return self._open.get(name)

    @property
    def event_bytes(self) -> int:
        """Bytes of all events in memory."""
        return self._packed_bytes + self._open_bytes

    def followed_answers(self) -> list[OpenChannel]:
        """Return the answers of other nodes that clients use here, and that haven't ended."""
        for name, opened in tuple(self._followed.items()):
            if self._open.get(name) is not opened or opened.channel.ended:
                del self._followed[name]
        return list(self._followed.values())

    def has_room(self) -> bool:
        """Return whether there is room for more events."""
        of_all_nodes = 0 if self.cluster is None else self.cluster.records.event_bytes
        return max(self.event_bytes, of_all_nodes) < self._limits.created_bytes

    def is_used(self, name: str) -> bool:
        """Return whether requests for a channel go on."""
        opened = self._open.get(name)
        return opened is not None and opened.uses > 0

    @contextlib.asynccontextmanager
    async def using(self, name: str, scope: Scope | None = None) -> AsyncIterator[OpenChannel | None]:
        """Hold a channel open while a request for it goes on; None where there is none any more.

        Args:
            scope: of the request, whose stream may go on when the application has returned.
        """
        opened = await self._opened(name)
        if opened is None:
            yield None
            return
        opened.uses += 1
        self.readers += 1
        try:
            yield opened
        finally:
            at_end(scope or {}, functools.partial(self._end_use, opened))

    def _end_use(self, opened: OpenChannel) -> None:
        opened.uses -= 1
        self.readers -= 1
        opened.since = time.monotonic()

    async def _opened(self, name: str) -> OpenChannel | None:
        while (channel := self._records.find(name, self._clock())) is not None:
            opened = self._open.get(name)
            if opened is None:
                opened = self.wake(channel)
            elif opened.is_closing:
                if opened.ended is not None:
                    await asyncio.wait((opened.ended,))
                continue
            if self.cluster is not None and opened.shared is not None and not opened.is_read:
                await self._read_shared(self.cluster, opened, opened.shared)
                continue
            if opened.history is None:
                break
            # The channel counts as used meanwhile.
            opened.uses += 1
            try:
                await opened.history.wait_until_restored()
            finally:
                opened.uses -= 1
            if self._open.get(name) is opened and not opened.is_closing:
                break
        else:
            return None
        is_abandoned = channel.is_answer and channel.stop is None and not opened.channel.ended
        if is_abandoned and self.cluster is None:
            self._end_answer(channel, opened.channel, RESTARTED)
        self._records.note_use(channel, self._clock())
        return opened

    @staticmethod
    async def _read_shared(
        cluster: CreatedChannelsOfCluster, opened: OpenChannel, shared: SharedEventChannel
    ) -> None:
        """Read the events that are in Redis; meanwhile the channel counts as used.

        Raises:
            RefusalError: nobody knows them now.
        """
        opened.uses += 1
        try:
            await cluster.read(shared)
            opened.is_read = True
        finally:
            opened.uses -= 1
            opened.since = time.monotonic()

    def _end_answer(self, record: CreatedChannel, channel: EventChannel, reason: str) -> None:
        """End an answer whose relay can't: it ended with another run of the server, or is at another node."""
        for name, text in self._maker.last_events(record, channel, reason):
            channel.publish_text(text, name)

    def wake(self, channel: CreatedChannel) -> OpenChannel:
        """Make the channel of a record, with the events that were packed."""
        name = channel.name
        options = self._maker.options(channel.settings)
        packed = self._drop_packed(name)
        made: EventChannel | None = None
        if packed:
            make = functools.partial(EventChannel, name, options=options, count=self._maker.count)
            folding = FollowedEventLog(name, make, {})
            for message in _messages_in(packed):
                folding.fold(folding.read(message)[1])
            made = folding.channel
        if made is None:
            is_here = self.cluster is None or channel.is_own
            epoch = self._next_epoch() if is_here else NO_EPOCH
            made = EventChannel(name, epoch, options, count=self._maker.count)
        if self._is_closed:
            made.close()  # readers come again to the next server
        made.on_entry = self._count_event
        publisher = EventPublisher(made, self._maker.publish, has_room=self.has_room)
        opened = self._open[name] = OpenChannel(made, publisher, since=time.monotonic())
        self._open_bytes += made.log.size
        if self.cluster is not None and channel.is_own:
            self.cluster.begin_answer(channel, made)
            made.on_entry = functools.partial(self._note_own, self.cluster, name)
        elif self.cluster is not None:
            opened.shared = self.cluster.share(made, channel)
            if channel.is_answer:
                self._followed[name] = opened
        is_kept = channel.settings.history and not self._is_closed
        if is_kept and self._maker.history is not None and self.group is not None:
            opened.history = self._maker.history(made, channel.settings)
            opened.ended = self.group.create_task(self._keep_history(name, opened, opened.history))
        return opened

    def _next_epoch(self) -> str:
        """Name a new epoch: by the time, and never twice."""
        self._epoch = max(self._epoch + 1, time.time_ns() // 1_000_000)
        return f"{self._epoch:x}"

    def _count_event(self, entry: object) -> None:
        if isinstance(entry, Event):
            self._open_bytes += entry.size

    def _note_own(self, cluster: CreatedChannelsOfCluster, name: str, entry: object) -> None:
        """Count an event of an answer that this node publishes, and send it to the others."""
        self._count_event(entry)
        cluster.answers.note_news(name)

    def _drop_packed(self, name: str) -> bytes | None:
        packed = self._packed.pop(name, None)
        self._packed_bytes -= len(packed or b"")
        return packed

    async def _keep_history(self, name: str, opened: OpenChannel, history: EventHistory) -> None:
        """Keep a channel's events on disk until it is closed."""
        try:
            await history.run()
        except Exception:  # other channels go on
            log.exception("a created event channel's history broke", channel=name)
        finally:
            if self._open.get(name) is opened:
                del self._open[name]

    def resize(self, channel: CreatedChannel) -> None:
        """Keep as many events of a channel as its settings say now."""
        if (opened := self._open.get(channel.name)) is not None:
            options = self._maker.options(channel.settings)
            opened.channel.resize(options)
            if self.cluster is not None and opened.shared is not None:
                self.cluster.keep(opened.shared, channel, options.limits)

    def expire(self, channel: CreatedChannel) -> None:
        """Drop the events of a channel without clients that are too old."""
        if channel.name not in self._open and (channel.settings.keep_for or channel.settings.history):
            self.wake(channel).channel.log.expire()

    def remove(self, channel: CreatedChannel) -> None:
        """Remove a channel that is gone, whose readers get its end, with its events."""
        self._drop_packed(channel.name)
        opened = self._open.get(channel.name)
        if opened is not None:
            if self.cluster is not None and opened.shared is not None:
                # Each node tells its own readers of the end.
                self.cluster.let_go(opened.shared)
                if channel.is_answer and not opened.channel.ended:
                    self._end_answer(channel, opened.channel, DELETED)
            opened.channel.delete()
        if channel.settings.history and self.cluster is None:
            self._remove_history(channel, opened)
        elif opened is not None:
            del self._open[channel.name]

    def _remove_history(self, channel: CreatedChannel, opened: OpenChannel | None) -> None:
        """Remove a channel's files, behind what is still being written."""
        if opened is None:
            opened = self.wake(channel)
            opened.channel.delete()
        opened.is_closing = True
        if opened.history is not None:
            opened.history.remove_all()
        if opened.ended is None:
            del self._open[channel.name]

    def close(self) -> None:
        """Disconnect all readers, who come again, and write what waits."""
        self._is_closed = True
        for opened in self:
            opened.channel.close()
            if opened.history is not None:
                opened.history.close()

    async def beat(self, budget: StepBudget) -> None:
        """Keep the readers' connections alive, and pack the channels that nobody uses any more."""
        size = 0
        for name, opened in tuple(self._open.items()):
            await budget.spend()
            if self._open.get(name) is not opened or opened.is_closing:
                continue
            beat_safely(opened.channel)
            idle = time.monotonic() - opened.since
            if (
                not opened.uses
                and idle >= self._limits.created_idle_seconds
                and not opened.channel.readers_here
            ):
                self._put_to_rest(name, opened)
            if name in self._open:
                size += opened.channel.log.size
        self._open_bytes = size

    def _put_to_rest(self, name: str, opened: OpenChannel) -> None:
        """Keep of a channel without clients its record alone, and its events in few bytes."""
        channel, record = opened.channel, self._records.channels.get(name)
        count = channel.log.end - channel.log.first
        if self.cluster is not None and opened.shared is not None:
            # Redis has the events; while it is away they can be read here alone.
            if self.cluster.is_up or not opened.is_read:
                self.cluster.let_go(opened.shared)
                del self._open[name]
            return
        if self.cluster is not None:
            # An answer of this node is read from Redis, too, as soon as that has it.
            own = self.cluster.answers.get(name)
            if own is None or own.is_level:
                self.cluster.answers.forget(name)
                if record is not None:
                    record.is_own = False
                del self._open[name]
            return
        limits = self._limits
        if record is None or channel.log.size > limits.packed_bytes or count > limits.packed_events:
            return
        if opened.history is not None:
            if opened.history.trouble is None:
                # The files have the events.
                opened.is_closing = True
                opened.history.close()
                if channel.log.end > channel.log.first:
                    self._times.add(record, self._clock() + record.settings.history * HISTORY_SHARE)
            return
        del self._open[name]
        if channel.entered or channel.log.end or channel.log.epochs or channel.log.begin:
            served = ServedEventLog(channel)
            packed = b"".join(_framed(served.encode(entry)) for entry in served.snapshot())
            self._packed[name] = packed
            self._packed_bytes += len(packed)
            newest = channel.log.newest
            if record.settings.keep_for and newest is not None:
                self._times.add(record, newest.time + record.settings.keep_for)


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message


def _messages_in(packed: bytes) -> Iterator[bytes]:
    """Split what was packed into the messages of a channel's log."""
    position = 0
    while position < len(packed):
        begin = position + 4
        position = begin + int.from_bytes(packed[position:begin], "big")
        yield packed[begin:position]

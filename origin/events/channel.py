"""An event channel: publishes events, keeps the newest, and lets readers in."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, field, replace
from typing import Protocol

from msgspec import Struct

from origin.events.channel_reader import ChannelReader, ReaderCounters
from origin.events.delivery import Readers, as_text, welcome
from origin.events.event_log import Event, EventLog, Past, PastEpoch, Resumption
from origin.events.limits import ChannelLimits
from origin.http1.body_writer import Stream
from packager.latency_histogram import LatencyHistogram

END = "end"
"""Type of the event behind which a channel's readers go, and of the end of a relay's answer."""

PRESENCE = "presence"
"""The type of events with the number of a channel's readers."""

RESERVED = frozenset(("reset", PRESENCE))
"""Types of events that only the channel itself publishes."""

GAP_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
CLEANUP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
FIRST_EVENT_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventChannelOptions:
    """The options of an event channel for its readers, and its limits.

    Attributes:
        replay: whether new readers get the events that are kept, or only those to come.
        presence: whether the number of readers is published when it changes.
        presence_seconds: between two such events, at least.
        stays_open: whether readers stay behind an event of type ``end``, as further answers follow.
    """

    replay: bool = True
    presence: bool = False
    presence_seconds: float = 1.0
    stays_open: bool = False
    limits: ChannelLimits = field(default_factory=ChannelLimits)

    def without_presence(self) -> EventChannelOptions:
        """Return the options for a process that publishes nothing itself: it announces no readers either."""
        return replace(self, presence=False)


class ChannelState(Struct, frozen=True, tag="state"):
    """A channel's state for other processes that serve it, beside its events.

    Attributes:
        beginning: number of the event with which new readers begin at the earliest; None for the oldest.
        ended: whether the newest event is the channel's end.
        readers: how many it has in all processes.
    """

    beginning: int | None
    ended: bool
    readers: int


ChannelEntry = Event | Past | ChannelState
"""An entry of a channel's log: an event, the events of earlier epochs, or a state."""


NO_EPOCH = "0"
"""Epoch of a channel of a cluster on which nothing was published, as far as this node knows."""


def new_epoch() -> str:
    """Name a new epoch of a channel: by the time, so that no state has to be kept."""
    return f"{time.time_ns() // 1_000_000:x}"


class NumberingUnavailableError(Exception):
    """Events weren't published, or it is unknown whether they were; the text says which.

    Attributes:
        retry_seconds: after how long the publisher may try again.
    """

    def __init__(self, sentence: str, retry_seconds: int) -> None:
        super().__init__(sentence)
        self.retry_seconds = retry_seconds


class Numbering(Protocol):
    """Numbers a channel's events where several nodes publish them; they come back by ``append_numbered``."""

    async def publish(self, events: Sequence[tuple[str, str]]) -> list[str]:
        """Publish events, each a type and a text, and return their ids.

        Raises:
            NumberingUnavailableError: they aren't published, or nobody knows.
        """

    def publish_later(self, name: str, text: str) -> None:
        """Publish an event whose id nobody waits for."""

    def begin_answer(self) -> None:
        """Let new readers begin with the next event."""

    def end_answer(self, name: str) -> None:
        """Publish the end of an answer, as an event of this type."""

    async def catch_up(self) -> None:
        """Wait a while for what other nodes have published."""


class ChannelHistograms:
    """The histograms of an event channel.

    Attributes:
        gaps: seconds between events.
        first_events: seconds from a reader's admission to its first event.
        cleanups: seconds from the end of a reader's connection to the release of the reader.
    """

    __slots__ = ("cleanups", "first_events", "gaps")

    def __init__(self) -> None:
        self.gaps = LatencyHistogram(GAP_BUCKETS)
        self.first_events = LatencyHistogram(FIRST_EVENT_BUCKETS)
        self.cleanups = LatencyHistogram(CLEANUP_BUCKETS)


_NO_HISTOGRAMS = ChannelHistograms()
_NO_COUNTERS = ReaderCounters(lambda _: None)
"""The histograms and the counters of all channels that have counted nothing."""


def _ignore(_: object) -> None:
    """Do nothing."""


class EventChannel:
    """A channel with its newest events and its readers.

    A server may have thousands that nobody uses, so what readers need is made for the first of them.

    Args:
        epoch: the name of this run of the channel, letters and digits.
        options: its limits alone, or all its options.
        clock: returns monotonic seconds.
        count: called with each number of bytes written.

    Attributes:
        closed: whether no more readers are admitted.
        deleted: whether the channel is closed since it was deleted, and not since the server ends.
        ended: whether the newest event is the channel's end.
        published: number of events since the start.
        entered: number of admitted readers since the start.
        polled: when the last long poll was answered, by the channel's clock.
        readers_of_other_nodes: number of readers at the other nodes of a cluster.
        on_publish: called with each event; keeps events on disk.
        on_entry: called with each entry of the channel's log, for other processes.
        stored: waits until published events are on disk; None if nothing keeps them.
        numbering: numbers and publishes events in a cluster; None if this process numbers them.
    """

    __slots__ = (
        "_beginning",
        "_clock",
        "_count",
        "_histograms",
        "_last_published",
        "_limits",
        "_listeners",
        "_pinged",
        "_polls",
        "_readers",
        "_readers_elsewhere",
        "_told_at",
        "_told_elsewhere",
        "_told_readers",
        "_waiting",
        "_written",
        "closed",
        "deleted",
        "ended",
        "entered",
        "log",
        "name",
        "numbering",
        "on_entry",
        "on_publish",
        "options",
        "polled",
        "published",
        "readers_of_other_nodes",
        "stored",
    )

    def __init__(
        self,
        name: str,
        epoch: str,
        options: ChannelLimits | EventChannelOptions,
        clock: Callable[[], float] = time.monotonic,
        count: Callable[[int], None] = _ignore,
    ) -> None:
        self.options = (
            options if isinstance(options, EventChannelOptions) else EventChannelOptions(limits=options)
        )
        self.name = name
        self._limits = limits = self.options.limits
        self._clock = clock
        self.log = EventLog(epoch, limits.history, limits.history_bytes, limits.history_seconds, time.time)
        self._count = count
        self._histograms = _NO_HISTOGRAMS
        self._readers: Readers | None = None
        # Long polls, and those among them that the next events answer.
        self._polls = 0
        self._waiting: set[asyncio.Future[None]] | None = None
        self._listeners: tuple[Callable[[], None], ...] = ()
        self.polled = -math.inf
        self._written = self._pinged = self._told_at = clock()
        self._last_published: float | None = None
        self._told_readers = 0
        self._told_elsewhere = 0
        self._beginning: int | None = None
        self.published = self.entered = 0
        self.closed = self.ended = self.deleted = False
        self._readers_elsewhere: dict[Hashable, int] | None = None
        self.readers_of_other_nodes = 0
        self.on_publish: Callable[[Event], None] | None = None
        self.on_entry: Callable[[ChannelEntry], None] = _ignore
        self.stored: Callable[[], Awaitable[None]] | None = None
        self.numbering: Numbering | None = None

    @property
    def epoch(self) -> str:
        """Names this run of the channel; another server has another one."""
        return self.log.epoch

    @property
    def state(self) -> str:
        """``live``, or ``ended`` behind its end, until somebody publishes again."""
        return "ended" if self.ended else "live"

    @property
    def limits(self) -> ChannelLimits:
        """The limits of this channel and its readers."""
        return self._limits

    @property
    def readers(self) -> int:
        """Number of readers of all processes, long polls that have no answer yet among them."""
        elsewhere = self._readers_elsewhere
        return self.readers_here if elsewhere is None else self.readers_here + sum(elsewhere.values())

    @property
    def readers_elsewhere(self) -> dict[Hashable, int]:
        """Number of readers in other processes, by process."""
        if self._readers_elsewhere is None:
            self._readers_elsewhere = {}
        return self._readers_elsewhere

    def forget_readers(self, process: Hashable) -> None:
        """Forget the readers of another process, which is gone."""
        if self._readers_elsewhere is not None:
            self._readers_elsewhere.pop(process, None)

    @property
    def readers_of_cluster(self) -> int:
        """Number of readers of all nodes of a cluster."""
        return self.readers + self.readers_of_other_nodes

    @property
    def readers_here(self) -> int:
        """Number of readers that this process serves."""
        return self._polls if self._readers is None else len(self._readers) + self._polls

    @property
    def told(self) -> ChannelState:
        """The channel's state for other processes, beside its events."""
        return ChannelState(self._beginning, self.ended, self.readers)

    @property
    def full(self) -> bool:
        """Whether the limit of readers is reached."""
        return self.readers >= self._limits.readers

    @property
    def counters(self) -> ReaderCounters:
        """Counters of the readers since the start."""
        return _NO_COUNTERS if self._readers is None else self._readers.counters

    @property
    def gaps(self) -> LatencyHistogram:
        """Seconds between events."""
        return self._histograms.gaps

    @property
    def first_events(self) -> LatencyHistogram:
        """Seconds from a reader's admission to its first event."""
        return self._histograms.first_events

    @property
    def cleanups(self) -> LatencyHistogram:
        """Seconds from the end of a reader's connection to the release of the reader."""
        return self._histograms.cleanups

    def _observed(self) -> ChannelHistograms:
        """Return the histograms for a value, which are made for the first one."""
        if self._histograms is _NO_HISTOGRAMS:
            self._histograms = ChannelHistograms()
        return self._histograms

    @property
    def dropped(self) -> int:
        """Readers that fell too far behind, or didn't answer."""
        return self.counters.dropped

    @property
    def lag(self) -> int:
        """Events that the slowest reader hasn't been written yet."""
        return 0 if self._readers is None else self._readers.most_behind

    @property
    def last_id(self) -> str:
        """Id of the newest event; before the first, of the position there."""
        return self.log.identity_before(self.log.end)

    def restore(self, past: Past) -> None:
        """Put the events of earlier epochs before those of this one."""
        self.log.restore(past)
        if not self.published:
            self.ended = bool(past.events) and self._is_end(past.events[-1])
        self.on_entry(past)

    # Publishing

    def publish(self, name: str, data: object) -> None:
        """Publish an event whose data is JSON."""
        self.publish_soon(as_text(data), name)

    def publish_soon(self, text: str, name: str = "message") -> None:
        """Publish an event with any text, now or once it has a number.

        Args:
            name: of its type; ``end`` is `end`.

        Raises:
            ValueError: it is larger than all that is kept.
        """
        if self.numbering is None:
            self.publish_text(text, name)
        else:
            self.numbering.publish_later(name, str(text))

    async def publish_all(self, events: Sequence[tuple[str, str]]) -> list[str]:
        """Publish events, each a type and a text, and return their ids.

        Raises:
            ValueError: one is larger than all that is kept; those before it are published.
            NumberingUnavailableError: they aren't published, or nobody knows.
        """
        if self.numbering is not None:
            return await self.numbering.publish(events) if events else []
        return [self.publish_text(text, name).identity for name, text in events]

    def publish_text(self, text: str, name: str = "message") -> Event:
        """Publish an event with any text on a channel whose events this process numbers.

        Args:
            name: of its type; ``end`` is `end`.

        Raises:
            ValueError: it is larger than all that is kept.
        """
        # LangChain's texts are of a subclass of str, which msgspec doesn't write.
        event = self._append(name, str(text))
        self._write(event)
        return event

    def _write(self, event: Event) -> None:
        """Write the newest event to the readers, soon."""
        if self._readers is None:
            self._wake()
        elif self._is_end(event):
            self._readers.end()
            self._wake()
        else:
            self._readers.flush_soon()

    def _is_end(self, event: Event) -> bool:
        """Whether readers go behind an event."""
        return event.name == END and not self.options.stays_open

    def _append(self, name: str, text: str) -> Event:
        event = self.log.append(name, text)
        self.published += 1
        self._note(event)
        if self.on_publish is not None:
            self.on_publish(event)
        self.on_entry(event)
        return event

    def _note(self, event: Event) -> None:
        now = self._written = self._clock()
        if self._last_published is not None:
            self._observed().gaps.observe(now - self._last_published)
        self._last_published = now
        self.ended = self._is_end(event)

    async def publish_from(self, events: AsyncIterable[object], name: str = "message") -> int:
        """Publish the items of an asynchronous iterator, such as the tokens of a language model.

        Publishing stops when the channel is closed. A generator is closed in any case, so that it can release
        its model.

        Args:
            events: texts, which are published unchanged, or values, which are encoded as JSON.

        Returns:
            The number of published events.
        """
        count = 0
        async with contextlib.AsyncExitStack() as source:
            if isinstance(events, AsyncGenerator):
                await source.enter_async_context(contextlib.aclosing(events))
            async for one in events:
                if self.closed:
                    break
                self.publish_soon(one if isinstance(one, str) else as_text(one), name)
                count += 1
                if count % self._limits.published_at_once == 0:
                    # A source that has everything at once must not hold the loop.
                    await asyncio.sleep(0)
        return count

    def end(self, text: str = "{}") -> None:
        """Publish an ``end`` event, after which readers are disconnected unless the channel stays open.

        Args:
            text: of the event, as JSON; not in a cluster.
        """
        if self.numbering is not None:
            self.numbering.end_answer(END)
        elif not self.ended and not self.closed:
            self.publish_text(text, END)

    def begin(self) -> None:
        """Begin a text of several events, which new readers get from its first event on."""
        if self.numbering is not None:
            self.numbering.begin_answer()
            return
        self.ended = False
        self._beginning = self.log.end
        self.on_entry(self.told)

    # Following another process

    def append_published(self, event: Event) -> None:
        """Append the next event, which another process has published."""
        self.log.put(event)
        self._written = self._clock()
        self.ended = self._is_end(event)
        self._write(event)

    def go_on_behind(self, epoch: str, offset: int, epochs: Sequence[PastEpoch]) -> None:
        """Continue behind an offset of an epoch, which was numbered elsewhere.

        Args:
            offset: of the last event before.
        """
        self.log.go_on_behind(epoch, offset)
        self.log.know(epochs)
        self.on_entry(Past())

    def skip_to(self, offset: int) -> None:
        """Continue at an offset of this epoch; readers are sent a notice of the events lost between."""
        self.log.skip_to(self.log.begin + offset - 1)
        self.on_entry(Past())

    def append_numbered(self, event: Event, *, begins: bool) -> None:
        """Append the next event, which was numbered elsewhere, to this log and those of other processes.

        Args:
            begins: whether new readers begin with it at the earliest.
        """
        if begins:
            self._beginning = self.log.end
            self.on_entry(self.told)
        self.log.put(event)
        self._note(event)
        self.on_entry(event)
        self._write(event)

    def fold_state(self, state: ChannelState, process: Hashable, reported: int) -> None:
        """Fold the state of another process, beside its events.

        Args:
            reported: how many of these readers are of this process, as it has reported.
        """
        self._beginning, self.ended = state.beginning, state.ended
        self.readers_elsewhere[process] = max(state.readers - reported, 0)

    def fold_end_of_snapshot(self, events: Sequence[Event], end: int) -> None:
        """Continue behind the last event of another process's snapshot.

        Args:
            events: the events of the snapshot from before the first one that was here.
            end: number in the log of the next event.
        """
        if end > self.log.end:
            self.log.skip_to(end)
        self.log.put_before(events)
        if self._readers is None:
            self._wake()
        else:
            self._readers.flush_soon()

    # Reading

    async def catch_up(self, identity: str | None) -> None:
        """Wait a while for an event that another node has given a reader, if it isn't here yet."""
        if self.numbering is not None and identity not in (None, "") and self.log.may_be_elsewhere(identity):
            await self.numbering.catch_up()

    def since(self, identity: str | None) -> Resumption:
        """Find where a reader goes on.

        Args:
            identity: of the last event that it had; None or "" for a new reader.
        """
        return self.log.since(identity, replay=self.options.replay, beginning=self._beginning)

    def after(self, resumption: Resumption, most_bytes: int | None = None) -> list[Event]:
        """Return the events from a position on, up to the one with which they are so many bytes."""
        return self.log.between(max(resumption.sequence, self.log.first), self.log.end, most_bytes)

    def is_over(self, resumption: Resumption) -> bool:
        """Whether the channel has ended and nothing comes for a reader any more.

        Not where only the server ends: its readers are to come again.
        """
        has_all = resumption.complete and resumption.sequence >= self.log.end
        return self.ended and (has_all or self.closed)

    def send_to(self, token: str, name: str, data: object) -> None:
        """Send an event to the reader with this token, if there is one; it is not kept or numbered."""
        if self._readers is not None and (reader := self._readers.named(token)) is not None:
            self._readers.send(reader, reader.form.write(name, as_text(data), ""))

    def enter(self, reader: ChannelReader, stream: Stream, told: Iterable[tuple[str, object]] = ()) -> None:
        """Add a reader whose response head was sent; its ``done`` completes when it has left.

        Args:
            told: names and data of events for this reader alone, sent first.
        """
        self.entered += 1
        if self.closed:
            stream.end(self._limits.close_seconds)
            reader.finish()
            return
        if self.ended:
            reader.limit = self.log.end
        self._readers_for_one().enter(reader, stream, welcome(reader, self.name, told))

    def _readers_for_one(self) -> Readers:
        """Return what has the readers, which is made for the first one."""
        if self._readers is None:
            self._written = self._pinged = self._clock()
            self._readers = Readers(
                self.name, self.log, self._limits, self._count, self._observe_first_event, self._wake
            )
        return self._readers

    def _observe_first_event(self, seconds: float) -> None:
        self._observed().first_events.observe(seconds)

    def note_resumption(self, identity: str | None, resumption: Resumption) -> None:
        """Count a reader that comes again."""
        if identity not in (None, ""):
            counters = self._readers_for_one().counters
            counters.resumed += resumption.complete
            counters.reset += not resumption.complete

    def answer(self, reader: ChannelReader, data: bytes) -> None:
        """Write the answer to a message of a reader, between two events."""
        if self._readers is not None:
            self._readers.answer(reader, data)

    def leave(self, reader: ChannelReader) -> None:
        """Remove a reader."""
        if self._readers is not None:
            self._readers.leave(reader)

    def note_cleanup(self, gone: float | None) -> None:
        """Note that a reader is released, and when its connection was lost; None if this server ended it."""
        if gone is not None:
            self._observed().cleanups.observe(asyncio.get_running_loop().time() - gone)

    @contextlib.contextmanager
    def polling(self) -> Iterator[None]:
        """Count a long poll as a reader until it has its answer; then it is likely to come again."""
        self.entered += 1
        self._polls += 1
        try:
            yield
        finally:
            self._polls -= 1
            self.polled = self._clock()

    @contextlib.contextmanager
    def notifying(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call a function when there are new events, or nothing comes any more, while the context is open."""
        self._listeners = (*self._listeners, listener)
        try:
            yield
        finally:
            self._listeners = tuple(one for one in self._listeners if one is not listener)

    async def news(self, sequence: int) -> None:
        """Wait until there is an event with a number, or nothing comes any more."""
        while self.log.end <= sequence and not self.closed:
            waiter = asyncio.get_running_loop().create_future()
            waiting = self._waiting = set() if self._waiting is None else self._waiting
            waiting.add(waiter)
            # Without other readers nothing is flushed.
            try:
                await waiter
            finally:
                waiting.discard(waiter)

    def _wake(self) -> None:
        for waiter in () if self._waiting is None else self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        for listener in self._listeners:
            listener()

    # Time

    def beat(self) -> None:
        """Write comments after a long silence, and pings; to be called every second or so."""
        now = self._clock()
        if self._readers is not None:
            if now - self._written >= self._limits.heartbeat_seconds:
                self._written = now
                self._readers.beat()
            if now - self._pinged >= self._limits.ping_seconds:
                self._pinged = now
                self._readers.ping()
        self.log.expire()
        readers = self.readers
        is_due = now - self._told_at >= self.options.presence_seconds
        if readers != self._told_elsewhere:
            self._told_elsewhere = readers
            self.on_entry(self.told)
        if not self.options.presence or self.numbering is not None:
            return
        if readers != self._told_readers and is_due and not self.ended:
            self._told_readers, self._told_at = readers, now
            self.publish(PRESENCE, {"readers": readers})

    def close(self) -> None:
        """Disconnect all readers, who come again to the next server."""
        if self.closed:
            return
        self.closed = True
        if self._readers is not None:
            self._readers.close()
        self._wake()

    def resize(self, options: EventChannelOptions) -> None:
        """Keep as many events from now on as other options say, whose further values aren't taken."""
        limits = options.limits
        self.log.resize(limits.history, limits.history_bytes, limits.history_seconds)

    def delete(self) -> None:
        """Publish the end, behind which all readers go, and drop all events once they have had them."""
        self.deleted = True
        self.close_for_good()

    def close_for_good(self) -> None:
        """Publish the end, behind which all readers go; nobody is let in any more."""
        self.end()
        self.closed = True
        self._wake()

    def describe(self) -> dict[str, object]:
        """Describe the channel for lists."""
        return {
            "last_id": self.last_id,
            "events": self.log.end - self.log.first,
            "published": self.published,
            "readers": self.readers_of_cluster,
            "state": self.state,
            "gap_p50": self.gaps.quantile(0.5),
            "gap_p95": self.gaps.quantile(0.95),
            "gap_p99": self.gaps.quantile(0.99),
            "lag": self.lag,
        }

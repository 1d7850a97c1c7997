"""An event channel's log, sent to other processes and followed there.

The process that publishes numbers the events, and keeps them on disk. Following processes have the same
events with the same ids for their own readers, and report how many readers they have.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, MutableMapping
from typing import TypeAlias

import msgspec
from msgspec import Struct

from media.errors import MalformedError
from origin.events.channel import NO_EPOCH, ChannelEntry, ChannelState, EventChannel
from origin.events.event_log import Event, PastEpoch
from packager.replication.log_entries import Place, SnapshotEnd, place_of, read_message

EVENTS = "events"
"""The kind of these logs: what their names begin with."""

PUBLISHING_PROCESS = "publishing"
"""Stands for the process that is followed, among those that have readers."""


class EventSnapshotBegin(Struct, frozen=True, tag="begin"):
    """The first entry of a snapshot; the events that are kept follow.

    Attributes:
        epochs: earlier ones, in order: name and number of the last event.
        first: number in the log of the first event that follows, or would follow if any were kept.
        begin: number in the log of the first event of this epoch.
    """

    epoch: str
    epochs: tuple[tuple[str, int], ...]
    first: int
    begin: int


class EventAudience(Struct, frozen=True):
    """A follower's report of the number of its readers."""

    readers: int


FollowedEntry: TypeAlias = EventSnapshotBegin | Event | ChannelState | SnapshotEnd

_encode = msgspec.msgpack.Encoder().encode
_ENTRY = msgspec.msgpack.Decoder(FollowedEntry)
_AUDIENCE = msgspec.msgpack.Decoder(EventAudience)


class ServedEventLog:
    """The log of an event channel, for those who follow it.

    Args:
        channel: the channel, whose ``on_entry`` is to pass entries to this log.
    """

    __slots__ = ("_channel",)

    def __init__(self, channel: EventChannel) -> None:
        self._channel = channel

    @property
    def name(self) -> str:
        """``events/NAME``."""
        return f"{EVENTS}/{self._channel.name}"

    def snapshot(self) -> Iterator[ChannelEntry | FollowedEntry]:
        """Return the entries from which another process makes the same channel."""
        log = self._channel.log
        log.expire()
        epochs = tuple((one.epoch, one.last) for one in log.epochs)
        begin = EventSnapshotBegin(log.epoch, epochs, log.first, log.begin)
        return iter((begin, *log.between(log.first, log.end), self._channel.told, SnapshotEnd()))

    def encode(self, entry: ChannelEntry | FollowedEntry) -> bytes:
        """Write an entry."""
        return _encode(entry)

    def begins_anew(self, entry: ChannelEntry | FollowedEntry) -> bool:
        """Return whether a snapshot takes an entry's place: that of events which came before others."""
        return not isinstance(entry, Event | ChannelState)

    def take_report(self, follower: Hashable, message: bytes) -> None:
        """Count readers elsewhere.

        Raises:
            MalformedError: the report can't be read.
        """
        report = read_message(_AUDIENCE, message, "report of an event channel's readers")
        self._channel.readers_elsewhere[follower] = report.readers

    def forget(self, follower: Hashable) -> None:
        """Forget the readers of a follower that is gone."""
        self._channel.forget_readers(follower)


class FollowedEventLog:
    """The log of another process's event channel, and the channel that it is folded into.

    Args:
        make: makes a channel, given its epoch.
        served: gets the channel, by name, as long as its log is followed.

    Attributes:
        channel: for readers here; None before the first snapshot.
    """

    def __init__(
        self, name: str, make: Callable[[str], EventChannel], served: MutableMapping[str, EventChannel]
    ) -> None:
        self.channel: EventChannel | None = None
        self._name = name
        self._make = make
        self._served = served
        # Number of the next event, and those of a snapshot that came before all that are here.
        self._next = 0
        self._earlier: list[Event] = []
        self._reported = 0

    def read(self, message: bytes) -> tuple[Place, FollowedEntry]:
        """Read an entry; return its place relative to snapshots, and the entry.

        Raises:
            MalformedError: the message isn't an entry.
        """
        entry = read_message(_ENTRY, message, "entry of an event channel's log")
        return place_of(entry, EventSnapshotBegin), entry

    def fold(self, entry: FollowedEntry) -> None:
        """Fold an entry."""
        if isinstance(entry, EventSnapshotBegin):
            self._begin(entry)
            return
        if (channel := self.channel) is None:
            raise MalformedError("an event channel's log begins without a snapshot")
        if isinstance(entry, Event):
            self._fold(channel, entry)
        elif isinstance(entry, ChannelState):
            channel.fold_state(entry, PUBLISHING_PROCESS, self._reported)
        else:
            channel.fold_end_of_snapshot(self._earlier, self._next)
            self._earlier = []

    def _begin(self, entry: EventSnapshotBegin) -> None:
        """Begin with a snapshot; present readers continue behind their last event."""
        if self.channel is not None and self.channel.epoch == NO_EPOCH:
            # Nothing was published before: present readers continue with the first event.
            self.channel.log.epoch = entry.epoch
        elif self.channel is None or self.channel.epoch != entry.epoch:
            self.close()
            self.channel = self._make(entry.epoch)
        self.channel.log.begin = entry.begin
        self.channel.log.know([PastEpoch(*epoch) for epoch in entry.epochs])
        self._next, self._earlier = entry.first, []
        # The snapshot's sender hasn't had a report over this connection.
        self._reported = 0

    def _fold(self, channel: EventChannel, event: Event) -> None:
        log, number = channel.log, self._next
        self._next += 1
        if number < log.first:
            self._earlier.append(event)
        elif number >= log.end:
            if number >= log.begin and event.epoch != log.epoch:
                log.begin_epoch(event.epoch, number + 1 - event.offset)
            if number > log.end:
                # The events between are lost here, and readers get a notice of the gap.
                log.skip_to(number)
                self._earlier = []
            channel.append_published(event)

    def offer(self) -> None:
        """Serve the channel."""
        if self.channel is not None:
            self._served[self._name] = self.channel

    def withdraw(self) -> None:
        """Serve the channel to no new readers; present ones stay."""
        self._served.pop(self._name, None)

    def close(self) -> None:
        """Disconnect all readers, who come again."""
        if self.channel is not None:
            self.channel.close()

    def reports(self) -> Iterator[bytes]:
        """Yield the number of readers of this process, if it has changed."""
        readers = 0 if self.channel is None else self.channel.readers_here
        if readers != self._reported:
            self._reported = readers
            yield _encode(EventAudience(readers))

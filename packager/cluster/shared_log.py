"""The log of a live channel as all nodes have it: from Redis, or in its owner from the packager there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass

from media.errors import MalformedError
from packager.cluster.failover import begin_empty
from packager.cluster.log_stream import EntryId, Snapshot
from packager.publish.channel_commands import Commands
from packager.publish.date_ranges import DateRangeError
from packager.publish.live_stream import FoldedLog, LiveStream
from packager.replication.live_log import ElsewhereCommands, FollowedLiveLog
from packager.replication.log_follower import FollowedPosition, HoleError
from packager.step_budget import StepBudget
from packager.window.limits import PublishLimits
from packager.window.log import CadenceEntry, Entry
from packager.window.log_encoding import encode
from packager.window.snapshot import HeldSegmentsEntry, SegmentMediaEntry, WindowStateEntry

_LENGTH_BYTES = 4
_AVERAGED = 16
"""Entries over which their length is averaged, about: a part of each kind of several segments."""


class SharedCommands(ElsewhereCommands):
    """The commands to a shared channel, which is waited for here: no other process of the node has more."""

    def is_postponed(self) -> bool:
        """Return False, as viewers of the channel wait."""
        return False


class CommandsOnDemand(SharedCommands):
    """The commands to a shared channel that is made only while it has viewers.

    Args:
        on_viewer: called at each request for a playlist.
        is_postponed: returns whether the channel doesn't begin now although it has viewers.
    """

    def __init__(self, on_viewer: Callable[[], None], is_postponed: Callable[[], bool]) -> None:
        self._on_viewer = on_viewer
        self._is_postponed = is_postponed

    def note_viewer(self) -> None:
        """Note a request for a playlist."""
        self._on_viewer()

    def is_postponed(self) -> bool:
        """Return whether the channel doesn't begin now although it has viewers."""
        return self._is_postponed()


class _SharedLiveLog(FollowedLiveLog):
    """Lets the channel be served once it can be, and hands entries on behind their folding."""

    relay: Callable[[LiveStream, Entry], None]

    # How many bytes the snapshot lacks that is being read, and how many it may lack.
    lacking_bytes = 0
    most_lacking_bytes = 0

    def offer(self) -> None:
        """Serve the channel once it has segments; requests wait at new windows as at an owner's."""
        if self.stream.ready:
            super().offer()

    def withdraw(self) -> None:
        """Stop serving the shared log; the channel of this node's packager stays."""
        if self._streams.get(self._name) is self.stream:
            super().withdraw()

    def fold(self, entry: Entry) -> None:
        """Fold an entry, and relay it.

        Raises:
            MalformedError: the bytes that a snapshot lacks are too many.
        """
        self.lacking_bytes += _lacking_bytes(entry)
        if self.lacking_bytes > self.most_lacking_bytes:
            raise MalformedError(f"a snapshot that lacks more than {self.most_lacking_bytes} bytes")
        super().fold(entry)
        self.relay(self.stream, entry)


@dataclass(frozen=True, slots=True)
class LogServing:
    """How a node serves shared logs.

    Attributes:
        streams: receives the channels that can be served, by name.
        publish_limits: how many requests may wait, and what is kept of playlists.
        relay: called with each entry once it is folded, for other processes of this node.
    """

    streams: MutableMapping[str, LiveStream]
    publish_limits: PublishLimits
    relay: Callable[[LiveStream, Entry], None]


class SharedLog:
    """A live channel's shared log, and the stream that it is folded into.

    Args:
        commands: the commands that requests may give; None for none on this node.
        awaited: empty windows that are served, and waited at, before the channel begins; None for none.
        may_be_owned: whether this node may come to own the log, for which it needs all bytes of segments.

    Attributes:
        stream: the stream that requests are answered from.
        read: ID of the newest entry that was read from Redis, or that Redis has confirmed.
        is_owned: whether this node appends to it.
        may_differ: whether this node has folded entries that Redis hasn't confirmed.
        mean_entry_bytes: recent average length of the entries that were read from Redis.
    """

    def __init__(
        self,
        name: str,
        serving: LogServing,
        commands: Commands | None = None,
        awaited: CadenceEntry | None = None,
        *,
        may_be_owned: bool = True,
    ) -> None:
        self._may_be_owned = may_be_owned
        self._publish_limits = serving.publish_limits
        self._folding = _SharedLiveLog(name, serving.streams, self._publish_limits)
        self._folding.relay = serving.relay
        self.stream = self._folding.stream
        self.stream.commands = commands or SharedCommands()
        self._awaited = awaited
        if awaited is not None:
            self.stream.adopt(FoldedLog(awaited, self._publish_limits))
            serving.streams[name] = self.stream
        self.read = EntryId(0, 0)
        self.is_owned = False
        self.may_differ = False
        self.mean_entry_bytes = 0.0
        # How often this node began or ceased to own the log: a snapshot that is read meanwhile is of no use.
        self._changes = 0
        self._position = FollowedPosition(self._folding)

    @property
    def is_whole(self) -> bool:
        """Whether no entry of the log is missing here."""
        return not self._position.is_restoring

    @property
    def takes_listing(self) -> bool:
        """Whether a snapshot that lacks the bytes of segments is better than a whole one.

        A node that already serves the channel would lose the bytes that it has.
        """
        return not self._may_be_owned and (self.stream.begun_with is None or not self.stream.ready)

    @property
    def awaits_media(self) -> bool:
        """Whether bytes of segments that a snapshot lacked haven't come yet."""
        return self.stream.awaits_media

    @property
    def position(self) -> int:
        """The position of the newest entry."""
        return self._position.number

    def add_follower(self, follower: Callable[[Entry], None]) -> None:
        """Hand each entry on to one more function, once it is folded."""
        relay = self._folding.relay

        def relay_to_both(stream: LiveStream, entry: Entry) -> None:
            relay(stream, entry)
            follower(entry)

        self._folding.relay = relay_to_both

    def fold(self, number: EntryId, message: bytes) -> None:
        """Fold an entry that was read from Redis.

        Raises:
            MalformedError: it can't be read.
            HoleError: an entry is missing before it.
        """
        self.read = number
        self._note_length(message)
        if self.may_differ:
            raise HoleError("another owner has gone on from an earlier entry")
        if number.position <= self.position:
            return  # an owner sends again what Redis may have lost
        self._position.fold(number.position, message)

    async def restore(self, snapshot: Snapshot, most_bytes: int, most_lacking_bytes: int = 0) -> int:
        """Fold a snapshot, and let other tasks run in between.

        Restoring stops if this node begins or ceases to own the log meanwhile.

        Args:
            most_lacking_bytes: most bytes of segments that the snapshot may lack.

        Returns:
            How many bytes the snapshot lacks.

        Raises:
            MalformedError: it can't be read.
        """
        budget, changes = StepBudget(), self._changes
        self._folding.lacking_bytes, self._folding.most_lacking_bytes = 0, most_lacking_bytes
        for message in _messages(snapshot.data, most_bytes):
            self._position.fold(snapshot.last.position, message)
            self._note_length(message)
            await budget.spend()
            if self._changes != changes:
                return 0
        if not self.is_whole:
            raise MalformedError("a snapshot without an end")
        self.read, self.may_differ = snapshot.last, False
        return self._folding.lacking_bytes

    def take_media(self, message: bytes) -> None:
        """Fold the bytes of a segment that a snapshot lacked.

        Raises:
            MalformedError: it can't be read, or there are others than it lacked.
        """
        _, entry = self._folding.read(message)
        if not isinstance(entry, SegmentMediaEntry) or entry.rendition not in self.stream.renditions:
            raise MalformedError(f"{type(entry).__name__} among the bytes of segments")
        self._folding.fold(entry)

    def _note_length(self, message: bytes) -> None:
        self.mean_entry_bytes += (len(message) - self.mean_entry_bytes) / _AVERAGED

    async def snapshot(self) -> tuple[EntryId, list[bytes]]:
        """Write a snapshot; others have their turn in between."""
        last = EntryId(self.read.epoch, self.position)
        return last, await _encoded(self.stream.snapshot())

    async def listing(self) -> tuple[EntryId, list[bytes], list[SegmentMediaEntry]]:
        """Return the newest ID, a snapshot without segments' bytes, and the entries with those bytes."""
        last, media = EntryId(self.read.epoch, self.position), self.stream.media()
        return last, await _encoded(self.stream.snapshot(has_media=False)), media

    def own(self, epoch: int, position: int) -> None:
        """Append from now on, behind a position."""
        self._changes += 1
        self.is_owned, self.read = True, EntryId(epoch, position)
        self._position.number, self._position.is_restoring = position, False
        self.stream.forget_snapshot()

    def disown(self, sent: int) -> None:
        """Stop appending, and follow the log's next owner.

        Args:
            sent: the position of the last entry that Redis has confirmed; later ones are known here alone.
        """
        self.is_owned, self.may_differ = False, self.position != sent
        self.read = self.read._replace(position=sent)

    def append(self, entry: Entry) -> tuple[int, bytes]:
        """Append an entry as the owner; return its position and its bytes.

        Raises:
            DateRangeError: a date range is refused, and nothing is appended.
        """
        message, last = encode(entry), self.position
        try:
            self._position.fold(last + 1, message)
        except DateRangeError:
            self._position.number = last
            raise
        return self.position, message

    def lose(self) -> None:
        """Note that what was folded isn't what others have: a snapshot is needed."""
        self._position.is_restoring = True

    def wait_again(self) -> None:
        """Serve empty windows again, at which requests wait, since no node makes the channel now."""
        self._give_up()
        if self._awaited is not None and self.stream.ready:
            adopt = self.stream.adopt
            begin_empty(
                self.stream, self._awaited, lambda entry: adopt(FoldedLog(entry, self._publish_limits))
            )

    def close(self) -> None:
        """Release all who wait."""
        self._folding.close()

    def withdraw(self) -> None:
        """Stop serving the channel, which is gone."""
        self._give_up()
        self._folding.withdraw()
        self._folding.close()

    def _give_up(self) -> None:
        """Ignore the snapshot that is being read."""
        self._changes += 1
        self.lose()


async def _encoded(entries: Iterator[Entry]) -> list[bytes]:
    budget, messages = StepBudget(), []
    for entry in entries:
        messages.append(encode(entry))
        await budget.spend()
    return messages


def _lacking_bytes(entry: Entry) -> int:
    """Count the bytes of segments that an entry of a snapshot lacks."""
    if isinstance(entry, WindowStateEntry):
        return 0 if entry.open is None else sum(entry.open.sizes)
    return sum(sum(one.sizes) for one in entry.segments) if isinstance(entry, HeldSegmentsEntry) else 0


def _messages(data: bytes, most: int) -> Iterator[bytes]:
    """Part entries that are one behind the other.

    Raises:
        MalformedError: they don't come out even, or one is longer than may be.
    """
    begin = 0
    while begin < len(data):
        length = int.from_bytes(data[begin : begin + _LENGTH_BYTES], "big")
        end = begin + _LENGTH_BYTES + length
        if length > most or end > len(data):
            raise MalformedError(f"an entry of {length} bytes in a snapshot: too long, or cut off")
        yield data[begin:end]
        begin = end

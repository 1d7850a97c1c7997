"""The newest events of a channel, and the replay by Last-Event-ID to who reconnects. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

from origin.events.formats import Format
from origin.events.sse_writer import with_line_feeds
from origin.fan_out.packed_blocks import PackedBlocks
from origin.fan_out.ring import Cursor, Ring

IDENTITY_CHARS = 64
"""Longest Last-Event-ID that is parsed."""

EVENT_OVERHEAD = 64
"""Bytes that an event counts for beside its text: id, type and framing."""

EPOCH = re.compile("[0-9A-Za-z]{1,32}")
"""Names of a channel's epochs: each start of the server is a new one."""

_IDENTITY = re.compile(r"([0-9A-Za-z]{1,32})-(0|[1-9][0-9]{0,17})")


class Event(Struct, frozen=True, dict=True, tag="event"):
    """A published event of a channel, with its id; also the entry of the channel's log with it.

    Attributes:
        epoch: the epoch of the channel in which it was published.
        offset: its number in that epoch, from 1 on.
        data: its text, whose line ends are LF.
        time: when it was published, in seconds since the epoch of Unix.
        start: offset in bytes in the ring, which is each process's own.
        size: the bytes that it counts for in the ring.
    """

    epoch: str
    offset: int
    name: str
    data: str
    time: float = 0.0
    start: int = 0
    size: int = EVENT_OVERHEAD

    @functools.cached_property
    def _written(self) -> dict[str, bytes]:
        return {}

    @property
    def identity(self) -> str:
        """``epoch-offset``, its id."""
        return f"{self.epoch}-{self.offset}"

    def written(self, form: Format) -> bytes:
        """Return its bytes in a format; while it is new they are written once for all readers."""
        found = self._written.get(form.name)
        if found is None:
            found = self._written[form.name] = form.write(self.name, self.data, self.identity)
        return found


_ROWS = msgspec.msgpack.Decoder(list[tuple[str, int, str, str, float, int, int]])


class PackedEvents(PackedBlocks[Event]):
    """The events of a log, of which the older ones are MessagePack."""

    __slots__ = ()

    def pack(self, blocks: Sequence[Event]) -> bytes:
        """Return events as rows."""
        return msgspec.msgpack.encode([astuple(event) for event in blocks])

    def unpack(self, data: bytes) -> Sequence[Event]:
        """Return the events of rows."""
        return [Event(*row) for row in _ROWS.decode(data)]


def is_identity(text: str) -> bool:
    """Return whether a text has the form of an event's id."""
    return _IDENTITY.fullmatch(text[: IDENTITY_CHARS + 1]) is not None


def as_published(data: str) -> str:
    """Return an event's text as readers get it."""
    # Events are the same in all formats; server-sent events know no other line end than LF.
    text = with_line_feeds(data)
    # UTF-8 has no lone surrogates; "replace" makes them question marks.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def size_of(name: str, data: bytes) -> int:
    """Return what an event counts for, by its type and its data in UTF-8."""
    return len(data) + len(name) + EVENT_OVERHEAD


@dataclass(frozen=True, slots=True)
class Resumption:
    """A reader's position in a channel's events, and the events that it has missed.

    Attributes:
        sequence: number in the log of its next event.
        reason: why it has missed earlier events, which are no longer kept: ``expired`` (too long ago),
            ``restart`` (an id of an unknown epoch), ``invalid`` (no id of this channel); empty if it hasn't.
        lost: how many it has missed; None if unknown.
        identity: the id of the position before its next event.
    """

    sequence: int
    reason: str = ""
    lost: int | None = 0
    identity: str = ""

    @property
    def complete(self) -> bool:
        """Whether the reader misses no event."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class PastEpoch:
    """The facts about an earlier epoch of a channel, from a server that ran before.

    Attributes:
        last: number of its last event; 0 if there was none.
    """

    epoch: str
    last: int


@dataclass(frozen=True, slots=True)
class Past:
    """The stored events of a channel's earlier epochs.

    Attributes:
        epochs: in order, with nothing missing between them.
        events: their newest events, without a gap, in order.
    """

    epochs: tuple[PastEpoch, ...] = ()
    events: tuple[Event, ...] = ()


def _is_later(epoch: str, other: str) -> bool:
    """Return whether an epoch has begun behind another, where they are named by the time, in hexadecimal."""
    try:
        return int(epoch, 16) > int(other, 16)
    except ValueError:
        return False


class EventLog:
    """Numbers events and keeps the newest.

    Args:
        epoch: identifies this log; numbers restart with the next. Letters and digits.
        capacity: events that are kept.
        most_bytes: of all that are kept.
        seconds: how long they are kept; 0 for no such limit.
        clock: seconds since the epoch of Unix.
        most_epochs: earlier ones that are remembered behind `begin_epoch`.

    Attributes:
        epoch: the present epoch, which may change.
        begin: number here of its first event.
    """

    __slots__ = (
        "_clock",
        "_most_epochs",
        "_past",
        "_ring",
        "_seconds",
        "begin",
        "epoch",
    )

    def __init__(
        self,
        epoch: str,
        capacity: int,
        most_bytes: int = 4 << 20,
        seconds: float = 0.0,
        clock: Callable[[], float] = lambda: 0.0,
        most_epochs: int = 64,
    ) -> None:
        self.epoch = epoch
        self.begin = 0
        self._most_epochs = most_epochs
        self._seconds = seconds
        self._clock = clock
        self._ring: Ring[Event, Cursor] = Ring(most_bytes, capacity, PackedEvents())
        # The earlier epochs, the newest first, each with the number here of what is before its first event.
        self._past: tuple[tuple[PastEpoch, int], ...] = ()

    @property
    def end(self) -> int:
        """Number that the next event will have in the log."""
        return self._ring.next_sequence

    @property
    def offset(self) -> int:
        """Number of events of the epoch: the offset of the newest one."""
        return self.end - self.begin

    @property
    def first(self) -> int:
        """Number of the oldest event that is kept."""
        return self._ring.first_sequence

    @property
    def size(self) -> int:
        """Bytes of the events that are kept."""
        return self._ring.size

    @property
    def newest(self) -> Event | None:
        """The newest event that is kept."""
        return self._ring.newest[1]

    def append(self, name: str, data: str) -> Event:
        """Number an event and keep it.

        Raises:
            ValueError: it is larger than all that is kept.
        """
        text = as_published(data)
        size = size_of(name, text.encode())
        event = Event(self.epoch, self.offset + 1, name, text, self._clock(), self._ring.end, size)
        self._ring.put(event)
        return event

    def restore(self, past: Past) -> None:
        """Put the events of earlier epochs before those of this one; they keep their ids.

        They are numbered backwards from 0, independently of events that were published meanwhile.
        """
        self.know(past.epochs)
        if self.first <= 0:
            self.put_before(past.events)

    def know(self, epochs: Sequence[PastEpoch]) -> None:
        """Find readers of earlier epochs from now on, which are given in order."""
        position, past = self.begin, list[tuple[PastEpoch, int]]()
        for epoch in reversed(epochs):
            position -= epoch.last
            past.append((epoch, position))
        self._past = tuple(past)

    def go_on_behind(self, epoch: str, offset: int) -> None:
        """Continue behind an offset of an epoch, whose earlier events aren't known here."""
        self.epoch, self.begin = epoch, self.end - offset

    def begin_epoch(self, epoch: str, begin: int) -> None:
        """Begin another epoch; the events that are kept keep their ids.

        Args:
            begin: number here of its first event.
        """
        ended = PastEpoch(self.epoch, self.offset), self.begin
        self._past = (ended, *self._past)[: self._most_epochs]
        self.epoch, self.begin = epoch, begin

    @property
    def epochs(self) -> tuple[PastEpoch, ...]:
        """The earlier epochs, in order."""
        return tuple(epoch for epoch, _ in reversed(self._past))

    def put_before(self, events: Sequence[Event]) -> None:
        """Insert earlier events before the oldest one, as far as there is room."""
        for event in reversed(events):
            if not self._ring.put_before(replace(event, start=self._ring.start - event.size)):
                return

    def put(self, event: Event) -> None:
        """Append the next event, which another process has numbered.

        Raises:
            ValueError: it is larger than all that is kept.
        """
        self._ring.put(replace(event, start=self._ring.end))

    def skip_to(self, sequence: int) -> None:
        """Drop all events, and give the next one a number in the log."""
        self._ring.skip_to(sequence)

    def is_ahead(self, identity: str) -> bool:
        """Return whether an id is of an event of this epoch that isn't here yet."""
        found = _IDENTITY.fullmatch(identity[: IDENTITY_CHARS + 1])
        return found is not None and found[1] == self.epoch and int(found[2]) > self.offset

    def may_be_elsewhere(self, identity: str) -> bool:
        """Return whether an event that isn't here may be another node's: of this epoch, or of a later one."""
        found = _IDENTITY.fullmatch(identity[: IDENTITY_CHARS + 1])
        return found is not None and (self.is_ahead(identity) or _is_later(found[1], self.epoch))

    def resize(self, capacity: int, most_bytes: int, seconds: float) -> None:
        """Keep other numbers of events, of bytes and of seconds from now on; see the constructor."""
        self._seconds = seconds
        self._ring.resize(most_bytes, capacity)
        self.expire()

    def expire(self) -> None:
        """Drop what is older than the limit."""
        while self._seconds and (oldest := self._ring.oldest) is not None:
            if oldest.time > self._clock() - self._seconds:
                return
            self._ring.drop_oldest()

    def between(self, first: int, end: int, most_bytes: int | None = None) -> list[Event]:
        """Return the events from one number up to another, which isn't included.

        Args:
            first: number of the first one.
            end: number behind the last one.
            most_bytes: bytes from which on further events are left out; None for all.

        Raises:
            LaggedError: some of them are no longer kept.
        """
        return self._ring.between(first, end, most_bytes)

    def lag(self, sequence: int) -> int:
        """Count the bytes of the events from a number on."""
        return self._ring.lag(Cursor(sequence))

    def since(self, identity: str | None, *, replay: bool = True, beginning: int | None = None) -> Resumption:
        """Find where a reader goes on.

        Args:
            identity: Last-Event-ID of the reader; None or "" for a new reader.
            replay: whether a new reader begins with the oldest event that is kept, or with the next.
            beginning: number of the event with which it begins at the earliest; None for the oldest.
        """
        self.expire()
        first = self.first
        if identity is None or identity == "":
            earliest = first if beginning is None else beginning
            if replay and earliest < first:
                return self._reset("expired", first - earliest)
            start = earliest if replay else self.end
            return Resumption(start, identity=self.identity_before(start))
        found = _IDENTITY.fullmatch(identity[: IDENTITY_CHARS + 1])
        if found is None:
            return self._reset("invalid", None)
        epoch, offset = found[1], int(found[2])
        span = self._span_of(epoch)
        if span is None:
            return self._reset("restart", None)
        start, last = span
        # The position before the first event has an id, too.
        if offset > last:
            if epoch == self.epoch:
                return self._reset("invalid", None)
            # The reader has had events that weren't stored, and may have missed others.
            after = max(start + last, first)
            return Resumption(after, "restart", None, self.identity_before(after))
        sequence = start + offset
        if sequence < first:
            return self._reset("expired", first - sequence)
        return Resumption(sequence, identity=identity)

    def _reset(self, reason: str, lost: int | None) -> Resumption:
        return Resumption(self.first, reason, lost, self.identity_before(self.first))

    def _span_of(self, epoch: str) -> tuple[int, int] | None:
        """Return the position before an epoch's first event and its last one's offset; None: unknown."""
        if epoch == self.epoch:
            return self.begin, self.offset
        return next(((start, past.last) for past, start in self._past if past.epoch == epoch), None)

    def identity_before(self, sequence: int) -> str:
        """Return the id of the event before a number, with which a reader would go on there."""
        if sequence > self.begin or not self._past:
            return f"{self.epoch}-{sequence - self.begin}"
        past, start = next((one for one in self._past if sequence > one[1]), self._past[-1])
        return f"{past.epoch}-{sequence - start}"

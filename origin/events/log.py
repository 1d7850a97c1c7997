"""The newest events of a channel, and which of them a reader has missed when it reconnects. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

IDENTITY_CHARS = 64
"""Longest Last-Event-ID that is parsed."""


@dataclass(frozen=True, slots=True)
class Event:
    """A published event.

    Attributes:
        identity: ``epoch-offset``, its id.
        name: of its type.
        data: its text.
    """

    identity: str
    name: str
    data: str


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a reader receives first.

    Attributes:
        events: those after its last one, oldest first.
        complete: False if it has missed others, which are no longer kept.
        lost: how many; None if unknown.
    """

    events: tuple[Event, ...]
    complete: bool = True
    lost: int | None = 0


class EventLog:
    """Numbers events and keeps the newest.

    Args:
        epoch: identifies this log; numbers restart with the next. Letters and digits.
        capacity: events that are kept.
    """

    def __init__(self, epoch: str, capacity: int) -> None:
        self._epoch = epoch
        self._events: deque[Event] = deque(maxlen=capacity)
        self._next = 0

    def append(self, name: str, data: str) -> Event:
        """Number an event and keep it."""
        event = Event(f"{self._epoch}-{self._next}", name, data)
        self._next += 1
        self._events.append(event)
        return event

    def since(self, identity: str | None) -> Resumption:
        """Find the events after another.

        Args:
            identity: Last-Event-ID of the reader; None or "" for a new reader.

        Returns:
            What is kept of them; for a new reader all events.
        """
        kept = tuple(self._events)
        if not identity:
            return Resumption(kept)
        offset = self._offset(identity)
        if offset is None:
            return Resumption(kept, complete=False, lost=None)
        first = self._next - len(kept)
        if offset + 1 < first:
            return Resumption(kept, complete=False, lost=first - offset - 1)
        return Resumption(kept[offset + 1 - first :])

    def _offset(self, identity: str) -> int | None:
        """Parse an id of this log; None for any other."""
        epoch, _, number = identity[:IDENTITY_CHARS].rpartition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdecimal()):
            return None
        offset = int(number)
        return offset if offset < self._next and str(offset) == number else None

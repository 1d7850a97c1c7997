"""Timed metadata in the media: ID3 tags that wait for the part in which they are due.

Every variant carries each event once. The audio of a channel with video carries none, since players read
both and would get every event twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from msgspec import Struct

from media.mp4.fragments.emsg import EventMessage
from packager.live.limits import DEFAULT_LIMITS, LiveLimits
from packager.publish.channel_commands import TooManyEventsError

_ID_LIMIT = 1 << 32

MAX_TAG_BYTES = 256 << 10
"""Most bytes of the tags of events that wait: all may become due in one part."""


@dataclass(frozen=True, slots=True)
class TimedEvent:
    """An event at a time of the channel, with its ID3 tag.

    Attributes:
        id: a unique number below 2^32.
        start: seconds since the epoch.
        duration: seconds, or None where it has none.
        data: an ID3 tag.
    """

    id: int
    start: Fraction
    duration: Fraction | None
    data: bytes


class PartPosition(Struct, frozen=True):
    """The presentation times of a part.

    Attributes:
        begin: presentation time of its first sample in ticks.
        timescale: ticks per second.
        offset: seconds to add to a media time for its date.
    """

    begin: int
    end: int
    timescale: int
    offset: Fraction


def placed(event: TimedEvent, part: PartPosition, late_seconds: int) -> EventMessage | None:
    """Make the message with which a part carries an event.

    Args:
        event: the event, which begins before the part's end.
        late_seconds: how late it may be.

    Returns:
        The message, with a time within the part (Carriage of ID3, "Semantics"); None where it comes too late.
    """
    start = round((event.start - part.offset) * part.timescale)
    duration = None if event.duration is None else round(event.duration * part.timescale)
    late = max(part.begin - start, 0)
    if late > late_seconds * part.timescale:
        if duration is None or duration <= late:
            return None
        duration -= late
    time = min(start + late, part.end - 1)
    return EventMessage(part.timescale, time, duration, event.id, event.data)


class TimedMetadata:
    """The events of one channel that its renditions haven't carried yet.

    Args:
        carriers: names of the renditions that carry them.
        first_id: of the first event; none that an earlier process may have used lately.
        limits: how many may wait, and how late one may be.
    """

    def __init__(self, carriers: Iterable[str], first_id: int, limits: LiveLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._pending: dict[str, list[TimedEvent]] = {name: [] for name in carriers}
        self._ids = itertools.count(first_id)

    def carries(self, name: str) -> bool:
        """Return whether a rendition carries timed events."""
        return name in self._pending

    def check(self, size: int = 0) -> None:
        """Check that one more event may be added.

        Args:
            size: bytes of its tag.

        Raises:
            TooManyEventsError: as many as may are waiting.
        """
        limits = self._limits
        if any(len(pending) >= limits.waiting_metadata for pending in self._pending.values()):
            raise TooManyEventsError(f"{limits.waiting_metadata} events are waiting for their time already")
        waiting = max(
            (sum(len(event.data) for event in pending) for pending in self._pending.values()), default=0
        )
        if waiting + size > MAX_TAG_BYTES:
            raise TooManyEventsError(f"{waiting} bytes of events are waiting for their time already")

    def add(self, start: Fraction, duration: Fraction | None, data: bytes) -> None:
        """Add an event, which waits for its time.

        Args:
            start: seconds since the epoch.
            duration: seconds, or None where it has none.
            data: an ID3 tag.

        Raises:
            TooManyEventsError: as many as may are waiting.
        """
        self.check(len(data))
        event = TimedEvent(next(self._ids) % _ID_LIMIT, start, duration, data)
        for pending in self._pending.values():
            pending.append(event)

    def boxes(self, carrier: str, part: PartPosition) -> bytes:
        """Return the boxes before the ``moof`` of a rendition's next part.

        Returns:
            The ``emsg`` boxes of the events that begin in it, or should have begun before; mostly none.
        """
        pending = self._pending.get(carrier)
        if not pending:
            return b""
        end = Fraction(part.end, part.timescale) + part.offset
        due = sorted((event for event in pending if event.start < end), key=lambda event: event.start)
        if not due:
            return b""
        self._pending[carrier] = [event for event in pending if event.start >= end]
        messages = (placed(event, part, self._limits.metadata_late_seconds) for event in due)
        return b"".join(message.render() for message in messages if message is not None)

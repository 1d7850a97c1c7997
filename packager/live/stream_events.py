"""Timed events that a publisher's stream brings: breaks of SCTE 35, cue points and ID3 tags.

Breaks and cue points become date ranges (RFC 8216bis §4.4.5.1.1), tags become events in the media.
"""

from __future__ import annotations

import contextlib
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from fractions import Fraction

import structlog

from media.errors import MediaError
from media.flv.amf0 import Value, read_values
from media.hls.attribute_values import quotable
from media.hls.date_range import SPLICE_COMMAND, SPLICE_IN, SPLICE_OUT, DateRange
from media.mp3.id3 import is_whole_id3v2
from media.packets import EventKind, StreamEvent
from media.stream_reader import CLOCK_RATE
from media.ts.splice_info import Splice, SpliceKind, read_splice
from packager.bounded_dict import BoundedDict
from packager.live.timed_metadata import TimedMetadata
from packager.publish.channel_commands import TooManyEventsError
from packager.publish.date_ranges import ADDED, DateRangeError
from packager.reader_guard import ReaderGuard

log = structlog.get_logger()

CUE_CLASS = "org.headwater.cue"
"""The class of date ranges of cue points."""

REPEATED_SECONDS = 30
"""Within this time an event with the same bytes is the same one: sections are sent several times."""

EVENTS_REMEMBERED = 256
"""Most events by which repeated ones are known."""

MOST_OPEN = 8
"""Most breaks whose end is awaited; with one more the oldest one ends."""

MOST_ATTRIBUTES = 32
"""Most attributes of a cue point."""

LONGEST_CUE_SECONDS = 86_400

ATTRIBUTE_CHARACTERS, NAME_CHARACTERS = 1024, 64
"""Most characters of an attribute, and of its name."""

_SECTION = re.compile(r"/[A-Za-z0-9+/]{20,5500}={0,2}")
"""A section of SCTE 35 in base64, which begins with 0xFC."""

_KINDS = {
    SpliceKind.OUT: SPLICE_OUT,
    SpliceKind.IN: SPLICE_IN,
    SpliceKind.COMMAND: SPLICE_COMMAND,
}


class StreamEvents:
    """The events of one channel's publishers.

    Args:
        add: adds a date range; raises DateRangeError.
        timed_metadata: carries the tags in the media.
    """

    def __init__(self, channel: str, add: Callable[[DateRange], None], timed_metadata: TimedMetadata) -> None:
        self._channel = channel
        self._add = add
        self._timed_metadata = timed_metadata
        self._seen = BoundedDict[tuple[EventKind, bytes], Fraction](EVENTS_REMEMBERED)
        self._logged = set[type[Exception]]()
        # When each break began whose end hasn't come, by its name.
        self._open: dict[str, DateRange] = {}

    def push(self, event: StreamEvent, date: Fraction) -> None:
        """Publish an event, unless it has come before.

        Args:
            date: seconds since the epoch.
        """
        date = Fraction(round(date * 1000), 1000)
        before = self._seen.use((event.kind, event.data))
        if before is not None and abs(date - before) <= REPEATED_SECONDS:
            return
        self._seen[event.kind, event.data] = date
        try:
            with ReaderGuard(self._channel):
                self._publish(event, date)
        except (MediaError, DateRangeError, TooManyEventsError) as error:
            # Each kind once: who chooses the events doesn't choose how much is logged.
            if type(error) not in self._logged:
                self._logged.add(type(error))
                log.info("an event of a stream isn't published", channel=self._channel, reason=str(error))

    def _publish(self, event: StreamEvent, date: Fraction) -> None:
        if event.kind is EventKind.ID3:
            if is_whole_id3v2(event.data):
                self._timed_metadata.add(date, None, event.data)
            return
        if event.kind is EventKind.CUE:
            self._add_cue(event.data, date)
        elif (splice := read_splice(event.data)) is not None:
            self._add_splice(splice, event.data, date)

    def _add_splice(self, splice: Splice, section: bytes, date: Fraction) -> None:
        """List what a section says; the way back ends the range that began with the way out."""
        attributes = {_KINDS[splice.kind]: f"0x{section.hex().upper()}"}
        begun = self._open.pop(splice.name, None) if splice.kind is SpliceKind.IN else None
        if begun is not None:
            lasted = max(date - begun.start_date, Fraction(0))
            self._add(DateRange(begun.id, begun.start_date, None, lasted, client_attributes=attributes))
            return
        name = f"scte35-{splice.name or 'command'}-{round(date * 1000)}"
        if splice.kind is not SpliceKind.OUT:
            self._add(DateRange(name, date, None, Fraction(0), client_attributes=attributes))
            return
        length = None if splice.duration is None else Fraction(splice.duration, CLOCK_RATE)
        duration = length if splice.returns else None
        out = DateRange(name, date, None, duration, length, attributes)
        self._add(out)
        if duration is None:
            self._end_open(splice.name, date)
            self._open[splice.name] = out

    def _end_open(self, name: str, date: Fraction) -> None:
        """End the break of the same name, whose end has never come, and the oldest of too many."""
        oldest = [next(iter(self._open))] if len(self._open) >= MOST_OPEN else []
        for one in {name, *oldest} & self._open.keys():
            begun = self._open.pop(one)
            lasted = max(date - begun.start_date, Fraction(0))
            with contextlib.suppress(DateRangeError):
                self._add(DateRange(begun.id, begun.start_date, None, lasted))

    def _add_cue(self, body: bytes, date: Fraction) -> None:
        """List a cue point, which may have a section of SCTE 35 in base64."""
        name, *values = read_values(body)
        facts = next((one for one in values if isinstance(one, dict)), {})
        inner = facts.get("parameters")
        facts = {**facts, **inner} if isinstance(inner, dict) else facts
        for value in facts.values():
            if isinstance(value, str) and _SECTION.fullmatch(value):
                with contextlib.suppress(ValueError):
                    section = b64decode(value, validate=True)
                    # Its time is that of the clock of another stream.
                    if (splice := read_splice(section)) is not None:
                        self._add_splice(splice, section, date)
                    return
        told, length = facts.get("duration"), Fraction(0)
        if isinstance(told, float) and 0 < told <= LONGEST_CUE_SECONDS:
            length = Fraction(round(told * 1000), 1000)
        label = quotable(str(facts.get("id") or facts.get("name") or name))[:NAME_CHARACTERS]
        self._add(
            DateRange(f"cue-{label}-{round(date * 1000)}", date, CUE_CLASS, length, None, _attributes(facts))
        )


def _attributes(facts: Mapping[str, Value]) -> dict[str, str | float]:
    """Return the fields of a cue point as attributes of a range."""
    found: dict[str, str | float] = {}
    for key, value in facts.items():
        name = "X-" + re.sub(r"[^A-Z0-9-]", "-", key.upper(), flags=re.ASCII)[:NAME_CHARACTERS]
        # Only the server itself says that a range came late.
        if not isinstance(value, str | float) or value == "" or not key or name == ADDED:
            continue
        if len(found) < MOST_ATTRIBUTES:
            found[name] = quotable(value)[:ATTRIBUTE_CHARACTERS] if isinstance(value, str) else value
    return found

"""A channel's log as bytes for other processes: msgpack messages, one behind the other.

A message is its length in four bytes, big-endian, and then the entry's kind with its fields. Fractions go as
text, since their numerators may be longer than 64 bits.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import msgspec

from media.errors import MalformedError
from packager.window.log import (
    CadenceEntry,
    DateRangeEntry,
    DiscontinuityEntry,
    EndEntry,
    Entry,
    ForgottenEntry,
    GapEntry,
    InitEntry,
    LostEntry,
    PartEntry,
    RestoredEntry,
    RetiredEntry,
    SegmentDoneEntry,
    StoredEntry,
)
from packager.window.model import LivePart, Timeline
from packager.window.snapshot import (
    DateRangesEntry,
    HeldSegment,
    HeldSegmentsEntry,
    PeriodsEntry,
    SegmentMediaEntry,
    SnapshotBeginEntry,
    SnapshotEndEntry,
    WindowStateEntry,
)

FRACTIONS_KEPT = 4096
"""How many fractions are kept as objects: most segments share their duration."""

_LENGTH_BYTES = 4

_FRACTION = re.compile(r"-?[0-9]{1,400}(?:/[0-9]{1,400})?", re.ASCII)
"""A fraction as ``str`` writes it. ``Fraction`` reads exponents too, and needs hours for "1e999999999"."""


@dataclass(frozen=True, slots=True)
class _EncodedPart:
    """A part entry, whose bytes are read as such."""

    rendition: str
    data: bytes
    duration: Fraction
    independent: bool
    program_date_time: Fraction
    ends_segment: bool


@dataclass(frozen=True, slots=True)
class _Restored:
    """A restored entry, in which each timeline is once."""

    rendition: str
    timelines: tuple[Timeline, ...]
    segments: tuple[HeldSegment, ...]
    next_number: int
    discontinuity_sequence: int


_KINDS: dict[str, type] = {
    "cadence": CadenceEntry,
    "restored": _Restored,
    "init": InitEntry,
    "discontinuity": DiscontinuityEntry,
    "part": _EncodedPart,
    "segment_done": SegmentDoneEntry,
    "gap": GapEntry,
    "stored": StoredEntry,
    "lost": LostEntry,
    "retired": RetiredEntry,
    "forgotten": ForgottenEntry,
    "date_range": DateRangeEntry,
    "end": EndEntry,
    "snapshot_begin": SnapshotBeginEntry,
    "window_state": WindowStateEntry,
    "held_segments": HeldSegmentsEntry,
    "segment_media": SegmentMediaEntry,
    "periods": PeriodsEntry,
    "date_ranges": DateRangesEntry,
    "snapshot_end": SnapshotEndEntry,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(entry: Entry) -> bytes:
    """Write an entry."""
    message: Entry | _EncodedPart | _Restored = entry
    if isinstance(entry, PartEntry):
        part = entry.part
        message = _EncodedPart(
            entry.rendition,
            bytes(part.data),
            part.duration,
            part.independent,
            entry.program_date_time,
            entry.ends_segment,
        )
    elif isinstance(entry, RestoredEntry):
        message = _restored(entry)
    body = msgspec.msgpack.encode((_NAMES[type(message)], message), enc_hook=_plain)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def _plain(value: Any) -> object:
    return str(value) if isinstance(value, Fraction) else list(value)


def _restored(entry: RestoredEntry) -> _Restored:
    timelines = {one.timeline.number: one.timeline for one in entry.segments if one.timeline is not None}
    segments = tuple(HeldSegment.of(one, text=False) for one in entry.segments)
    return _Restored(
        entry.rendition,
        tuple(timelines.values()),
        segments,
        entry.next_number,
        entry.discontinuity_sequence,
    )


def _restore(message: _Restored) -> RestoredEntry:
    if any(one.parts or one.text for one in message.segments):
        raise ValueError("restored segments with bytes")
    timelines = {one.number: one for one in message.timelines}
    segments = tuple(one.segment(timelines, finished=True, text=False) for one in message.segments)
    return RestoredEntry(message.rendition, segments, message.next_number, message.discontinuity_sequence)


class LogDecoder:
    """Reads the entries of a log out of bytes that come in any pieces.

    Args:
        max_entry_bytes: longest message that is read.
    """

    def __init__(self, max_entry_bytes: int) -> None:
        self._max_entry_bytes = max_entry_bytes
        self._buffer = bytearray()
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
            name: msgspec.msgpack.Decoder(kind, dec_hook=_read_value) for name, kind in _KINDS.items()
        }

    def receive_data(self, data: bytes) -> None:
        """Buffer more bytes of the log."""
        self._buffer += data

    def entries(self) -> Iterator[Entry]:
        """Yield the complete entries.

        Raises:
            MalformedError: the bytes are no log.
        """
        while len(self._buffer) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if end > self._max_entry_bytes:
                raise MalformedError(f"an entry of {end} bytes: more than {self._max_entry_bytes}")
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH_BYTES:end])
            del self._buffer[:end]
            yield self._read(body)

    def receive_eof(self) -> None:
        """Check that the log didn't end within an entry.

        Raises:
            MalformedError: the last entry isn't whole.
        """
        if self._buffer:
            raise MalformedError("the log ends within an entry")

    def _read(self, body: bytes) -> Entry:
        try:
            name, fields = _MESSAGE.decode(body)
            message: Entry | _EncodedPart | _Restored = self._decoders[name].decode(fields)
            if isinstance(message, _Restored):
                return _restore(message)
        except (msgspec.DecodeError, LookupError, ValueError, ZeroDivisionError) as error:
            raise MalformedError(f"an entry of a log can't be read: {error}") from error
        if isinstance(message, _EncodedPart):
            part = LivePart(message.data, message.duration, message.independent)
            return PartEntry(message.rendition, part, message.program_date_time, message.ends_segment)
        return message


_MESSAGE = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])


@functools.lru_cache(maxsize=FRACTIONS_KEPT)
def _fraction(text: str) -> Fraction:
    return Fraction(text)


def _read_value(kind: type, value: Any) -> Any:
    if kind is not Fraction or not isinstance(value, str) or _FRACTION.fullmatch(value) is None:
        raise ValueError(f"no {kind.__name__}: {value!r:.100}")
    return _fraction(value)

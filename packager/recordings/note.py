"""What a recording is, and what a channel notes of an event that is over. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

ID = re.compile(r"[0-9]{8}T[0-9]{6}Z(-[1-9][0-9]?)?")
"""A recording's name: the date of its beginning, with a number where there is another one of that name."""

_Ratio = tuple[int, Annotated[int, Meta(ge=1)]]


class Ending(Struct, frozen=True, forbid_unknown_fields=True):
    """What is noted beside the DVR when an event is over: all that sealing it needs to know.

    Attributes:
        frame_rate: of the event, as numerator and denominator.
        segment_duration: seconds for which a gap stands, likewise.
        target_duration: EXT-X-TARGETDURATION.
        master: the multivariant playlist.
        date_ranges: EXT-X-DATERANGE tags.
        video: name of the rendition that the MP4 takes its picture from.
        audio: likewise of its sound.
        sealed: whether its recording has been made.
    """

    frame_rate: _Ratio
    segment_duration: _Ratio
    target_duration: Annotated[int, Meta(ge=1)]
    master: str
    date_ranges: tuple[str, ...] = ()
    video: str | None = None
    audio: str | None = None
    sealed: bool = False


class Note(Struct, frozen=True, forbid_unknown_fields=True):
    """A recording.

    Attributes:
        id: its name.
        start: seconds since the epoch of its first picture.
        end: likewise of its last one's end.
        duration: seconds that it plays, without what was missed.
        size: bytes of its segments.
        first: the lowest number of its segments.
        last: the highest one.
        renditions: their names.
        video: name of the rendition that the MP4 takes its picture from.
        audio: likewise of its sound.
        dash: whether it has a DASH manifest.
    """

    id: str
    start: float
    end: float
    duration: float
    size: int
    first: int
    last: int
    renditions: tuple[str, ...]
    video: str | None = None
    audio: str | None = None
    dash: bool = False


def name_of(start: Fraction) -> str:
    """Name a recording by the date of its beginning, in seconds since the epoch."""
    return datetime.fromtimestamp(int(start), UTC).strftime("%Y%m%dT%H%M%SZ")


def encode(note: Note | Ending) -> bytes:
    """Write a note."""
    return msgspec.json.encode(note) + b"\n"


def sealed(ending: Ending) -> Ending:
    """Note that the recording has been made."""
    return msgspec.structs.replace(ending, sealed=True)


_NOTE = msgspec.json.Decoder(Note)
_ENDING = msgspec.json.Decoder(Ending)


def decode_note(data: bytes) -> Note | None:
    """Read what a recording is; None where it isn't one of ours."""
    try:
        note = _NOTE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return note if ID.fullmatch(note.id) else None


def decode_ending(data: bytes) -> Ending | None:
    """Read what an event left; None where it isn't ours."""
    try:
        return _ENDING.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None

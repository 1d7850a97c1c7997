"""The metadata files of recordings, and of events that have ended but are not recorded yet. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from packager.past.programmes import MOST_TITLE
from packager.window.sequence_numbers import MAX_NUMBER

ID = re.compile(r"[0-9]{8}T[0-9]{6}Z(-[1-9][0-9]?)?")
"""Name of a recording: the date of its start, numbered if it is not unique."""

RENDITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,79}")
"""Name of a rendition and its folder."""

LONGEST_RECORDING = 400 * 86_400
"""Longest possible recording in seconds."""

MOST_NUMBERS_A_SECOND = 10
"""Most segments in a second of a recording."""

MOST_STEP = 86_400
"""Seconds by which a changed clock may put a recording's dates out of order."""

MAX_RENDITIONS = 64
MAX_SEGMENT_SECONDS = 60
LATEST_DATE = 4_102_444_800
"""Latest possible date in seconds since the epoch: the year 2100."""

_DATE = "%Y%m%dT%H%M%SZ"
_LARGEST = 2**63 - 1
_Count = Annotated[int, Meta(ge=1, le=_LARGEST)]
_Ratio = tuple[_Count, _Count]
_Bytes = Annotated[int, Meta(ge=0, le=2**53)]
_Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
_Date = Annotated[float, Meta(ge=0, lt=LATEST_DATE)]
_Milliseconds = Annotated[int, Meta(ge=0, le=1000 * LATEST_DATE)]
_Title = Annotated[str, Meta(max_length=MOST_TITLE)]
_SpanName = Annotated[str, Meta(max_length=200)]


class EventEnd(Struct, frozen=True, forbid_unknown_fields=True):
    """Metadata of an event that has ended, stored beside its DVR, from which the recording is made.

    Attributes:
        frame_rate: frames per second, as numerator and denominator.
        segment_duration: seconds for which a gap stands, as numerator and denominator.
        target_duration: EXT-X-TARGETDURATION.
        date_ranges: EXT-X-DATERANGE tags.
        video: name of the rendition with the MP4's video.
        audio: name of the rendition with the MP4's audio.
        sealed: whether the recording has been made.
    """

    frame_rate: _Ratio
    segment_duration: _Ratio
    target_duration: Annotated[int, Meta(ge=1, le=MAX_SEGMENT_SECONDS + 1)]
    master: str
    date_ranges: tuple[str, ...] = ()
    video: str | None = None
    audio: str | None = None
    sealed: bool = False


class RecordingMetadata(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The metadata of a recording, kept beside its files.

    Attributes:
        start: of the first picture, in seconds since the epoch.
        end: of the last picture, in seconds since the epoch.
        duration: seconds of playback, without missed segments.
        size: bytes of its segments.
        first: lowest media sequence number.
        last: highest media sequence number.
        video: name of the rendition with the MP4's video.
        audio: name of the rendition with the MP4's audio.
        dash: whether it has a DASH manifest.
        title: text of one line for people; empty where the date is enough.
        programme: the name of the programme that it is; empty for none.
        span: the name of the span that was to be kept; empty for an event that has ended.
        pinned: whether neither its age nor the size of all removes it.
        shown: the dates between which HLS and the MP4 show it, in milliseconds since the epoch; None: all is.
    """

    id: str
    start: _Date
    end: _Date
    duration: Annotated[float, Meta(ge=0, le=LONGEST_RECORDING)]
    size: _Bytes
    first: _Number
    last: _Number
    renditions: Annotated[tuple[str, ...], Meta(max_length=MAX_RENDITIONS)]
    video: str | None = None
    audio: str | None = None
    dash: bool = False
    title: _Title = ""
    programme: _SpanName = ""
    span: _SpanName = ""
    pinned: bool = False
    shown: tuple[_Milliseconds, _Milliseconds] | None = None

    @property
    def shown_duration(self) -> float:
        """Seconds that the MP4 shows; ``duration`` is that of whole segments."""
        return shown_part(self.start, self.end, self.duration, self.shown)[1]

    @property
    def age(self) -> tuple[float, int, str]:
        """Sort key: the latest first; of the same second, the higher number first."""
        _, _, number = self.id.partition("-")
        return -self.start, -int(number or 0), self.id


def shown_part(
    start: float, end: float, duration: float, shown: tuple[int, int] | None
) -> tuple[float, float]:
    """Return when the shown part of some segments begins, and how long it plays.

    Args:
        start: of the first segment, in seconds since the epoch; it doesn't end before the shown part begins.
        end: of the last segment, in seconds since the epoch; it doesn't begin behind the shown part.
        duration: seconds of all segments, without the pauses between them.
        shown: the dates between which they are shown, in milliseconds since the epoch; None: all is.

    Returns:
        Seconds since the epoch, and seconds.
    """
    first, last = (start, end) if shown is None else (max(start, shown[0] / 1000), min(end, shown[1] / 1000))
    return first, max(duration - (first - start) - (end - last), 0.0)


def name_of(start: Fraction) -> str:
    """Name a recording by its start, in seconds since the epoch."""
    return datetime.fromtimestamp(int(start), UTC).strftime(_DATE)


def encode(metadata: RecordingMetadata | EventEnd) -> bytes:
    """Write a metadata."""
    return msgspec.json.encode(metadata) + b"\n"


def sealed(ending: EventEnd) -> EventEnd:
    """Mark the recording as made."""
    return msgspec.structs.replace(ending, sealed=True)


_METADATA = msgspec.json.Decoder(RecordingMetadata)
_ENDING = msgspec.json.Decoder(EventEnd)


def decode_metadata(data: bytes) -> RecordingMetadata | None:
    """Read a recording's metadata; None if they aren't ours."""
    try:
        metadata = _METADATA.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return metadata if _is_possible(metadata) else None


def _is_possible(metadata: RecordingMetadata) -> bool:
    """Return whether metadata are consistent with themselves and with the date in its name."""
    if ID.fullmatch(metadata.id) is None:
        return False
    try:
        named = datetime.strptime(metadata.id.partition("-")[0], _DATE).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return False
    most = MOST_NUMBERS_A_SECOND * max(metadata.end - metadata.start, metadata.duration) + 1000
    return (
        abs(named - metadata.start) <= MOST_STEP
        and -MOST_STEP <= metadata.end - metadata.start <= LONGEST_RECORDING
        and 0 <= metadata.last - metadata.first <= most
        and _are_names((*metadata.renditions, *filter(None, (metadata.video, metadata.audio))))
    )


def _are_names(names: Iterable[str]) -> bool:
    return all(RENDITION.fullmatch(name) for name in names)


def decode_ending(data: bytes) -> EventEnd | None:
    """Read what an event left; None where it isn't ours."""
    try:
        ending = _ENDING.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return ending if _is_right(ending) else None


def _is_right(ending: EventEnd) -> bool:
    rate, seconds = Fraction(*ending.frame_rate), Fraction(*ending.segment_duration)
    return (
        Fraction(1, 60) <= rate <= 1000
        and Fraction(1, 100) <= seconds <= MAX_SEGMENT_SECONDS
        and _are_names(filter(None, (ending.video, ending.audio)))
    )

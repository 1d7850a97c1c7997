"""A rendition's index: a line of JSON for each segment, in the order of their numbers. Pure.

A line is appended when its segment is whole on disk. A line that can't be read counts as none: a crash may
have torn it, and then its segment is a gap.
"""

from __future__ import annotations

import functools
from array import array
from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from packager.live.livesegment import LiveSegment, Stored, Timeline
from packager.live.numbers import MAX_NUMBER

MAX_PARTS = 1000
"""Most parts of a segment that a line may tell of."""

DURATIONS_KEPT = 256
"""How many segments' durations are kept; there are a handful of different ones."""

_Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
_Ratio = tuple[int, Annotated[int, Meta(ge=1)]]


class Line(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What a playlist says of a segment.

    Attributes:
        number: media sequence number.
        date: seconds since the epoch of its first sample, as numerator and denominator.
        duration: seconds, the same way.
        left: discontinuities before this segment: EXT-X-DISCONTINUITY-SEQUENCE of a playlist from here.
        init: number of its timeline, by which its init segment is named; None for a gap before any.
        discontinuity: whether it begins a timeline that isn't the first.
        parts: bytes of each part; none for a gap.
        presentation_time: seconds of media time at which its first picture is shown, or its first sound is
            heard. In files by the name of what it was once taken for: the two differ where pictures are
            decoded in another order.
    """

    number: _Number
    date: _Ratio
    duration: _Ratio
    left: Annotated[int, Meta(ge=0)] = 0
    init: _Number | None = None
    discontinuity: bool = False
    parts: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(max_length=MAX_PARTS)] = ()
    presentation_time: _Ratio = msgspec.field(default=(0, 1), name="decode_time")

    @property
    def size(self) -> int:
        """Bytes of the segment."""
        return sum(self.parts)


_DECODER = msgspec.json.Decoder(Line)


def line_of(segment: LiveSegment, left: int, presentation_time: Fraction = Fraction(0)) -> Line:
    """Tell of a segment that was finished now, or of a gap.

    Args:
        segment: it, its parts in memory.
        left: discontinuities before it.
        presentation_time: as of the line.
    """
    return Line(
        number=segment.number,
        date=segment.program_date_time.as_integer_ratio(),
        duration=segment.duration.as_integer_ratio(),
        left=left,
        init=None if segment.timeline is None else segment.timeline.number,
        discontinuity=segment.discontinuity,
        parts=_part_sizes(segment),
        presentation_time=presentation_time.as_integer_ratio(),
    )


def _part_sizes(segment: LiveSegment) -> tuple[int, ...]:
    """Give the bytes of each part; a text, which isn't its parts in a row, counts as one."""
    if segment.parts and segment.timeline is not None and not segment.timeline.has_map:
        return (len(segment.data),)
    # From a list, for memory that doesn't grow: a tuple that does while it is made is kept for another one.
    return tuple([len(part.data) for part in segment.parts])


def segment_of(line: Line, timeline: Timeline | None) -> LiveSegment:
    """Make of a line what a window lists: a stored segment, or a gap."""
    stored = stored_of(line) if line.parts else None
    return LiveSegment(
        line.number,
        timeline,
        Fraction(*line.date),
        discontinuity=line.discontinuity,
        gap=stored is None,
        duration=_duration(line.duration),
        stored=stored,
    )


def stored_of(line: Line) -> Stored:
    """Tell a window of a segment's bytes on disk; in an array, as there are many of them for a long time."""
    return Stored(array("L", line.parts), line.presentation_time)


@functools.lru_cache(maxsize=DURATIONS_KEPT)
def _duration(ratio: tuple[int, int]) -> Fraction:
    """Make a fraction; most segments share theirs."""
    return Fraction(*ratio)


def encode(line: Line) -> bytes:
    """Write a line, its end included."""
    return msgspec.json.encode(line) + b"\n"


def decode(data: bytes) -> tuple[dict[int, Line], int]:
    """Read an index.

    Args:
        data: all of it.

    Returns:
        Its lines by number, in the order of the numbers, a later line of a number instead of an earlier one;
        how many lines couldn't be read.
    """
    lines: dict[int, Line] = {}
    torn = 0
    for text in data.splitlines(keepends=True):
        if text == b"\n":
            continue
        try:
            line = _DECODER.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            torn += 1
        else:
            # An end that isn't there: of its last digits some may be missing too.
            torn += not text.endswith(b"\n")
            lines[line.number] = line
    return dict(sorted(lines.items())), torn

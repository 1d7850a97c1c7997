"""The index of a rendition's stored segments: a line of JSON for each, in ascending order of their numbers.

A line is appended when its segment is complete on disk. Lines that are malformed or impossible are ignored:
a crash may have cut one off.
"""

from __future__ import annotations

import functools
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, pairwise
from operator import le
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from media.mp4.fragments.live_segment_check import MAX_PARTS
from packager.dvr.limits import DEFAULT_LIMITS, DvrLimits
from packager.past.segment_samples import first_sample
from packager.safe_files import OpenFolder
from packager.window.model import STORERS, LiveSegment, StoredSegment, Timeline
from packager.window.sequence_numbers import MAX_DISCONTINUITIES, MAX_NUMBER

INDEX = "index"
"""Name of the file."""

READ_BYTES = 1 << 20
"""How much is read at once."""

MOST_UNDATED = 16
"""So many stretches of an index in a row are tried in search of one that has a date."""

LATEST_DATE = 4_102_444_800
"""Latest possible date in seconds since the epoch: the year 2100."""

LONGEST_SECONDS = 60
"""Longest possible segment: ten seconds can be configured, and key frames may be ten more apart."""

MAX_SEGMENT_BYTES = 1 << 30
"""Largest possible segment."""

SHORTEST_SECONDS = Fraction(1, 2)
"""Shortest possible mean duration: numbers rise no faster."""

UNTIMELY_NUMBERS = 1000
"""Consecutive numbers that are accepted without regard to the time between them."""

MOST_JUMP = 30
"""Seconds by which a date may differ from what its neighbours suggest."""

DURATIONS_KEPT = 256
"""Cached segment durations; there are few different ones."""

_LARGEST = 2**63 - 1
_TICK = Fraction(1, 1_000_000)
_Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
_Ratio = tuple[Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)], Annotated[int, Meta(ge=1, le=_LARGEST)]]
_Size = Annotated[int, Meta(ge=1, le=MAX_SEGMENT_BYTES)]

MAX_LINE_BYTES = 64 << 10
"""Longest line of an index that is read."""

MAX_UNREADABLE_LINES = 10_000
"""Unreadable lines of an index after which the rest is ignored."""


class IndexLine(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A line of the index: the facts about a segment that a playlist needs.

    Attributes:
        number: media sequence number.
        date: seconds since the epoch of its first sample, as numerator and denominator.
        duration: seconds, the same way.
        left: discontinuities before this segment: EXT-X-DISCONTINUITY-SEQUENCE of a playlist from here.
        init: number of its timeline, by which its init segment is named; None for a gap before any.
        discontinuity: whether it begins a timeline that isn't the first.
        parts: bytes of each part; none for a gap.
        presentation_time: seconds of media time at which its first picture is shown, or its first sound is
            heard. Files name it after the decode time, from which it differs where pictures are decoded in
            another order.
        stored_by: the number of the process that stored the segment, where several may store; else 0.
        key_frame_end: how many of its first bytes end with the key frame that it begins with; 0: none, or
            that isn't known.
    """

    number: _Number
    date: _Ratio
    duration: _Ratio
    left: Annotated[int, Meta(ge=0, le=MAX_DISCONTINUITIES)] = 0
    init: _Number | None = None
    discontinuity: bool = False
    parts: Annotated[tuple[_Size, ...], Meta(max_length=MAX_PARTS)] = ()
    presentation_time: _Ratio = msgspec.field(default=(0, 1), name="decode_time")
    stored_by: Annotated[int, Meta(ge=0, lt=STORERS)] = 0
    key_frame_end: Annotated[int, Meta(ge=0, le=MAX_SEGMENT_BYTES)] = 0

    @property
    def size(self) -> int:
        """Bytes of the segment."""
        return sum(self.parts)


_DECODER = msgspec.json.Decoder(IndexLine)


def line_of(segment: LiveSegment, left: int, stored_by: int = 0) -> IndexLine:
    """Make the line of a segment that was finished, or of a gap.

    Args:
        segment: the segment, with its parts in memory.
        left: discontinuities before it.
        stored_by: the number of the process that stores it, where several may store; else 0.
    """
    first = first_sample(segment)
    return _within_bounds(
        replace(
            archived_line_of(segment, left),
            parts=_part_sizes(segment),
            presentation_time=first.shown.as_integer_ratio(),
            stored_by=stored_by,
            key_frame_end=first.key_frame_end,
        )
    )


def archived_line_of(segment: LiveSegment, left: int = 0) -> IndexLine:
    """Make the line of a segment that is stored, or of a gap.

    Args:
        left: discontinuities before it.
    """
    stored = segment.stored
    return _within_bounds(
        IndexLine(
            number=segment.number,
            date=segment.date_ratio,
            duration=segment.duration.as_integer_ratio(),
            left=left,
            init=None if segment.timeline is None else segment.timeline.number,
            discontinuity=segment.discontinuity,
            parts=() if stored is None else tuple(stored.part_sizes),
            presentation_time=(0, 1) if stored is None else stored.shown_ratio,
            key_frame_end=0 if stored is None else stored.key_frame_end,
        )
    )


def _within_bounds(line: IndexLine) -> IndexLine:
    """Return a line that a reader accepts, with the nearest times that it can have."""
    ratios = line.date, line.duration, line.presentation_time
    if (
        len(line.parts) <= MAX_PARTS
        and max(abs(term) for ratio in ratios for term in ratio) <= _LARGEST
        and is_possible(line)
    ):
        return line
    date, duration, shown = (Fraction(*one) for one in ratios)
    return replace(
        line,
        date=_rounded(min(max(date, Fraction(0)), LATEST_DATE - _TICK)),
        duration=_rounded(min(max(duration, _TICK), Fraction(LONGEST_SECONDS))),
        presentation_time=_rounded(shown),
        # Parts of a segment follow each other: the last ones count as one.
        parts=line.parts
        if len(line.parts) <= MAX_PARTS
        else (*line.parts[: MAX_PARTS - 1], sum(line.parts[MAX_PARTS - 1 :])),
    )


def _rounded(seconds: Fraction) -> tuple[int, int]:
    """Return a time whose terms a line can have, rounded only where they are too large."""
    ratio = seconds.as_integer_ratio()
    if max(map(abs, ratio)) <= _LARGEST:
        return ratio
    return max(min(round(seconds / _TICK), _LARGEST), -_LARGEST), _TICK.denominator


def _part_sizes(segment: LiveSegment) -> tuple[int, ...]:
    """Return the bytes of each part; WebVTT, which isn't the concatenation of its parts, counts as one."""
    if segment.parts and segment.timeline is not None and not segment.timeline.has_map:
        return (len(segment.data),)
    # From a list, for memory that doesn't grow: a tuple that does while it is made is kept for another one.
    return tuple([len(part.data) for part in segment.parts])


def segment_of(line: IndexLine, timeline: Timeline | None) -> LiveSegment:
    """Make a stored segment, or a gap, of a line."""
    stored = stored_of(line) if line.parts else None
    return LiveSegment(
        line.number,
        timeline,
        line.date,
        discontinuity=line.discontinuity,
        gap=stored is None,
        duration=_duration(line.duration),
        stored=stored,
    )


def segments_of(lines: Iterable[IndexLine], timeline: Callable[[int], Timeline | None]) -> list[LiveSegment]:
    """Make the segments and gaps of lines, but for segments of a number that has no timeline."""
    found: list[LiveSegment] = []
    for line in lines:
        own = None if line.init is None else timeline(line.init)
        if own is not None or not line.parts:
            found.append(segment_of(line, own))
    return found


def stored_of(line: IndexLine) -> StoredSegment:
    """Describe the stored bytes of a segment."""
    return StoredSegment.of(line.parts, line.presentation_time, line.stored_by, line.key_frame_end)


@functools.lru_cache(maxsize=DURATIONS_KEPT)
def _duration(ratio: tuple[int, int]) -> Fraction:
    """Make a fraction; cached, since most segments have the same."""
    return Fraction(*ratio)


def encode(line: IndexLine) -> bytes:
    """Write a line with its line end."""
    return msgspec.json.encode(line) + b"\n"


@dataclass(slots=True)
class Index:
    """An index that is being read.

    Attributes:
        lines: by number; a later line of the same number replaces an earlier one.
        unreadable: number of malformed or impossible lines.
        limits: how much of it is read.
    """

    lines: dict[int, IndexLine] = field(default_factory=dict)
    unreadable: int = 0
    newlines: int = 0
    limits: DvrLimits = DEFAULT_LIMITS
    _rest: bytes = b""
    _skips: bool = False

    @property
    def given_up(self) -> bool:
        """Whether too many lines are unreadable."""
        return self.unreadable > MAX_UNREADABLE_LINES

    def receive_data(self, data: bytes) -> None:
        """Parse the next bytes."""
        texts = (self._rest + data).split(b"\n")
        self._rest = texts.pop()
        self.newlines += len(texts)
        for text in texts:
            if self.given_up:
                self._rest = b""
                return
            if self._skips:
                self._skips = False
            elif text:
                self._line(text)
        if len(self._rest) > MAX_LINE_BYTES:
            self.unreadable += not self._skips
            self._rest, self._skips = b"", True

    def receive_eof(self) -> None:
        """Parse a last line without an end, and sort the lines by number."""
        if self._rest and not self.given_up:
            # A last line without an end may lack some of its last digits.
            readable = self._line(self._rest)
            self.unreadable += readable
        self._rest = b""
        if any(later < number for number, later in zip(self.lines, list(self.lines)[1:], strict=False)):
            self.lines = dict(sorted(self.lines.items()))

    def _line(self, text: bytes) -> bool:
        """Read a line; return whether it is valid."""
        try:
            line = _DECODER.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.unreadable += 1
            return False
        if not is_possible(line):
            self.unreadable += 1
            return False
        self.lines[line.number] = line
        return True


def decode(data: bytes) -> tuple[dict[int, IndexLine], int]:
    """Read an index.

    Returns:
        Its lines by number, in ascending order, and the number of unreadable lines.
    """
    try:
        # All at once, which takes a third of the time that they take one by one.
        lines = _DECODER.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        lines = []
    if lines and data.endswith(b"\n") and all(map(is_possible, lines)):
        by_number = {line.number: line for line in lines}
        if len(by_number) == len(lines) and all(map(le, by_number, islice(by_number, 1, None))):
            return by_number, 0
    found = Index()
    found.receive_data(data)
    found.receive_eof()
    return found.lines, found.unreadable


def read(folder: OpenFolder, limits: DvrLimits = DEFAULT_LIMITS) -> Index:
    """Read the index of a rendition's folder; it blocks. One that isn't there is empty.

    Args:
        limits: how much of it is read.

    Raises:
        NotOursError: no file is there, or one that is too long for an index.
        OSError: it can't be read.
    """
    found = Index(limits=limits)
    try:
        descriptor = folder.open_file(INDEX)
    except FileNotFoundError:
        return found
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        length = 0
        while (data := file.read(READ_BYTES)) and not found.given_up:
            length += len(data)
            if length > limits.index_bytes:
                found.unreadable = MAX_UNREADABLE_LINES + 1
                break
            found.receive_data(data)
    found.receive_eof()
    return found


def let_go(lines: dict[int, IndexLine]) -> None:
    """Forget lines one by one: freeing a week's at once would hold up all other threads."""
    while lines:
        lines.popitem()


def is_possible(line: IndexLine) -> bool:
    """Return whether a line, by itself, describes a possible segment."""
    (date, per_second), (duration, parts) = line.date, line.duration
    return (
        0 <= date < LATEST_DATE * per_second
        and 0 < duration <= LONGEST_SECONDS * parts
        and line.size <= MAX_SEGMENT_BYTES
    )


def is_orderly(lines: Sequence[IndexLine]) -> bool:
    """Return whether lines are in ascending order, and dated as they follow each other."""
    for line, later in pairwise(lines):
        passed = seconds(later.date) - seconds(line.date)
        if not 0 <= passed <= (later.number - line.number) * LONGEST_SECONDS:
            return False
    return True


def possible(lines: Sequence[IndexLine]) -> Sequence[IndexLine]:
    """Return those of some lines in ascending order that can be right beside the others."""
    if is_orderly(lines):
        return lines
    wrong = impossible({line.number: line for line in lines})
    return [line for line in lines if line.number not in wrong]


def discontinuities_before(lines: Sequence[IndexLine], number: int) -> int | None:
    """Return how many discontinuities there were before a segment; None where no line says so.

    Args:
        lines: in ascending order.
        number: the segment's; where it has no line, the last one before it counts.
    """
    line = next((one for one in reversed(lines) if one.number <= number), None)
    return None if line is None else line.left + (line.discontinuity and line.number < number)


def impossible(lines: Mapping[int, IndexLine]) -> set[int]:
    """Find the lines that can't be right beside the others, in the order of their numbers.

    Returns:
        Their numbers: of gaps for which there was no time, and of lines whose date or count of
        discontinuities is far from what the lines on both sides say.
    """
    ordered = list(lines.values())
    wrong = _untimely_gaps(ordered)
    last = len(ordered) - 1
    if last < 2:
        return wrong
    before, expected = ordered[1], _offset(ordered[1])
    for at, line in enumerate(ordered):
        offset = _offset(line)
        # Nearly all of them agree with the one before, and that is quickly seen.
        if line.left != before.left or not line.parts or not abs(offset - expected) <= MOST_JUMP:
            # The two beside it; at both ends the two that are nearest.
            first = min(max(at - 1, 0), last - 2)
            one, other = (ordered[near] for near in range(first, first + 3) if near != at)
            if _is_odd(line, one, other):
                wrong.add(line.number)
        before, expected = line, offset
    return wrong


def _offset(line: IndexLine) -> float:
    """Return the seconds between the epoch and the beginning of its media time."""
    return seconds(line.date) - seconds(line.presentation_time)


def has_time(before: IndexLine, behind: IndexLine) -> bool:
    """Return whether there was time for all numbers between two lines."""
    count = behind.number - before.number
    passed = max(seconds(behind.date) - seconds(before.date), 0.0)
    return count <= UNTIMELY_NUMBERS or count * float(SHORTEST_SECONDS) <= passed


def _untimely_gaps(ordered: Sequence[IndexLine]) -> set[int]:
    """Find gaps that are far from any stored segment."""
    wrong: set[int] = set()
    group: list[IndexLine] = []
    for line in ordered:
        if group and not has_time(group[-1], line):
            wrong |= _numbers_of_gaps(group)
            group = []
        group.append(line)
    return wrong | _numbers_of_gaps(group)


def _numbers_of_gaps(group: Sequence[IndexLine]) -> set[int]:
    return set() if any(line.parts for line in group) else {line.number for line in group}


def _is_odd(line: IndexLine, one: IndexLine, other: IndexLine) -> bool:
    """Return whether a line contradicts two neighbours that agree."""
    first, last = (one, other) if one.number < other.number else (other, one)
    if first.left <= last.left and not _fewest(line, first) <= line.left <= _most(line, first, last):
        return True
    if not line.parts:
        early, late = seconds(first.date), seconds(last.date)
        return early <= late and not early - MOST_JUMP <= seconds(line.date) <= late + MOST_JUMP
    if not one.init == line.init == other.init or not (one.parts and other.parts):
        return False
    offset, here, there = _offset(line), _offset(one), _offset(other)
    return abs(here - there) <= MOST_JUMP < min(abs(offset - here), abs(offset - there))


def _fewest(line: IndexLine, first: IndexLine) -> int:
    """Return the fewest discontinuities there can be before a line: each number has one at most."""
    return first.left if first.number < line.number else first.left - (first.number - line.number)


def _most(line: IndexLine, first: IndexLine, last: IndexLine) -> int:
    """Return the most discontinuities there can be before a line."""
    if line.number > last.number:
        return last.left + line.number - last.number
    return last.left if line.number > first.number else first.left


def count_begun(count: int, moment: Fraction | int, date_of: Callable[[int], Fraction | int | None]) -> int:
    """Count stretches of an index that begin up to a moment; their dates rise.

    One that can't be dated, as it can't be read or has just been begun, counts with the next one.

    Args:
        count: how many stretches the index has.
        moment: in the unit of the dates.
        date_of: returns the date of the one at a position; None where it can't be known.
    """

    def begin(at: int) -> tuple[bool, Fraction | int]:
        dates = map(date_of, range(at, min(at + MOST_UNDATED, count)))
        return next(((False, date) for date in dates if date is not None), (True, 0))

    return bisect_right(range(count), (False, moment), key=begin)


def seconds(ratio: tuple[int, int]) -> float:
    """Convert a ratio to seconds."""
    return ratio[0] / ratio[1]

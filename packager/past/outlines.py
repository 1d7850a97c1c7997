"""The facts about a block of a rendition's segments of which playlists are made, in columns. Pure.

A day has many segments: objects for each of them would cost more than all else of a playlist. An outline also
has the lines of its segments in a media playlist, compressed in pieces that are the same in all playlists.
"""

from __future__ import annotations

import sys
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from media.hls.media_playlist import Segment
from media.hls.precompressed_text import PackedText
from packager.past.segment_samples import known_first_sample
from packager.window.model import LiveSegment, Timeline
from packager.window.rendition import segment_uri

Positions = npt.NDArray[np.intp]
Records = npt.NDArray[np.void]


class DecodedColumns(Protocol):
    """The facts of all numbers of a block by field, as `RECORD` has them, each decoded when it is read."""

    def __getitem__(self, field: str, /) -> npt.NDArray[Any]:
        """Return one fact of all numbers."""

    def copy_to(self, field: str, target: npt.NDArray[Any]) -> None:
        """Write one fact of all numbers into an array of as many."""

    def seconds(self, field: str, at: int) -> tuple[int, int]:
        """Return seconds of a number, as numerator and denominator."""

    @property
    def even_dates(self) -> tuple[int, int, int] | None:
        """The first date, the time between two, and the denominator of both; None where that differs."""


Columns = Records | DecodedColumns

BLOCK_SEGMENTS = 512
"""Numbers of a block, which begins with one that this divides."""

PIECE_SEGMENTS = 128
"""Numbers whose lines are compressed together: playlists share whole pieces."""

THERE, MEDIA, DISCONTINUITY, TIMED = 1, 2, 4, 8
"""Flags of a number: it is listed, it isn't a gap, a timeline begins with it, its media time is known."""

NO_TIMELINE = -1

RECORD = np.dtype(
    [
        ("date", "<i8", 2),
        ("duration", "<i8", 2),
        ("shown", "<i8", 2),
        ("timeline", "<i8"),
        ("size", "<u4"),
        ("key_frame_end", "<u4"),
        ("flags", "u1"),
    ]
)
"""The facts of a number: seconds as numerator and denominator, the timeline's number, bytes, and flags."""

ALL_THERE: Positions = np.arange(BLOCK_SEGMENTS)
"""Where the numbers of a whole block are."""

OUTLINE_BYTES = BLOCK_SEGMENTS * RECORD.itemsize + (16 << 10)
"""Memory of an outline with its compressed lines, about."""

MAX_PIECE_BYTES = 64 << 10
"""Longest lines of so many numbers, which are read of a file."""

_CRC_BYTES = 4


class Outline:
    """The facts about the segments of one block of a rendition.

    Args:
        first: the block's first number.
        records: of all its numbers, in order.
        extension: how the names of the segments end.
        timelines: of the segments, by number.
        pieces: the lines that are known; the others are made when they are wanted.

    Attributes:
        records: of all its numbers, in order.
        timelines: of the segments, by number.
    """

    __slots__ = ("_extension", "_is_whole", "_pieces", "first", "records", "timelines")

    def __init__(
        self,
        first: int,
        records: Columns,
        extension: str,
        timelines: Mapping[int, Timeline],
        pieces: Sequence[PackedText] = (),
    ) -> None:
        self.first = first
        self.records = records
        self.timelines = timelines
        self._extension = extension
        self._pieces: dict[int, PackedText] = dict(enumerate(pieces))
        self._is_whole = False

    @classmethod
    def of(cls, segments: Sequence[LiveSegment], extension: str) -> Outline:
        """Make the outline of segments of one block, of which there is one at least."""
        first = segments[0].number - segments[0].number % BLOCK_SEGMENTS
        records = np.zeros(BLOCK_SEGMENTS, RECORD)
        records["date"][:, 1] = records["duration"][:, 1] = records["shown"][:, 1] = 1
        records["timeline"] = NO_TIMELINE
        records[[one.number - first for one in segments]] = np.array(list(map(_record, segments)), RECORD)
        timelines = {one.timeline.number: one.timeline for one in segments if one.timeline is not None}
        return cls(first, records, extension, timelines)

    @property
    def there(self) -> Positions:
        """Where in the block the numbers are that are there."""
        if self._is_whole:
            return ALL_THERE
        found = np.flatnonzero(self.records["flags"])
        self._is_whole = len(found) == BLOCK_SEGMENTS
        return found

    def copy_to(self, field: str, target: npt.NDArray[Any]) -> None:
        """Write one fact of all numbers into an array of as many."""
        if isinstance(self.records, np.ndarray):
            target[:] = self.records[field]
        else:
            self.records.copy_to(field, target)

    def seconds(self, field: str, at: int) -> tuple[int, int]:
        """Return seconds of a number that is there, as numerator and denominator."""
        if not isinstance(self.records, np.ndarray):
            return self.records.seconds(field, at)
        numerator, denominator = self.records[field][at].tolist()
        return numerator, denominator

    def date(self, at: int) -> Fraction:
        """Return the date of a number that is there, in seconds since the epoch."""
        return Fraction(*self.seconds("date", at))

    def begun(self, date: Fraction, *, before: bool = False) -> int:
        """Count the numbers that are there and begin up to a date, or before it.

        Args:
            date: in seconds since the epoch.
            before: whether a number that begins at the very date isn't counted.
        """
        numerator, denominator = date.as_integer_ratio()
        even = None if isinstance(self.records, np.ndarray) else self.records.even_dates
        if even is not None and len(self.there) == BLOCK_SEGMENTS:
            first, step, per_second = even
            # Of whole numbers of steps: those up to the date.
            behind = (numerator * per_second - first * denominator - before) // (step * denominator) + 1
            return min(max(behind, 0), BLOCK_SEGMENTS)
        dates = self.records["date"]

        def is_behind(at: int) -> bool:
            own, per_second = dates[at].tolist()
            # In integers, which cost less than fractions.
            return bool(own * denominator + before > numerator * per_second)

        return bisect_left(self.there, True, key=is_behind)

    def piece(self, index: int) -> PackedText:
        """Return the lines of so many numbers in a media playlist, without what depends on those before.

        That is neither EXT-X-DISCONTINUITY nor EXT-X-MAP.
        """
        found = self._pieces.get(index)
        if found is None:
            begin = index * PIECE_SEGMENTS
            text = self._lines(begin, begin + PIECE_SEGMENTS)
            found = self._pieces[index] = PackedText.of(text)
        return found

    @property
    def pieces(self) -> Sequence[PackedText]:
        """The lines of all numbers."""
        return [self.piece(index) for index in range(BLOCK_SEGMENTS // PIECE_SEGMENTS)]

    def cut(self, text: bytes, begin: int, behind: int) -> bytes:
        """Cut the lines of some numbers, all of which are there, out of those of a piece.

        Args:
            begin: how many numbers of the block come before.
            behind: how many numbers of the block come before the end.
        """
        first, last = (
            f"\n{segment_uri(self.first + one, self._extension)}\n".encode() for one in (begin, behind - 1)
        )
        start = text.rindex(b"#EXT-X-PROGRAM-DATE-TIME", 0, text.index(first))
        return text[start : text.index(last) + len(last)]

    def _lines(self, begin: int, behind: int) -> bytes:
        fields = (self.records[field][begin:behind] for field in ("date", "duration", "flags"))
        dates, durations, flags = (one.tolist() for one in fields)
        return b"".join(
            segment_lines(self.first + begin + at, date, duration, self._extension, gap=not flag & MEDIA)
            for at, (date, duration, flag) in enumerate(zip(dates, durations, flags, strict=True))
            if flag & THERE
        )


def segment_lines(
    number: int, date: Sequence[int], duration: Sequence[int], extension: str, *, gap: bool
) -> bytes:
    """Write the lines of a segment, or of a gap, without what depends on those before it.

    Args:
        number: media sequence number.
        date: seconds since the epoch, as numerator and denominator.
        duration: seconds, the same way.
        extension: how the names of the rendition's media end.
    """
    segment = Segment(
        segment_uri(number, extension), Fraction(*duration), program_date_time=Fraction(*date), gap=gap
    )
    return "".join(f"{line}\n" for line in segment.lines(None)).encode()


def outlines_of(segments: Sequence[LiveSegment], extension: str) -> Iterator[Outline]:
    """Make the outlines of segments in ascending order."""
    for _, own in groupby(segments, lambda one: one.number // BLOCK_SEGMENTS):
        yield Outline.of(list(own), extension)


def with_checksum(magic: bytes, content: bytes) -> bytes:
    """Return what is read by ``checked``.

    Args:
        magic: the first line of a file, which names its form.
    """
    return magic + zlib.crc32(content).to_bytes(_CRC_BYTES, sys.byteorder) + content


def checked(magic: bytes, data: bytes) -> memoryview | None:
    """Return the content of a file; None where it is damaged, or has another form."""
    begin = len(magic) + _CRC_BYTES
    content = memoryview(data)[begin:]
    is_whole = data[:begin] == magic + zlib.crc32(content).to_bytes(_CRC_BYTES, sys.byteorder)
    return content if is_whole else None


def _record(segment: LiveSegment) -> tuple[object, ...]:
    first = known_first_sample(segment)
    flags = THERE | DISCONTINUITY * segment.discontinuity | TIMED * (first is not None)
    return (
        segment.date_ratio,
        segment.duration.as_integer_ratio(),
        (0, 1) if first is None else first.shown.as_integer_ratio(),
        NO_TIMELINE if segment.timeline is None else segment.timeline.number,
        segment.size,
        0 if segment.gap or first is None else first.key_frame_end,
        flags | MEDIA * (not segment.gap),
    )

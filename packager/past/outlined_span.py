"""A span of all renditions of a channel as columns, of which playlists and manifests are made. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from packager.past.coded_outlines import BlockColumns
from packager.past.outlines import (
    BLOCK_SEGMENTS,
    DISCONTINUITY,
    MEDIA,
    NO_TIMELINE,
    RECORD,
    THERE,
    Outline,
    Positions,
    outlines_of,
)
from packager.window.model import LiveSegment, Timeline
from packager.window.rendition import extension_of

Column = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_FACTOR = 1_000_003
"""Makes one number of a duration's two."""


class Sums(NamedTuple):
    """Sums over the segments of one duration.

    Attributes:
        duration: seconds of each.
        number: how many segments have this duration.
        size: bytes of these segments together.
        largest: bytes of the largest one.
    """

    duration: Fraction
    number: int
    size: int
    largest: int


class OutlinedTrack:
    """A rendition's segments of a range of numbers.

    Args:
        numbers: the range, whose first number is at position 0.
        outlines: of blocks; the others have nothing.

    Attributes:
        extension: how the names of the segments end.
    """

    def __init__(self, numbers: range, outlines: Iterable[Outline], extension: str) -> None:
        self.extension = extension
        self._outlines = {one.first: one for one in outlines}
        first = numbers.start - numbers.start % BLOCK_SEGMENTS
        self._firsts = range(first, numbers.stop, BLOCK_SEGMENTS)
        self._cut = slice(numbers.start - first, numbers.stop - first)
        self._columns: dict[str, Column] = {}
        self._same: dict[str, tuple[int, int] | None] = {}

    @property
    def outlines(self) -> Iterable[Outline]:
        """The outlines that were handed in."""
        return self._outlines.values()

    def column(self, field: str) -> Column:
        """Return one fact of all numbers; 0 where there is none."""
        if field not in self._columns:
            count, kind = len(self._firsts) * BLOCK_SEGMENTS, RECORD[field]
            # Numerators are beside each other, as are denominators.
            found = np.zeros((count, *kind.shape), kind.base, order="F")
            for begin, behind, records in self._stretches:
                records.copy_to(field, found[begin * BLOCK_SEGMENTS : behind * BLOCK_SEGMENTS])
            self._columns[field] = found[self._cut]
        return self._columns[field]

    def chosen(self, field: str, positions: Positions) -> Column:
        """Return one fact of some ascending numbers, as a view where none is missing in between."""
        first, last = int(positions[0]), int(positions[-1])
        column = self.column(field)
        return column[first : last + 1] if last - first + 1 == len(positions) else column[positions]

    @cached_property
    def _stretches(self) -> Sequence[tuple[int, int, Outline | BlockColumns]]:
        """Where blocks begin and end whose facts are in the same columns, and what has those of the first."""
        found: list[tuple[int, int, Outline | BlockColumns]] = []
        for at, outline in enumerate(map(self._outlines.get, self._firsts)):
            if outline is None:
                continue
            records = outline.records
            if not isinstance(records, BlockColumns):
                found.append((at, at + 1, outline))
                continue
            begin, behind, before = found[-1] if found else (0, -1, None)
            is_next = (
                behind == at
                and isinstance(before, BlockColumns)
                and before.columns is records.columns
                and before.begin + (at - begin) * BLOCK_SEGMENTS == records.begin
            )
            if is_next:
                found[-1] = begin, at + 1, found[-1][2]
            else:
                found.append((at, at + 1, records))
        return found

    def same_seconds(self, field: str) -> tuple[int, int] | None:
        """Return seconds of all numbers that are there, if they are the same, and that is known at once."""
        if field not in self._same:
            found = {
                one.columns.same_seconds(field) if isinstance(one, BlockColumns) else None
                for _, _, one in self._stretches
            }
            self._same[field] = found.pop() if len(found) == 1 else None
        return self._same[field]

    def has(self, flags: int) -> Mask:
        """Return which numbers have all of these flags."""
        found: Mask = (self.column("flags") & flags) == flags
        return found

    @cached_property
    def coded(self) -> Mask:
        """Which numbers are there, and have a timeline."""
        found: Mask = self.has(THERE) & (self.column("timeline") != NO_TIMELINE)
        return found

    def outline(self, position: int) -> tuple[Outline, int]:
        """Return the outline of a number that is there, and its position in the block."""
        block, at = divmod(position + self._cut.start, BLOCK_SEGMENTS)
        return self._outlines[self._firsts[block]], at

    def ratio(self, field: str, position: int) -> tuple[int, int]:
        """Return seconds of a number that is there, as numerator and denominator."""
        if (known := self._columns.get(field)) is not None:
            numerator, denominator = known[position].tolist()
            return numerator, denominator
        outline, at = self.outline(position)
        return outline.seconds(field, at)

    @property
    def has_pictures(self) -> bool:
        """Whether the newest segment that has a timeline is of pictures."""
        timeline = self.newest_timeline
        return timeline is not None and bool(timeline.entry.width)

    @property
    def newest_timeline(self) -> Timeline | None:
        """The timeline of the newest segment that has one; None where none has."""
        behind = first_of(self.coded[::-1])
        return None if behind is None else self.timeline(len(self.coded) - 1 - behind)

    def timeline(self, position: int) -> Timeline | None:
        """Return the timeline of a number."""
        if not self.column("flags")[position] & THERE:
            return None
        outline, _ = self.outline(position)
        return outline.timelines.get(int(self.column("timeline")[position]))

    def sums(self, positions: Positions) -> list[Sums]:
        """Add up segments by their durations."""
        if not len(positions):
            return []
        sizes, same = self.chosen("size", positions), self.same_seconds("duration")
        if same is not None:
            return [Sums(Fraction(*same), len(sizes), int(sizes.sum(dtype=np.int64)), int(sizes.max()))]
        durations, sizes = self.chosen("duration", positions), sizes.astype(np.int64)
        # In any order in which equal ones mostly are neighbours: groups may be several of one duration.
        order = np.argsort(durations[:, 0] * _FACTOR + durations[:, 1])
        sizes, durations = sizes[order], durations[order]
        changes = (durations[1:] != durations[:-1]).any(axis=1)
        begins = np.concatenate(([0], np.flatnonzero(changes) + 1))
        counts = np.diff(begins, append=len(order))
        columns = (
            durations[begins],
            counts,
            np.add.reduceat(sizes, begins),
            np.maximum.reduceat(sizes, begins),
        )
        rows = zip(*(one.tolist() for one in columns), strict=True)
        return [Sums(Fraction(*ratio), *others) for ratio, *others in rows]


class OutlinedSpan:
    """The segments of a span by rendition, those of the same number at the same position.

    Attributes:
        numbers: media sequence numbers, some of which may be missing.
        tracks: by rendition.
    """

    def __init__(self, numbers: range, outlines: Mapping[str, Iterable[Outline]]) -> None:
        self.numbers = numbers
        self.tracks = {
            name: OutlinedTrack(numbers, own, extension_of(name)) for name, own in outlines.items()
        }

    @classmethod
    def of(cls, segments: Mapping[str, Sequence[LiveSegment]]) -> OutlinedSpan:
        """Make the span of segments."""
        numbers = [number for own in segments.values() if own for number in (own[0].number, own[-1].number)]
        outlines = {name: outlines_of(own, extension_of(name)) for name, own in segments.items()}
        return cls(range(min(numbers, default=0), max(numbers, default=-1) + 1), outlines)

    def behind(self, position: int) -> OutlinedSpan:
        """Return what of the span is behind a position."""
        outlines = {name: track.outlines for name, track in self.tracks.items()}
        return OutlinedSpan(range(self.numbers[position] + 1, self.numbers.stop), outlines)

    @cached_property
    def there(self) -> Mask:
        """Which numbers any rendition has."""
        return self._of_any(THERE)

    @cached_property
    def media(self) -> Mask:
        """Which numbers aren't gaps of all renditions."""
        return self._of_any(MEDIA)

    @cached_property
    def breaks(self) -> Mask:
        """Before which numbers any rendition has a discontinuity."""
        return self._of_any(DISCONTINUITY)

    def breaks_of(self, rendition: str) -> Mask:
        """Return before which numbers a rendition has a discontinuity, or the first other in its place."""
        found: Mask = np.zeros(len(self.numbers), np.bool_)
        lacking = np.ones(len(self.numbers), np.bool_)
        for track in (self.tracks[rendition], *self.tracks.values()):
            found |= lacking & track.has(DISCONTINUITY)
            lacking &= ~track.has(THERE)
        return found

    def _of_any(self, flag: int) -> Mask:
        found: Mask = np.logical_or.reduce([one.has(flag) for one in self.tracks.values()])
        return found

    def has_media(self, rendition: str) -> bool:
        """Return whether a rendition has more than gaps."""
        return bool(self.tracks[rendition].has(MEDIA).any())

    @cached_property
    def first(self) -> LiveSegment:
        """The first segment or gap of any rendition, without its media."""
        return self._segment(int(np.argmax(self.there)))

    @cached_property
    def last(self) -> LiveSegment:
        """The last one."""
        return self._segment(len(self.numbers) - 1 - int(np.argmax(self.there[::-1])))

    def having(self, position: int, *preferred: OutlinedTrack) -> OutlinedTrack:
        """Return a rendition that has a number, the first one."""
        tracks = (*preferred, *self.tracks.values())
        return next(one for one in tracks if one.column("flags")[position] & THERE)

    def _segment(self, position: int) -> LiveSegment:
        track = self.having(position)
        flags = int(track.column("flags")[position])
        return LiveSegment(
            self.numbers[position],
            track.timeline(position),
            track.ratio("date", position),
            discontinuity=bool(flags & DISCONTINUITY),
            gap=not flags & MEDIA,
            duration=Fraction(*track.ratio("duration", position)),
        )


def first_of(mask: Mask) -> int | None:
    """Return the first position where a mask is true; None where it is nowhere."""
    first = int(np.argmax(mask)) if len(mask) else 0
    return first if len(mask) and mask[first] else None


def behind_breaks(kept: Mask, breaks: Mask) -> tuple[Positions, Mask]:
    """Choose numbers of a span.

    Args:
        kept: whether each number is chosen.
        breaks: whether the span is broken before a number, or in its place.

    Returns:
        The positions of those that are chosen, and which of these are behind a break; the first isn't.
    """
    positions = np.flatnonzero(kept)
    behind = np.searchsorted(positions, np.flatnonzero(breaks))
    is_behind = np.zeros(len(positions), np.bool_)
    is_behind[behind[(behind > 0) & (behind < len(positions))]] = True
    return positions, is_behind

"""The past of a rendition where the clock was set back: which of its segments the dates of a span find."""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from packager.window.clock_steps import OVERLAP_SECONDS, DatedStretch, found_by_date, stretches_of
from packager.window.model import LiveSegment

MOST_RATE = 1.5
"""Where dates of blocks rise by more than this share of the usual, the clock may have been set forward."""

MOST_SUSPECTS = 16
"""Most blocks of each kind that are read, the newest."""

_date, _number = attrgetter("program_date_time"), attrgetter("number")

_Read = Callable[[Sequence[int]], Iterable[Sequence[LiveSegment]]]


class DatedBlock(NamedTuple):
    """The first segment of some that are read together.

    Attributes:
        number: its media sequence number.
        begin: its date in seconds since the epoch.
    """

    number: int
    begin: float


class SteppedPast:
    """Blocks of segments, and where the clock was set while these were made.

    Args:
        blocks: in ascending order of their numbers.
        read: returns the segments of the blocks at some positions; of few of them, where dates rise evenly.
        noted: numbers of segments before which the clock was set.
        least_rate: where dates rise by less than this share of the usual, it may have been set back, too.

    Attributes:
        stretches: all of them in ascending order of their numbers; none where the clock wasn't set back.
    """

    def __init__(
        self, blocks: Sequence[DatedBlock], read: _Read, noted: Iterable[int] = (), least_rate: float = 0.0
    ) -> None:
        self._blocks = blocks
        self._read = read
        behind = (bisect_right(blocks, one, key=_number) for one in noted)
        near = {at for one in behind for at in (one - 2, one - 1) if at >= 0}
        suspects = near | _suspects(blocks, least_rate)
        self.stretches = self._divided(suspects) if suspects else ()

    def _divided(self, suspects: set[int]) -> Sequence[DatedStretch]:
        wanted = sorted(suspects | {len(self._blocks) - 1})
        known = dict(zip(wanted, self._read(wanted), strict=True))
        segments: list[LiveSegment] = []
        for at, (one, following) in enumerate(pairwise([*self._blocks, self._blocks[-1]])):
            if at in known:
                segments += known[at]
            else:
                begin = Fraction(one.begin)
                lasts = Fraction(following.begin) - begin
                ratio = begin.as_integer_ratio()
                segments.append(LiveSegment(one.number, None, ratio, gap=True, duration=lasts))
        found = stretches_of(segments)
        is_back = any(later.begin < one.end - OVERLAP_SECONDS for one, later in pairwise(found))
        return found if is_back else ()

    def found(self, start: Fraction, end: Fraction | None, before: int) -> Sequence[Sequence[LiveSegment]]:
        """Read the segments of a span that its dates find, by block; see `PastSegments.read`."""
        found = found_by_date(self.stretches, start, end)
        blocks = self._read(self._touching(found, start, end))
        own = ([one for one in block if any(stretch.has(one) for stretch in found)] for block in blocks)
        return [segments for segments in own if segments and segments[0].number < before]

    def segments(self, start: Fraction, end: Fraction | None, before: int) -> list[LiveSegment]:
        """Read the segments of a span that its dates find; see `PastSegments.read`."""
        # Where two blocks have the same numbers, the last one counts.
        found = {one.number: one for block in self.found(start, end, before) for one in block}
        return within([found[number] for number in sorted(found)], start, end, before)

    def _touching(
        self, stretches: Sequence[DatedStretch], start: Fraction, end: Fraction | None
    ) -> Sequence[int]:
        """Return the positions of the blocks that may have segments of a span, in order."""
        found: set[int] = set()
        for one in stretches:
            # The first one may have begun before the stretch did.
            first = max(bisect_right(self._blocks, one.numbers.start, key=_number) - 1, 0)
            behind = bisect_left(self._blocks, one.numbers.stop, key=_number)
            own = self._blocks[first + 1 : behind]
            begin = bisect_right(own, float(start), key=attrgetter("begin"))
            until = len(own) if end is None else bisect_left(own, float(end), key=attrgetter("begin"))
            found.update(range(first + begin, first + 1 + until))
        return sorted(found)


def within(
    segments: Sequence[LiveSegment], start: Fraction, end: Fraction | None, before: int
) -> list[LiveSegment]:
    """Return the segments of a span, from the last one that doesn't begin behind its start.

    Args:
        segments: in ascending order of their dates and numbers.
        start: in seconds since the epoch.
        end: likewise; None: all up to ``before``.
        before: the number that no segment has, nor a later one.
    """
    first = max(bisect_right(segments, start, key=_date) - 1, 0)
    behind = bisect_left(segments, before, key=_number)
    if end is not None:
        behind = min(behind, bisect_left(segments, end, key=_date))
    return list(segments[first:behind])


def numbered(segments: Sequence[LiveSegment], number: int) -> LiveSegment | None:
    """Find a segment by its number among some in ascending order; None where it isn't there."""
    at = bisect_left(segments, number, key=_number)
    return segments[at] if at < len(segments) and segments[at].number == number else None


def _suspects(blocks: Sequence[DatedBlock], least_rate: float) -> set[int]:
    """Return the positions of blocks in which, or behind which, the clock may have been set."""
    rates = [(later.begin - one.begin) / max(later.number - one.number, 1) for one, later in pairwise(blocks)]
    usual = statistics.median(rates) if rates else 0.0
    back = [at for at, rate in enumerate(rates) if rate < max(least_rate * usual, 0.0)]
    if not back:
        return set()
    ahead = [at for at, rate in enumerate(rates) if rate > MOST_RATE * usual]
    # The last one before the clock was set back, and those behind that.
    first = max(bisect_left(ahead, back[0]) - 1, 0)
    return {*back[-MOST_SUSPECTS:], *ahead[first:][-MOST_SUSPECTS:]}

"""The finished segments of one window: those that are listed, and those that have left but stay fetchable.

Their numbers have no holes. Where their bytes are is ``memory``'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from packager.window.model import LiveSegment


class SegmentTotals:
    """What the listed segments of a window amount to.

    Args:
        target_duration: seconds.

    Attributes:
        duration: seconds of all listed segments.
        size: bytes of those that aren't gaps, wherever they are.
        discontinuities: how many there are.
        peak_bandwidth: most bits per second of any segment that was ever listed.
        longest: most seconds that were ever listed at once.
    """

    def __init__(self, target_duration: int) -> None:
        self._target_duration = target_duration
        self.duration = Fraction(0)
        self.size = 0
        self.discontinuities = 0
        self.peak_bandwidth = 0
        self.longest = Fraction(0)
        self._gaps = Fraction(0)

    @property
    def average_bandwidth(self) -> int:
        """Bits per second over the listed segments."""
        seconds = self.duration - self._gaps
        return 0 if not seconds else round(8 * self.size / seconds)

    def add(self, segment: LiveSegment) -> None:
        """Count and measure one that is listed now."""
        self._measure(segment)
        self.duration += segment.duration
        self.size += segment.size
        self._gaps += segment.duration * segment.gap
        self.discontinuities += segment.discontinuity

    def add_all(self, segments: Iterable[LiveSegment]) -> None:
        """Count and measure many."""
        # By duration, of which there are few: sums of fractions are slow, and a day has many segments.
        alike: dict[int, list[LiveSegment]] = {}
        for segment in segments:
            alike.setdefault(id(segment.duration), []).append(segment)
            self.discontinuities += segment.discontinuity
        for group in alike.values():
            duration, sizes = group[0].duration, [segment.size for segment in group]
            self._measure(group[sizes.index(max(sizes))])
            self.size += sum(sizes)
            self.duration += len(group) * duration
            self._gaps += sum(segment.gap for segment in group) * duration

    def remove(self, segment: LiveSegment) -> None:
        """Count one no more that has left the list."""
        self.duration -= segment.duration
        self.size -= segment.size
        self._gaps -= segment.duration * segment.gap
        self.discontinuities -= segment.discontinuity

    def lose(self, segment: LiveSegment) -> None:
        """Count one as a gap whose bytes are lost."""
        self.size -= segment.size
        self._gaps += segment.duration

    def _measure(self, segment: LiveSegment) -> None:
        """Let a segment count for the peak."""
        # RFC 8216bis §4.4.6.2: the peak counts over at least half a target duration.
        if 2 * segment.duration >= self._target_duration:
            self.peak_bandwidth = max(self.peak_bandwidth, round(8 * segment.size / segment.duration))

    def settle(self) -> bool:
        """Note how long the list is, once what had to go is gone; True where it never was longer."""
        grown = self.duration > self.longest
        self.longest = max(self.longest, self.duration)
        return grown


class _Left(NamedTuple):
    """When a segment left: seconds of media that were published by then, and of the clock."""

    published: Fraction
    moment: float
    segment: LiveSegment


class UnlistedSegments:
    """Segments that have left the playlist but stay fetchable, in the order of their numbers."""

    def __init__(self) -> None:
        self._left: deque[_Left] = deque()

    def __len__(self) -> int:
        return len(self._left)

    def __getitem__(self, index: int) -> LiveSegment:
        return self._left[index].segment

    def __setitem__(self, index: int, segment: LiveSegment) -> None:
        self._left[index] = self._left[index]._replace(segment=segment)

    def append(self, segment: LiveSegment, published: Fraction, moment: float) -> None:
        """Take one up that has left the list now."""
        self._left.append(_Left(published, moment, segment))

    def popleft(self) -> LiveSegment:
        """Let the oldest one go."""
        return self._left.popleft().segment

    def is_over(self, published: Fraction, moment: float, longest: Fraction) -> bool:
        """Tell whether the oldest one needn't be fetchable any more.

        Args:
            published: seconds of media that have been published.
            moment: seconds of the clock.
            longest: seconds of the longest playlist that may have had it.
        """
        if not self._left:
            return False
        left = self._left[0]
        # RFC 8216bis §6.2.2: for its own duration and that of the longest playlist that had it.
        needed = left.segment.duration + longest
        # Both: media that was held up comes faster than its time; and a machine that stood still for a
        # while finds the requests of that while when it goes on.
        return published - left.published >= needed and moment - left.moment >= needed


LISTED_SEGMENTS = 7
"""Fewest segments that a playlist keeps once it has had so many."""

LISTED_TARGET_DURATIONS = 10
"""How many target durations a playlist keeps at least (RFC 8216bis §6.2.2 wants three), if there is room."""

LEAST_TARGET_DURATIONS = 3
"""How many it keeps where there isn't."""


class FinishedSegments:
    """The finished segments of a window, listed and unlisted.

    Args:
        target_duration: seconds.
        first_number: the first media sequence number.
        dvr_window: seconds that stay listed beyond the live window.
        discontinuity_sequence: of the first segment.

    Attributes:
        listed: those that the playlist has.
        next_number: media sequence number of the next one.
        discontinuity_sequence: of the first one that is listed.
        kept: seconds that stay listed.
        retention: for how many seconds a segment stays fetchable at least, from its publication on.
        totals: what the listed ones amount to.
    """

    def __init__(
        self, target_duration: int, first_number: int, dvr_window: float, discontinuity_sequence: int
    ) -> None:
        self.listed: deque[LiveSegment] = deque()
        self.next_number = first_number
        self.discontinuity_sequence = discontinuity_sequence
        self.kept = Fraction(dvr_window).limit_denominator(1000) + LISTED_TARGET_DURATIONS * target_duration
        self.retention = self.kept
        self.totals = SegmentTotals(target_duration)
        self._least = LEAST_TARGET_DURATIONS * target_duration
        self._retired = UnlistedSegments()
        self._published = Fraction(0)

    @property
    def oldest_number(self) -> int:
        """Media sequence number of the oldest one that is fetchable."""
        return self.next_number - len(self.listed) - len(self._retired)

    @property
    def have_left(self) -> bool:
        """Whether any are fetchable that aren't listed."""
        return bool(self._retired)

    def find(self, number: int) -> LiveSegment | None:
        """Find one by its number."""
        back = self.next_number - 1 - number
        if back < 0 or back >= len(self.listed) + len(self._retired):
            return None
        return (
            self.listed[-1 - back] if back < len(self.listed) else self._retired[len(self.listed) - 1 - back]
        )

    def exchange(self, segment: LiveSegment) -> None:
        """Put one where that with its number is, which it may stand for as a gap."""
        back = self.next_number - 1 - segment.number
        if back < len(self.listed):
            if segment.gap and not self.listed[-1 - back].gap:
                self.totals.lose(self.listed[-1 - back])
            self.listed[-1 - back] = segment
        else:
            self._retired[len(self.listed) - 1 - back] = segment

    def append(self, segment: LiveSegment) -> None:
        """List one, which has the next number."""
        self.listed.append(segment)
        self.next_number = segment.number + 1
        self._published += segment.duration
        self.totals.add(segment)

    def restore(self, segments: Iterable[LiveSegment], next_number: int, discontinuity_sequence: int) -> None:
        """List those of an earlier process; see ``Window.restore``."""
        self.listed.extend(segments)
        self.next_number = next_number
        self.discontinuity_sequence = discontinuity_sequence
        self.totals.add_all(self.listed)
        self._published = self.totals.duration

    def has_surplus(self) -> bool:
        """Tell whether more is listed than has to be where there is room."""
        return (
            len(self.listed) > LISTED_SEGMENTS and self.totals.duration - self.listed[0].duration >= self.kept
        )

    def is_long(self) -> bool:
        """Tell whether more is listed than has to be where there is no room."""
        # §6.2.2: no removal leaves less than three target durations.
        return (
            len(self.listed) > LISTED_SEGMENTS
            and self.totals.duration - self.listed[0].duration >= self._least
        )

    def retire(self, now: float) -> None:
        """Take the oldest one off the list, at a moment of the clock; it stays fetchable."""
        oldest = self.listed.popleft()
        self.totals.remove(oldest)
        self.discontinuity_sequence += oldest.discontinuity
        self._retired.append(oldest, self._published, now)

    def settle(self) -> None:
        """Note how long the list is, once what had to leave it has."""
        if self.totals.settle():
            self.retention = self.kept + self.totals.longest

    def is_over(self, now: float) -> bool:
        """Tell whether the oldest one that has left needn't be fetchable any more."""
        return self._retired.is_over(self._published, now, self.totals.longest)

    def forget(self) -> LiveSegment:
        """Let the oldest one go that has left the list."""
        return self._retired.popleft()

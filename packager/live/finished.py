"""The finished segments of one window: those that are listed, and those that have left but stay fetchable.

Their numbers have no holes. Where their bytes are is ``memory``'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from fractions import Fraction

from packager.live.livesegment import LiveSegment
from packager.live.retired import Retired
from packager.live.tally import Tally

LISTED_SEGMENTS = 7
"""Fewest segments that a playlist keeps once it has had so many."""

LISTED_TARGET_DURATIONS = 10
"""How many target durations a playlist keeps at least (RFC 8216bis §6.2.2 wants three), if there is room."""

LEAST_TARGET_DURATIONS = 3
"""How many it keeps where there isn't."""


class Finished:
    """Those of one window.

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
        tally: what the listed ones amount to.
    """

    def __init__(
        self, target_duration: int, first_number: int, dvr_window: float, discontinuity_sequence: int
    ) -> None:
        self.listed: deque[LiveSegment] = deque()
        self.next_number = first_number
        self.discontinuity_sequence = discontinuity_sequence
        self.kept = Fraction(dvr_window).limit_denominator(1000) + LISTED_TARGET_DURATIONS * target_duration
        self.retention = self.kept
        self.tally = Tally(target_duration)
        self._least = LEAST_TARGET_DURATIONS * target_duration
        self._retired = Retired()
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
        """Put one where that with its number is."""
        back = self.next_number - 1 - segment.number
        if back < len(self.listed):
            self.listed[-1 - back] = segment
        else:
            self._retired[len(self.listed) - 1 - back] = segment

    def append(self, segment: LiveSegment) -> None:
        """List one, which has the next number."""
        self.listed.append(segment)
        self.next_number = segment.number + 1
        self._published += segment.duration
        self.tally.add(segment)

    def restore(self, segments: Iterable[LiveSegment], next_number: int, discontinuity_sequence: int) -> None:
        """List those of an earlier process; see ``Window.restore``."""
        self.listed.extend(segments)
        self.next_number = next_number
        self.discontinuity_sequence = discontinuity_sequence
        self.tally.add_all(self.listed)
        self._published = self.tally.duration

    def has_surplus(self) -> bool:
        """Tell whether more is listed than has to be where there is room."""
        return (
            len(self.listed) > LISTED_SEGMENTS and self.tally.duration - self.listed[0].duration >= self.kept
        )

    def is_long(self) -> bool:
        """Tell whether more is listed than has to be where there is no room."""
        # §6.2.2: no removal leaves less than three target durations.
        return (
            len(self.listed) > LISTED_SEGMENTS
            and self.tally.duration - self.listed[0].duration >= self._least
        )

    def retire(self, now: float) -> None:
        """Take the oldest one off the list, at a moment of the clock; it stays fetchable."""
        oldest = self.listed.popleft()
        self.tally.remove(oldest)
        self.discontinuity_sequence += oldest.discontinuity
        self._retired.append(oldest, self._published, now)

    def settle(self) -> None:
        """Note how long the list is, once what had to leave it has."""
        if self.tally.settle():
            self.retention = self.kept + self.tally.longest

    def is_over(self, now: float) -> bool:
        """Tell whether the oldest one that has left needn't be fetchable any more."""
        return self._retired.is_over(self._published, now, self.tally.longest)

    def forget(self) -> LiveSegment:
        """Let the oldest one go that has left the list."""
        return self._retired.popleft()

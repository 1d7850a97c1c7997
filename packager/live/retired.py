"""Segments that have left the playlist: fetchable for as long as a player may have one that lists them."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import NamedTuple

from packager.live.livesegment import LiveSegment


class _Left(NamedTuple):
    """When a segment left: seconds of media that were published by then, and of the clock."""

    published: Fraction
    moment: float
    segment: LiveSegment


class Retired:
    """Those of one window, in the order of their numbers."""

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

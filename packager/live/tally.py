"""What the listed segments of a window amount to: kept up with each that comes or goes."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from packager.live.livesegment import LiveSegment


class Tally:
    """One window's.

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
        """Count one that is listed now."""
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
            self.measure(group[sizes.index(max(sizes))])
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

    def measure(self, segment: LiveSegment) -> None:
        """Let a segment count for the peak."""
        # RFC 8216bis §4.4.6.2: the peak counts over at least half a target duration.
        if 2 * segment.duration >= self._target_duration:
            self.peak_bandwidth = max(self.peak_bandwidth, round(8 * segment.size / segment.duration))

    def settle(self) -> bool:
        """Note how long the list is, once what had to go is gone; True where it never was longer."""
        grown = self.duration > self.longest
        self.longest = max(self.longest, self.duration)
        return grown

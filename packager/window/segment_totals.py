"""Sums over the listed segments of a window: durations, bytes and bandwidths."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from packager.window.model import LiveSegment


class SegmentTotals:
    """Sums over the listed segments of a window: durations, bytes and bandwidths.

    Args:
        target_duration: seconds.

    Attributes:
        duration: seconds of all listed segments.
        size: bytes of those that aren't gaps, wherever they are.
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
        """Add a segment that is listed now."""
        self._measure(segment.size, segment.duration)
        self.duration += segment.duration
        self.size += segment.size
        if segment.gap:
            self._gaps += segment.duration
        self.discontinuities += segment.discontinuity

    def add_all(self, segments: Iterable[LiveSegment]) -> None:
        """Add many segments."""
        # By duration, of which there are few: sums of fractions are slow, and a day has many segments.
        alike: dict[int, list[LiveSegment]] = {}
        for segment in segments:
            alike.setdefault(id(segment.duration), []).append(segment)
            self.discontinuities += segment.discontinuity
        for group in alike.values():
            duration, sizes = group[0].duration, [segment.size for segment in group]
            self.add_alike(duration, len(group), sum(sizes), max(sizes))
            self._gaps += sum(segment.gap for segment in group) * duration

    def add_alike(self, duration: Fraction, count: int, size: int, largest: int) -> None:
        """Add segments of one duration.

        Args:
            duration: seconds of each.
            size: bytes of these segments together.
            largest: bytes of the largest one.
        """
        self._measure(largest, duration)
        self.size += size
        self.duration += count * duration

    def remove(self, segment: LiveSegment) -> None:
        """Subtract a segment that has left the list."""
        self.duration -= segment.duration
        self.size -= segment.size
        if segment.gap:
            self._gaps -= segment.duration
        self.discontinuities -= segment.discontinuity

    def lose(self, segment: LiveSegment) -> None:
        """Count a segment whose bytes are lost as a gap."""
        self.size -= segment.size
        self._gaps += segment.duration

    def _measure(self, size: int, duration: Fraction) -> None:
        """Raise the peak bandwidth to that of a segment."""
        # In integers, which cost less than fractions: it lasts length / per_second.
        length, per_second = duration.as_integer_ratio()
        bits = 8 * size * per_second
        # RFC 8216bis §4.4.6.2: the peak counts over at least half a target duration.
        if 2 * length >= self._target_duration * per_second and bits > self.peak_bandwidth * length:
            self.peak_bandwidth = round(Fraction(bits, length))

    def settle(self) -> bool:
        """Note the list's duration after evictions; return whether it is the longest so far."""
        grown = self.duration > self.longest
        if grown:
            self.longest = self.duration
        return grown

"""Media time and the wall clock: which date a segment gets, and when that mapping must break.

Arrivals are measured by the monotonic clock, which nobody sets; the wall clock is looked at once a segment.
So a step of the wall clock moves dates and nothing else.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from fractions import Fraction

from msgspec import Struct


@dataclass(frozen=True, slots=True)
class Timing:
    """How the input of a running ffmpeg maps to media time and to dates.

    Attributes:
        start: media time of the first input, in seconds.
        clock: maps media times to dates.
        slack: seconds of input that may come at once, by which its sequence number is behind its time.
        earliest: the date before which the first input can't lie, in seconds since the epoch; None for none.
    """

    start: Fraction
    clock: WallClock
    slack: float
    earliest: Fraction | None = None


DEAD_BAND = Fraction(3, 1000)
"""Differences in seconds that are noise."""

LONGEST_SLEW = Fraction(9, 10_000)
"""Most seconds by which a date is corrected from one segment to the next.

Players that map media times by dates move their clock by this much, and crystals drift by less.
"""

STEP = Fraction(1, 2)
"""From this difference on it isn't drift: somebody set the clock, or the source lost time for good."""

SET_BACK = Fraction(10)
"""From this difference backwards on, the clock was set back: no source's start seems so much too late."""

LONGEST_OVERLAP = Fraction(45, 100)
"""Seconds: RFC 8216bis §6.2.1 lets a segment's date lie in the segment before by less than a second, and by
less than that segment's duration."""

KEPT_SEGMENTS = 8
"""How many segments' datings are kept for the renditions that come to them later."""


class Instant(Struct, frozen=True):
    """A moment by both clocks, in seconds: ``monotonic`` from anywhere, ``wall`` since the epoch."""

    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Instant:
        """Return the present moment."""
        return cls(time.monotonic(), time.time())


@dataclass(frozen=True, slots=True)
class Dating:
    """How the media times of one segment become dates.

    Attributes:
        offset: seconds to add to a media time.
        stepped: whether the mapping breaks here, so that the segment begins behind a discontinuity.
    """

    offset: Fraction
    stepped: bool = False


class EarliestArrival:
    """The least delay between the time of media and its arrival, of the last one to two spans of time.

    Args:
        bucket_seconds: how long an arrival counts, once to twice.
    """

    def __init__(self, bucket_seconds: float) -> None:
        self._bucket_seconds = bucket_seconds
        self._bucket_end = 0.0
        self._current: float | None = None
        self._former: float | None = None

    def observe(self, delay: float, now: float) -> None:
        """Note the delay of an arrival, in seconds; ``now`` is this moment by the monotonic clock."""
        if self._current is None or now >= self._bucket_end:
            self._former, self._current = self._current, delay
            self._bucket_end = now + self._bucket_seconds
        else:
            self._current = min(self._current, delay)

    @property
    def is_settled(self) -> bool:
        """Whether a whole span has passed."""
        return self._former is not None

    @property
    def delay(self) -> float:
        """The least delay in seconds; 0 before any arrival."""
        return min((one for one in (self._current, self._former) if one is not None), default=0.0)


class WallClock:
    """Maps a source's media time to the wall clock: the same for all its renditions.

    ffmpeg writes a frame when the next one is made, so no frame arrives before its end: the earliest arrival
    is the most accurate. The first frames of a source arrive late, since ffmpeg was just starting.

    Args:
        bucket_seconds: how long the earliest arrival counts, once to twice: long enough for load to pass,
            short enough to follow a drift.
    """

    def __init__(self, bucket_seconds: float = 15.0) -> None:
        self._arrivals = EarliestArrival(bucket_seconds)
        self._in_force: Fraction | None = None
        self._least_offset: Fraction | None = None
        self._most_later: Fraction | None = None
        self._most_overlap = Fraction(0)
        self._datings: dict[int, Dating] = {}

    def begin(
        self,
        media_start: Fraction,
        earliest: Fraction,
        most_later: Fraction | None = None,
        most_overlap: Fraction = Fraction(0),
    ) -> None:
        """Date the first segment no earlier than what was published before it ends.

        Args:
            media_start: media time of its beginning in seconds.
            earliest: in seconds since the epoch.
            most_later: seconds by which its date may be put off for that; None: as many as it takes.
            most_overlap: seconds by which it may still lie in what was published; where it would lie there
                for longer, it isn't put off.
        """
        # Offsets are whole milliseconds.
        self._least_offset = Fraction(math.ceil((earliest - media_start) * 1000), 1000)
        self._most_later, self._most_overlap = most_later, most_overlap

    def observe(self, media_end: float, now: Instant) -> None:
        """Note that a frame came.

        Args:
            media_end: media time of the frame's end in seconds.
        """
        self._arrivals.observe(now.monotonic - media_end, now.monotonic)

    def awaited(self, media_time: float) -> float | None:
        """Predict the earliest arrival of a frame that ends at a media time, by the monotonic clock.

        Args:
            media_time: in seconds.

        Returns:
            None until enough frames have arrived: an encoder that was just started catches up.
        """
        return media_time + self._arrivals.delay if self._arrivals.is_settled else None

    def dating(self, segment: int, now: Instant) -> Dating:
        """Return the dating of a segment; the first rendition that asks decides for all.

        Args:
            segment: its index in this run of the source.
        """
        found = self._datings.get(segment)
        if found is None:
            found = self._datings[segment] = self._decide(now)
            self._in_force = found.offset
            if len(self._datings) > KEPT_SEGMENTS:
                del self._datings[min(self._datings)]
        return found

    def date(self, media_time: Fraction, now: Instant) -> Fraction:
        """Predict the date of a media time that isn't in a dated segment yet, in seconds since the epoch.

        Args:
            media_time: in seconds.
        """
        return media_time + (self._first(now) if self._in_force is None else self._in_force)

    def _first(self, now: Instant) -> Fraction:
        wanted, least = self._wanted(now), self._least_offset
        if least is None or least <= wanted:
            return wanted
        put_off = least if self._most_later is None else min(least, wanted + self._most_later)
        return put_off if least - put_off <= self._most_overlap else wanted

    def _wanted(self, now: Instant) -> Fraction:
        return _milliseconds(self._arrivals.delay + now.wall - now.monotonic)

    def _decide(self, now: Instant) -> Dating:
        if self._in_force is None:
            return Dating(self._first(now))
        wanted = self._wanted(now)
        difference = wanted - self._in_force
        # An encoder that was starved when it began came late at first, and then caught up.
        if difference >= STEP or difference <= -SET_BACK:
            return Dating(wanted, stepped=True)
        if abs(difference) <= DEAD_BAND:
            return Dating(self._in_force)
        return Dating(self._in_force + max(min(difference, LONGEST_SLEW), -LONGEST_SLEW))


def _milliseconds(seconds: float) -> Fraction:
    return Fraction(round(seconds * 1000), 1000)

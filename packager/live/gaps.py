"""Timers of a channel: a segment that is too late becomes a gap, and numbers are reserved in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from packager.live.limits import DEFAULT_LIMITS, LiveLimits
from packager.threads import SHARED_THREADS
from packager.window.aligned_windows import AlignedWindows
from packager.window.cadence import Cadence
from packager.window.sequence_numbers import SequenceNumbers

GAP_MARGIN_TARGET_DURATIONS = 0.1
"""Target durations by which a gap comes before the latest moment."""

SILENT_TARGET_DURATIONS = 0.4
"""Target durations without a part before a gap may come: a source that is only slow isn't cut into pieces."""

SILENT_PICTURES = 1.25
"""Pictures without a part before a gap may come: each may be a part of a slow source."""

SHORTEST_LOOK_SECONDS = 0.01
"""Least seconds between two checks of a channel's punctuality."""

LONGEST_LOOK_SECONDS = 0.25
"""Most seconds between two checks of a channel's punctuality."""


class GapTimer:
    """Decides when a channel is so late that gaps are due; all times are seconds of a monotonic clock.

    Args:
        target_duration: seconds.
        segment_duration: seconds of one gap.
        limits: how late a segment may be.

    Attributes:
        picture_seconds: for how long the source shows each picture.
    """

    def __init__(
        self, target_duration: float, segment_duration: float, limits: LiveLimits = DEFAULT_LIMITS
    ) -> None:
        patience = limits.gap_target_durations - GAP_MARGIN_TARGET_DURATIONS
        self._patience = patience * target_duration
        self._silence = SILENT_TARGET_DURATIONS * target_duration
        self._segment_duration = segment_duration
        self.picture_seconds = 0.0
        self._due: float | None = None
        self._flowed = 0.0

    def published(self, now: float) -> None:
        """Note that every rendition has another segment."""
        self._due = now + self._patience

    def flowed(self, now: float) -> None:
        """Note that a part came."""
        self._flowed = now

    def filled(self) -> None:
        """Note that gaps were published: the next are due a segment duration after these were due."""
        if self._due is not None:
            self._due = max(self._due, self._flows_until) + self._segment_duration

    def wait(self, now: float) -> float:
        """Return the seconds until a gap is due, 0 when it is; before the first segment nothing is."""
        if self._due is None:
            return self._patience
        return max(self._due - now, self._flows_until - now, 0.0)

    @property
    def _flows_until(self) -> float:
        return self._flowed + max(self._silence, SILENT_PICTURES * self.picture_seconds)


log = structlog.get_logger()


class GapSchedule:
    """Publishes gaps for the segments that a channel's source is late with, and reserves numbers.

    Args:
        channel: the channel's name, for the log.
        on_late: called before gaps are published, so that late segments aren't published as well.
        picture_seconds: returns for how long the source shows each picture.
        limits: how late a segment may be.
    """

    def __init__(
        self,
        channel: str,
        numbers: SequenceNumbers,
        on_late: Callable[[], None],
        picture_seconds: Callable[[], float],
        limits: LiveLimits = DEFAULT_LIMITS,
    ) -> None:
        self._limits = limits
        self._channel = channel
        self._numbers = numbers
        self._on_late = on_late
        self._picture_seconds = picture_seconds
        self._disk_failed = False

    async def load_numbers(self) -> None:
        """Read the numbers that an earlier process reserved."""
        try:
            await SHARED_THREADS.run(self._numbers.load)
        except OSError as error:
            log.warning("reserved sequence numbers can't be read", channel=self._channel, reason=str(error))

    async def run(self, aligned: AlignedWindows, cadence: Cadence) -> None:
        """Reserve numbers, and publish gaps where segments don't come in time, until cancelled."""
        limits = self._limits
        lateness = GapTimer(cadence.target_duration, float(cadence.segment_duration), limits)
        least, version, late = -1, -1, False
        while True:
            now = time.monotonic()
            if aligned.version != version:
                lateness.flowed(now)
            if aligned.ready and least != (least := aligned.least_number):
                lateness.published(now)
            lateness.picture_seconds = self._picture_seconds()
            # Checked twice: if this process stood still, data that came meanwhile is read in between.
            late, was_late = lateness.wait(now) == 0, late
            if late and was_late:
                self._on_late()
                aligned.fill(cadence.segment_duration)
                lateness.filled()
                least = aligned.least_number
            version = aligned.version
            if self._numbers.needs_reservation(aligned.next_number):
                await self._reserve(aligned.next_number, aligned.discontinuity_sequence)
            wait = max(lateness.wait(time.monotonic()), SHORTEST_LOOK_SECONDS)
            await asyncio.sleep(min(wait, LONGEST_LOOK_SECONDS))

    async def _reserve(self, number: int, discontinuity_sequence: int) -> None:
        try:
            await SHARED_THREADS.run(self._numbers.reserve, number, discontinuity_sequence)
        except OSError as error:
            if not self._disk_failed:
                log.warning("sequence numbers can't be reserved", channel=self._channel, reason=str(error))
            self._disk_failed = True
        else:
            self._disk_failed = False

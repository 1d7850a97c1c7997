"""Keeps a channel in time: numbers are reserved before they are used, gaps stand for what comes late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from packager.live.ladder import Cadence
from packager.live.lineup import Lineup
from packager.live.numbers import Numbers
from packager.live.punctuality import Punctuality

log = structlog.get_logger()

LONGEST_NAP = 0.25
"""Seconds between two looks at a channel's punctuality, at most."""

SHORTEST_NAP = 0.01
"""Seconds between them at least."""


class Pace:
    """Keeps one channel's.

    Args:
        channel: the channel's name, for the log.
        numbers: the channel's.
        on_late: called before gaps are put, so that what comes late isn't published beside them.
    """

    def __init__(self, channel: str, numbers: Numbers, on_late: Callable[[], None]) -> None:
        self._channel = channel
        self._numbers = numbers
        self._on_late = on_late
        self._disk_failed = False

    async def recall(self) -> None:
        """Read the numbers that an earlier process reserved."""
        try:
            await asyncio.to_thread(self._numbers.load)
        except OSError as error:
            log.warning("numbers can't be read", channel=self._channel, reason=str(error))

    async def keep(self, lineup: Lineup, cadence: Cadence) -> None:
        """Reserve numbers, and put gaps where segments don't come in time, until cancelled.

        Args:
            lineup: the channel's windows.
            cadence: the channel's.
        """
        punctuality = Punctuality(cadence.target_duration, float(cadence.segment_duration))
        least, version, late = -1, -1, False
        while True:
            now = time.monotonic()
            if lineup.version != version:
                punctuality.flowed(now)
            if lineup.ready and least != (least := lineup.least_number):
                punctuality.published(now)
            # Looked at twice: if this process stood still, what came meanwhile is read in between.
            late, was_late = punctuality.wait(now) == 0, late
            if late and was_late:
                self._on_late()
                lineup.fill(cadence.segment_duration)
                punctuality.filled()
                least = lineup.least_number
            version = lineup.version
            if self._numbers.wants(lineup.next_number):
                await self._reserve(lineup.next_number, lineup.discontinuity_sequence)
            await asyncio.sleep(min(max(punctuality.wait(time.monotonic()), SHORTEST_NAP), LONGEST_NAP))

    async def _reserve(self, number: int, discontinuity_sequence: int) -> None:
        try:
            await asyncio.to_thread(self._numbers.reserve, number, discontinuity_sequence)
        except OSError as error:
            if not self._disk_failed:
                log.warning("numbers can't be kept", channel=self._channel, reason=str(error))
            self._disk_failed = True
        else:
            self._disk_failed = False

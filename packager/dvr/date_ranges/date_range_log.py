"""Writes the date ranges of a channel to the file of its DVR, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction

import structlog

from media.hls.date_range import DateRange
from packager.concurrency import background_task
from packager.past.date_range_file import DateRangeFile
from packager.safe_files import DataFolder

log = structlog.get_logger()

MOST_WAITING = 1000
"""Most tags that wait for the disk; the oldest give way."""

DRAIN_SECONDS = 2.0
"""For how long a channel's end waits until its tags are on disk."""


class DateRangeLog:
    """Writes a channel's date ranges to the file of its DVR.

    Args:
        kept_seconds: for how long ranges that are over are kept at least.

    Attributes:
        file: the file, for reading it.
    """

    def __init__(self, place: DataFolder, channel: str, kept_seconds: float) -> None:
        self.file = DateRangeFile(place)
        self._channel = channel
        self._kept = Fraction(kept_seconds)
        self._waiting: deque[DateRange] = deque(maxlen=MOST_WAITING)
        self._work, self._idle = asyncio.Event(), asyncio.Event()

    def note(self, tag: DateRange) -> None:
        """Have a tag written."""
        self._waiting.append(tag)
        self._idle.clear()
        self._work.set()

    @contextlib.asynccontextmanager
    async def running(self, now: Fraction) -> AsyncIterator[None]:
        """Write tags while the context is open; ranges that an earlier process left open end now.

        Args:
            now: seconds since the epoch.
        """
        for tag in await asyncio.to_thread(self.file.going_on):
            planned = tag.planned_duration
            if tag.start_date < now and (planned is None or tag.start_date + planned < now):
                self.note(replace(tag, duration=now - tag.start_date, client_attributes={}))
        async with background_task(self._run()):
            try:
                yield
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_SECONDS):
                        await self._idle.wait()

    async def _run(self) -> None:
        while True:
            tags = list(self._waiting)
            self._waiting.clear()
            self._work.clear()
            if tags:
                newest = max(tag.start_date for tag in tags)
                try:
                    await asyncio.to_thread(self.file.add, tags, newest - self._kept)
                except OSError as error:
                    log.warning(
                        "date ranges aren't kept beside the DVR", channel=self._channel, reason=str(error)
                    )
            if not self._waiting:
                self._idle.set()
                await self._work.wait()

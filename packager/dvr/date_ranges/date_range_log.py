"""Writes the date ranges of a channel beside its DVR, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from fractions import Fraction

import structlog

from media.hls.date_range import DateRange, read_date_range
from packager.concurrency import background_task, wait_within
from packager.dvr.date_ranges.date_range_objects import DateRangeObjects
from packager.past.stored_ranges import StoredRanges
from packager.publish.date_ranges import MAX_DATE_RANGES, with_arrival
from packager.threads import SHARED_THREADS, Threads

log = structlog.get_logger()

MOST_WAITING = 1000
"""Most tags that wait to be written; the oldest give way."""

DRAIN_SECONDS = 2.0
"""For how long a channel's end waits until its tags are written."""

RETRY_SECONDS = 5.0
"""For how long a disk, or S3, is left alone that has failed."""


class DateRangeLog:
    """Writes a channel's date ranges beside its DVR.

    Args:
        threads: where the store is called.
        kept_seconds: for how long ranges that are over are kept at least.
    """

    def __init__(self, store: DateRangeObjects, threads: Threads, channel: str, kept_seconds: float) -> None:
        self._store = store
        self._threads = threads
        self._channel = channel
        self._kept = Fraction(kept_seconds)
        self._waiting: deque[DateRange] = deque(maxlen=MOST_WAITING)
        self._taken_over: tuple[Fraction, frozenset[str]] | None = None
        self._work, self._idle = asyncio.Event(), asyncio.Event()

    async def within(self, begin: Fraction, end: Fraction) -> StoredRanges:
        """Return the ranges that touch a span, whose bounds are in seconds since the epoch.

        Raises:
            OSError: they can't be read now.
        """
        return await self._threads.run(self._store.within, begin, end)

    async def tags_within(self, begin: Fraction, end: Fraction) -> Sequence[DateRange]:
        """Return the newest tags of the ranges that touch a span, with the ends of those that were left open.

        Args:
            begin: seconds since the epoch.
            end: seconds since the epoch.

        Returns:
            None of them where they can't be read now.
        """
        await wait_within(DRAIN_SECONDS, self._idle.wait())
        try:
            found = await self.within(begin, end)
        except OSError:
            return ()
        lines = found.lines_within(begin, end)[-MAX_DATE_RANGES:]
        return await SHARED_THREADS.run(lambda: list(map(read_date_range, lines)))

    def note(self, tag: DateRange) -> None:
        """Have a tag written."""
        self._waiting.append(tag)
        self._idle.clear()
        self._work.set()

    def take_over(self, now: Fraction, listed: Sequence[DateRange] = ()) -> None:
        """Have tags written that are listed; other ranges that an earlier process left open end now.

        Args:
            now: seconds since the epoch.
        """
        self._taken_over = now, frozenset(tag.id for tag in listed)
        for tag in listed:
            self.note(tag)
        self._idle.clear()
        self._work.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write tags while the context is open."""
        async with background_task(self._run()):
            try:
                yield
            finally:
                await wait_within(DRAIN_SECONDS, self._idle.wait())

    async def _run(self) -> None:
        is_failing = False
        while True:
            self._work.clear()
            taken_over, tags = self._taken_over, list(self._waiting)
            self._taken_over = None
            self._waiting.clear()
            try:
                if taken_over is not None:
                    await self._end_open(*taken_over)
                    taken_over = None
                if tags:
                    newest = max(tag.start_date for tag in tags)
                    await self._threads.run(self._store.add, tags, newest - self._kept)
            except OSError as error:
                if not is_failing:
                    log.warning(
                        "date ranges aren't kept beside the DVR", channel=self._channel, reason=str(error)
                    )
                is_failing = True
                self._taken_over = self._taken_over or taken_over
                self._waiting = deque([*tags, *self._waiting], MOST_WAITING)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            is_failing = False
            if not self._waiting and self._taken_over is None:
                self._idle.set()
                await self._work.wait()

    async def _end_open(self, now: Fraction, listed: frozenset[str]) -> None:
        """Have the ends of ranges written that go on without being listed."""
        for tag in await self._threads.run(self._store.going_on):
            planned = tag.planned_duration
            is_over = tag.start_date < now and (planned is None or tag.start_date + planned < now)
            if tag.id not in listed and is_over:
                lasted = now - tag.start_date if planned is None else planned
                ended = replace(tag, duration=lasted, client_attributes={})
                self.note(with_arrival(ended, now, ended.start_date + lasted))

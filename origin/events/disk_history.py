"""Keeps a channel's events on disk, off the loop, so that readers go on where they were after a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from origin.events.channel import EventChannel
from origin.events.event_log import Event
from origin.events.history_files import HistoryFiles, HistoryRoom
from origin.events.limits import EventLimits
from packager.concurrency import wait_within
from packager.safe_files import DataFolder
from packager.threads import ThreadLimits, Threads

log = structlog.get_logger()

T = TypeVar("T")

WRITE_SECONDS = 0.01
"""Least pause between two writes to a disk."""


class EventHistory:
    """Stores a channel's events on disk, and restores those of earlier epochs.

    A failing disk costs the history, never the channel.

    Args:
        place: the folder, which no other server uses while this one runs.
        threads: threads for reading and writing, so that a disk that hangs holds up nothing else; None for
            threads of its own.
        room: on the disk, which other channels' histories share.

    Attributes:
        trouble: why no events are stored now; None if they are.
        lost: number of events that weren't stored.
    """

    def __init__(
        self,
        channel: EventChannel,
        place: DataFolder,
        limits: EventLimits,
        threads: Threads | None = None,
        room: HistoryRoom | None = None,
    ) -> None:
        self.name = f"history of events/{channel.name}"
        self._channel = channel
        self._place = place
        self._limits = limits
        self._files = HistoryFiles(channel.name, channel.epoch, place, limits, room=room)
        self._threads = threads or Threads(ThreadLimits(threads=limits.history_threads), "history")
        self._waiting: list[Event] = []
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._stored: set[asyncio.Future[None]] = set()
        self._restored = asyncio.Event()
        self._closed = asyncio.Event()
        self._job: asyncio.Future[Any] | None = None
        self._look_at = 0.0
        self._removes = False
        self.trouble: str | None = None
        self.lost = 0
        channel.on_publish = self._note
        channel.stored = self._wait_until_stored

    async def wait_until_restored(self) -> None:
        """Wait for the past, unless it takes too long: it may still come later."""
        await wait_within(self._limits.restore_seconds, self._restored.wait())

    async def run(self) -> None:
        """Restore the past, then write until it is closed or cancelled; what is published by then is kept."""
        try:
            while not self._restored.is_set() and not self._closed.is_set():
                if await self._attempt(self._restore):
                    self._restored.set()
                else:
                    await wait_within(self._limits.history_retry_seconds, self._closed.wait())
            while not self._closed.is_set():
                await self._write()
                # A disk that has failed is tried again after a while, not with each event.
                pause = WRITE_SECONDS if self.trouble is None else self._limits.history_retry_seconds
                await wait_within(pause, self._closed.wait())
                await wait_within(self._limits.history_look_seconds, self._news.wait())
        finally:
            # A thread's work goes on when its task was cancelled.
            if self._job is not None:
                await asyncio.wait((self._job,))
            if self._removes:
                await asyncio.shield(self._attempt(lambda: self._in_thread(self._files.remove_all)))
            elif self._restored.is_set():
                await asyncio.shield(self._write())
            await asyncio.shield(self._in_thread(self._files.close))

    def close(self) -> None:
        """Write what waits and nothing more."""
        self._closed.set()
        self._news.set()

    def remove_all(self) -> None:
        """Write nothing more, and remove all that was written."""
        self._removes = True
        self.close()

    async def _restore(self) -> None:
        self._channel.restore(await self._in_thread(self._files.read))

    async def _write(self) -> None:
        """Write what waits, and remove what is too old."""
        self._news.clear()
        events, self._waiting, self._waiting_bytes = self._waiting, [], 0
        stored, self._stored = self._stored, set()
        if not await self._attempt(lambda: self._in_thread(lambda: self._write_in_thread(events))):
            self.lost += len(events)
        for waiter in stored:
            if not waiter.done():
                waiter.set_result(None)

    def _write_in_thread(self, events: list[Event]) -> None:
        self._files.append(events)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + self._limits.history_look_seconds
            self._files.remove_old()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._job = job = self._threads.submit(work)
        return await asyncio.shield(job)

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do work on the disk; return whether it succeeded, and log each new reason why not."""
        try:
            await work()
        except OSError as error:
            reason = str(error) if error.filename else f"{self._place}: {error.strerror}"
            if reason != self.trouble:
                log.warning("no history of events is kept", channel=self._channel.name, reason=reason)
            self.trouble = reason
            return False
        if self.trouble is not None:
            log.info("a history of events is kept again", channel=self._channel.name, lost=self.lost)
        self.trouble = None
        return True

    def _note(self, event: Event) -> None:
        """Remember an event for the disk."""
        if self._waiting_bytes + event.size > self._limits.waiting_bytes or self._closed.is_set():
            self.lost += 1
            return
        self._waiting.append(event)
        self._waiting_bytes += event.size
        self._news.set()

    async def _wait_until_stored(self) -> None:
        """Wait until what was published is with the system, which keeps it if this process is killed."""
        if self.trouble is not None or self._closed.is_set() or not self._restored.is_set():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._stored.add(waiter)
        self._news.set()
        await asyncio.wait((waiter,), timeout=self._limits.stored_seconds)
        self._stored.discard(waiter)

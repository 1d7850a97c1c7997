"""Writes the channels that were made at run time to their file, off the loop, many at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import structlog

from origin.events.created.journal import SPARE_LINES, ChannelJournal, JournalInUseError
from origin.events.created.records import Records
from origin.events.limits import EventLimits
from packager.threads import ThreadLimits, Threads

log = structlog.get_logger()

T = TypeVar("T")

LineMaker = Callable[[], bytes]
"""Writes a line that still counts."""


class NotStoredError(Exception):
    """A change of a channel isn't on disk; the text is one line that says why."""


class ChannelStore:
    """Keeps the lines of channels on disk; each waits until its line is there.

    Args:
    Attributes:
        counting: returns what writes the lines that still count, with which the file is written anew.
        trouble: why nothing is stored now; empty if it is.
    """

    def __init__(self, journal: ChannelJournal, limits: EventLimits) -> None:
        self._journal = journal
        self._limits = limits
        self.counting: Callable[[], Collection[LineMaker]] = tuple
        self._threads = Threads(ThreadLimits(threads=1), "channels")
        self._waiting: list[tuple[bytes, asyncio.Future[None] | None]] = []
        self._news = asyncio.Event()
        self._job: asyncio.Future[Any] | None = None
        self._lines = 0
        self._is_open = False
        self.trouble = ""

    async def read(self, most: int) -> Records:
        """Read what is stored, as soon as no other server has the folder."""
        await self._in_thread(self._journal.close)
        while True:
            records = Records(most)
            try:
                await self._in_thread(functools.partial(self._journal.read, records))
            except JournalInUseError:
                self._note_trouble("another server uses the folder")
            except OSError as error:
                self._note_trouble(str(error))
            else:
                self._is_open, self._lines = True, records.lines
                self._note_trouble("")
                if records.unreadable:
                    log.warning("lines of created event channels can't be read", count=records.unreadable)
                if records.beyond:
                    log.warning("more event channels are stored than may be there", count=records.beyond)
                return records
            await asyncio.sleep(self._limits.created_retry_seconds)

    async def store(self, line: bytes, *, keeps: bool = False) -> None:
        """Wait until a line is on disk.

        Args:
            keeps: whether the line is written later where the disk takes nothing now.

        Raises:
            NotStoredError: the line isn't there now.
        """
        if not self._is_open:
            raise NotStoredError(self.trouble or "the channels aren't read yet")
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((line, stored))
        self._news.set()
        try:
            await asyncio.shield(stored)
        except NotStoredError:
            if keeps:
                self._waiting.append((line, None))
            raise

    def store_soon(self, line: bytes) -> None:
        """Store a line for which nobody waits."""
        self._waiting.append((line, None))
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled; what waits by then is written."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                if not await self._write():
                    await asyncio.sleep(self._limits.created_retry_seconds)
                    self._news.set()
        finally:
            if self._job is not None:
                await asyncio.wait((self._job,))
            await asyncio.shield(self._write())
            self._is_open = False
            await asyncio.shield(self._in_thread(self._journal.close))

    async def _write(self) -> bool:
        """Write what waits; return whether the disk took it."""
        waiting, self._waiting = self._waiting, []
        lines = b"".join(line for line, _ in waiting)
        try:
            await self._in_thread(lambda: self._journal.append(lines))
            self._lines += len(waiting)
            self._note_trouble("")
        except OSError as error:
            self._note_trouble(str(error.strerror or error))
            # Nobody waits for these: they are written as soon as there is room.
            self._waiting[:0] = [one for one in waiting if one[1] is None]
        for _, stored in waiting:
            if stored is not None and not stored.done():
                if self.trouble:
                    stored.set_exception(NotStoredError(self.trouble))
                    stored.exception()  # the client may have gone meanwhile
                else:
                    stored.set_result(None)
        if not self.trouble:
            await self._tidy_up()
        return not self.trouble

    async def _tidy_up(self) -> None:
        """Write the file anew where most of its lines no longer count."""
        counting = self.counting()
        if self._lines <= 2 * len(counting) + SPARE_LINES:
            return
        # Lines that come meanwhile wait, and are appended behind.
        with contextlib.suppress(OSError):
            await self._in_thread(lambda: self._journal.rewrite(make() for make in counting))
            self._lines = len(counting)

    def _note_trouble(self, reason: str) -> None:
        if reason and reason != self.trouble:
            log.warning("no created event channels are stored", reason=reason)
        elif self.trouble and not reason:
            log.info("created event channels are stored again")
        self.trouble = reason

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._job = job = self._threads.submit(work)
        return await asyncio.shield(job)

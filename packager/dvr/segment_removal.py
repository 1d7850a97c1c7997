"""The removal of a DVR's segments from disk: those whose time is over, and the oldest where room is short."""

from __future__ import annotations

import contextlib
import errno
import heapq
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice

import structlog

from packager.dvr.block_writer import BlockWriter
from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import IndexLine, segment_of
from packager.dvr.limits import DvrLimits
from packager.dvr.past_blocks import PastBlocks
from packager.dvr.stored_outlines import OutlineStore, OutlineWriter
from packager.dvr.write_queue import Archival, DiskHealth, Removal, RenditionStore, WriteQueue
from packager.past.outlines import BLOCK_SEGMENTS
from packager.threads import SHARED_THREADS
from packager.window.clock_steps import is_step
from packager.window.model import LiveSegment
from packager.window.rendition_log_writer import RenditionWriter

log = structlog.get_logger()

MAX_FAILED_REMOVALS = 4096
"""Most segments that wait for another attempt to remove them; more stay on disk until the next start."""

ARCHIVED_AT_ONCE = 1000
"""Most segments that are put into the past in one step, between which others are stored."""

ROOM_FOR_LINES = 64 << 10
"""Bytes that are freed where lines of an index can't be written, and beyond a segment that can't."""

SPARE = 64
"""The share of its most bytes by which a DVR that has too much becomes shorter, so that it isn't often."""

BELIEVED_SECONDS = 3600
"""Seconds of media behind a step of the clock after which that counts as right."""

MOST_LOOKED_AT = 4096
"""Most segments of the past that are looked at in search of files that nobody else has, in one attempt."""

NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))
"""Errors of a disk that is full."""


@dataclass(frozen=True, slots=True)
class DvrBounds:
    """The bounds of a channel's DVR.

    Attributes:
        nbytes: most bytes of segments that are kept; 0: as many as the window's time asks for. Half of them
            are listed, as segments stay fetchable as long again once they have left the list (§6.2.2).
        seconds: for which segments are kept that have left the list; 0: they aren't.
        listed_seconds: for which segments stay listed, in seconds of media.
    """

    nbytes: int = 0
    seconds: float = 0.0
    listed_seconds: float = 0.0


class NewestDate:
    """The date up to which the past has come, by which its oldest segments are too old.

    A clock that was set forward may be wrong, and soon be set back: it removes nothing before it has gone on
    for some time.
    """

    def __init__(self) -> None:
        self._last: LiveSegment | None = None
        self._ahead = self._passed = Fraction(0)

    def note(self, lines: Iterable[IndexLine]) -> None:
        """Note the next segments of a rendition, in ascending order of their numbers."""
        for segment in (segment_of(line, None) for line in lines):
            before, self._last = self._last, segment
            self._passed += segment.duration
            if before is not None and is_step(before, segment):
                end = before.program_date_time + before.duration
                self._ahead = max(self._ahead + segment.program_date_time - end, Fraction(0))
                self._passed = Fraction(0)
            if self._passed >= BELIEVED_SECONDS:
                self._ahead = Fraction(0)

    def before(self, seconds: float) -> Fraction:
        """Return the date before which segments are older than so many seconds."""
        date = Fraction(0) if self._last is None else self._last.program_date_time
        return date - self._ahead - Fraction(seconds)


class SegmentRemover:
    """Moves the segments of one channel that leave its playlists into the past, and removes the oldest ones.

    Args:
        segment_stores: the stores of the renditions that are published now.
        health: notes what the disk refuses.
        outlines: where those of the past are stored.

    Attributes:
        used: bytes of the stored segments, but for those in the past.
    """

    def __init__(
        self,
        queue: WriteQueue,
        segment_stores: Mapping[str, RenditionStore],
        health: DiskHealth,
        bounds: DvrBounds,
        limits: DvrLimits,
        outlines: OutlineStore,
    ) -> None:
        self._queue = queue
        self._segment_stores = segment_stores
        self._health = health
        self._max_bytes = bounds.nbytes
        self._past_seconds = bounds.seconds
        self._limits = limits
        self._outlines = outlines
        self._outlined: Mapping[str, PastBlocks] = {}
        self._outline_writer = OutlineWriter(outlines, {})
        self._outlines_from = -float("inf")
        self.used = 0
        # Bytes in the past; None: they have to be counted.
        self._past_bytes: int | None = None
        self._newest_date = NewestDate()
        self._is_trimmed = self._is_moved = False

    async def archive_queued(self) -> None:
        """Put some of the segments into the past that have left the playlists, and remove what is too old."""
        archivals = self._queue.take_archivals(ARCHIVED_AT_ONCE)
        if not archivals:
            await self._end_move()
            return
        try:
            began = await SHARED_THREADS.run(_archive, archivals)
        except OSError as error:
            self._health.failed(error.strerror or str(error))
            self._queue.put_back_archivals(archivals)
            if error.errno in NO_ROOM:
                await self.free(ROOM_FOR_LINES)
            return
        await self._end_move()
        if self._past_bytes is not None:
            self._past_bytes += sum(one.line.size for one in archivals)
        leading = next((one for one in self._segment_stores.values() if not one.refused), None)
        self._newest_date.note(one.line for one in archivals if one.segment_store is leading)
        if began or not self._is_trimmed:
            await self._trim(self._newest_date.before(self._past_seconds))
        await self._write_outlines()

    async def _write_outlines(self) -> None:
        """Make the outlines of one block that has none, if there is one; playlists can do without."""
        if time.monotonic() < self._outlines_from:
            return
        try:
            await SHARED_THREADS.run(self._write_next)
        except OSError:
            # The health of the disk is known from what has to be stored.
            self._outlines_from = time.monotonic() + self._limits.look_seconds
        except Exception:  # the DVR goes on without them
            log.exception("outlines of a DVR can't be made", place=self._outlines.address)
            self._outlines_from = time.monotonic() + self._limits.look_seconds

    def _write_next(self) -> None:
        past = {name: one.folder.past for name, one in self._segment_stores.items() if not one.refused}
        if past != self._outlined:
            # Another stream may have other renditions.
            self._outlined, self._outline_writer = past, OutlineWriter(self._outlines, past)
        self._outline_writer.write_next(0)

    def _remove_outlines(self) -> None:
        """Remove those of blocks that no rendition has any more."""
        blocks = [numbers[0] for one in self._folders if (numbers := one.past.blocks.numbers())]
        # Files that can't be removed now are removed with the next block.
        with contextlib.suppress(OSError):
            self._outlines.remove_before(min(blocks, default=0) * BLOCK_SEGMENTS)

    def begin_move(self, segment_stores: Iterable[RenditionStore]) -> None:
        """Have readers of the past wait until it has what these renditions have queued for it."""
        self._is_moved = False
        with self._health.noting():
            for one in segment_stores:
                one.folder.past_writer.begin_move()

    async def _end_move(self) -> None:
        if self._is_moved or self._queue.has_archivals or not self._past_seconds:
            return

        def end() -> None:
            for folder in self._folders:
                folder.past_writer.end_move()

        with self._health.noting():
            await SHARED_THREADS.run(end)
            self._is_moved = True

    @property
    def _folders(self) -> list[DvrFolder]:
        return [one.folder for one in self._segment_stores.values() if not one.refused]

    async def _trim(self, before: Fraction) -> None:
        """Remove some of the blocks whose time is over.

        Args:
            before: seconds since the epoch.
        """

        def trim() -> bool:
            folders = self._folders
            removed = [
                folder.past_writer.remove_before(before)
                for _ in range(self._limits.removed_blocks)
                for folder in folders
            ]
            if any(removed):
                self._remove_outlines()
            return not any(removed[-len(folders) :])

        with self._health.noting():
            self._is_trimmed = await SHARED_THREADS.run(trim)
        self._past_bytes = None

    async def free(self, nbytes: int, *, counts_shared: bool = False) -> bool:
        """Remove the oldest segments of the past of all renditions, no more of them than it takes.

        Args:
            nbytes: bytes that are to be free afterwards, beyond those that are.
            counts_shared: whether files count that stay elsewhere, in recordings for example.

        Returns:
            Whether any were removed.
        """
        if not self._past_seconds:
            return False
        past = [one.past_writer for one in self._folders]

        def free() -> bool:
            number = _last_removed(past, nbytes, counts_shared=counts_shared)
            if number is None:
                return False
            for one in past:
                one.remove_until(number)
            self._remove_outlines()
            return True

        self._past_bytes = None
        try:
            return await SHARED_THREADS.run(free)
        except OSError as error:
            self._health.failed(str(error))
            return False

    async def _excess(self) -> int:
        """Return by how many bytes the past and the rest together exceed their bound; 0 or less: by none."""
        if self._past_bytes is None:
            folders = self._folders
            self._past_bytes = await SHARED_THREADS.run(
                lambda: sum(one.past_writer.nbytes for one in folders)
            )
        return self.used + self._past_bytes - self._max_bytes

    async def remove_queued(self) -> bool:
        """Carry out the queued removals; return whether all succeeded. Failed ones are queued again."""
        removals = self._queue.take_removals()
        if not removals:
            return True
        outcome = await SHARED_THREADS.run(_remove, removals)
        self.used -= outcome.bytes
        self._queue.put_back_removals(outcome.refused[-MAX_FAILED_REMOVALS:])
        if outcome.reason:
            self._health.failed(outcome.reason)
        return not outcome.refused

    async def make_room(self) -> None:
        """Take the oldest segments off the lists, and remove the oldest stored ones, beyond ``max_bytes``."""
        if self._max_bytes and self._past_seconds and (excess := await self._excess()) > 0:
            await self.free(excess + self._max_bytes // SPARE, counts_shared=True)
        while self._max_bytes and 2 * self._listed_bytes > self._max_bytes and retire_oldest(self._writers):
            pass
        while self._max_bytes and self.used > self._max_bytes and self.forget_oldest():
            if not await self.remove_queued():
                # Forgetting more segments makes no room as long as the disk removes none.
                break

    def has_room(self) -> bool:
        """Return whether the disk takes a file in each rendition's folder. Blocks: call it in a thread."""
        try:
            for folder in self._folders:
                folder.try_write()
        except OSError:
            return False
        return True

    def forget_oldest(self) -> bool:
        """Forget the oldest number in all renditions; return False if there is none left."""
        writers = self._writers
        oldest = min(writer.window.finished.oldest_number for writer in writers)
        shortened = [writer.forget() for writer in writers if writer.window.finished.oldest_number == oldest]
        return any(shortened)

    @property
    def _writers(self) -> list[RenditionWriter]:
        return [one.writer for one in self._segment_stores.values() if one.writer is not None]

    @property
    def _listed_bytes(self) -> int:
        return sum(writer.window.finished.totals.size for writer in self._writers)


def retire_oldest(writers: Iterable[RenditionWriter]) -> bool:
    """Remove the oldest number from the lists of all renditions; False if none is to go."""
    listing = [writer for writer in writers if writer.window.listed]
    oldest = min(writer.window.listed[0].number for writer in listing)
    retired = [writer.retire() for writer in listing if writer.window.listed[0].number == oldest]
    return any(retired)


def _last_removed(past: Sequence[BlockWriter], nbytes: int, *, counts_shared: bool) -> int | None:
    """Return the number up to which segments are removed for some room; None where that makes none.

    Args:
        past: the blocks of each rendition, whose oldest segments come first.
        nbytes: bytes that are wanted.
        counts_shared: whether files count that stay elsewhere.
    """
    last = None
    rows = heapq.merge(*(one.removable() for one in past), key=lambda one: one.number)
    for one in islice(rows, MOST_LOOKED_AT):
        if nbytes <= 0 and one.number != last:
            break
        if one.size and (counts_shared or not one.is_shared):
            last, nbytes = one.number, nbytes - one.size
    return last


@dataclass(slots=True)
class _RemovalOutcome:
    """The outcome of some removals.

    Attributes:
        bytes: of the segments that are gone.
        refused: the removals that the disk refused.
        reason: why something couldn't be done, the last time; empty where all was.
    """

    bytes: int = 0
    refused: list[Removal] = field(default_factory=list)
    reason: str = ""


def _archive(archivals: Sequence[Archival]) -> bool:
    """Put segments into the past; return whether that began a block. It blocks."""
    lines: dict[DvrFolder, list[IndexLine]] = {}
    for one in archivals:
        lines.setdefault(one.segment_store.folder, []).append(one.line)
    began = [folder.archive(each) for folder, each in lines.items()]
    return any(began)


def _remove(removals: Sequence[Removal]) -> _RemovalOutcome:
    """Remove segments one by one, then what else their folders don't need any more; it blocks."""
    outcome = _RemovalOutcome()
    unneeded: dict[DvrFolder, set[int]] = {}
    for one in removals:
        folder = one.segment_store.folder
        try:
            outcome.bytes += folder.remove(one.number, one.size, oldest=one.oldest)
        except OSError as error:
            outcome.refused.append(one)
            outcome.reason = str(error)
        else:
            unneeded.setdefault(folder, set()).update(one.timelines)
    for folder, timelines in unneeded.items():
        try:
            folder.tidy(timelines)
        except OSError as error:
            outcome.reason = str(error)
    return outcome

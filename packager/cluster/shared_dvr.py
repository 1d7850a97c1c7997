"""The DVR of a shared log: the owner of that stores what is finished in S3, where all nodes read it.

That a segment is stored, or lost, is an entry of the shared log, so all nodes list the same. A new owner
stores the segments that the former owner hasn't stored, which it has in memory, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from media.hls.date_range import DateRange
from packager.concurrency import background_task
from packager.dvr.bucket.bucket_archive import BucketArchive
from packager.dvr.segment_sources import SegmentSource
from packager.past.stored_ranges import StoredRanges
from packager.publish.live_stream import LiveStream
from packager.window.log import CadenceEntry, Entry
from packager.window.rendition_log_writer import RenditionWriter


@dataclass(frozen=True, slots=True)
class _AppendableLog:
    """The log to which the writers of renditions append."""

    append: Callable[[Entry], None]


class SharedDvr:
    """The DVR of one channel's shared log, as long as this node owns that.

    Args:
        seconds: for which segments stay listed beyond the live window.
        serve_own: serves this node's own log, without a DVR, where Redis is away from the start.

    Attributes:
        on_loaded: called once the stored segments are known.
    """

    def __init__(
        self, archive: BucketArchive, seconds: float, serve_own: Callable[[], object] = lambda: None
    ) -> None:
        self._archive = archive
        self._seconds = seconds
        self._date_ranges = archive.date_range_log()
        self.serve_own = serve_own
        self.on_loaded: Callable[[], None] = lambda: None
        self._wanted: CadenceEntry | None = None
        self._loaded: CadenceEntry | None = None
        self._is_restored = False
        self._changed = asyncio.Event()

    @property
    def trouble(self) -> str:
        """Why segments aren't stored properly; empty if they are."""
        return self._archive.trouble

    def segment_source(self) -> SegmentSource:
        """Return what copies segments that the log says are stored to a disk."""
        return self._archive.segment_source()

    @property
    def stored_ranges(self) -> Callable[[Fraction, Fraction], Awaitable[StoredRanges]] | None:
        """Read the date ranges of a span, in seconds since the epoch; None where none are stored."""
        return None if self._date_ranges is None else self._date_ranges.within

    def for_all(self, entry: CadenceEntry) -> CadenceEntry:
        """Append the places of stored segments to the log, and the time for which they stay listed."""
        renditions = tuple(replace(one, folder=self._archive.place_of(one.name)) for one in entry.renditions)
        return replace(
            entry, renditions=renditions, dvr_window=self._seconds, has_past=self._archive.has_past
        )

    def is_loaded(self, entry: CadenceEntry) -> bool:
        """Return whether stored segments for new windows are known, or can't be; else begin to load them."""
        if self._loaded == entry:
            return True
        if self._wanted != entry:
            self._wanted = entry
            self._changed.set()
        return False

    def restore(
        self, shared: LiveStream, number: int, now: Fraction, append: Callable[[Entry], None]
    ) -> None:
        """Restore stored segments into new windows of the shared log.

        Args:
            shared: the log's stream; nothing was published in its windows.
            number: the number of the next segment.
            now: when that segment begins, in seconds since the epoch.
        """
        self._archive.restore(_writers(shared, append), number, shared.cadence.segment_duration, now)
        self._is_restored = True

    def begin(
        self, shared: LiveStream, append: Callable[[Entry], None], may_append: Callable[[], bool]
    ) -> None:
        """Store the segments of the shared log.

        Args:
            may_append: returns whether this node may append now; never again once another node owns the log.
        """
        if not self._is_restored:
            self._archive.begin(shared.cadence, shared.renditions)
        # Until windows begin anew once more, others may have stored more.
        self._loaded, self._wanted, self._is_restored = None, None, False

        def append_if_owner(entry: Entry) -> None:
            # Windows report each loss, also a loss that another owner appended to the log.
            if may_append():
                append(entry)

        self._archive.adopt(_writers(shared, append_if_owner), may_append)
        if self._date_ranges is not None:
            # The former owner may have left some of them.
            self._date_ranges.take_over(Fraction(shared.wall_clock()), shared.presentation.date_ranges.tags())
        self._changed.set()

    def note(self, tag: DateRange) -> None:
        """Keep a date range that this node has appended to the log."""
        if self._date_ranges is not None:
            self._date_ranges.note(tag)

    async def run(self) -> None:
        """Load the stored segments of new windows, and store finished ones, until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            if self._date_ranges is not None:
                await stack.enter_async_context(self._date_ranges.running())
            await self._run()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            if (entry := self._wanted) is not None and entry != self._loaded:
                await self._archive.load(entry.cadence, [one.name for one in entry.renditions])
                self._loaded = entry
                self.on_loaded()
            else:
                async with background_task(self._archive.work()):
                    await self._changed.wait()


def _writers(shared: LiveStream, append: Callable[[Entry], None]) -> dict[str, RenditionWriter]:
    log = _AppendableLog(append)
    return {name: RenditionWriter(log, name, one.window) for name, one in shared.renditions.items()}

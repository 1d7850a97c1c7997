"""A channel's DVR: stores the segments that its windows finish, and restores them in the next process."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import structlog

from packager.concurrency import background_task, wait_within
from packager.dvr import stored_cadence
from packager.dvr.date_ranges.date_range_log import DateRangeLog
from packager.dvr.date_ranges.date_range_objects import DateRangeObjects
from packager.dvr.disk_rendition import DvrFolder, Faults, Survey
from packager.dvr.disk_writer import Writer
from packager.dvr.index import let_go
from packager.dvr.limits import DEFAULT_LIMITS, DvrLimits
from packager.dvr.own_files import erase_in
from packager.dvr.restore_plan import (
    LISTED_GAPS,
    ListableRange,
    StoredRendition,
    align_renditions,
    gaps_behind,
    is_recent,
    last_number,
    listable_range,
    with_timeline,
    within,
)
from packager.dvr.segment_removal import DvrBounds, SegmentRemover
from packager.dvr.segment_sources import DiskSegments
from packager.dvr.stored_outlines import OUTLINE_FOLDER, OutlineStore
from packager.dvr.write_queue import (
    Archival,
    DiskHealth,
    PendingWrite,
    Removal,
    RenditionStore,
    WriteQueue,
)
from packager.safe_files import DataFolder, NotOursError, OpenFolder
from packager.threads import SHARED_THREADS
from packager.window.cadence import Cadence
from packager.window.rendition_log_writer import RenditionWriter

log = structlog.get_logger()

CADENCE = "cadence"
"""File with the cadence of the stored segments."""

FORMER = "former"
"""Folder of segments that can't be in one playlist with new ones; only one generation is kept."""

MAX_FORMER_FOLDERS = 16
"""Most folders of one rendition that are set aside, with files of earlier generations that the DVR hasn't
written.
"""


class DiskArchive:
    """The DVR of one channel.

    Args:
        max_bytes: most bytes of segments that are kept; 0: as many as the window's time asks for. Half of
            them are listed, as segments stay fetchable as long again once they have left the list (§6.2.2).
        limits: how long the archive waits for the disk, and how much it holds in memory meanwhile.
        past_seconds: for how long segments are kept that have left the playlists; 0: they aren't.
        listed_seconds: for how long they are in the playlists; 0: for as long as their event lasts.
    """

    def __init__(
        self,
        place: Path | DataFolder,
        channel: str,
        max_bytes: int = 0,
        limits: DvrLimits = DEFAULT_LIMITS,
        past_seconds: float = 0.0,
        listed_seconds: float = 0.0,
    ) -> None:
        self._place = DataFolder.at(place)
        self._channel = channel
        self._limits = limits
        self._bounds = DvrBounds(max_bytes, past_seconds, listed_seconds)
        self._health = DiskHealth(channel, limits.calm_writes)
        self._queue = WriteQueue(self._health, limits.waiting_bytes, limits.leaving_segments)
        self._segment_stores: dict[str, RenditionStore] = {}
        self._removal = SegmentRemover(
            self._queue,
            self._segment_stores,
            self._health,
            self._bounds,
            limits,
            OutlineStore.on_disk(self._place),
        )
        self._writer = Writer(self._queue, self._removal, self._health, limits)
        self._found: dict[str, StoredRendition] = {}
        # Of renditions in whose folders all segments are gaps: the newest ones of the past.
        self._before: dict[str, StoredRendition] = {}

    @property
    def trouble(self) -> str:
        """Why segments aren't stored properly; empty if they are."""
        refused = (
            segment_store.refused for segment_store in self._segment_stores.values() if segment_store.refused
        )
        return self._health.reason or next(refused, "")

    @property
    def newest(self) -> tuple[int, float] | None:
        """Last number that ``load`` found, and the end of that segment in epoch seconds; None without any."""
        last = last_number(self._found)
        found = (one.lines[last] for one in self._found.values() if last in one.lines)
        line = next(found, None)
        return None if line is None else (last, float(Fraction(*line.date) + Fraction(*line.duration)))

    @property
    def waiting(self) -> int:
        """Bytes of segments that wait in memory for the disk although they have left the live window."""
        return self._queue.waiting

    def date_range_log(self) -> DateRangeLog | None:
        """Return what writes date ranges to a file beside its segments, unless those are an event's."""
        seconds = max(self._bounds.seconds, self._bounds.listed_seconds)
        if not seconds:
            return None
        return DateRangeLog(DateRangeObjects.on_disk(self._place), SHARED_THREADS, self._channel, seconds)

    async def load(self, cadence: Cadence, names: Iterable[str]) -> int:
        """Read what earlier processes stored.

        Args:
            cadence: of the channel; segments of another cadence are set aside.

        Returns:
            The last number of any rendition; -1 without any.
        """
        self._segment_stores.clear()
        self._segment_stores.update(
            (name, RenditionStore(self._queue, DvrFolder(self._place / name, self._limits))) for name in names
        )
        try:
            self._found = await SHARED_THREADS.run(self._load, cadence)
        except OSError as error:
            self._found = {name: StoredRendition({}, {}) for name in self._segment_stores}
            self._health.failed(str(error))
        for name, segment_store in self._segment_stores.items():
            self._log_faults(name, segment_store.folder.faults)
        return last_number(self._found)

    def _log_faults(self, name: str, faults: Faults) -> None:
        if faults.count:
            log.warning(
                "DVR put in order",
                channel=self._channel,
                rendition=name,
                faults=faults.count,
                unreadable_lines=faults.unreadable,
                missing=faults.missing,
                aside=faults.aside,
                left_as_they_are=faults.stuck,
                segments=faults.segments,
                places=faults.places,
            )

    async def noted(self) -> Cadence | None:
        """Read the cadence of the stored segments; None if unknown."""
        try:
            data = await SHARED_THREADS.run(self._read_cadence)
        except OSError:
            return None  # ``load`` meets the same, and says so
        return stored_cadence.decode(data)

    def _read_cadence(self) -> bytes:
        with self._place.open() as folder:
            return folder.read(CADENCE, stored_cadence.MAX_CADENCE_BYTES)

    def _load(self, cadence: Cadence) -> dict[str, StoredRendition]:
        with self._place.open(make=True) as folder:
            noted = self._noted(folder)
            if noted is not None:
                folder.make_private()  # with the renditions that aren't configured any more
            surveys = self._survey(cadence)
            if noted is None:
                lines = (line for survey in surveys.values() for line in survey.lines.values())
                alike = stored_cadence.may_be_cut_for((Fraction(*line.duration) for line in lines), cadence)
            else:
                alike = stored_cadence.lists_alike(noted, cadence)
            if not alike:
                self._retire_all(folder)
                surveys = self._survey(cadence)
            found = {name: StoredRendition({}, {}) for name in self._segment_stores}
            for name, survey in surveys.items():
                found[name] = self._segment_stores[name].folder.settle(survey)
            self._before = {
                name: self._segment_stores[name].folder.past.newest()
                for name, one in found.items()
                if self._bounds.seconds and one.timeline is None
            }
            folder.write_whole(CADENCE, stored_cadence.encode(cadence))
        return found

    def _noted(self, folder: OpenFolder) -> Cadence | None:
        """Read the cadence file; an unreadable one is moved aside, and the segments are examined instead."""
        try:
            noted = stored_cadence.decode(folder.read(CADENCE, stored_cadence.MAX_CADENCE_BYTES))
        except FileNotFoundError:
            return None
        except NotOursError:
            noted = None
        if noted is None:
            aside = folder.set_aside([CADENCE])
            log.warning(
                "the file with a DVR's cadence can't be read, and was set aside",
                channel=self._channel,
                aside=aside,
            )
        return noted

    def _survey(self, cadence: Cadence) -> dict[str, Survey]:
        """Examine the renditions' folders; a rendition whose folder isn't ours is not stored."""
        surveys = {}
        for name, segment_store in self._segment_stores.items():
            try:
                surveys[name] = segment_store.folder.survey(cadence.target_duration)
            except NotOursError as error:
                segment_store.refused = str(error)
                log.warning(
                    "a rendition has no DVR", channel=self._channel, rendition=name, reason=str(error)
                )
        return surveys

    def _retire_all(self, folder: OpenFolder) -> None:
        """Set aside segments of another cadence: TARGETDURATION never changes (§4.4.3.1)."""
        for name, segment_store in self._segment_stores.items():
            if not segment_store.refused:
                self._retire(folder, name)
        former = folder.place_of(FORMER)
        log.warning(
            "a DVR with other segment durations was set aside",
            channel=self._channel,
            folder=former,
            meaning="viewers can't go back to before this stream; recordings have it",
            advice="publish with the frame rate and key frames of the stream before",
        )

    def _retire(self, folder: OpenFolder, name: str) -> None:
        with contextlib.suppress(NotOursError):
            # Of blocks that are moved.
            erase_in(folder, OUTLINE_FOLDER)
        with folder.folder(FORMER, make=True) as former:
            if former.status(name) is not None:
                with contextlib.suppress(NotOursError):
                    erase_in(former, name)
            folder.move(name, former, former.free_name(name, MAX_FORMER_FOLDERS))

    def segment_stores(self) -> Mapping[str, RenditionStore]:
        """Return all renditions' stores; ``load`` has made them."""
        return self._segment_stores

    def segment_source(self) -> DiskSegments:
        """Return what links its segments into other folders."""
        return DiskSegments(self._place, has_past=self._bounds.seconds > 0)

    def place_of(self, rendition: str) -> str:
        """Return the path of a rendition's folder."""
        return str(self._segment_stores[rendition].folder.place)

    def next_event(self, next_number: int) -> DiskArchive:
        """Return what stores the next event; the folder of the last one was emptied."""
        del next_number
        bounds = self._bounds
        return DiskArchive(
            self._place, self._channel, bounds.nbytes, self._limits, bounds.seconds, bounds.listed_seconds
        )

    def segment_store(self, name: str) -> RenditionStore:
        """Return a rendition's store; ``load`` has made it."""
        return self._segment_stores[name]

    def restore(
        self, writers: dict[str, RenditionWriter], next_number: int, segment_duration: Fraction, now: Fraction
    ) -> None:
        """Restore the segments that ``load`` found into new windows.

        Args:
            writers: by rendition.
            next_number: with which they go on.
            segment_duration: seconds for which a gap stands.
            now: seconds since the epoch, before which the next segment doesn't begin.
        """
        for name, writer in writers.items():
            segment_store = self._segment_stores[name]
            segment_store.writer, segment_store.left = writer, writer.window.discontinuity_sequence
            if self._bounds.seconds:
                writer.window.finished.on_retired = segment_store.archive
        found, self._found = self._found, {}
        try:
            self._take_up(found, writers, next_number, segment_duration, now)
        finally:
            self._before = {}
            for one in found.values():
                let_go(one.lines)

    def _take_up(
        self,
        found: dict[str, StoredRendition],
        writers: dict[str, RenditionWriter],
        next_number: int,
        segment_duration: Fraction,
        now: Fraction,
    ) -> None:
        """Restore the found segments in the windows, as far as they can be listed, and leave the others."""
        self._removal.used = _bytes_of(found)
        kept = max(writer.window.finished.kept for writer in writers.values())
        is_near = within(found, next_number, segment_duration, kept)
        known = found | {name: found[name].behind(one) for name, one in self._before.items()}
        if not is_near and self._bounds.seconds and is_recent(known, now, Fraction(self._bounds.seconds)):
            self._retain(found)
            for name, writer in writers.items():
                gaps, sequence = gaps_behind(known[name], next_number, segment_duration, now)
                writer.restore(gaps, next_number, sequence)
                self._segment_stores[name].left = sequence
            return
        if not is_near:
            self._leave(found, recent=is_recent(found, now, kept))
            return
        limit = listable_range(found, next_number, segment_duration, kept)
        first = next_number - math.ceil(kept / segment_duration)
        if self._bounds.seconds and limit.first < first:
            # Older ones are found in the past, and needn't be listed for a moment.
            limit = ListableRange(first, elapsed=True)
        found = self._reachable(found, limit)
        segments, sequence = align_renditions(found, next_number, segment_duration, now)
        last = last_number(found)
        for name, writer in writers.items():
            writer.restore(with_timeline(segments[name], known[name].timeline), next_number, sequence)
            segment_store = self._segment_stores[name]
            segment_store.left = sequence + sum(segment.discontinuity for segment in segments[name])
            for gap in segments[name][last + 1 - next_number :] if last + 1 < next_number else ():
                # A published gap never changes, not even over the next restart.
                if gap.duration != segment_duration and not segment_store.refused:
                    self._queue.put(PendingWrite(segment_store, gap.number, segment_store.left))

    def _retain(self, found: dict[str, StoredRendition]) -> None:
        """Put what was found into the past: the channel was away for longer than the playlist reaches back.

        The newest segments stay in their folder, too, so that the next start knows of them.
        """
        self._begin_move(found)
        first = last_number(found) + 1 - LISTED_GAPS
        older = {
            name: StoredRendition({n: line for n, line in one.lines.items() if n < first}, {})
            for name, one in found.items()
        }
        self._forget(older)
        for name, one in found.items():
            for number, line in one.lines.items():
                if number >= first:
                    self._queue.archive(Archival(self._segment_stores[name], line), is_found=True)

    def _leave(self, found: dict[str, StoredRendition], *, recent: bool) -> None:
        """Discard everything that was found: its numbers are too far from the next one."""
        if not recent:
            self._forget(found)
            return
        try:
            with self._place.open() as folder:
                for name, one in found.items():
                    if one.lines:
                        self._retire(folder, name)
                        self._segment_stores[name].folder.load()
            self._removal.used = 0
        except OSError as error:
            self._health.failed(str(error))
        log.warning(
            "a DVR whose sequence numbers are too far away was set aside",
            channel=self._channel,
            folder=FORMER,
        )

    def _reachable(
        self, found: dict[str, StoredRendition], limit: ListableRange
    ) -> dict[str, StoredRendition]:
        """Discard segments whose numbers are too far away to be listed."""
        gone = {
            name: StoredRendition({n: line for n, line in one.lines.items() if n < limit.first}, {})
            for name, one in found.items()
        }
        if not any(one.lines for one in gone.values()):
            return found
        if limit.elapsed:
            self._forget(gone)
        else:
            self._put_aside(gone)
        return {
            name: StoredRendition(
                {n: line for n, line in one.lines.items() if n >= limit.first}, one.timelines
            )
            for name, one in found.items()
        }

    def _put_aside(self, gone: dict[str, StoredRendition]) -> None:
        numbers = {name: [n for n, line in one.lines.items() if line.parts] for name, one in gone.items()}
        try:
            for name, each in numbers.items():
                if each:
                    self._segment_stores[name].folder.put_aside(each)
            self._removal.used -= _bytes_of(gone)
        except OSError as error:
            self._health.failed(str(error))
        count = sum(map(len, numbers.values()))
        log.warning(
            "segments of a DVR were set aside: more numbers are missing behind them than time has passed",
            channel=self._channel,
            aside=count,
        )

    def _forget(self, found: dict[str, StoredRendition]) -> None:
        """Remove what can't be listed any more; it stays in the past, where there is one."""
        self._begin_move(found)
        for name, one in found.items():
            for number, line in one.lines.items():
                if self._bounds.seconds:
                    self._queue.archive(Archival(self._segment_stores[name], line), is_found=True)
                removal = Removal(self._segment_stores[name], number, line.size, ())
                self._queue.remove(removal, is_found=True)
            if one.timelines:
                removal = Removal(self._segment_stores[name], -1, 0, tuple(one.timelines))
                self._queue.remove(removal, is_found=True)

    def _begin_move(self, found: dict[str, StoredRendition]) -> None:
        """Have readers of the past wait for what was found, where that is to be put there."""
        if self._bounds.seconds:
            self._removal.begin_move([self._segment_stores[name] for name, one in found.items() if one.lines])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write while the context is open, and as long behind it as what waits may take to be written."""
        async with background_task(self._writer.run()):
            try:
                yield
            finally:
                await wait_within(self._limits.drain_seconds, self._queue.idle())

    async def settle(self) -> None:
        """Wait until all finished segments are on disk, for ``settle_seconds`` at most."""
        await wait_within(self._limits.settle_seconds, self._queue.idle())


def _bytes_of(found: dict[str, StoredRendition]) -> int:
    return sum(line.size for one in found.values() for line in one.lines.values())

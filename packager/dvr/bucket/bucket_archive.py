"""A channel's DVR in an S3 bucket: stores the segments that its windows finish, and restores them later.

The channel never waits for S3. A segment stays in memory until it is stored; it becomes a gap only if too
many wait. The windows show what is to be stored and removed, so storing may begin and end at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from threading import Lock

import structlog

from packager.concurrency import background_task
from packager.dvr import stored_cadence
from packager.dvr.bucket.bucket_rendition import BucketFolder, NewestNumbers
from packager.dvr.bucket.dvr_bucket import DvrBucket
from packager.dvr.bucket.index_pieces import CLOCK_SECONDS
from packager.dvr.bucket.past_pieces import PastPieces
from packager.dvr.date_ranges.date_range_log import DateRangeLog
from packager.dvr.index import stored_of
from packager.dvr.limits import DEFAULT_LIMITS, DvrLimits
from packager.dvr.restore_plan import (
    StoredRendition,
    align_renditions,
    gaps_behind,
    is_recent,
    last_number,
    listable_range,
    with_timeline,
    within,
)
from packager.dvr.segment_removal import DvrBounds, retire_oldest
from packager.dvr.segment_sources import FetchedSegments
from packager.dvr.stored_outlines import OutlineStore, OutlineWriter
from packager.dvr.write_queue import DiskHealth
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import FileChangedError
from packager.safe_files import folder_name
from packager.window.cadence import Cadence
from packager.window.model import STORERS, LiveSegment, SegmentStore
from packager.window.rendition import extension_of, stored_name
from packager.window.rendition_log_writer import RenditionWriter
from packager.window.segments import LISTED_TARGET_DURATIONS
from packager.window.window import Window

log = structlog.get_logger()

_CADENCE_TYPE = "application/json"

LOAD_SECONDS = 15.0
"""Seconds for which a channel's start waits for the bucket's list of earlier segments."""

NO_BOUNDS = DvrBounds()
"""Of a DVR that is as large as the list needs."""


def _always() -> bool:
    return True


@dataclass(slots=True)
class _Upload:
    """How far one rendition's segments are stored.

    Attributes:
        is_loaded: whether the index in the bucket was read.
        next_number: the number of the next segment to store, or of that which is being stored.
        first_number: the number of the first segment that this process listed.
        removes_from: when the next removal may be attempted, by the monotonic clock.
        writer: the rendition's; None before it has windows.
    """

    folder: BucketFolder
    is_loaded: bool = False
    next_number: int = 0
    first_number: int = 0
    removes_from: float = 0.0
    writer: RenditionWriter | None = None

    @property
    def is_idle(self) -> bool:
        """Whether all that is finished is stored."""
        return self.writer is None or self.next_number >= self.writer.window.next_number


class BucketArchive:
    """The DVR of one channel in S3.

    Args:
        limits: how often the archive checks for work, and how much it holds in memory.
        wall_clock: returns seconds since the epoch.
        area: ``live`` or ``radio``: a station and a live channel may have one name.
    """

    def __init__(
        self,
        bucket: DvrBucket,
        channel: str,
        bounds: DvrBounds = NO_BOUNDS,
        limits: DvrLimits = DEFAULT_LIMITS,
        wall_clock: Callable[[], float] = time.time,
        area: str = "live",
    ) -> None:
        self._bucket = bucket
        self._channel = channel
        self._bounds = bounds
        self._limits = limits
        self._wall_clock = wall_clock
        self._key = f"{area}/{folder_name(channel)}/dvr"
        self._health = DiskHealth(channel, limits.calm_writes, "S3 is too slow")
        self._uploads: dict[str, _Upload] = {}
        self._outlines = OutlineWriter(OutlineStore.in_bucket(bucket.storing, self._key), {})
        self._found: dict[str, StoredRendition] = {}
        self._cadence: Cadence | None = None
        self._ignored_before = 0
        self._may_append: Callable[[], bool] = _always
        self._removing = Lock()

    @property
    def has_past(self) -> bool:
        """Whether segments stay that have left the playlists."""
        return self._bounds.seconds > 0

    @property
    def trouble(self) -> str:
        """Why segments aren't stored properly; empty if they are."""
        return self._health.reason

    @property
    def newest(self) -> tuple[int, float] | None:
        """Last number that ``load`` found, and the end of that segment in epoch seconds; None without any."""
        last = last_number(self._found)
        line = next((one.lines[last] for one in self._found.values() if last in one.lines), None)
        return None if line is None else (last, float(Fraction(*line.date) + Fraction(*line.duration)))

    @property
    def waiting(self) -> int:
        """Bytes of segments that wait in memory for S3 although they have left the live window."""
        return sum(sum(writer.window.finished.waiting.values()) for writer in self._writers)

    def place_of(self, rendition: str) -> str:
        """Return the address of a rendition's segments."""
        return f"{self._bucket.address}/{self._key}/{rendition}"

    def segment_source(self) -> FetchedSegments:
        """Return what copies its segments to a disk."""
        return FetchedSegments(self._read_segment, self._past)

    def date_range_log(self) -> DateRangeLog | None:
        """Return what stores date ranges beside its segments, which outlive this process at least."""
        # Any rendition's place leads to the channel's.
        store = self._bucket.date_ranges(self.place_of("any"))
        if store is None:
            return None
        kept = max(self._bounds.seconds, self._bounds.listed_seconds)
        return DateRangeLog(store, self._bucket.storing_threads, self._channel, kept)

    def _past(self, rendition: str) -> PastPieces | None:
        """Return what finds the segments of a rendition that have left its playlist, if they are kept."""
        if not self.has_past or self._cadence is None:
            return None
        return self._bucket.past(self.place_of(rendition), self._cadence)

    def _read_segment(self, rendition: str, segment: LiveSegment) -> bytes | None:
        """Read a stored segment from the bucket; None where it is gone, or isn't what was stored.

        Raises:
            OSError: S3 can't be reached now.
        """
        stored, client = segment.stored, self._bucket.storing
        if stored is None:
            return None
        name = stored_name(segment.number, stored.stored_by, extension_of(rendition))
        with contextlib.suppress(NotFoundError, FileChangedError):
            return client.read_whole(f"{self._key}/{rendition}/{name}", stored.size)
        return None

    def segment_stores(self) -> Mapping[str, SegmentStore]:
        """None: the windows are read."""
        return {}

    def next_event(self, next_number: int) -> BucketArchive:
        """Continue with the next event; stored segments of earlier ones aren't listed, and are removed."""
        self._ignored_before = next_number
        return self

    async def noted(self) -> Cadence | None:
        """Read the cadence of the stored segments; None if unknown."""
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                return await self._bucket.storing_threads.run(self._read_cadence)
        except OSError as error:
            self._health.failed(str(error) or "S3 doesn't answer in time")
            return None

    def _read_cadence(self) -> Cadence | None:
        try:
            _, data = self._bucket.storing.read_first(
                f"{self._key}/cadence", stored_cadence.MAX_CADENCE_BYTES
            )
        except NotFoundError:
            return None
        return stored_cadence.decode(data)

    async def load(self, cadence: Cadence, names: Iterable[str]) -> int:
        """Read what was stored before.

        Args:
            cadence: of the channel; segments of another cadence are left alone.

        Returns:
            The last number of any rendition; -1 without any.
        """
        names = list(names)
        self.begin(cadence, names)
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._load(cadence)
        except OSError as error:
            self._health.failed(str(error) or "S3 doesn't answer in time")
            self.begin(cadence, names)  # threads may still read for the former uploads
        except Exception:  # the live channel goes on without its DVR
            log.exception("a DVR in S3 can't be read", channel=self._channel)
            self.begin(cadence, names)
        return last_number(self._found)

    def begin(self, cadence: Cadence, names: Iterable[str]) -> None:
        """Store from now on without restoring earlier segments; their index is read later, to remove them.

        Args:
            cadence: as for ``load``, as are the names.
        """
        self._cadence, self._found = cadence, {}
        client, limits = self._bucket.storing, self._limits
        stored_by = 1 + secrets.randbelow(STORERS - 1)
        names = list(names)
        self._uploads = {
            name: _Upload(BucketFolder(client, f"{self._key}/{name}", stored_by, limits)) for name in names
        }
        past = {name: found for name in names if (found := self._past(name)) is not None}
        self._outlines = OutlineWriter(OutlineStore.in_bucket(client, self._key), past)

    async def _load(self, cadence: Cadence) -> None:
        threads, uploads, newest = self._bucket.storing_threads, self._uploads, self._newest(cadence)
        loads = (threads.run(one.folder.load, cadence, newest) for one in uploads.values())
        found = await asyncio.gather(*loads)
        encoded = stored_cadence.encode(cadence)
        await threads.run(self._bucket.storing.put, f"{self._key}/cadence", encoded, _CADENCE_TYPE)
        self._found = {
            name: StoredRendition(
                {n: line for n, line in one.lines.items() if n >= self._ignored_before}, one.timelines
            )
            for name, one in zip(uploads, found, strict=True)
        }
        for one in uploads.values():
            one.is_loaded = True

    def _newest(self, cadence: Cadence) -> NewestNumbers | None:
        """Return the segments that are listed; None where those are all that there are."""
        if not self.has_past:
            return None
        seconds = self._bounds.listed_seconds + LISTED_TARGET_DURATIONS * cadence.target_duration
        begin = self._wall_clock() - seconds - CLOCK_SECONDS
        first = max(math.floor(begin / cadence.segment_duration), 0)
        return NewestNumbers(first, math.ceil(seconds / cadence.segment_duration))

    def restore(
        self,
        writers: Mapping[str, RenditionWriter],
        next_number: int,
        segment_duration: Fraction,
        now: Fraction,
    ) -> None:
        """Restore the segments that ``load`` found into new windows, and store what these finish.

        Args:
            writers: by rendition.
            next_number: the number of the next segment.
            segment_duration: duration of a gap, in seconds.
            now: seconds since the epoch, before which the next segment doesn't begin.
        """
        try:
            segments, sequence = self._listable(writers, next_number, segment_duration, now)
        except Exception:  # the live channel goes on without its DVR
            log.exception("a DVR in S3 can't be listed", channel=self._channel)
            segments, sequence = {}, 0
        for name, restored in segments.items():
            writers[name].restore(restored, next_number, sequence)
        self.adopt(writers)

    def _listable(
        self,
        writers: Mapping[str, RenditionWriter],
        next_number: int,
        segment_duration: Fraction,
        now: Fraction,
    ) -> tuple[dict[str, list[LiveSegment]], int]:
        """Return what ``load`` found, as far as listed before the next number; see ``align_renditions``."""
        found, self._found = self._found, {}
        kept = max(writer.window.finished.kept for writer in writers.values())
        if not found or not within(found, next_number, segment_duration, kept):
            if is_recent(found, now, Fraction(self._bounds.seconds)):
                # The past goes on behind them, and those who look for it begin at what is listed.
                gaps = {
                    name: gaps_behind(one, next_number, segment_duration, now) for name, one in found.items()
                }
                segments = {name: listed for name, (listed, _) in gaps.items()}
                return segments, max(sequence for _, sequence in gaps.values())
            return {}, 0
        first = listable_range(found, next_number, segment_duration, kept).first
        if self.has_past:
            first = max(first, next_number - math.ceil(kept / segment_duration))
        listable = {
            name: StoredRendition({n: line for n, line in one.lines.items() if n >= first}, one.timelines)
            for name, one in found.items()
        }
        segments, sequence = align_renditions(listable, next_number, segment_duration, now)
        return {name: with_timeline(own, found[name].timeline) for name, own in segments.items()}, sequence

    def adopt(self, writers: Mapping[str, RenditionWriter], may_append: Callable[[], bool] = _always) -> None:
        """Store the segments that these writers finish, and those that they have finished and not stored.

        Args:
            writers: by rendition.
            may_append: returns whether the writers may append now; while they may not, nothing is stored.
        """
        self._may_append = may_append
        for name, upload in self._uploads.items():
            writer = upload.writer = writers[name]
            window = writer.window
            upload.next_number = window.finished.oldest_number
            upload.first_number = 0 if self._ignored_before else window.finished.oldest_number
            for segment in reversed(window.listed):
                if segment.stored is not None:
                    upload.next_number = segment.number + 1
                    break

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Store and remove while the context is open, and ``drain_seconds`` longer."""
        async with background_task(self.work()):
            try:
                yield
            finally:
                await self._wait_until_idle(self._limits.drain_seconds)

    async def settle(self) -> None:
        """Wait until all finished segments are in S3, for ``settle_seconds`` at most."""
        await self._wait_until_idle(self._limits.settle_seconds)

    async def _wait_until_idle(self, seconds: float) -> None:
        look_seconds = self._limits.bucket_look_seconds
        for _ in range(math.ceil(seconds / look_seconds)):
            if all(one.is_idle for one in self._uploads.values()):
                return
            await asyncio.sleep(look_seconds)

    async def work(self) -> None:
        """Store and remove until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_bounds())
            if self.has_past:
                group.create_task(self._remove_past())
                group.create_task(self._write_outlines())
            for upload in self._uploads.values():
                group.create_task(self._work(upload))

    async def _work(self, upload: _Upload) -> None:
        """Store and remove one rendition's segments for ever, in their order."""
        limits = self._limits
        while True:
            try:
                is_busy = await self._step(upload)
            except (OSError, NotFoundError) as error:
                self._health.failed(str(error))
                await asyncio.sleep(limits.retry_seconds)
                continue
            except Exception:  # the live channel goes on without this segment
                log.exception(
                    "a segment of a DVR can't be stored in S3",
                    channel=self._channel,
                    number=upload.next_number,
                )
                upload.next_number += upload.is_loaded
                await asyncio.sleep(limits.retry_seconds)
                continue
            if not is_busy:
                await asyncio.sleep(limits.bucket_look_seconds)

    async def _step(self, upload: _Upload) -> bool:
        """Load the index, or store or remove a segment; return whether there may be more to do."""
        threads, writer = self._bucket.storing_threads, upload.writer
        if writer is None or self._cadence is None or not self._may_append():
            return False
        if not upload.is_loaded:
            # The index has to be known before anything is removed.
            await threads.run(upload.folder.load, self._cadence, self._newest(self._cadence))
            upload.is_loaded = True
        window = writer.window
        has_more = False if self.has_past else await self._remove_some(upload, window)
        number = max(upload.next_number, window.finished.oldest_number)
        segment = window.at(number)
        if segment is None or upload.writer is not writer:
            return has_more
        if segment.stored is None:
            line = await threads.run(upload.folder.store, segment, _discontinuities_before(window, number))
            if upload.writer is not writer or not self._may_append():
                return False
            if line.parts and writer.confirm(number, stored_of(line)):
                self._health.succeeded()
        upload.next_number = number + 1
        return True

    async def _remove_some(self, upload: _Upload, window: Window) -> bool:
        """Remove some segments that have left the window; return whether there may be more.

        New segments are stored even if S3 refuses to remove: the credentials needn't allow that.
        """
        if time.monotonic() < upload.removes_from:
            return False
        end = self._wall_clock() - float(window.finished.retention)
        remove, threads = upload.folder.remove, self._bucket.storing_threads
        try:
            return await threads.run(remove, window.finished.oldest_number, upload.first_number, end)
        except OSError as error:
            self._health.failed(f"what is over can't be removed: {error}")
            upload.removes_from = time.monotonic() + self._limits.removal_retry_seconds
            return False

    async def _remove_past(self) -> None:
        """Remove what is older than the DVR, or more than its size, for ever."""
        limits = self._limits
        while True:
            is_busy = False
            uploads = [one for one in self._uploads.values() if one.is_loaded and one.writer is not None]
            if uploads and len(uploads) == len(self._uploads) and self._may_append():
                try:
                    is_busy = await self._bucket.storing_threads.run(self._remove_oldest, uploads)
                except (OSError, NotFoundError) as error:
                    self._health.failed(f"what is over can't be removed: {error}")
                    await asyncio.sleep(limits.removal_retry_seconds)
                except Exception:  # the live channel goes on with all that it has stored
                    log.exception("a DVR in S3 can't be shortened", channel=self._channel)
                    await asyncio.sleep(limits.removal_retry_seconds)
            if not is_busy:
                await asyncio.sleep(limits.bucket_look_seconds)

    async def _write_outlines(self) -> None:
        """Write the outlines of blocks that have none, one after the other, for ever."""
        limits = self._limits
        while True:
            await asyncio.sleep(limits.outline_seconds)
            uploads = list(self._uploads.values())
            if not (uploads and all(one.is_loaded for one in uploads) and self._may_append()):
                continue
            newest = min(one.folder.newest_piece for one in uploads)
            try:
                await self._bucket.storing_threads.run(self._outlines.write_next, newest)
            except (OSError, NotFoundError) as error:
                # The client of S3 logs why it can't be reached.
                log.debug("outlines can't be stored", channel=self._channel, reason=str(error))
                await asyncio.sleep(limits.removal_retry_seconds)
            except Exception:  # playlists of the past are made without them
                log.exception("outlines of a DVR can't be made", channel=self._channel)
                await asyncio.sleep(limits.removal_retry_seconds)

    def _remove_oldest(self, uploads: Sequence[_Upload]) -> bool:
        """Take the oldest piece off the index if it is over, and remove segments; return whether any was."""
        with self._removing:  # work that was cancelled may still be in its thread
            return self._remove_next(uploads)

    def _remove_next(self, uploads: Sequence[_Upload]) -> bool:
        removed = [one.folder.expiry.remove_expired() for one in uploads]
        over = 1000 * (self._wall_clock() - self._bounds.seconds)
        ends = [(end, one) for one in uploads if (end := one.folder.expiry.end_of_oldest()) is not None]
        end, upload = min(ends, key=lambda one: one[0], default=(0, uploads[0]))
        has_too_much = 0 < self._bounds.nbytes < sum(one.folder.kept_bytes for one in uploads)
        if not ends or not (end <= over or has_too_much) or not self._has_left(upload):
            return any(removed)
        upload.folder.expiry.expire()
        return True

    @staticmethod
    def _has_left(upload: _Upload) -> bool:
        """Return whether all of the oldest piece has left the playlist."""
        pieces, writer = upload.folder.expiry.oldest(), upload.writer
        return (
            writer is not None
            and len(pieces) > 1
            and pieces[1].number <= writer.window.finished.oldest_number
        )

    async def _keep_bounds(self) -> None:
        """Drop or retire segments beyond the limits of memory and of the list."""
        while True:
            if self._may_append():
                while (waiting := self.waiting) > self._limits.waiting_bytes and self._lose_newest():
                    self._health.lost(waiting)
                while self._lists_too_much() and retire_oldest(self._writers):
                    pass
            await asyncio.sleep(self._limits.bucket_look_seconds)

    @property
    def _writers(self) -> list[RenditionWriter]:
        return [one.writer for one in self._uploads.values() if one.writer is not None]

    def _lists_too_much(self) -> bool:
        listed = sum(one.window.finished.totals.size for one in self._writers)
        return 0 < self._bounds.nbytes < 2 * listed

    def _lose_newest(self) -> bool:
        """Replace the newest waiting segment by a gap; return False where none may be replaced.

        Older segments are behind the skip boundary, and never change any more (RFC 8216bis §6.2.5.1).
        """
        waiting = [
            (number, upload.writer)
            for upload in self._uploads.values()
            if upload.writer is not None
            for number in upload.writer.window.finished.waiting
            if number > upload.next_number
        ]
        if not waiting:
            return False
        number, writer = max(waiting, key=lambda one: one[0])
        writer.lose(number)
        return True


def _discontinuities_before(window: Window, number: int) -> int:
    """Count the discontinuities before a segment, those that have left the list too."""
    behind = itertools.takewhile(lambda one: one.number >= number, reversed(window.listed))
    listed = window.discontinuity_sequence + window.finished.totals.discontinuities
    return listed - sum(one.discontinuity for one in behind)

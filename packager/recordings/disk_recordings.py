"""A channel's recordings: lists, reads, creates and expires them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from media.errors import MediaError
from packager.concurrency import background_task
from packager.dvr.own_files import erase_in
from packager.library.local_storage import Library, LocalFile, NotFoundError
from packager.past.progressive_mp4 import (
    MovieLayout,
    ShownSpan,
    UniformStretch,
    lay_out,
    make_head,
    split,
)
from packager.past.segment_samples import Read
from packager.reader_guard import ReaderGuard
from packager.recordings import metadata as metadata_files
from packager.recordings.kept_recordings import (
    LAYOUTS,
    AnyRecording,
    KeptRecordings,
    RecordingReader,
    StretchMovie,
)
from packager.recordings.limits import DEFAULT_LIMITS, RecordingsLimits
from packager.recordings.metadata import EventEnd, RecordingMetadata, shown_part
from packager.recordings.recording_writer import DRAFT, METADATA, head_name, seal
from packager.safe_files import DataFolder, NotOursError, OpenFolder
from packager.threads import SHARED_THREADS
from packager.window.model import LiveSegment
from packager.window.rendition import segment_uri

log = structlog.get_logger()

RETENTION_LOOK_SECONDS = 30.0
"""Seconds between two searches for recordings that have become too old."""

MAX_REMOVED_FOLDERS = 16
"""Most folders of one name that are set aside for their unknown files."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long recordings are kept.

    Attributes:
        seconds: after their end; 0: for ever.
        size: most bytes of all, the oldest are removed first; 0: no limit.
    """

    seconds: float = 0.0
    size: int = 0


FOR_EVER = Retention()


class Sized(Protocol):
    """A recording as its retention sees it."""

    @property
    def metadata(self) -> RecordingMetadata:
        """Its metadata, with whether it is ever removed by itself."""

    @property
    def size(self) -> int:
        """Bytes of its files."""

    @property
    def ended(self) -> float:
        """The date of its end, in seconds since the epoch."""


S = TypeVar("S", bound=Sized)


def expired(latest_first: Iterable[S], retention: Retention, now: float) -> list[S]:
    """Return the recordings that are too old or exceed the size, but never the latest.

    Args:
        latest_first: the recordings of a channel in order.
        now: seconds since the epoch.
    """
    kept, found = 0, []
    for index, one in enumerate(latest_first):
        kept += one.size
        old = 0 < retention.seconds < now - one.ended
        too_much = 0 < retention.size < kept and index > 0
        if (old or too_much) and not one.metadata.pinned:
            kept -= one.size
            found.append(one)
    return found


def excess_of(recordings: Iterable[Sized], retention: Retention) -> int:
    """Return the bytes that recordings which are never removed by themselves have above the most of all."""
    pinned = sum(one.size for one in recordings if one.metadata.pinned)
    return max(pinned - retention.size, 0) if retention.size else 0


class Recording(AnyRecording):
    """A recorded event.

    Args:
        size: bytes of its files, where they were counted; else the metadata have them.
        limits: how much of a file is read at once.
    """

    threads = SHARED_THREADS
    path: Path

    def __init__(
        self,
        metadata: RecordingMetadata,
        place: Path | DataFolder,
        size: int | None = None,
        limits: RecordingsLimits = DEFAULT_LIMITS,
    ) -> None:
        self._limits = limits
        self._place = DataFolder.at(place)
        path = Path(str(self._place))
        obstacle = "" if metadata.video or metadata.audio else "it has neither picture nor sound"
        super().__init__(metadata, path, size, obstacle)
        self._library = Library(path)
        self._holders = 0
        self._readers: dict[RecordingReader, None] = {}

    @property
    def is_held(self) -> bool:
        """Whether this program works on the recording."""
        return self._holders > 0

    @property
    def is_read(self) -> bool:
        """Whether a request reads the recording that isn't too slow to keep the files."""
        now = time.monotonic()
        return any(reader.may_go_on(now, self._limits) for reader in self._readers)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the recording's files for this program's own work while the context is open."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1

    @contextlib.contextmanager
    def reading(self) -> Iterator[RecordingReader]:
        """Keep its files for a request; see `AnyRecording`."""
        reader = RecordingReader()
        self._readers[reader] = None
        try:
            yield reader
        finally:
            del self._readers[reader]

    def open(self, name: str) -> LocalFile:
        """Open one of its files; see `AnyRecording`."""
        return self._library.open(name)

    def movie(self, stretch: int = 0) -> tuple[LocalFile, MovieLayout]:
        """Open the head of an MP4; see `AnyRecording`."""
        known = not self.obstacle or any(one.number == stretch for one in self.stretches)
        found = LAYOUTS.get(self, self._lay_out).get(stretch) if known else None
        if found is None:
            raise NotFoundError(self.obstacle)
        return self.open(head_name(stretch)), found

    @property
    def _shown(self) -> ShownSpan | None:
        """The dates between which the MP4 shows it; None: all is shown."""
        shown = self.metadata.shown
        return None if shown is None else ShownSpan(*(Fraction(one, 1000) for one in shown))

    def _lay_out(self) -> Mapping[int, MovieLayout]:
        """Lay out the MP4, or those of the stretches where the whole can't be one, and make missing heads."""
        found: dict[int, MovieLayout] = {}
        try:
            with self._place.open() as folder, ReaderGuard(self.path):
                first, *others = split(self.movie_segments())
                if not others:
                    return {0: _movie_layout(folder, 0, first, self._shown)}
                stretches = dict(enumerate([first, *others], 1))
                for number, one in stretches.items():
                    # A damaged stretch doesn't take the others with it.
                    with contextlib.suppress(MediaError), ReaderGuard(self.path):
                        found[number] = _movie_layout(folder, number, one, self._shown)
            self.stretches = tuple(self._stretch_movie(number, stretches[number]) for number in found)
            obstacle = others[0].change
        except (MediaError, NotFoundError) as error:
            obstacle = str(error)
        if not self.obstacle:
            log.warning(
                "a recording can't be offered as MP4",
                recording=str(self.path),
                reason=obstacle,
                stretches=len(self.stretches),
            )
        self.obstacle = obstacle
        return found

    def _stretch_movie(self, number: int, stretch: UniformStretch) -> StretchMovie:
        bounds = float(stretch.start), float(stretch.end), stretch.duration
        return StretchMovie(number, *shown_part(*bounds, self.metadata.shown))


def _movie_layout(
    folder: OpenFolder, number: int, stretch: UniformStretch, shown: ShownSpan | None
) -> MovieLayout:
    """Make the head of a stretch's MP4, unless it is there already, and arrange the files behind it."""
    name = head_name(number)
    if folder.status(name) is None:
        with contextlib.ExitStack() as stack:
            folders = {name: stack.enter_context(folder.folder(name)) for name in stretch.listed}
            head = make_head(stretch.listed, functools.partial(_open_segment, folders), shown)
        folder.write_whole(name, head)
    return lay_out(stretch.listed)


@contextlib.contextmanager
def _open_segment(folders: Mapping[str, OpenFolder], rendition: str, segment: LiveSegment) -> Iterator[Read]:
    """Open the file of a segment for reading."""
    descriptor = folders[rendition].open_file(segment_uri(segment.number))
    try:
        yield lambda at, length: os.pread(descriptor, length, at)
    finally:
        os.close(descriptor)


class Recordings(KeptRecordings[Recording]):
    """The recordings of one channel.

    Args:
        retention: how long they are kept.
        limits: how often they are checked, and how much of each is read.

    Attributes:
        on_ready: called with each recording that has been made.
    """

    def __init__(
        self,
        place: Path | DataFolder,
        channel: str,
        retention: Retention,
        limits: RecordingsLimits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__()
        self._limits = limits
        self.place = DataFolder.at(place)
        self._channel = channel
        self._retention = retention
        self._to_remove: list[Recording] = []
        self._refused: set[str] = set()
        self.on_ready: Callable[[Recording], None] = lambda _: None

    async def load(self) -> None:
        """Find the recordings of earlier processes, and remove unfinished ones."""
        try:
            found = await SHARED_THREADS.run(self._load)
        except OSError as error:
            log.warning("recordings can't be read", channel=self._channel, reason=str(error))
        else:
            self._known = {one.metadata.id: one for one in found}

    def _load(self) -> list[Recording]:
        found, unknown = [], 0
        try:
            folder = self.place.open()
        except FileNotFoundError:
            return []
        with folder:
            for name in [one.name for one in folder.entries() if one.is_dir(follow_symlinks=False)]:
                if DRAFT.fullmatch(name):
                    unknown += not erase_in(folder, name)  # half made, or half removed
                elif metadata_files.ID.fullmatch(name):
                    recording = self._read(folder, name)
                    unknown += recording is None
                    found += [] if recording is None else [recording]
            if found:
                folder.make_private()
        for one in found:
            # Without a head there was an obstacle, unless the earlier process ended before it had tried.
            if not (one.path / head_name()).exists():
                with contextlib.suppress(NotFoundError, OSError):
                    one.movie()[0].close()
        if unknown:
            log.warning(
                "folders that aren't recordings stay",
                channel=self._channel,
                folder=str(self.place),
                count=unknown,
            )
        return found

    def _read(self, folder: OpenFolder, name: str) -> Recording | None:
        try:
            with folder.folder(name) as inner:
                metadata = metadata_files.decode_metadata(inner.read(METADATA, self._limits.metadata_bytes))
                if metadata is None or metadata.id != name:
                    return None
                # The size decides what is removed, so the metadata's own word isn't enough.
                size = _size_of(inner, metadata.renditions) if self._retention.size else None
        except (NotOursError, FileNotFoundError):
            return None
        return Recording(metadata, self.place / name, size, self._limits)

    async def seal(self, dvr: Path | DataFolder, ending: EventEnd) -> bool:
        """Make a recording of a DVR, then the head of its MP4; False where there is nothing to record.

        Raises:
            OSError: it can't be made.
        """
        known = [one.metadata for one in self._known.values()]
        metadata = await SHARED_THREADS.run(seal, DataFolder.at(dvr), self.place, ending, known)
        if metadata is None:
            return False
        await self.add(metadata)
        return True

    @property
    def excess(self) -> int:
        """Bytes that recordings which are never removed by themselves have above the most of all."""
        return excess_of(self._known.values(), self._retention)

    async def remove(self, name: str) -> bool:
        """Remove a recording for the administrator; return False where there is none of the name.

        A client that downloads the recording has some time for the rest.
        """
        recording = self._known.pop(name, None)
        if recording is None:
            return False
        self._to_remove.append(recording)
        await self.expire(time.time())
        return True

    async def add(self, metadata: RecordingMetadata) -> None:
        """List a recording that was made, and make the head of its MP4."""
        recording = self._known.get(metadata.id)
        if is_new := recording is None:
            recording = self._known[metadata.id] = Recording(
                metadata, self.place / metadata.id, limits=self._limits
            )
            log.info(
                "event recorded",
                channel=self._channel,
                recording=metadata.id,
                seconds=round(metadata.shown_duration, 1),
            )
        with recording.held(), contextlib.suppress(NotFoundError):
            await self.expire(time.time())
            try:
                head, _ = await SHARED_THREADS.run(recording.movie)
            except OSError as error:
                # The next request for the MP4 tries again.
                reason = error.strerror or str(error)
                log.warning(
                    "head of a recording's MP4 can't be made",
                    channel=self._channel,
                    recording=metadata.id,
                    reason=reason,
                )
            else:
                head.close()
        if is_new and metadata.id in self._known:
            self.on_ready(recording)

    async def expire(self, now: float) -> None:
        """Remove recordings that are too old or exceed the size, except the latest and those being read.

        Those that are only kept for their readers have at most the size once more.

        Args:
            now: seconds since the epoch.
        """
        for recording in expired(self, self._retention, now):
            del self._known[recording.metadata.id]
            self._to_remove.append(recording)
        refused = []
        while (free := self._next_to_remove()) is not None:
            self._to_remove.remove(free)
            if not await self._remove(free.metadata.id):
                refused.append(free)
        self._to_remove += refused

    def _next_to_remove(self) -> Recording | None:
        """Return a recording that goes now: one without readers, or the first if all are too large."""
        waiting = [one for one in self._to_remove if not one.is_held]
        is_too_much = 0 < self._retention.size < sum(one.size for one in waiting)
        return next((one for one in waiting if is_too_much or not one.is_read), None)

    async def _remove(self, name: str) -> bool:
        """Remove a recording that isn't known any more; False where that is to be tried again."""
        try:
            whole = await SHARED_THREADS.run(_remove, self.place, name, MAX_REMOVED_FOLDERS)
        except FileNotFoundError:
            pass  # somebody else has removed it, or the next start removes what an earlier attempt has left
        except OSError as error:
            if name not in self._refused:
                log.warning("recording can't be removed", channel=self._channel, reason=str(error))
            self._refused.add(name)
            return False
        else:
            log.info("recording removed", channel=self._channel, recording=name, whole=whole)
        self._refused.discard(name)
        return True

    async def _keep(self) -> None:
        while True:
            await self.expire(time.time())
            await asyncio.sleep(RETENTION_LOOK_SECONDS)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Enforce the retention while the context is open."""
        async with background_task(self._keep()):
            yield


def _remove(place: DataFolder, name: str, most: int) -> bool:
    """Remove a recording's files; return whether nothing else was in its folder."""
    with place.open() as folder:
        removed_name = folder.free_name(f".{name}", most)
        folder.move(name, folder, removed_name)
        return erase_in(folder, removed_name)


def _size_of(folder: OpenFolder, renditions: Sequence[str]) -> int:
    size = 0
    for name in renditions:
        with contextlib.suppress(NotOursError, FileNotFoundError), folder.folder(name) as inner:
            size += sum(
                one.stat(follow_symlinks=False).st_size
                for one in inner.entries()
                if one.is_file(follow_symlinks=False)
            )
    return size

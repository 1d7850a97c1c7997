"""Live segments that have left memory: the same answers as before, from their files or from S3."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import structlog

from origin.answers.byte_sources import ThreadSource
from origin.answers.movie_source import MemoryFile, OpenFile, ReadableFile
from origin.answers.pieces import TruncatedFileError
from origin.answers.refusals import READING_RETRY_SECONDS, refusal
from origin.answers.reply import Reply
from origin.answers.representation_replies import RepresentationReplies, with_first_bytes
from origin.answers.request import Request
from origin.answers.single_flight import SingleFlight
from origin.http.client_limits import network_of
from origin.http.representation import RepresentationMetadata
from packager.bounded_dict import BoundedDict
from packager.library.local_storage import LocalFile, NotFoundError
from packager.past.past_segments import PastSegments, oldest_of
from packager.past.progressive_mp4 import MoviePiece
from packager.past.segment_samples import Read
from packager.past.stored_ranges import StoredRanges
from packager.publish.live_stream import LiveStream
from packager.threads import SHARED_THREADS
from packager.transient_errors import LACKING
from packager.window.cadence import Cadence
from packager.window.model import LiveSegment, StoredSegment
from packager.window.rendition import Rendition, variant_renditions

if TYPE_CHECKING:
    from packager.dvr.bucket.dvr_bucket import DvrBucket
    from packager.dvr.date_ranges.date_range_objects import DateRangeObjects
    from packager.library.storage_interface import LibraryFile
    from packager.threads import Threads

T = TypeVar("T")

log = structlog.get_logger()

NO_PAST: Mapping[str, PastSegments] = {}
"""Of channels whose segments are gone once they have left the playlists."""

MOST_READ_FOLDERS = 256
"""Most renditions of whose past something may be in memory."""

MOST_READ_CHANNELS = 16
"""Most channels of whose date ranges something is in memory."""

OLDEST_DATE_SECONDS = 5.0
"""For how long the date of the oldest segment on disk stays in memory."""

S3_SCHEME = "s3://"
"""The prefix of a segment's place in S3."""


def media_tag(name: str, size: int) -> str:
    """Return the entity-tag of a segment or a part.

    Args:
        name: the last part of its address.
        size: its length in bytes.
    """
    # One number always means the same bytes, so the name is as strong as a hash.
    return f'"{name}-{size:x}"'


class StoredFile(NamedTuple):
    """An open file with media of a live channel.

    Attributes:
        name: the last part of its address.
    """

    file: LibraryFile
    name: str
    media_type: str
    caching: str


async def stored_reply(request: Request, stored: StoredFile, release: Callable[[], None]) -> Reply:
    """Return the reply with media from a file, with the validators that they had in memory.

    Args:
        release: called at the end of the reply.
    """
    file = stored.file
    metadata = RepresentationMetadata(file.size, stored.media_type, media_tag(stored.name, file.size))
    headers = ((b"cache-control", stored.caching.encode("latin-1")),)
    threads = file.threads.of(network_of(request.client))
    source = ThreadSource(file.pread, release, threads, file.descriptor())
    try:
        return await with_first_bytes(
            RepresentationReplies(metadata, headers, time.time()).reply(request, source)
        )
    except OSError as error:
        log.warning("a stored segment can't be read", name=stored.name, reason=str(error))
        return refusal(request, 503, 0, retry_after=READING_RETRY_SECONDS)


def unreadable(request: Request, channel: str, error: OSError) -> Reply:
    """Refuse a request for what is in S3, which can't be reached now."""
    # RFC 9110 §15.6.4: what is there isn't unknown because it can't be read now.
    log.debug("the past can't be read", channel=channel, reason=str(error))
    return refusal(request, 503, 0, retry_after=READING_RETRY_SECONDS)


class _OldestDate(NamedTuple):
    """The date of a channel's oldest segment on disk, and when it was read, by a clock that only rises."""

    read: float
    date: Fraction | None


class StoredSegments:
    """Reads live segments that have left memory, from this machine's disk or from S3.

    Args:
        bucket: the place in S3 that is read; None: none is.
        find_past: returns what finds the past of a rendition, by its folder on disk.
        find_ranges: returns the date ranges of a channel, by the folder of its DVR on disk.
    """

    def __init__(
        self,
        bucket: DvrBucket | None = None,
        find_past: Callable[[Path], PastSegments] | None = None,
        find_ranges: Callable[[Path], DateRangeObjects] | None = None,
    ) -> None:
        self._bucket = bucket
        self._find_past = find_past
        self._find_ranges = find_ranges
        self._past = BoundedDict[str, PastSegments](MOST_READ_FOLDERS)
        self._date_ranges: BoundedDict[Path, DateRangeObjects] = BoundedDict(MOST_READ_CHANNELS)

    async def date_ranges(self, folder: str, begin: Fraction, end: Fraction, network: str) -> StoredRanges:
        """Return the date ranges of a span of a channel that are kept beside its DVR.

        Args:
            folder: of any of its renditions, on disk or in S3.
            begin: seconds since the epoch.
            end: seconds since the epoch.
            network: the client's, which takes turns with others.

        Raises:
            OSError: S3 can't be reached now.
        """
        if folder.startswith(S3_SCHEME):
            found, threads = None if self._bucket is None else self._bucket.date_ranges(folder), self.threads
        else:
            found, threads = self._ranges_on_disk(Path(folder).parent), SHARED_THREADS
        return StoredRanges() if found is None else await threads.of(network).run(found.within, begin, end)

    def _ranges_on_disk(self, dvr: Path) -> DateRangeObjects | None:
        found = self._date_ranges.use(dvr)
        if found is None and self._find_ranges is not None:
            found = self._date_ranges[dvr] = self._find_ranges(dvr)
        return found

    def past(self, folder: str, cadence: Cadence) -> PastSegments | None:
        """Return what finds the segments of a rendition that have left its playlist; in the event loop.

        Args:
            folder: on disk, or in S3.
            cadence: the channel's, which its other segments have.
        """
        if folder.startswith(S3_SCHEME):
            return None if self._bucket is None else self._bucket.past(folder, cadence)
        if self._find_past is None:
            return None
        found = self._past.use(folder)
        if found is None:
            found = self._past[folder] = self._find_past(Path(folder))
        return found

    async def reply(
        self, request: Request, stored: tuple[str, StoredSegment], name: str, media_type: str, caching: str
    ) -> Reply | None:
        """Return the reply with a segment, with the validators that it had in memory.

        Args:
            stored: the path of the file, and the segment that it holds.
            name: the last part of its address.

        Returns:
            None where the segment isn't what it was.

        Raises:
            OSError: the system has no descriptor for it now, or S3 can't be reached.
        """
        file = await self._run(network_of(request.client), self.open, stored)
        if file is None:
            return None
        return await stored_reply(request, StoredFile(file, name, media_type, caching), file.close)

    async def read_part(self, stored: tuple[str, StoredSegment], index: int, network: str) -> bytes | None:
        """Read a part out of its segment for a client's network; None where there is no such part."""
        if index >= len(stored[1].part_sizes):
            return None
        return await self._run(network, self._read, stored, index)

    async def read_whole(self, stored: tuple[str, StoredSegment], network: str) -> bytes | None:
        """Read a segment for a client's network; None where it isn't what it was."""
        return await self._run(network, self._read, stored, None)

    async def _run(
        self, network: str, read: Callable[..., T], stored: tuple[str, StoredSegment], *rest: int | None
    ) -> T:
        """Call what blocks in a thread."""
        if self._bucket is not None and stored[0].startswith(S3_SCHEME):
            return await self._bucket.threads.of(network).run(read, *stored, *rest)
        return await SHARED_THREADS.of(network).run(read, *stored, *rest)

    @property
    def threads(self) -> Threads:
        """The threads in which segments are opened and read."""
        return LocalFile.threads if self._bucket is None else self._bucket.threads

    @property
    def has_bucket(self) -> bool:
        """Whether segments may be in S3."""
        return self._bucket is not None

    @staticmethod
    def is_there(path: str) -> bool:
        """Return whether a listed segment is still at its place; those in S3 don't move. Blocks."""
        return path.startswith(S3_SCHEME) or Path(path).exists()

    def open(self, path: str, stored: StoredSegment) -> LibraryFile | None:
        """Open a stored segment; return None where it isn't what it was. Blocks.

        Raises:
            OSError: the system has no descriptor for it now, or S3 can't be reached.
        """
        file = self._open_object(path) if path.startswith(S3_SCHEME) else _open_file(path)
        if file is not None and file.size != stored.size:
            log.warning("DVR segment isn't what it was", path=path, size=file.size, expected=stored.size)
            file.close()
            return None
        return file

    def _open_object(self, path: str) -> LibraryFile | None:
        if self._bucket is None:
            raise OSError(errno.EAGAIN, "this server isn't told of a DVR in S3: server.dvr_path", path)
        try:
            return self._bucket.open_segment(path)
        except NotFoundError:
            log.warning("DVR segment isn't there", path=path, place=self._bucket.address)
            return None

    def _read(self, path: str, stored: StoredSegment, index: int | None) -> bytes | None:
        """Read one part, or all of them."""
        if (file := self.open(path, stored)) is None:
            return None
        begin = 0 if index is None else sum(stored.part_sizes[:index])
        length = stored.size if index is None else stored.part_sizes[index]
        with file:
            data = file.pread(begin, length)
        return data if len(data) == length else None


def _open_file(path: str) -> LocalFile | None:
    try:
        # O_NONBLOCK: whatever lies there now, nobody waits for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in LACKING:
            raise
        log.warning("DVR segment can't be opened", path=path, reason=error.strerror)
        return None
    status = os.fstat(descriptor)
    file = LocalFile(descriptor, path, status)
    if not stat.S_ISREG(status.st_mode):
        log.warning("DVR segment isn't a file", path=path)
        file.close()
        return None
    return file


def past_of(stream: LiveStream, renditions: Iterable[str], stored: StoredSegments) -> dict[str, PastSegments]:
    """Return what finds the past of renditions, by name; nothing where the channel keeps none."""
    entry = stream.begun_with
    if entry is None or not entry.has_past:
        return {}
    folders = {one.name: one.folder for one in entry.renditions if one.folder is not None}
    found = {name: stored.past(folders[name], entry.cadence) for name in renditions if name in folders}
    return {name: one for name, one in found.items() if one is not None}


async def ranges_of(
    stream: LiveStream, begin: Fraction, end: Fraction, stored: StoredSegments, network: str
) -> StoredRanges:
    """Return the date ranges of a span that are kept beside a DVR; none where the channel keeps no past.

    Args:
        begin: seconds since the epoch.
        end: seconds since the epoch.
        network: the client's, which takes turns with others.

    Raises:
        OSError: S3 can't be reached now.
    """
    entry = stream.begun_with
    if entry is None or not entry.has_past:
        return StoredRanges()
    folder = next((one.folder for one in entry.renditions if one.folder is not None), None)
    return StoredRanges() if folder is None else await stored.date_ranges(folder, begin, end, network)


class OldestDates:
    """The dates from which on channels can be played, also of what has left their playlists.

    Disks are read in threads, for each channel once in ``OLDEST_DATE_SECONDS`` at most.

    Args:
        stored: finds segments that have left the playlists.
    """

    def __init__(self, stored: StoredSegments) -> None:
        self._stored = stored
        self._known: dict[str, _OldestDate] = {}
        self._read = SingleFlight[str, Fraction | None]()

    def surely_has(self, stream: LiveStream, segment: LiveSegment) -> bool:
        """Return whether a segment is known to be on disk, without reading anything for that."""
        known = self._known.get(stream.name)
        if known is None or known.date is None or time.monotonic() - known.read >= OLDEST_DATE_SECONDS:
            return False
        return known.date <= segment.program_date_time

    async def of(self, stream: LiveStream) -> float | None:
        """Return the date of the oldest segment in seconds since the epoch; None without any."""
        if not stream.renditions:
            return None
        leading = variant_renditions(stream.renditions.values())
        listed = next((one.window.listed for one in leading if one.window.listed), None)
        dates = [] if listed is None else [float(listed[0].program_date_time)]
        past = past_of(stream, [one.name for one in leading], self._stored)
        known, now = self._known.get(stream.name), time.monotonic()
        if past and (known is None or now - known.read >= OLDEST_DATE_SECONDS):
            threads = next(iter(past.values())).threads
            # While S3 is away, what was known stays.
            with contextlib.suppress(OSError):
                date = await self._read.do(stream.name, lambda: threads.run(oldest_of, past.values()))
                known = _OldestDate(now, date)
                self._known[stream.name] = known
        if past and known is not None and known.date is not None:
            dates.append(float(known.date))
        return min(dates, default=None)


class SegmentFiles:
    """Opens the segments of a span, in memory and where they are stored.

    Args:
        renditions: by name.
        stored: opens those that have left memory.
        past: finds those that have left the playlists, by rendition.
    """

    def __init__(
        self,
        renditions: Mapping[str, Rendition],
        stored: StoredSegments,
        past: Mapping[str, PastSegments] = NO_PAST,
    ) -> None:
        self._renditions = renditions
        self._stored = stored
        self._past_segments = past

    @contextlib.contextmanager
    def reading(self, rendition: str, segment: LiveSegment) -> Iterator[Read]:
        """Open a segment for reading. Blocks."""
        file = self._opener(rendition, segment)()
        try:
            yield file.pread
        finally:
            file.close()

    def locate(self, piece: MoviePiece) -> OpenFile:
        """Find a segment of a movie, in the event loop."""
        segment = self._renditions[piece.rendition].window.at(piece.number)
        if segment is None and piece.rendition in self._past_segments:
            return functools.partial(self._open_past, piece.rendition, piece.number)
        if segment is None:
            raise TruncatedFileError(f"segment {piece.number} of {piece.rendition} was removed")
        return self._opener(piece.rendition, segment)

    def _opener(self, rendition: str, segment: LiveSegment) -> OpenFile:
        if segment.data:
            return functools.partial(MemoryFile, segment.data)
        place = self._renditions[rendition].window.place(segment)

        def open_file() -> ReadableFile:
            has_past = rendition in self._past_segments
            if place is not None and has_past and not self._stored.is_there(place[0]):
                return self._open_past(rendition, segment.number)
            file = None if place is None else self._stored.open(*place)
            if file is None:
                raise NotFoundError(f"segment {segment.number} of {rendition}")
            return file

        return open_file

    def _open_past(self, rendition: str, number: int) -> ReadableFile:
        """Open a segment that has left the playlist. Blocks."""
        past = self._past_segments[rendition]
        found = past.find(number)
        if found is not None and found.stored is not None:
            file = self._stored.open(past.place_of(found), found.stored)
            if file is not None:
                return file
        raise NotFoundError(f"segment {number} of {rendition}")

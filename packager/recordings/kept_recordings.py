"""A channel's recordings wherever they are: those on this machine's disk come before their copies in S3."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

from packager.dvr import index
from packager.dvr.index import IndexLine
from packager.dvr.init_files import parse_init
from packager.dvr.limits import DEFAULT_LIMITS as DVR_LIMITS
from packager.dvr.own_files import MAX_INIT_BYTES
from packager.dvr.restore_plan import StoredRendition
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import LibraryFile
from packager.past.progressive_mp4 import MovieLayout
from packager.recordings.limits import RecordingsLimits
from packager.recordings.metadata import RecordingMetadata
from packager.recordings.recording_writer import listed
from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.threads import Threads
from packager.window.model import LiveSegment

LAYOUTS_KEPT = CacheLimits(items=1 << 10, nbytes=32 << 20)
"""The layouts of MP4s that stay in memory; a day of picture and sound has 1.5 MB."""

LAYOUTS = SingleFlightCache[object, Mapping[int, MovieLayout]](
    LAYOUTS_KEPT, lambda made: sum(one.nbytes for one in made.values())
)
"""By recording, wherever it is: the layouts of the MP4s of its stretches, or that of the whole as 0."""


class RecordingReader:
    """A request that reads the files of a recording one by one.

    Attributes:
        begun: when it began, by the monotonic clock.
        taken: bytes that it has taken so far.
    """

    __slots__ = ("begun", "taken")

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.taken = 0

    def note(self, count: int) -> None:
        """Note that the request has taken so many bytes more."""
        self.taken += count

    def may_go_on(self, now: float, limits: RecordingsLimits) -> bool:
        """Return whether the request is quick enough to keep a recording that is to be removed."""
        seconds = now - self.begun
        is_quick = self.taken >= limits.reader_rate * seconds
        return seconds <= limits.reader_grace_seconds or (is_quick and seconds <= limits.reader_seconds)


@dataclass(frozen=True, slots=True)
class StretchMovie:
    """The MP4 of a stretch of a recording, where the whole can't be one.

    Attributes:
        number: of the stretch, from 1 on.
        start: date of the first picture that the MP4 shows, in seconds since the epoch.
        duration: seconds of playback.
    """

    number: int
    start: float
    duration: float


class AnyRecording(ABC):
    """A recorded event, on disk or in S3.

    Args:
        path: the place of the recording, for logs.
        size: bytes of its files, where they were counted; else the metadata have them.
        obstacle: why it has no MP4, as far as is known.

    Attributes:
        size: bytes of its files.
        ended: seconds since the epoch.
        obstacle: why the recording as a whole has no MP4; empty where it has one.
        stretches: the MP4s of its stretches, in order, where there is none of the whole.
        threads: the threads in which to open its files.
        most_inits: most init segments that a rendition of a recording with an MP4 has.
    """

    threads: Threads
    most_inits = 4096

    def __init__(
        self, metadata: RecordingMetadata, path: Path | str, size: int | None, obstacle: str
    ) -> None:
        self.metadata = metadata
        self.path = path
        self.size = metadata.size if size is None else size
        self.ended = max(metadata.end, metadata.start + metadata.duration)
        self.obstacle = obstacle
        self.stretches: tuple[StretchMovie, ...] = ()

    @abstractmethod
    def reading(self) -> AbstractContextManager[RecordingReader]:
        """Keep its files for a request while the context is open, unless it is too slow.

        A single file needs nobody to keep it: what is open can be read to its end after its removal.
        """

    @abstractmethod
    def open(self, name: str) -> LibraryFile:
        """Open one of its files. Blocks.

        Raises:
            NotFoundError: there is no such file.
            OSError: it can't be opened now.
        """

    @abstractmethod
    def movie(self, stretch: int = 0) -> tuple[LibraryFile, MovieLayout]:
        """Open the head of an MP4, and return it with the layout of the files behind. Blocks, long at first.

        Args:
            stretch: number of the stretch whose MP4 it is; 0: that of the whole.

        Raises:
            NotFoundError: there is no such MP4; for the whole, ``obstacle`` says why.
            OSError: a file can't be read.
        """

    def movie_segments(self) -> dict[str, list[LiveSegment]]:
        """Read the segments of its MP4 from its indexes. Blocks, and raises as ``open``."""
        names = [one for one in (self.metadata.video, self.metadata.audio) if one is not None]
        return listed({name: self._stored(name) for name in names}, Fraction(1))

    def _stored(self, rendition: str) -> StoredRendition:
        """Read the index of a rendition, and the init segments that it names."""
        lines, timelines = self.lines(rendition), {}
        numbers = {one.init for one in lines.values() if one.init is not None}
        if len(numbers) > self.most_inits:
            raise NotFoundError(str(self.path))
        for number in numbers:
            timeline = parse_init(number, self._read(f"{rendition}/init-{number}.mp4", MAX_INIT_BYTES))
            if timeline is not None:
                timelines[number] = timeline
        return StoredRendition(lines, timelines)

    def lines(self, rendition: str) -> dict[int, IndexLine]:
        """Read the index of a rendition. Blocks, and raises as ``open``."""
        return index.decode(self._read(f"{rendition}/{index.INDEX}", DVR_LIMITS.index_bytes))[0]

    def _read(self, name: str, limit: int) -> bytes:
        with self.open(name) as file:
            if file.size > limit:
                raise NotFoundError(name)
            return file.pread(0, file.size)


def _age(recording: AnyRecording) -> tuple[float, int, str]:
    return recording.metadata.age


R_co = TypeVar("R_co", bound=AnyRecording, covariant=True)


class KeptRecordings(Generic[R_co]):
    """The recordings of one channel in one place."""

    def __init__(self) -> None:
        self._known: dict[str, R_co] = {}

    @property
    def known(self) -> Mapping[str, R_co]:
        """The recordings by their names."""
        return self._known

    @property
    def metadata(self) -> list[RecordingMetadata]:
        """The metadata of all recordings."""
        return [one.metadata for one in self.known.values()]

    def __iter__(self) -> Iterator[R_co]:
        """Iterate over them, the latest first."""
        return iter(sorted(self.known.values(), key=_age))

    def get(self, name: str) -> R_co | None:
        """Find a recording by its name."""
        return self.known.get(name)

    def having(self, number: int) -> R_co | None:
        """Find the recording that has a segment, so that its live address remains valid."""
        found = (one for one in self.known.values() if one.metadata.first <= number <= one.metadata.last)
        return next(found, None)

    def of_programme(self, name: str) -> R_co | None:
        """Find the recording of a programme."""
        return next((one for one in self.known.values() if one.metadata.programme == name), None)

    def of_span(self, name: str) -> R_co | None:
        """Find the recording of a span that was to be kept."""
        return next((one for one in self.known.values() if one.metadata.span == name), None)


class AllRecordings(KeptRecordings[AnyRecording]):
    """The recordings of one channel in several places.

    Args:
        places: the one that is asked first comes first.
    """

    def __init__(self, *places: KeptRecordings[AnyRecording]) -> None:
        super().__init__()
        self._places = places

    @property
    def known(self) -> Mapping[str, AnyRecording]:
        """The recordings by their names, those of the first place first."""
        found: dict[str, AnyRecording] = {}
        for name, one in chain.from_iterable(place.known.items() for place in self._places):
            found.setdefault(name, one)
        return found

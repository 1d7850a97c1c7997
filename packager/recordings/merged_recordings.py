"""A channel's recordings wherever they are: those on this machine's disk come before their copies in S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from packager.library.storage_interface import LibraryFile
from packager.past.progressive_mp4 import MovieLayout
from packager.recordings.disk_recordings import RecordingReader, StretchMovie
from packager.recordings.metadata import RecordingMetadata
from packager.threads import Threads


class AnyRecording(Protocol):
    """A recorded event, on disk or in S3."""

    metadata: RecordingMetadata

    @property
    def path(self) -> Path | str:
        """The place of the recording, for logs."""

    @property
    def obstacle(self) -> str:
        """Why the recording as a whole has no MP4; empty where it has one."""

    @property
    def stretches(self) -> tuple[StretchMovie, ...]:
        """The MP4s of its stretches, where there is none of the whole."""

    @property
    def threads(self) -> Threads:
        """The threads in which to open its files."""

    def reading(self) -> AbstractContextManager[RecordingReader]:
        """Keep its files for a request while the context is open, unless it is too slow."""

    def open(self, name: str) -> LibraryFile:
        """Open one of its files; blocks."""

    def movie(self, stretch: int = 0) -> tuple[LibraryFile, MovieLayout]:
        """Open the head of the MP4 of the whole or of a stretch; return it with the files behind; blocks."""


class KeptRecordings(Protocol):
    """The recordings of one channel in one place."""

    def __iter__(self) -> Iterator[AnyRecording]:
        """Iterate over them, the latest first."""

    def get(self, name: str) -> AnyRecording | None:
        """Find a recording by its name."""

    def having(self, number: int) -> AnyRecording | None:
        """Find the recording that has a segment."""

    def of_programme(self, name: str) -> AnyRecording | None:
        """Find the recording of a programme."""


class AllRecordings:
    """The recordings of one channel in several places.

    Args:
        places: the one that is asked first comes first.
    """

    def __init__(self, *places: KeptRecordings) -> None:
        self._places = places

    def __iter__(self) -> Iterator[AnyRecording]:
        """Iterate over them, the latest first."""
        found: dict[str, AnyRecording] = {}
        for place in self._places:
            for one in place:
                found.setdefault(one.metadata.id, one)
        return iter(sorted(found.values(), key=lambda one: one.metadata.age))

    def get(self, name: str) -> AnyRecording | None:
        """Find a recording by its name."""
        return next((one for place in self._places if (one := place.get(name)) is not None), None)

    def having(self, number: int) -> AnyRecording | None:
        """Find the recording that has a segment."""
        return next((one for place in self._places if (one := place.having(number)) is not None), None)

    def of_programme(self, name: str) -> AnyRecording | None:
        """Find the recording of a programme."""
        return next((one for place in self._places if (one := place.of_programme(name)) is not None), None)

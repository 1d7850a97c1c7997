"""Segments of a library's films: each is made when it is requested, from the index of its film.

Everything here but `known` blocks on the disk, and may be called from several threads at once.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakValueDictionary

from media.errors import MediaError
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import Identity, LibraryFile
from packager.reader_guard import ReaderGuard
from packager.vod.file_lookup import IndexedFiles, find_segmented_track, segmented_track
from packager.vod.index.file_index import OfferedTrack
from packager.vod.movie.movie_reader import Read
from packager.vod.pictures.i_frame_file import IFrameFile
from packager.vod.segments.segment import FilmSegment, make_segment

QUICK_SAMPLES = 1 << 12
"""Most samples of a segment that is made on the event loop, in a millisecond."""


class OpenMedia(NamedTuple):
    """A segment, or all I-frames of a track, with their open film and the function that reads its samples."""

    file: LibraryFile
    media: FilmSegment | IFrameFile
    samples: Read

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.media.size

    def read(self, offset: int, length: int) -> bytes:
        """Read a range; ShortReadError if the file has become shorter."""
        return self.media.read(self.samples, offset, length)

    def close(self) -> None:
        """Close the film."""
        self.file.close()


class FilmSegments:
    """The segments of a library's films."""

    def __init__(self, files: IndexedFiles) -> None:
        self._files = files
        # Simultaneous readers of the same segment share one header, which may have megabytes.
        self._read: WeakValueDictionary[tuple[Identity, str, int, tuple[int, int] | None], FilmSegment] = (
            WeakValueDictionary()
        )

    @property
    def being_read(self) -> int:
        """How many different segments are being read."""
        return len(self._read)

    def track(self, name: str, track: str, version: str | None = None) -> OfferedTrack:
        """Find a film's track; raises as :meth:`Titles.multivariant_playlist`."""
        with self._files.open(name) as file:
            return find_segmented_track(self._files.versioned(file, version), name, track)

    def of(
        self,
        file: LibraryFile,
        track: str,
        number: int,
        bounds: tuple[int, int] | None = None,
        *,
        version: str | None = None,
    ) -> OpenMedia:
        """Make a segment of an open film, or a clip's share of it.

        Args:
            file: the film, which stays the caller's.
            bounds: begin and end of the clip's share in ticks; None: the whole segment.
            version: the wanted version of the film; None: any.

        Raises:
            NotFoundError: there is no such segment, or the film is another version.
            MediaError: the film can't be packaged; the text says in one line why.
            OSError: the film can't be read.
        """
        index = self._files.versioned(file, version)
        offered = find_segmented_track(index, file.path, track)
        key = file.identity, track, number, bounds
        with ReaderGuard(file.path):
            segment = self._read.get(key) or make_segment(index, offered, number, bounds)
        if segment is None:
            raise NotFoundError(f"{file.path}: {track} has no segment {number}")
        return OpenMedia(file, self._read.setdefault(key, segment), index.reading(file.pread))

    def known(
        self,
        file: LibraryFile,
        track: str,
        number: int,
        bounds: tuple[int, int] | None = None,
        *,
        version: str | None = None,
    ) -> FilmSegment | None:
        """Make a segment of an open film without blocking, and without work for which others would wait.

        Args:
            file: the film, which stays the caller's.
            bounds: begin and end of a clip's share in ticks; None: the whole segment.
            version: the wanted version of the film; None: any.

        Returns:
            None where `of` has to make or refuse the segment: the film isn't indexed, or is another version,
            or the segment is very long, has to be put together, or doesn't exist.
        """
        index = self._files.known(file, version)
        offered = None if index is None else segmented_track(index, track)
        if index is None or offered is None or not 0 <= number < len(offered.cuts) - 1:
            return None
        start, stop = offered.stretch(number)
        if stop - start > QUICK_SAMPLES:
            return None
        key = file.identity, track, number, bounds
        try:
            with ReaderGuard(file.path):
                segment = self._read.get(key) or make_segment(index, offered, number, bounds)
        except MediaError:
            return None
        if segment is None or int(segment.offsets.max()) >= file.size:
            return None
        return self._read.setdefault(key, segment)

"""The segments of a channel's past as files: in memory, on disk or in S3."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping

from origin.answers.movie_source import MemoryFile, OpenFile, ReadableFile
from origin.answers.pieces import TruncatedFileError
from origin.live.dvr_segments import StoredSegments
from packager.library.local_storage import NotFoundError
from packager.past.progressive_mp4 import MoviePiece
from packager.past.segment_samples import Read
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition


class SegmentFiles:
    """Opens the segments of a span, in memory and where they are stored.

    Args:
        renditions: by name.
        stored: opens those that have left memory.
    """

    def __init__(self, renditions: Mapping[str, Rendition], stored: StoredSegments) -> None:
        self._renditions = renditions
        self._stored = stored

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
        if segment is None:
            raise TruncatedFileError(f"segment {piece.number} of {piece.rendition} was removed")
        return self._opener(piece.rendition, segment)

    def _opener(self, rendition: str, segment: LiveSegment) -> OpenFile:
        if segment.data:
            return functools.partial(MemoryFile, segment.data)
        place = self._renditions[rendition].window.place(segment)

        def open_file() -> ReadableFile:
            file = None if place is None else self._stored.open(*place)
            if file is None:
                raise NotFoundError(f"segment {segment.number} of {rendition}")
            return file

        return open_file

"""Segments and thumbnails of films with their open files: each knows which bytes to read, and from where."""

from __future__ import annotations

from dataclasses import dataclass

from packager.library.storage_interface import LibraryFile
from packager.vod.i_frame_file import IFrameFile
from packager.vod.index import OfferedTrack
from packager.vod.movie_reader import Read
from packager.vod.segment import Segment


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """A segment and the file that its data are read from, which the holder closes.

    Attributes:
        file: the file.
        track: whose segment it is.
        segment: where its samples are.
        samples: reads samples.
    """

    file: LibraryFile
    track: OfferedTrack
    segment: Segment
    samples: Read

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.segment.size

    def read(self, offset: int, length: int) -> bytes:
        """Read a range of it; ShortReadError when the file has become shorter."""
        return self.segment.read(self.samples, offset, length)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


@dataclass(frozen=True, slots=True)
class OpenIFrames:
    """The I-frames of a film as one resource, and the file that has them, which the holder closes.

    Attributes:
        file: the file.
        frames: where they are.
        samples: reads samples.
    """

    file: LibraryFile
    frames: IFrameFile
    samples: Read

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.frames.size

    def read(self, offset: int, length: int) -> bytes:
        """Read a range of it; ShortReadError when the file has become shorter."""
        return self.frames.read(self.samples, offset, length)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


@dataclass(frozen=True, slots=True)
class OpenStoryboard:
    """The file that the pictures of a storyboard are read from, which the holder closes.

    Attributes:
        file: the file.
        samples: reads samples.
    """

    file: LibraryFile
    samples: Read

    def close(self) -> None:
        """Close the file."""
        self.file.close()

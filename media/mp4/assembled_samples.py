"""Samples of MPEG-TS and Matroska that aren't in the file as MP4 has them: put together when they are read.

Sample tables name their places as if they lay behind the file's end, each track's one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Read = Callable[[int, int], bytes]
"""Reads (offset, length) of a file; fewer bytes only where it ends."""


class TrackSamples(Protocol):
    """All samples of a track, one behind the other."""

    @property
    def size(self) -> int:
        """Bytes of all of them."""

    @property
    def nbytes(self) -> int:
        """Memory of what says where they are."""

    def read(self, read: Read, start: int, stop: int) -> bytes:
        """Put a range of them together; fewer bytes where the file is shorter than it was.

        Args:
            read: reads from the file; it may block.
            start: first byte wanted.
            stop: the one behind the last.
        """


@dataclass(frozen=True, slots=True)
class AssembledSamples:
    """The samples of a file that are put together.

    Attributes:
        begins: at which offset each track's are named.
    """

    begins: Sequence[int]
    tracks: Sequence[TrackSamples]

    @property
    def end(self) -> int:
        """The offset behind all of them."""
        return self.begins[-1] + self.tracks[-1].size

    @property
    def nbytes(self) -> int:
        """Memory of what says where they are."""
        return sum(track.nbytes for track in self.tracks)

    def read(self, read: Read, offset: int, length: int) -> bytes:
        """Read at an offset as tables name them: of the file itself, or of what is put together.

        Args:
            read: reads from the file; it may block.
            offset: first byte wanted.
            length: how many; fewer are given where the file, or the track, ends.
        """
        if offset < self.begins[0]:
            return read(offset, length)
        for begin, track in zip(self.begins, self.tracks, strict=True):
            if begin <= offset < begin + track.size:
                return track.read(read, offset - begin, min(offset + length - begin, track.size))
        return b""

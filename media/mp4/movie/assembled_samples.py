"""Samples of MPEG-TS and Matroska that are assembled on demand, because the file has them in another form.

Sample tables give them offsets behind the file's end, one track after the other.
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
        """Bytes of all samples."""

    @property
    def nbytes(self) -> int:
        """Memory of the positions."""

    def read(self, read: Read, start: int, stop: int) -> bytes:
        """Assemble a range of bytes; return fewer if the file is shorter than it was.

        Args:
            read: reads from the file; it may block.
            start: first byte wanted.
            stop: the byte behind the last one wanted.
        """


@dataclass(frozen=True, slots=True)
class AssembledSamples:
    """All assembled samples of a file.

    Attributes:
        begins: offset at which each track's samples begin.
    """

    begins: Sequence[int]
    tracks: Sequence[TrackSamples]

    @property
    def end(self) -> int:
        """The offset behind all samples."""
        return self.begins[-1] + self.tracks[-1].size

    @property
    def nbytes(self) -> int:
        """Memory of the positions."""
        return sum(track.nbytes for track in self.tracks)

    def joined(self, other: AssembledSamples) -> AssembledSamples:
        """Return these samples with others that lie behind them."""
        return AssembledSamples((*self.begins, *other.begins), (*self.tracks, *other.tracks))

    def read(self, read: Read, offset: int, length: int) -> bytes:
        """Read at an offset of the sample tables: from the file itself, or assembled samples.

        Args:
            read: reads from the file; it may block.
            offset: first byte wanted.
            length: bytes wanted; fewer are returned at the end of the file or of all samples.
        """
        pieces: list[bytes] = []
        while length > 0 and (piece := self._read_one(read, offset, length)):
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_one(self, read: Read, offset: int, length: int) -> bytes:
        """Read from the file or from one track."""
        if offset < self.begins[0]:
            return read(offset, min(length, self.begins[0] - offset))
        for begin, track in zip(self.begins, self.tracks, strict=True):
            if begin <= offset < begin + track.size:
                return track.read(read, offset - begin, min(offset + length - begin, track.size))
        return b""

"""Header stripping (Matroska): frames of a track that begin alike, with those bytes once in the file."""

from __future__ import annotations

import numpy as np

from media.matroska.blocks import Frames
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.box_arrays import Int64

MAX_STRIPPED_BYTES = 256
"""Most bytes that are put in front of every frame; muxers strip start codes, sync words and headers."""


class StrippedFrames:
    """The frames of a track as they were before they were stripped (RFC 9559 §5.1.4.1.31.7).

    Args:
        prefix: the bytes that each begins with.
        frames: where the rest of each one is in the file.
    """

    def __init__(self, prefix: bytes, frames: Frames) -> None:
        self._prefix = prefix
        self._offsets: Int64 = np.asarray(frames.offsets, np.int64)
        self._ends: Int64 = np.cumsum(np.asarray(frames.sizes, np.int64) + len(prefix))

    @property
    def size(self) -> int:
        """Bytes of all frames."""
        return int(self._ends[-1])

    @property
    def sizes(self) -> Int64:
        """Bytes of each."""
        return np.diff(self._ends, prepend=0)

    @property
    def nbytes(self) -> int:
        """Memory of what says where they are."""
        return self._offsets.nbytes + self._ends.nbytes

    def read(self, read: Read, start: int, stop: int) -> bytes:
        """Read a range; fewer bytes where the file is shorter than it was."""
        parts: list[bytes] = []
        number = int(self._ends.searchsorted(start, "right"))
        while start < stop and number < len(self._ends):
            end = int(self._ends[number])
            begin = int(self._ends[number - 1]) if number else 0
            parts.append(self._part(read, int(self._offsets[number]), start - begin, min(stop, end) - begin))
            if len(parts[-1]) < min(stop, end) - start:
                break
            start, number = end, number + 1
        return b"".join(parts)

    def _part(self, read: Read, offset: int, first: int, stop: int) -> bytes:
        """Return a range of one frame's bytes."""
        stripped = len(self._prefix)
        told, first_read = self._prefix[first:stop], max(first, stripped)
        return told + read(offset + first_read - stripped, stop - first_read) if stop > first_read else told

"""Samples of a stream whose bytes lie in pieces of a file, as payloads of packets or in chunks."""

from __future__ import annotations

import numpy as np

from media.errors import MalformedError
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.box_arrays import Int64


class PiecedSamples:
    """The samples of a stream whose bytes lie in pieces, assembled when they are read.

    Args:
        places: where each piece of the stream begins in the file.
        lengths: bytes of each piece.
        offsets: where each sample begins in the stream.
        sizes: bytes of each sample.
    """

    def __init__(self, places: Int64, lengths: Int64, offsets: Int64, sizes: Int64) -> None:
        self._places = places
        self._begins: Int64 = np.cumsum(lengths) - lengths
        self._stream_size = int(lengths.sum())
        self._offsets = offsets
        self._ends: Int64 = np.cumsum(sizes)

    @property
    def size(self) -> int:
        """Bytes of all samples."""
        return int(self._ends[-1])

    @property
    def nbytes(self) -> int:
        """Memory of the positions."""
        return sum(one.nbytes for one in (self._places, self._begins, self._offsets, self._ends))

    def file_offsets(self) -> Int64 | None:
        """Return where each sample begins in the file; None if one lies in several pieces.

        Raises:
            MalformedError: the stream has no pieces, although it has samples.
        """
        if not len(self._places) and len(self._offsets):
            raise MalformedError("the samples of a stream lie in no piece of the file")
        sizes = np.diff(self._ends, prepend=0)
        first = self._begins.searchsorted(self._offsets, "right") - 1
        last = self._begins.searchsorted(self._offsets + sizes - 1, "right") - 1
        if (first != last).any():
            return None
        return self._places[first] + self._offsets - self._begins[first]

    def read(self, read: Read, start: int, stop: int) -> bytes:
        """Assemble a range of bytes; return fewer if the file is shorter than it was.

        Args:
            read: reads from the file; it may block.
            start: first byte wanted.
            stop: the byte behind the last one wanted.
        """
        parts: list[bytes] = []
        number = int(self._ends.searchsorted(start, "right"))
        while start < stop and number < len(self._ends):
            end = int(self._ends[number])
            begin = int(self._ends[number - 1]) if number else 0
            wanted = min(stop, end) - start
            part = self._stream(read, int(self._offsets[number]) + start - begin, wanted)
            parts.append(part)
            if len(part) < wanted:
                break
            start, number = end, number + 1
        return b"".join(parts)

    def _stream(self, read: Read, offset: int, length: int) -> bytes:
        """Read a range of the stream."""
        parts: list[bytes] = []
        piece = int(self._begins.searchsorted(offset, "right")) - 1
        while length > 0 and piece < len(self._begins):
            into = offset - int(self._begins[piece])
            end = int(self._begins[piece + 1]) if piece + 1 < len(self._begins) else self._stream_size
            part = read(int(self._places[piece]) + into, min(length, end - offset))
            parts.append(part)
            if len(part) < min(length, end - offset):
                break
            offset, length, piece = offset + len(part), length - len(part), piece + 1
        return b"".join(parts)

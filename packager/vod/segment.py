"""One segment of one track: a fragment's header made from the sample table, and the data where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from media.errors import MalformedError, UnsupportedError
from media.fragments import write_fragment_header
from media.moof import Sample
from media.samples import Int64
from packager.vod.index import FileIndex, OfferedTrack, Read

MAX_SEGMENT_BYTES = 1 << 30
"""Largest segment; a film without key frames for minutes is better encoded again."""

MAX_SEGMENT_SAMPLES = 1 << 18
"""Most samples of a segment; each takes 16 bytes in its header, however small it is itself."""

MAX_GAP = 64 << 10
"""Bytes of other tracks' data that are read along and thrown away, to save a call."""

MAX_WASTE = 16
"""How many times the wanted bytes a longer read may be, so that tables made for it can't multiply reads."""


class ShortReadError(Exception):
    """The file has become shorter since it was indexed."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A media segment, not read yet.

    Attributes:
        header: ``moof`` and the header of ``mdat``.
        offsets: where the runs of the track's data begin in the file.
        ends: where each run ends in the segment, counted from the end of the header.
    """

    header: bytes
    offsets: Int64
    ends: Int64

    @property
    def size(self) -> int:
        """Length of the whole segment in bytes."""
        return len(self.header) + int(self.ends[-1])

    def read(self, read: Read, offset: int, length: int) -> bytes:
        """Read a range of the segment; what lies close together in the file is read at once.

        Args:
            read: reads from the file; it may block.
            offset: first byte wanted.
            length: how many; clipped at the segment's end.

        Returns:
            The bytes.

        Raises:
            ShortReadError: the file ends before.
        """
        start = offset - len(self.header)
        stop = min(start + length, int(self.ends[-1]))
        parts: list[bytes | memoryview] = [self.header[offset : offset + length]]
        pieces = self._pieces(max(start, 0), stop)
        while pieces:
            together = _together(pieces)
            first, last = pieces[0][0], sum(pieces[together - 1])
            data = memoryview(read(first, last - first))
            if len(data) < last - first:
                raise ShortReadError(f"the file ends at {first + len(data)}, before {last}")
            parts += [data[at - first : at - first + size] for at, size in pieces[:together]]
            del pieces[:together]
        return b"".join(parts)

    def _pieces(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Give (offset in the file, length) of the runs within a range of the data."""
        if start >= stop:
            return []
        low = int(np.searchsorted(self.ends, start, "right"))
        high = int(np.searchsorted(self.ends, stop, "left")) + 1
        ends = self.ends[low:high]
        begins = np.concatenate((self.ends[low - 1 : low] if low else [0], ends[:-1]))
        skipped = np.maximum(start - begins, 0)
        sizes = np.minimum(ends, stop) - begins - skipped
        offsets = self.offsets[low:high] + skipped
        return list(zip(offsets.tolist(), sizes.tolist(), strict=True))


def _together(pieces: Sequence[tuple[int, int]]) -> int:
    """Say how many of the first pieces lie so close behind each other that one call reads them all."""
    first, end = pieces[0][0], sum(pieces[0])
    wanted = pieces[0][1]
    for count, (at, size) in enumerate(pieces[1:], 1):
        wanted += size
        if not 0 <= at - end <= MAX_GAP or at + size - first > MAX_GAP + MAX_WASTE * wanted:
            return count
        end = at + size
    return len(pieces)


def make_segment(index: FileIndex, track: OfferedTrack, number: int) -> Segment | None:
    """Make a segment's header and find its data.

    Args:
        index: of the file.
        track: one of its tracks.
        number: of the segment, from 0.

    Returns:
        The segment, or None when there is none of that number.

    Raises:
        MalformedError: its data aren't within the file.
        UnsupportedError: it is larger than ``MAX_SEGMENT_BYTES``.
    """
    if not 0 <= number < len(track.cuts) - 1:
        return None
    start, stop = int(track.cuts[number]), int(track.cuts[number + 1])
    table = track.samples
    offset, size = table.offset[start:stop], table.size[start:stop]
    if np.any(offset + size > index.size):
        raise MalformedError(f"segment {number} of {track.name} lies beyond the end of the file")
    if int(size.sum()) > MAX_SEGMENT_BYTES or stop - start > MAX_SEGMENT_SAMPLES:
        raise UnsupportedError(f"segment {number} of {track.name} is too large: key frames are too far apart")
    durations = np.diff(table.decode_time[start : stop + 1]).tolist()
    is_sync = np.zeros(stop - start, bool)
    low, high = np.searchsorted(table.sync, (start, stop))
    is_sync[table.sync[low:high] - start] = True
    samples = [
        Sample(*row)
        for row in zip(
            durations,
            size.tolist(),
            is_sync.tolist(),
            table.composition_offset[start:stop].tolist(),
            strict=True,
        )
    ]
    fragment = write_fragment_header(
        sequence_number=number + 1,
        track_id=track.track_id,
        base_media_decode_time=int(table.decode_time[start]),
        samples=samples,
    )
    return Segment(fragment, *_runs(offset, size))


def _runs(offset: Int64, size: Int64) -> tuple[Int64, Int64]:
    """Join samples that follow each other in the file."""
    last = np.append(offset[1:] != offset[:-1] + size[:-1], True)
    first = np.append(True, last[:-1])
    return offset[first], np.cumsum(size)[last]

"""One segment of one track: a fragment's header made from the sample table, and the data where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from media.errors import MalformedError, TooLargeError
from media.mp4.fragments.fragments import write_samples_header
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.sample_table import Samples
from packager.vod.index.file_index import FileIndex, OfferedTrack
from packager.vod.movie.decode_times import decode_times_in_time
from packager.vod.movie.movie_reader import Read
from packager.vod.segments.clip import trim
from packager.vod.segments.held_pictures import segment_samples

MAX_SEGMENT_BYTES = 1 << 30
"""Largest segment; a film without key frames for minutes is better encoded again."""

MAX_SEGMENT_SAMPLES = 1 << 17
"""Most samples of a segment: 73 minutes of 30 frames a second. Each takes 16 bytes in its header, however
small it is itself, and as many where it lies for itself."""

MAX_GAP = 64 << 10
"""Bytes of other tracks' data that are read along and thrown away, to save a call."""

MAX_WASTE = 16
"""How many times the wanted bytes a longer read may be, so that tables made for it can't multiply reads."""


_SEGMENT_BYTES = 2048
"""Memory of a segment's objects beside its header and arrays."""


class ShortReadError(Exception):
    """The file has become shorter since it was indexed."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class FilmSegment:
    """A media segment whose header is made, and whose data are still in the film's file.

    Attributes:
        header: ``moof`` and the header of ``mdat``.
        offsets: where the runs of the track's data begin in the file.
        ends: where each run ends in the segment, counted from the end of the header.
        video: whether the samples are pictures.
    """

    header: bytes
    offsets: Int64
    ends: Int64
    video: bool

    @property
    def size(self) -> int:
        """Length of the whole segment in bytes."""
        return len(self.header) + int(self.ends[-1])

    @property
    def nbytes(self) -> int:
        """Memory that it takes, with what is written of its answers."""
        return _SEGMENT_BYTES + len(self.header) + self.offsets.nbytes + self.ends.nbytes

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
        pieces = self.pieces(max(start, 0), stop)
        begin = 0
        while begin < len(pieces):
            end = _together(pieces, begin)
            first, last = pieces[begin][0], sum(pieces[end - 1])
            data = memoryview(read(first, last - first))
            if len(data) < last - first:
                raise ShortReadError(f"the file ends at {first + len(data)}, before {last}")
            parts += [data[at - first : at - first + size] for at, size in pieces[begin:end]]
            begin = end
        return b"".join(parts)

    def pieces(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return (offset in the file, length) of the runs within a range of the data behind the header."""
        if start >= stop:
            return []
        low = int(self.ends.searchsorted(start, "right"))
        high = int(self.ends.searchsorted(stop, "left")) + 1
        if high - low == 1:
            # Most ranges lie in one run, for which arrays would take longer than the rest of the reply.
            begin, end = int(self.ends[low - 1]) if low else 0, int(self.ends[low])
            skip = max(start - begin, 0)
            return [(int(self.offsets[low]) + skip, min(end, stop) - begin - skip)]
        ends = self.ends[low:high]
        begins = np.concatenate((self.ends[low - 1 : low] if low else [0], ends[:-1]))
        skipped = np.maximum(start - begins, 0)
        sizes = np.minimum(ends, stop) - begins - skipped
        offsets = self.offsets[low:high] + skipped
        return list(zip(offsets.tolist(), sizes.tolist(), strict=True))


def _together(pieces: Sequence[tuple[int, int]], begin: int) -> int:
    """Return the end of the pieces that lie so close behind each other that one call reads them all."""
    first, end = pieces[begin][0], sum(pieces[begin])
    wanted = pieces[begin][1]
    for index in range(begin + 1, len(pieces)):
        at, size = pieces[index]
        wanted += size
        if not 0 <= at - end <= MAX_GAP or at + size - first > MAX_GAP + MAX_WASTE * wanted:
            return index
        end = at + size
    return len(pieces)


def make_segment(
    index: FileIndex, track: OfferedTrack, number: int, bounds: tuple[int, int] | None = None
) -> FilmSegment | None:
    """Make a segment's header and find its data.

    Args:
        number: of the segment, from 0.
        bounds: begin and end in ticks, where the segment is trimmed for a clip.

    Returns:
        The segment; None if there is none of that number, or no media within the bounds.

    Raises:
        MalformedError: its data aren't within the file.
        TooLargeError: it has more than ``MAX_SEGMENT_BYTES`` or ``MAX_SEGMENT_SAMPLES``.
    """
    if not 0 <= number < len(track.cuts) - 1:
        return None
    start, stop = track.stretch(number)
    if int(track.sizes[number]) > MAX_SEGMENT_BYTES or stop - start > MAX_SEGMENT_SAMPLES:
        raise TooLargeError(f"segment {number} of {track.name} is too large: key frames are too far apart")
    samples = segment_samples(track, number)
    if bounds is not None:
        begin, end = bounds
        trimmed = trim(track, samples, begin, end) if begin < end <= int(track.times[number + 1]) else None
        # Other bounds of the same bytes aren't found, so that caches have one address for them.
        if trimmed is None or trimmed.begin != begin:
            return None
        samples = trimmed.samples
    if not track.has_edit_list:
        ends = int(track.times[number + 1])
        ends = ends if bounds is None else min(bounds[1], ends)
        samples = without_edit_list(samples, track.samples.start, ends)
    if np.any(samples.offset + samples.size > index.size):
        raise MalformedError(f"segment {number} of {track.name} lies beyond the end of the file")
    fragment = write_samples_header(
        sequence_number=number + 1,
        track_id=track.track_id,
        base_media_decode_time=int(samples.decode_time[0]),
        samples=samples,
    )
    return FilmSegment(fragment, *_runs(samples.offset, samples.size), track.video)


def without_edit_list(samples: Samples, start: int, end: int) -> Samples:
    """Return samples on the timeline of the presentation itself.

    Args:
        samples: on the media's own timeline.
        start: composition time at which the presentation begins.
        end: when the last sample's presentation ends.
    """
    times = samples.composition_time - start
    decode_time = decode_times_in_time(times, max(end, int(times.max()) + 1))
    return replace(samples, decode_time=decode_time, composition_offset=times - decode_time[:-1])


def _runs(offset: Int64, size: Int64) -> tuple[Int64, Int64]:
    """Join samples that follow each other in the file."""
    last = np.append(offset[1:] != offset[:-1] + size[:-1], True)
    first = np.append(True, last[:-1])
    return offset[first], np.cumsum(size)[last]

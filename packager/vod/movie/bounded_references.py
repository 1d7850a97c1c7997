"""Bounds what the references of a film lead to: together hardly more bytes than its file has.

A file of a few kilobytes can name the same bytes thousands of times: as its index, or as samples that
overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from media.errors import MalformedError, MediaError, TooLargeError
from media.mp4.movie.box_arrays import stretches
from media.mp4.movie.movie import Movie, Track
from media.mp4.movie.sample_sizes import SampleSizes
from media.mp4.movie.sample_table import SampleTable
from packager.vod.movie.movie_reader import ContainerLimits

Read = Callable[[int, int], bytes]
"""Reads (offset, length) of a file; fewer bytes only where it ends."""


class BoundedRead:
    """Reads a film's file for its index, until that takes far more bytes than the file has.

    Args:
        size: the file's length in bytes.
    """

    def __init__(self, read: Read, size: int, limits: ContainerLimits) -> None:
        self._read = read
        self._left = limits.most(size)
        self._least = limits.read_bytes

    def __call__(self, offset: int, length: int) -> bytes:
        """Read bytes of the file.

        Raises:
            TooLargeError: too many bytes have been read.
        """
        if self._left <= 0:
            raise TooLargeError("its index leads to the same bytes again and again")
        data = self._read(offset, length)
        self._left -= max(len(data), self._least)
        return data


def require_few_repeats(movie: Movie, size: int, limits: ContainerLimits) -> None:
    """Make sure that the samples of all tracks have hardly more bytes than the file.

    Args:
        size: the length of what the tables refer to in bytes.

    Raises:
        MalformedError: they have more, since they overlap.
    """
    most = limits.most(size)
    if sum(_declared_bytes(track, limits) for track in movie.tracks) <= most:
        return
    # A film that is cut short declares more bytes than its file has.
    within = 0
    for count in (count for track in movie.tracks for count in _bytes_within(track, size, limits)):
        within += count
        if within > most:
            raise MalformedError(f"its samples overlap: more than {most} bytes of {size}")


def _declared_bytes(track: Track, limits: ContainerLimits) -> int:
    try:
        sizes = SampleSizes(track.tables, limits.referenced_samples)
    except MediaError:
        return 0  # the track can't be indexed, which is said where it would be
    return sizes.sum(0, len(sizes))


def _bytes_within(track: Track, size: int, limits: ContainerLimits) -> Iterator[int]:
    """Yield the bytes of a track's samples that are in the file, by stretches."""
    try:
        table = SampleTable(track.tables, len(track.sample_entries), limits.referenced_samples)
    except MediaError:
        return
    for start, stop in stretches(0, len(table)):
        offsets, sizes = table.places(start, stop)
        yield int(sizes[offsets + sizes <= size].sum())

"""Leaves parameter sets out of pictures that only repeat those of their sample entry.

Samples of ``avc1`` and ``hvc1`` mustn't have any (ISO/IEC 14496-15 §5.3.3.1.1, §8.4.1.1), and Apple's players
take no ``hev1``: where those of an ``avc3`` or ``hev1`` are all alike, it becomes ``avc1`` or ``hvc1``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from media.mp4.codecs.random_access import Access, sample_starts
from media.mp4.codecs.repeated_sets import RepeatedSets
from media.mp4.codecs.sample_entry import without_parameter_sets
from media.mp4.movie.box_arrays import Int64
from packager.vod.index.file_index import FileIndex, OfferedTrack
from packager.vod.movie.edit_list import LeftOut
from packager.vod.movie.movie_reader import Read

MAX_PICTURES_LOOKED_AT = 16
"""Pictures at cuts whose parameter sets are looked for, before it is said that there are none."""

ParsedT = TypeVar("ParsedT")

MAX_SYNC_SAMPLES = 1 << 13
"""Most sync samples from which repeated parameter sets are left out: each is looked at."""


def with_sets_apart(index: FileIndex, read: Read) -> FileIndex:
    """Leave out of a film's pictures what its sample entry has.

    Args:
        read: reads from the film's file; it may block.

    Raises:
        OSError: the file can't be read.
    """
    video = index.video
    repeated = None if video is None else RepeatedSets.of(video.entry)
    apart = None if video is None else without_parameter_sets(video.entry)
    # Where the entry stays as it is, nothing depends on it, and each request to S3 takes its time.
    if video is None or repeated is None or apart is None:
        return index
    read = index.reading(read)
    cuts = np.unique(video.cuts[:-1])
    looked_at = cuts[:: -(-len(cuts) // MAX_PICTURES_LOOKED_AT)]
    look = sample_starts(video.entry)
    if any(one.access is Access.NONE for one in _parsed(video, read, looked_at, look)):
        return index
    found = _parsed(video, read, looked_at, repeated.leading_bytes)
    if None in found:
        return index
    if any(found):
        sync = video.samples.sync_samples(0, len(video.samples))
        if len(sync) > MAX_SYNC_SAMPLES:
            return index
        sizes = [one for one in _parsed(video, read, sync, repeated.leading_bytes) if one is not None]
        if len(sizes) < len(sync):
            return index
        left_out = LeftOut(sync + video.samples.first, np.asarray(sizes, np.int64))
        samples = replace(video.samples, left_out=left_out)
        fewer = left_out.between(video.cuts + samples.first)
        video = replace(video, samples=samples, sizes=video.sizes - fewer)
        index = replace(index, nbytes=index.nbytes + left_out.nbytes)
    video = replace(video, entry=apart, init=video.init.replace(video.entry.render(), apart.render()))
    return replace(index, tracks=(video, *index.sounds))


def _parsed(
    track: OfferedTrack, read: Read, numbers: Int64, parse: Callable[[int, Read], ParsedT]
) -> list[ParsedT]:
    """Parse the beginnings of samples, each by its size and a function that reads it."""
    found: list[ParsedT] = []
    for number in numbers.tolist():
        offset, size = (int(one[0]) for one in track.samples.places(number, number + 1))

        def read_sample(position: int, length: int, offset: int = offset) -> bytes:
            return read(offset + position, length)

        found.append(parse(size, read_sample))
    return found

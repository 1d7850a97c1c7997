"""Puts a track into one file: init segment, index (``sidx``) and segments, named by playlists as byte ranges.

The file is played by itself, too: it is a fragmented MP4 whose index tells players where to seek.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from media.errors import TooLargeError
from media.mp4.sample_table import Int64
from media.mp4.sidx import MAX_ENTRIES, write_sidx
from packager.vod.index.file_index import OfferedTrack
from packager.vod.segments.segment import FilmSegment

MAX_REFERENCE_BYTES = 0x7FFF_FFFF
"""Longest segment that an index can tell of: its length has 31 bits (ISO/IEC 14496-12 §8.16.3.2)."""


def as_single_file(track: OfferedTrack, make: Callable[[OfferedTrack, int], FilmSegment]) -> OfferedTrack:
    """Say how long a track's segments are exactly, so that playlists can name them as byte ranges.

    Raises:
        TooLargeError: no index can tell of so many or so long ones.
    """
    sizes = np.array([make(track, number).size for number in range(len(track.sizes))], np.int64)
    if len(sizes) > MAX_ENTRIES or int(sizes.max()) > MAX_REFERENCE_BYTES:
        raise TooLargeError(f"{track.name}: segments that don't fit in the index of a single file")
    return replace(track, sizes=sizes, single_file=True)


def head(track: OfferedTrack, access_point: int) -> Iterator[bytes]:
    """Return the bytes in front of the segments of a single file.

    Args:
        track: the track, whose sizes are exact.
        access_point: type of stream access point that all segments begin with; 0 where some have none.
    """
    durations: Int64 = np.diff(track.times)
    yield track.init
    yield write_sidx(
        track_id=track.track_id,
        timescale=track.timescale,
        earliest=int(track.times[0]),
        first_offset=0,
        sizes=track.sizes,
        durations=durations,
        access_point=access_point,
    )

"""Puts a track into one file: init segment, index (``sidx``) and segments, named by playlists as byte ranges.

The file can also be played by itself, as a fragmented MP4 whose index lets players seek.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from media.errors import TooLargeError
from media.mp4.fragments.sidx import MAX_ENTRIES, write_sidx
from media.mp4.movie.box_arrays import Int64
from packager.vod.index.file_index import OfferedTrack

MAX_REFERENCE_BYTES = 0x7FFF_FFFF
"""Longest segment that an index can describe: its length has 31 bits (ISO/IEC 14496-12 §8.16.3.2)."""


def as_single_file(track: OfferedTrack, sizes: Int64) -> OfferedTrack:
    """Return a track with the exact sizes of its segments, so that playlists can name byte ranges.

    Raises:
        TooLargeError: an index can't describe so many or so long segments.
    """
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

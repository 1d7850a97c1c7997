"""Bit rates of a track's segments, as playlists and manifests declare them (RFC 8216bis §4.1)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Protocol

import numpy as np

from media.mp4.movie.box_arrays import Int64

MAX_CONTIGUOUS = 64
"""Most segments in a row whose rate is measured; of more, one lasts for hours and others for seconds."""


class Segmented(Protocol):
    """Segments in a row: bytes of each, and when each begins in ticks, with the end behind them."""

    @property
    def sizes(self) -> Int64:
        """Bytes of each."""

    @property
    def times(self) -> Int64:
        """When each begins in ticks, and behind them the end."""

    @property
    def timescale(self) -> int:
        """Ticks per second."""

    @property
    def longest(self) -> int:
        """Ticks of the longest."""

    @property
    def duration(self) -> Fraction:
        """Seconds of all."""


def target_duration(track: Segmented) -> int:
    """Return a track's longest segment in seconds, rounded to the nearest (§4.4.3.1), at least 1."""
    return max(1, (2 * track.longest + track.timescale) // (2 * track.timescale))


def peak_bandwidth(track: Segmented) -> int:
    """Measure the peak segment bit rate of a track in bit/s.

    §4.1: the largest of any contiguous segments that last together between half of the target duration and
    one and a half. A track that is shorter has only its whole.
    """
    target = target_duration(track) * track.timescale
    bytes_before = np.concatenate((np.zeros(1, np.int64), np.cumsum(track.sizes)))
    peak = 0.0
    for count in range(1, len(track.times)):
        lengths = track.times[count:] - track.times[:-count]
        if 2 * int(lengths.min()) > 3 * target:
            break
        if count > MAX_CONTIGUOUS:
            # No segments in a row have a higher rate than the one of them that has the highest.
            lengths = np.maximum(np.diff(track.times), 1)
            return math.ceil(float((track.sizes / lengths).max()) * 8 * track.timescale)
        counts = (2 * lengths >= target) & (2 * lengths <= 3 * target)
        if counts.any():
            sizes = bytes_before[count:] - bytes_before[:-count]
            peak = max(peak, float((sizes[counts] / lengths[counts]).max()))
    return math.ceil(peak * 8 * track.timescale) or average_bandwidth(track)


def average_bandwidth(track: Segmented) -> int:
    """Measure the average segment bit rate of a track in bit/s (§4.1)."""
    return int(-(-int(track.sizes.sum()) * 8 // track.duration))

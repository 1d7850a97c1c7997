"""Pictures of a title whose last one stays until the title's longest rendition ends.

The track's name says when its further segments begin and when the last one ends, so that what is at an
address depends on nothing but the film and the address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from packager.vod.index.file_index import OfferedTrack
from packager.vod.index.still_pictures import (
    MAX_REPEATED_BYTES,
    MAX_REPEATED_SECONDS,
    MAX_STRETCH_SAMPLES,
    repeated_bytes,
)

LENGTHENED = "-until-"
"""The part of the name of such a track between its own name and the times in milliseconds."""

HELD_DIFFERENCE = Fraction(1, 10)
"""Seconds by which renditions of a title may differ in length until the shorter ones are made as long."""

MAX_TIMES = 32
"""Most times in a name."""

MAX_HELD_SECONDS = 600
"""Longest time for which the last picture stays."""

NEAR_SECONDS = Fraction(1, 10)
"""By how much a segment of another rendition may begin before the track's own end."""

_TIMES = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:-(?:0|[1-9][0-9]{0,8}))*")


def end_of(track: OfferedTrack) -> Fraction:
    """Return when a track ends, in seconds."""
    return Fraction(int(track.times[-1]), track.timescale)


def lengthened(track: OfferedTrack, times: Sequence[Fraction]) -> OfferedTrack | None:
    """Return a track whose last picture stays.

    Args:
        times: seconds at which further segments begin, and behind them that at which the last one ends.

    Returns:
        None where that isn't possible.
    """
    told = [round(1000 * one) for one in times]
    return _lengthened(track, told) if 0 < len(told) <= MAX_TIMES else None


def lengthened_by_name(track: OfferedTrack, told: str) -> OfferedTrack | None:
    """Return a track by the times in a name, in milliseconds; None where they are none of its."""
    if _TIMES.fullmatch(told) is None or told.count("-") >= MAX_TIMES:
        return None
    return _lengthened(track, [int(one) for one in told.split("-")])


def plain_picture(track: OfferedTrack) -> OfferedTrack:
    """Return a picture by its own name, at whose address its I-frames are."""
    return replace(track, name=track.name.partition(LENGTHENED)[0])


def _lengthened(track: OfferedTrack, told: Sequence[int]) -> OfferedTrack | None:
    if not track.video or track.is_encoded or track.query:
        return None
    ticks = np.array([round(Fraction(one * track.timescale, 1000)) for one in told], np.int64)
    own, start, scale = int(track.times[-1]), int(track.times[-2]), track.timescale
    near = max(own - int(NEAR_SECONDS * scale), start)
    if (np.diff(ticks, prepend=near) <= 0).any() or not own < ticks[-1] <= own + MAX_HELD_SECONDS * scale:
        return None
    first, stop = int(track.cuts[-2]), int(track.cuts[-1])
    most = min(MAX_STRETCH_SAMPLES, int(MAX_REPEATED_SECONDS * scale))
    if len(ticks) > 1 and (stop - first > most or int(track.sizes[-1]) > MAX_REPEATED_BYTES):
        return None
    more, samples = len(ticks) - 1, track.samples.held_until(int(ticks[-1]))
    sizes = np.append(track.sizes, np.full(more, track.sizes[-1]))
    if not more:
        sizes[-1] += repeated_bytes(samples, track.cuts, int(ticks[-1]), scale)
    return replace(
        track,
        name=f"{track.name}{LENGTHENED}{'-'.join(map(str, told))}",
        samples=samples,
        cuts=np.concatenate((track.cuts[:-1], np.full(more, first), track.cuts[-1:])),
        sizes=sizes,
        times=np.append(track.times[:-1], ticks),
    )

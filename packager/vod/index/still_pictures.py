"""Cuts stretches between key frames in which a picture stands still for longer than a segment should be.

Players decode ahead by some seconds, and drop what was played some seconds ago: a picture of a minute in one
segment ends the film in most of them. So such a stretch becomes several segments, its parts, of which
`packager.vod.segments.held_pictures` makes each begin with what its picture depends on.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from media.mp4.movie.box_arrays import Int64
from packager.vod.index.segment_boundaries import MAX_SEGMENTS, STRETCH, TARGET_SECONDS
from packager.vod.movie.edit_list import Arrangement

HELD_SECONDS = TARGET_SECONDS
"""How long a picture is shown at least within whose time a stretch is cut."""

LATEST_DECODING = 1
"""Seconds by which the decoding of a segment may begin before its presentation, apart from an edit list."""

MAX_REPEATED_SECONDS = Fraction(1, 2)
"""How long what a picture depends on may be shown, at a tick for each: some clocks have few of them."""

MAX_REPEATED_BYTES = 8 << 20
"""Bytes of what each part of a stretch repeats at most; else the stretch is one segment."""

MAX_STRETCH_SAMPLES = 1 << 14
"""Samples of a stretch that is cut at most."""

REPEATED_FRAMES = 8
"""Frames of a part at least: decoders give out a picture only when they have some behind it."""

LEAST_TICKS = 8 * REPEATED_FRAMES
"""Ticks of a part at least: those of a coarser clock don't place its frames."""

_PART_SHARE = 2
"""Parts are so long at least that they are one in so many of the segments that a track may have."""


class Parts(NamedTuple):
    """Segments of a track: as of `OfferedTrack` the first samples and times, and bytes of samples."""

    cuts: Int64
    times: Int64
    sizes: Int64


def cut_at_still_pictures(samples: Arrangement, cuts: Int64, times: Int64, timescale: int) -> Parts:
    """Cut stretches between key frames in which a picture stands still into parts.

    Args:
        cuts: number of each stretch's first sample, and behind them the number of samples.
        times: when each stretch is presented, and behind them the end.
        timescale: ticks per second.
    """
    sizes = samples.sizes(cuts)
    longest = int(TARGET_SECONDS * STRETCH * timescale)
    long = np.flatnonzero(np.diff(times) > longest).tolist()
    step = max(TARGET_SECONDS * timescale, -(-int(times[-1] - times[0]) * _PART_SHARE // MAX_SEGMENTS))
    found: list[tuple[Int64, Int64, Int64]] = []
    done = 0
    for number in long:
        bounds = int(times[number]), int(times[number + 1])
        parts = _parts(samples, (int(cuts[number]), int(cuts[number + 1])), bounds, step, timescale)
        if parts is None:
            continue
        begins, part_sizes = parts
        found.append((cuts[done:number], times[done:number], sizes[done:number]))
        found.append((np.full(len(begins), cuts[number]), begins, part_sizes))
        done = number + 1
    if not found:
        return Parts(cuts, times, sizes)
    found.append((cuts[done:], times[done:], sizes[done:]))
    return Parts(*(np.concatenate(column) for column in zip(*found, strict=True)))


def stands_still(samples: Arrangement, ticks: int, timescale: int) -> bool:
    """Return whether a last picture that stays for some ticks is sent several times.

    Browsers show nothing of a film of very few pictures either, as they wait for some more.
    """
    return ticks > LATEST_DECODING * timescale or len(samples) < REPEATED_FRAMES


def repeated_bytes(samples: Arrangement, cuts: Int64, end: int, timescale: int) -> int:
    """Return the bytes of samples that the last segment has once more, since its last picture stays for long.

    Args:
        cuts: first samples of segments, and behind them the number of samples.
        end: when the last picture's presentation ends, in ticks.
    """
    start, stop = int(cuts[-2]), int(cuts[-1])
    if not samples.is_held or start == stop or (len(cuts) > 2 and int(cuts[-3]) == start):
        return 0
    shown, lag = np.unique(samples.times(start, stop))[-2:].tolist(), LATEST_DECODING * timescale
    if shown[-1] - shown[0] >= lag or not stands_still(samples, end - shown[-1], timescale):
        return 0
    return int(samples.sizes(cuts[-2:])[0]) * -(-REPEATED_FRAMES // (stop - start))


def _parts(
    samples: Arrangement, stretch: tuple[int, int], bounds: tuple[int, int], step: int, timescale: int
) -> tuple[Int64, Int64] | None:
    """Return when the parts of a stretch begin and the bytes of their samples; None if it has only one."""
    start, stop = stretch
    if stop - start > MAX_STRETCH_SAMPLES or step < LEAST_TICKS:
        return None
    times = samples.times(start, stop)
    rising = np.sort(times)
    # Most films' stretches are only longer than a segment should be: nothing stands still in them.
    if int(np.diff(rising, append=bounds[1]).max()) <= HELD_SECONDS * timescale:
        return None
    shown = np.append(np.unique(rising), bounds[1])
    most = int(MAX_REPEATED_SECONDS * timescale)
    grid = np.arange(bounds[0] + step, bounds[1], step)
    picture = shown.searchsorted(grid, "right") - 1
    following = picture + 1
    kept = (picture >= 0) & (following < len(shown)) & (picture <= most)
    grid, picture, following = grid[kept], picture[kept], following[kept]
    # Behind the part's beginning what the picture depends on takes a tick each, then the picture is shown.
    kept = (shown[following] - shown[picture] > HELD_SECONDS * timescale) & (shown[picture] < grid)
    kept &= grid + picture + len(times) < shown[following]
    begins = np.append(bounds[0], grid[kept])
    if len(begins) == 1:
        return None
    sizes = np.cumsum(samples.sizes(np.arange(start, stop + 1)))
    # In decoding order up to the last sample that is presented before the part's end
    last = np.array([np.flatnonzero(times < end)[-1] for end in begins[1:].tolist()], np.int64)
    if int(sizes[last].max()) > MAX_REPEATED_BYTES:
        return None
    last = np.append(last, stop - start - 1)
    # The first and the last part have the picture once more, apart from the pictures around it.
    found = sizes[last] * -(-REPEATED_FRAMES // (last + 1))
    found[[0, -1]] += sizes[last[0]]
    return begins, found

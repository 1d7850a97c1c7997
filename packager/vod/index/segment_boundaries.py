"""Where a file is cut into segments: picture at its own sync samples, sound where the picture is cut.

A track may have millions of samples: they are looked at a stretch at a time, and no more of them than needed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial

import numpy as np

from media.errors import TooLargeError
from media.mp4.movie.box_arrays import Int64, stretches
from packager.vod.movie.edit_list import Arrangement

TARGET_SECONDS = 6
"""How long segments should be: what Apple's authoring specification (7.5) asks for."""

STRETCH = Fraction(11, 10)
"""How far past the target a segment may go to end at a sync sample: 6.006 s at 29.97 frames per second."""

_FARTHEST = 1 << 62
"""Bound of times in ticks that are compared, so that they fit into 64 bits."""

MAX_SEGMENTS = 20_000
"""Most segments of one track: 33 hours of six seconds. Each is a line that players read at the start."""


LISTED_PER_SEARCH = 32
"""How many times can be put into a list for what one search saves there, beside one in an array."""


def cut_at_sync(track: Arrangement, timescale: int, limit: int = MAX_SEGMENTS) -> Int64:
    """Cut a video track at its own sync samples.

    Args:
        timescale: its ticks per second.
        limit: most segments.

    Returns:
        Number of each segment's first sample, the first of which is 0.

    Raises:
        TooLargeError: there would be more segments.
    """
    # Whatever comes before the first sync sample goes with it.
    first = int(track.times(0, 1)[0])
    longest = int(TARGET_SECONDS * STRETCH * timescale)
    cutter = _Cutter((0, first), track.end, longest, limit)
    latest, following = first, False
    for start, stop in stretches(0, len(track)):
        sync = track.sync_samples(start, stop)
        if not following and len(sync):
            sync, following = sync[1:], True
        if not len(sync):
            continue
        times = track.times_at(sync)
        # Times that go back would give segments of no duration: those sync samples are no boundaries.
        highest = np.maximum.accumulate(np.append(latest, times))
        rising = times > highest[:-1]
        cutter.push(sync[rising], times[rising])
        latest = int(highest[-1])
    return cutter.finish()


def cut_at_times(
    track: Arrangement,
    timescale: int,
    times: Sequence[int] = (),
    times_timescale: int = 1,
    end: int = 0,
    limit: int = MAX_SEGMENTS,
) -> Int64:
    """Cut a sound track where another track is cut, and on beyond that one's end.

    Args:
        timescale: its ticks per second.
        times: when the segments of the other track begin, but the first one; empty without another track.
        times_timescale: ticks per second of these.
        end: when the other track ends, in the same; 0 without another track.
        limit: most segments.

    Returns:
        Number of each segment's first sample: the first frame that begins at a boundary or after it.
        Boundaries between which no frame begins make one segment.

    Raises:
        TooLargeError: there would be more segments.
    """
    last = track.end
    ticks = [min(-(-time * timescale // times_timescale), _FARTHEST) for time in times if time > 0]
    beyond = -(-end * timescale // times_timescale)
    onward = last - beyond > TARGET_SECONDS * timescale
    if onward and beyond > 0:
        ticks.append(beyond)
    starts = _first_at(track, np.array(ticks, np.int64))
    if onward:
        begin = int(starts[-1])
        cutter: _Cutter | None = None
        for start, heard in _heard(track):
            skipped = max(begin - start, 0)
            numbers, rest = np.arange(start + skipped, start + len(heard)), heard[skipped:]
            if cutter is None and len(rest):
                cutter = _Cutter((begin, int(rest[0])), last, TARGET_SECONDS * timescale, limit)
                numbers, rest = numbers[1:], rest[1:]
            if cutter is not None:
                cutter.push(numbers, rest)
        if cutter is not None:
            starts = np.concatenate((starts[:-1], cutter.finish()))
    if len(starts) > limit:
        raise TooLargeError(f"more than {limit} segments")
    return starts


def _first_at(track: Arrangement, ticks: Int64) -> Int64:
    """Find the first frame that begins at each of some rising times or after it, and the track's first."""
    found = [np.zeros(1, np.int64)]
    for start, heard in _heard(track):
        upto = int(np.searchsorted(ticks, heard[-1], "right"))
        found.append(start + np.searchsorted(heard, ticks[:upto]))
        ticks = ticks[upto:]
        if not len(ticks):
            break
    starts = np.concatenate(found)
    return starts[np.diff(starts, prepend=-1) > 0]


def _heard(track: Arrangement) -> Iterator[tuple[int, Int64]]:
    """Return the beginnings of frames and the number of the first, in ascending order."""
    # Sound's priming isn't heard; and times that go back, which only damage makes, are no boundaries.
    latest = 0
    for start, stop in stretches(0, len(track)):
        heard = np.maximum.accumulate(np.maximum(track.times(start, stop), latest))
        latest = int(heard[-1])
        yield start, heard


class _Cutter:
    """Chooses from possible boundaries so that no segment is longer than a limit where that is possible.

    Args:
        first: number and time of the first segment's first sample.
        end: when the last segment ends.
        longest: how long a segment should be at most; all times are in ticks.
        limit: most segments.
    """

    def __init__(self, first: tuple[int, int], end: int, longest: int, limit: int) -> None:
        self._starts = [first[0]]
        self._time = first[1]
        self._end = end
        self._longest = longest
        self._limit = limit
        self._within: tuple[Int64, Int64] = (np.zeros(0, np.int64), np.zeros(0, np.int64))

    def push(self, numbers: Int64, times: Int64) -> None:
        """Add the next possible boundaries: numbers and times of samples; the times don't fall."""
        numbers, times = np.append(self._within[0], numbers), np.append(self._within[1], times)
        at, chosen = 0, list[int]()
        time, last, longest, count = self._time, self._end - self._longest, self._longest, len(times)
        search: Callable[[int], int | np.intp]
        item: Callable[[int], int]
        if count and (int(times[-1]) - time) // longest * LISTED_PER_SEARCH > count:
            listed = times.tolist()
            search, item = partial(bisect_right, listed), listed.__getitem__
        else:
            search, item = partial(times.searchsorted, side="right"), times.item
        while time < last:
            beyond = int(search(time + longest))
            if beyond == count:
                break
            at = max(beyond - 1, at)
            chosen.append(at)
            time = item(at)
            at += 1
            if len(chosen) > self._limit:
                break
        self._time = time
        self._starts += numbers[chosen].tolist()
        self._check()
        kept = slice(max(at, len(times) - 1), None)
        self._within = numbers[kept], times[kept]

    def finish(self) -> Int64:
        """Return the numbers of the segments' first samples, at the end of the samples."""
        if len(self._within[0]) and self._end - self._time > self._longest:
            self._starts.append(int(self._within[0][-1]))
            self._check()
        return np.array(self._starts, np.int64)

    def _check(self) -> None:
        if len(self._starts) > self._limit:
            raise TooLargeError(f"more than {self._limit} segments")

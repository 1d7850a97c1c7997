"""Decode times that are derived from presentation times, so that both begin and end together.

Players place a segment by its first decode time (hls.js, behind a discontinuity), by its earliest picture, or
by both. They assume that a sample is shown for as long as its decoding lasts: for so long it counts as
buffered, and can be sought to.
"""

from __future__ import annotations

import numpy as np

from media.mp4.movie.box_arrays import Int64


def decode_times_in_turn(times: Int64, end: int) -> Int64:
    """Return decode times of samples whose decode durations are their presentation durations.

    Those that are presented out of turn are decoded after they are presented, but for an edit list.

    Args:
        times: when the samples are presented, in decoding order.
        end: when the last presentation ends.

    Returns:
        The decode times, which rise, and behind them the end.
    """
    return int(times.min()) + _sums(_shown_for(times, end))


def decode_times_in_time(times: Int64, end: int) -> Int64:
    """Return decode times that are never later than the presentation times, without an edit list.

    Samples last as long as they are shown, except at the beginning: a tick, where later samples precede them
    in presentation.

    Args:
        times: when the samples are presented, in decoding order.
        end: when the last presentation ends.

    Returns:
        The decode times, which rise and aren't negative, and behind them the end.
    """
    first = int(_latest(times, end, np.ones_like(times))[0])
    ticks = np.arange(len(times) + 1)
    found = np.maximum(_latest(times, end, _shown_for(times, end)), first + ticks)
    # ISO/IEC 14496-12 §8.8.12: the decode time of a fragment is unsigned
    return np.maximum(found, ticks)


def _shown_for(times: Int64, end: int) -> Int64:
    """Return the presentation duration of each sample, at least one tick."""
    order = np.argsort(times, kind="stable")
    durations = np.empty(len(times), np.int64)
    durations[order] = np.diff(times[order], append=end)
    return np.maximum(durations, 1)


def _latest(times: Int64, end: int, durations: Int64) -> Int64:
    """Return the latest decode times where samples last so many ticks, or more."""
    sums = _sums(durations)
    slack = np.append(times, end) - sums
    return np.minimum.accumulate(slack[::-1])[::-1] + sums


def _sums(durations: Int64) -> Int64:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(durations)))

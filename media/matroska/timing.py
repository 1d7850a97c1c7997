"""Decode and presentation times of the frames of a Matroska track.

Timestamps are of the presentation, in the order of decoding, and rounded to milliseconds (RFC 9559 §11.1).
Where the source's frames come at a constant rate, the exact times are found again; where they don't, the
timestamps are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from media.mp4.movie.box_arrays import Int64, stretches

SECOND = 1_000_000_000
"""Nanoseconds, of which the file's ticks are some."""

LONGEST = 1 << 62
"""Bound of times in nanoseconds, so that sums of them stay inside 64 bits."""

RATES = tuple(
    Fraction(rate) if isinstance(rate, int) else Fraction(*rate)
    for rate in (
        *((24000, 1001), 24, 25, (30000, 1001), 30, 48, 50, (60000, 1001), 60, 100, (120000, 1001), 120),
        *(5, 6, 8, 10, 12, (25, 2), (12000, 1001), 15, (15000, 1001), 16, 18, 20, 90, 144),
    )
)
"""Rates of films and cameras in frames per second, to which what is written in nanoseconds belongs."""

NEAR = 1e-4
"""Relative deviation up to which a measured rate counts as a common one."""

SHORTEST_FRAMES = 3
"""Ticks that a frame has at least, whose place among others its rounded timestamp shows."""

MAX_SECTIONS_SHARE = 16
"""Of frames of constant length, how many there are at least to a jump in time, on average."""

LONGEST_REORDERING = 2
"""Seconds that a picture may be shown after it is decoded; more is damage."""

LONGEST_OVERLAP = 10 * SECOND
"""Nanoseconds by which sound may step back; more is damage."""

PLAIN_TIMESCALE = 1_000_000


class Times(NamedTuple):
    """Decode and presentation times of a track's frames.

    Attributes:
        timescale: ticks per second.
        decode: decode time of each frame, rising from 0, and the end of the last.
        shown: ticks from each frame's decoding to its presentation.
        zero: presentation time of tick 0, in ticks; may be negative.
    """

    timescale: int
    decode: Int64
    shown: Int64
    zero: int


def frames_in_turn(
    ticks: Int64, laced: Int64, scale: int, rate: int, frame_samples: int
) -> NDArray[np.bool_] | None:
    """Return which audio frames don't overlap earlier ones; None if all of them are to be kept.

    Where a recording steps back, as at a splice, its repeated sound is heard once, and the rest in time.
    The arguments are those of ``sound_times``.
    """
    backs = (np.diff(ticks[max(part.start - 1, 0) : part.stop]).min(initial=0) for part in _parts(len(ticks)))
    least = min(backs, default=0) * scale
    each = frame_samples * SECOND // rate
    allowed = max(each // 2, 2 * scale)
    if not frame_samples or not -LONGEST_OVERLAP <= least < -allowed:
        return None
    times = ticks * scale + np.asarray(laced, np.int64) * each
    latest = np.maximum.accumulate(times)
    early = times[1:] < latest[:-1] - allowed
    # The first one behind those that overlap may overlap in a part.
    early[1:] |= early[:-1] & (times[2:] < latest[1:-1] + each - allowed)
    kept = np.append(True, ~early)
    return kept if int(kept.sum()) * 2 > len(kept) else None


def sound_times(
    ticks: Int64, laced: Int64, scale: int, rate: int, frame_samples: int, last_duration: int | None
) -> Times:
    """Compute the times of audio frames.

    Args:
        ticks: timestamp of each one's block.
        laced: its place among the frames of its block.
        scale: nanoseconds of a tick.
        rate: samples a second, which are the ticks of what is found.
        frame_samples: of each frame; 0 where they differ, or nobody knows.
        last_duration: of the last block in ticks; None where it doesn't say.
    """
    if frame_samples == 0:
        gaps = np.diff(ticks)
        median = float(np.median(gaps)) if len(gaps) else 0.0
        frame_samples = max(round(median * scale * rate / SECOND), 1)
        steps = np.zeros(0, np.int64)
    else:
        steps = _in_sections(ticks, laced, scale, rate, frame_samples)
    if not len(steps):
        steps = _rounded(ticks, scale, rate)
        for part in _parts(len(steps)):
            steps[part] += np.asarray(laced[part], np.int64) * frame_samples
    start = np.maximum.accumulate(steps, out=steps)
    last = frame_samples
    if last_duration is not None:
        last = min(max(round(last_duration * scale * rate / SECOND), 1), 16 * frame_samples)
    zero = int(start[0])
    decode = np.append(start, int(start[-1]) + last)
    decode -= zero
    start[:] = 0
    return Times(rate, decode, start, zero)


def _parts(count: int) -> list[slice]:
    """Divide arrays with an entry for each frame into slices, so that intermediate results stay small."""
    return [slice(*stretch) for stretch in stretches(0, count)]


def _in_sections(ticks: Int64, laced: Int64, scale: int, rate: int, frame_samples: int) -> Int64:
    """Return the number of samples before each frame; an empty array if the timestamps often jump."""
    count = len(ticks)
    # The remainder of each frame is its rounding, until there is a jump.
    rest = np.empty(count, np.int64)
    for part in _parts(count):
        numbers = np.arange(part.start, part.stop)
        within = np.asarray(laced[part], np.int64) * (frame_samples * SECOND // rate)
        rest[part] = ticks[part] * scale + within - _exact(numbers * frame_samples, rate)
    found = np.empty(count, np.int64)
    begin, sections, width = 0, 0, 1024
    while begin < count:
        sections += 1
        if sections > 8 + count // MAX_SECTIONS_SHARE:
            return np.zeros(0, np.int64)
        base = int(rest[begin])
        stop, width = begin, 1024
        while stop < count:
            ahead = rest[stop : stop + width]
            off = np.flatnonzero(np.abs(ahead - base) > scale + scale // 8)
            if len(off):
                stop += int(off[0])
                break
            stop, width = stop + len(ahead), 2 * width
        nanoseconds = int(ticks[begin]) * scale + int(laced[begin]) * (frame_samples * SECOND // rate)
        first = round(nanoseconds * rate / SECOND)
        found[begin:stop] = np.arange(first, first + (stop - begin) * frame_samples, frame_samples)
        begin = stop
    return found


def _exact(samples: Int64, rate: int) -> Int64:
    """Convert samples to nanoseconds without overflowing 64 bits."""
    whole, part = np.divmod(samples, rate)
    return np.asarray(whole * SECOND + part * SECOND // rate, np.int64)


def _rounded(ticks: Int64, scale: int, timescale: int) -> Int64:
    rounded = np.empty(len(ticks), np.int64)
    for part in _parts(len(ticks)):
        whole, rest = np.divmod(ticks[part] * scale, SECOND)
        rounded[part] = whole * timescale + (rest * timescale + SECOND // 2) // SECOND
    return rounded


def picture_times(ticks: Int64, scale: int, default_duration: int, last_duration: int | None) -> Times:
    """Compute the decode and presentation times of pictures.

    Args:
        ticks: timestamp of each, in the order of decoding.
        scale: nanoseconds of a tick.
        default_duration: nanoseconds of each, as the file says; 0 where it doesn't.
        last_duration: of the last one in ticks; None where it doesn't say.
    """
    timescale, shown, length = _on_a_grid(ticks, scale, default_duration)
    if last_duration is not None and not length:
        length = max(round(last_duration * scale * timescale / SECOND), 1)
    return times_in_order(timescale, shown, length)


def times_in_order(timescale: int, shown: Int64, length: int = 0) -> Times:
    """Compute the decode times of pictures from their presentation times.

    Args:
        timescale: ticks per second.
        shown: presentation time of each, in the order of decoding; the array is changed.
        length: ticks of the last one; 0 if unknown.
    """
    ordered = np.sort(shown)
    if not length:
        gaps = np.diff(ordered)
        length = max(int(np.median(gaps)), 1) if len(gaps) else max(timescale // 25, 1)
    shown -= ordered
    delay = -int(shown.min())
    if delay > LONGEST_REORDERING * timescale:
        shown += ordered
        ordered = np.maximum.accumulate(shown, out=ordered)
        shown[:] = 0
        delay = 0
    # Decode times are shifted so that the n-th decoding never follows the n-th presentation.
    start = int(ordered[0]) - delay
    shown += delay
    decode = np.append(ordered, int(ordered[-1]) + length)
    decode -= start + delay
    return Times(timescale, decode, shown, start)


def _on_a_grid(ticks: Int64, scale: int, default_duration: int) -> tuple[int, Int64, int]:
    """Return timescale, times and a frame's duration, exact if the frame rate is constant."""
    first, last = int(ticks.min()) * scale, int(ticks.max()) * scale
    average = Fraction(last - first, max(len(ticks) - 1, 1))
    # The error of the average is the rounding of the first and the last timestamp.
    unsure = float(scale / max(last - first, 1)) + NEAR
    for nanoseconds_each, doubt in ((Fraction(default_duration), NEAR), (average, unsure)):
        if nanoseconds_each < SHORTEST_FRAMES * scale:
            continue
        for rate in _rates_near(SECOND / nanoseconds_each, doubt):
            numbers = _numbers(ticks, scale, first, rate)
            if len(numbers):
                factor = -(-1000 // rate.numerator)
                timescale, length = rate.numerator * factor, rate.denominator * factor
                numbers *= length
                numbers += round(first * timescale / SECOND)
                return timescale, numbers, length
    timescale = SECOND // scale if SECOND % scale == 0 and scale <= 10_000_000 else PLAIN_TIMESCALE
    return timescale, _rounded(ticks, scale, timescale), 0


def _numbers(ticks: Int64, scale: int, first: int, rate: Fraction) -> Int64:
    """Number the frames by their times at a constant rate; return an empty array if they don't keep it."""
    numbers, each = np.empty(len(ticks), np.int64), float(SECOND / rate)
    for part in _parts(len(ticks)):
        nanoseconds = ticks[part] * scale - first
        numbers[part] = np.rint(nanoseconds / each)
        exact = _exact(numbers[part] * rate.denominator, rate.numerator)
        if int(np.abs(nanoseconds - exact).max()) > scale + scale // 8:
            return numbers[:0]
    ordered = np.sort(numbers)
    is_twice = bool((ordered[1:] == ordered[:-1]).any())
    return numbers[:0] if is_twice else numbers


def _rates_near(rate: Fraction, doubt: float) -> Sequence[Fraction]:
    """Return the common frame rates near a measured one, the nearest first, then the measured one."""
    near = [one for one in RATES if abs(float(one / rate) - 1) <= doubt]
    near.sort(key=lambda one: abs(one - rate))
    # Below a frame in half an hour there is no common rate.
    own = rate.limit_denominator(1001)
    return [*near, own] if own > 0 and rate < 1000 else near

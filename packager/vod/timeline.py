"""Where a file's samples lie in its presentation, and where they are cut into segments. Pure arithmetic.

Edit lists (ISO/IEC 14496-12 §8.6.6) map the media of each track onto the presentation. What is published
has at most one edit, that of CMAF and of every packager: it takes away the composition offset of the first
frame and the priming of the sound. All else that the file's edits say is put into the decode times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from media.errors import MalformedError, UnsupportedError
from media.movie import Edit
from media.samples import Int64, SampleTable

TARGET_SECONDS = 6
"""How long segments should be: what Apple's authoring specification (7.5) asks for."""

STRETCH = Fraction(11, 10)
"""How far past the target a segment may go to end at a sync sample: 6.006 s at 29.97 frames per second."""

MAX_PRIMING = Fraction(1, 4)
"""Seconds of sound before the edit's start that are sent along; HE-AAC's start-up is 0.12 s, Opus' 0.08 s."""

MAX_DELAY_SECONDS = 24 * 3600
"""Longest time that an edit list may leave empty before a track begins."""


MAX_SEGMENTS = 20_000
"""Most segments of one track: 33 hours of six seconds. Each is a line that players read at the start."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Which part of a track's media is presented, and when. All in ticks of the media's timescale.

    Attributes:
        delay: empty time before the track begins.
        media_start: composition time of the media that is presented first.
        media_end: composition time at which it ends, a tick of the movie's clock included; None: with the
            media.
        priming: how much sound before it may be sent along.
    """

    delay: int = 0
    media_start: int = 0
    media_end: int | None = None
    priming: int = 0


def place(edits: Sequence[Edit], movie_timescale: int, timescale: int) -> Placement:
    """Reduce an edit list to one stretch of media after some empty time.

    Args:
        edits: the list, in order; empty for a track without one.
        movie_timescale: ticks per second of the edits' durations.
        timescale: ticks per second of the track's media.

    Returns:
        The placement.

    Raises:
        UnsupportedError: the edits jump in the media, pause in the middle or change the speed.
    """
    delay, rest = 0, list(edits)
    while rest and rest[0].media_time == -1:  # §8.6.6.1: an empty edit offsets the start
        delay += rest.pop(0).duration
    while rest and rest[-1].media_time == -1:
        rest.pop()
    if not rest:
        rest = [Edit(0, 0)]
    if delay > MAX_DELAY_SECONDS * movie_timescale:
        raise UnsupportedError("an edit list that begins with more than a day of nothing")
    start, length = rest[0].media_time, 0
    tick = -(-timescale // movie_timescale)  # durations are rounded to the movie's clock
    for edit in rest:
        expected = start + length * timescale // movie_timescale
        if edit.media_time == -1 or abs(edit.media_time - expected) > tick or edit.rate != 1:
            raise UnsupportedError("an edit list that cuts within the media")
        length += edit.duration
    # §8.6.6.1: a duration of 0 means the rest of the media
    end = start + length * timescale // movie_timescale + tick if rest[-1].duration else None
    return Placement(
        delay=round(Fraction(delay * timescale, movie_timescale)),
        media_start=start,
        media_end=end,
        priming=int(MAX_PRIMING * timescale),
    )


def lead_in(table: SampleTable, placement: Placement) -> int:
    """Say how much earlier a video track must begin, so that its first frame can be decoded.

    Returns:
        Ticks from the sync sample at or before the edit's start up to that start; 0 where the edit starts
        at a sync sample, as it does in files that weren't trimmed without encoding.
    """
    first = _first_video_sample(table, placement)
    presented = placement.delay + int(table.composition_time[first]) - placement.media_start
    return max(0, -presented)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A track's samples as they are published.

    Attributes:
        samples: the samples on the timeline of the published media, whose decode times begin at 0 or later
            and whose composition offsets aren't negative.
        start: composition time at which the presentation begins, for the edit list of the init segment.
    """

    samples: SampleTable
    start: int

    @property
    def times(self) -> Int64:
        """When each sample is presented, in ticks from the presentation's beginning."""
        return np.subtract(self.samples.composition_time, self.start)

    @property
    def end(self) -> int:
        """When the last one's presentation ends."""
        return int((self.times + np.diff(self.samples.decode_time)).max())


def arrange(table: SampleTable, placement: Placement, origin: int, *, video: bool) -> Arrangement:
    """Put a track's samples on the presentation's timeline and drop those that aren't presented.

    Args:
        table: the samples on the media's own timeline.
        placement: the track's edit.
        origin: ticks by which the whole presentation moves, see :func:`lead_in`.
        video: whether samples need those before them, so that only a sync sample can be the first.

    Returns:
        The samples that are presented, and sound's priming before them.

    Raises:
        MalformedError: nothing is left.
    """
    shift = placement.delay + origin - placement.media_start
    composition = table.composition_time
    stop = len(table)
    if placement.media_end is not None:
        shown = np.flatnonzero(composition < placement.media_end)
        stop = int(shown[-1]) + 1 if len(shown) else 0
    if video:
        first = _first_video_sample(table, placement)
    else:
        first = _first_sound_sample(composition + shift, np.diff(table.decode_time), placement.priming)
    if first >= stop:
        raise MalformedError("the edit list leaves no sample of a track")
    # Offsets below 0 are written as decoding that begins earlier: readers that know signed offsets
    # (§8.8.8.2 version 1) still don't agree on the times that come of them.
    offsets = table.composition_offset[first:stop]
    lowest = min(0, int(offsets.min()))
    offsets = offsets - lowest
    if np.any(offsets >= 1 << 31):
        raise MalformedError("composition offsets that don't fit in 31 bits")
    decode = table.decode_time[first : stop + 1] + shift + lowest
    start = max(0, -int(decode[0]))  # §8.8.12: the decode time of a fragment is unsigned
    low, high = np.searchsorted(table.sync, (first, stop))
    samples = SampleTable(
        offset=table.offset[first:stop],
        size=table.size[first:stop],
        decode_time=decode + start,
        composition_offset=offsets,
        sync=table.sync[low:high] - first,
        description=table.description,
    )
    return Arrangement(samples, start)


def _first_sound_sample(times: Int64, durations: Int64, priming: int) -> int:
    """Find the first frame to send: those heard, and before them as many as a decoder needs to start up.

    Encoders put 1,024 samples and more of start-up before the sound, which the edit list skips; a decoder
    that starts behind them gets the first frame wrong.
    """
    heard = np.flatnonzero(times + durations > 0)
    first = int(heard[0]) if len(heard) else len(times)
    return min(first, int(np.searchsorted(times, -priming)))


def _first_video_sample(table: SampleTable, placement: Placement) -> int:
    """Find the sync sample from which the edit's first frame can be decoded."""
    if not len(table.sync):
        return 0
    earlier = np.flatnonzero(table.composition_time[table.sync] <= placement.media_start)
    return int(table.sync[earlier[-1]]) if len(earlier) else 0


def cut_at_sync(track: Arrangement, timescale: int) -> Int64:
    """Cut a video track at its own sync samples.

    Args:
        track: the track.
        timescale: its ticks per second.

    Returns:
        Index of each segment's first sample, the first of which is 0.
    """
    starts = track.samples.sync
    shown = track.times
    times = shown[starts]
    if len(starts) == 0 or starts[0] != 0:  # whatever comes before the first sync sample goes with it
        starts = np.concatenate((np.zeros(1, np.int64), starts[1:]))
        times = np.concatenate((shown[:1], times[1:]))
    # Times that go back would give segments of no duration: those sync samples are no boundaries.
    rising = np.concatenate(([True], times[1:] > np.maximum.accumulate(times)[:-1]))
    limit = int(TARGET_SECONDS * STRETCH * timescale)
    return starts[rising][_greedy(times[rising], track.end, limit)]


def cut_at_times(track: Arrangement, timescale: int, times: Sequence[Fraction], end: Fraction) -> Int64:
    """Cut a sound track where another track is cut, and on beyond that one's end.

    Args:
        track: the track.
        timescale: its ticks per second.
        times: seconds at which the segments of the other track begin, but the first one; empty without
            another track.
        end: seconds at which the other track ends; 0 without another track.

    Returns:
        Index of each segment's first sample: the first frame that begins at a boundary or after it.
        Boundaries between which no frame begins make one segment.
    """
    # Sound's priming isn't heard; and times that go back, which only damage makes, are no boundaries.
    shown, last = np.maximum.accumulate(np.maximum(track.times, 0)), track.end
    ticks = [min(-(-time.numerator * timescale // time.denominator), last) for time in times if time > 0]
    beyond = -(-end.numerator * timescale // end.denominator)
    onward = last - beyond > TARGET_SECONDS * timescale
    if onward and beyond > 0:
        ticks.append(beyond)
    starts = np.searchsorted(shown, np.array(ticks, np.int64))
    starts = np.concatenate((np.zeros(1, np.int64), starts[starts < len(shown)]))
    starts = starts[np.diff(starts, prepend=-1) > 0]
    if onward:
        begin = int(starts[-1])
        starts = np.concatenate(
            (starts[:-1], begin + _greedy(shown[begin:], last, TARGET_SECONDS * timescale))
        )
    return starts


def _greedy(times: Int64, end: int, limit: int) -> Int64:
    """Choose from possible boundaries so that no segment is longer than the limit where that is possible."""
    chosen, position = [0], 0
    while end - times[position] > limit:
        following = int(np.searchsorted(times, times[position] + limit, "right")) - 1
        position = max(following, position + 1)
        if position >= len(times):
            break
        chosen.append(position)
        if len(chosen) > MAX_SEGMENTS:
            raise UnsupportedError(f"a track of more than {MAX_SEGMENTS} segments")
    return np.array(chosen, np.int64)

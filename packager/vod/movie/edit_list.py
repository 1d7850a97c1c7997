"""Where a file's samples lie in its presentation, by its tracks' edit lists. Pure arithmetic.

Edit lists (ISO/IEC 14496-12 §8.6.6) map the media of each track onto the presentation. A published track has
at most one edit, that of CMAF and of every packager: it takes away the composition offset of the first frame
and the priming of the sound. All other edits of the file become part of the decode times.

A track may have millions of samples: they are examined a stretch at a time, and no more of them than needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.movie.box_arrays import STRETCH_LENGTH, Int64, stretches
from media.mp4.movie.movie import Edit
from media.mp4.movie.sample_table import Samples, SampleTable

MAX_PRIMING = Fraction(1, 4)
"""Seconds of sound before the edit's start that are sent along; HE-AAC's start-up is 0.12 s, Opus' 0.08 s."""

MAX_DELAY_SECONDS = 24 * 3600
"""Longest time that an edit list may leave empty before a track begins."""

SLOWEST = Fraction(1, 1000)
"""Rates below which nobody plays a film; some writers put 1 where 65,536 means it."""

MAX_SEARCHED = 8
"""Stretches of samples in which an edit list's begin or end is searched: an hour of 30 frames a second.

Only composition offsets of hours need more than the first.
"""


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


def apply_edit_list(edits: Sequence[Edit], movie_timescale: int, timescale: int) -> Placement:
    """Reduce an edit list to one stretch of media after some empty time.

    Args:
        edits: the list, in order; empty for a track without one.
        movie_timescale: ticks per second of the edits' durations.
        timescale: ticks per second of the track's media.

    Returns:
        The placement.

    Raises:
        UnsupportedError: the edits jump in the media, pause in the middle or change the speed; see
            :func:`packager.vod.movie.paused_tracks.with_pauses`.
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
        if edit.media_time == -1 or abs(edit.media_time - expected) > tick or not _plain_rate(edit, rest):
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


def moved_edits(edits: Sequence[Edit], begin: int, movie_timescale: int, timescale: int) -> tuple[Edit, ...]:
    """Return the edit list of a track whose media before a tick are cut off, so that its clock begins there.

    Args:
        begin: the tick.
        movie_timescale: ticks per second of the edits' durations.
        timescale: ticks per second of the track's media.
    """
    rest = [one for one in edits if one.media_time != -1] or [Edit(0, 0)]
    empty = [one for one in edits if one.media_time == -1]
    late = begin - rest[0].media_time
    moved = [replace(one, media_time=max(one.media_time - begin, 0)) for one in rest]
    if late > 0:
        length = round(Fraction(late * movie_timescale, timescale))
        empty.append(Edit(length, -1))
        moved[0] = replace(moved[0], duration=max(moved[0].duration - length, 0))
    return (*empty, *moved) if begin else tuple(edits)


def _plain_rate(edit: Edit, rest: Sequence[Edit]) -> bool:
    """Return whether an edit's media are played at rate 1, or at a rate that is written by mistake for 1."""
    return edit.rate == 1 or (len(rest) == 1 and 0 < edit.rate < SLOWEST)


def lead_in(table: SampleTable, placement: Placement, first: int) -> int:
    """Return how much earlier a video track must begin, so that its first frame can be decoded.

    Args:
        first: the one that :func:`first_video_sample` finds.

    Returns:
        Ticks from the sync sample at or before the edit's start up to that start; 0 where the edit starts
        at a sync sample, as it does in files that weren't trimmed without encoding.
    """
    presented = placement.delay + int(table.composition_times(first, first + 1)[0]) - placement.media_start
    return max(0, -presented)


class LeftOut:
    """Bytes at the beginnings of some samples that aren't published.

    Args:
        numbers: of these samples in the track's table, ascending.
        sizes: how many bytes of each.
    """

    __slots__ = ("_before", "_numbers", "_sizes")

    def __init__(self, numbers: Int64, sizes: Int64) -> None:
        self._numbers, self._sizes = numbers, sizes
        self._before = np.append(0, np.cumsum(sizes))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._numbers.nbytes + self._sizes.nbytes + self._before.nbytes

    def between(self, cuts: Int64) -> Int64:
        """Return the bytes that aren't published between each of some rising numbers and the next."""
        return np.diff(self._before[self._numbers.searchsorted(cuts)])

    def of(self, start: int, stop: int) -> Int64:
        """Return the bytes of each sample of a range that aren't published."""
        found = np.zeros(stop - start, np.int64)
        first, last = self._numbers.searchsorted((start, stop)).tolist()
        found[self._numbers[first:last] - start] = self._sizes[first:last]
        return found


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A track's published samples, numbered from the first of them.

    Attributes:
        table: all samples of the track.
        first: index of the first published sample in the table.
        shift: ticks from the media's own timeline to that of the presentation.
        raised: ticks that are added to composition offsets, so that none is negative, and subtracted from
            decode times.
        start: composition time at which the presentation begins, for the edit list of the init segment.
        end: when the last sample's presentation ends, in ticks from the presentation's beginning.
        hidden: number of samples up to the last one that an edit list cuts off, and which lasts a tick.
        is_held: whether that is later than the track says, because another one is longer.
        left_out: the bytes of samples that aren't published; None where all are.
    """

    table: SampleTable
    first: int
    count: int
    shift: int
    raised: int
    start: int
    end: int
    is_held: bool = False
    hidden: int = 0
    left_out: LeftOut | None = None

    def __len__(self) -> int:
        return self.count

    def held_until(self, end: int) -> Arrangement:
        """Return the same samples, of which the last one is presented until a later tick."""
        return replace(self, end=end, is_held=True) if end > self.end else self

    @property
    def duration(self) -> int:
        """Ticks from the first sample's decode time to the end of the last one's."""
        begin, end = (
            int(self.table.decode_times(self.first + at, self.first + at)[0]) for at in (0, self.count)
        )
        return end - begin

    def largest_rate(self, window: int) -> Fraction:
        """Return the most samples per tick over so many ticks in a row; 0 if all last less."""
        each = self.table.constant_duration
        if each:  # of a film whose frames all last the same nothing has to be compared
            return Fraction(1, each) if min(self.count, STRETCH_LENGTH) * each >= window else Fraction(0)
        largest, first = Fraction(0), self.first
        if self.hidden:  # the rest of their group of pictures isn't as regular as the next ones
            most = min(self.hidden + STRETCH_LENGTH, self.count)
            first += min(self.sync_samples(self.hidden, most).tolist(), default=self.hidden)
        for start, stop in stretches(first, self.first + self.count):
            times = self.table.decode_times(start, stop)
            following = times.searchsorted(times + window)
            whole = following < len(times)
            numbers, following = np.flatnonzero(whole), following[whole]
            if len(numbers):
                counts, lengths = following - numbers, times[following] - times[numbers]
                best = int((counts / lengths).argmax())
                largest = max(largest, Fraction(int(counts[best]), int(lengths[best])))
        return largest

    def samples(self, start: int, stop: int) -> Samples:
        """Expand a range: the decode times are 0 or later, and the composition offsets aren't negative."""
        found = self.table.samples(self.first + start, self.first + stop)
        if self.left_out is not None:
            fewer = self.left_out.of(self.first + start, self.first + stop)
            found = replace(found, offset=found.offset + fewer, size=found.size - fewer)
        return replace(
            found,
            decode_time=found.decode_time + (self.shift - self.raised + self.start),
            composition_offset=found.composition_offset + self.raised,
        )

    def places(self, start: int, stop: int) -> tuple[Int64, Int64]:
        """Return where each sample of a range begins in the file, and its size in bytes."""
        offset, size = self.table.places(self.first + start, self.first + stop)
        if self.left_out is None:
            return offset, size
        fewer = self.left_out.of(self.first + start, self.first + stop)
        return offset + fewer, size - fewer

    @property
    def data_end(self) -> int:
        """The file offset behind which there are no data of the track."""
        return self.table.data_end(self.first, self.first + self.count)

    def times(self, start: int, stop: int) -> Int64:
        """Return the presentation times of a range of samples in ticks from the presentation's beginning."""
        return self.table.composition_times(self.first + start, self.first + stop) + self.shift

    def times_at(self, numbers: Int64) -> Int64:
        """Return the presentation times of samples with ascending numbers, as ``times`` does."""
        return self.table.composition_times_of(numbers + self.first) + self.shift

    def earliest(self, stop: int) -> int:
        """Return the earliest of the times of the samples before one."""
        lowest, _ = self.table.offset_bounds(0, len(self.table))
        found = int(self.times(0, 1)[0])
        for start, end in searched(0, stop):
            at = self.first + start
            # Decode times never go back: what comes from here on isn't earlier.
            if int(self.table.decode_times(at, at)[0]) + lowest + self.shift > found:
                break
            found = min(found, int(self.times(start, end).min()))
        return found

    def sync_samples(self, start: int, stop: int) -> Int64:
        """Return the numbers of a range's sync samples."""
        return self.table.sync_samples(self.first + start, self.first + stop) - self.first

    def sizes(self, cuts: Int64) -> Int64:
        """Return the bytes between each of some rising numbers and the next."""
        found = self.table.bytes_between(cuts + self.first)
        return found if self.left_out is None else found - self.left_out.between(cuts + self.first)


def arrange(table: SampleTable, placement: Placement, origin: int, first: int | None = None) -> Arrangement:
    """Arrange a track's samples on the presentation's timeline, without those that aren't presented.

    Args:
        table: the samples on the media's own timeline.
        origin: ticks by which the whole presentation moves, see :func:`lead_in`.
        first: of video, whose samples need those before them, what :func:`first_video_sample` finds.

    Returns:
        The samples that are presented, and sound's priming before them.

    Raises:
        MalformedError: nothing is left.
    """
    shift = placement.delay + origin - placement.media_start
    media_end = placement.media_end
    stop = len(table) if media_end is None else presented_before(table, media_end)
    if first is None:
        first = _first_sound_sample(table, shift, placement.priming)
    if first >= stop:
        raise MalformedError("the edit list leaves no sample of a track")
    # Offsets below 0 are written as decoding that begins earlier: readers that know signed offsets (§8.8.8.2
    # version 1) still don't agree on the resulting times.
    lowest, highest = table.offset_bounds(first, stop)
    raised = max(0, -lowest)
    if highest + raised >= 1 << 31:
        raise MalformedError("composition offsets that don't fit in 31 bits")
    # §8.8.12: the decode time of a fragment is unsigned
    start = max(0, -(int(table.decode_times(first, first)[0]) + shift - raised))
    end = _end(table, first, stop, media_end) + shift
    return Arrangement(table, first, stop - first, shift, raised, start, end)


def searched(start: int, stop: int, *, backwards: bool = False) -> Iterator[tuple[int, int]]:
    """Cut a range into stretches in which something is looked for, in order or backwards.

    Raises:
        TooLargeError: it isn't in the first ``MAX_SEARCHED`` of them.
    """
    for number, begin in enumerate(range(start, stop, STRETCH_LENGTH)):
        if number == MAX_SEARCHED:
            raise TooLargeError("an edit list or composition offsets of hours")
        length = min(STRETCH_LENGTH, stop - begin)
        end = start + stop - begin
        yield (end - length, end) if backwards else (begin, begin + length)


def presented_before(table: SampleTable, time: int) -> int:
    """Find the end of the samples that are presented before a time.

    Raises:
        TooLargeError: composition offsets are too large.
    """
    lowest, _ = table.offset_bounds(0, len(table))
    for begin, end in searched(0, table.decoded_by(time - lowest), backwards=True):
        shown = np.flatnonzero(table.composition_times(begin, end) < time)
        if len(shown):
            return begin + int(shown[-1]) + 1
    return 0


def _end(table: SampleTable, first: int, stop: int, media_end: int | None) -> int:
    """Find when the presentation of some samples ends: that of the last one which is presented.

    It is presented for as long as the last sample's decoding lasts, and no longer than the edit list says.
    Decode durations of earlier samples are no times of presentation: where a picture stands still, others are
    decoded before the pause.
    """
    _, highest = table.offset_bounds(0, len(table))
    latest: int | None = None
    for begin, end in searched(first, stop, backwards=True):
        # Decode times never go back: what is before can't be presented later than this.
        if latest is not None and int(table.decode_times(end, end)[0]) + highest <= latest:
            break
        found = int(table.composition_times(begin, end).max())
        latest = found if latest is None else max(latest, found)
    before, behind = table.decode_times(stop - 1, stop).tolist()
    end = (latest or 0) + int(behind - before)
    return end if media_end is None else max(min(end, media_end), (latest or 0) + 1)


def _first_sound_sample(table: SampleTable, shift: int, priming: int) -> int:
    """Find the first frame to send: those heard, and before them as many as a decoder needs to start up.

    Encoders put 1,024 samples and more of start-up before the sound, which the edit list skips; a decoder
    that starts behind them gets the first frame wrong.
    """
    primed: int | None = None
    _, highest = table.offset_bounds(0, len(table))
    # Earlier samples end before the priming.
    early = max(table.decoded_by(-priming - shift - highest - 1) - 1, 0)
    for begin, end in searched(early, len(table)):
        times = table.composition_times(begin, end)
        if primed is None and len(near := np.flatnonzero(times >= -priming - shift)):
            primed = begin + int(near[0])
        heard = np.flatnonzero(table.ends(begin, end) > -shift)
        if len(heard):
            first = begin + int(heard[0])
            return first if primed is None else min(first, primed)
    return len(table) if primed is None else primed


def first_video_sample(table: SampleTable, placement: Placement) -> int:
    """Find the sync sample from which the edit's first frame can be decoded."""
    lowest, _ = table.offset_bounds(0, len(table))
    # Decode times never go back: what comes from there on is presented later.
    for begin, end in searched(0, table.decoded_by(placement.media_start - lowest), backwards=True):
        sync = table.sync_samples(begin, end)
        earlier = np.flatnonzero(table.composition_times_of(sync) <= placement.media_start)
        if len(earlier):
            return int(sync[earlier[-1]])
    return 0

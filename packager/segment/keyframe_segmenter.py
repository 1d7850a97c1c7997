"""The segmenter for streams that aren't encoded here: cuts video at its key frames, and audio with it.

Video opens a segment with the first key frame that is due. The other renditions hold back samples that may
still belong to the segment before. A part is closed when the sample behind it is known, and with it whether
the part is its segment's last one. A sample that is longer than a part may be is a part by itself. Where no
key frame comes in time, the segment ends, and the next one begins with the next key frame, behind a
discontinuity.

A key frame inside a segment begins a part, too, where the part before it may end (RFC 8216bis §4.4.4.9).
Where key frames come regularly, the part target is such that it always may (keyframe_cadence.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.mp4.fragments.moof import Sample, total_duration
from packager.segment.grid_segmenter import GridSegmenter, Segmenter
from packager.segment.limits import DEFAULT_LIMITS, SegmentLimits
from packager.segment.part_packer import (
    CadenceError,
    CutPart,
    PartPacker,
    SampleRun,
    averaged_duration,
    continues,
)
from packager.window.cadence import SHORTEST_PART, Cadence
from packager.window.sequence_numbers import MARGIN_SECONDS

KEPT_CUTS = 64
"""Cuts that are remembered for the renditions behind the leading one."""


def segmenter_factories(
    cadence: Cadence,
    start: Fraction,
    count: int,
    limits: SegmentLimits = DEFAULT_LIMITS,
    *,
    begins_early: bool = False,
    on_late_key: Callable[[bool], None] | None = None,
    longest_picture: Fraction = Fraction(0),
) -> list[Callable[[int], Segmenter]]:
    """Return a function for each rendition that makes its segmenter, once its timescale is known.

    Args:
        start: media time in seconds at which the run's first segment begins, where nothing is kept.
        count: how many renditions there are; where the source's key frames count, the first one has them.
        limits: how much media each rendition may hold, and how long it waits to begin.
        begins_early: whether the first segment may be shorter, so that there is one sooner, where the
            source's key frames count.
        on_late_key: called when no key frame came in time, so that something is left out; with whether one
            has ever come in time.
        longest_picture: seconds for which a picture of a slow source may be shown; one of any source may be
            shown for ``LONGEST_PAUSE``.
    """
    if cadence.longest is None:
        return [lambda timescale: _steady(cadence, start, timescale, limits)] * count
    cuts = Cuts(
        cadence.segment_duration,
        cadence.longest,
        KEPT_CUTS,
        is_regular=cadence.regular,
        begins_early=begins_early,
        on_late_key=on_late_key,
    )
    cuts.longest_picture = max(longest_picture, LONGEST_PAUSE)

    def keyed(timescale: int, *, leads: bool = False) -> Segmenter:
        return KeyframeSegmenter(
            timescale=timescale, part_target=cadence.part_target, cuts=cuts, leads=leads, limits=limits
        )

    return [lambda timescale: keyed(timescale, leads=True), *[keyed] * (count - 1)]


def _steady(cadence: Cadence, start: Fraction, timescale: int, limits: SegmentLimits) -> Segmenter:
    return GridSegmenter(
        timescale=timescale,
        origin=start,
        segment_duration=cadence.segment_duration,
        part_target=cadence.part_target,
        limits=limits,
    )


EARLIEST = Fraction(3, 10)
"""Seconds by which a key frame may come too soon; never more than a quarter of a segment duration."""

SHORTEST = Fraction(1, 2)
"""Of a segment duration: what is shorter isn't a segment, however many key frames there are."""

NEAR = Fraction(1, 200)
"""Seconds by which an encoder's key frame may differ from the source's, for their timescales differ."""

LONGEST_PAUSE = Fraction(3)
"""Seconds for which a sample may last where its stream goes on; more is a jump of the stream's clock."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The position at which a segment begins.

    Attributes:
        start: seconds of media time at which its first picture is shown.
        resumes: whether media is missing before its beginning.
    """

    segment: int
    start: Fraction
    resumes: bool = False


class Cuts:
    """The cuts of a run, as its leading rendition decides them.

    Args:
        segment_duration: wanted seconds from cut to cut.
        longest: seconds that no segment exceeds; one without a key frame in time ends and the rest is lost.
        kept: how many are remembered for the renditions behind the leading one.
        is_regular: whether key frames come regularly, and parts fill the groups of pictures.
        begins_early: whether the first segment may be as short as any, so that there is one sooner.
        on_late_key: called when a segment ended since no key frame came in time, with whether one has ever
            come in time.

    Attributes:
        longest_picture: seconds for which a sample may last.
        is_still: whether one key frame stands in for pictures that don't come. Segments are as long as is
            wanted then: shorter ones would bring the next numbers so far ahead of the clock that the first
            key frame that comes again could begin none, and the one behind it would come too late.
        known: media time up to which all cuts are known: no picture is shown before those that were decoded
            before its group's key frame. Ticks, and how many a second has: it changes with every picture.
    """

    def __init__(
        self,
        segment_duration: Fraction,
        longest: Fraction,
        kept: int = KEPT_CUTS,
        *,
        is_regular: bool = False,
        begins_early: bool = False,
        on_late_key: Callable[[bool], None] | None = None,
    ) -> None:
        self.longest_picture = LONGEST_PAUSE
        self.is_still = self._was_still = False
        self._begins_early = begins_early
        self._on_late_key = on_late_key
        self._has_timely_key = False
        self.is_regular = is_regular
        self.segment_duration = segment_duration
        self._early = min(EARLIEST, segment_duration / 4)
        # A number may be used so long before its own time.
        self._room_ahead = Fraction(MARGIN_SECONDS) - self._early
        self.shortest = SHORTEST * segment_duration
        self.longest = longest
        self.known = -1, 1
        self._cuts: deque[Cut] = deque(maxlen=kept)
        self._ends: dict[int, Fraction] = {}
        self._origin = Fraction(0)

    @property
    def last(self) -> Cut | None:
        """The newest cut."""
        return self._cuts[-1] if self._cuts else None

    @property
    def broken(self) -> bool:
        """Whether the newest segment ended without a key frame, so that one is waited for."""
        return bool(self._cuts) and self._cuts[-1].segment in self._ends

    def due(self, time: Fraction) -> bool:
        """Return whether a key frame at a time begins a segment."""
        last = self.last
        if last is None or self.broken:
            return True
        was_still, self._was_still, lasts = self._was_still, self.is_still, time - last.start
        if self.is_still:
            return lasts >= self.segment_duration
        if lasts < self.shortest:
            return False
        # Never ahead of the numbers' own times, which are those of the clock.
        ahead = self._due_at(last) - time
        # But where the next key frame would come too late, if they come as before.
        is_last_chance = was_still and lasts + self.segment_duration > self.longest
        return ahead <= (self._room_ahead if is_last_chance else 0)

    def _due_at(self, last: Cut) -> Fraction:
        """Return from which time on a key frame begins the next segment, by the numbers' own times."""
        return self._origin + (last.segment + 1) * self.segment_duration - self._early

    def open(self, time: Fraction) -> Cut:
        """Begin a segment at a key frame's time."""
        last = self.last
        if last is None:
            early = (1 - SHORTEST) * self.segment_duration if self._begins_early else Fraction(0)
            self._origin = time - early
        elif last.segment not in self._ends:
            self._has_timely_key = True
            if (ahead := self._due_at(last) - time) > 0:
                self._origin -= ahead
                self._room_ahead -= ahead
        cut = Cut(0 if last is None else last.segment + 1, time, self.broken)
        self._cuts.append(cut)
        self._ends = {segment: end for segment, end in self._ends.items() if segment >= self._cuts[0].segment}
        return cut

    def end(self, time: Fraction) -> None:
        """End the newest segment before its time: no key frame came, or the picture pauses."""
        if self._cuts:
            self._ends[self._cuts[-1].segment] = time

    def end_without_key(self, time: Fraction) -> None:
        """End the newest segment since no key frame came."""
        self.end(time)
        if self._on_late_key is not None:
            self._on_late_key(self._has_timely_key)

    def is_known(self, ticks: int, timescale: int) -> bool:
        """Return whether all cuts up to a time are known."""
        known, scale = self.known
        return ticks * scale < known * timescale

    def end_of(self, cut: Cut) -> Fraction | None:
        """Return the latest end of a segment, which is the next one's beginning; None if unknown."""
        if cut is self.last or cut.segment in self._ends:
            return self._ends.get(cut.segment)
        if cut.segment < self._cuts[0].segment:
            # The beginning of the next segment may be forgotten, too.
            return cut.start
        return next((one.start for one in self._cuts if one.segment == cut.segment + 1), None)

    def at(self, ticks: int, timescale: int) -> Cut | None:
        """Return the cut of the segment that a time belongs to; None where it belongs to none."""
        for cut in reversed(self._cuts):
            start = cut.start
            # Integers, as each sample asks for it.
            if start.numerator * timescale <= ticks * start.denominator:
                end = self._ends.get(cut.segment)
                return None if end is not None and Fraction(ticks, timescale) >= end else cut
        return None


class _Gatherer:
    """Makes parts of samples whose segments are known.

    Args:
        longest_sample: seconds that a sample may last, which is a part alone where it is longer than a part.

    Attributes:
        longest_sample: ticks that a sample may last.
        shortest: ticks of the shortest part that may end for a key frame and doesn't begin with one.
    """

    def __init__(
        self, timescale: int, part_target: Fraction, limits: SegmentLimits, longest_sample: Fraction
    ) -> None:
        longest = math.floor(part_target * timescale)
        self.longest_sample = max(longest, math.floor(longest_sample * timescale))
        self._packer = PartPacker(longest, limits, self.longest_sample)
        self.shortest = SHORTEST_PART * part_target * timescale
        self._cut: Cut | None = None
        self._resumes = False

    def add(self, cut: Cut, time: int, sample: Sample, data: bytes | memoryview) -> list[CutPart]:
        """Add the next sample of a segment; return the parts that it finishes."""
        packer = self._packer
        packer.check(time, sample)
        parts = self.end() if self._cut is not None and cut.segment != self._cut.segment else []
        full = not packer.has_room(sample.duration)
        if packer.samples and (full or (sample.is_sync and self._may_end())):
            parts.append(self._close(ends_segment=False))
        if cut is not self._cut:
            self._cut, self._resumes = cut, cut.resumes
        packer.add(time, sample, data)
        return parts

    @property
    def longest(self) -> int:
        """Ticks that no part exceeds."""
        return self._packer.longest

    def add_run(self, run: SampleRun, until: int, *, follows: bool) -> int | None:
        """Add the first samples of a run that continue the open part, if there is one.

        The arguments and the result are those of ``PartPacker.add_run``.
        """
        return self._packer.add_run(run, until, follows=follows) if self._packer.samples else None

    @property
    def cut(self) -> Cut | None:
        """The cut at which the segment of the last sample begins."""
        return self._cut

    def open_part(self, following: int) -> tuple[int, int]:
        """Return the beginning of the open or next part, and the ticks that the part may have."""
        packer = self._packer
        return packer.start if packer.samples else following, packer.longest

    def _may_end(self) -> bool:
        """Return whether the part may end for a sample behind it with which players can join."""
        # Of sound, and of nothing but key frames, that is every sample.
        samples = self._packer.samples
        if samples[-1].is_sync:
            return False
        # §4.4.4.9: no part lasts less than 85 % of the target but independent ones and a segment's last.
        return samples[0].is_sync or self._packer.duration >= self.shortest

    def end(self) -> list[CutPart]:
        """Return the segment's last part."""
        return [self._close(ends_segment=True)] if self._packer.samples else []

    def _close(self, *, ends_segment: bool) -> CutPart:
        segment = 0 if self._cut is None else self._cut.segment
        part = self._packer.close(segment, ends_segment=ends_segment, resumes=self._resumes)
        self._resumes = False
        return part


class KeyframeSegmenter:
    """Cuts one rendition at key frames of the leading one.

    Args:
        timescale: ticks per second of the samples' times.
        part_target: seconds that no part exceeds.
        cuts: the cuts of this run, which its renditions share.
        leads: whether the others are cut at this rendition's key frames.
    """

    def __init__(
        self,
        *,
        timescale: int,
        part_target: Fraction,
        cuts: Cuts,
        leads: bool,
        limits: SegmentLimits = DEFAULT_LIMITS,
    ) -> None:
        self._timescale = timescale
        self._limits = limits
        self._cuts = cuts
        self._leads = leads
        self._longest = math.floor(cuts.longest * timescale)
        # Of ticks in which what is near is a whole number.
        self._near_scale = NEAR.denominator * timescale
        self._near = NEAR.numerator * timescale
        self._gatherer = _Gatherer(timescale, part_target, limits, cuts.longest_picture)
        self._expected: int | None = None
        self._begun = -1
        self._opened = self._opened_shown = 0
        # The average duration of the newest samples, in ticks; 0 before any. When the newest key frame is
        # decoded, and how long after the one before.
        self._usual = 0.0
        self._key: int | None = None
        self._between = 0
        self._segment_ticks = round(cuts.segment_duration * timescale)
        self._held: deque[SampleRun] = deque()
        self._held_samples = self._held_bytes = 0

    def push(self, decode_time: int, samples: Sequence[Sample], data: bytes | memoryview) -> list[CutPart]:
        """Add the next samples, as for :meth:`packager.segment.grid_segmenter.Segmenter.push`."""
        if not samples:
            return []
        continues(self._expected, decode_time)
        lasts = total_duration(samples)
        self._expected = decode_time + lasts
        self._usual = averaged_duration(self._usual, lasts, len(samples))
        self._held.append(SampleRun(decode_time, samples, data))
        self._held_samples += len(samples)
        self._held_bytes += len(data)
        if self._held_samples > self._limits.held_samples or self._held_bytes > self._limits.held_bytes:
            raise CadenceError("the picture is too far behind the sound")
        parts: list[CutPart] = []
        while self._held:
            run = self._held[0]
            index, position = run.index, run.position
            is_empty = self._cut(run, parts)
            self._held_samples -= run.index - index
            self._held_bytes -= run.position - position
            if not is_empty:
                break
            self._held.popleft()
        return parts

    def _cut(self, run: SampleRun, parts: list[CutPart]) -> bool:
        """Add the samples of a run whose segments are known; return whether these were all."""
        count = len(run.samples)
        while run.index < count:
            self._take_many(run)
            if run.index == count:
                break
            # A part or a segment may begin or end with this sample.
            sample = run.samples[run.index]
            shown = run.time + sample.composition_offset
            if self._leads:
                time, sample, piece = run.take_first()
                parts += self._lead(time, shown, sample, piece)
            elif self._cuts.is_known(NEAR.denominator * shown + self._near, self._near_scale):
                time, sample, piece = run.take_first()
                parts += self._follow(time, shown, sample, piece)
            else:
                return False
        return True

    def _take_many(self, run: SampleRun) -> None:
        """Add all samples at once that continue the open part for certain."""
        cuts, cut = self._cuts, self._gatherer.cut
        if cut is None or (self._leads and (cut is not cuts.last or cuts.broken)):
            return
        opened = min(self._opened, self._opened_shown)
        until = opened + self._longest if self._leads else self._follows_until(cut)
        latest = self._gatherer.add_run(run, until, follows=not self._leads)
        if self._leads and latest is not None:
            cuts.known = max(cuts.known[0], latest), self._timescale

    def _follows_until(self, cut: Cut) -> int:
        """Return the time up to which following samples certainly belong to the segment."""
        known, scale = self._cuts.known
        end, until = self._cuts.end_of(cut), known * self._timescale // scale
        if end is not None:
            until = min(until, end.numerator * self._timescale // end.denominator)
        # A sample that ends here begins before.
        return until - self._near // NEAR.denominator - 1

    @property
    def is_still(self) -> bool:
        """As for :class:`packager.segment.grid_segmenter.Segmenter`."""
        return self._cuts.is_still

    @is_still.setter
    def is_still(self, is_still: bool) -> None:
        self._cuts.is_still = is_still

    @property
    def foretold(self) -> int | None:
        """Decode time up to which samples must come for the next part to end, if they go on as they do.

        None for all but the leading rendition, and where a key frame may end any part.
        """
        if not self._leads or not self._cuts.is_regular or self._expected is None or not self._usual:
            return None
        start, longest = self._gatherer.open_part(self._expected)
        ahead = self._opened + self._segment_ticks - start
        frames = int(longest / self._usual)
        if self._key is not None and self._between:
            # A part that begins with a key frame may be short.
            key = self._key + self._between - start
            if key >= (1 if start == self._key else self._gatherer.shortest):
                frames = min(frames, _samples_in(key, self._usual))
        if ahead > 0:
            frames = min(frames, _samples_in(ahead, self._usual))
        # One more, which shows whether it is the segment's last part.
        return start + round((max(frames, 1) + 1) * self._usual)

    def finish(self) -> list[CutPart]:
        """Return the samples that fill no part yet, at the end of the stream.

        The leading rendition is finished first; no other one exceeds a segment's longest duration beside it.
        """
        parts: list[CutPart] = []
        if self._leads and self._cuts.last is not None and not self._cuts.broken:
            self._cuts.end(self._cuts.last.start + self._cuts.longest)
        for run in self._held:
            while run.index < len(run.samples):
                time, sample, data = run.take_first()
                parts += self._follow(time, time + sample.composition_offset, sample, data)
        self._held.clear()
        self._held_samples = self._held_bytes = 0
        return parts + self._gatherer.end()

    def _lead(self, time: int, shown: int, sample: Sample, data: bytes | memoryview) -> list[CutPart]:
        cuts = self._cuts
        cuts.known = max(cuts.known[0], shown), self._timescale
        if sample.is_sync:
            self._between = 0 if self._key is None else time - self._key
            self._key = time
        if sample.is_sync and cuts.due(Fraction(shown, self._timescale)):
            self._opened, self._opened_shown = time, shown
            cuts.open(Fraction(shown, self._timescale))
        cut = cuts.last
        if cut is None or cuts.broken:
            return []
        # Sound is cut as far as pictures are shown, which may be farther than they are decoded.
        room = self._longest - max(time - self._opened, shown - self._opened_shown)
        if sample.duration <= room:
            return self._gatherer.add(cut, time, sample, data)
        if room <= 0 or not self._gatherer.longest < sample.duration <= self._gatherer.longest_sample:
            cuts.end_without_key(self._at(time))
            return self._gatherer.end()
        # A pause of the picture that no segment can hold ends the segment, until the next key frame.
        parts = self._gatherer.add(cut, time, sample._replace(duration=room), data)
        cuts.end(self._at(time + room))
        return parts + self._gatherer.end()

    def _at(self, time: int) -> Fraction:
        """Return the decode time at which the sound ends with the picture's newest segment."""
        return Fraction(self._opened_shown + time - self._opened, self._timescale)

    def _follow(self, time: int, shown: int, sample: Sample, data: bytes | memoryview) -> list[CutPart]:
        if sample.is_sync:
            cut = self._cuts.at(NEAR.denominator * shown + self._near, self._near_scale)
        else:
            cut = self._cuts.at(shown, self._timescale)
        if cut is None:
            return self._gatherer.end()
        if cut.segment > self._begun:
            if cut.segment > self._begun + 1:
                raise CadenceError(f"segment {self._begun + 1} would be empty: the next sample is at {time}")
            if not sample.is_sync:
                raise CadenceError(f"no sync sample at {time}, where segment {cut.segment} begins")
            self._begun = cut.segment
        if sample.duration > self._gatherer.longest and (end := self._cuts.end_of(cut)) is not None:
            # The leading picture was cut off here, too.
            room = math.ceil(end * self._timescale) - shown
            sample = sample._replace(duration=max(min(sample.duration, room), 1))
        return self._gatherer.add(cut, time, sample, data)


def _samples_in(ticks: int, duration: float) -> int:
    """Return how many samples of an average duration begin in a time; both may be rounded."""
    return math.ceil(ticks / duration - 1 / 4)

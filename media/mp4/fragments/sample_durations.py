"""Corrects sample durations of live fragments (ISO/IEC 14496-12 §8.8.8) by the decode times of the fragments.

Some encoders write durations of 0 or nominal ones, and only the decode time of each fragment (§8.8.12) is
right: the samples of each would come in a spurt, with a pause behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.mp4.fragments.fragments import Fragment
from media.mp4.fragments.moof import Sample, total_duration
from media.stream_reader import CLOCK_RATE, LONGEST_PAUSE

WRONG_DURATIONS = "the durations of its samples are wrong: they follow from the times of its fragments"
"""The fault of a track whose durations are corrected."""

ALIKE = Fraction(1, 20)
"""Share by which the true durations of two fragments in a row may differ: else one of them has a pause."""


LONGEST_DURATION = (1 << 32) - 1
"""Ticks that a sample may last (§8.8.8.2)."""

MOST_HELD = 3
"""Most fragments of each track that wait until it is known whether the durations are true."""


class SampleDurations:
    """Corrects the durations of the samples of all tracks, without I/O.

    The first fragment of several samples waits for the next one's time, which shows whether its durations
    are true, and a second one, if they aren't: there may be a pause between the first two. Fragments stay in
    the order in which they come.

    Args:
        timescales: ticks per second of each track.
    """

    def __init__(self, timescales: Mapping[int, int]) -> None:
        self._tracks = {track_id: _TrackDurations(scale) for track_id, scale in timescales.items()}
        self._held = list[Fragment]()

    @property
    def fault(self) -> str:
        """The sentence that says so while durations are corrected; empty else."""
        return WRONG_DURATIONS if any(one.scale is not None for one in self._tracks.values()) else ""

    def push(self, fragment: Fragment) -> Sequence[Fragment]:
        """Return the fragments that can go on."""
        self._tracks[fragment.track_id].note(fragment)
        self._held.append(fragment)
        waits = any(not self._tracks[one.track_id].is_known for one in self._held)
        if waits and len(self._held) <= MOST_HELD * len(self._tracks):
            return ()
        held, self._held = self._held, []
        return [self._tracks[one.track_id].corrected(one) for one in held]


@dataclass(frozen=True, slots=True)
class _Told:
    """Time and length of a fragment as written, in ticks, or in samples where it has no durations."""

    begin: int
    length: int
    samples: int
    has_ticks: bool


class _TrackDurations:
    """Compares the durations of one track's samples with the times of its fragments.

    Attributes:
        is_known: whether they are known to be true or wrong.
        scale: true ticks for each tick that is written, or for each sample without a duration; None where
            durations are taken to be true.
    """

    def __init__(self, timescale: int) -> None:
        self.is_known = False
        self.scale: Fraction | None = None
        self._longest = min(LONGEST_PAUSE * timescale // CLOCK_RATE, LONGEST_DURATION)
        self._last: _Told | None = None
        # The scale by the last fragment alone.
        self._seen: Fraction | None = None

    def note(self, fragment: Fragment) -> None:
        """Compare what the last fragment told with the time of this one."""
        last, told = self._last, _told(fragment)
        # How long a single sample lasts is seen when the next one comes.
        self._last = told if told.samples > 1 else None
        self.is_known = self.is_known or told.samples == 1
        if last is None:
            return
        if told.has_ticks != last.has_ticks and told.samples > 1:
            self._seen = self.scale = None
            return
        step, before = told.begin - last.begin, self._seen
        self._seen = None
        if not 0 < step <= self._longest:
            return
        # The last sample's duration is a guess of many encoders, since they don't know the next one's time.
        if last.has_ticks and abs(step - last.length) * last.samples <= 2 * last.length:
            self.scale, self.is_known = None, True
            return
        self._seen = Fraction(step, last.length)
        is_first = not (last.has_ticks or self.is_known)
        if is_first or (before is not None and abs(self._seen - before) <= ALIKE * before):
            self.scale, self.is_known = self._seen, True

    def corrected(self, fragment: Fragment) -> Fragment:
        """Return a fragment whose samples have their true durations."""
        if self.scale is None or len(fragment.samples) == 1:
            return fragment
        whole = _told(fragment)
        if whole.length * self.scale > self._longest:
            return fragment
        told = end = 0
        has_ticks, samples = whole.has_ticks, list[Sample]()
        for sample in fragment.samples:
            told += sample.duration if has_ticks else 1
            begin, end = end, told * self.scale.numerator // self.scale.denominator
            samples.append(sample._replace(duration=end - begin))
        return fragment._replace(samples=tuple(samples))


def _told(fragment: Fragment) -> _Told:
    samples, begin = fragment.samples, fragment.base_media_decode_time
    if 2 * sum([one.duration > 0 for one in samples]) > len(samples):
        return _Told(begin, total_duration(samples), len(samples), has_ticks=True)
    return _Told(begin, len(samples), len(samples), has_ticks=False)

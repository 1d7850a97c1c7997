"""Packs samples into parts, for both segmenters of live renditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from media.mp4.fragments.moof import Sample
from packager.segment.limits import SegmentLimits


class CadenceError(Exception):
    """The samples don't come in the cadence that was promised: a gap, or no key frame at a boundary."""


class CutPart(Struct, frozen=True):
    """A part that has been cut, with its place and duration for the window.

    Attributes:
        segment: index of its segment, from 0 at the origin.
        base_media_decode_time: of its first sample, in ticks.
        duration: ticks; the next part begins so much later.
        samples: in decoding order.
        data: the samples' bytes.
        independent: whether it begins with a sync sample.
        ends_segment: whether the next part belongs to the next segment.
        resumes: whether media is missing before its beginning.
    """

    segment: int
    base_media_decode_time: int
    duration: int
    samples: tuple[Sample, ...]
    data: bytes
    independent: bool
    ends_segment: bool
    resumes: bool = False


def timed_samples(
    expected: int | None, decode_time: int, samples: Sequence[Sample], data: bytes | memoryview
) -> Iterator[tuple[int, Sample, bytes | memoryview]]:
    """Yield each sample with its decode time and its bytes.

    Args:
        expected: decode time of the first one, where samples came before.
        samples: in decoding order.
        data: their bytes, one behind the other.

    Raises:
        CadenceError: they don't follow those before without a gap.
    """
    position = 0
    if samples:
        continues(expected, decode_time)
    for sample in samples:
        yield decode_time, sample, data[position : position + sample.size]
        position += sample.size
        decode_time += sample.duration


def continues(expected: int | None, decode_time: int) -> None:
    """Check that samples follow those before without a gap.

    Raises:
        CadenceError: they don't.
    """
    if expected is not None and decode_time != expected:
        raise CadenceError(f"decode time {decode_time} where {expected} was to come")


AVERAGED_SAMPLES = 8
"""Number of samples that weigh as much as those that come now in the average of their durations."""


def averaged_duration(average: float, ticks: int, count: int) -> float:
    """Return the average duration of the newest samples, in ticks, behind some more of them.

    Thirty pictures a second last 33 or 34 ms each where times are in milliseconds, as in FLV.

    Args:
        average: before; 0 if these are the first ones.
        ticks: the sum of the durations of the samples.
    """
    weight = count / (count + AVERAGED_SAMPLES) if average else 1.0
    return average + weight * (ticks / count - average)


class SampleRun:
    """Consecutive samples, of which the first ones are taken one after the other, or many at once.

    Args:
        time: decode time of the first one.
        samples: in decoding order.
        data: their bytes, one behind the other.

    Attributes:
        time: decode time of the first one that is left.
        data: the bytes of all.
        index: of the first one that is left.
        position: of its bytes.
    """

    __slots__ = ("data", "index", "position", "samples", "time")

    def __init__(self, time: int, samples: Sequence[Sample], data: bytes | memoryview) -> None:
        self.time = time
        self.samples = samples
        self.data = data
        self.index = self.position = 0

    def take_first(self) -> tuple[int, Sample, bytes | memoryview]:
        """Remove the first sample that is left; return its decode time, the sample and its bytes."""
        time, sample, begin = self.time, self.samples[self.index], self.position
        self.index += 1
        self.time += sample.duration
        self.position += sample.size
        return time, sample, self.data[begin : self.position]


class PartPacker:
    """Collects the samples of one part after the other, and knows when one is full; a segmenter ends it.

    Args:
        longest: ticks that no part exceeds.
        limits: most samples and bytes of one part and of a segment.
        longest_sample: ticks that a sample may last that is a part alone; 0 for no more than any part.

    Attributes:
        samples: the samples of the open part.
        start: decode time of the first sample.
        duration: the sum of their durations, in ticks.
    """

    def __init__(self, longest: int, limits: SegmentLimits, longest_sample: int = 0) -> None:
        self.longest = longest
        self._longest_sample = max(longest, longest_sample)
        self._limits = limits
        self._part_bytes = self._segment_bytes = 0
        self.start = 0
        self.duration = 0
        self.samples: list[Sample] = []
        self._data: list[bytes | memoryview] = []

    def check(self, decode_time: int, sample: Sample) -> None:
        """Refuse a sample that can't be in any part.

        Raises:
            CadenceError: it can't.
        """
        if not 0 < sample.duration <= self._longest_sample:
            raise CadenceError(
                f"a sample of {sample.duration} ticks at {decode_time}: none, or longer than a part"
            )
        if self._segment_bytes + sample.size > self._limits.segment_bytes:
            raise CadenceError(f"a segment of more than {self._limits.segment_bytes} bytes")

    def has_room(self, duration: int) -> bool:
        """Return whether a sample of so many ticks can be in the part."""
        limits = self._limits
        has_room = len(self.samples) < limits.part_samples and self._part_bytes < limits.part_bytes
        return has_room and self.duration + duration <= self.longest

    def add(self, decode_time: int, sample: Sample, data: bytes | memoryview) -> None:
        """Append a sample to the part; the first one begins it."""
        if not self.samples:
            self.start = decode_time
        self._part_bytes += sample.size
        self._segment_bytes += sample.size
        self.samples.append(sample)
        self._data.append(data)
        self.duration += sample.duration

    def add_run(self, run: SampleRun, until: int, *, follows: bool) -> int | None:
        """Append the first samples of a run to the open part, which has some.

        Args:
            run: the samples, of which the first ones are removed.
            until: time at which each of them has ended, by decoding and by presentation.
            follows: whether another rendition leads: then no sample with a composition offset is added, and a
                sync sample only behind another one; else no sync sample.

        Returns:
            The latest presentation time of an added sample; None where none was added.
        """
        limits, time, index, size = self._limits, run.time, run.index, 0
        last = min(len(run.samples), index + limits.part_samples - len(self.samples))
        if index >= last:
            return None
        end = min(until, self.start + self.longest)
        most_bytes = limits.segment_bytes - self._segment_bytes
        most_part_bytes = limits.part_bytes - self._part_bytes
        latest, was_sync = time + run.samples[index].composition_offset, self.samples[-1].is_sync
        while index < last and size < most_part_bytes:
            duration, sample_size, is_sync, offset = run.samples[index]
            following = time + duration
            if duration <= 0 or following > end or following + offset > until:
                break
            if size + sample_size > most_bytes:
                break
            if (offset or (is_sync and not was_sync)) if follows else is_sync:
                break
            if time + offset > latest:
                latest = time + offset
            index, time, size, was_sync = index + 1, following, size + sample_size, is_sync
        if index == run.index:
            return None
        self.samples += run.samples[run.index : index]
        self._data.append(run.data[run.position : run.position + size])
        self._part_bytes += size
        self._segment_bytes += size
        self.duration += time - run.time
        run.index, run.time, run.position = index, time, run.position + size
        return latest

    def close(self, segment: int, *, ends_segment: bool, resumes: bool = False) -> CutPart:
        """Return the part, which has a sample, and begin the next; arguments are the part's attributes."""
        part = CutPart(
            segment=segment,
            base_media_decode_time=self.start,
            duration=self.duration,
            samples=tuple(self.samples),
            data=b"".join(self._data),
            independent=self.samples[0].is_sync,
            ends_segment=ends_segment,
            resumes=resumes,
        )
        self.samples, self._data, self.duration = [], [], 0
        self._part_bytes, self._segment_bytes = 0, 0 if ends_segment else self._segment_bytes
        return part

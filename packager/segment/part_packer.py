"""Packs samples into parts, for both segmenters of live renditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from media.mp4.moof import Sample
from packager.segment.limits import SegmentLimits


class CadenceError(Exception):
    """The samples don't come in the cadence that was promised: a gap, or no key frame at a boundary."""


@dataclass(frozen=True, slots=True)
class CutPart:
    """A part that has been cut, with all that a window has to know of it.

    Attributes:
        segment: index of its segment, from 0 at the origin.
        base_media_decode_time: of its first sample, in ticks.
        duration: ticks; the next part begins so much later.
        samples: in decoding order.
        data: the samples' bytes.
        independent: whether it begins with a sync sample.
        ends_segment: whether the next part belongs to the next segment.
        resumes: whether media is missing in front of it.
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
    """Give each of some samples with its decode time and its bytes.

    Args:
        expected: decode time of the first one, where samples came before.
        decode_time: what it is.
        samples: in decoding order.
        data: their bytes, one behind the other.

    Raises:
        CadenceError: they don't follow those before without a gap.
    """
    position = 0
    for sample in samples:
        if expected is not None and decode_time != expected:
            raise CadenceError(f"decode time {decode_time} where {expected} was to come")
        yield decode_time, sample, data[position : position + sample.size]
        position += sample.size
        expected = decode_time = decode_time + sample.duration


class PartPacker:
    """Collects the samples of one part after the other; the segmenter decides where a part ends.

    Args:
        longest: ticks that no part exceeds.
        limits: of the samples and bytes of one part, and of a segment.

    Attributes:
        samples: those of the part that isn't closed yet.
        start: decode time of the first of them.
        duration: of all of them, in ticks.
    """

    def __init__(self, longest: int, limits: SegmentLimits) -> None:
        self.longest = longest
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
        if not 0 < sample.duration <= self.longest:
            raise CadenceError(
                f"a sample of {sample.duration} ticks at {decode_time}: none, or longer than a part"
            )
        if self._segment_bytes + sample.size > self._limits.segment_bytes:
            raise CadenceError(f"a segment of more than {self._limits.segment_bytes} bytes")

    def has_room(self, duration: int) -> bool:
        """Tell whether a sample of so many ticks can be in the part."""
        limits = self._limits
        has_room = len(self.samples) < limits.part_samples and self._part_bytes < limits.part_bytes
        return has_room and self.duration + duration <= self.longest

    def add(self, decode_time: int, sample: Sample, data: bytes | memoryview) -> None:
        """Put a sample behind the others; the first one begins the part."""
        if not self.samples:
            self.start = decode_time
        self._part_bytes += sample.size
        self._segment_bytes += sample.size
        self.samples.append(sample)
        self._data.append(data)
        self.duration += sample.duration

    def close(self, segment: int, *, ends_segment: bool, resumes: bool = False) -> CutPart:
        """Give the part, which has a sample, and begin the next one; the arguments are those of the part."""
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

"""The segmenter for encoded renditions: cuts samples into parts and segments on a fixed grid.

Segment k of every rendition holds the samples whose decode times lie in [origin + k·D, origin + (k + 1)·D):
so video and audio are cut at the same places within a frame. A part is closed as soon as one more sample of
the same duration would make it longer than the part target or would belong to the next segment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

from media.mp4.fragments.moof import Sample
from packager.segment.limits import DEFAULT_LIMITS, SegmentLimits
from packager.segment.part_packer import (
    CadenceError,
    CutPart,
    PartPacker,
    averaged_duration,
    timed_samples,
)

DROPPED_SECONDS = 30
"""Seconds for which a stream may go on before its first boundary comes."""


class Segmenter(Protocol):
    """Cuts the samples of one rendition into parts and segments.

    Attributes:
        is_still: whether what is pushed is one key frame again and again, which stands in for others.
    """

    is_still: bool

    def push(self, decode_time: int, samples: Sequence[Sample], data: bytes | memoryview) -> list[CutPart]:
        """Add the next samples; return the parts that they finish."""

    def finish(self) -> list[CutPart]:
        """Return the samples that fill no part yet, at the end of the stream."""

    @property
    def foretold(self) -> int | None:
        """Decode time at which the next part ends, in ticks; None where that can't be known."""


class GridSegmenter:
    """Cuts the samples of one rendition on the grid of a cadence.

    Args:
        timescale: ticks per second of the samples' times.
        origin: decode time in seconds where segment 0 begins; samples before it are dropped.
        segment_duration: seconds.
        part_target: seconds that no part exceeds.
        limits: how much media it may hold, and how long it waits to begin.
    """

    def __init__(
        self,
        *,
        timescale: int,
        origin: Fraction,
        segment_duration: Fraction,
        part_target: Fraction,
        limits: SegmentLimits = DEFAULT_LIMITS,
    ) -> None:
        self.is_still = False
        self._origin = origin * timescale
        self._step = segment_duration * timescale
        self._packer = PartPacker(math.floor(part_target * timescale), limits)
        self._give_up = math.ceil(self._origin + DROPPED_SECONDS * timescale)
        self._segment = -1
        self._boundary = math.ceil(self._origin)
        self._expected: int | None = None
        self._usual = 0.0

    def push(self, decode_time: int, samples: Sequence[Sample], data: bytes | memoryview) -> list[CutPart]:
        """Take the next samples.

        Args:
            decode_time: of the first of them, in ticks.
            samples: in decoding order, each with a duration above 0.
            data: their bytes, one behind the other.

        Returns:
            The parts that are finished now.

        Raises:
            CadenceError: they don't follow those before without a gap, or a segment has no sync sample to
                begin with.
        """
        parts: list[CutPart] = []
        for time, sample, piece in timed_samples(self._expected, decode_time, samples, data):
            if self._admit(time, sample):
                parts += self._add(time, sample, piece)
        return parts

    def finish(self) -> list[CutPart]:
        """Return the samples that fill no part yet as a segment's last part, at the end of the stream."""
        return [self._packer.close(self._segment, ends_segment=True)] if self._packer.samples else []

    @property
    def foretold(self) -> int | None:
        """Decode time at which the next part ends, if samples go on as they do; None before the first one."""
        if self._expected is None or not self._usual:
            return None
        start, longest = self._packer.start if self._packer.samples else self._expected, self._packer.longest
        # The next sample opens a segment whose end isn't this one's.
        ahead = self._boundary - start if start < self._boundary else longest
        frames = min(int(longest / self._usual), math.ceil(ahead / self._usual))
        return start + round(frames * self._usual)

    def _admit(self, decode_time: int, sample: Sample) -> bool:
        """Return whether a sample is published; open its segment where it is a segment's first."""
        if sample.duration <= 0:
            raise CadenceError(f"a sample of {sample.duration} ticks at {decode_time}")
        if self._expected is None and decode_time < self._boundary:
            return False
        if decode_time >= self._boundary:
            if not sample.is_sync:
                if self._expected is None and decode_time < self._give_up:
                    return False
                raise CadenceError(
                    f"no sync sample at {decode_time}, where segment {self._segment + 1} begins"
                )
            self._open(decode_time)
        return True

    def _open(self, decode_time: int) -> None:
        self._segment += 1
        self._boundary = math.ceil(self._origin + (self._segment + 1) * self._step)
        if decode_time >= self._boundary:
            raise CadenceError(f"segment {self._segment} would be empty: the next sample is at {decode_time}")

    def _add(self, decode_time: int, sample: Sample, data: bytes | memoryview) -> list[CutPart]:
        packer = self._packer
        packer.check(decode_time, sample)
        parts: list[CutPart] = []
        if not packer.has_room(sample.duration):
            # Only where a sample is longer than the one before it: else the part is closed already.
            parts.append(packer.close(self._segment, ends_segment=False))
        packer.add(decode_time, sample, data)
        self._usual = averaged_duration(self._usual, sample.duration, 1)
        end = self._expected = decode_time + sample.duration
        ends_segment = end >= self._boundary
        if ends_segment or not packer.has_room(sample.duration):
            parts.append(packer.close(self._segment, ends_segment=ends_segment))
        return parts

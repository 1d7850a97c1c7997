"""The times that all renditions of a live channel share: segment duration, part target, target duration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

SHORTEST_PART = Fraction(85, 100)
"""RFC 8216bis §4.4.3.7: a part that isn't its segment's last has at least 85 % of the part target."""


_MILLISECOND = Fraction(1, 1000)


def whole_frames(duration: Fraction, frame_rate: Fraction) -> Fraction:
    """Return a duration of the nearest whole number of frames, so that key frames fall on boundaries.

    Args:
        duration: wanted seconds.
        frame_rate: frames per second.

    Returns:
        Seconds; at least one frame.
    """
    return max(round(duration * frame_rate), 1) / frame_rate


def part_target(
    wanted: Fraction, frame_durations: Sequence[Fraction], slack: Fraction = Fraction(0)
) -> Fraction:
    """Choose the part target: the longest part of any rendition, rounded up to a millisecond.

    Of the whole numbers of frames around the wanted duration it takes the nearest with which the parts of
    all renditions reach 85 % of the target.

    Args:
        wanted: seconds.
        frame_durations: seconds of a frame of each rendition.
        slack: seconds, whole milliseconds, by which a part may be longer than its frames.

    Returns:
        Seconds, a whole number of milliseconds.
    """

    def candidate(frame: Fraction, more: int) -> Fraction:
        frames = max(round(wanted / frame) + more, 1)
        return math.ceil(frames * frame / _MILLISECOND) * _MILLISECOND + slack

    def shortest(target: Fraction) -> Fraction:
        return min((target - slack) // frame * frame / target for frame in frame_durations)

    candidates = sorted(
        (candidate(frame, more) for frame, more in product(frame_durations, (0, -1, 1, 2))),
        key=lambda target: abs(target - wanted),
    )
    fitting = (target for target in candidates if shortest(target) >= SHORTEST_PART)
    # Frames longer than a sixth of the part can't all reach 85 %: then the best there is.
    return next(fitting, max(candidates, key=shortest))


AAC_FRAME = 1024
"""Samples of one AAC frame (ISO/IEC 14496-3 §4.5.1)."""

SAMPLE_RATE = 48_000
AUDIO_FRAME_RATE = Fraction(SAMPLE_RATE, AAC_FRAME)
"""Frames per second of a channel that has only sound."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """The times that all renditions of a channel share (RFC 8216bis Appendix B.1), in seconds.

    Attributes:
        frame_rate: of the video, frames per second; of the audio where there is no video.
        segment_duration: a whole number of these frames.
        part_target: whole milliseconds.
        target_duration: EXTINF values round to no more than this.
        longest: of a channel that is cut at its source's own key frames: what no segment exceeds.
        regular: whether every segment has ``segment_duration``.
    """

    frame_rate: Fraction
    segment_duration: Fraction
    part_target: Fraction
    target_duration: int
    longest: Fraction | None = None
    regular: bool = True

    @property
    def gop(self) -> int:
        """Video frames from one key frame to the next."""
        return int(self.segment_duration * self.frame_rate)

    @property
    def advance_part_limit(self) -> int:
        """How many parts beyond the last one may be asked for (§6.2.5.2)."""
        return 3 if self.part_target >= 1 else math.ceil(3 / self.part_target)


def cadence(frame_rate: Fraction, segment_duration: float, part_duration: float) -> Cadence:
    """Choose the cadence nearest to what is wanted.

    Args:
        frame_rate: frames per second.
        segment_duration: wanted seconds.
        part_duration: wanted seconds.
    """
    audio_frame = Fraction(AAC_FRAME, SAMPLE_RATE)
    segment = whole_frames(Fraction(segment_duration).limit_denominator(1000), frame_rate)
    part = Fraction(part_duration).limit_denominator(1000)
    # An audio segment is up to a frame longer; §4.4.3.1: EXTINF rounded to the nearest integer is bounded.
    longest = segment + audio_frame
    return Cadence(
        frame_rate=frame_rate,
        segment_duration=segment,
        part_target=part_target(part, [1 / frame_rate, audio_frame]),
        target_duration=max(math.floor(longest + Fraction(1, 2)), 1),
    )

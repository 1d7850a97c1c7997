"""Limits of cutting one rendition into parts and segments."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentLimits:
    """Limits of cutting one rendition: what is held back, and how long the first cut is waited for.

    Attributes:
        part_samples: Most samples of one part; two seconds of sound have a hundred.
        held_samples: Most samples that wait for the picture's next key frame; ten seconds of sound have 500.
        part_bytes: Bytes of a part from which on it ends, however short it is: 500 Mbit/s.
        held_bytes: Most bytes of the samples that wait.
        segment_bytes: Most bytes of a segment: ten seconds of 200 Mbit/s. Its time may stand still.
    """

    part_samples: int = 4096
    held_samples: int = 4096
    part_bytes: int = 20 << 20
    held_bytes: int = 32 << 20
    segment_bytes: int = 256 << 20


DEFAULT_LIMITS = SegmentLimits()

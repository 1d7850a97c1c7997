"""Compares where renditions are cut, and how long they last: a player changes between them at cuts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise, zip_longest

import m3u8

SPAN_APART_SECONDS = 0.5
"""Seconds by which renditions of a film may differ in length: frames of sound and picture end apart."""

LOST_SHARE = 0.9
"""Share of the longest segment from which on a difference in length is a lost segment."""

APART_SECONDS = 0.1
"""Seconds by which the cuts of variants may differ, since durations are rounded."""


def unequal_spans(spans: Sequence[tuple[str, float]]) -> tuple[str, float] | None:
    """Describe the shortest and the longest of what lasts differently, and by how much; None if all agree.

    Args:
        spans: pairs of an address and its seconds.
    """
    if not spans:
        return None
    (one, shortest), (other, longest) = min(spans, key=_seconds), max(spans, key=_seconds)
    if longest - shortest <= SPAN_APART_SECONDS:
        return None
    return f"{one} lasts {shortest:.2f} s and {other} {longest:.2f} s", longest - shortest


def _seconds(span: tuple[str, float]) -> float:
    return span[1]


def starts(playlist: m3u8.M3U8) -> list[float]:
    """Return when each segment of a playlist begins, in seconds from the beginning."""
    return list(accumulate((one.duration or 0.0 for one in playlist.segments[:-1]), initial=0.0))


def misaligned(variants: Sequence[tuple[str, Sequence[float]]]) -> str | None:
    """Describe the first difference between the cuts of variants; None if all agree.

    Args:
        variants: pairs of an address and the starts of its segments in seconds.
    """
    for (one, first), (other, second) in pairwise(variants):
        for number, (left, right) in enumerate(zip_longest(first, second)):
            if left is None or right is None:
                return f"{one} has {len(first)} segments and {other} {len(second)}"
            if abs(left - right) > APART_SECONDS:
                return f"segment {number} begins at {left:.3f} s in {one} and at {right:.3f} s in {other}"
    return None

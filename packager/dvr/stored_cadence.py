"""Reads and writes the cadence of stored segments, with which they are served before the source starts."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from packager.window.cadence import Cadence

MAX_CADENCE_BYTES = 4096
"""Longest file that is read."""

LONGEST_SECONDS = 60
"""Longest possible segment or part."""

SHORTEST_SECONDS = Fraction(1, 100)
"""Shortest possible duration of a segment or part in a cadence."""

FRAME_RATES = (Fraction(1, 60), Fraction(1000))
"""Lowest and highest possible frames per second."""

_Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_Ratio = tuple[_Count, _Count]


class _StoredCadence(Struct, frozen=True, forbid_unknown_fields=True):
    frame_rate: _Ratio
    segment_duration: _Ratio
    part_target: _Ratio
    target_duration: _Count
    longest: _Ratio | None
    regular: bool


_DECODER = msgspec.json.Decoder(_StoredCadence)


def encode(cadence: Cadence) -> bytes:
    """Write a cadence."""
    stored = _StoredCadence(
        frame_rate=cadence.frame_rate.as_integer_ratio(),
        segment_duration=cadence.segment_duration.as_integer_ratio(),
        part_target=cadence.part_target.as_integer_ratio(),
        target_duration=cadence.target_duration,
        longest=None if cadence.longest is None else cadence.longest.as_integer_ratio(),
        regular=cadence.regular,
    )
    return msgspec.json.encode(stored)


def decode(data: bytes) -> Cadence | None:
    """Read a cadence; None if it is unreadable or impossible."""
    try:
        stored = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    cadence = Cadence(
        frame_rate=Fraction(*stored.frame_rate),
        segment_duration=Fraction(*stored.segment_duration),
        part_target=Fraction(*stored.part_target),
        target_duration=stored.target_duration,
        longest=None if stored.longest is None else Fraction(*stored.longest),
        regular=stored.regular,
    )
    return cadence if is_possible(cadence) else None


def is_possible(cadence: Cadence) -> bool:
    """Return whether a cadence is within the limits."""
    fewest, most = FRAME_RATES
    longest = cadence.segment_duration if cadence.longest is None else cadence.longest
    return (
        fewest <= cadence.frame_rate <= most
        and cadence.part_target >= SHORTEST_SECONDS
        and SHORTEST_SECONDS <= cadence.segment_duration <= longest
        and longest <= LONGEST_SECONDS
        and cadence.segment_duration - Fraction(1, 2) < cadence.target_duration <= LONGEST_SECONDS + 1
        and cadence.part_target <= LONGEST_SECONDS
    )


def may_be_cut_for(durations: Iterable[Fraction], cadence: Cadence) -> bool:
    """Return whether segments may be of a cadence, if no file says so.

    Args:
        durations: of the segments, in seconds.
    """
    ordered = sorted(durations)
    if not ordered:
        return True
    usual = ordered[len(ordered) // 2]
    # RFC 8216bis §4.4.3.1: rounded to the nearest integer.
    fits = ordered[-1] < cadence.target_duration + Fraction(1, 2)
    return fits and (
        not cadence.regular or abs(usual - cadence.segment_duration) < cadence.segment_duration / 8
    )


def lists_alike(one: Cadence, other: Cadence) -> bool:
    """Return whether segments of both may be in one playlist (RFC 8216bis §4.4.3.1, §4.4.3.7)."""
    return (one.segment_duration, one.part_target, one.target_duration) == (
        other.segment_duration,
        other.part_target,
        other.target_duration,
    )
